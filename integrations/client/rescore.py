"""Scoring again from stored vectors: a new taxonomy for images that were embedded before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...schemas.items import Item


def each_once(items: Iterable[Item]) -> Iterator[Item]:
    """Of items with the same id the first.

    Args:
        items: of any jobs.
    """
    seen: set[str] = set()
    for item in items:
        if item.id not in seen:
            seen.add(item.id)
            yield item
