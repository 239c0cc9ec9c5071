"""The right answer about one image, the slow way: no threads, no queue, no batch."""

from __future__ import annotations

import numpy as np

from prelabel.schemas import Answer, Region, Settings, Taxonomy
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.similarity import pair_logits
from prelabel.worker.vectors.records import as_stored
from tests.answers_oracle import SlowAnswerer


def right_answer(
    encoder: Encoder, taxonomy: Taxonomy, data: bytes, settings: Settings, region: Region | None = None
) -> Answer:
    exact = settings.preprocessing == "exact"
    pixels = decode_pixels(data, max_pixels=settings.max_image_pixels, region=region, exact=exact)
    vectors = as_stored(encoder.images.encode(np.expand_dims(encoder.images.prepare(pixels), 0)))
    texts = TextVectors(encoder, settings.text_cache).matrix(taxonomy)
    return SlowAnswerer(taxonomy)(pair_logits(vectors, texts, encoder.card.logit_scale, encoder.card.logit_bias)[0])
