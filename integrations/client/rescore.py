"""Scoring again from stored vectors: a new taxonomy for images that were embedded before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...schemas.items import Item
from ...schemas.model_version import model_of
from ...schemas.predictions import Prediction
from ..ledger.sources import with_vectors


def stored_items(predictions: Iterable[Prediction], model: str) -> Iterator[Item]:
    """The items that have an answer, each image with the key of its stored vector; each item id once.

    Args:
        predictions: of any jobs; of several with one item id the first counts.
        model: the model the vectors must come from; another one's images go without a vector.
    """
    seen: set[str] = set()
    for prediction in predictions:
        if not prediction.ok or prediction.item.id in seen:
            continue
        seen.add(prediction.item.id)
        yield prediction.item if model_of(prediction) != model else with_vectors(prediction)
