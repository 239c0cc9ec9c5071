"""A taxonomy with levels: answers go as deep as they are certain: python tree.py photos/*.jpg"""

import sys

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy

taxonomy = Taxonomy.tree(
    {"red": ["circle", "square", "star"], "blue": ["circle", "square", "star"], "empty": None},
    threshold=0.6,  # a node is answered when this much probability lies below it
)
job = Client().submit(sys.argv[1:], taxonomy)
for prediction in job.results():
    if prediction.ok:
        print(prediction.item.id, " > ".join(prediction.path or ("undecided",)), f"{prediction.confidence:.2f}")
