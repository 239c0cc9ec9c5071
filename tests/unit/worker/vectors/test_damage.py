"""The store on disk under several processes, killed ones among them, and with its files damaged."""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from prelabel.worker.vectors.disk.store import DiskStore
from tests.unit.worker.vectors.samples import (
    HUGE,
    RECORD,
    child,
    filled,
    index_file,
    key,
    right_numbers,
    shard_files,
    store_numbers,
    streamed_numbers,
    warnings,
)

# Several processes


def test_processes_write_and_read_at_once_and_nobody_reads_a_wrong_vector(root, disk) -> None:
    code = """
    store = DiskStore(Path(sys.argv[1]), HUGE, shard_bytes=RECORD * 100)
    dice = random.Random(int(sys.argv[2]))
    for _ in range(60):
        store.put(filled(dice.sample(range(1000), 20)))
        if dice.random() < 0.2:
            store.flush()
        right_numbers(store, dice.sample(range(1000), 50))
    store.close()
    print("fine")
    """
    children = [child(code, root, seed) for seed in range(3)]
    assert [one.communicate(timeout=60)[0] for one in children] == ["fine\n"] * 3
    there = right_numbers(disk(), range(1000))
    assert len(there) > 900
    assert sorted(streamed_numbers(disk(), range(1000))) == there


def test_a_writer_killed_at_any_moment_leaves_only_right_vectors(root, disk) -> None:
    code = """
    store = DiskStore(Path(sys.argv[1]), 40_000, shard_bytes=4_000)
    print("up", flush=True)
    for start in range(0, 10**9, 10):
        store.put(filled(range(start, start + 10)))
    """
    for seed in range(3):
        process = child(code, root)
        assert process.stdout.readline() == "up\n"
        time.sleep(random.Random(seed).uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    store = disk()
    right_numbers(store, range(20_000))
    store_numbers(store, range(10**6, 10**6 + 50))
    assert right_numbers(store, range(10**6, 10**6 + 50)) == list(range(10**6, 10**6 + 50))


# Damage


@pytest.fixture(scope="module")
def sound_store(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sound") / "vectors"
    store = DiskStore(root, HUGE, shard_bytes=RECORD * 16)
    store.put(filled(range(40)))
    store.remember({key(-number): key(number) for number in range(40)})
    store.close()
    return root


def assert_only_right_after(sound: Path, damage) -> int:
    """How many of 40 are found in a damaged copy, all of them right; and the copy stores again."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "vectors"
        shutil.copytree(sound, root, symlinks=True)
        damage(root)
        store = DiskStore(root, HUGE, shard_bytes=RECORD * 16)
        try:
            there = right_numbers(store, range(40))
            assert set(streamed_numbers(store, range(40))) <= set(there)
            for stamp, found in store.lookup([key(-number) for number in range(40)]).items():
                assert stamp == next(key(-number) for number in range(40) if key(number) == found)
            store_numbers(store, range(40))
            missing = set(range(40)) - set(right_numbers(store, range(40)))
            assert not missing, (missing, there)
        finally:
            store.close()
    return len(there)


def test_an_unharmed_copy_has_everything(sound_store) -> None:
    assert assert_only_right_after(sound_store, lambda root: None) == 40


def flip(path: Path, bits: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for bit in bits:
        data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(data)


@given(bits=st.lists(st.integers(0, RECORD * 16 * 8 - 1), min_size=1, max_size=5, unique=True), which=st.integers(0, 2))
@examples(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bits_in_a_shard_cost_their_rows_alone(sound_store, bits, which) -> None:
    rows = {bit // 8 // RECORD for bit in bits}
    left = assert_only_right_after(sound_store, lambda root: flip(shard_files(root)[which], bits))
    assert 40 - len(rows) <= left < 40 or which == 2


@pytest.mark.parametrize("rows", [1, 16, 300])
def test_a_long_stream_leaves_out_damaged_records_alone(disk, root, rows) -> None:
    store = disk(shard_bytes=RECORD * 200)
    store_numbers(store, range(300))
    first, second = shard_files(root)
    flip(first, [RECORD * 8 * number + 77 for number in (3, 120, 121, 199)])
    os.truncate(second, RECORD * 50 + 1)
    left = [number for number in range(250) if number not in (3, 120, 121, 199)]
    assert sorted(streamed_numbers(store, range(300), rows)) == left
    store.flush()
    assert right_numbers(store, range(300)) == left


@given(bits=st.lists(st.integers(0, 8 * 65536), min_size=1, max_size=40))
@examples(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bits_in_the_index_never_give_a_wrong_vector(sound_store, bits) -> None:
    assert_only_right_after(sound_store, lambda root: flip(index_file(root), bits))


@pytest.mark.parametrize(
    ("left", "damage"),
    [
        (0, lambda root: index_file(root).write_bytes(b"")),
        (0, lambda root: index_file(root).write_bytes(random.Random(1).randbytes(20_000))),
        (0, lambda root: index_file(root).write_text("not a database at all")),
        (0, lambda root: index_file(root).unlink()),
        (None, lambda root: os.truncate(index_file(root), 5000)),
        (None, lambda root: os.truncate(index_file(root), 8192)),
        (0, lambda root: (root / "current").unlink()),
        (0, lambda root: ((root / "current").unlink(), (root / "current").symlink_to("v0-0123456789abcdef"))),
        (0, lambda root: shutil.rmtree(root)),
        (0, lambda root: [path.unlink() for path in shard_files(root)]),
        (24, lambda root: shard_files(root)[0].unlink()),
        (0, lambda root: [os.truncate(path, 0) for path in shard_files(root)]),
        (40 - 13, lambda root: os.truncate(shard_files(root)[0], RECORD * 3 + 5)),
        (None, lambda root: shutil.copy(shard_files(root)[0], shard_files(root)[1])),
    ],
)
def test_lost_and_garbled_files_are_misses_and_the_store_goes_on(sound_store, left, damage) -> None:
    found = assert_only_right_after(sound_store, damage)
    assert left is None or found == left


def test_a_running_store_survives_all_of_it_too(disk, root, caplog) -> None:
    store, other = disk(), disk()
    store_numbers(store, range(20))
    assert right_numbers(other, range(20)) == list(range(20))
    index_file(root).write_bytes(b"garbage" * 3000)
    for one in (store, other):
        right_numbers(one, range(20))
    store_numbers(store, range(20, 40))
    store_numbers(other, range(40, 60))
    assert set(range(40, 60)) <= set(right_numbers(store, range(60))) == set(right_numbers(other, range(60)))
    assert len([text for text in warnings(caplog) if "is damaged" in text]) <= 1
    shutil.rmtree(root)
    assert right_numbers(store, range(60)) == []
    store_numbers(other, range(10))
    assert right_numbers(store, range(60)) == list(range(10))


def test_a_newer_prelabels_store_is_left_alone(disk, root, caplog) -> None:
    root.mkdir()
    (root / "v99-0123456789abcdef").mkdir()
    (root / "current").symlink_to("v99-0123456789abcdef")
    store = disk()
    store_numbers(store, range(3))
    assert right_numbers(store, range(3)) == []
    assert (root / "v99-0123456789abcdef").is_dir()
    assert any("newer prelabel" in text for text in warnings(caplog))
