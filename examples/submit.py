"""Submit images, watch the job, read predictions: python submit.py cat,dog photos/*.jpg"""

import sys

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy

labels, *images = sys.argv[1:]
client = Client()  # PRELABEL_REDIS_URL, default redis://localhost:6379/0
job = client.submit(images, Taxonomy.flat(labels.split(",")), name="my first job")
for prediction in job.results():  # streams as they come, each image once
    if prediction.error:
        print(prediction.item.id, "failed:", prediction.error.message)
    else:
        print(prediction.item.id, prediction.label, f"{prediction.confidence:.2f}")
print(job.progress().done, "done,", job.progress().failed, "failed")
