"""What is prepared once per job and used for each of its images: answer rules and text matrices."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cachetools import LRUCache

from ...schemas.errors import ConfigError, ItemError, OutOfMemory, PrelabelError, ScorerError
from ...schemas.items import ImageRef, Item, Options
from ...schemas.jobs import Control, JobSpec
from ...schemas.model_version import model_version
from ...schemas.predictions import Answer, Outcome
from ..arrays import Vectors
from ..embedding.items import EmbeddedItem, ImagePart, Wanted, part_of
from ..embedding.pending import PendingVector
from ..embedding.texts import TextVectors
from ..model.encoder import Encoder
from ..model.similarity import pair_logits
from .answers import Answerer
from .rules import KeptRules, Rules

_JOBS_KEPT = 64


@dataclass(frozen=True, slots=True)
class _Row:
    """One question about one item: the images it is answered by."""

    item: int
    index: int | None
    images: tuple[PendingVector, ...]


class JobScorer:
    """Scores embedded items of one job. Thread-safe.

    Args:
        spec: the job.
        encoder: the model.
        texts: its text vectors.
        kept: where the rules of labels that came with items are kept.

    Attributes:
        version: `model_version` of its predictions.
    """

    def __init__(self, spec: JobSpec, encoder: Encoder, texts: TextVectors, kept: KeptRules | None = None) -> None:
        self.version = model_version(encoder.card.id, spec.controls)
        self._spec = spec
        self._scale, self._bias = encoder.card.logit_scale, encoder.card.logit_bias
        self._texts = texts
        self._fixed = {control.name: self._rules(control) for control in spec.controls if not control.taxonomy.is_open}
        self._kept = kept or KeptRules()

    def wanted(self, item: Item) -> list[Wanted]:
        """The images the item is scored by, each of them once, in the order the item has them.

        Raises:
            ItemError: the item has no image a control asks about, or none of the labels it should bring.
        """
        optional: dict[ImagePart, Wanted] = {}
        for control in self._spec.controls:
            images = item.images_of(control.image)
            if not images and control.over != "each":
                raise ItemError(f"the item has no image named {control.image!r}")
            if control.taxonomy.is_open and control.name not in item.options:
                raise ItemError(f"the item brings no labels for {control.name!r}")
            for image in images[:1] if control.over == "first" else images:
                known = optional.get(part_of(image))
                can_miss = control.over == "each" and (known is None or known.optional)
                optional[part_of(image)] = Wanted(image, can_miss)
        if not optional:
            raise ItemError("the item has no image that is asked about")
        return [optional[part_of(image)] for image in _each_once(item.images) if part_of(image) in optional]

    def score(self, items: Sequence[EmbeddedItem]) -> list[Outcome | PrelabelError]:
        """Outcomes of items, with one matrix product per control and set of labels over all of them.

        Args:
            items: items whose embeddings are done.

        Returns:
            For each item its outcome, or what is wrong with the labels it brings: `ConfigError` where they make no
            taxonomy, `OutOfMemory` where the device has no room for their texts.

        Raises:
            ScorerError: the model fails.
        """
        answers: list[list[Answer]] = [[] for _ in items]
        failures: dict[int, PrelabelError] = {}
        for control in self._spec.controls:
            for options, rows in self._by_labels(control, items).items():
                try:
                    rules = self._rules_of(control, items[rows[0].item].item.options[control.name] if options else None)
                except PrelabelError as error:
                    if not options or (isinstance(error, ScorerError) and not isinstance(error, OutOfMemory)):
                        raise
                    failures.update((row.item, error) for row in rows)
                else:
                    answered = rules.answerer.many(self._logits(control, rules, rows), [row.index for row in rows])
                    for row, answer in zip(rows, answered, strict=True):
                        answers[row.item].append(answer)
        return [failures.get(i) or self._outcome(one, answers[i]) for i, one in enumerate(items)]

    def _by_labels(self, control: Control, items: Sequence[EmbeddedItem]) -> dict[str, list[_Row]]:
        """What a control asks, by the digest of the labels an item brings for it ("" where it brings none)."""
        by_digest: dict[str, list[_Row]] = {}
        for i, embedded in enumerate(items):
            options = embedded.item.options.get(control.name) if control.taxonomy.is_open else None
            rows = by_digest.setdefault(options.digest if options else "", [])
            images = embedded.item.images_of(control.image)
            if control.over == "first":
                rows.append(_Row(i, None, (embedded.embedded[part_of(images[0])],)))
            elif control.over == "all":
                rows.append(_Row(i, None, tuple(embedded.embedded[part_of(image)] for image in images)))
            else:
                pending = [(place, embedded.embedded.get(part_of(image))) for place, image in enumerate(images)]
                rows += [_Row(i, place, (vector,)) for place, vector in pending if vector]
        return {digest: rows for digest, rows in by_digest.items() if rows}

    def _logits(self, control: Control, rules: Rules, rows: Sequence[_Row]) -> Vectors:
        """`(n_rows, n_leaves)` float32: a row's image's, or for several the mean or the highest of theirs."""
        vectors = np.stack([image.vector.result() for row in rows for image in row.images])
        logits = pair_logits(vectors, rules.texts, self._scale, self._bias)
        if control.over != "all":
            return logits
        counts = np.asarray([len(row.images) for row in rows])
        starts = np.cumsum([0, *counts[:-1]])
        if control.taxonomy.choice == "multiple":
            highest: Vectors = np.maximum.reduceat(logits, starts, axis=0)
            return highest
        means: Vectors = (np.add.reduceat(logits, starts, axis=0) / counts[:, None]).astype(np.float32)
        return means

    def _outcome(self, one: EmbeddedItem, answers: list[Answer]) -> Outcome:
        slots = zip(one.item.slots(), one.item.images, strict=True)
        return Outcome(
            model_version=self.version,
            vectors={
                slot: one.embedded[part_of(image)].key.hex() for slot, image in slots if part_of(image) in one.embedded
            },
            answers=tuple(answers),
        )

    def _rules_of(self, control: Control, options: Options | None) -> Rules:
        if options is None:
            return self._fixed[control.name]
        # What else makes the rules; `top_k` and all that is no part of the fingerprint included.
        key = (f"{control.name} {self._spec.top_k} {control.taxonomy.fingerprint}", options.digest)
        made = self._kept.get(key)
        if made is None:
            closed = control.taxonomy.closed(options.labels)
            made = self._rules(control.model_copy(update={"taxonomy": closed}))
            self._kept.keep(key, made)
        return made

    def _rules(self, control: Control) -> Rules:
        answerer = Answerer(control.taxonomy, control=control.name, top_k=self._spec.top_k)
        return Rules(answerer, self._texts.matrix(control.taxonomy))


def _each_once(images: Sequence[ImageRef]) -> list[ImageRef]:
    return list({part_of(image): image for image in reversed(images)}.values())[::-1]


class JobScorers:
    """The scorers of the jobs worked on lately. Thread-safe.

    Args:
        encoder: the model.
        texts: its text vectors.
    """

    def __init__(self, encoder: Encoder, texts: TextVectors) -> None:
        self._encoder = encoder
        self._texts = texts
        self._scorers: LRUCache[str, JobScorer] = LRUCache(_JOBS_KEPT)
        self._kept = KeptRules()
        self._lock = threading.Lock()

    def get(self, job_id: str, spec: JobSpec) -> JobScorer:
        """The job's scorer; the first call for a job encodes those of its labels that are new.

        Raises:
            ConfigError: the job asks for another model.
            OutOfMemory: the device has no room for even one of the labels' texts.
            ScorerError: the model fails.
        """
        with self._lock:
            known = self._scorers.get(job_id)
        if known:
            return known
        model = self._encoder.card.id
        if spec.model is not None and spec.model != model:
            raise ConfigError(
                f"the job asks for {spec.model}, this worker serves {model}: "
                "set PRELABEL_MODEL alike for producers, adapter and workers"
            )
        scorer = JobScorer(spec, self._encoder, self._texts, self._kept)
        with self._lock:
            self._scorers[job_id] = scorer
        return scorer
