"""One image now, past any backlog of bulk jobs: python interactive.py cat,dog photo.jpg"""

import sys

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy

labels, image = sys.argv[1:]
job = Client().submit([image], Taxonomy.flat(labels.split(",")), priority="interactive", deadline_s=30)
(prediction,) = job.results(timeout=30)
print(prediction.label if prediction.ok else prediction.error, prediction.model_version)
