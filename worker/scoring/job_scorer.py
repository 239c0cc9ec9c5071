"""What is prepared once per job and used for each of its images: answer rules and text matrices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cachetools import LRUCache

from ...schemas.errors import ConfigError, ItemError, OutOfMemory, PrelabelError, ScorerError
from ...schemas.items import ImageRef, Item, Options
from ...schemas.jobs import Control, JobSpec
from ...schemas.model_version import model_version
from ...schemas.predictions import Answer, Outcome, Unanswered
from ..arrays import Vectors
from ..embedding.items import EmbeddedItem, ImagePart, Wanted, part_of
from ..embedding.pending import PendingVector
from ..embedding.texts import TextVectors
from ..model.encoder import Encoder
from ..model.similarity import pair_logits
from .answers import Answerer
from .failures import unanswered
from .rules import KeptRules, Rules

log = logging.getLogger(__name__)

_JOBS_KEPT = 64
_NOT_HAD = ItemError("one of its images cannot be had")


@dataclass(frozen=True, slots=True)
class _Row:
    """One question about one item: the images it is answered by."""

    item: int
    index: int | None
    images: tuple[PendingVector, ...]


@dataclass(slots=True)
class _Gathered:
    """What is known of one item: its answers, and what has none."""

    answers: list[Answer] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)
    first: PrelabelError | None = None
    passing: OutOfMemory | None = None

    def miss(self, control: Control, place: int, error: PrelabelError, index: int | None = None) -> None:
        """Note that a control, or its question about one image, is not answered."""
        self.first = self.first or error
        self.unanswered.append(unanswered(control.name, place, error, index))

    @property
    def failure(self) -> PrelabelError | None:
        """Why the item has no outcome; no answer leaves out what may be there when the item is tried again."""
        return self.passing or (None if self.answers else self.first)


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

        An image is optional unless every control that can be answered needs it.

        Raises:
            ItemError: no control can be answered: the item has no image it asks about, or none of the labels it should
                bring.
        """
        wanted: set[ImagePart] = set()
        needed: set[ImagePart] | None = None
        problem: ItemError | None = None
        for control in self._spec.controls:
            try:
                parts = {part_of(image) for image in _asked(control, item)}
            except ItemError as error:
                problem = problem or error
                continue
            if parts:
                wanted |= parts
                alone = set() if control.over == "each" else parts
                needed = alone if needed is None else needed & alone
        if needed is None:
            raise problem or ItemError("the item has no image that is asked about")
        return [
            Wanted(image, part_of(image) not in needed) for image in _each_once(item.images) if part_of(image) in wanted
        ]

    def score(self, items: Sequence[EmbeddedItem]) -> list[Outcome | PrelabelError]:
        """Outcomes of items, with one matrix product per control and set of labels over all of them.

        A control that cannot be answered for an item takes none of its others: the outcome says what is missing.

        Args:
            items: items whose embeddings are done.

        Returns:
            For each item its outcome, or why it has none: what is wrong with its images or the labels it brings where
            no control can be answered, `OutOfMemory` where the device has no room for their texts.

        Raises:
            ScorerError: the model fails.
        """
        gathered = [_Gathered() for _ in items]
        for place, control in enumerate(self._spec.controls):
            for options, rows in self._by_labels(place, control, items, gathered).items():
                try:
                    rules = self._rules_of(control, items[rows[0].item].item.options[control.name] if options else None)
                except PrelabelError as error:
                    if not options or (isinstance(error, ScorerError) and not isinstance(error, OutOfMemory)):
                        raise
                    for i in dict.fromkeys(row.item for row in rows):
                        gathered[i].miss(control, place, error)
                        if isinstance(error, OutOfMemory):
                            gathered[i].passing = error
                else:
                    answered = rules.answerer.many(self._logits(control, rules, rows), [row.index for row in rows])
                    for row, answer in zip(rows, answered, strict=True):
                        gathered[row.item].answers.append(answer)
        return [one.failure or self._outcome(item, one) for item, one in zip(items, gathered, strict=True)]

    def _by_labels(
        self, place: int, control: Control, items: Sequence[EmbeddedItem], gathered: Sequence[_Gathered]
    ) -> dict[str, list[_Row]]:
        """What a control asks, by the digest of the labels an item brings for it ("" where it brings none).

        What it cannot ask is noted in `gathered`.
        """
        by_digest: dict[str, list[_Row]] = {}
        for i, embedded in enumerate(items):
            try:
                images = _asked(control, embedded.item)
            except ItemError as error:
                gathered[i].miss(control, place, error)
                continue
            options = embedded.item.options.get(control.name) if control.taxonomy.is_open else None
            rows = by_digest.setdefault(options.digest if options else "", [])
            questions: list[tuple[int | None, Sequence[ImageRef]]] = [(None, images)]
            if control.over == "each":
                questions = [(index, (image,)) for index, image in enumerate(images)]
            for index, about in questions:
                vectors = [embedded.embedded.get(part_of(image)) for image in about]
                embeddings = tuple(vector for vector in vectors if vector)
                if len(embeddings) == len(about):
                    rows.append(_Row(i, index, embeddings))
                else:
                    lost = about[vectors.index(None)]
                    known = ItemError(lost.problem) if lost.problem else embedded.missing.get(part_of(lost))
                    gathered[i].miss(control, place, known or _NOT_HAD, index)
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

    def _outcome(self, one: EmbeddedItem, gathered: _Gathered) -> Outcome:
        for missing in gathered.unanswered:
            log.info("item %s: %s is not answered: %s", one.item.id, missing.control, missing.message)
        slots = zip(one.item.slots(), one.item.images, strict=True)
        return Outcome(
            model_version=self.version,
            vectors={
                slot: one.embedded[part_of(image)].key.hex() for slot, image in slots if part_of(image) in one.embedded
            },
            answers=tuple(gathered.answers),
            unanswered=tuple(gathered.unanswered),
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


def _asked(control: Control, item: Item) -> tuple[ImageRef, ...]:
    """The images of an item that a control asks about; none where it asks about each of none.

    Raises:
        ItemError: the control cannot be answered for this item.
    """
    if control.name in item.problems:
        raise ItemError(item.problems[control.name])
    images = item.images_of(control.image)
    if not images and control.over != "each":
        raise ItemError(f"the item has no image named {control.image!r}")
    if control.taxonomy.is_open and control.name not in item.options:
        raise ItemError(f"the item brings no labels for {control.name!r}")
    return images[:1] if control.over == "first" else images


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
