"""Scoring without a queue: a worker's own parts in this process, items in, predictions out. Behind `prelabel score`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future

from ...schemas.errors import ScorerError
from ...schemas.items import Item
from ...schemas.jobs import Control, JobSpec
from ...schemas.predictions import Outcome, Prediction
from ...schemas.settings import Settings
from ..embedding.images import Fetch, bulk_embedder
from ..embedding.items import ItemImages, embed_item
from ..embedding.texts import TextVectors
from ..model.encoder import Encoder
from ..model.engine import Engine
from ..vectors.store import NoStore
from .failures import failure
from .job_scorer import JobScorer, JobScorers

_BATCH = 8
"""Images per forward pass where the settings name none: the search for the best takes longer than a few images do."""


def score_items(
    items: Iterable[Item],
    controls: Sequence[Control],
    *,
    encoder: Encoder,
    fetch: Fetch,
    settings: Settings,
    top_k: int | None = 20,
) -> Generator[Prediction, None, None]:
    """Score items as a worker does, in their order, a few of them ahead of whoever takes the predictions.

    What goes wrong with an item is its prediction's error. Nothing is tried again later, and no vector is stored. The
    threads end with the generator: close it when it is not taken to its end.

    Args:
        items: what to score; taken as their turn comes.
        controls: what is asked of each.
        encoder: the model.
        fetch: reads an image's bytes.
        settings: caps on images, threads and batches.
        top_k: scores kept per control; None keeps all.

    Raises:
        ScorerError: the model fails, or has no memory for the controls' labels.
    """
    spec = JobSpec(controls=tuple(controls), top_k=top_k)
    batch_size = settings.batch_size or _BATCH
    engine = Engine(encoder, batch_size)
    embedder = bulk_embedder(engine, fetch, NoStore(), settings)
    over = threading.Event()
    # Each thread has an image, one batch is on the device and one waits: more ahead would only take memory.
    ahead = 2 * batch_size + settings.fetch_threads

    def begin(item: Item) -> Future[ItemImages]:
        done: Future[ItemImages] = Future()
        embedder.run(lambda one: embed_item(embedder, scorer.wanted, one, done.set_result, over.is_set), deque([item]))
        return done

    try:
        scorer = JobScorers(encoder, TextVectors(encoder, settings.text_cache)).get("", spec)
        under_way: deque[Future[ItemImages]] = deque()
        ordinal = 0
        for item in items:
            under_way.append(begin(item))
            if len(under_way) >= ahead:
                yield _prediction(ordinal, under_way.popleft().result(), scorer, engine)
                ordinal += 1
        while under_way:
            yield _prediction(ordinal, under_way.popleft().result(), scorer, engine)
            ordinal += 1
    finally:
        over.set()
        engine.close(drop=True)
        embedder.close(wait=True)


def _prediction(ordinal: int, images: ItemImages, scorer: JobScorer, engine: Engine) -> Prediction:
    outcome = _outcome(images, scorer, engine)
    return Prediction(
        item=images.item,
        ordinal=ordinal,
        model_version=outcome.model_version,
        answers=outcome.answers,
        unanswered=outcome.unanswered,
        error=outcome.error,
    )


def _outcome(images: ItemImages, scorer: JobScorer, engine: Engine) -> Outcome:
    try:
        embedded = images.scorable(lambda _: engine.broken)
    except Exception as error:
        if isinstance(error, ScorerError) and engine.broken:
            raise
        return failure(error)
    (scored,) = scorer.score([embedded]).each([embedded])
    return scored if isinstance(scored, Outcome) else failure(scored)
