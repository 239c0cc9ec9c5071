"""A producer that outlives a restart of Redis and names what is wrong: python stubborn.py cat,dog photos/*.jpg"""

import sys

from prelabel.integrations import Client
from prelabel.schemas import ConfigError, PrelabelError, Taxonomy
from prelabel.schemas.settings import load_settings

labels, *images = sys.argv[1:]
try:
    client = Client(load_settings(broker_wait_s=300))  # keep trying for five minutes
    job = client.submit(images, Taxonomy.flat(labels.split(",")))
    print(job.id, job.wait(timeout=3600).state.value)
except ConfigError as error:  # the message names the setting to change
    sys.exit(f"fix this: {error}")
except (PrelabelError, TimeoutError) as error:  # Redis was away all the time, or no worker
    sys.exit(f"try again later: {error}")
