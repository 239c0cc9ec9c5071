"""Scoring without a queue: files in, predictions out, in this process. Behind `prelabel score`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from ...schemas.errors import PrelabelError
from ...schemas.items import ImageRef, Item
from ...schemas.jobs import Control
from ...schemas.model_version import model_version
from ...schemas.predictions import ItemFailure, Prediction
from ...schemas.settings import Settings
from ...schemas.taxonomy import Taxonomy
from ..decoding.pixels import decode_pixels
from ..embedding.texts import TextVectors
from ..model.encoder import Encoder
from ..model.similarity import pair_logits
from .answers import Answerer


def score_images(
    items: Iterable[Item],
    taxonomy: Taxonomy,
    *,
    encoder: Encoder,
    fetch: Callable[[ImageRef], bytes],
    settings: Settings,
    top_k: int | None = 20,
) -> Iterator[Prediction]:
    """Score each item's first image, one after the other, as they are asked for.

    Args:
        items: what to score.
        taxonomy: what to answer with.
        encoder: the model.
        fetch: reads an image's bytes.
        settings: caps on images.
        top_k: scores kept; None keeps all.
    """
    answerer = Answerer(taxonomy, top_k=top_k)
    texts = TextVectors(encoder, settings.text_cache).matrix(taxonomy)
    version = model_version(encoder.model_id, [Control(taxonomy=taxonomy)])
    for ordinal, item in enumerate(items):
        image = item.images[0]
        try:
            decoded = decode_pixels(
                fetch(image),
                max_pixels=settings.max_image_pixels,
                region=image.region,
                exact=settings.preprocessing == "exact",
                scaled=settings.preprocessing == "scaled",
            )
            vectors = encoder.encode_images(np.expand_dims(encoder.prepare(decoded), 0))
        except PrelabelError as error:
            failure = ItemFailure(kind=type(error).__name__, message=str(error))
            yield Prediction(item=item, ordinal=ordinal, error=failure)
            continue
        logits = pair_logits(vectors, texts, encoder.logit_scale, encoder.logit_bias)[0]
        yield Prediction(item=item, ordinal=ordinal, model_version=version, answers=(answerer(logits),))
