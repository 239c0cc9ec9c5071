"""Trying some images of a project before its tasks are queued: one image says little about the others."""

from __future__ import annotations

from typing import Any, Final

from ....schemas import Item, ItemError, Prediction, Priority, Settings
from ...client.client import Client
from ...client.workers import nobody_serves
from ..api import tasks
from ..api.connection import LabelStudioAPI
from ..convert.items import item_from_task
from ..convert.questions import Questions
from .registration import Step

SAMPLE = 5
"""Tasks tried: the first, the last, and some between."""

SAMPLE_S = 30.0
"""Seconds workers get to fetch and score the images of the sample."""

KEEP_S: Final = 600
"""Seconds a job that only tries something out is kept after its end; nothing of it is shown among the predictions."""


def try_images(api: LabelStudioAPI, settings: Settings, client: Client, project: int, questions: Questions) -> Step:
    """Have workers fetch and score the images of some tasks; nothing is pushed.

    Raises:
        PrelabelError: Label Studio or Redis is unavailable, or refuses us.
    """
    sample = _sample(api, project, tasks.fields_for(questions.config))
    if not sample:
        return Step("image", "ok", "the project has no tasks yet")
    problems: dict[int, str] = {}
    items: list[Item] = []
    for number, task in sample.items():
        try:
            url = settings.label_studio_url
            items.append(item_from_task(task, questions.config, url, s3_direct=settings.s3_direct))
        except ItemError as error:
            problems[number] = str(error)
    if items and (nobody := nobody_serves(client.connection, questions.model)):
        return Step("image", "warning", nobody)
    if items:
        problems |= _problems(client, project, questions, items)
    if problems:
        first = min(problems)
        of = f"{len(problems)} of {len(sample)} tasks tried: " if len(sample) > 1 else ""
        return Step("image", "warning", f"{of}task {first}: {problems[first]}")
    if len(sample) == 1:
        return Step("image", "ok", f"a worker fetched and scored the image of task {min(sample)}")
    numbers = ", ".join(map(str, sorted(sample)))
    return Step("image", "ok", f"workers fetched and scored the images of tasks {numbers}")


def _sample(api: LabelStudioAPI, project: int, fields: str) -> dict[int, dict[str, Any]]:
    """The first task, the last, and some between, by their numbers."""
    ends = [
        task for order in ("id", "-id") for task in tasks.page(api, project, size=1, order=order, fields=fields).tasks
    ]
    sample = {int(task["id"]): task for task in ends}
    if len(sample) < 2:
        return sample
    return sample | tasks.across(api, project, min(sample), max(sample), SAMPLE - 1, each=1, fields=fields)


def _problems(client: Client, project: int, questions: Questions, items: list[Item]) -> dict[int, str]:
    """What is wrong with each of the items, by the number of its task."""
    job = client.submit(
        items,
        questions.controls,
        priority=Priority.INTERACTIVE,
        name=f"label studio project {project}: some images to try",
        model=questions.model,
        deadline_s=SAMPLE_S + 1,  # should we die meanwhile, nobody works for us
        keep_s=KEEP_S,
    )
    problems = {int(item.id): f"no worker has scored it within {SAMPLE_S:.0f} s" for item in items}
    try:
        for prediction in job.results(timeout=SAMPLE_S):
            number = int(prediction.item.id)
            problems.pop(number, None)
            if problem := _problem(prediction):
                problems[number] = problem
    except TimeoutError:
        job.cancel()
    return problems


def _problem(prediction: Prediction) -> str:
    """Why a task has no answer, or a control of it has none; empty when all is well."""
    if prediction.error is not None:
        return prediction.error.message
    return next((f"{one.control} is not answered: {one.message}" for one in prediction.unanswered), "")
