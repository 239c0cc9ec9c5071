"""Wait for a job, try its failed images again, write everything to a file: python export.py JOB results.csv"""

import sys
from pathlib import Path

from prelabel.integrations import Client
from prelabel.integrations.client.export import export

job = Client().job(sys.argv[1])
job.wait(timeout=3600)
if job.retry_failed():
    job.wait(timeout=3600)
for failed in job.failures():
    print(failed.item.id, failed.error.kind, failed.error.message)
print(export(job.results_so_far(), Path(sys.argv[2])), "predictions written")
