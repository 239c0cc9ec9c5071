"""Answers searches: among the vectors that are there, the best by cosine, as they are in Label Studio now."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from ...schemas.models import ModelCard
from ...schemas.search import (
    MOST_HITS,
    DuplicateGroup,
    Duplicates,
    DuplicatesQuery,
    Hit,
    RankedText,
    RankQuery,
    SearchPage,
    SearchQuery,
)
from ...schemas.settings import Settings
from ..arrays import Vectors
from ..model.similarity import pair_logits, sigmoid
from ..vectors.keys import space_tag
from ..vectors.store import EmbeddingStore
from .collection import Collection, Current, Tell
from .duplicates import Group, duplicate_groups
from .entries import Entries, entry_keys
from .files import Snapshot
from .hits import Candidate, HitPage, hit_of
from .open_index import open_index
from .places import AT_ONCE, JobPlace, Labels, Place, ProjectPlace, is_there
from .query import QueryVectors, Sought

_SWEEP_S: Final = 3600.0
_COLLECTIONS_KEPT: Final = 64
_LOOKED_AT: Final = 5_000
"""Images that are compared with what Label Studio says of them for one page, at most."""

_MARGIN: Final = 4
"""Images ranked anew by their stored vectors, for each that is wanted: the files' are rounded once more."""

_LEAST_MORE, _MOST_MORE = 64, 1_000
"""How many more than are wanted these are at least, and at most."""


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
        self._folder = settings.state_dir / "search"
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
        self._sweep()
        with closing(self._place(query)) as place:
            return self._search(place, query, tell)

    def _search(self, place: Place, query: SearchQuery, tell: Tell) -> SearchPage:
        current = self._collection(place).current(tell)
        snapshot = current.snapshot
        labels = Labels(place.controls)
        within = snapshot.counts & _passing(snapshot.entries, query, labels)
        sought = self._queries.of(query, snapshot)
        made = HitPage(query.count, query.filter)
        at = query.after
        for candidates in self._ranked(snapshot, sought, within, query.after + query.count):
            fresh = candidates[at : at + _LOOKED_AT - made.looked_at]
            for start in range(0, len(fresh), AT_ONCE):
                some = fresh[start : start + AT_ONCE]
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
        probabilities = self._probabilities(logits)
        return tuple(
            RankedText(
                place=at,
                text=query.texts[at],
                cosine=float(cosines[at]),
                logit=float(logits[at]),
                probability=probabilities[at],
            )
            for at in np.argsort(-cosines, kind="stable").tolist()
        )

    def duplicates(self, query: DuplicatesQuery, tell: Tell = lambda *_: None) -> Duplicates:
        """Near duplicates of a collection; see `duplicate_groups`.

        Raises:
            PrelabelError: it cannot be looked through; says why.
        """
        with closing(self._place(query)) as place:
            return self._duplicates(place, query, tell)

    def _duplicates(self, place: Place, query: DuplicatesQuery, tell: Tell) -> Duplicates:
        current = self._collection(place).current(tell)
        snapshot = current.snapshot
        found = duplicate_groups(snapshot.vectors, query.threshold, within=snapshot.counts, progress=tell)
        labels = Labels(place.controls)
        told = [Candidate(row, cosine) for group in found[: query.count] for row, cosine in _members(group, query)]
        hits: list[Hit | None] = []
        for start in range(0, len(told), AT_ONCE):
            tell(start, len(told))
            some = told[start : start + AT_ONCE]
            entries = snapshot.entries[[one.row for one in some]]
            hits += [
                None if known is None else hit_of(one, entry, known, labels)
                for one, entry, known in zip(some, entries, place.known(entries), strict=True)
            ]
        groups = []
        for group in found[: query.count]:
            count = len(_members(group, query))
            theirs, hits = tuple(one for one in hits[:count] if one), hits[count:]
            if len(theirs) > 1:  # the others are gone
                groups.append(DuplicateGroup(hits=theirs, size=len(group.rows)))
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
        with closing(ProjectPlace(project, self._redis, self._settings)) as place:
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
        for folder in self._folder.glob("*/*-*"):
            if not is_there(folder.name, self._redis):
                shutil.rmtree(folder, ignore_errors=True)

    def _collection(self, place: Place) -> Collection:
        folder = self._folder / space_tag(self._space).hex() / place.name
        with self._lock:
            known = self._collections.get(place.name)
            if known is None:
                known = Collection(folder, self._space, self._card.dim, self._store, place)
                self._collections[place.name] = known
            return known

    def _ranked(
        self, snapshot: Snapshot, sought: Sought, within: NDArray[np.bool_], wanted: int
    ) -> Iterator[Sequence[Candidate]]:
        """The best, the best first; more and more of them, each time all from the first on."""
        there = int(within.sum())
        index = open_index(snapshot.vectors, self._settings.search)
        count = min(there, wanted + max(_LEAST_MORE, min((_MARGIN - 1) * wanted, _MOST_MORE)))
        while there:
            found = index.search(sought.vector[np.newaxis], count, within)
            yield self._exact(snapshot, found.rows[0], sought)
            if count == there:
                return
            count = min(there, _MARGIN * count)

    def _exact(self, snapshot: Snapshot, rows: NDArray[np.int64], sought: Sought) -> list[Candidate]:
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
            return [Candidate(int(rows[at]), float(cosines[at])) for at in order]
        logits = pair_logits(vectors, query, self._card.logit_scale, self._card.logit_bias)[:, 0]
        probabilities = self._probabilities(logits)
        return [
            Candidate(int(rows[at]), float(cosines[at]), float(logits[at]), probabilities[at]) for at in order.tolist()
        ]

    def _probabilities(self, logits: Vectors) -> Sequence[float | None]:
        """Of `(n,)` logits; none where the model was not trained for single pairs."""
        if self._card.head != "sigmoid":
            return [None] * len(logits)
        probabilities: list[float | None] = sigmoid(logits.astype(np.float64)).tolist()
        return probabilities

    def _note(self, current: Current, made: HitPage, *, is_over: bool) -> str:
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


def _members(group: Group, query: DuplicatesQuery) -> list[tuple[int, float]]:
    """The rows of a group that are told, each with its cosine."""
    return list(zip(group.rows[: query.members].tolist(), group.cosines.tolist(), strict=False))


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
