"""From logits to answers, for many images at once. Plain numpy, no state.

Formulas: SigLIP's pair probability `sigmoid(logit_scale * cos + logit_bias)` (https://arxiv.org/abs/2303.15343,
equation 1) does not depend on other labels. When exactly one label is right, and the pair scores are log
odds up to one constant, the posterior over labels is their softmax.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...integrations.ledger.answers import Labels
from ...integrations.ledger.columns import NO_INDEX, AnswerColumns, count_code, label_code
from ...schemas.taxonomy import Taxonomy
from ..model.similarity import sigmoid

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

_ROOT: Final = -1
"""Stands above the taxonomy's roots."""

_FEW: Final = 64
"""Labels up to which sorting all of them is as fast as looking for the best first."""


class _Chosen(NamedTuple):
    """What each of `m` images is answered with.

    Attributes:
        mask: `(m, n_nodes)` the chosen labels.
        confidences: `(m,)`, 0..1.
    """

    mask: NDArray[np.bool_]
    confidences: Floats


def softmax(x: Floats) -> tuple[Floats, Floats]:
    """Softmax over the last axis, and `ln(sum(exp(x)))`, without overflow."""
    highest = x.max(axis=-1)
    parts = np.exp(x - highest[..., np.newaxis])
    total = parts.sum(axis=-1)
    return parts / total[..., np.newaxis], highest + np.log(total)


class Answerer:
    """Turns images' logits into the answers to one control. Prepared once per job, used for every image.

    Args:
        taxonomy: what may be answered; not open.
        place: the control's place among the job's.
        brought: the taxonomy holds labels that came with items.
        top_k: scores kept; None keeps every node's.
        pairwise: see `LabelScore.pairwise`.
    """

    def __init__(
        self,
        taxonomy: Taxonomy,
        *,
        place: int = 0,
        brought: bool = False,
        top_k: int | None = 20,
        pairwise: bool = True,
    ) -> None:
        self.labels = Labels.of(taxonomy)
        self._taxonomy = taxonomy
        self._place = place
        self._brought = brought
        self._top_k = top_k
        self._pairwise = pairwise
        self._is_multiple = taxonomy.choice == "multiple"
        nodes = list(taxonomy.walk())
        is_leaf = np.asarray(self.labels.are_leaves)
        self._leaves = np.flatnonzero(is_leaf)
        # A node without a threshold is cleared by any probability.
        self._thresholds = np.asarray([taxonomy.node_threshold(label) or 0.0 for _, label in nodes])
        self._below = _children(self.labels) if taxonomy.is_tree else {}
        self._code = label_code(len(nodes))

    def columns(
        self,
        logits: NDArray[np.floating],
        items: Sequence[int] | None = None,
        indices: Sequence[int | None] | None = None,
    ) -> AnswerColumns:
        """The answers to `(m, n_leaves)` logits, in the order of `taxonomy.leaves()`.

        Args:
            logits: a row an answer; float32, or taken as such.
            items: `(m,)` which item each answer is about; None: answer `i` is item `i`'s.
            indices: `(m,)` `Answer.index`; None: no answer has one.
        """
        raw = np.asarray(logits, dtype=np.float32)
        probable, norms = self._probabilities(raw)
        chosen = self._choose(probable)
        counts, nodes = self._kept(probable, chosen.mask)
        values = _rounded_up(probable) if self._below else np.empty(probable.shape, dtype=np.float32)
        values[:, self._leaves] = raw
        _, picked = np.nonzero(chosen.mask)
        return AnswerColumns(
            place=self._place,
            labels_crc=self.labels.crc,
            brought=self._brought,
            items=None if items is None else array("H", items),
            indices=None if indices is None else array("H", [NO_INDEX if one is None else one for one in indices]),
            counts=_column("I", counts),
            nodes=_column(self._code, nodes),
            values=_column("f", values[np.repeat(np.arange(len(raw)), counts), nodes]),
            norms=None if norms is None else _column("d", norms),
            confidences=_column("d", chosen.confidences),
            chosen_counts=_column(count_code(self._code), chosen.mask.sum(axis=1)),
            chosen=_column(self._code, picked),
            pairwise=self._pairwise,
        )

    def _probabilities(self, logits: NDArray[np.float32]) -> tuple[Floats, Floats | None]:
        """`(m, n_nodes)` of every label, and what makes those of leaves from their logits (`AnswerColumns.norms`)."""
        wide = logits.astype(np.float64)
        norms = None
        if self._is_multiple:
            leaves = sigmoid((wide + self._taxonomy.logit_shift) / self._taxonomy.temperature)
        else:
            wide /= self._taxonomy.temperature
            leaves, norms = softmax(wide)
        if not self._below:
            return leaves, norms
        nodes = np.empty((len(wide), len(self._thresholds)))
        nodes[:, self._leaves] = leaves
        for parent, children in self._below.items():  # children before parents
            below = nodes[:, children]
            if parent != _ROOT:
                nodes[:, parent] = below.max(axis=1) if self._is_multiple else np.minimum(1.0, below.sum(axis=1))
        return nodes, norms

    def _choose(self, probable: Floats) -> _Chosen:
        if self._is_multiple:
            return self._over_threshold(probable)
        return self._descend(probable) if self._below else self._likeliest(probable)

    def _over_threshold(self, probable: Floats) -> _Chosen:
        """The leaves that clear their thresholds, the likeliest `max_answers` of them.

        As sure as of the least certain of them; where there is none, as that the best one is wrong.
        """
        leaves = probable[:, self._leaves]
        clears = leaves >= self._thresholds[self._leaves]
        most = self._taxonomy.max_answers
        if most is not None and most < leaves.shape[1]:
            likeliest = np.argsort(np.where(clears, -leaves, np.inf), axis=1, kind="stable")[:, :most]
            within = np.zeros_like(clears)
            np.put_along_axis(within, likeliest, values=True, axis=1)
            clears &= within
        least = np.where(clears, leaves, np.inf).min(axis=1)
        mask = np.zeros(probable.shape, dtype=np.bool_)
        mask[:, self._leaves] = clears
        return _Chosen(mask, np.where(clears.any(axis=1), least, 1.0 - leaves.max(axis=1)))

    def _likeliest(self, probable: Floats) -> _Chosen:
        """The best label where it clears its threshold."""
        rows, best = np.arange(len(probable)), probable.argmax(axis=1)
        confidences = probable[rows, best]
        mask = np.zeros(probable.shape, dtype=np.bool_)
        mask[rows, best] = confidences >= self._thresholds[best]
        return _Chosen(mask, confidences)

    def _descend(self, probable: Floats) -> _Chosen:
        """From the root to the likeliest child again and again, while it clears its threshold."""
        at: Places = np.full(len(probable), _ROOT, dtype=np.intp)
        confidences = np.zeros(len(probable))
        under_way: Places = np.arange(len(probable), dtype=np.intp)
        while under_way.size:
            further: list[Places] = []
            for parent in np.unique(at[under_way]).tolist():
                children = self._below.get(parent)
                if children is None:
                    continue
                rows = under_way[at[under_way] == parent]
                best = children[probable[np.ix_(rows, children)].argmax(axis=1)]
                likely = probable[rows, best]
                clears = likely >= self._thresholds[best]
                if parent == _ROOT:
                    confidences[rows] = likely
                confidences[rows[clears]] = likely[clears]
                at[rows[clears]] = best[clears]
                further.append(rows[clears])
            under_way = np.concatenate(further) if further else under_way[:0]
        mask = np.zeros(probable.shape, dtype=np.bool_)
        chose = np.flatnonzero(at != _ROOT)
        mask[chose, at[chose]] = True
        return _Chosen(mask, confidences)

    def _kept(self, probable: Floats, chosen: NDArray[np.bool_]) -> tuple[Places, Places]:
        """How many scores each answer keeps, and which, best first: the best `top_k`, and what else was chosen."""
        rows, labels = probable.shape
        if self._below:  # of equals, whatever stands deeper or later in the taxonomy comes first
            best = labels - 1 - best_first(probable[:, ::-1], self._top_k)
        else:
            best = best_first(probable, self._top_k)
        kept = best.shape[1]
        others = chosen.copy()
        np.put_along_axis(others, best, values=False, axis=1)
        row, label = np.nonzero(others)
        if not row.size:
            return np.full(rows, kept), best.reshape(-1)
        order = np.lexsort((label, -probable[row, label], row))
        more = np.bincount(row, minlength=rows)
        starts = np.concatenate(([0], np.cumsum(kept + more)[:-1]))
        nodes = np.empty(int((kept + more).sum()), dtype=np.intp)
        nodes[starts[:, np.newaxis] + np.arange(kept)] = best
        rank = np.arange(len(row)) - np.concatenate(([0], np.cumsum(more)[:-1]))[row]
        nodes[starts[row] + kept + rank] = label[order]
        return kept + more, nodes


def best_first(values: Floats, count: int | None) -> Places:
    """`(m, count)`: where the highest of `(m, n)` stand, highest first; of equals the first. None is all of them."""
    n = values.shape[1]
    if count is None or count >= n or n <= _FEW:
        return np.argsort(-values, axis=1, kind="stable")[:, :count]
    some = np.sort(np.argpartition(-values, count - 1, axis=1)[:, :count], axis=1)
    found = np.take_along_axis(values, some, axis=1)
    best = np.take_along_axis(some, np.argsort(-found, axis=1, kind="stable"), axis=1)
    # Where several equal the last one kept, any of them may have been found.
    tied = np.flatnonzero((values >= found.min(axis=1, keepdims=True)).sum(axis=1) > count)
    if tied.size:
        best[tied] = np.argsort(-values[tied], axis=1, kind="stable")[:, :count]
    return best


def _rounded_up(values: Floats) -> NDArray[np.float32]:
    """As float32, never below: rounding makes no parent less likely than its child."""
    nearest = values.astype(np.float32)
    return np.where(nearest < values, np.nextafter(nearest, np.float32(np.inf)), nearest)


def _children(labels: Labels) -> dict[int, Places]:
    """The places of every parent's children in their order, the deepest parents first; the root last."""
    place = {path: at for at, path in enumerate(labels.paths)}
    children: dict[int, list[int]] = {}
    for at, path in enumerate(labels.paths):
        children.setdefault(place.get(path[:-1], _ROOT), []).append(at)
    # A parent stands before all that is below it.
    return {parent: np.asarray(children[parent]) for parent in sorted(children, reverse=True)}


def _column(code: str, values: NDArray[Any]) -> array[Any]:
    made: array[Any] = array(code)
    made.frombytes(np.ascontiguousarray(values, dtype=made.typecode).tobytes())
    return made
