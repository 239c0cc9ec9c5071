"""A trial as JSON, for programs."""

from __future__ import annotations

from typing import Any

from ..convert.results import Place, ShownAnswer
from .result import ControlTotals, Side, TaskTrial, Trial


def as_json(trial: Trial) -> dict[str, Any]:
    """Everything a trial found, but for the label configs themselves."""
    return {
        "project": trial.project,
        "title": trial.title,
        "nothing_would_change": trial.same,
        "old_version": trial.old_version or None,
        "new_version": trial.new_version,
        "old_problem": trial.old_problem or None,
        "left_to_people": [{"control": control, "reason": reason} for control, reason in trial.skipped],
        "label_studio_refuses": trial.refusal or None,
        "project_tasks": trial.total,
        "tasks_tried": len(trial.tasks),
        "tasks_changed": trial.changed,
        "tasks_read": trial.read,
        "not_answered": {which: trial.unanswered(which) for which in ("old", "new")},
        "answered_in_part": {which: trial.in_part(which) for which in ("old", "new")},
        "controls": [_totals(one) for one in trial.controls],
        "tasks": [_task(one) for one in trial.tasks],
    }


def _totals(totals: ControlTotals) -> dict[str, Any]:
    return {
        "control": totals.control,
        "asked_by": totals.standing,
        "compared": totals.places,
        "changed": totals.changed,
        "gained": dict(totals.gained),
        "lost": dict(totals.lost),
        "old_confidence": _rounded(totals.old_confidence),
        "new_confidence": _rounded(totals.new_confidence),
    }


def _task(task: TaskTrial) -> dict[str, Any]:
    return {
        "task": task.task,
        "changed": task.changed,
        "from_stored_vectors": task.stored,
        "old_problem": task.old.problem or None,
        "new_problem": task.new.problem or None,
        "answers": [
            {
                "control": line.place.control,
                "image": line.place.image,
                "region": line.place.region,
                "changed": line.changed,
                "old": _answer(task.old, line.place),
                "new": _answer(task.new, line.place),
            }
            for line in task.lines
        ],
    }


def _answer(side: Side, place: Place) -> dict[str, Any] | None:
    answer: ShownAnswer | None = side.answers.get(place)
    if answer is None:
        return None
    return {
        "labels": [list(path) for path in answer.paths],
        "stored": [list(path) for path in answer.stored],
        "confidence": answer.confidence,
    }


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)
