"""What a trial found: each task's answers under the present and under the new label config, and what would change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Literal

from ..convert.results import Place, ShownAnswer

Which = Literal["old", "new"]


@dataclass(frozen=True)
class Side:
    """One task under one label config.

    Attributes:
        answers: what Label Studio's form would show, by place.
        problem: why it is not answered, or not all of it; empty when all is well.
    """

    answers: Mapping[Place, ShownAnswer] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True)
class Line:
    """One place of a task's form, twice.

    Attributes:
        place: which control, and which image or region of the task.
        old: its answer under the present label config; None where that does not ask, does not show it or has none.
        new: the same under the new one.
        comparable: False where one of them is missing because it could not be had: that is told of the task, and says
            nothing of the wording.
    """

    place: Place
    old: ShownAnswer | None
    new: ShownAnswer | None
    comparable: bool = True

    @property
    def changed(self) -> bool:
        """Whether something else would be chosen there, or stored under another name; confidence alone is no change."""
        return self.comparable and _chosen(self.old) != _chosen(self.new)


@dataclass(frozen=True)
class TaskTrial:
    """One task of the sample.

    Attributes:
        task: its number.
        stored: whether the vectors of all its images were stored before, so that none had to be read.
        old: it under the present label config.
        new: it under the new one.
    """

    task: int
    stored: bool
    old: Side
    new: Side

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """Every place that one of the two answers, in the order of the present label config, then of the new one."""
        places = dict.fromkeys((*self.old.answers, *self.new.answers))
        return tuple(self._line(place) for place in places)

    def _line(self, place: Place) -> Line:
        failed = any(side.problem and place not in side.answers for side in (self.old, self.new))
        return Line(place, self.old.answers.get(place), self.new.answers.get(place), comparable=not failed)

    @property
    def changed(self) -> bool:
        """Whether a person would see another pre-annotation."""
        return any(line.changed for line in self.lines)


@dataclass(frozen=True)
class ControlTotals:
    """One control over the whole sample.

    Attributes:
        control: its name.
        standing: whether both label configs ask it, or only one.
        places: answers compared: one a task, or one for each of its images or regions.
        changed: how many of them would change.
        gained: label -> in how many places it would be chosen where it is not now; the most frequent first.
        lost: label -> in how many places it would not be chosen any more.
        old_confidence: mean confidence under the present label config, 0..1; None where it gives no answer.
        new_confidence: the same under the new one.
    """

    control: str
    standing: Literal["both", "only old", "only new"]
    places: int
    changed: int
    gained: Mapping[str, int]
    lost: Mapping[str, int]
    old_confidence: float | None
    new_confidence: float | None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A label config tried on a sample of a project's tasks.

    "Old" is the project's present label config as the workers answer it now, in the same run; not what Label Studio
    happens to hold.

    Attributes:
        project: its number.
        title: its title.
        total: tasks in the project.
        old_config: the present label config, XML.
        new_config: the new one.
        old_version: model version of predictions under the present label config; empty where it cannot be pre-labelled.
        new_version: the same for the new one.
        old_problem: why the present one cannot be pre-labelled; empty where it can.
        skipped: (control, reason) of those in the new one that are left to people.
        refusal: why Label Studio would not save the new one; empty where it would.
        tasks: the sample, by number.
    """

    project: int
    title: str = ""
    total: int = 0
    old_config: str = ""
    new_config: str = ""
    old_version: str = ""
    new_version: str = ""
    old_problem: str = ""
    skipped: tuple[tuple[str, str], ...] = ()
    refusal: str = ""
    tasks: tuple[TaskTrial, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both label configs ask for the same answers: nothing would be scored again."""
        return self.old_version == self.new_version

    @property
    def changed(self) -> int:
        """Tasks that would change."""
        return sum(task.changed for task in self.tasks)

    @property
    def read(self) -> int:
        """Tasks with an image that had to be read: no vector of it was stored."""
        return sum(not task.stored for task in self.tasks)

    def unanswered(self, which: Which) -> int:
        """Tasks that one of the label configs gets no answer for."""
        return sum(not _side(task, which).answers and bool(_side(task, which).problem) for task in self.tasks)

    def in_part(self, which: Which) -> int:
        """Tasks of which one of the label configs leaves a part unanswered."""
        return sum(bool(_side(task, which).answers and _side(task, which).problem) for task in self.tasks)

    @cached_property
    def controls(self) -> tuple[ControlTotals, ...]:
        """The totals, control by control."""
        lines: dict[str, list[Line]] = {}
        for task in self.tasks:
            for line in task.lines:
                lines.setdefault(line.place.control, []).append(line)
        return tuple(_totals(control, some) for control, some in lines.items())


def words(answer: ShownAnswer | None) -> str:
    """An answer in words: `animal > cat, dog`; `none` where nothing is chosen, and a dash where nothing is asked."""
    if answer is None:
        return "-"
    return (
        ", ".join(label_text(path, stored) for path, stored in zip(answer.paths, answer.stored, strict=True)) or "none"
    )


def place_words(place: Place) -> str:
    """Where an answer stands: the control, and which image or region."""
    if place.region is not None:
        return f"{place.control}, region {place.region}"
    return place.control if place.image is None else f"{place.control}, image {place.image + 1}"


def label_text(path: Sequence[str], stored: Sequence[str]) -> str:
    """A label with its parents, and in brackets the alias that Label Studio stores for it, where that is another."""
    shown, kept = " > ".join(path), " > ".join(stored)
    return shown if shown == kept else f"{shown} ({kept})"


def _side(task: TaskTrial, which: Which) -> Side:
    return task.old if which == "old" else task.new


def _chosen(answer: ShownAnswer | None) -> Counter[str]:
    if answer is None:
        return Counter()
    return Counter(label_text(path, stored) for path, stored in zip(answer.paths, answer.stored, strict=True))


def _totals(control: str, lines: Sequence[Line]) -> ControlTotals:
    has_old, has_new = any(line.old for line in lines), any(line.new for line in lines)
    gained, lost = Counter[str](), Counter[str]()
    compared = [line for line in lines if line.comparable]
    for line in compared:
        old, new = _chosen(line.old), _chosen(line.new)
        gained += new - old
        lost += old - new
    return ControlTotals(
        control=control,
        standing="both" if has_old and has_new else "only old" if has_old else "only new",
        places=len(compared),
        changed=sum(line.changed for line in lines),
        gained=dict(gained.most_common()),
        lost=dict(lost.most_common()),
        old_confidence=_mean(line.old for line in lines),
        new_confidence=_mean(line.new for line in lines),
    )


def _mean(answers: Iterable[ShownAnswer | None]) -> float | None:
    confidences = [answer.confidence for answer in answers if answer]
    return fmean(confidences) if confidences else None
