"""From rows that are near to hits: what they stand for, and whether they are what is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from ...integrations.ledger.catalogue import image_mark
from ...schemas.items import ImageRef
from ...schemas.search import Hit, SearchFilter
from .entries import Entries
from .places import Known, Labels

_LARGEST_IMAGE: Final = 64 * 1024
"""Characters of a reference that is sent along; one that holds the image itself may have millions."""


class Candidate(NamedTuple):
    """A row among the best."""

    row: int
    cosine: float
    logit: float | None = None
    probability: float | None = None


class HitPage:
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
        self, candidates: Sequence[Candidate], entries: Entries, known: Sequence[Known | None], labels: Labels
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
                self.hits.append(hit_of(candidate, entry, one, labels))
        return len(candidates)

    def _passes(self, one: Known) -> bool:
        wanted = self._wanted
        if wanted.labeled is not None and one.labeled is not wanted.labeled:
            return False
        return wanted.since is None or (one.made_at is not None and one.made_at > wanted.since)


def hit_of(candidate: Candidate, entry: Any, one: Known, labels: Labels) -> Hit:
    """A hit as it goes to who asked.

    Args:
        candidate: the row.
        entry: its one of `ENTRY`.
        one: what it stands for.
        labels: of the place.
    """
    return Hit(
        task=int(entry["task"]),
        item=one.item.id,
        image=_sent(one.item.images[one.place]),
        mark=f"{image_mark(ImageRef(uri=one.item.images[one.place].uri)):x}",
        slot=one.item.slots()[one.place],
        cosine=candidate.cosine,
        logit=candidate.logit,
        probability=candidate.probability,
        label=labels.path(int(entry["label"])),
        confidence=int(entry["confidence"]) / 0xFFFF,
        labeled=one.labeled,
        made_at=one.made_at,
    )


def _sent(image: ImageRef) -> ImageRef:
    """The reference as it goes to who asked."""
    if len(image.uri) <= _LARGEST_IMAGE:
        return image
    problem = "the image stands in its task, and is too large to be sent along"
    return image.model_copy(update={"uri": image.display, "problem": problem})
