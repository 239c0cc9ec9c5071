"""From what a test chooses for an image to the answer a worker would have written."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Final, TypeAlias

from ...schemas.errors import ConfigError
from ...schemas.jobs import Control
from ...schemas.predictions import Answer, LabelScore, Rule
from ...schemas.taxonomy import Label, LabelPath, Taxonomy

Choice: TypeAlias = (
    str | LabelPath | Mapping[str, float] | Mapping[LabelPath, float] | Collection[str | LabelPath] | None
)
"""What may be chosen for an image: a label's name; a tuple, its path; a list or a set of either, where several may be
right; None for nothing; or a mapping from names or paths of leaves to probabilities, judged by the job's thresholds."""

_CHOSEN: Final = 0.9
"""Probability of what was chosen by name; in a single choice of all leaves below it together."""

_OTHER: Final = 0.05
"""Probability of every other label of a multiple choice."""

_CERTAIN: Final = 1e-6
"""Logits are of probabilities between this and one minus this: no infinity."""


def first_leaf(taxonomy: Taxonomy) -> LabelPath:
    """The first label that can be answered."""
    return taxonomy.leaves()[0][0]


def answer_of(choice: Choice, control: Control, *, index: int | None = None, top_k: int | None = None) -> Answer:
    """The answer to one control.

    Args:
        choice: what was chosen.
        control: the question, its taxonomy closed.
        index: `Answer.index`.
        top_k: scores kept; None keeps every node's.

    Raises:
        ConfigError: the choice does not fit the control; says how.
    """
    taxonomy = control.taxonomy
    if isinstance(choice, Mapping):
        leaves = _given(choice, control)
        nodes = _with_parents(leaves, taxonomy)
        paths = _over_threshold(leaves, taxonomy) if taxonomy.choice == "multiple" else _descend(nodes, taxonomy)
    else:
        paths = _named(choice, control)
        leaves = _spread(paths, taxonomy)
        nodes = _with_parents(leaves, taxonomy)
    best_first = sorted(nodes, key=lambda path: -nodes[path])
    kept = dict.fromkeys([*best_first[:top_k], *paths])
    return Answer(
        control=control.name,
        index=index,
        rule=_rule(taxonomy),
        paths=tuple(paths),
        confidence=_confidence(paths, nodes, taxonomy),
        scores=tuple(
            LabelScore(path=path, logit=_logit(nodes[path]) if path in leaves else None, probability=nodes[path])
            for path in best_first
            if path in kept
        ),
    )


def _rule(taxonomy: Taxonomy) -> Rule:
    if taxonomy.is_tree:
        return "tree-sigmoid" if taxonomy.choice == "multiple" else "tree-softmax"
    return "sigmoid" if taxonomy.choice == "multiple" else "softmax"


def _logit(probability: float) -> float:
    """The log odds, which a sigmoid makes the probability again."""
    inside = min(max(probability, _CERTAIN), 1.0 - _CERTAIN)
    return math.log(inside / (1.0 - inside))


def _confidence(paths: list[LabelPath], nodes: Mapping[LabelPath, float], taxonomy: Taxonomy) -> float:
    if paths:
        return min(nodes[path] for path in paths)
    best = max(nodes[label.name,] for label in taxonomy.labels)
    return 1.0 - best if taxonomy.choice == "multiple" else best


def _named(choice: str | LabelPath | Collection[str | LabelPath] | None, control: Control) -> list[LabelPath]:
    """The paths chosen, in the taxonomy's order."""
    if choice is None:
        return []
    several = [choice] if isinstance(choice, str | tuple) else list(choice)
    chosen = {_path(name, control) for name in several}
    taxonomy = control.taxonomy
    if taxonomy.choice == "single" and len(chosen) > 1:
        raise ConfigError(f"control {control.name!r} is a single choice, and {sorted(chosen)} were chosen")
    if taxonomy.choice == "multiple":
        leaves = {path for path, _ in taxonomy.leaves()}
        if parents := chosen - leaves:
            raise ConfigError(f"a multiple choice answers leaves alone, and {sorted(parents)} have labels below them")
        if taxonomy.max_answers is not None and len(chosen) > taxonomy.max_answers:
            raise ConfigError(f"control {control.name!r} takes {taxonomy.max_answers} labels, not {len(chosen)}")
    return [path for path, _ in taxonomy.walk() if path in chosen]


def _path(name: str | LabelPath, control: Control) -> LabelPath:
    """The path of a label given by its name or by its path."""
    if isinstance(name, tuple):
        paths = [path for path, _ in control.taxonomy.walk() if path == name]
    else:
        paths = [path for path, _ in control.taxonomy.walk() if path[-1] == name]
    if not paths:
        labels = ", ".join(label.name for label in control.taxonomy.labels[:5])
        hint = " (a tuple is the path of one label; several are a list)" if isinstance(name, tuple) else ""
        raise ConfigError(f"control {control.name!r} has no label {name!r}{hint}: it has {labels}")
    if len(paths) > 1:
        raise ConfigError(f"control {control.name!r} has several labels {name!r}: choose a path, such as {paths[0]}")
    return paths[0]


def _given(choice: Mapping[str, float] | Mapping[LabelPath, float], control: Control) -> dict[LabelPath, float]:
    """Every leaf's probability; 0 where none was given."""
    leaves = {path: 0.0 for path, _ in control.taxonomy.leaves()}
    for name, probability in choice.items():
        path = _path(name, control)
        if path not in leaves:
            raise ConfigError(f"{name!r} has labels below it: its probability is made of theirs")
        if not 0.0 <= probability <= 1.0:
            raise ConfigError(f"a probability is 0 to 1, and {name!r} has {probability}")
        leaves[path] = float(probability)
    return leaves


def _spread(chosen: list[LabelPath], taxonomy: Taxonomy) -> dict[LabelPath, float]:
    """Probabilities of all leaves that make these labels the likeliest."""
    leaves = [path for path, _ in taxonomy.leaves()]
    if taxonomy.choice == "multiple":
        return {path: _CHOSEN if path in chosen else _OTHER for path in leaves}
    is_right = {path: any(path[: len(top)] == top for top in chosen) for path in leaves}
    count = Counter(is_right.values())
    if len(count) == 1:  # nothing was chosen, or all there is
        return dict.fromkeys(leaves, 1.0 / len(leaves))
    share = {True: _CHOSEN / count[True], False: (1.0 - _CHOSEN) / count[False]}
    return {path: share[is_right[path]] for path in leaves}


def _with_parents(leaves: Mapping[LabelPath, float], taxonomy: Taxonomy) -> dict[LabelPath, float]:
    """Every node's probability: a parent's is the sum (single) or the maximum (multiple) of its children's."""
    nodes: dict[LabelPath, float] = {}
    for path, label in reversed(list(taxonomy.walk())):  # children before parents
        below = [nodes[(*path, child.name)] for child in label.children]
        if below:
            nodes[path] = max(below) if taxonomy.choice == "multiple" else min(1.0, sum(below))
        else:
            nodes[path] = leaves[path]
    return {path: nodes[path] for path, _ in taxonomy.walk()}


def _over_threshold(leaves: Mapping[LabelPath, float], taxonomy: Taxonomy) -> list[LabelPath]:
    """The labels that reach their thresholds, the likeliest `max_answers` of them, in the taxonomy's order."""
    over = [path for path, label in taxonomy.leaves() if leaves[path] >= (taxonomy.node_threshold(label) or 0.0)]
    likeliest = sorted(over, key=lambda path: -leaves[path])[: taxonomy.max_answers]
    return [path for path in over if path in likeliest]


def _descend(nodes: Mapping[LabelPath, float], taxonomy: Taxonomy) -> list[LabelPath]:
    """From the roots to the likeliest child again and again, while it reaches its threshold."""
    reached: LabelPath = ()
    for path, label in _likeliest(nodes, taxonomy):
        if nodes[path] < (taxonomy.node_threshold(label) or 0.0):
            break
        reached = path
    return [reached] if reached else []


def _likeliest(nodes: Mapping[LabelPath, float], taxonomy: Taxonomy) -> Iterator[tuple[LabelPath, Label]]:
    """The likeliest root, its likeliest child, and so on down to a leaf."""
    path: LabelPath = ()
    labels = taxonomy.labels
    while labels:
        label = max(labels, key=lambda label: nodes[(*path, label.name)])
        path = (*path, label.name)
        yield path, label
        labels = label.children
