"""The catalogue of a Label Studio project: which vector each image of its tasks has, for searching it later.

Jobs are forgotten after some days; a project's catalogue stays as long as the project is connected. It is one Redis
string, to which the script that writes outcomes appends what it wrote (`scripts.COMPLETE`). All numbers are
little-endian. It begins with a head of 40 bytes

    0       20      `prelabel catalogue 1`
    20      u32     rows there were when it was last written anew
    24      16      random: another catalogue of the same project has another

and goes on with rows of 40 bytes, one for each image

    0       u64     the task's number
    8       u64     what the image is: the beginning of BLAKE2b of its address without scheme and host, and its region
    16      u32     the first chosen label: CRC-32 (as in zlib) of its path's names joined by U+001F; 0 for none
    20      u16     bits 0 to 14: the image's place in its item; bit 15: the first row of an outcome
    22      u16     the confidence, in 65535ths
    24      16      the key of its stored vector; zeros: the task has no images any more

An outcome takes the place of all earlier ones of its task, so the rows of a task that count are those from the last one
on that has bit 15.
"""

from __future__ import annotations

import hashlib
import secrets
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from ...schemas.errors import ConfigError
from ...schemas.items import ImageRef, Item
from ...schemas.predictions import Outcome
from ...schemas.taxonomy import LabelPath
from .answers import JobLabels, Outcomes, job_labels
from .columns import NO_INDEX, Columns
from .entries import AT_ONCE, Entry, read_entries
from .keys import JobKeys
from .packing import unpack

CONNECTED: Final = "prelabel:label_studio:projects"
"""Set: numbers of the Label Studio projects that are served; only these have a catalogue."""

ROW: Final = struct.Struct("<QQIHH16s")
"""One row; see the module."""

FIRST: Final = 1 << 15
"""Bit of the place that says: the first row of its outcome."""

_HEAD: Final = struct.Struct("<20sI16s")
_NAME: Final = b"prelabel catalogue 1"
_HEAD_BYTES: Final = _HEAD.size
_FEW_ROWS: Final = 1_000
_MOST_ROWS: Final = 2
"""Rows for each one there was when it was last written anew, beyond which it is looked through for what counts."""
_READ_AT_ONCE: Final = 100_000 * ROW.size

# KEYS: catalogue. ARGV: the end of the head it is to have, the length it is to have, its new content. Returns 1 when it
# was so.
_REPLACE: Final = """
if redis.call('GETRANGE', KEYS[1], 24, 39) ~= ARGV[1] or redis.call('STRLEN', KEYS[1]) ~= tonumber(ARGV[2]) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[3])
return 1
"""

# KEYS: catalogue. ARGV: rows. Appends them where there is a catalogue.
_APPEND: Final = """
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('APPEND', KEYS[1], ARGV[1]) end
"""


class Tail(NamedTuple):
    """What has come to a catalogue since somebody looked.

    Attributes:
        rows: of 40 bytes each, in the order they came.
        position: up to where they go; what to ask with next.
        anew: these are all there are: what was read before counts no more.
    """

    rows: bytes
    position: str
    anew: bool


def catalogue_key(project: int) -> str:
    """String: the catalogue of a Label Studio project."""
    return f"prelabel:label_studio:{{{project}}}:vectors"


def new_head(rows: int = 0) -> bytes:
    """What a catalogue begins with that is written with so many rows."""
    return _HEAD.pack(_NAME, min(rows, 2**32 - 1), secrets.token_bytes(16))


def image_mark(image: ImageRef) -> int:
    """What tells an image, or a region of one, from another; 64 bits, never 0.

    The host is left out: adapters and workers may reach Label Studio by different names.
    """
    try:
        parts = urlsplit(image.uri)
        address = f"{parts.path}?{parts.query}" if parts.scheme in ("http", "https") else image.uri
    except ValueError:
        address = image.uri
    digest = hashlib.blake2b(digest_size=8, person=b"prelabel.place")
    digest.update(address.encode(errors="surrogatepass"))
    if image.region is not None:
        digest.update(b"\0" + image.region.model_dump_json(exclude_none=True).encode())
    return int.from_bytes(digest.digest(), "little") or 1


def label_code(path: LabelPath) -> int:
    """What stands for a label in a row; never 0."""
    return zlib.crc32("\x1f".join(path).encode(errors="surrogatepass")) or 1


def outcome_rows(item: Item, outcome: Outcome) -> bytes:
    """The rows of one item's outcome; none where it has no vectors or the item is no task."""
    if not outcome.vectors or not item.id.isdecimal():
        return b""
    places = {slot: place for place, slot in enumerate(item.slots())}
    keys = [(places[slot], bytes.fromhex(key)) for slot, key in outcome.vectors.items() if slot in places]
    first = outcome.answers[0].control if outcome.answers else ""
    told = {
        answer.index: (label_code(answer.paths[0]) if answer.paths else 0, answer.confidence)
        for answer in reversed(outcome.answers)
        if answer.control == first
    }
    return _rows(int(item.id), sorted(keys), told, item)


def record_rows(columns: Columns, items: Sequence[Item], labels: JobLabels) -> list[bytes]:
    """The rows of each of the items that were answered together, as `outcome_rows` makes them.

    Args:
        columns: their answers.
        items: as many as those are of.
        labels: of their job.
    """
    outcomes = Outcomes(columns, labels)
    told = _told(columns, labels, items.__getitem__)
    return [
        _rows(int(item.id), _keys(outcomes, at), told.get(at, {}), item) if item.id.isdecimal() else b""
        for at, item in enumerate(items)
    ]


def images_by_task(rows: bytes) -> dict[int, int]:
    """What images each task has by its last outcome: the exclusive or of their `image_mark`s.

    Args:
        rows: of a catalogue, in the order they came.
    """
    images: dict[int, int] = {}
    for task, mark, _, place, _, key in ROW.iter_unpack(rows):
        before = 0 if place & FIRST else images.get(task, 0)
        images[task] = before ^ (mark if any(key) else 0)
    return images


def job_tail(client: Any, job_id: str, position: str) -> Tail:
    """Rows of what a job has answered since somebody looked: its items' ordinals stand for tasks' numbers.

    What a row's image is, is not told (0); nor is the label where the items bring labels of their own.

    Args:
        client: Redis.
        job_id: the job.
        position: from an earlier call; empty is the start.

    Raises:
        ConfigError: another release wrote the job.
    """
    after = position or "0"
    rows: list[bytes] = []
    spec = client.hget(JobKeys(job_id).meta, "spec")
    while spec is not None:
        end, found = read_entries(client, job_id, after, None, AT_ONCE)
        for _, fields in found:
            rows += _entry_rows(Entry.of(fields), spec)
        if end == after:
            break
        after = end
    return Tail(b"".join(rows), after, not position)


class Catalogue:
    """The catalogues of projects. Thread-safe; its methods raise what redis-py raises.

    Args:
        client: Redis.
    """

    def __init__(self, client: Any) -> None:
        self._redis = client
        self._replace = client.register_script(_REPLACE)
        self._append = client.register_script(_APPEND)

    def is_kept(self, project: int) -> bool:
        """Whether the project is connected."""
        return bool(self._redis.sismember(CONNECTED, project))

    def tail(self, project: int, position: str) -> Tail:
        """What has come since somebody looked.

        Args:
            project: the project's number.
            position: from an earlier call; empty is the start.
        """
        key = catalogue_key(project)
        head = self._redis.getrange(key, 0, _HEAD_BYTES - 1)
        if len(head) < _HEAD_BYTES or not head.startswith(_NAME):
            return Tail(b"", "", bool(position))
        epoch, at = _read(position)
        anew = epoch != head[-16:]
        at = _HEAD_BYTES if anew else at
        parts = []
        while part := self._redis.getrange(key, at, at + _READ_AT_ONCE - 1):
            part = part[: len(part) // ROW.size * ROW.size]
            parts.append(part)
            at += len(part)
            if len(part) < _READ_AT_ONCE:
                break
        return Tail(b"".join(parts), f"{head[-16:].hex()}:{at}", anew)

    def forget(self, project: int, tasks: Iterable[int]) -> None:
        """Say that tasks are gone: they are found no more."""
        rows = b"".join(ROW.pack(task, 0, 0, FIRST, 0, bytes(16)) for task in tasks)
        if rows:
            self._append(keys=[catalogue_key(project)], args=[rows])

    def replace(self, project: int, position: str, rows: bytes) -> str | None:
        """Put fewer rows in the place of all, unless some came meanwhile.

        Args:
            project: the project's number.
            position: up to where the catalogue was read.
            rows: those that count.

        Returns:
            The position behind them; None where nothing was replaced.
        """
        epoch, at = _read(position)
        head = new_head(len(rows) // ROW.size)
        replaced = self._replace(keys=[catalogue_key(project)], args=[epoch, at, head + rows])
        return f"{head[-16:].hex()}:{_HEAD_BYTES + len(rows)}" if replaced else None

    def shorten(self, project: int) -> bool:
        """Leave out what counts no more, where that may be half: a project may be scored again without a search.

        Returns:
            Whether it was written anew.
        """
        key = catalogue_key(project)
        head = self._redis.getrange(key, 0, _HEAD_BYTES - 1)
        count = (self._redis.strlen(key) - _HEAD_BYTES) // ROW.size
        if len(head) < _HEAD_BYTES or count <= max(_FEW_ROWS, _MOST_ROWS * _HEAD.unpack(head)[1]):
            return False
        tail = self.tail(project, "")
        return self.replace(project, tail.position, _counting(tail.rows)) is not None


def _counting(rows: bytes) -> bytes:
    """The rows of each task's last outcome, in their order; none of tasks that have no images any more."""
    first: dict[int, int] = {}
    for at, (task, _, _, place, _, _) in enumerate(ROW.iter_unpack(rows)):
        if place & FIRST:
            first[task] = at
    kept, counts = [], False
    for at, (task, _, _, place, _, key) in enumerate(ROW.iter_unpack(rows)):
        if place & FIRST:
            counts = first[task] == at and any(key)
        if counts:
            kept.append(rows[at * ROW.size : (at + 1) * ROW.size])
    return b"".join(kept)


def _read(position: str) -> tuple[bytes, int]:
    epoch, _, at = position.partition(":")
    return bytes.fromhex(epoch), int(at or 0)


def _entry_rows(entry: Entry, spec: bytes) -> Iterator[bytes]:
    try:
        if not entry.is_record:
            outcome = unpack(entry.data, spec)
            keys = [(place, bytes.fromhex(key)) for place, key in enumerate(outcome.vectors.values())]
            answer = outcome.answers[0] if outcome.answers else None
            told = (label_code(answer.paths[0]) if answer.paths else 0, answer.confidence) if answer else (0, 0.0)
            yield _rows(entry.ordinals[0], keys, {None: told}, None)
            return
        columns, labels = entry.columns(), job_labels(spec)
    except ConfigError:  # damaged: what is not there is not found
        return
    outcomes, told_of = Outcomes(columns, labels), _told(columns, labels, lambda _: None)
    for ordinal, row in zip(entry.ordinals, entry.rows, strict=True):
        yield _rows(ordinal, _keys(outcomes, row), told_of.get(row, {}), None)


_Told = Mapping[int | None, tuple[int, float]]
"""By `Answer.index`: the code of the first chosen label, and the confidence."""


def _keys(outcomes: Outcomes, at: int) -> list[tuple[int, bytes]]:
    return [(place, bytes.fromhex(key)) for place, key in outcomes.keys(at)]


def _told(columns: Columns, labels: JobLabels, item_of: Callable[[int], Item | None]) -> dict[int, _Told]:
    """What the first control was answered with, by item."""
    told: dict[int, dict[int | None, tuple[int, float]]] = {}
    for answers in columns.answers:
        if answers.place:
            continue
        chosen = 0
        for row, count in enumerate(answers.chosen_counts):
            at = row if answers.items is None else answers.items[row]
            index = None if answers.indices is None else answers.indices[row]
            paths = labels.paths(answers, item_of(at)) if count else ()
            code = label_code(paths[answers.chosen[chosen]]) if paths else 0
            told.setdefault(at, {})[None if index == NO_INDEX else index] = (code, answers.confidences[row])
            chosen += count
    return dict(told)


def _rows(number: int, keys: Sequence[tuple[int, bytes]], told: _Told, item: Item | None) -> bytes:
    rows: list[bytes] = []
    for place, key in keys:
        code, confidence = told.get(_index(item, place)) or told.get(None) or (0, 0.0)
        mark = 0 if item is None else image_mark(item.images[place])
        flagged = min(place, FIRST - 1) | (0 if rows else FIRST)
        rows.append(ROW.pack(number, mark, code, flagged, round(min(1.0, max(0.0, confidence)) * 0xFFFF), key))
    return b"".join(rows)


def _index(item: Item | None, place: int) -> int:
    """The place of an image among those of its name."""
    if item is None:
        return place
    name = item.images[place].name
    return sum(image.name == name for image in item.images[:place])
