"""A labeling lead's week with a real Label Studio, as one script: after every event each task has one prediction.

`make week N=2000` plays all of it, at size; `make test` the events that differ most. A watcher looks the whole time at
how many tasks Label Studio shows a prediction for, so that a moment in which nothing is shown is seen; what it saw is
printed as a table.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from prelabel.integrations.label_studio.projects.pausing import pause, resume
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import ModelVersion, Settings
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer
from prelabel.worker.demo.shapes import COLOURS, SHAPES
from prelabel.worker.demo.story import CHECKPOINT, Picture
from prelabel.worker.running.stack import Stack, free_port, local_stack
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, connect_project, inline, until

WATCH_S = 0.3

SHORT = 50
"""Tasks up to which the events that differ most are played, and no other."""


def config_of(labels: list[str]) -> str:
    """The label config of `SHAPES_CONFIG` with other labels."""
    return SHAPES_CONFIG.split("<Choice ")[0] + "".join(f'<Choice value="{x}"/>' for x in labels) + "</Choices></View>"


class Happened(NamedTuple):
    """One event.

    Attributes:
        name: what happened.
        seconds: until every task had its prediction again.
        least: the smallest share of the tasks that were there before it that was shown meanwhile, 0..1.
    """

    name: str
    seconds: float
    least: float


class Week:
    """The week: what happens, what is there afterwards, and what was shown meanwhile."""

    def __init__(self, label_studio: LabelStudio, settings: Settings, folder: Path, broker_port: int) -> None:
        self.label_studio = label_studio
        self.settings = settings
        self.told: list[Happened] = []
        self._folder = folder
        self._broker_port = broker_port
        self._running = contextlib.ExitStack()
        self.stack: Stack

    def start(self) -> None:
        """Start everything of ours."""
        self.stack = self._running.enter_context(
            local_stack(self.settings, self._folder, adapter=True, embedded=True, broker_port=self._broker_port)
        )
        self.stack.wait_until_ready(timeout_s=120)

    def stop(self) -> None:
        """End everything of ours, in order."""
        self._running.close()

    def kill(self, *names: str) -> None:
        """kill -9 of children of ours, with all they have started."""
        for name in names:
            child = self.stack.children[name]
            for process in (*_descendants(child.pid), child.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            child.wait()

    def kill_redis(self) -> None:
        """kill -9 of the embedded Redis."""
        for process in _descendants(os.getpid()):
            with contextlib.suppress(OSError):
                if str(self._broker_port).encode() in Path(f"/proc/{process}/cmdline").read_bytes():
                    os.kill(process, signal.SIGKILL)

    def connect(self, project: int) -> None:
        """`prelabel connect --all`."""
        steps = connect_project(self.stack, project, pre_label_all=True)
        assert not [step for step in steps if step.status == "failed"], steps

    def shown(self, project: int) -> Counter[int]:
        """For each task how many predictions of ours the labeling screen uses."""
        version = self.label_studio.project(project)["model_version"]
        return Counter(
            one["task"]
            for one in self.label_studio.predictions(project=project)
            if one["model_version"] == version and ModelVersion.is_ours(one["model_version"])
        )

    def event(
        self, name: str, happens: Callable[[], object], *projects: int, version_changes: bool = False, timeout_s: float
    ) -> None:
        """Something happens; then every task of the projects has exactly one prediction of ours, the one shown.

        Args:
            name: for the table.
            happens: does it.
            projects: whose tasks are looked at.
            version_changes: whether another model version is to be there afterwards.
            timeout_s: how long that may take.
        """
        before = {project: set(self.shown(project)) for project in projects}
        versions = {project: self.label_studio.project(project)["model_version"] for project in projects}
        least, over = [1.0], threading.Event()

        def watch() -> None:
            while not over.wait(WATCH_S):
                for project, tasks in before.items():
                    with contextlib.suppress(Exception):  # Label Studio is being restarted, or the project deleted
                        still = tasks & set(self.label_studio.task_ids(project))
                        version = self.label_studio.project(project)["model_version"]
                        shown = still & set(self.shown(project))
                        # Two requests are two moments: what changed between them was never seen by anybody.
                        if still and version == self.label_studio.project(project)["model_version"]:
                            least.append(len(shown) / len(still))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        started = time.monotonic()
        try:
            happens()
            for project in projects:
                until(lambda p=project: self._is_settled(p, versions[p], changes=version_changes), timeout_s, name)
        except AssertionError as error:
            raise AssertionError(f"{error}: {[self._told(project) for project in projects]}") from None
        finally:
            seconds = time.monotonic() - started
            over.set()
            watcher.join()
        self.told.append(Happened(name, seconds, min(least)))
        for project in projects:
            shown = self.shown(project)
            assert sorted(shown) == self.label_studio.task_ids(project), f"{name}: a task without its prediction"
            assert set(shown.values()) <= {1}, f"{name}: a task with two predictions"
            ours = [
                one
                for one in self.label_studio.predictions(project=project)
                if ModelVersion.is_ours(one["model_version"])
            ]
            assert len(ours) == len(shown), f"{name}: predictions of an earlier version are left"

    def _is_settled(self, project: int, before: str, *, changes: bool) -> bool:
        there = self.label_studio.project(project)
        if changes and there["model_version"] == before:
            return False
        tasks = self.label_studio.task_ids(project)
        if sorted(self.shown(project)) != tasks:
            return False
        with self.stack.client() as client:
            projects = Projects(client)
            if projects.state(project).prune:
                return False
        ours = [
            one for one in self.label_studio.predictions(project=project) if ModelVersion.is_ours(one["model_version"])
        ]
        return len(ours) == len(tasks)

    def _told(self, project: int) -> str:
        """What stands in the way of a project's being settled."""
        shown, tasks = self.shown(project), self.label_studio.task_ids(project)
        versions = Counter(one["model_version"] for one in self.label_studio.predictions(project=project))
        with self.stack.client() as client:
            projects = Projects(client)
            jobs = [client.job(job).progress() for job in projects.working(project)]
            state = projects.state(project)
        return (
            f"project {project} shows {self.label_studio.project(project)['model_version']!r}: {len(tasks)} tasks, "
            f"{len(shown)} shown, lacking {sorted(set(tasks) - set(shown))[:5]}; "
            f"holds {dict(versions)}; {state}; {jobs}"
        )

    def table(self) -> str:
        """Event, seconds, and the least that was shown meanwhile."""
        lines = ["event | seconds | least shown meanwhile", "---|---:|---:"]
        lines += [f"{one.name} | {one.seconds:.1f} | {one.least:.0%}" for one in self.told]
        return "\n".join(lines)


def _descendants(pid: int) -> list[int]:
    """The processes that a process has started, and that those have started."""
    found: list[int] = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            number, parent = int(status.parent.name), int(status.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found += [number, *_descendants(number)]
    return found


@pytest.fixture
def week(server: LabelStudioServer, label_studio: LabelStudio, tmp_path: Path) -> Iterator[Week]:
    settings = load_settings(
        model=str(CHECKPOINT),
        label_studio_url=server.url,
        label_studio_api_key=server.token,
        port=free_port(),
        reconcile_s=2,
        vector_store_dir=tmp_path / "vectors",
    )
    made = Week(label_studio, settings, tmp_path / "stack", free_port())
    made.start()
    yield made
    made.stop()
    print(f"\n{made.table()}")


def test_a_week(
    week: Week, label_studio: LabelStudio, pictures: list[Picture], pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    size = int(pytestconfig.getoption("--week-tasks"))
    patience = 90 + size / 5
    whole = size > SHORT

    def pictures_of(count: int, start: int = 0) -> list[dict[str, Any]]:
        return [{"image": inline(pictures[(start + n) % len(pictures)].path)} for n in range(count)]

    def submit(task: int) -> None:
        """What Label Studio's screen sends when a person accepts what it shows."""
        shown = label_studio.call("GET", f"/api/tasks/{task}/")["predictions"][0]
        body = {"result": shown["result"], "parent_prediction": shown["id"]}
        label_studio.call("POST", f"/api/tasks/{task}/annotations/", json=body)

    first = label_studio.make_project(title="the week")
    label_studio.import_tasks(first, pictures_of(size))
    week.event("connect --all", lambda: week.connect(first), first, timeout_s=patience)

    def import_while_running() -> None:
        for n in range(5):
            label_studio.import_tasks(first, pictures_of(max(1, size // 20), n))
            time.sleep(0.5)

    week.event("five imports", import_while_running, first, timeout_s=patience)

    def people_work() -> None:
        for task in label_studio.task_ids(first)[: max(3, size // 10)]:
            submit(task)

    week.event("people submit answers", people_work, first, timeout_s=patience)

    edited = [*SHAPES, "cube"]
    week.event(
        "one label more",
        lambda: label_studio.update_project(first, label_config=config_of(edited)),
        first,
        version_changes=True,
        timeout_s=patience,
    )

    if whole:

        def edit_twice() -> None:
            label_studio.update_project(first, label_config=config_of(list(COLOURS)))
            time.sleep(1)
            label_studio.update_project(first, label_config=config_of([*SHAPES, "cone"]))

        week.event("two edits in a second", edit_twice, first, version_changes=True, timeout_s=patience)
        week.event(
            "an edit taken back",
            lambda: label_studio.update_project(first, label_config=config_of(edited)),
            first,
            version_changes=True,
            timeout_s=patience,
        )

    def delete_some() -> None:
        for one in label_studio.predictions(project=first)[: max(3, size // 10)]:
            label_studio.call("DELETE", f"/api/predictions/{one['id']}/")
        label_studio.retrieve_predictions(first)

    week.event("predictions deleted, retrieve predictions", delete_some, first, timeout_s=patience)

    second = label_studio.make_project(config_of(list(COLOURS)), title="another team")
    label_studio.import_tasks(second, pictures_of(max(5, size // 2)))

    if whole:

        def delete_tasks() -> None:
            for task in label_studio.task_ids(first)[-3:]:
                label_studio.call("DELETE", f"/api/tasks/{task}/")

        week.event("tasks deleted", delete_tasks, first, timeout_s=patience)

        def two_at_once() -> None:
            week.connect(second)
            label_studio.update_project(first, label_config=config_of([*edited, "cone"]))
            label_studio.import_tasks(second, pictures_of(5))

        week.event("a second project while the first is edited", two_at_once, second, timeout_s=patience)
        week.event("the same, seen from the first", lambda: None, first, timeout_s=patience)

        def worker_dies() -> None:
            label_studio.import_tasks(first, pictures_of(max(4, size // 10)))
            week.kill("worker")
            label_studio.import_tasks(second, pictures_of(3))
            week.stop()
            week.start()

        week.event("kill -9 of the worker, restart", worker_dies, first, second, timeout_s=patience)

    else:
        week.event("a second project", lambda: week.connect(second), second, timeout_s=patience)

    def everything_dies() -> None:
        label_studio.update_project(second, label_config=config_of([*COLOURS, "orange"]))
        label_studio.import_tasks(first, pictures_of(max(4, size // 10)))
        week.kill("worker", "adapter")
        week.kill_redis()
        week.stop()
        label_studio.import_tasks(first, pictures_of(2))  # nobody hears of it
        week.start()

    week.event("kill -9 of everything, restart", everything_dies, first, second, timeout_s=patience)

    if whole:

        def pause_and_resume() -> None:
            with week.stack.client() as client:
                pause(client, first)
                label_studio.import_tasks(first, pictures_of(4))
                time.sleep(3)
                resume(client, first)

        week.event("paused, an import, resumed", pause_and_resume, first, timeout_s=patience)

        def delete_project() -> None:
            label_studio.import_tasks(second, pictures_of(5))
            until(
                is_deleted, patience, "Label Studio deletes the project: it cannot while a prediction is being stored"
            )

        def is_deleted() -> bool:
            return label_studio.http.delete(f"/api/projects/{second}/").is_success

        week.event("the second project is deleted while it is scored", delete_project, first, timeout_s=patience)

    print(f"\n{week.table()}")
    nothing_shown = [one.name for one in week.told if one.least == 0.0]
    assert nothing_shown == [], "there was a moment at which nothing was shown"
