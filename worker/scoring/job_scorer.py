"""What is prepared once per job and used for each of its images: answer rules and text matrices."""

from __future__ import annotations

import logging
import threading
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from cachetools import LRUCache

from ...integrations.ledger.answers import JobLabels, Outcomes
from ...integrations.ledger.columns import MOST_IMAGES, Columns, labels_crc
from ...schemas.answerable import unanswerable
from ...schemas.errors import ConfigError, ItemError, OutOfMemory, PrelabelError, ScorerError
from ...schemas.items import ImageRef, Item, Options
from ...schemas.jobs import Control, JobSpec
from ...schemas.model_version import model_version
from ...schemas.predictions import Outcome, Unanswered
from ...schemas.taxonomy import Taxonomy
from ..arrays import Vectors
from ..embedding.items import EmbeddedItem, ImagePart, Wanted, part_of
from ..embedding.pending import PendingVector
from ..embedding.texts import TextVectors
from ..model.encoder import Encoder
from ..model.similarity import pair_logits
from .answers import Answerer
from .failures import unanswered
from .rules import KeptRules, Rules
from .scored import Scored

log = logging.getLogger(__name__)

_JOBS_KEPT = 64
_NOT_HAD = ItemError("one of its images cannot be had")


@dataclass(slots=True)
class _Row:
    """One question about one item: the images it is answered by."""

    item: int
    index: int | None
    images: Sequence[PendingVector]


@dataclass(slots=True)
class _Gathered:
    """What is known of one item before it is scored: whether anything is asked, and what can have no answer."""

    asked: bool = False
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
        return self.passing or (None if self.asked else self.first or _NOT_HAD)


class _Questions(NamedTuple):
    """Questions that are answered by the same rules."""

    control: Control
    rules: Rules
    rows: list[_Row]


class JobScorer:
    """Scores embedded items of one job. Thread-safe.

    Args:
        spec: the job.
        encoder: the model.
        texts: its text vectors.
        kept: where the rules of labels that came with items are kept.

    Attributes:
        version: `model_version` of its predictions.

    Raises:
        ConfigError: the model cannot answer what is asked.
    """

    def __init__(self, spec: JobSpec, encoder: Encoder, texts: TextVectors, kept: KeptRules | None = None) -> None:
        self.version = model_version(encoder.card.id, spec.controls)
        self._spec = spec
        card = encoder.card
        if problem := unanswerable(card, spec.controls):
            raise ConfigError(problem)
        self._scale, self._bias, self._pairwise = card.logit_scale, card.logit_bias, card.head == "sigmoid"
        self._texts = texts
        self._labels = JobLabels(spec.controls)
        self._fixed = {
            control.name: self._rules(place, control.taxonomy)
            for place, control in enumerate(spec.controls)
            if not control.taxonomy.is_open
        }
        self._kept = kept or KeptRules()
        self._asks_every_plain_item = not any(control.taxonomy.is_open for control in spec.controls)
        self._image_names = {control.image for control in spec.controls}
        self._can_do_without = any(control.over == "each" for control in spec.controls)

    def wanted(self, item: Item) -> list[Wanted]:
        """The images the item is scored by, each of them once, in the order the item has them.

        An image is optional unless every control that can be answered needs it.

        Raises:
            ItemError: no control can be answered: the item has no image it asks about, or none of the labels it should
                bring.
        """
        if len(item.images) > MOST_IMAGES:
            raise ItemError(f"the item has {len(item.images)} images, and {MOST_IMAGES} at most can be answered for")
        if len(item.images) == 1 and self._asks_every_plain_item and not item.problems:
            image = item.images[0]
            if image.name is None or self._image_names <= {None, image.name}:
                return [Wanted(image, self._can_do_without)]
        asked: list[tuple[Control, set[ImagePart]]] = []
        problem: ItemError | None = None
        for control in self._spec.controls:
            try:
                images = _asked(control, item)
            except ItemError as error:
                problem = problem or error
                continue
            if images:
                asked.append((control, {part_of(image) for image in images}))
        if not asked:
            raise problem or ItemError("the item has no image that is asked about")
        wanted = set.union(*(parts for _, parts in asked))
        needed = set.intersection(*(set() if control.over == "each" else parts for control, parts in asked))
        return [
            Wanted(image, part_of(image) not in needed) for image in _each_once(item.images) if part_of(image) in wanted
        ]

    def score(self, items: Sequence[EmbeddedItem]) -> Scored:
        """Answer items, with one matrix product per control and set of labels over all of them.

        A control that cannot be answered for an item takes none of its others: the outcome says what is missing. An
        item fails where no control can be answered: for what is wrong with its images or the labels it brings, or with
        `OutOfMemory` where the device has no room for their texts.

        Args:
            items: items whose embeddings are done.

        Raises:
            ScorerError: the model fails.
        """
        gathered = [_Gathered() for _ in items]
        questions = list(self._questions(items, gathered))
        whole = [i for i, one in enumerate(gathered) if one.asked and not one.unanswered]
        parted = [i for i, one in enumerate(gathered) if one.unanswered and not one.failure]
        columns = self._columns(questions, items, whole) if whole else None
        others: dict[int, Outcome | PrelabelError] = {
            i: failure for i, one in enumerate(gathered) if (failure := one.failure)
        }
        if parted:
            partly = Outcomes(self._columns(questions, items, parted), self._labels)
            for at, i in enumerate(parted):
                try:
                    outcome = partly.outcome(at, items[i].item)
                except ConfigError as error:
                    others[i] = error
                    continue
                others[i] = outcome.model_copy(update={"unanswered": tuple(gathered[i].unanswered)})
                for missing in gathered[i].unanswered:
                    log.info("item %s: %s is not answered: %s", items[i].item.id, missing.control, missing.message)
        return Scored(whole, columns, self._labels, others)

    def _questions(self, items: Sequence[EmbeddedItem], gathered: Sequence[_Gathered]) -> Iterator[_Questions]:
        """All that can be asked about the items; what cannot is noted in `gathered`."""
        for place, control in enumerate(self._spec.controls):
            for options, rows in self._by_labels(place, control, items, gathered).items():
                try:
                    brought = items[rows[0].item].item.options[control.name] if options else None
                    rules = self._rules_of(place, control, brought)
                except PrelabelError as error:
                    if not options or (isinstance(error, ScorerError) and not isinstance(error, OutOfMemory)):
                        raise
                    for i in dict.fromkeys(row.item for row in rows):
                        gathered[i].miss(control, place, error)
                        if isinstance(error, OutOfMemory):
                            gathered[i].passing = error
                else:
                    for row in rows:
                        gathered[row.item].asked = True
                    yield _Questions(control, rules, rows)

    def _columns(
        self, questions: Sequence[_Questions], items: Sequence[EmbeddedItem], wanted: Sequence[int]
    ) -> Columns:
        """The answers about some of the items."""
        place_of = {i: at for at, i in enumerate(wanted)}
        tables = []
        for control, rules, asked in questions:
            rows = asked if len(wanted) == len(items) else [row for row in asked if row.item in place_of]
            if rows:
                of_items = [place_of[row.item] for row in rows]
                indices = [row.index for row in rows]
                tables.append(
                    rules.answerer.columns(
                        self._logits(control, rules, rows),
                        None if of_items == list(range(len(wanted))) else of_items,
                        None if indices.count(None) == len(indices) else indices,
                    )
                )
        images, places, keys = _vectors([items[i] for i in wanted])
        return Columns(
            model_version=self.version,
            count=len(wanted),
            images=images,
            places=places,
            keys=keys,
            answers=tuple(tables),
        )

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
            questions: Iterable[tuple[int | None, Sequence[ImageRef]]] = ((None, images),)
            if control.over == "each":
                questions = ((index, (image,)) for index, image in enumerate(images))
            for index, about in questions:
                vectors = [embedded.embedded.get(part_of(image)) for image in about]
                if None not in vectors:
                    rows.append(_Row(i, index, [vector for vector in vectors if vector]))
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

    def _rules_of(self, place: int, control: Control, options: Options | None) -> Rules:
        if options is None:
            return self._fixed[control.name]
        # What else makes the rules; `top_k`, and what is no part of the fingerprint, such as the order of the labels.
        own = labels_crc([path for path, _ in control.taxonomy.walk()])
        key = (f"{place} {self._spec.top_k} {own} {control.taxonomy.fingerprint}", options.digest)
        made = self._kept.get(key)
        if made is None:
            closed = control.taxonomy.closed(options.labels)
            made = self._rules(place, closed, brought=True)
            self._kept.keep(key, made)
        return made

    def _rules(self, place: int, taxonomy: Taxonomy, *, brought: bool = False) -> Rules:
        answerer = Answerer(taxonomy, place=place, brought=brought, top_k=self._spec.top_k, pairwise=self._pairwise)
        return Rules(answerer, self._texts.matrix(taxonomy))


def _vectors(items: Sequence[EmbeddedItem]) -> tuple[array[int] | None, array[int], bytes]:
    """The keys of items' vectors as `Columns` has them: `images`, `places` and `keys`."""
    counts, places, keys = array("H"), array("H"), []
    for one in items:
        known = [(at, one.embedded.get(part_of(image))) for at, image in enumerate(one.item.images)]
        there = [(at, vector.key) for at, vector in known if vector]
        counts.append(len(there))
        places.extend([at for at, _ in there])
        keys += [key for _, key in there]
    is_first_alone = len(places) == len(items) and not any(places) and max(counts) == 1
    return (None, array("H"), b"".join(keys)) if is_first_alone else (counts, places, b"".join(keys))


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


def _each_once(images: Sequence[ImageRef]) -> Sequence[ImageRef]:
    if len(images) == 1:
        return images
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

    def serves(self, spec: JobSpec) -> bool:
        """Whether a job may be answered here: it names this model, or none."""
        return spec.model in (None, self._encoder.card.id)

    def can_answer(self, spec: JobSpec) -> bool:
        """Whether the model can answer what the job asks."""
        return not unanswerable(self._encoder.card, spec.controls)

    def get(self, job_id: str, spec: JobSpec) -> JobScorer:
        """The job's scorer; the first call for a job encodes those of its labels that are new.

        Raises:
            OutOfMemory: the device has no room for even one of the labels' texts.
            ScorerError: the model fails.
        """
        with self._lock:
            known = self._scorers.get(job_id)
        if known:
            return known
        scorer = JobScorer(spec, self._encoder, self._texts, self._kept)
        with self._lock:
            self._scorers[job_id] = scorer
        return scorer
