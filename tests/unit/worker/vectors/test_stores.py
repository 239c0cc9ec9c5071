"""The vector stores on real files and a real server: a vector is right or it is a miss."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from prelabel.schemas import ConfigError, ImageRef, Region
from prelabel.schemas.settings import load_settings
from prelabel.worker.model.similarity import normalise, pair_logits
from prelabel.worker.vectors.disk.index import Index
from prelabel.worker.vectors.disk.store import DiskStore
from prelabel.worker.vectors.keys import ImageKeys, space_tag, text_key, vector_space
from prelabel.worker.vectors.open import open_store, vector_directory
from prelabel.worker.vectors.records import floats
from prelabel.worker.vectors.redis import RedisStore
from prelabel.worker.vectors.store import NoStore
from prelabel.worker.vectors.writer import BackgroundWriter
from tests.unit.worker.vectors.samples import (
    BOX,
    HUGE,
    RECORD,
    SPACE,
    filled,
    index_file,
    key,
    right_numbers,
    shard_files,
    store_numbers,
    streamed_numbers,
    vector,
    warnings,
)


@pytest.fixture
def vector_redis(broker_url) -> Iterator[redis.Redis]:
    """The server behind the store on Redis, empty."""
    with redis.Redis.from_url(broker_url) as client:
        client.flushall()
        yield client
        client.flushall()


@pytest.fixture(params=["disk", "redis"])
def store(request, disk):
    if request.param == "disk":
        yield disk()
        return
    request.getfixturevalue("vector_redis")
    made = RedisStore(request.getfixturevalue("broker_url"))
    yield made
    made.close()


# Keys


def test_a_key_depends_on_everything_a_vector_depends_on() -> None:
    spaces = [
        SPACE,
        vector_space("n@12345678", 8, "fast"),
        vector_space("m@12345679", 8, "fast"),
        vector_space("m@12345678", 9, "fast"),
        vector_space("m@12345678", 8, "exact"),
    ]
    boxes = [None, BOX, Region(x=10, y=20, width=30, height=40.5), Region(x=10, y=20, width=30, height=40, rotation=1)]
    contents = [b"", b"a", b"ab"]
    images = [
        ImageKeys(space, ImageRef(uri=uri, region=box)) for space in spaces for uri in ("a", "ab") for box in boxes
    ]
    keys = [image.content(content) for image in images if image.ref.uri == "a" for content in contents]
    keys += [text_key(space, prompt) for space in spaces for prompt in ("", "a", "ab")]
    keys += [image.stamp(mark) for image in images for mark in ("b", "bb")]
    assert len(set(keys)) == len(keys)
    assert {len(one) for one in keys} == {16}


def test_a_key_tells_whether_its_vector_may_be_compared() -> None:
    spaces = [vector_space("m@1", 8, name) for name in ("fast", "exact", "bfloat16")]
    tags = [space_tag(space) for space in spaces]
    assert len(set(tags)) == 3
    for space, tag in zip(spaces, tags, strict=True):
        assert ImageKeys(space, ImageRef(uri="a")).content(b"image").endswith(tag)
        assert text_key(space, "a cat").endswith(tag)


def test_a_files_key_is_the_same_wherever_it_lies() -> None:
    assert len({ImageKeys(SPACE, ImageRef(uri=uri, region=BOX)).content(b"image") for uri in ("a", "b")}) == 1


def test_a_key_is_the_same_tomorrow() -> None:
    keys = ImageKeys(SPACE, ImageRef(uri="s3://b/1.jpg", region=BOX))
    assert keys.content(b"image").hex() == "0a955da5715ffaf8cabbd9af0fd92951"
    assert keys.stamp("etag:1").hex() == "ce568c0f431ac9296f5432b114511553"
    code = "from prelabel.worker.vectors.keys import *; print(text_key(vector_space('m', 8, 'fast'), 'a cat').hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == text_key(vector_space("m", 8, "fast"), "a cat").hex()


@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_no_two_lists_of_parts_make_one_key(parts) -> None:
    assert len({ImageKeys(space, ImageRef.model_construct(uri=uri)).stamp(mark) for space, uri, mark in parts}) == 2


# Every store


def test_what_was_put_is_found_as_fp16_gives_it_back(store) -> None:
    store_numbers(store, range(100))
    assert right_numbers(store, range(-5, 105)) == list(range(100))
    assert sorted(streamed_numbers(store, range(-5, 105), rows=7)) == list(range(100))
    exact = vector(3).astype(np.float16)
    assert (store.get([key(3)])[key(3)] == exact).all()
    assert store.get([]) == store.lookup([]) == {}


def test_a_key_asked_for_twice_is_streamed_twice(store) -> None:
    store_numbers(store, range(5))
    assert sorted(streamed_numbers(store, [1, 4, 1, 1, 9], rows=2)) == [1, 1, 1, 4]
    assert right_numbers(store, {1, 4}) == [1, 4]
    assert len(store.get([key(1), key(1)])) == 1


ORDERS = st.one_of(
    st.builds(range, st.integers(-5, 400), st.integers(-5, 400)).map(list),
    st.lists(st.integers(-5, 400), max_size=300),
    st.sets(st.integers(0, 299), max_size=20).map(lambda holes: [n for n in range(300) if n not in holes]),
    st.permutations(range(80)),
)


@pytest.fixture(scope="module")
def three_shards(tmp_path_factory):
    made = DiskStore(tmp_path_factory.mktemp("three") / "vectors", HUGE, shard_bytes=RECORD * 100)
    store_numbers(made, range(300))
    yield made
    made.close()


@given(ORDERS, st.integers(1, 200))
def test_a_stream_gives_all_that_is_asked_for_in_whatever_order(three_shards, numbers, rows) -> None:
    streamed = streamed_numbers(three_shards, numbers, rows)
    assert sorted(streamed) == sorted(number for number in numbers if 0 <= number < 300)


def test_a_stream_in_the_order_of_putting_hardly_asks_the_index(three_shards, monkeypatch) -> None:
    asked: list[int] = []
    find = Index.find
    monkeypatch.setattr(Index, "find", lambda self, keys: (asked.append(len(keys)), find(self, keys))[1])
    assert streamed_numbers(three_shards, range(300)) == list(range(300))
    assert sum(asked) <= 3 * 64


def test_vectors_of_other_lengths_live_beside_each_other(store) -> None:
    store.put({key(1): vector(1, 768), key(2): vector(2, 3)})
    store.flush()
    assert {name: row.shape for name, row in store.get([key(1), key(2)]).items()} == {key(1): (768,), key(2): (3,)}


def test_an_objects_stamp_tells_its_content(store) -> None:
    images = [ImageKeys(SPACE, ImageRef(uri=f"s3://b/{n}.jpg")) for n in range(10)]
    stamps = {image.stamp("etag:1"): key(n) for n, image in enumerate(images)}
    store.put(filled(range(10)))
    store.remember(stamps)
    store.flush()
    assert store.lookup([*stamps, images[1].stamp("etag:2")]) == stamps
    changed = {next(iter(stamps)): key(9)}
    store.remember(changed)
    store.flush()
    assert store.lookup(list(changed)) == changed


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 70000.0, -66000.0])
def test_what_fp16_cannot_hold_is_not_stored_and_harms_no_neighbour(store, bad) -> None:
    damaged = vector(1)
    damaged[3] = bad
    store.put(
        {key(0): vector(0), key(1): damaged, key(2): np.full(8, 1e-6, np.float32), key(3): np.zeros(8, np.float32)}
    )
    store.flush()
    assert right_numbers(store, range(4)) == [0]


def test_what_is_no_vector_or_no_key_is_an_error(store) -> None:
    with pytest.raises(ValueError, match=r"\(dim,\), got \(1, 8\)"):
        store.put({key(1): vector(1)[None]})
    with pytest.raises(ValueError, match="16 bytes, got 3"):
        store.put({b"key": vector(1)})


def test_what_was_put_does_not_change_with_the_callers_array(store) -> None:
    mine = vector(1)
    store.put({key(1): mine})
    mine[:] = 7
    store.flush()
    assert right_numbers(store, [1]) == [1]


def test_a_closed_store_takes_no_more_and_has_kept_what_it_took(root) -> None:
    store = DiskStore(root, HUGE)
    store.put(filled(range(10)))
    store.close()
    store.put(filled(range(10, 20)))
    store.flush()
    again = DiskStore(root, HUGE)
    assert right_numbers(again, range(20)) == list(range(10))
    again.close()


def test_whoever_comes_next_goes_on_with_the_shard_that_has_room(root) -> None:
    for number in range(20):
        store = DiskStore(root, HUGE)
        store_numbers(store, [number])
        assert right_numbers(store, range(20)) == list(range(number + 1))
        store.close()
    assert [path.stat().st_size for path in shard_files(root)] == [20 * RECORD]


def test_closing_lets_go_of_every_file(root) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    store = DiskStore(root, HUGE)
    store_numbers(store, range(10))
    right_numbers(store, range(10))
    store.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# Writing in the background


def test_putting_waits_for_nothing_and_a_full_queue_drops() -> None:
    gate, wrote = threading.Event(), []

    def write(batch) -> None:
        assert gate.wait(10)
        wrote.append((dict(batch.vectors), dict(batch.stamps)))

    writer = BackgroundWriter(write, capacity=3)
    writer.add({b"first": b"1"}, {})
    while writer._waiting.vectors:  # until the thread has taken it and stands at the gate
        time.sleep(0.001)
    for number in range(10):
        writer.add({b"%d" % number: b""}, {b"stamp %d" % number: b""})
    assert not writer.flush(0.01)
    gate.set()
    assert writer.flush(10)
    writer.close(10)
    assert [len(vectors) for vectors, _ in wrote] == [1, 3]
    assert list(wrote[1][1]) == [b"stamp 0", b"stamp 1", b"stamp 2"]


def test_a_batch_that_fails_does_not_end_the_writer(caplog) -> None:
    wrote = []

    def write(batch) -> None:
        if b"bad" in batch.vectors:
            raise RuntimeError("a bug")
        wrote.extend(batch.vectors)

    writer = BackgroundWriter(write, capacity=3)
    writer.add({b"bad": b""}, {})
    assert writer.flush(10)
    writer.add({b"good": b""}, {})
    writer.close(10)
    assert wrote == [b"good"]


def test_a_locked_disk_makes_no_caller_wait(disk, root) -> None:
    store = disk()
    store_numbers(store, range(3))
    other = sqlite3.connect(index_file(root), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    store.put(filled(range(3, 6)))
    assert right_numbers(store, range(6)) == [0, 1, 2]  # and nobody's reading either
    other.execute("COMMIT")
    other.close()
    store.flush()
    assert right_numbers(store, range(6)) == list(range(6))


# Redis


def test_a_damaged_value_in_redis_is_a_miss(broker_url, vector_redis) -> None:
    store = RedisStore(broker_url)
    store_numbers(store, range(6))
    names = [f"prelabel:vec:{key(number).hex()}" for number in range(6)]
    assert all(0 < vector_redis.ttl(name) <= 30 * 86400 for name in names)
    value = vector_redis.get(names[0])
    vector_redis.set(names[0], value[:-1])
    vector_redis.set(names[1], value)  # another key's
    vector_redis.set(names[2], b"")
    vector_redis.set(names[3], value[:9] + bytes([value[9] ^ 4]) + value[10:])
    vector_redis.delete(names[4])
    vector_redis.lpush(names[4], b"a list")
    assert right_numbers(store, range(6)) == [5]
    store.close()


def test_a_redis_that_is_away_is_a_warning_and_misses(free_port, caplog) -> None:
    store = RedisStore(f"redis://user:s3cret@127.0.0.1:{free_port}/0", pause_s=0.05)
    for _ in range(3):
        store_numbers(store, range(3))
        assert right_numbers(store, range(3)) == []
        assert store.lookup([key(1)]) == {}
        time.sleep(0.06)
    store.close()
    assert len(warnings(caplog)) == 1
    assert "images are embedded anew" in warnings(caplog)[0]
    assert "s3cret" not in caplog.text


# Settings


def test_the_settings_choose_the_store(tmp_path, broker_url) -> None:
    assert isinstance(open_store(load_settings(vector_store="OFF")), NoStore)
    disk = open_store(load_settings(state_dir=tmp_path))
    store_numbers(disk, [1])
    disk.close()
    assert shard_files(tmp_path / "vectors")
    shared = open_store(load_settings(vector_store=broker_url, redis_url="redis://localhost:1/0"))
    assert isinstance(shared, RedisStore)
    shared.close()
    assert vector_directory(load_settings(vector_store_dir="~/v")) == Path.home() / "v"


def test_the_store_that_is_off_holds_nothing() -> None:
    store = NoStore()
    store.put(filled([1]))
    store.remember({key(2): key(1)})
    store.flush()
    assert right_numbers(store, [1]) == streamed_numbers(store, [1]) == []
    assert store.lookup([key(2)]) == {}
    store.close()


@pytest.mark.parametrize(
    ("wrong", "fix"),
    [
        ({"vector_store": "memcached://s3cret"}, "use disk, off, or the redis://"),
        ({"vector_store": ""}, "use disk, off"),
        ({"vector_store_bytes": 1000}, "vector_store_bytes"),
        ({"vector_store": "redis://:s3cret@h:port/0"}, "PRELABEL_VECTOR_STORE is no redis URL"),
        ({"vector_store": "redis://h/0?s3cret=1"}, "PRELABEL_VECTOR_STORE has a parameter"),
        ({"vector_store": "redis://:a@s3cret#x@h:6380/0"}, "PRELABEL_VECTOR_STORE is no redis URL.*percent-encode"),
        ({"vector_store": "redis://:s3cret@h/1", "redis_url": "redis://h:6379/0"}, "one of their own"),
    ],
)
def test_a_store_that_cannot_be_is_named_with_its_fix(wrong, fix) -> None:
    with pytest.raises(ConfigError, match=fix) as refused:
        open_store(load_settings(**wrong))
    assert "s3cret" not in str(refused.value)


def test_a_stream_scores_as_a_plain_product_of_what_was_put(disk) -> None:
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(500, 16)).astype(np.float32)
    texts = normalise(rng.normal(size=(7, 16)).astype(np.float32))
    keys = [bytes([index % 256, index // 256] * 8) for index in range(len(rows))]
    store = disk()
    store.put(dict(zip(keys, rows, strict=True)))
    store.flush()
    logits = np.full((len(rows), len(texts)), np.nan)
    for block in store.blocks(keys, 64):
        logits[block.positions] = pair_logits(floats(block.vectors), texts, 100.0, -10.0)
    halves = rows.astype(np.float16).astype(np.float64)
    expected = 100 * (halves / np.linalg.norm(halves, axis=1, keepdims=True)) @ texts.T.astype(np.float64) - 10
    assert np.abs(logits - expected).max() < 1e-3
    unrounded = rows.astype(np.float64)
    exact = 100 * (unrounded / np.linalg.norm(unrounded, axis=1, keepdims=True)) @ texts.T.astype(np.float64) - 10
    assert np.abs(logits - exact).max() < 0.1  # what fp16 costs, in logits
