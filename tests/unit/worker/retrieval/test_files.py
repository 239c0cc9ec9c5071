"""A collection's files: what was written is read, whatever happens on the way; what is damaged is not."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prelabel.worker.retrieval.entries import ENTRY
from prelabel.worker.retrieval.files import BLOCK, META, CollectionFiles, Damage, Snapshot

DIM = 8


def entries(*tasks: int, key: int = 1) -> np.ndarray:
    made = np.zeros(len(tasks), dtype=ENTRY)
    made["task"] = tasks
    made["key"][:, 0] = tasks
    made["key"][:, 1] = key
    return made


def vectors(*tasks: int) -> np.ndarray:
    rows = [np.random.default_rng(task).normal(size=DIM) for task in tasks]
    return np.asarray(rows, dtype=np.float16).reshape(-1, DIM)


def files(folder: Path, space: str = "space", dim: int = DIM) -> CollectionFiles:
    return CollectionFiles(folder, space, dim)


def filled(folder: Path, *tasks: int) -> CollectionFiles:
    made = files(folder)
    with made.writing(1):
        made.begin()
        extend(made, entries(*tasks), vectors(*tasks), str(len(tasks)), missing=2)
    return made


def extend(made: CollectionFiles, rows: np.ndarray, halves: np.ndarray, position: str = "", missing: int = 0) -> None:
    """Append rows that take the place of earlier ones of their tasks."""
    lost = entries(*range(missing))
    made.extend(rows, halves, outdated=np.unique(rows["task"]), missing=lost, position=position)


def live(snapshot: Snapshot | None) -> list[int]:
    assert snapshot is not None
    return [int(task) for task in snapshot.entries["task"][snapshot.counts]]


def test_what_was_written_is_read_by_others_too(tmp_path) -> None:
    assert files(tmp_path).read() is None
    filled(tmp_path, 1, 2, 3)
    snapshot = files(tmp_path).read()
    assert live(snapshot) == [1, 2, 3]
    assert (snapshot.vectors == vectors(1, 2, 3)).all()
    assert snapshot.position == "3"


@settings(max_examples=25)
@given(st.lists(st.lists(st.integers(0, 30), max_size=12, unique=True), min_size=1, max_size=6))
def test_after_any_writes_every_place_has_its_last_vector(tmp_path_factory, batches) -> None:
    made = files(tmp_path_factory.mktemp("collection"))
    expected: dict[int, int] = {}
    with made.writing(1):
        made.begin()
    for number, tasks in enumerate(batches):
        rows = entries(*tasks, key=number)
        with made.writing(1):
            extend(made, rows, vectors(*[task + 100 * number for task in tasks]), str(number))
        expected |= dict.fromkeys(tasks, number)
    snapshot = made.read()
    assert snapshot is not None
    counting = np.flatnonzero(snapshot.counts)
    assert {int(snapshot.entries["task"][row]): int(snapshot.entries["key"][row][1]) for row in counting} == expected
    for row in counting:
        task, number = int(snapshot.entries["task"][row]), int(snapshot.entries["key"][row][1])
        assert (snapshot.vectors[row] == vectors(task + 100 * number)[0]).all()
    assert snapshot.is_worn == (1 - snapshot.counts.mean() > 0.25 if len(snapshot.counts) else False)


def test_blocks_are_begun_and_gone_on_with(tmp_path) -> None:
    made = filled(tmp_path, *range(BLOCK - 1))
    for start, count in ((BLOCK - 1, 3), (BLOCK + 2, 2 * BLOCK)):
        tasks = range(start, start + count)
        with made.writing(1):
            extend(made, entries(*tasks), vectors(*tasks), "0")
    assert live(files(tmp_path).read()) == list(range(3 * BLOCK + 2))


def test_a_snapshot_stays_what_it_was(tmp_path) -> None:
    made = filled(tmp_path, 1, 2)
    before = made.read()
    with made.writing(1):
        made.begin()
        extend(made, entries(9), vectors(9), "1")
    assert live(before) == [1, 2]
    assert live(made.read()) == [9]
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".vectors"]) == 1


@pytest.mark.parametrize(("space", "dim"), [("other", DIM), ("space", DIM + 1)])
def test_another_space_has_nothing_there(tmp_path, space, dim) -> None:
    filled(tmp_path, 1)
    assert files(tmp_path, space, dim).read() is None


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["vectors", "entries", "states", "missing", META])
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_one_wrong_bit_anywhere_is_noticed(tmp_path, kind, place) -> None:
    filled(tmp_path, *range(BLOCK + 10))
    path = next(path for path in tmp_path.iterdir() if path.name.endswith(kind))
    flip(path, int(place * (path.stat().st_size - 1)))
    assert files(tmp_path).read() is None
    with files(tmp_path).writing(1), pytest.raises(Damage):
        extend(files(tmp_path), entries(1), vectors(1), "1")


@pytest.mark.parametrize("kind", ["vectors", "entries", "states", "missing"])
def test_a_file_that_is_gone_or_cut_short_is_noticed(tmp_path, kind) -> None:
    filled(tmp_path, 1, 2, 3)
    path = next(path for path in tmp_path.iterdir() if path.name.endswith(kind))
    os.truncate(path, path.stat().st_size - 1)
    assert files(tmp_path).read() is None
    path.unlink()
    assert files(tmp_path).read() is None


def test_a_tail_that_was_never_committed_is_written_over(tmp_path) -> None:
    made = filled(tmp_path, 1, 2)
    for kind in ("vectors", "entries"):
        path = next(tmp_path.glob(f"*.{kind}"))
        with path.open("ab") as file:
            file.write(b"half a row of somebody who was killed")
    assert live(files(tmp_path).read()) == [1, 2]
    with made.writing(1):
        extend(made, entries(3), vectors(3), "3")
    assert live(files(tmp_path).read()) == [1, 2, 3]


def _extend_for_ever(folder: Path, is_at_it: Any) -> None:
    """Each extension has a vector for all of the same tasks, and its number as the second half of their keys."""
    made = files(folder)
    for written in itertools.count():
        with made.writing(60):
            number = int(made.read().position) + 1
            extend(made, entries(*range(200), key=number), vectors(*range(200)), str(number))
        if written == 5:
            is_at_it.set()


@contextmanager
def writers(folder: Path, count: int) -> Iterator[list[Any]]:
    """Processes that extend a collection, each of which has done so some times."""
    context = multiprocessing.get_context("spawn")
    signs = [context.Event() for _ in range(count)]
    started = [context.Process(target=_extend_for_ever, args=(folder, sign)) for sign in signs]
    for one in started:
        one.start()
    try:
        assert all(sign.wait(90) for sign in signs)
        yield started
    finally:
        for one in started:
            one.kill()
            one.join()


def newest_alone(folder: Path) -> bool:
    """Whether every task counts once, with the vector of the extension that is said to be the last."""
    snapshot = files(folder).read()
    keys = {int(key[1]) for key in snapshot.entries["key"][snapshot.counts]}
    return sorted(live(snapshot)) == list(range(200)) and keys == {int(snapshot.position)}


def test_whoever_is_killed_while_extending_leaves_what_was_there(tmp_path) -> None:
    filled(tmp_path, *range(200))
    for _ in range(4):
        with writers(tmp_path, 1) as (writer,):
            time.sleep(np.random.default_rng().uniform(0, 0.02))
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
        assert newest_alone(tmp_path)
    assert int(files(tmp_path).read().position) > 200 + 4 * 5


def test_two_who_extend_at_once_take_turns(tmp_path) -> None:
    filled(tmp_path, *range(200))
    with writers(tmp_path, 2):
        time.sleep(0.5)
    assert newest_alone(tmp_path)


def test_a_folder_that_cannot_be_written_to_is_an_os_error(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match="file"), files(blocked / "collection").writing(1):
        pass
