"""A Label Studio that is down, busy, or does not say what it has done: each task gets its prediction once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from prelabel.schemas import PushTarget
from tests.faults.conftest import World
from tests.faults.report import Report
from tests.faults.site import Site
from tests.faults.truth import LABEL_CONFIG, Work
from tests.label_studio import DROP, LabelStudio

IMPORT = "/import/predictions"


class Trouble:
    """Refuses imports with 503 for a while, then a few with 429, then stores some and drops the connection."""

    def __init__(self, down_s: float, busy: int, drops: int, report: Report) -> None:
        self._up_at = time.monotonic() + down_s
        self._busy, self._drops, self._report = busy, drops, report

    def __call__(self, method: str, path: str) -> int | str | None:
        if method != "POST" or not path.endswith(IMPORT):
            return None
        if time.monotonic() < self._up_at:
            self._report.faults += 1
            return 503
        if self._busy > 0:
            self._busy -= 1
            self._report.faults += 1
            return 429
        if self._drops > 0:
            self._drops -= 1
            self._report.faults += 1
            return DROP
        return None


def push(world: World, site: Site, report: Report, project: int, count: int, trouble: Trouble) -> None:
    """A job whose answers are pushed, and what the platform has in the end, task by task."""
    label_studio: LabelStudio = world.label_studio
    label_studio.tasks.clear()
    label_studio.predictions.clear()
    label_studio.add_project(project, LABEL_CONFIG, range(1, count + 1))
    label_studio.trouble = trouble
    try:
        work = site.truth.work(count, site.rng, tasks=True)
        job, _ = site.submit(work, lasts_s=2, push=PushTarget(project=project, label_config=LABEL_CONFIG))
        site.finish(job, work, report)
        deadline = time.monotonic() + 180 + count / 5  # each task is asked for before it is pushed
        while job.progress().pushed < count and time.monotonic() < deadline:
            time.sleep(0.1)
    finally:
        label_studio.trouble = None
    report.items -= count  # counted once: as a task
    compare_tasks(label_studio.predictions, work, report)


def compare_tasks(predictions: list[dict], work: Work, report: Report) -> None:
    stored = Counter(prediction["task"] for prediction in predictions)
    for prediction in predictions:
        (answer,) = prediction["result"]
        right = work.right[prediction["task"] - 1]
        if answer["value"]["choices"] != [right]:
            report.wrong += 1
            report.note(f"task {prediction['task']} says {answer['value']}, not {right}")
    for task in range(1, len(work.items) + 1):
        report.lost += not stored[task]
        report.doubled += max(0, stored[task] - 1)
    report.items += len(work.items)
    if len(stored) < len(work.items) or max(stored.values()) > 1:
        report.note(f"{len(stored)} of {len(work.items)} tasks have a prediction, {sum(stored.values())} in all")


def test_label_studio_fails_for_a_while(world: World, site: Site, report: Report) -> None:
    trouble = Trouble(60, 4, 4, report) if site.long else Trouble(2, 1, 1, report)
    push(world, site, report, 1, min(site.items, 4000) if site.long else 100, trouble)
    report.assert_clean()


def test_control_label_studio(world: World, site: Site, control: Callable[[str], Report]) -> None:
    report = control("the platform is not asked what it has")
    site.switch("no-check-existing")
    push(world, site, report, 2, 60, Trouble(0, 0, 1, report))
    assert report.doubled > 0
