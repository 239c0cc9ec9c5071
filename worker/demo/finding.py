"""Searching the demo's own pictures, held against what they really show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ...integrations.client.client import Client
from ...integrations.client.job import Job
from ...schemas.search import Hit
from .story import Picture

BEST: Final = 20
"""Hits of a text that are looked at."""

ALIKE: Final = 10
"""The same of a picture."""

_OFTEN: Final = 3
"""Pictures that must show a pair before it is searched for."""

_EVERY: Final = 5
"""One picture in so many is searched for its like."""

_SHOWN: Final = 2
"""Texts whose hits are shown."""


@dataclass(frozen=True)
class Shown:
    """A text and what was found for it, with whether each hit shows that; `there` is how many pictures do."""

    text: str
    there: int
    hits: Sequence[tuple[Hit, Picture, bool]]


@dataclass(frozen=True)
class Findings:
    """How well the pictures of a job are found.

    Attributes:
        pairs: colour and shape pairs that were searched for by words.
        precision: share of right ones among the best `BEST` hits, or as many as there are, averaged over the pairs.
        samples: pictures that were searched for their like.
        same: share of the same colour and shape among the `ALIKE` nearest, or as many as there are, averaged.
        searched: pictures that were looked through each time.
        shown: some of the texts.
    """

    pairs: int
    precision: float
    samples: int
    same: float
    searched: int
    shown: Sequence[Shown]


def find(client: Client, job: Job, pictures: Sequence[Picture]) -> Findings:
    """Search a job by words and by likeness.

    Args:
        client: where it is searched.
        job: has answered the pictures, an item each.
        pictures: of one figure each, in the order they were submitted.

    Raises:
        PrelabelError: it cannot be searched.
    """
    pairs = [picture.pairs[0] for picture in pictures]
    there = Counter(pairs)
    precisions: list[float] = []
    shown: list[Shown] = []
    searched = 0
    for pair, count in there.most_common():
        if count < _OFTEN:
            break
        text = f"a {' '.join(pair)}"
        found = client.search(job, text, k=BEST)
        searched = found.searched
        hits = [(hit, pictures[hit.task], pairs[hit.task] == pair) for hit in found]
        most = min(BEST, count)
        precisions.append(sum(right for _, _, right in hits[:most]) / most)
        if len(shown) < _SHOWN:
            shown.append(Shown(text, count, hits[: 2 * most]))
    sames: list[float] = []
    for at in range(0, len(pictures), _EVERY):
        most = min(ALIKE, there[pairs[at]] - 1)
        if most:
            alike = client.search(job, like=at, k=most)
            sames.append(sum(pairs[hit.task] == pairs[at] for hit in alike) / most)
    return Findings(len(precisions), _mean(precisions), len(sames), _mean(sames), searched, shown)


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0
