"""Other labels, same images: nothing is fetched, no model runs over one: python rescore.py JOB cat,dog,fox"""

import sys

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy

client = Client()
old = {prediction.item.id: prediction.label for prediction in client.job(sys.argv[1]).results_so_far()}
job = client.rescore(sys.argv[1], Taxonomy.flat(sys.argv[2].split(",")))
for prediction in job.results(timeout=600):
    if prediction.label != old[prediction.item.id]:
        print(f"{prediction.item.id}: {old[prediction.item.id]} is now {prediction.label}")
print(job.progress().done, "scored again as job", job.id)
