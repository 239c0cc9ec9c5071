"""What is prepared once per job and used for each of its images: answer rules and text matrices."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..schemas.errors import ConfigError
from ..schemas.jobs import JobSpec
from ..schemas.predictions import Outcome
from ..schemas.versions import model_version
from .image_threads import Embedded
from .scorer import Encoder, Vectors
from .scoring import Answerer, pair_logits
from .texts import TextVectors

_JOBS_KEPT = 64


@dataclass(frozen=True, slots=True)
class JobScorer:
    """Scores embedded items of one job.

    Attributes:
        version: `model_version` of its predictions.
        images: which of an item's images each control asks about.
        answerers: one per control.
        texts: `(n_leaves, dim)` per control, rows of length 1.
        logit_scale: see `Encoder`.
        logit_bias: see `Encoder`.
    """

    version: str
    images: tuple[str | None, ...]
    answerers: tuple[Answerer, ...]
    texts: tuple[Vectors, ...]
    logit_scale: float
    logit_bias: float

    def score(self, embedded: Sequence[Sequence[Embedded]]) -> list[Outcome]:
        """Outcomes of items, with one matrix product per control over all of them.

        Args:
            embedded: per item, per control, the embedding of the image it asks about; all of them done.
        """
        if not embedded:
            return []
        logits = [
            pair_logits(
                np.stack([images[i].vector.result() for images in embedded]), texts, self.logit_scale, self.logit_bias
            )
            for i, texts in enumerate(self.texts)
        ]
        answers = [answerer.many(rows) for answerer, rows in zip(self.answerers, logits, strict=True)]
        return [
            Outcome(
                model_version=self.version,
                vectors={name or "": image.key.hex() for name, image in zip(self.images, embedded[row], strict=True)},
                answers=tuple(some[row] for some in answers),
            )
            for row in range(len(embedded))
        ]


class JobScorers:
    """The scorers of the jobs worked on lately. Thread-safe.

    Args:
        encoder: the model.
        texts: its text vectors.
    """

    def __init__(self, encoder: Encoder, texts: TextVectors) -> None:
        self._encoder = encoder
        self._texts = texts
        self._made: OrderedDict[str, JobScorer] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str, spec: JobSpec) -> JobScorer:
        """The job's scorer; the first call for a job encodes those of its labels that are new.

        Raises:
            ConfigError: the job asks for another model.
        """
        with self._lock:
            known = self._made.get(job_id)
            if known:
                self._made.move_to_end(job_id)
                return known
        made = self._make(spec)
        with self._lock:
            self._made[job_id] = made
            while len(self._made) > _JOBS_KEPT:
                self._made.popitem(last=False)
        return made

    def _make(self, spec: JobSpec) -> JobScorer:
        model = self._encoder.model_id
        if spec.model is not None and spec.model != model:
            raise ConfigError(
                f"the job asks for {spec.model}, this worker serves {model}: "
                "set PRELABEL_MODEL alike for producers, adapter and workers"
            )
        return JobScorer(
            version=model_version(model, spec.controls),
            images=tuple(control.image for control in spec.controls),
            answerers=tuple(
                Answerer(control.taxonomy, control=control.name, top_k=spec.top_k) for control in spec.controls
            ),
            texts=tuple(self._texts.matrix(control.taxonomy) for control in spec.controls),
            logit_scale=self._encoder.logit_scale,
            logit_bias=self._encoder.logit_bias,
        )
