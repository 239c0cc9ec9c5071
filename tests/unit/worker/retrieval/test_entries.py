"""Rows of a catalogue as arrays: of each task the newest outcome counts."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from prelabel.integrations.ledger.catalogue import FIRST, ROW
from prelabel.worker.retrieval.entries import ENTRY, as_rows, entry_keys, newest


def rows(*outcomes: tuple[int, list[int]]) -> bytes:
    """Rows of outcomes: a task, and a number for each of its images that makes its key."""
    made = []
    for task, keys in outcomes:
        made += [
            ROW.pack(task, 5, 6, at | (0 if at else FIRST), 7, key.to_bytes(16, "little"))
            for at, key in enumerate(keys)
        ]
        made += [] if keys else [ROW.pack(task, 0, 0, FIRST, 0, bytes(16))]
    return b"".join(made)


def test_an_entry_is_a_row() -> None:
    assert ENTRY.itemsize == ROW.size == 40
    (entry,) = newest(ROW.pack(1, 2, 3, FIRST | 4, 5, bytes(range(16)))).entries
    assert [int(entry[name]) for name in ("task", "image", "label", "place", "confidence")] == [1, 2, 3, 4, 5]
    assert entry_keys(np.asarray([entry])) == [bytes(range(16))]


@given(st.lists(st.tuples(st.integers(1, 6), st.lists(st.integers(1, 2**64), max_size=3)), max_size=30))
def test_of_each_task_the_last_outcome_counts(outcomes) -> None:
    expected: dict[int, list[int]] = {}
    for task, keys in outcomes:
        expected[task] = keys
    found = newest(rows(*outcomes))
    assert found.tasks.tolist() == sorted(expected)
    kept: dict[int, list[int]] = {}
    for entry, key in zip(found.entries, entry_keys(found.entries), strict=True):
        kept.setdefault(int(entry["task"]), []).append(int.from_bytes(key, "little"))
        assert int(entry["place"]) == len(kept[int(entry["task"])]) - 1
    assert kept == {task: keys for task, keys in expected.items() if keys}
    again = newest(as_rows(found.entries))
    assert (again.entries == found.entries).all()
