"""From logits to answers the slow way, one image and one label at a time: what the arrays are held against.

Formulas: SigLIP's pair probability `sigmoid(logit_scale * cos + logit_bias)` (https://arxiv.org/abs/2303.15343,
equation 1) does not depend on other labels. When exactly one label is right, and the pair scores are log
odds up to one constant, the posterior over labels is their softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from prelabel.schemas.predictions import Answer, LabelScore, Rule
from prelabel.schemas.taxonomy import LabelPath, Taxonomy


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """`1 / (1 + exp(-x))` without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over the last axis without overflow."""
    shifted = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def leaf_probabilities(logits: NDArray[np.floating], taxonomy: Taxonomy) -> NDArray[np.float64]:
    """Probability of each leaf under the taxonomy's choice, temperature and shift. Same shape as `logits`."""
    wide = np.asarray(logits, dtype=np.float64)
    if taxonomy.choice == "multiple":
        return sigmoid((wide + taxonomy.logit_shift) / taxonomy.temperature)
    return softmax(wide / taxonomy.temperature)


def _short(value: float) -> float:
    """Nine significant digits, which tell every float32 from its neighbours: the rest would only cost memory."""
    return float(f"{value:.9g}")


_SCORES = TypeAdapter(tuple[LabelScore, ...])
"""Makes all of an answer's scores in one call: a call for each took half of a fast worker's CPU time."""


class SlowAnswerer:
    """Turns one image's logits into the answer to one control. Prepared once per job, used for every image.

    Args:
        taxonomy: what may be answered.
        control: name put on the answers.
        top_k: scores kept; None keeps every node's.
    """

    def __init__(self, taxonomy: Taxonomy, *, control: str = "label", top_k: int | None = 20) -> None:
        self.taxonomy = taxonomy
        self._control = control
        self._top_k = top_k
        self._nodes = list(taxonomy.walk())
        self._paths = [path for path, label in self._nodes if not label.children]
        self._leaf = {path: i for i, path in enumerate(self._paths)}
        # A node without a threshold is cleared by any probability.
        self._thresholds = {path: taxonomy.node_threshold(label) or 0.0 for path, label in self._nodes}
        self._leaf_thresholds = np.asarray([self._thresholds[path] for path in self._paths])
        by_sigmoid = taxonomy.choice == "multiple"
        self._rule: Rule = "sigmoid" if by_sigmoid else "softmax"
        if taxonomy.is_tree:
            self._rule = "tree-sigmoid" if by_sigmoid else "tree-softmax"

    def __call__(self, logits: NDArray[np.floating], index: int | None = None) -> Answer:
        """Answer from `(n_leaves,)` logits in the order of `taxonomy.leaves()`."""
        return self.many(logits[np.newaxis], [index])[0]

    def many(self, logits: NDArray[np.floating], indices: Sequence[int | None] | None = None) -> list[Answer]:
        """An answer for each row of `(n_images, n_leaves)` logits; what can be done for all rows at once is.

        Args:
            logits: in the order of `taxonomy.leaves()`.
            indices: per row `Answer.index`; left out it is None everywhere.
        """
        leaves = leaf_probabilities(logits, self.taxonomy)
        order = None if self.taxonomy.is_tree else np.argsort(-leaves, axis=1, kind="stable")[:, : self._top_k]
        return [
            self._answer(logits[row], leaves[row], None if order is None else order[row].tolist(), index)
            for row, index in enumerate(indices or [None] * len(logits))
        ]

    def _answer(
        self, logits: NDArray[np.floating], leaves: NDArray[np.float64], order: list[int] | None, index: int | None
    ) -> Answer:
        """One row's; `order` has its best leaves, best first, None for a tree."""
        nodes = self._node_probabilities(leaves) if order is None else {}
        if self.taxonomy.choice == "multiple":
            chosen = self._over_threshold(leaves)
            confidence = min(leaves[self._leaf[path]] for path in chosen) if chosen else 1.0 - leaves.max()
        elif order is None:
            chosen, confidence = self._descend(nodes)
        else:
            best = order[0]
            chosen = [self._paths[best]] if leaves[best] >= self._leaf_thresholds[best] else []
            confidence = leaves[best]
        if order is None:
            kept = sorted(nodes, key=lambda path: -nodes[path])[: self._top_k]
        else:
            kept = [self._paths[i] for i in order]
        return Answer(
            control=self._control,
            index=index,
            rule=self._rule,
            paths=tuple(chosen),
            confidence=_short(confidence),
            scores=self._scores(logits, leaves, nodes, list(dict.fromkeys([*kept, *chosen]))),
        )

    def _over_threshold(self, leaves: NDArray[np.float64]) -> list[LabelPath]:
        """The labels that clear their thresholds, the likeliest `max_answers` of them, in the taxonomy's order."""
        chosen = np.flatnonzero(leaves >= self._leaf_thresholds)
        if self.taxonomy.max_answers is not None:
            chosen = np.sort(chosen[np.argsort(-leaves[chosen], kind="stable")[: self.taxonomy.max_answers]])
        return [self._paths[i] for i in chosen]

    def _node_probabilities(self, leaves: NDArray[np.float64]) -> dict[LabelPath, float]:
        """Every node's: a parent's is the sum (single) or the maximum (multiple) of its children's."""
        combine = max if self.taxonomy.choice == "multiple" else sum
        nodes: dict[LabelPath, float] = {}
        for path, label in reversed(self._nodes):  # children before parents
            if label.children:
                nodes[path] = min(1.0, combine(nodes[(*path, child.name)] for child in label.children))
            else:
                nodes[path] = float(leaves[self._leaf[path]])
        return nodes

    def _descend(self, nodes: dict[LabelPath, float]) -> tuple[list[LabelPath], float]:
        """From the root to the likeliest child again and again, while it clears its threshold."""
        path: LabelPath = ()
        labels = self.taxonomy.labels
        while labels:
            below = max(((*path, label.name) for label in labels), key=nodes.__getitem__)
            if nodes[below] < self._thresholds[below]:
                return ([path], nodes[path]) if path else ([], nodes[below])
            path = below
            labels = next(label for label in labels if label.name == path[-1]).children
        return [path], nodes[path]

    def _scores(
        self,
        logits: NDArray[np.floating],
        leaves: NDArray[np.float64],
        nodes: dict[LabelPath, float],
        paths: list[LabelPath],
    ) -> tuple[LabelScore, ...]:
        at = [self._leaf.get(path, -1) for path in paths]
        # Python's own floats: to format numpy's takes ten times as long.
        raw, probable = logits[at].tolist(), leaves[at].tolist()
        scores: list[dict[str, Any]] = []
        for path, i, logit, probability in zip(paths, at, raw, probable, strict=True):
            if i < 0:
                scores.append({"path": path, "probability": _short(nodes[path])})
            else:
                scores.append({"path": path, "logit": _short(logit), "probability": _short(probability)})
        scores.sort(key=lambda score: -score["probability"])
        return _SCORES.validate_python(scores)
