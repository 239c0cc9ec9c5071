"""Jobs whose right answers are known, and the comparison item by item."""

from __future__ import annotations

import random
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.integrations.ledger.entries import Block, Predictions
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.schemas import Answer, ImageRef, Item, Outcome, Settings
from prelabel.worker.demo.shapes import COLOURS, draw, sample_scene
from tests.faults.report import Report
from tests.oracle import right_answer

LABEL_CONFIG = (
    '<View><Image name="image" value="$image"/><Choices name="colour" toName="image">'
    + "".join(f'<Choice value="{colour}"/>' for colour in COLOURS)
    + "</Choices></View>"
)
CONTROLS = LabelConfig.parse(LABEL_CONFIG).to_controls()
_PICTURES = 40
_MARGIN = 0.02
"""Between the best two probabilities: a picture any closer could turn with the batch it is in."""

Right = str | frozenset[str]
"""The label, or the kinds of error that are right for a bad item."""


@dataclass
class Work:
    """Items and what is right for each, by ordinal."""

    items: list[Item] = field(default_factory=list)
    right: list[Right] = field(default_factory=list)

    def add(self, source: str | Item, right: Right) -> int:
        """Append an item. Returns its ordinal."""
        self.items.append(Item.of(source))
        self.right.append(right)
        return len(self.items) - 1


class Truth:
    """Pictures, and what this process itself answers for them.

    Attributes:
        labels: the right label of each picture.
        pictures: their files.
    """

    def __init__(self, directory: Path, settings: Settings) -> None:
        from prelabel.integrations.client.checkpoint import settings_model_id
        from prelabel.worker.model.registry import load_encoder

        self._settings = settings
        self._encoder = load_encoder(settings, settings_model_id(settings))
        rng = np.random.default_rng(11)
        paths = [directory / f"picture-{number:02d}.jpg" for number in range(_PICTURES)]
        for path in paths:
            draw(sample_scene(rng)).save(path, quality=90)
        self.labels = {
            path: answer.paths[0][-1]
            for path, answer in ((path, self._answer(path)) for path in paths)
            if answer.paths and answer.scores[0].probability - answer.scores[1].probability > _MARGIN
        }
        self.pictures = list(self.labels)
        assert len(set(self.labels.values())) >= 4, "one label for everything would hide a mix-up"

    def _answer(self, path: Path) -> Answer:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
            return right_answer(self._encoder, CONTROLS[0].taxonomy, path.read_bytes(), self._settings)

    def label_of(self, path: Path) -> str:
        """The right label of another picture."""
        return self._answer(path).paths[0][-1]

    def work(self, count: int, rng: random.Random, prefix: str = "", tasks: bool = False) -> Work:
        """Good items in random order.

        Args:
            count: how many.
            rng: chooses the pictures.
            prefix: put before a picture's file name, for a server; its path is the reference else.
            tasks: name the items by number, as Label Studio's tasks are.
        """
        made = Work()
        for number in range(1, count + 1):
            path = rng.choice(self.pictures)
            uri = f"{prefix}{path.name}" if prefix else str(path)
            item = Item(id=str(number) if tasks else "", images=(ImageRef(uri=uri),))
            made.add(item, self.labels[path])
        return made


def outcomes(redis: Any, job_id: str) -> Iterable[tuple[int, Outcome]]:
    """Everything in a job's results stream, ordinal and outcome, as it lies there."""
    keys = JobKeys(job_id)
    after, spec = "-", _bytes(redis.hget(keys.meta, "spec"))
    while page := redis.xrange(keys.results, after, "+", count=500):
        entries = [{_bytes(name): _bytes(value) for name, value in fields.items()} for _, fields in page]
        chunks = {index: redis.hget(keys.chunks, index) for index in {fields[b"c"] for fields in entries}}
        texts = {index: None if text is None else _bytes(text) for index, text in chunks.items()}
        for prediction in Predictions([Block.of(fields, spec) for fields in entries], texts):
            yield prediction.ordinal, prediction
        after = f"({page[-1][0]}"


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def compare(redis: Any, job_id: str, right: Sequence[Right], report: Report, *, partial: bool = False) -> None:
    """Add to the report what is missing, doubled or wrong in a job.

    Args:
        redis: where the job is.
        job_id: the job.
        right: what is right, by ordinal.
        report: what to add to.
        partial: items without an outcome are right too (a cancelled job).
    """
    seen: Counter[int] = Counter()
    for ordinal, outcome in outcomes(redis, job_id):
        seen[ordinal] += 1
        if seen[ordinal] == 1 and not _is_right(outcome, right[ordinal]):
            report.wrong += 1
            report.note(f"item {ordinal} is {outcome.error or outcome.answers[0].paths}, not {right[ordinal]}")
    missing = [ordinal for ordinal in range(len(right)) if ordinal not in seen]
    doubled = {ordinal: count for ordinal, count in seen.items() if count > 1}
    if missing and not partial:
        report.lost += len(missing)
        report.note(f"no outcome for items {missing[:20]}")
    if doubled:
        report.doubled += sum(doubled.values()) - len(doubled)
        report.note(f"several outcomes for items {dict(list(doubled.items())[:20])}")
    report.items += len(seen) if partial else len(right)
    leased, submitted, more = redis.hmget(JobKeys(job_id).meta, "leased", "next_chunk", "more_chunks")
    report.redelivered += max(0, int(leased or 0) - int(submitted or 0) - int(more or 0))


def _is_right(outcome: Outcome, right: Right) -> bool:
    if isinstance(right, str):
        return bool(outcome.answers) and outcome.answers[0].paths == ((right,),)
    return outcome.error is not None and outcome.error.kind in right
