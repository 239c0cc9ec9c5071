"""docs/label-configs.md is true: every example, from task to result, through the worker's own scoring.

The same examples go through a real Label Studio in tests/label_studio_server/test_controls.py.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from prelabel.integrations.label_studio.convert.items import item_from_task
from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import JobSpec, Prediction
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.embedding.images import ImageEmbedder, LastFile
from prelabel.worker.embedding.items import EmbeddedItem, part_of
from prelabel.worker.embedding.texts import TextVectors
from prelabel.worker.fetching.reader import Fetched
from prelabel.worker.model.engine import Engine
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.scoring.job_scorer import JobScorers
from prelabel.worker.vectors.store import NoStore
from tests.cookbook import Example, examples, with_pictures, without_scores


class Scoring:
    """Tasks to results, with the demo checkpoint."""

    def __init__(self) -> None:
        encoder = load_encoder(load_settings(model=str(CHECKPOINT)), "demo@00000000")
        self.engine = Engine(encoder, 8)
        self.embedder = ImageEmbedder(
            self.engine,
            lambda image, _: Fetched(None, base64.b64decode(image.uri.partition(",")[2])),
            NoStore(),
            max_pixels=10**7,
            fetches=1,
            decodes=1,
            preprocessing="fast",
            urgent=False,
        )
        self.scorers = JobScorers(encoder, TextVectors(encoder, 1000))

    def __call__(self, example: Example) -> dict | None:
        config = LabelConfig.parse(example.config)
        task = {"id": 1, "data": with_pictures(example.data)}
        if example.annotation:
            task["annotations"] = [{"id": 1, "result": example.annotation}]
        item = item_from_task(task, config, None)
        scorer = self.scorers.get(example.name, JobSpec(controls=config.to_controls()))
        last = LastFile()
        embedded = {part_of(image): self.embedder.embed(image, last=last) for image, _ in scorer.wanted(item)}
        for one in embedded.values():
            one.vector.result(30)
        ready = [EmbeddedItem(item, embedded)]
        (outcome,) = scorer.score(ready).each(ready)
        return prediction_to_label_studio(Prediction(item=item, **dict(outcome)), config)


@pytest.fixture(scope="module")
def score() -> Iterator[Scoring]:
    made = Scoring()
    yield made
    made.embedder.close()
    made.engine.close()


@pytest.mark.parametrize("example", examples(), ids=lambda example: example.name)
def test_an_example_is_answered_as_the_cookbook_says(example: Example, score: Scoring) -> None:
    made = score(example)
    assert made is not None
    assert without_scores(made["result"]) == example.result
