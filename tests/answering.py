"""Answers as whoever reads them gets them: made of logits by the worker, packed, unpacked, and made objects."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from prelabel.integrations.ledger.answers import JobLabels, Outcomes
from prelabel.integrations.ledger.columns import Columns, pack, unpack
from prelabel.schemas import Answer, Control, Item, Taxonomy
from prelabel.worker.scoring.answers import Answerer

ITEM = Item.of("s3://photos/1.jpg")


class Answers:
    """Answers logits by a taxonomy."""

    def __init__(self, taxonomy: Taxonomy, top_k: int | None = 20, control: str = "label") -> None:
        self._answerer = Answerer(taxonomy, top_k=top_k)
        self._labels = JobLabels([Control(name=control, taxonomy=taxonomy)])

    def __call__(self, logits: NDArray[np.floating]) -> Answer:
        """The answer to `(n_leaves,)` logits."""
        return self.many(np.asarray(logits)[np.newaxis])[0]

    def many(self, logits: NDArray[np.floating]) -> list[Answer]:
        """The answers to `(n_images, n_leaves)` logits."""
        columns = Columns(
            model_version="m@1+tax.2",
            count=len(logits),
            images=None,
            places=array("H"),
            keys=bytes(16 * len(logits)),
            answers=(self._answerer.columns(logits),),
        )
        held = Outcomes(unpack(pack(columns)), self._labels)
        return [held.outcome(row, ITEM).answers[0] for row in range(len(logits))]


def record_of(taxonomy: Taxonomy, labels: Sequence[str], version: str = "m@1+tax.2") -> bytes:
    """A record of items that are answered with these labels of a flat taxonomy, one each."""
    names = [path[-1] for path, _ in taxonomy.leaves()]
    logits = np.asarray([[8.0 if name == label else -8.0 for name in names] for label in labels])
    keys = b"".join(bytes([1 + row]) * 16 for row in range(len(labels)))
    columns = Columns(
        model_version=version,
        count=len(labels),
        images=None,
        places=array("H"),
        keys=keys,
        answers=(Answerer(taxonomy).columns(logits),),
    )
    return pack(columns)
