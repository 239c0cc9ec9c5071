"""A collection follows its catalogue: what is superseded, gone, lost or damaged on the way is never found."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prelabel.integrations.ledger.catalogue import FIRST, ROW, Tail
from prelabel.schemas import ConfigError
from prelabel.worker.retrieval import collection as collections
from prelabel.worker.retrieval.collection import Collection, Current, rows_of
from prelabel.worker.vectors.disk.store import DiskStore
from prelabel.worker.vectors.keys import space_tag

DIM = 8
SPACE = "a space"


def key_of(number: int, space: str = SPACE) -> bytes:
    return hashlib.blake2b(str(number).encode(), digest_size=12).digest() + space_tag(space)


def vector_of(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=DIM).astype(np.float32) * 3


class Catalogue:
    """A catalogue in memory."""

    def __init__(self) -> None:
        self.rows = b""
        self.epoch = 0

    def add(self, task: int, *numbers: int, space: str = SPACE) -> None:
        for place, number in enumerate(numbers):
            flagged = place | (0 if place else FIRST)
            self.rows += ROW.pack(task, number, 0, flagged, 0, key_of(number, space))

    def forget(self, task: int) -> None:
        self.rows += ROW.pack(task, 0, 0, FIRST, 0, bytes(16))

    def tail(self, position: str) -> Tail:
        epoch, _, at = position.partition(":")
        anew = epoch != str(self.epoch)
        return Tail(self.rows[0 if anew else int(at) :], f"{self.epoch}:{len(self.rows)}", anew)

    def replace(self, position: str, rows: bytes) -> str | None:
        if position != f"{self.epoch}:{len(self.rows)}":
            return None
        self.rows, self.epoch = rows, self.epoch + 1
        return f"{self.epoch}:{len(rows)}"


class Site:
    """A catalogue, the store of its vectors, and a folder for the collection's files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "files"
        self.catalogue = Catalogue()
        self.store = DiskStore(folder / "store", 10**8)
        self.now = 0.0

    def embed(self, *numbers: int) -> None:
        self.store.put({key_of(number): vector_of(number) for number in numbers})
        self.store.flush()

    def collection(self, folder: Path | None = None) -> Collection:
        return Collection(folder or self.folder, SPACE, DIM, self.store, self.catalogue, clock=lambda: self.now)


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path)
    yield made
    made.store.close()


def found(current: Current) -> dict[int, list[int]]:
    """The numbers of each task's images that count, and whether their vectors are right."""
    snapshot, images = current.snapshot, {}
    for row in np.flatnonzero(snapshot.counts):
        number = int(snapshot.entries["image"][row])
        images.setdefault(int(snapshot.entries["task"][row]), []).append(number)
        right = vector_of(number).astype(np.float16).astype(np.float64)
        assert snapshot.vectors[row].astype(np.float64) == pytest.approx(right / np.linalg.norm(right), abs=1e-3)
    return images


def test_it_has_what_the_catalogue_has_and_follows_it(site) -> None:
    site.embed(*range(10))
    made = site.collection()
    assert found(made.current()) == {}
    site.catalogue.add(1, 0)
    site.catalogue.add(2, 1, 2)
    assert found(made.current()) == {1: [0], 2: [1, 2]}
    site.catalogue.add(1, 3)
    site.catalogue.forget(2)
    assert found(made.current()) == {1: [3]}
    assert found(site.collection().current()) == {1: [3]}


def test_what_has_no_vector_is_counted_and_found_once_it_has_one(site) -> None:
    site.embed(0, 2)
    site.catalogue.add(1, 0, 1)
    site.catalogue.add(2, 2)
    made = site.collection()
    current = made.current()
    assert (found(current), current.missing, current.others) == ({1: [0], 2: [2]}, 1, 0)
    site.embed(1)
    assert made.current().missing == 1, "it is looked for now and then"
    site.now += 10
    current = made.current()
    assert (found(current), current.missing) == ({1: [0, 1], 2: [2]}, 0)
    assert len(current.snapshot.entries) == 3


def test_what_was_missing_and_is_superseded_is_missing_no_more(site) -> None:
    site.embed(0)
    site.catalogue.add(1, 5)
    made = site.collection()
    assert made.current().missing == 1
    site.catalogue.add(1, 0)
    current = made.current()
    assert (found(current), current.missing) == ({1: [0]}, 0)


def test_another_models_vectors_are_told_apart(site) -> None:
    site.embed(0)
    site.catalogue.add(1, 0)
    site.catalogue.add(2, 0, space="another")
    current = site.collection().current()
    assert (found(current), current.missing, current.others) == ({1: [0]}, 0, 1)


def test_what_the_store_has_evicted_is_still_found_also_when_the_files_are_made_anew(site) -> None:
    site.embed(*range(9))
    for task in range(1, 9):
        site.catalogue.add(task, task)
    made = site.collection()
    made.current()
    site.store.close()
    empty = Site(site.folder.parent / "other")
    empty.catalogue, empty.folder = site.catalogue, site.folder
    for task in range(1, 5):  # enough of them for the files to be made anew
        site.catalogue.forget(task)
    current = empty.collection().current()
    assert (found(current), current.missing) == ({task: [task] for task in range(5, 9)}, 0)
    current = empty.collection().current()
    assert len(current.snapshot.entries) == 4, "nothing that counts no more is kept"
    assert found(current) == {task: [task] for task in range(5, 9)}
    empty.store.close()


def test_a_catalogue_that_begins_anew_is_read_anew(site) -> None:
    site.embed(0, 1)
    site.catalogue.add(1, 0)
    made = site.collection()
    made.current()
    site.catalogue.rows, site.catalogue.epoch = b"", 1
    assert found(made.current()) == {}
    site.catalogue.add(4, 1)
    assert found(made.current()) == {4: [1]}


def test_a_catalogue_of_much_that_counts_no_more_is_shortened(site) -> None:
    site.embed(0)
    for _ in range(2_000):
        site.catalogue.add(1, 0)
    assert found(site.collection().current()) == {1: [0]}
    assert len(site.catalogue.rows) == ROW.size
    site.catalogue.add(2, 0)
    assert found(site.collection().current()) == {1: [0], 2: [0]}


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.integers(1, 5), st.lists(st.integers(0, 9), min_size=1, max_size=3)),
            st.tuples(st.just("forget"), st.integers(1, 5), st.just([])),
            st.tuples(st.just("look"), st.just(0), st.just([])),
            st.tuples(st.just("embed"), st.integers(0, 9), st.just([])),
        ),
        max_size=25,
    )
)
def test_whatever_happens_it_is_what_the_catalogue_says_now(tmp_path_factory, steps) -> None:
    site = Site(tmp_path_factory.mktemp("site"))
    site.embed(*range(5))
    made, expected, stored = site.collection(), {}, set(range(5))
    for what, number, images in [*steps, ("look", 0, [])]:
        if what == "add":
            site.catalogue.add(number, *images)
            expected[number] = images
        elif what == "forget":
            site.catalogue.forget(number)
            expected.pop(number, None)
        elif what == "embed":
            site.embed(number)
            stored.add(number)
        else:
            site.now += 10
            current = made.current()
            there = {task: sorted(set(images) & stored) for task, images in expected.items()}
            assert {task: sorted(set(kept)) for task, kept in found(current).items()} == {
                task: kept for task, kept in there.items() if kept
            }
            lost = sum(image not in stored for images in expected.values() for image in images)
            assert current.missing == lost
    site.store.close()


class _Killed(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", range(4))
def test_whoever_is_stopped_on_the_way_leaves_what_the_next_one_finishes(site, monkeypatch, after) -> None:
    monkeypatch.setattr(collections, "AT_ONCE", 2)
    site.embed(*range(6))
    for task in range(1, 5):
        site.catalogue.add(task, task, 8 + task)
    site.collection().current()
    site.embed(*range(6, 20))
    for task in range(3, 9):
        site.catalogue.add(task, task + 1)
    extended = collections.CollectionFiles.extend
    calls = 0

    def stopping(*args: object, **kwargs: object) -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise _Killed
        extended(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(collections.CollectionFiles, "extend", stopping)
        with pytest.raises(_Killed):
            site.collection().current()
    current = site.collection().current()
    assert found(current) == {1: [1, 9], 2: [2, 10]} | {task: [task + 1] for task in range(3, 9)}
    assert current.missing == 0


def test_damaged_files_are_made_anew(site) -> None:
    site.embed(0, 1)
    site.catalogue.add(1, 0)
    site.collection().current()
    path = next(site.folder.glob("*.vectors"))
    path.write_bytes(b"\0" * path.stat().st_size)
    site.catalogue.add(2, 1)
    assert found(site.collection().current()) == {1: [0], 2: [1]}


def test_a_folder_that_cannot_be_used_is_said_with_the_fix(site) -> None:
    site.catalogue.add(1, 0)
    blocked = site.folder.parent / "blocked"
    blocked.write_text("")
    with pytest.raises(ConfigError, match=r"blocked.* cannot be used .*PRELABEL_STATE_DIR"):
        site.collection(blocked / "files").current()


def test_progress_is_told(site, monkeypatch) -> None:
    monkeypatch.setattr(collections, "AT_ONCE", 2)
    site.embed(*range(5))
    for task in range(1, 6):
        site.catalogue.add(task, task - 1)
    told = []
    site.collection().current(lambda *step: told.append(step))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_the_rows_of_tasks_are_those_that_count(site) -> None:
    site.embed(*range(5))
    for task in (1, 2, 1):
        site.catalogue.add(task, task)
    snapshot = site.collection().current().snapshot
    assert sorted(snapshot.entries["task"][rows_of(snapshot, [1, 9])].tolist()) == [1]
