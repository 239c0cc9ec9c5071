"""Answers searches: among the vectors that are there, the best by cosine, as they are in Label Studio now."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ...schemas.models import ModelCard
from ...schemas.predictions import LabelScore
from ...schemas.search import (
    MOST_HITS,
    DuplicateGroup,
    Duplicates,
    DuplicatesQuery,
    Hit,
    RankedText,
    RankQuery,
    SearchFilter,
    SearchPage,
    SearchQuery,
)
from ...schemas.settings import Settings
from ..arrays import Vectors
from ..model.similarity import pair_logits
from ..vectors.keys import space_tag
from ..vectors.store import EmbeddingStore
from .collection import Collection, Current, Tell
from .duplicates import duplicate_groups
from .entries import Entries, entry_keys
from .files import Snapshot
from .open_index import open_index
from .places import JobPlace, Known, Labels, Place, ProjectPlace, is_there
from .query import QueryVectors, Sought

_SWEEP_S: Final = 3600.0
_COLLECTIONS_KEPT: Final = 64
_LOOKED_AT: Final = 5_000
"""Images that are compared with what Label Studio says of them for one page, at most."""

_MARGIN: Final = 4
"""Images ranked anew by their stored vectors, for each that is wanted: the files' are rounded once more."""

_MOST_MARGIN: Final = 1_000

_FEW: Final = 64


class _Candidate(NamedTuple):
    """A row among the best."""

    row: int
    cosine: float
    logit: float | None = None
    probability: float | None = None


class Searcher:
    """Searches collections. Thread-safe.

    Args:
        card: the model's facts.
        space: name of the space of its images' vectors.
        store: where they are.
        queries: makes the vectors of queries.
        settings: where Label Studio is, and the folder for files.
        redis: the ledger's.

    Raises:
        ConfigError: faiss is asked for and not installed.
    """

    def __init__(
        self,
        card: ModelCard,
        space: str,
        store: EmbeddingStore,
        queries: QueryVectors,
        settings: Settings,
        redis: Any,
    ) -> None:
        self._card = card
        self._space = space
        self._store = store
        self._queries = queries
        self._settings = settings
        self._redis = redis
        self._collections: LRUCache[str, Collection] = LRUCache(_COLLECTIONS_KEPT)
        self._lock = threading.Lock()
        self._swept_s = -_SWEEP_S
        if settings.search == "faiss":  # whoever asks for it shall not learn at the first search that it is not there
            open_index(np.zeros((0, card.dim), dtype=np.float16), settings.search)

    def search(self, query: SearchQuery, tell: Tell = lambda *_: None) -> SearchPage:
        """One page of what is found.

        Args:
            query: what is asked.
            tell: called while vectors are read for a first search: how many, and of how many.

        Raises:
            PrelabelError: it cannot be searched; says why.
        """
        place = self._place(query)
        self._sweep()
        current = self._collection(place).current(tell)
        snapshot = current.snapshot
        labels = Labels(place.controls)
        within = snapshot.counts & _passing(snapshot.entries, query, labels)
        sought = self._queries.of(query, snapshot)
        made = _Page(query.count, query.filter)
        at = query.after
        for candidates in self._ranked(snapshot, sought, within, query.after + query.count):
            fresh = candidates[at : at + _LOOKED_AT - made.looked_at]
            for start in range(0, len(fresh), _FEW):
                some = fresh[start : start + _FEW]
                entries = snapshot.entries[[one.row for one in some]]
                at += made.take(some, entries, place.known(entries), labels)
                if made.is_full:
                    break
            if made.is_full or made.looked_at >= _LOOKED_AT:
                break
        is_over = at >= int(within.sum())
        return SearchPage(
            hits=tuple(made.hits),
            next=None if is_over or at >= MOST_HITS else at,
            searched=int(snapshot.counts.sum()),
            missing=current.missing,
            others=current.others,
            gone=made.gone,
            model=self._card.id,
            note=self._note(current, made, is_over=is_over),
        )

    def rank(self, query: RankQuery) -> tuple[RankedText, ...]:
        """Texts by how well they fit a picture, the best first; one matrix product for all of them.

        Raises:
            PrelabelError: the picture cannot be read, or the model fails.
        """
        image = self._queries.image(query.image)[np.newaxis]
        texts = self._queries.phrases(query.texts, query.template)
        cosines = pair_logits(image, texts, 1.0, None)[0]
        logits = pair_logits(image, texts, self._card.logit_scale, self._card.logit_bias)[0]
        return tuple(
            RankedText(
                place=at,
                text=query.texts[at],
                cosine=float(cosines[at]),
                logit=(logit := float(logits[at])),
                probability=self._probability(logit),
            )
            for at in np.argsort(-cosines, kind="stable").tolist()
        )

    def duplicates(self, query: DuplicatesQuery, tell: Tell = lambda *_: None) -> Duplicates:
        """Near duplicates of a collection; see `duplicate_groups`.

        Raises:
            PrelabelError: it cannot be looked through; says why.
        """
        place = self._place(query)
        current = self._collection(place).current(tell)
        snapshot = current.snapshot
        found = duplicate_groups(snapshot.vectors, query.threshold, within=snapshot.counts, progress=tell)
        labels = Labels(place.controls)
        groups = []
        for done, group in enumerate(found[: query.count]):
            tell(done, min(len(found), query.count))
            rows = group.rows[: query.members]
            entries = snapshot.entries[rows]
            hits = tuple(
                _hit(_Candidate(row, cosine), entry, one, labels)
                for row, cosine, entry, one in zip(
                    rows.tolist(), group.cosines.tolist(), entries, place.known(entries), strict=False
                )
                if one is not None
            )
            if len(hits) > 1:  # the others are gone
                groups.append(DuplicateGroup(hits=hits, size=len(group.rows)))
        return Duplicates(
            groups=tuple(groups),
            total_groups=len(found),
            total_images=sum(len(group.rows) for group in found),
            searched=int(snapshot.counts.sum()),
            missing=current.missing,
            threshold=query.threshold,
            model=self._card.id,
        )

    def missing(self, project: int, tell: Tell = lambda *_: None) -> tuple[int, ...]:
        """Tasks of a project that have an image without a vector of this model.

        Raises:
            PrelabelError: that cannot be told; says why.
        """
        place = ProjectPlace(project, self._redis, self._settings)
        lost = self._collection(place).current(tell).snapshot.missing
        return tuple(np.unique(lost["task"]).tolist())

    def _place(self, query: SearchQuery | DuplicatesQuery) -> Place:
        if query.project is not None:
            return ProjectPlace(query.project, self._redis, self._settings)
        return JobPlace(query.job or "", self._redis, self._settings.job_ttl_s)

    def _sweep(self) -> None:
        """Now and then, remove the files of projects that are connected no more, and of jobs that have expired."""
        with self._lock:
            if time.monotonic() - self._swept_s < _SWEEP_S:
                return
            self._swept_s = time.monotonic()
        for folder in (self._settings.state_dir / "search").glob("*/*-*"):
            if not is_there(folder.name, self._redis):
                shutil.rmtree(folder, ignore_errors=True)

    def _collection(self, place: Place) -> Collection:
        folder = search_folder(self._settings.state_dir, self._space) / place.name
        with self._lock:
            known = self._collections.get(place.name)
            if known is None:
                known = Collection(folder, self._space, self._card.dim, self._store, place)
                self._collections[place.name] = known
            return known

    def _ranked(
        self, snapshot: Snapshot, sought: Sought, within: NDArray[np.bool_], wanted: int
    ) -> Iterator[Sequence[_Candidate]]:
        """The best, the best first; more and more of them, each time all from the first on."""
        there = int(within.sum())
        index = open_index(snapshot.vectors, self._settings.search)
        count = min(there, wanted + max(_FEW, min((_MARGIN - 1) * wanted, _MOST_MARGIN)))
        while there:
            found = index.search(sought.vector[np.newaxis], count, within)
            yield self._exact(snapshot, found.rows[0], sought)
            if count == there:
                return
            count = min(there, _MARGIN * count)

    def _exact(self, snapshot: Snapshot, rows: NDArray[np.int64], sought: Sought) -> list[_Candidate]:
        """The rows by their stored vectors, as scoring has them; where one is evicted, by what the files hold."""
        keys = entry_keys(snapshot.entries[rows])
        vectors: Vectors = np.asarray(snapshot.vectors[rows]).astype(np.float32)
        stored = self._store.get(keys)
        for at, key in enumerate(keys):
            if (vector := stored.get(key)) is not None and vector.shape == sought.vector.shape:
                vectors[at] = vector
        query = sought.vector[np.newaxis]
        cosines = pair_logits(vectors, query, 1.0, None)[:, 0]
        order = np.lexsort((rows, -cosines))
        if not sought.is_text:
            return [_Candidate(int(rows[at]), float(cosines[at])) for at in order]
        logits = pair_logits(vectors, query, self._card.logit_scale, self._card.logit_bias)[:, 0]
        return [
            _Candidate(int(rows[at]), float(cosines[at]), logit := float(logits[at]), self._probability(logit))
            for at in order
        ]

    def _probability(self, logit: float) -> float | None:
        return LabelScore(path=("",), logit=logit, probability=0.0, pairwise=self._card.head == "sigmoid").sigmoid

    def _note(self, current: Current, made: _Page, *, is_over: bool) -> str:
        said = []
        if not len(current.snapshot.entries):
            if current.others:
                said.append(f"its vectors are of another model than {self._card.id}")
            elif not current.missing:
                said.append(
                    "nothing of it can be found yet: what is pre-labelled already, prelabel index makes searchable"
                )
        if not made.is_full and not is_over:
            said.append(f"the best {_LOOKED_AT:,} were looked at: narrow the search down to see more of the rest")
        return "; ".join(said)


class _Page:
    """Hits of one page, as they are found.

    Args:
        count: hits wanted.
        wanted: what a hit must be.

    Attributes:
        hits: so far.
        looked_at: images that were compared with what they stand for.
        gone: tasks that are not there any more, or have changed.
    """

    def __init__(self, count: int, wanted: SearchFilter) -> None:
        self._count = count
        self._wanted = wanted
        self.hits: list[Hit] = []
        self.looked_at = 0
        self.gone = 0

    @property
    def is_full(self) -> bool:
        """Whether no more hits are wanted."""
        return len(self.hits) >= self._count

    def take(
        self, candidates: Sequence[_Candidate], entries: Entries, known: Sequence[Known | None], labels: Labels
    ) -> int:
        """Take what passes, until the page is full.

        Args:
            candidates: the best first.
            entries: `(n,)` theirs.
            known: what they stand for.
            labels: of the place.

        Returns:
            How many were looked at.
        """
        for taken, (candidate, entry, one) in enumerate(zip(candidates, entries, known, strict=True)):
            if self.is_full:
                return taken
            self.looked_at += 1
            if one is None:
                self.gone += 1
            elif self._passes(one):
                self.hits.append(_hit(candidate, entry, one, labels))
        return len(candidates)

    def _passes(self, one: Known) -> bool:
        wanted = self._wanted
        if wanted.labeled is not None and one.labeled is not wanted.labeled:
            return False
        return wanted.since is None or (one.made_at is not None and one.made_at > wanted.since)


def _hit(candidate: _Candidate, entry: Any, one: Known, labels: Labels) -> Hit:
    return Hit(
        task=int(entry["task"]),
        item=one.item.id,
        image=one.item.images[one.place],
        slot=one.item.slots()[one.place],
        cosine=candidate.cosine,
        logit=candidate.logit,
        probability=candidate.probability,
        label=labels.path(int(entry["label"])),
        confidence=int(entry["confidence"]) / 0xFFFF,
        labeled=one.labeled,
        made_at=one.made_at,
    )


def _passing(entries: Entries, query: SearchQuery, labels: Labels) -> NDArray[np.bool_]:
    """`(n,)`: which rows pass what can be told from them alone."""
    wanted = query.filter
    passing = np.ones(len(entries), dtype=np.bool_)
    if wanted.label is not None:
        passing &= np.isin(entries["label"], np.asarray(labels.codes(wanted.label), dtype=np.uint32))
    if wanted.at_least is not None:
        passing &= entries["confidence"] >= round(wanted.at_least * 0xFFFF)
    if wanted.at_most is not None:
        passing &= entries["confidence"] <= round(wanted.at_most * 0xFFFF)
    if wanted.tasks is not None:
        passing &= np.isin(entries["task"], np.asarray(wanted.tasks, dtype=np.uint64))
    if without := (*wanted.without, *query.like):
        passing &= ~np.isin(entries["task"], np.asarray(without, dtype=np.uint64))
    return passing


def search_folder(state_dir: Path, space: str) -> Path:
    """Where the files of collections in a space lie."""
    return state_dir / "search" / space_tag(space).hex()
