"""From columns of answers to the outcomes people and programs read: made for one item when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter

from ...schemas.errors import ConfigError
from ...schemas.items import Item, Options
from ...schemas.jobs import Control
from ...schemas.predictions import Answer, LabelScore, Outcome, Rule
from ...schemas.taxonomy import LabelPath, Taxonomy
from .columns import KEY_BYTES, NO_INDEX, AnswerColumns, Columns, labels_crc
from .specs import parsed_spec

_SCORES: Final = TypeAdapter(tuple[LabelScore, ...])
"""Makes all of an answer's scores in one call: a call for each takes twice as long."""

_BROUGHT_KEPT: Final = 256
"""Lists of labels kept that items brought."""


class Labels(NamedTuple):
    """The labels one control is answered with, in the order of `Taxonomy.walk()`.

    Attributes:
        paths: of every label, parents too.
        are_leaves: which of them have a logit.
        taxonomy: whose they are; its temperature and shift make probabilities of logits.
        rule: how probabilities are made.
        crc: see `columns.labels_crc`.
    """

    paths: list[LabelPath]
    are_leaves: list[bool]
    taxonomy: Taxonomy
    rule: Rule
    crc: int

    @classmethod
    def of(cls, taxonomy: Taxonomy) -> Labels:
        """Those of a taxonomy that is not open."""
        nodes = list(taxonomy.walk())
        paths = [path for path, _ in nodes]
        return cls(paths, [not label.children for _, label in nodes], taxonomy, rule_of(taxonomy), labels_crc(paths))


def rule_of(taxonomy: Taxonomy) -> Rule:
    """How a taxonomy's probabilities are made."""
    if taxonomy.is_tree:
        return "tree-sigmoid" if taxonomy.choice == "multiple" else "tree-softmax"
    return "sigmoid" if taxonomy.choice == "multiple" else "softmax"


class JobLabels:
    """The labels of a job's controls. Thread-safe.

    Args:
        controls: the job's.
    """

    def __init__(self, controls: Sequence[Control]) -> None:
        self._controls = controls
        self._fixed = [None if one.taxonomy.is_open else Labels.of(one.taxonomy) for one in controls]
        self._brought: dict[tuple[int, str], Labels] = {}

    def of(self, answers: AnswerColumns, item: Item) -> tuple[Control, Labels]:
        """A table's control, and the labels that the item's answer in it names.

        Raises:
            ConfigError: the answers were made for other labels.
        """
        if answers.place >= len(self._controls):
            raise _strange()
        control, labels = self._controls[answers.place], self._fixed[answers.place]
        if answers.brought:
            options = item.options.get(control.name)
            if labels is not None or options is None:
                raise _strange()
            labels = self._closed(answers.place, options)
        if labels is None or labels.crc != answers.labels_crc:
            raise _strange()
        return control, labels

    def paths(self, answers: AnswerColumns, item: Item | None) -> Sequence[LabelPath]:
        """The paths that a table's places of labels mean; none where only the item could tell.

        Raises:
            ConfigError: as `of`.
        """
        if answers.brought and item is None:
            return ()
        known = self._fixed[answers.place] if not answers.brought and answers.place < len(self._fixed) else None
        if known is not None and known.crc == answers.labels_crc:
            return known.paths
        if item is None:
            raise _strange()
        return self.of(answers, item)[1].paths

    def _closed(self, place: int, options: Options) -> Labels:
        key = place, options.digest
        known = self._brought.get(key)
        if known is None:
            if len(self._brought) >= _BROUGHT_KEPT:
                self._brought.clear()
            known = self._brought[key] = Labels.of(self._controls[place].taxonomy.closed(options.labels))
        return known


def _strange() -> ConfigError:
    return ConfigError("the ledger holds answers that cannot be read (they name labels of another job)")


@lru_cache(maxsize=64)
def job_labels(spec: bytes) -> JobLabels:
    """The labels of the job with this spec, as it stands in the ledger.

    Raises:
        ConfigError: another release wrote it.
    """
    return JobLabels(parsed_spec(spec).controls)


class Outcomes:
    """The outcomes that columns hold, each made when it is asked for.

    Args:
        columns: the answers.
        labels: of the job.

    Attributes:
        columns: as given.
    """

    def __init__(self, columns: Columns, labels: JobLabels) -> None:
        self.columns = columns
        self._labels = labels

    @cached_property
    def _tables(self) -> list[_Table]:
        return [_Table(answers) for answers in self.columns.answers]

    @cached_property
    def _ends(self) -> list[int] | None:
        images = self.columns.images
        return None if images is None else list(accumulate(images, initial=0))

    def outcome(self, place: int, item: Item, *, scores: bool = True) -> Outcome:
        """One item's.

        Args:
            place: which of the columns' items, from 0.
            item: that item.
            scores: whether its answers shall have their scores, which are most of the work.

        Raises:
            ConfigError: the answers do not fit the job or the item.
        """
        answers = tuple(answer for table in self._tables for answer in table.answers(place, item, self._labels, scores))
        return Outcome(model_version=self.columns.model_version, vectors=self.vectors(place, item), answers=answers)

    def vectors(self, place: int, item: Item) -> dict[str, str]:
        """See `Outcome.vectors`."""
        slots = item.slots()
        try:
            return {slots[image]: key for image, key in self.keys(place)}
        except IndexError:
            raise ConfigError("the ledger holds answers that cannot be read (they are of other images)") from None

    def keys(self, place: int) -> Iterator[tuple[int, str]]:
        """Which images of an item have a stored vector, and its key (hexadecimal)."""
        keys = self.columns.keys
        if self._ends is None:
            yield 0, keys[place * KEY_BYTES : (place + 1) * KEY_BYTES].hex()
            return
        for at in range(self._ends[place], self._ends[place + 1]):
            yield self.columns.places[at], keys[at * KEY_BYTES : (at + 1) * KEY_BYTES].hex()


class _Table:
    """Answers of one table, found by their item."""

    def __init__(self, columns: AnswerColumns) -> None:
        self._columns = columns
        self._kept = list(accumulate(columns.counts, initial=0))
        self._chosen = list(accumulate(columns.chosen_counts, initial=0))
        self._rows: dict[int, list[int]] | None = None
        if columns.items is not None:
            self._rows = {}
            for row, item in enumerate(columns.items):
                self._rows.setdefault(item, []).append(row)

    def answers(self, place: int, item: Item, labels: JobLabels, scores: bool) -> Iterator[Answer]:
        """The item's."""
        rows = [place] if self._rows is None else self._rows.get(place, ())
        if rows:
            control, known = labels.of(self._columns, item)
            try:
                yield from [self._answer(row, control, known, scores) for row in rows]
            except IndexError:
                raise _strange() from None

    def _answer(self, row: int, control: Control, labels: Labels, scores: bool) -> Answer:
        columns = self._columns
        index = NO_INDEX if columns.indices is None else columns.indices[row]
        return Answer(
            control=control.name,
            index=None if index == NO_INDEX else index,
            rule=labels.rule,
            paths=tuple(labels.paths[node] for node in columns.chosen[self._chosen[row] : self._chosen[row + 1]]),
            confidence=_short(columns.confidences[row]),
            scores=self._scores(row, labels) if scores else (),
        )

    def _scores(self, row: int, labels: Labels) -> tuple[LabelScore, ...]:
        columns = self._columns
        kept = slice(self._kept[row], self._kept[row + 1])
        norm = None if columns.norms is None else columns.norms[row]
        scores: list[dict[str, Any]] = []
        for node, value in zip(columns.nodes[kept], columns.values[kept], strict=True):
            if labels.are_leaves[node]:
                probability = _probability(value, norm, labels.taxonomy)
                scores.append({"path": labels.paths[node], "logit": _short(value), "probability": _short(probability)})
            else:
                scores.append({"path": labels.paths[node], "probability": _short(value)})
        if not columns.pairwise:
            scores = [{**score, "pairwise": False} for score in scores]
        return _SCORES.validate_python(scores)


def _probability(logit: float, norm: float | None, taxonomy: Taxonomy) -> float:
    if norm is not None:
        return math.exp(min(0.0, logit / taxonomy.temperature - norm))
    x = (logit + taxonomy.logit_shift) / taxonomy.temperature
    small = math.exp(-abs(x))
    return 1.0 / (1.0 + small) if x >= 0 else small / (1.0 + small)


def _short(value: float) -> float:
    """Nine significant digits, which tell every float32 from its neighbours: the rest would only take room in files."""
    return float(f"{value:.9g}")
