"""Rules of labels that came with items are kept by the number of their labels."""

from __future__ import annotations

import numpy as np

from prelabel.schemas import Taxonomy
from prelabel.worker.scoring import rules as module
from prelabel.worker.scoring.answers import Answerer
from prelabel.worker.scoring.rules import KeptRules, Rules

ANSWERER = Answerer(Taxonomy.flat(["a", "b"]), top_k=None)


def rules(labels: int) -> Rules:
    return Rules(ANSWERER, np.zeros((labels, 2), dtype=np.float32))


def held(kept: KeptRules) -> str:
    return "".join(name for name in "abcd" if kept.get((name, "")))


def test_the_longest_unused_sets_go_when_their_labels_are_too_many(monkeypatch) -> None:
    monkeypatch.setattr(module, "_OPTIONS_KEPT", 10)
    kept = KeptRules()
    for name in "abc":
        kept.keep((name, ""), rules(3))
    assert kept.get(("a", ""))
    kept.keep(("d", ""), rules(4))
    assert held(kept) == "acd"


def test_a_set_of_more_labels_than_are_kept_is_kept_alone(monkeypatch) -> None:
    monkeypatch.setattr(module, "_OPTIONS_KEPT", 10)
    kept = KeptRules()
    kept.keep(("a", ""), rules(3))
    kept.keep(("b", ""), rules(30))
    assert held(kept) == "b"
    kept.keep(("c", ""), rules(1))
    assert held(kept) == "c"
