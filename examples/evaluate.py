"""Accuracy on images sorted into one folder a label: python evaluate.py photos"""

import sys
from pathlib import Path

import numpy as np

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy

root = Path(sys.argv[1])
paths = [path for path in sorted(root.glob("*/*")) if path.is_file()]
truth = np.array([path.parent.name for path in paths])
job = Client().submit(paths, Taxonomy.flat(sorted(set(truth))), name=f"evaluate {root.name}")
job.wait()
table = job.table()  # columns: no object is made of any prediction
expected, right = truth[table.ordinals], np.array(table.names(table.chosen)) == truth[table.ordinals]
for label in sorted(set(truth)):
    print(f"{label}: {np.sum(right & (expected == label))} of {np.sum(expected == label)}")
print(f"accuracy {right[table.answered].mean():.1%}, {len(truth) - table.answered.sum()} failed")
