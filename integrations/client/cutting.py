"""Cutting a stream of items into chunks, the unit of queueing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from ...schemas.chunks import Chunk
from ...schemas.errors import ConfigError
from ...schemas.items import ImageRef, Item
from ...schemas.predictions import Prediction
from ...schemas.queues import CHUNK_BYTES, CHUNK_ITEMS
from ...schemas.references import SCHEME
from .arguments import Source

_T = TypeVar("_T")


def make_chunks(items: Iterable[Item]) -> Iterator[Chunk]:
    """Cut a stream of items into chunks of at most 64 items and 64 KiB of JSON (a larger item goes alone)."""
    first = 0
    for batch in _cut(items, lambda item: item):
        yield Chunk(first=first, items=tuple(batch))
        first += len(batch)


def retry_batches(failed: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    """Cut failed predictions as `make_chunks` cuts items."""
    return _cut(failed, lambda prediction: prediction.item)


def _cut(things: Iterable[_T], item_of: Callable[[_T], Item]) -> Iterator[list[_T]]:
    held: list[_T] = []
    held_bytes = 0
    shared: set[str] = set()
    for thing in things:
        size = _json_size(item_of(thing), shared)
        if held and (len(held) >= CHUNK_ITEMS or held_bytes + size > CHUNK_BYTES):
            yield held
            held, held_bytes, shared = [], 0, set()
            size = _json_size(item_of(thing), shared)
        held.append(thing)
        held_bytes += size
    if held:
        yield held


def _json_size(item: Item, shared: set[str]) -> int:
    """About the bytes it adds to its chunk's JSON; options already among the `shared` add nothing."""
    size = sum(_image_size(image) for image in item.images) + len(item.id) + 80
    for options in item.options.values():
        if options.digest not in shared:
            shared.add(options.digest)
            size += len(options.json_text)
    return size


def _image_size(image: ImageRef) -> int:
    about_region = 140 + len(image.origin.stored) if image.origin else 0
    mask = image.region.mask if image.region else None
    return len(image.uri) + about_region + (len(mask.model_dump_json()) if mask else 0)


def item_of(source: Source) -> Item:
    """The item a caller means, with local paths made absolute: the worker's current folder is another one.

    Raises:
        ConfigError: see `Item.of`.
    """
    if not isinstance(source, (ImageRef, Item)):
        reference = os.fspath(source) if isinstance(source, os.PathLike) else source
        if isinstance(reference, str):  # before bytes that are no UTF-8 make a URI of it
            item = Item.of(reference)
            path = _absolute(reference)
            return item if path is None else item.model_copy(update={"images": Item.of(path).images})
    item = Item.of(source)
    if all(SCHEME.match(image.uri) for image in item.images):
        return item
    images = tuple(
        image if (path := _absolute(image.uri)) is None else image.model_copy(update={"uri": path})
        for image in item.images
    )
    return item.model_copy(update={"images": images})


def _absolute(reference: str) -> str | None:
    """A local path's absolute form; None for a URI."""
    if SCHEME.match(reference):
        return None
    try:
        return str(Path(reference).expanduser().absolute())
    except RuntimeError:  # ~ of nobody: a file may be called that
        return str(Path(reference).absolute())
    except FileNotFoundError:
        raise ConfigError(f"{reference} is a path below the current folder, which is gone: change to another") from None
