"""The example of docs/python.md: a program that sorts photos, and its tests."""

from __future__ import annotations

# --8<-- [start:program]
from collections.abc import Iterable

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy


def cats(client: Client, photos: Iterable[str]) -> list[str]:
    """The photos that surely show a cat; what failed is tried once more."""
    job = client.submit(photos, Taxonomy.flat(["cat", "dog"]))
    job.wait(timeout=600)
    if job.retry_failed():
        job.wait(timeout=600)
    return [found.item.id for found in job.results() if found.label == "cat" and (found.confidence or 0) > 0.8]


# --8<-- [end:program]
# --8<-- [start:tests]
from prelabel.integrations.testing import MemoryClient
from prelabel.schemas import Control, Item, TransientError


def test_only_what_surely_is_a_cat_counts() -> None:
    def answer(item: Item, control: Control) -> dict[str, float]:
        return {"cat": 0.95, "dog": 0.05} if item.id == "s3://b/tom.jpg" else {"cat": 0.6, "dog": 0.4}

    assert cats(MemoryClient(answer), ["s3://b/tom.jpg", "s3://b/blurred.jpg"]) == ["s3://b/tom.jpg"]


def test_a_store_that_stumbles_is_asked_again() -> None:
    asked: list[str] = []

    def answer(item: Item, control: Control) -> str:
        asked.append(item.id)
        if len(asked) == 1:
            raise TransientError("the store is busy")
        return "cat"

    assert cats(MemoryClient(answer), ["s3://b/tom.jpg"]) == ["s3://b/tom.jpg"]
    assert len(asked) == 2


# --8<-- [end:tests]
