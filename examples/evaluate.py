"""Accuracy on images sorted into one folder a label: python evaluate.py photos"""

import sys
from collections import Counter
from pathlib import Path

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy

root = Path(sys.argv[1])
truth = {str(path): path.parent.name for path in sorted(root.glob("*/*")) if path.is_file()}
job = Client().submit(truth, Taxonomy.flat(sorted(set(truth.values()))), name=f"evaluate {root.name}")
answers = {prediction.item.id: prediction.label for prediction in job.results() if prediction.ok}
right = Counter(truth[path] for path, label in answers.items() if label == truth[path])
for label, total in Counter(truth.values()).items():
    print(f"{label}: {right[label]} of {total}")
print(f"accuracy {right.total() / len(answers):.1%}, {len(truth) - len(answers)} failed")
