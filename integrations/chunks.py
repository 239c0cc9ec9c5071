"""Cutting a stream of items into chunks, the unit of queueing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ..schemas.items import Chunk, Item
from ..schemas.names import CHUNK_BYTES, CHUNK_ITEMS
from ..schemas.predictions import Prediction

_T = TypeVar("_T")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def make_chunks(items: Iterable[Item]) -> Iterator[Chunk]:
    """Cut a stream of items into chunks of at most 64 items and 64 KiB of JSON (a larger item goes alone)."""
    first = 0
    for batch in _cut(items, _json_size):
        yield Chunk(first=first, items=tuple(batch))
        first += len(batch)


def retry_batches(failed: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    """Cut failed predictions as `make_chunks` cuts items."""
    return _cut(failed, lambda prediction: _json_size(prediction.item))


def _cut(things: Iterable[_T], size_of: Callable[[_T], int]) -> Iterator[list[_T]]:
    held: list[_T] = []
    held_bytes = 0
    for thing in things:
        size = size_of(thing)
        if held and (len(held) >= CHUNK_ITEMS or held_bytes + size > CHUNK_BYTES):
            yield held
            held, held_bytes = [], 0
        held.append(thing)
        held_bytes += size
    if held:
        yield held


def _json_size(item: Item) -> int:
    """About the bytes of its JSON."""
    return sum(len(image.uri) for image in item.images) + len(item.id) + 80


def absolute_item(item: Item) -> Item:
    """The item with local paths made absolute: the worker's current folder is another one."""
    if all(_SCHEME.match(image.uri) for image in item.images):
        return item
    images = tuple(
        image
        if _SCHEME.match(image.uri)
        else image.model_copy(update={"uri": str(Path(image.uri).expanduser().absolute())})
        for image in item.images
    )
    return item.model_copy(update={"images": images})
