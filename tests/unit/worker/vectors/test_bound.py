"""The bound on the store's size, and disks that are full, read-only or not there."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from prelabel.worker.vectors.disk.store import DiskStore
from tests.unit.worker.vectors.samples import (
    HUGE,
    child,
    index_file,
    key,
    right_numbers,
    shard_files,
    store_numbers,
    streamed_numbers,
    vector,
    warnings,
)

# The bound


def taken(root: Path) -> int:
    return index_file(root).stat().st_size + sum(path.stat().st_size for path in shard_files(root))


def test_the_longest_unused_go_first_and_the_bound_is_kept(disk, root) -> None:
    bound = 200_000
    store = disk(bound)
    dim = 256
    for start in range(0, 1000, 10):
        store_numbers(store, range(start, start + 10), dim)
        store.remember({key(-start): key(start)})
        assert taken(root) <= bound + 20_000
    there = right_numbers(store, range(1000), dim)
    assert there[-50:] == list(range(950, 1000))
    assert there == list(range(there[0], 1000))
    assert len(store.lookup([key(-number) for number in range(0, 1000, 10)])) <= len(there) // 10 + 1


def test_what_is_read_stays(disk, monkeypatch) -> None:
    store = disk(200_000)
    store_numbers(store, range(10), 256)
    now = time.time()
    for start in range(10, 1000, 10):
        now += 1
        monkeypatch.setattr(time, "time", lambda now=now: now)
        store._touched.clear()
        assert right_numbers(store, range(10), 256) == list(range(10))
        store.flush()
        store_numbers(store, range(start, start + 10), 256)


def test_stamps_alone_do_not_outgrow_the_bound(disk, root) -> None:
    store = disk(100_000)
    store_numbers(store, [1])
    for start in range(0, 5000, 500):
        store.remember({key(-number): key(1) for number in range(start + 1, start + 500)})
        store.flush()
    assert taken(root) < 250_000
    assert right_numbers(store, [1]) == [1]


def test_a_stream_that_others_evict_from_goes_on(disk) -> None:
    store = disk(100_000, shard_bytes=4000)
    store_numbers(store, range(1000))
    stream = store.blocks([key(number) for number in range(1000)], 10)
    assert len(next(stream).positions)
    store_numbers(disk(60_000, shard_bytes=4000), range(1000, 1500))
    for positions, vectors in stream:
        for position, row in zip(positions, vectors, strict=True):
            np.testing.assert_allclose(row, vector(position), rtol=2**-10, atol=2**-14)


# A disk that does not work


def test_a_full_disk_stops_writing_alone_and_only_for_a_while(root) -> None:
    code = """
    import logging
    logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
    store = DiskStore(Path(sys.argv[1]), HUGE, pause_s=0.3)
    store_numbers(store, range(10), 768)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64_000, resource.RLIM_INFINITY))
    for start in range(10, 400, 10):
        store_numbers(store, range(start, start + 10), 768)
        assert right_numbers(store, range(10), 768) == list(range(10))
    left = right_numbers(store, range(400), 768)
    assert len(left) < 100, left
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    time.sleep(0.4)
    store_numbers(store, range(400, 500), 768)
    assert right_numbers(store, range(500), 768) == left + list(range(400, 500))
    store.close()
    """
    output = child(code, root).communicate(timeout=60)[0]
    assert output.count("WARNING") == 1, output
    assert output.startswith("WARNING cannot write to the vector store")
    assert "Traceback" not in output


READ_ONLY = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
store = DiskStore(Path(sys.argv[1]), HUGE)
print(right_numbers(store, range(20)))
store_numbers(store, range(10, 20))
store_numbers(store, range(10, 20))
print(right_numbers(store, range(20)))
store.close()
"""


@pytest.mark.parametrize("before", [[], list(range(10))])
def test_a_read_only_folder_is_read_and_a_warning(before) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's are closed to other users
        root = Path(folder) / "vectors"
        if before:
            store = DiskStore(root, HUGE)
            store_numbers(store, before)
            store.close()
        else:
            root.mkdir()
        everything = [Path(folder), *root.rglob("*"), root]
        for path in everything:
            path.chmod(0o555 if path.is_dir() else 0o444)
        output = child(READ_ONLY, root).communicate(timeout=60)[0].splitlines()
        for path in everything:
            path.chmod(0o755)
    assert [line for line in output if line.startswith("[")] == [str(before)] * 2, output
    assert sum("cannot write to the vector store" in line for line in output) == 1
    assert not any("Traceback" in line for line in output)


def test_a_folder_that_cannot_be_is_a_warning(tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("")
    store = DiskStore(tmp_path / "file" / "vectors", HUGE)
    for _ in range(3):
        store_numbers(store, range(3))
        assert right_numbers(store, range(3)) == []
        assert streamed_numbers(store, range(3)) == []
        assert store.lookup([key(1)]) == {}
    store.close()
    assert sorted(text.partition(" the vector store")[0] for text in warnings(caplog)) == [
        "cannot read",
        "cannot write to",
    ]
