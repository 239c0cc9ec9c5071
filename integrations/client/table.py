"""A job's predictions as numpy columns: for whoever reads a hundred thousand of them and looks at none."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import ConfigError
from ...schemas.jobs import Control, JobSpec
from ...schemas.predictions import Answer, ItemFailure, Outcome
from ...schemas.taxonomy import LabelPath, Taxonomy
from ...schemas.wire import kind_of
from ..ledger.answers import Labels
from ..ledger.columns import KEY_BYTES, NO_INDEX, AnswerColumns
from ..ledger.entries import Block

NONE: Final = -1
"""Stands for no label, and for no `Answer.index`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Scores:
    """What a table's logits and probabilities are made of, when somebody asks.

    Attributes:
        values: `(n, k)` logits of leaves, probabilities of other labels; NaN where there is no score.
        norms: `(n,)` see `ledger.columns`.
        are_leaves: which of the control's labels have no others below them.
        taxonomy: the control's.
    """

    values: NDArray[np.float32]
    norms: NDArray[np.float64]
    are_leaves: NDArray[np.bool_]
    taxonomy: Taxonomy

    def probabilities(self, is_leaf: NDArray[np.bool_]) -> NDArray[np.float64]:
        """`(n, k)`; `is_leaf` says whose values are logits."""
        wide = self.values.astype(np.float64)
        if self.taxonomy.choice == "multiple":
            x = (wide + self.taxonomy.logit_shift) / self.taxonomy.temperature
            small = np.exp(-np.abs(x))
            leaves = np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))
        else:
            leaves = np.exp(np.minimum(0.0, wide / self.taxonomy.temperature - self.norms[:, np.newaxis]))
        return np.where(is_leaf, leaves, wide)


@dataclass(frozen=True, kw_only=True, eq=False)
class Table:
    """The answers to one control, a row each, by ordinal; items that failed, or have no answer to it, have a row, too.

    `n` rows; `k` is the most scores a row has. A label is its place in `paths`; -1 is none. Reading it back as
    predictions: `job.results()`.

    Attributes:
        control: the control's name.
        paths: every label of the control, parents before children: what places count in.
        ordinals: `(n,)` int64, the items' place in the submission, from 0.
        indices: `(n,)` int64, `Answer.index`; -1 where there is none.
        chosen: `(n,)` int64, the first chosen label.
        chosen_counts: `(n,)` int64, how many labels were chosen.
        all_chosen: `(sum(chosen_counts),)` int64, the chosen labels, row after row.
        confidences: `(n,)` float64, 0..1; NaN where there is no answer.
        labels: `(n, k)` int32, the labels that have scores, best first.
        pairwise: `(n,)` whether the row's logits say each by itself whether image and label belong together; see
            `LabelScore.pairwise`.
        keys: `(n, 16)` uint8, the key of the stored vector of the item's first image that has one; zeros if none has.
        failures: by ordinal why an item, or its answer to this control, is missing.
    """

    control: str
    paths: Sequence[LabelPath]
    ordinals: NDArray[np.int64]
    indices: NDArray[np.int64]
    chosen: NDArray[np.int64]
    chosen_counts: NDArray[np.int64]
    all_chosen: NDArray[np.int64]
    confidences: NDArray[np.float64]
    labels: NDArray[np.int32]
    pairwise: NDArray[np.bool_]
    keys: NDArray[np.uint8]
    failures: dict[int, ItemFailure] = field(repr=False)
    _scores: _Scores = field(repr=False)

    def __len__(self) -> int:
        return len(self.ordinals)

    @cached_property
    def answered(self) -> NDArray[np.bool_]:
        """`(n,)`: which rows have an answer."""
        return ~np.isnan(self.confidences)

    @cached_property
    def logits(self) -> NDArray[np.float32]:
        """`(n, k)`; NaN for a label that has others below it, and where there is no score."""
        return np.where(self._is_leaf, self._scores.values, np.float32(np.nan))

    @cached_property
    def probabilities(self) -> NDArray[np.float64]:
        """`(n, k)` by the answer's rule, 0..1; NaN where there is no score."""
        return self._scores.probabilities(self._is_leaf)

    @property
    def _is_leaf(self) -> NDArray[np.bool_]:
        is_leaf: NDArray[np.bool_] = np.append(self._scores.are_leaves, False)[self.labels]  # the last stands for none
        return is_leaf

    def names(self, places: NDArray[np.integer[Any]]) -> list[str | None]:
        """The labels' own names; None for no label.

        Args:
            places: such as `chosen`.
        """
        names = [path[-1] for path in self.paths]
        return [None if place < 0 else names[place] for place in places.tolist()]


def control_of(spec: JobSpec, name: str | None) -> Control:
    """The control a table is of.

    Args:
        spec: the job's.
        name: the control's; None is the first.

    Raises:
        ConfigError: there is none of that name, or its labels come with the items.
    """
    if not isinstance(name, str | None):
        raise ConfigError(f"a control is its name, a text, not {kind_of(name)}")
    named = {control.name: control for control in spec.controls}
    control = spec.controls[0] if name is None else named.get(name)
    if control is None:
        raise ConfigError(f"the job asks no control of that name: it asks {', '.join(named)}")
    if control.taxonomy.is_open:
        raise ConfigError(
            f"control {control.name} takes labels that its items bring, and a table has the same for all: "
            "read job.results()"
        )
    return control


class TableBuilder:
    """Puts blocks of answers together.

    Args:
        spec: the job's.
        control: the control; see `control_of`.
    """

    def __init__(self, spec: JobSpec, control: Control) -> None:
        self._control = control
        self._place = spec.controls.index(control)
        self._labels = Labels.of(control.taxonomy)
        self._at = {path: place for place, path in enumerate(self._labels.paths)}
        self._parts: list[_Part] = []
        self._errors: dict[int, ItemFailure] = {}
        self._missing: dict[int, ItemFailure] = {}

    def add(self, blocks: Iterable[Block]) -> None:
        """Take what the ledger holds of some items.

        Raises:
            ConfigError: it names labels of another job.
        """
        for block in blocks:
            if isinstance(block.held, Outcome):
                for ordinal in block.entry.ordinals:
                    self._add_alone(ordinal, block.held)
            else:
                columns = block.held.columns
                keys = _first_keys(columns.keys, columns.images, columns.count)
                without = np.ones(columns.count, dtype=np.bool_)
                for answers in columns.answers:
                    if answers.place == self._place:
                        self._add_columns(block, answers, keys)
                        without[slice(None) if answers.items is None else _numbers(answers.items)] = False
                for ordinal, row in zip(block.entry.ordinals, block.entry.rows, strict=True):
                    if without[row]:
                        self._parts.append(self._part(ordinal, None, keys[row].tobytes().hex()))

    def _add_columns(self, block: Block, answers: AnswerColumns, keys: NDArray[np.uint8]) -> None:
        if answers.labels_crc != self._labels.crc:
            raise ConfigError("the ledger holds answers that cannot be read (they name labels of another job)")
        rows = np.asarray(block.entry.rows)
        ordinals = np.full(len(keys), NONE, dtype=np.int64)
        ordinals[rows] = block.entry.ordinals
        items = np.arange(len(keys)) if answers.items is None else _numbers(answers.items)
        indices = np.full(len(items), NONE) if answers.indices is None else _numbers(answers.indices).astype(np.int64)
        indices[indices == NO_INDEX] = NONE
        self._parts.append(
            _Part(
                ordinals=ordinals[items],
                indices=indices,
                counts=_numbers(answers.counts),
                nodes=_numbers(answers.nodes),
                values=_numbers(answers.values),
                norms=_numbers(answers.norms) if answers.norms is not None else np.full(len(items), np.nan),
                confidences=_numbers(answers.confidences),
                chosen_counts=_numbers(answers.chosen_counts),
                chosen=_numbers(answers.chosen),
                pairwise=np.full(len(items), answers.pairwise),
                keys=keys[items],
            )
        )

    def _add_alone(self, ordinal: int, outcome: Outcome) -> None:
        answers = [answer for answer in outcome.answers if answer.control == self._control.name]
        missing = [one for one in outcome.unanswered if one.place == self._place]
        if outcome.error:
            self._errors[ordinal] = outcome.error
        if missing:
            self._missing[ordinal] = missing[0]
        key = next(iter(outcome.vectors.values()), "")
        self._parts += [self._part(ordinal, answer, key) for answer in answers]
        if not answers:
            self._parts.append(self._part(ordinal, None, key))

    def _part(self, ordinal: int, answer: Answer | None, key: str) -> _Part:
        scores = answer.scores if answer else ()
        is_leaf = self._labels.are_leaves
        places = [self._at[score.path] for score in scores]
        raw = [score.logit if is_leaf[at] else score.probability for at, score in zip(places, scores, strict=True)]
        norm = np.nan
        if answer and answer.rule.endswith("softmax"):
            norm = _norm(answer, self._control.taxonomy.temperature)
        return _Part(
            ordinals=np.asarray([ordinal]),
            indices=np.asarray([NONE if answer is None or answer.index is None else answer.index]),
            counts=np.asarray([len(scores)]),
            nodes=np.asarray(places, dtype=np.int64),
            values=np.asarray([np.nan if value is None else value for value in raw], dtype=np.float32),
            norms=np.asarray([norm]),
            confidences=np.asarray([answer.confidence if answer else np.nan]),
            chosen_counts=np.asarray([len(answer.paths) if answer else 0]),
            chosen=np.asarray([self._at[path] for path in answer.paths] if answer else [], dtype=np.int64),
            pairwise=np.asarray([all(score.pairwise for score in scores)]),
            keys=np.frombuffer(bytes.fromhex(key).ljust(KEY_BYTES, b"\0"), dtype=np.uint8)[np.newaxis],
        )

    def table(self) -> Table:
        """All of it, in the order of the ordinals, each item as it was answered first."""
        whole = _Part.joined(self._parts)
        order = whole.order()
        labels, values = whole.scores(order)
        chosen_counts = whole.chosen_counts[order]
        starts = (np.cumsum(whole.chosen_counts) - whole.chosen_counts)[order]
        within = np.arange(chosen_counts.sum()) - np.repeat(np.cumsum(chosen_counts) - chosen_counts, chosen_counts)
        chosen = np.full(len(order), NONE, dtype=np.int64)
        some = chosen_counts > 0
        chosen[some] = whole.chosen[starts[some]]
        return Table(
            control=self._control.name,
            paths=self._labels.paths,
            ordinals=whole.ordinals[order].astype(np.int64),
            indices=whole.indices[order].astype(np.int64),
            chosen=chosen,
            chosen_counts=chosen_counts.astype(np.int64),
            all_chosen=whole.chosen[np.repeat(starts, chosen_counts) + within].astype(np.int64),
            confidences=whole.confidences[order],
            labels=labels,
            pairwise=whole.pairwise[order],
            keys=whole.keys[order],
            failures=self._failures(whole.ordinals[~np.isnan(whole.confidences)]),
            _scores=_Scores(
                values=values,
                norms=whole.norms[order],
                are_leaves=np.asarray(self._labels.are_leaves),
                taxonomy=self._control.taxonomy,
            ),
        )

    def _failures(self, answered: NDArray[np.int64]) -> dict[int, ItemFailure]:
        """Without those of items that were answered when they were sent again."""
        is_there = set(answered.tolist()) if self._errors else set()
        return {**{at: error for at, error in self._errors.items() if at not in is_there}, **self._missing}


@dataclass(slots=True, kw_only=True, eq=False)
class _Part:
    """Some rows as they stand in the ledger; what they mean is in `AnswerColumns`."""

    ordinals: NDArray[Any]
    indices: NDArray[Any]
    counts: NDArray[Any]
    nodes: NDArray[Any]
    values: NDArray[Any]
    norms: NDArray[Any]
    confidences: NDArray[Any]
    chosen_counts: NDArray[Any]
    chosen: NDArray[Any]
    pairwise: NDArray[np.bool_]
    keys: NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: Sequence[_Part]) -> _Part:
        """All of them as one."""
        empty = np.zeros(0, dtype=np.int64)
        if not parts:
            floats, keys = np.zeros(0), np.zeros((0, KEY_BYTES), dtype=np.uint8)
            return cls(
                ordinals=empty, indices=empty, counts=empty, nodes=empty, values=floats, norms=floats,
                confidences=floats, chosen_counts=empty, chosen=empty, pairwise=empty.astype(np.bool_), keys=keys,
            )  # fmt: skip
        joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__}
        for name in ("counts", "chosen_counts"):
            joined[name] = joined[name].astype(np.int64)  # their sums are taken
        return cls(**joined)

    def scores(self, order: NDArray[np.intp]) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """`(n, k)` labels and `(n, k)` values of the rows in this order."""
        counts = self.counts[order]
        width = int(counts.max(initial=0))
        if width and (self.counts == width).all():
            return (
                self.nodes.reshape(-1, width)[order].astype(np.int32),
                self.values.reshape(-1, width)[order].astype(np.float32),
            )
        has = np.arange(width) < counts[:, np.newaxis]
        at = ((np.cumsum(self.counts) - self.counts)[order][:, np.newaxis] + np.arange(width))[has]
        labels = np.full(has.shape, NONE, dtype=np.int32)
        labels[has] = self.nodes[at]
        values = np.full(has.shape, np.nan, dtype=np.float32)
        values[has] = self.values[at]
        return labels, values

    def order(self) -> NDArray[np.intp]:
        """The rows that count, by ordinal and index: an item's answers without its failure, the first of the same."""
        failed = np.isnan(self.confidences)
        counts = self.ordinals >= 0  # without rows of a record that do not
        if failed.any():
            counts &= ~(failed & np.isin(self.ordinals, self.ordinals[~failed]))
        order: NDArray[np.intp] = np.flatnonzero(counts)
        order = order[np.lexsort((self.indices[order], self.ordinals[order]))]
        ordinals, indices = self.ordinals[order], self.indices[order]
        is_again = np.zeros(len(order), dtype=np.bool_)
        is_again[1:] = (ordinals[1:] == ordinals[:-1]) & (indices[1:] == indices[:-1])
        first: NDArray[np.intp] = order[~is_again]
        return first


def _norm(answer: Answer, temperature: float) -> float:
    """What makes the answer's probabilities of its logits; see `columns`."""
    for score in answer.scores:
        if score.logit is not None and score.probability > 0.0:
            return float(score.logit / temperature - np.log(score.probability))
    return float("nan")


def _first_keys(keys: bytes, images: array[int] | None, count: int) -> NDArray[np.uint8]:
    """`(count, 16)`: each item's first key."""
    every = np.frombuffer(keys, dtype=np.uint8).reshape(-1, KEY_BYTES)
    if images is None:
        return every
    counts = _numbers(images).astype(np.int64)
    first = np.zeros((count, KEY_BYTES), dtype=np.uint8)
    some = counts > 0
    first[some] = every[(np.cumsum(counts) - counts)[some]]
    return first


def _numbers(column: array[Any]) -> NDArray[Any]:
    return np.frombuffer(column, dtype=column.typecode) if len(column) else np.zeros(0, dtype=column.typecode)
