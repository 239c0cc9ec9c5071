"""From what somebody looks for to one vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from ...schemas.errors import ConfigError
from ...schemas.items import ImageRef
from ...schemas.models import ModelCard
from ...schemas.search import SearchQuery
from ..arrays import Vectors
from ..embedding.texts import TextVectors
from ..model.similarity import normalise
from .collection import rows_of
from .files import Snapshot


class Sought(NamedTuple):
    """What is looked for.

    Attributes:
        vector: `(dim,)` float32, of length 1.
        is_text: it is the vector of a text, or the mean of several as a label with these prompts has it: its logits
            are those of scoring.
    """

    vector: Vectors
    is_text: bool


class QueryVectors:
    """Makes the vectors of queries. Thread-safe.

    Args:
        card: the model's facts.
        texts: its text vectors.
        embed: the vector of an image, `(dim,)` float32; raises `ItemError` or `TransientError`.
    """

    def __init__(self, card: ModelCard, texts: TextVectors, embed: Callable[[ImageRef], Vectors]) -> None:
        self._template = card.template
        self._texts = texts
        self._embed = embed

    def of(self, query: SearchQuery, snapshot: Snapshot) -> Sought:
        """The vector a query looks for.

        Args:
            query: what is asked.
            snapshot: where the vectors of tasks are that it shall be like.

        Raises:
            ConfigError: a task has no vector there, or a text cannot be read by the model, or nothing is left of them.
            ItemError: the picture can never be read.
            TransientError: the picture cannot be had for now.
            ScorerError: the model fails.
        """
        if query.image is not None:
            return Sought(normalise(self.image(query.image)[np.newaxis])[0], is_text=False)
        if query.like:
            return Sought(_like(query.like, snapshot), is_text=False)
        sought = self._phrased(query, query.texts)
        if not query.less:
            return Sought(sought, is_text=True)
        rest = sought - np.float32(query.less_weight) * self._phrased(query, query.less)
        if np.linalg.norm(rest) < _NOTHING:
            raise ConfigError("nothing is left of the search: what it leaves out is what it looks for")
        return Sought(normalise(rest[np.newaxis])[0], is_text=False)

    def image(self, image: ImageRef) -> Vectors:
        """`(dim,)` float32, un-normalised: the vector of a picture."""
        return self._embed(image)

    def phrases(self, texts: Sequence[str], template: str | None) -> Vectors:
        """`(n, dim)` float32, rows of length 1: of each text in the template; None is the model's own."""
        chosen = self._template if template is None else template
        return self._texts.averages([(_in(chosen, text),) for text in texts])

    def _phrased(self, query: SearchQuery, texts: tuple[str, ...]) -> Vectors:
        template = self._template if query.template is None else query.template
        prompts = tuple(_in(template, text) for text in texts)
        vector: Vectors = self._texts.averages([prompts])[0]
        return vector


_NOTHING = 1e-3
"""Length below which the difference of two texts is rounding."""


def _in(template: str, text: str) -> str:
    return template.replace("{label}", " ".join(text.split()))


def _like(tasks: tuple[int, ...], snapshot: Snapshot) -> Vectors:
    rows = rows_of(snapshot, tasks)
    found = snapshot.entries["task"][rows]
    if absent := sorted(set(tasks) - set(found.tolist())):
        raise ConfigError(
            f"{'task' if len(absent) == 1 else 'tasks'} {', '.join(map(str, absent[:5]))}: no stored vector here; it "
            "is not scored yet, or not of this project"
        )
    mean: Vectors = np.asarray(snapshot.vectors[rows]).astype(np.float32).mean(axis=0)
    vector: Vectors = normalise(mean[np.newaxis])[0]
    return vector
