"""A trial as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from ...integrations.label_studio.convert.results import ShownAnswer
from ...integrations.label_studio.trials.result import ControlTotals, Line, Trial, Which, place_words, words
from .console import out, plain

_LABELS = 3
"""Labels named that a control gains or loses most."""

_SIDES: tuple[tuple[Which, str], ...] = (("old", "present"), ("new", "new"))


def show(trial: Trial, *, everything: bool = False) -> None:
    """Print what a trial found: the answers that would change, the totals, and what could not be compared.

    Args:
        trial: what to print.
        everything: print the answers that stay as they are, too.
    """
    title = f" ({plain(trial.title)})" if trial.title else ""
    if trial.same:
        out.print(
            f"project {trial.project}{title}: nothing would change. Both label configs ask for the same answers, "
            f"{plain(trial.new_version)}"
        )
        _warn(trial)
        return
    out.print(
        f"project {trial.project}{title}: {len(trial.tasks):,} of {trial.total:,} tasks. [dim]present: the label "
        "config of now, scored in this run[/]"
    )
    changes = _answers(trial, everything=everything)
    if changes.row_count:
        out.print(changes)
    out.print(_controls(trial))
    out.print(f"[bold]{trial.changed:,} of {len(trial.tasks):,} tasks would change[/]")
    if trial.read:
        out.print(f"{trial.read:,} had not been scored as they are now: their images were read (marked *)")
    for which, name in _SIDES:
        _tell_gaps(trial, which, name)
    _warn(trial)


def _answers(trial: Trial, *, everything: bool) -> Table:
    table = Table("task", "control", "present", "new", show_edge=False)
    for task in trial.tasks:
        lines = [line for line in task.lines if everything or line.changed]
        for number, line in enumerate(lines):
            name = "" if number else f"{task.task}{'' if task.stored else '*'}"
            style = "" if line.changed else "[dim]"
            table.add_row(
                name,
                plain(place_words(line.place)),
                f"{style}{_cell(line, line.old)}",
                f"{style}{_cell(line, line.new)}",
            )
    return table


def _cell(line: Line, answer: ShownAnswer | None) -> str:
    if answer is None:
        return "-" if line.comparable else "not answered"
    return f"{plain(words(answer))} {answer.confidence:.2f}"


def _controls(trial: Trial) -> Table:
    table = Table("control", "answers", "change", "gains", "loses", "confidence", show_edge=False)
    for one in trial.controls:
        table.add_row(
            plain(one.control),
            f"{one.places:,}",
            f"{one.changed:,}",
            _counted(one.gained),
            _counted(one.lost),
            _confidences(one),
        )
    return table


def _counted(labels: Mapping[str, int]) -> str:
    named = [f"{plain(label)} {count:,}" for label, count in list(labels.items())[:_LABELS]]
    return ", ".join([*named, *([f"{len(labels) - _LABELS:,} more"] if len(labels) > _LABELS else [])])


def _confidences(totals: ControlTotals) -> str:
    old, new = ("-" if mean is None else f"{mean:.2f}" for mean in (totals.old_confidence, totals.new_confidence))
    return f"{old} to {new}"


def _tell_gaps(trial: Trial, which: Which, name: str) -> None:
    unanswered, in_part = trial.unanswered(which), trial.in_part(which)
    if not unanswered and not in_part:
        return
    counts = [f"{unanswered:,} not answered"] if unanswered else []
    counts += [f"{in_part:,} in part only"] if in_part else []
    sides = ((one.task, one.old if which == "old" else one.new) for one in trial.tasks)
    number, problem = next((number, side.problem) for number, side in sides if side.problem)
    out.print(f"[yellow]{name} label config: {', '.join(counts)}[/] (task {number}: {plain(problem)})")


def _warn(trial: Trial) -> None:
    if trial.old_problem:
        out.print(f"[yellow]the present label config cannot be pre-labelled[/]: {plain(trial.old_problem)}")
    for control, reason in trial.skipped:
        out.print(f"[yellow]{plain(control)}[/] of the new one is left to people: {plain(reason)}")
    if trial.refusal:
        out.print(f"[yellow]Label Studio would not save the new one[/]: {plain(trial.refusal)}")
