"""Several labels may be right, each on its own threshold: python multiple.py photos/*.jpg"""

import sys

from prelabel.integrations import Client
from prelabel.schemas import Label, Taxonomy

labels = [
    Label(name="circle", synonyms=("disc", "ring")),  # any of the names counts
    Label(name="star", prompts=("a photo of a star", "a drawing of a star")),  # exactly these, averaged
    Label(name="square", threshold=0.4),  # more certainty for this one
]
taxonomy = Taxonomy.flat(labels, choice="multiple", threshold=0.2)
job = Client().submit(sys.argv[1:], taxonomy)
for prediction in job.results():
    print(prediction.item.id, list(prediction.labels) or "none", prediction.error or "")
    for score in prediction.scores[:3]:
        print(f"   {score.label}: probability {score.probability:.3f}, logit {score.logit:.1f}")
