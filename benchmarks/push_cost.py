"""What storing predictions costs in a real Label Studio, way by way; `python -m benchmarks.push_cost --help`.

A project whose tasks all have a prediction of an earlier version gets those of another, as after a taxonomy edit:

- import N: Label Studio's bulk import, N predictions a request; with several requests in flight, too;
- PATCH: the earlier predictions are changed in place, one a request;
- delete: all of one version in one request, which import needs and PATCH does not;
- push: what a worker does with some 2,000 finished predictions of 20 scores each: ask what is there, make them Label
  Studio's, import them. The same when one of the tasks has been deleted meanwhile.

Beside predictions/s stand the CPU milliseconds a prediction takes Label Studio, its database (SQLite is in it)
and this program. Every way has a new project. What is stored is counted; "doubled" is what a task has beyond one.
"counts all" is Label Studio as installed: after each import it counts the predictions of every task of the project.
"counts sent" is Label Studio started with `--feature-flag` set.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil
from rich.table import Table

from prelabel.integrations.label_studio.convert.results import prediction_to_label_studio
from prelabel.integrations.label_studio.deliver.push import Pusher
from prelabel.integrations.label_studio.label_config import LabelConfig
from prelabel.schemas import (
    Answer,
    ImageRef,
    Item,
    LabelScore,
    Prediction,
    PrelabelError,
    PushTarget,
    model_version,
)
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer

from .common import add_json, console, in_own_session, median, shown_machine, write
from .label_studio import POSTGRESQL, SQLITE, label_studio
from .postgresql import postgresql_bin
from .site import Site, config_of, tell

COUNTS_ALL, COUNTS_SENT = "all", "sent"
FLAG = "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short"
LABELS = [f"label {number}" for number in range(20)]
XML = config_of(LABELS)
CONFIG = LabelConfig.parse(XML)
PUSHED = 2048
PATCHED = 100
NO_TASK = 2**31 - 1


@dataclass
class Way:
    """One way of storing predictions, measured once.

    Attributes:
        database: SQLite or PostgreSQL.
        counting: which tasks Label Studio counts after an import.
        tasks: of the project.
        name: what was done.
        batch: predictions in one request.
        in_flight: requests at the same time.
        stored: predictions that were stored, or removed by "delete".
        took_s: seconds it took.
        label_studio_s: CPU seconds of Label Studio.
        database_s: CPU seconds of PostgreSQL; 0 with SQLite.
        ours_s: CPU seconds of this program.
        doubled: predictions beyond one a task.
        refused: requests that failed.
    """

    database: str
    counting: str
    tasks: int
    name: str
    batch: int
    in_flight: int = 1
    stored: int = 0
    took_s: float = 0.0
    label_studio_s: float = 0.0
    database_s: float = 0.0
    ours_s: float = 0.0
    doubled: int = 0
    refused: int = 0

    @property
    def rate(self) -> float:
        """Predictions a second."""
        return self.stored / self.took_s if self.took_s else 0.0

    @property
    def ours(self) -> float:
        """The share of all CPU time that is this program's."""
        whole_s = self.label_studio_s + self.database_s + self.ours_s
        return self.ours_s / whole_s if whole_s else 0.0


CPU_S: tuple[Callable[[Way], float], ...] = (
    lambda way: way.label_studio_s,
    lambda way: way.database_s,
    lambda way: way.ours_s,
)
"""Label Studio's, its database's and this program's."""


@dataclass
class Meter:
    """CPU time of the servers and of this program."""

    label_studio: psutil.Process
    database: psutil.Process | None = None

    @classmethod
    def of(cls, server: LabelStudioServer) -> Meter:
        """Of a running Label Studio, and of the PostgreSQL this program started, if it did."""
        started = [one for one in psutil.Process().children() if one.name() == "postgres"]
        return cls(psutil.Process(server.process.pid), started[0] if started else None)

    @contextlib.contextmanager
    def measure(self, way: Way) -> Iterator[None]:
        """Add the time a block takes."""
        before = self._now()
        yield
        took, label_studio, database, ours = (now - then for now, then in zip(self._now(), before, strict=True))
        way.took_s += took
        way.label_studio_s += label_studio
        way.database_s += database
        way.ours_s += ours

    def _now(self) -> tuple[float, float, float, float]:
        database = _cpu_s(self.database) if self.database else 0.0
        return time.monotonic(), _cpu_s(self.label_studio), database, time.process_time()


def _cpu_s(process: psutil.Process) -> float:
    """CPU seconds of a process, of what it started, and of what that has ended."""
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = one.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def predicted(task: int, version: str) -> Prediction:
    """A prediction as the scoring room makes it: 20 scores, the best label chosen."""
    best = task % len(LABELS)
    scores = [LabelScore(path=(label,), logit=-3.25, probability=0.03125) for label in LABELS]
    scores[best] = LabelScore(path=(LABELS[best],), logit=1.5, probability=0.40625)
    ordered = (scores[best], *(one for one in scores if one is not scores[best]))
    answer = Answer(control="shape", rule="softmax", paths=((LABELS[best],),), confidence=0.40625, scores=ordered)
    item = Item(id=str(task), images=(ImageRef(uri=f"https://example.org/{task}.jpg"),))
    return Prediction(item=item, ordinal=task, model_version=version, answers=(answer,))


def payload(task: int, version: str) -> dict[str, Any]:
    """The same as Label Studio takes it."""
    made = prediction_to_label_studio(predicted(task, version), CONFIG)
    if made is None:
        raise SystemExit("a prediction without an answer")
    return made


@dataclass
class Project:
    """A project whose tasks all have a prediction of an earlier version.

    Attributes:
        limit_s: seconds after which no further request of a way begins.
    """

    site: Site
    server: LabelStudioServer
    meter: Meter
    number: int
    tasks: list[int]
    limit_s: float
    versions: int = 0
    earlier: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.earlier = self.new_version()
        for some in _batches(self.tasks, 10_000):
            self.site.call("POST", self._import, json=[payload(task, self.earlier) for task in some])

    @property
    def _import(self) -> str:
        return f"/api/projects/{self.number}/import/predictions"

    def new_version(self) -> str:
        """A version nothing has yet."""
        self.versions += 1
        return model_version(f"bench@{self.versions:08x}", CONFIG.to_controls())

    def imported(self, way: Way) -> str:
        """Import by batches, whole ones only; returns the version."""
        version = self.new_version()
        bodies = [[payload(task, version) for task in some] for some in _batches(self.tasks, way.batch)]
        self._in_flight(way, [("POST", self._import, body) for body in bodies if len(body) == way.batch])
        self._count(way, version)
        return version

    def deleted(self, way: Way) -> None:
        """Delete what was imported."""
        version = self.imported(Way(way.database, way.counting, way.tasks, "import", way.batch))
        with self.meter.measure(way):
            path = f"/api/projects/{self.number}/model-versions"
            answer = self.site.call("DELETE", path, json={"model_version": version})
        way.stored = answer["deleted_predictions"]

    def patched(self, way: Way, tasks: Sequence[int]) -> None:
        """Change the earlier predictions of some tasks in place."""
        version = self.new_version()
        wanted = set(tasks)
        listed = [one for task in tasks for one in self.site.call("GET", "/api/predictions/", params={"task": task})]
        there = [one for one in listed if one["task"] in wanted and one["model_version"] == self.earlier]
        calls = [("PATCH", f"/api/predictions/{one['id']}/", payload(one["task"], version)) for one in there]
        self._in_flight(way, calls)
        self._count(way, version)

    def pushed(self, way: Way, *, gone: bool = False) -> None:
        """Push as a worker does; `gone`: one of the tasks is not there any more."""
        version = self.new_version()
        tasks = self.tasks[: way.batch]
        if gone:
            tasks[len(tasks) // 3] = NO_TASK
        predictions = [predicted(task, version) for task in tasks]
        settings = load_settings(label_studio_url=self.server.url, label_studio_api_key=self.server.token)
        target = PushTarget(project=self.number, label_config=XML)
        with Pusher(settings) as pusher:
            pusher.push(target, [predicted(self.tasks[-1], self.new_version())])  # whatever is done once
            with self.meter.measure(way):
                try:
                    pusher.push(target, predictions, check_existing=True)
                except PrelabelError as error:
                    tell(f"    {error}")
                    way.refused += 1
        self._count(way, version)

    def _in_flight(self, way: Way, calls: Sequence[tuple[str, str, Any]]) -> None:
        deadline = time.monotonic() + self.limit_s

        def send(call: tuple[str, str, Any]) -> bool:
            if time.monotonic() > deadline:
                return True
            method, path, body = call
            answer = self.site.request(method, path, json=body)
            if not answer.is_success:
                tell(f"    {method} {path}: {answer.status_code} {answer.text[:300]}")
            return answer.is_success

        with self.meter.measure(way), ThreadPoolExecutor(way.in_flight) as pool:
            way.refused += list(pool.map(send, calls)).count(False)

    def _count(self, way: Way, version: str) -> None:
        """Count what was stored, whatever Label Studio said."""
        stored = self.site.predicted(self.number).get(version, 0)
        way.stored = self.site.tasks_with(self.number, version)
        way.doubled = stored - way.stored


def _batches(tasks: Sequence[int], size: int) -> list[Sequence[int]]:
    return [tasks[start : start + size] for start in range(0, len(tasks), size)]


def measure(
    make: Callable[[], Project], blank: Callable[..., Way], batches: Sequence[int], in_flight: Sequence[int]
) -> Iterator[Way]:
    """Every way once, each in a project of its own."""
    for batch in batches:
        way = blank(f"import {batch}", batch)
        make().imported(way)
        yield way
    for flights in in_flight:
        batch = batches[-1] // 4
        way = blank(f"import {batch}", batch, flights)
        make().imported(way)
        yield way
    way = blank("delete", min(PUSHED, batches[-1]))
    make().deleted(way)
    yield way
    for name, gone in (("push", False), ("push, a task is gone", True)):
        project = make()
        way = blank(name, min(PUSHED, len(project.tasks)))
        project.pushed(way, gone=gone)
        yield way
    project = make()
    for place, flights in enumerate((1, 4)):
        way = blank("PATCH", 1, flights)
        project.patched(way, project.tasks[place * PATCHED : (place + 1) * PATCHED])
        yield way


def _line(way: Way) -> str:
    return (
        f"{way.name}, {way.in_flight} in flight: {way.rate:.0f}/s of {way.stored}, CPU {way.label_studio_s:.1f} + "
        f"{way.database_s:.1f} + {way.ours_s:.2f} s in {way.took_s:.1f}, {way.doubled} doubled, {way.refused} refused"
    )


def main() -> None:
    """Measure and print the tables; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 5000])
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL], nargs="+", default=[SQLITE])
    parser.add_argument("--counting", choices=[COUNTS_ALL, COUNTS_SENT], nargs="+", default=[COUNTS_ALL, COUNTS_SENT])
    parser.add_argument("--batch", type=int, nargs="+", default=[100, 250, 500, 1000, 2000, 4000])
    parser.add_argument("--in-flight", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--rounds", type=int, default=1, help="the median of so many is shown (default: %(default)s)")
    parser.add_argument(
        "--limit", type=float, default=20.0, help="seconds to send for, each way (default: %(default)s)"
    )
    parser.add_argument("--feature-flag", default=FLAG, help="of Label Studio, for --counting sent")
    parser.add_argument("--postgresql-bin", type=Path, help="folder with initdb and postgres, where PATH has none")
    add_json(parser, "push_cost")
    options = parser.parse_args()
    ways: list[Way] = []
    for database in options.database:
        programs = postgresql_bin(options.postgresql_bin) if database == POSTGRESQL else None
        for counting in options.counting:
            flags = {options.feature_flag: "true"} if counting == COUNTS_SENT else {}
            with _running(database, programs, flags) as (site, server):
                for count in options.tasks:
                    tell(f"{database}, counts {counting}, {count:,} tasks")

                    def make(site: Site = site, server: LabelStudioServer = server, count: int = count) -> Project:
                        number = site.make_project("pushed to", LABELS)
                        site.import_tasks(number, count)
                        return Project(site, server, Meter.of(server), number, site.task_ids(number), options.limit)

                    def blank(*of_way: Any, about: tuple[str, str, int] = (database, counting, count)) -> Way:
                        return Way(*about, *of_way)

                    batches = [batch for batch in sorted(options.batch) if batch <= count]
                    for _ in range(options.rounds):
                        for way in measure(make, blank, batches, options.in_flight):
                            tell(f"    {_line(way)}")
                            ways.append(way)
                            write(options.json, {"ways": [asdict(way) for way in ways]})
    out = console()
    for database in options.database:
        for counting in options.counting:
            out.print(_table(database, counting, ways))
    out.print(shown_machine())


@contextlib.contextmanager
def _running(
    database: str, programs: Path | None, flags: Mapping[str, str]
) -> Iterator[tuple[Site, LabelStudioServer]]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL may be another user's
        with label_studio(database, programs, directory, flags) as running:
            yield running


def _table(database: str, counting: str, ways: list[Way]) -> Table:
    titles = ("predictions/s", "CPU ms", "database", "ours", "ours, %", "doubled", "refused")
    table = Table("tasks", "", "in flight", *titles, title=f"{database}, counts {counting}")
    alike: dict[tuple[int, str, int], list[Way]] = {}
    for way in ways:
        if (way.database, way.counting) == (database, counting):
            alike.setdefault((way.tasks, way.name, way.in_flight), []).append(way)
    for (tasks, name, in_flight), rounds in alike.items():
        stored = [way for way in rounds if way.stored]
        table.add_row(
            *(f"{tasks:,}", name, str(in_flight), f"{median([way.rate for way in rounds]):.0f}"),
            *(f"{median([1000 * part(way) / way.stored for way in stored]):.2f}" for part in CPU_S),
            f"{100 * median([way.ours for way in rounds]):.1f}",
            *(str(sum(way.doubled for way in rounds)), str(sum(way.refused for way in rounds))),
        )
    return table


if __name__ == "__main__":
    in_own_session("benchmarks.push_cost", main)
