"""Items that another job has answered: a chunk refers to them, and who works on it looks them up.

So scoring again costs its submitter next to nothing: Redis itself cuts the other job's results into chunks (`CUT`), and
no item passes through the submitter. What a worker finds is put in the chunk's place (`RESOLVE`): from then on the job
has its items itself, each image with the key of its stored vector, and needs the other one no more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from ...schemas.chunks import Chunk, SourceChunk
from ...schemas.errors import ConfigError, WireVersionError
from ...schemas.items import UNREADABLE, Item, slots_of
from ...schemas.model_version import ModelVersion
from ...schemas.predictions import Prediction
from ...schemas.queues import SOURCE_CHUNK_BYTES, SOURCE_CHUNK_ITEMS
from .answers import Outcomes, job_labels
from .entries import AT_ONCE, Entry, read_entries
from .keys import JobKeys
from .packing import unpack
from .source_scripts import CUT

_ENTRIES_AT_ONCE: Final = 512
_BYTES_AT_ONCE: Final = 4 * 2**20
"""Entries of the other job, and bytes in them, that Redis looks at in one step: some milliseconds."""

_KEPT_S: Final = 3600
"""Seconds the other job is kept at least once it has been cut: until its items have been looked up."""

_GONE: Final = "the job that it was answered in has expired: submit the image again"
_UNREADABLE: Final = "the job that it was answered in does not say which image it was: submit the image again"


Vectors: TypeAlias = Mapping[int, str] | Mapping[str, str]
"""Keys (hexadecimal) of an item's vectors by the place, or by the slot, of their image."""


class Added(NamedTuple):
    """What came of adding another job's items.

    Attributes:
        chunks: indices of the chunks that were added.
        submitted: items of the job so far.
        more: whether there may be more to add.
    """

    chunks: range
    submitted: int
    more: bool


class SourceCutter:
    """Appends chunks that refer to another job's answered items. Thread-safe.

    Args:
        client: Redis.
        ttl_s: seconds a finished job is kept.
    """

    def __init__(self, client: Any, ttl_s: int) -> None:
        self._ttl_s = ttl_s
        self._cut = client.register_script(CUT)

    def add(self, job_id: str, source_id: str, first_chunk: int) -> Added:
        """Add some of another job's items; a call that is repeated adds nothing twice.

        Args:
            job_id: the job that gets them.
            source_id: the job that has them. What fails there, or has no answer yet, is left out.
            first_chunk: as many chunks as the job has by the replies so far.

        Returns:
            What was added; nothing more to come where the job was cancelled.
        """
        keys, source = JobKeys(job_id), JobKeys(source_id)
        reply = self._cut(
            keys=[keys.meta, keys.chunks, keys.open, source.results, source.failed, source.chunks, *source.all()],
            args=[
                json.dumps(source_id),
                first_chunk,
                SOURCE_CHUNK_ITEMS,
                SOURCE_CHUNK_BYTES,
                _ENTRIES_AT_ONCE,
                _KEPT_S,
                self._ttl_s,
                _BYTES_AT_ONCE,
            ],
        )
        following, submitted, more = map(int, reply)
        return Added(range(first_chunk, following), submitted, bool(more))


def resolved(client: Any, chunk: SourceChunk, model: str | None) -> str:
    """The chunk itself, as JSON: with its items, which have the keys of their images' vectors.

    An item that cannot be had any more is there nevertheless, with the reason (`ImageRef.problem`).

    Args:
        client: Redis.
        chunk: refers to the items.
        model: `<model>@<revision8>` the vectors must come from; another one's have no key.

    Raises:
        WireVersionError: another release wrote them.
    """
    source = chunk.source
    items = list(_between(client, source.job, source.after, source.upto, model))[: source.count]
    items += [_missing(chunk.first + at, _GONE) for at in range(len(items), source.count)]
    if any("options" in item for item in items):  # they stand in a table, and every chunk has its own
        return Chunk(first=chunk.first, items=tuple(map(Item.model_validate, items))).to_json()
    return json.dumps({"first": chunk.first, "items": items}, ensure_ascii=False, separators=(",", ":"))


def _missing(ordinal: int, problem: str) -> dict[str, Any]:
    return {"id": f"item {ordinal}", "images": [{"uri": UNREADABLE, "problem": problem}]}


def answered_items(client: Any, job_id: str, after: str, model: str) -> tuple[str, list[Item]]:
    """Some of the items that a job has answered, each image with the key of its stored vector.

    Ten times as fast as reading the predictions: nothing of the answers is looked at.

    Args:
        client: Redis.
        job_id: the job.
        after: the id of the entry of its results behind which they begin; "0" is the start.
        model: as for `resolved`.

    Returns:
        The id of the last entry looked at, `after` when there is none; and the items.

    Raises:
        ConfigError: another release wrote them.
    """
    end, found = read_entries(client, job_id, after, None, AT_ONCE)
    spec = client.hget(JobKeys(job_id).meta, "spec") if found else None
    if spec is None:
        return after, []
    entries = [Entry.of(fields) for _, fields in found]
    return end, [Item.model_validate(item) for item in _items(client, job_id, entries, spec, model)]


def _between(client: Any, job_id: str, after: str, upto: str, model: str | None) -> Iterator[dict[str, Any]]:
    """The answered items of a job between two entries, as JSON objects; none when it has expired."""
    keys = JobKeys(job_id)
    with client.pipeline(transaction=False) as pipe:
        pipe.xrange(keys.results, _following(after), upto)
        pipe.hget(keys.meta, "spec")
        found, spec = pipe.execute()
    if found and spec is not None:
        yield from _items(client, job_id, [Entry.of(fields) for _, fields in found], spec, model)


def _items(
    client: Any, job_id: str, entries: Sequence[Entry], spec: bytes, model: str | None
) -> Iterator[dict[str, Any]]:
    wanted = list({entry.chunk for entry in entries})
    chunks = dict(zip(wanted, client.hmget(JobKeys(job_id).chunks, wanted), strict=True))
    by_ordinal = {index: _by_ordinal(text) for index, text in chunks.items()}
    for entry in entries:
        items = by_ordinal[entry.chunk]
        # Answers whose chunk is not there were read just before the job expired.
        problem = _UNREADABLE if chunks[entry.chunk] else _GONE
        for ordinal, vectors, version in _answered(entry, spec):
            item = items.get(ordinal)
            yield (
                _missing(ordinal, problem) if item is None else _with(item, vectors if _is_of(version, model) else {})
            )


@lru_cache(maxsize=64)
def _is_of(version: str, model: str | None) -> bool:
    made_by = ModelVersion.parse(version)
    return model is None or (made_by is not None and made_by.model == model)


def _following(after: str) -> str:
    """The first stream id behind one."""
    moment, _, number = after.partition("-")
    return f"{moment}-{int(number or 0) + 1}"


def _by_ordinal(text: bytes | None) -> Mapping[int, dict[str, Any]]:
    """The items of a chunk as JSON objects; none where it is not there, or cannot be read."""
    try:
        chunk = json.loads(text or b"{}")
        items = chunk.get("items", [])
        if "options" in chunk:  # beside the items: only who knows what a chunk is puts them together again
            items = [item.model_dump(mode="json", exclude_defaults=True) for item in Chunk.from_json(text or b"").items]
        first = chunk.get("first", 0)
        ordinals: Sequence[int] = chunk.get("ordinals") or range(first, first + len(items))
        return dict(zip(ordinals, items, strict=True))
    except (ValueError, AttributeError, TypeError, ConfigError):
        return {}


def _answered(entry: Entry, spec: bytes) -> Iterator[tuple[int, Vectors, str]]:
    """Each answered item's ordinal, the keys of its vectors by place or slot of the image, and its answers' version."""
    try:
        if not entry.is_record:
            outcome = unpack(entry.data, spec)
            if outcome.answers:
                yield entry.ordinals[0], dict(outcome.vectors), outcome.model_version
            return
        columns = entry.columns()
    except WireVersionError:
        raise
    except ConfigError:
        # Of a record the items are there, and fail for want of their vectors. Of one that stands alone nobody knows
        # whether it was an answer.
        for ordinal in entry.ordinals if entry.is_record else ():
            yield ordinal, {}, ""
        return
    outcomes = Outcomes(columns, job_labels(spec))
    for ordinal, row in zip(entry.ordinals, entry.rows, strict=True):
        yield ordinal, dict(outcomes.keys(row)), columns.model_version


def _with(item: dict[str, Any], vectors: Vectors) -> dict[str, Any]:
    """The item with the keys of its images' vectors."""
    images = item["images"]
    if len(images) == 1 and (key := _get(vectors, 0)):
        return {**item, "images": [{**images[0], "vector": key}]}
    slots = slots_of(image.get("name") or "" for image in images)
    keyed = []
    for place, (image, slot) in enumerate(zip(images, slots, strict=True)):
        key = _get(vectors, place) or _get(vectors, slot) or (_get(vectors, "") if place == 0 else None)
        keyed.append({**image, "vector": key} if key else {name: image[name] for name in image if name != "vector"})
    return {**item, "images": keyed}


def _get(vectors: Mapping[Any, str], which: int | str) -> str | None:
    return vectors.get(which)


def with_vectors(prediction: Prediction, model: str | None) -> Item:
    """A prediction's item with the keys of its images' vectors; without them where another model has made it.

    Args:
        prediction: with an answer.
        model: as for `resolved`.
    """
    item, vectors = prediction.item, prediction.vectors if _is_of(prediction.model_version, model) else {}
    images = []
    for place, (image, slot) in enumerate(zip(item.images, item.slots(), strict=True)):
        key = vectors.get(slot) or (vectors.get("") if place == 0 else None)
        images.append(image.model_copy(update={"vector": key}))
    return item.model_copy(update={"images": tuple(images)})
