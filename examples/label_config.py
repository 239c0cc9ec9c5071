"""Answer what a Label Studio project would ask, without Label Studio: python label_config.py config.xml photos/*.jpg"""

import sys
from pathlib import Path

from prelabel.integrations import Client
from prelabel.integrations.label_studio.label_config import LabelConfig

config = LabelConfig.parse(Path(sys.argv[1]).read_text())
for name, reason in config.skipped:
    print(f"left to people: {name} ({reason})")
job = Client().submit(sys.argv[2:], config.to_controls())
for prediction in job.results():
    for answer in prediction.answers:
        print(prediction.item.id, answer.control, answer.paths, f"{answer.confidence:.2f}")
