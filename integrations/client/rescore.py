"""Scoring again from stored vectors: a new taxonomy for images that were embedded before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ...schemas.items import Item
from ...schemas.model_version import model_of
from ...schemas.predictions import Prediction


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
        yield prediction.item if model_of(prediction) != model else _with_vectors(prediction)


def _with_vectors(prediction: Prediction) -> Item:
    item, vectors = prediction.item, prediction.vectors
    images = []
    for place, (image, slot) in enumerate(zip(item.images, item.slots(), strict=True)):
        key = vectors.get(slot) or (vectors.get("") if place == 0 else None)
        images.append(image.model_copy(update={"vector": key}))
    return item.model_copy(update={"images": tuple(images)})
