"""The code of docs/extending.md, which shows the marked parts of this file, and what it must do."""

from __future__ import annotations

# --8<-- [start:reader]
import zipfile

from prelabel.schemas import ItemError, Settings
from prelabel.worker.fetching.deadline import Deadline
from prelabel.worker.fetching.reader import Fetched, IsKnown, too_large


class ZipReader:
    """Reads `zip:/folder/archive.zip!name-inside.jpg`."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_image_bytes

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:
        archive, mark, name = uri.removeprefix("zip:").partition("!")
        if not mark:
            raise ItemError("not a reference into an archive: write zip:/path/archive.zip!name")
        try:
            with zipfile.ZipFile(archive) as opened:
                entry = opened.getinfo(name)
                if entry.file_size > self._limit:
                    raise too_large(self._limit)
                mark = f"{entry.CRC}:{entry.file_size}"
                return Fetched(mark, None if is_known(mark) else opened.read(entry))
        except (OSError, KeyError, zipfile.BadZipFile):
            raise ItemError("there is no such archive, or no such file in it") from None


# --8<-- [end:reader]
# --8<-- [start:platform]
from collections.abc import Sequence
from typing import Any

from prelabel.integrations.platforms import PushReport
from prelabel.schemas import Prediction, PushTarget


class TablePlatform:
    """Keeps one answer an item and version, so that pushing twice changes nothing."""

    def __init__(self, table: dict[tuple[str, str], str | None]) -> None:
        self._table = table

    def push(self, target: PushTarget, predictions: Sequence[Prediction], **options: Any) -> PushReport:
        for prediction in predictions:
            self._table[prediction.item.id, prediction.model_version] = prediction.label
        return PushReport(pushed=tuple(prediction.ordinal for prediction in predictions))


# --8<-- [end:platform]
# --8<-- [start:store]
from collections.abc import Iterator, Mapping

import numpy as np

from prelabel.worker.arrays import Vectors
from prelabel.worker.vectors.records import Block, floats, pack, vectors_of


class MemoryStore:
    """An `EmbeddingStore` in a dictionary: gone with the process, and never full."""

    def __init__(self) -> None:
        self._records: dict[bytes, bytes] = {}
        self._stamps: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
        return {keys[at]: floats(rows)[0] for (at,), rows in self.blocks(keys)}

    def put(self, vectors: Mapping[bytes, Vectors]) -> None:
        self._records.update(pack(vectors))  # key and fp16 row with a checksum; leaves out what fp16 cannot hold

    def lookup(self, stamps: Sequence[bytes]) -> dict[bytes, bytes]:
        return {stamp: self._stamps[stamp] for stamp in stamps if stamp in self._stamps}

    def remember(self, stamps: Mapping[bytes, bytes]) -> None:
        self._stamps.update(stamps)

    def blocks(self, keys: Sequence[bytes], rows: int = 2048) -> Iterator[Block]:
        for position, key in enumerate(keys):
            if key in self._records:
                record = np.frombuffer(self._records[key], dtype=np.uint8)[np.newaxis]  # on disk: see `sound`
                yield Block(np.array([position]), vectors_of(record))

    def flush(self, timeout_s: float = 10.0) -> None: ...

    def close(self) -> None: ...


# --8<-- [end:store]

from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.schemas import ImageRef, Taxonomy
from prelabel.worker.delivering.pusher import JobPusher
from prelabel.worker.fetching.fetcher import Fetcher
from prelabel.worker.vectors.store import EmbeddingStore


@pytest.fixture
def archive(photo: Path, tmp_path: Path) -> Path:
    made = tmp_path / "photos.zip"
    with zipfile.ZipFile(made, "w") as opened:
        opened.write(photo, "a.jpg")
    return made


@pytest.fixture
def fetcher(settings: Settings):
    made = Fetcher(settings)
    made._readers["zip"] = ZipReader(settings).read
    yield made
    made.close()


def test_a_reader_reads_what_its_scheme_names(fetcher: Fetcher, archive: Path, photo: Path) -> None:
    assert fetcher.read(ImageRef(uri=f"zip:{archive}!a.jpg")) == photo.read_bytes()
    assert fetcher.fetch(ImageRef(uri=f"zip:{archive}!a.jpg"), lambda mark: ":" in mark).content is None


@pytest.mark.parametrize("inside", ["", "!b.jpg"])
def test_a_reader_says_what_can_never_be_read(fetcher: Fetcher, archive: Path, inside: str) -> None:
    with pytest.raises(ItemError, match=r"write zip:|no such file in it"):
        fetcher.read(ImageRef(uri=f"zip:{archive}{inside}"))


def test_a_platform_gets_every_answer_of_a_job(live: Client, stack, photo: Path) -> None:
    table: dict[tuple[str, str], str | None] = {}
    push = PushTarget(project=1, label_config="<View/>", hold=True)  # held: the worker has no such platform
    job = live.submit([str(photo)], Taxonomy.flat(["circle", "ring"]), push=push)
    (prediction,) = job.results(timeout=60)
    live.connection.redis.hset(f"prelabel:{{{job.id}}}:meta", "push_ready", 1)
    pusher = JobPusher(live.connection.store, connect_redis(stack.settings), stack.settings, TablePlatform(table))
    pusher.push(job.id)
    pusher.push(job.id)
    assert table == {(str(photo), prediction.model_version): prediction.label}
    assert job.progress().pushed == 1


def test_a_store_gives_back_what_was_put() -> None:
    store: EmbeddingStore = MemoryStore()
    a, b, c = (letter * 16 for letter in (b"a", b"b", b"c"))
    store.put({a: np.arange(3, dtype=np.float32), b: np.full(3, np.nan, dtype=np.float32)})
    store.remember({b"stamp": a})
    assert store.lookup([b"stamp", b"other"]) == {b"stamp": a}
    assert {key: row.tolist() for key, row in store.get([a, b, c]).items()} == {a: [0, 1, 2]}
    (block,) = store.blocks([c, a])
    assert (block.positions.tolist(), block.vectors.tolist()) == ([1], [[0, 1, 2]])
