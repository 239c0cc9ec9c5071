"""What people wait for in a Label Studio whose taxonomy changes; `python -m benchmarks.label_studio --help`.

A real Label Studio, its database chosen by `--database`, beside a real broker, adapter and worker with the bundled
checkpoint, all with their defaults. For each number of tasks:

- an edit: a label is added to the label config of a project whose tasks are all pre-labelled. From the click on "save":
  when the first task shows a prediction of the new labels, when the last one does, and the least number of tasks that
  show any meanwhile. What a task shows is what the labeling screen uses: predictions of the project's `model_version`.
- cleaning: project A has an outdated and a present prediction of every task, both imported, and is connected. While
  its outdated ones are being removed, 20 tasks at a time are imported into project B, and somebody opens a task of
  either every half second. The same before A is connected, when nothing is being cleaned, stands beside it.

Label Studio is asked every 0.2 s, so nothing is known more exactly than that. How long it takes is Label Studio's
doing for the most part: compare releases of prelabel on one machine, and not machines.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from prelabel.worker.demo.label_studio.server import label_studio_server
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import draw_pictures
from prelabel.worker.running.stack import Stack

from .common import add_json, console, in_own_session, median, shown_machine, write
from .postgresql import postgresql, postgresql_bin
from .site import POLL_S, Site, connect, running_stack, served, tell, wait_for

SQLITE, POSTGRESQL = "sqlite", "postgresql"
IMPORTED = 20
OPEN_EVERY_S = 0.5
CLEANED_FOR_S = 300.0
"""Seconds of cleaning after which no further import begins."""


@dataclass
class Edit:
    """What a saved label config led to; seconds since the click.

    Attributes:
        saved_s: until Label Studio had answered.
        first_s: until a first task showed a prediction of the new labels.
        last_s: until every task did.
        least: fewest tasks that showed a prediction, of whatever labels, at any moment.
        clean_s: until no prediction of the old labels was left; None where that was not waited for.
    """

    saved_s: float | None = None
    first_s: float | None = None
    last_s: float | None = None
    least: int = 0
    clean_s: float | None = None


def edit(site: Site, stack: Stack, count: int, *, until_clean: bool) -> Edit:
    """Add a label to a project with `count` pre-labelled tasks."""
    project = site.make_project("edited project")
    site.import_tasks(project, count)
    started = time.monotonic()
    connect(stack, project, "--all")
    wait_for(lambda: sum(site.predicted(project).values()) >= count, 300 + count, "all tasks are pre-labelled")
    tell(f"  pre-labelled after {time.monotonic() - started:.1f} s; they are left alone for 10 s")
    time.sleep(10)  # the job's end is looked at
    (before,) = site.predicted(project)
    if site.shown_version(project) != before:
        raise SystemExit(f"project {project} does not show its predictions")

    found = Edit(least=count)
    told = -1
    started = time.monotonic()

    def save() -> float:
        site.save_labels(project, [*SHAPES, "cube"])
        return time.monotonic() - started

    deadline = 600 + count * (1.0 if until_clean else 0.2)
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save)
        while found.last_s is None or (until_clean and found.clean_s is None):
            time.sleep(POLL_S)
            shown = site.shown_version(project)
            predicted = site.predicted(project)
            if shown != site.shown_version(project):
                continue  # two requests are two moments: what changed between them was never seen by anybody
            passed, now = time.monotonic() - started, predicted.get(shown, 0)
            found.least = min(found.least, now)
            if shown != before and now:
                found.first_s = passed if found.first_s is None else found.first_s
                if now >= count:
                    found.last_s = passed if found.last_s is None else found.last_s
            if found.last_s is not None and before not in predicted:
                found.clean_s = passed
            if passed > deadline:
                raise SystemExit(f"the edit is not done after {passed:.0f} s: shows {shown!r}, has {predicted}")
            if (tenths := sum(predicted.values()) * 10 // count) != told:
                told = tenths
                tell(f"  {passed:.1f} s after the edit: {predicted}, {now} shown")
        found.saved_s = saving.result()
    if site.tasks_with(project, shown) != count:
        raise SystemExit(f"{site.tasks_with(project, shown)} of {count} tasks have a prediction of {shown}")
    return found


@dataclass
class Waits:
    """How long people waited, in seconds.

    Attributes:
        imports: from the click on "import" to a prediction of each of the 20 tasks.
        opened_a: to open a task of A.
        opened_b: to open a task of B.
        removed: outdated predictions of A that were removed meanwhile.
    """

    imports: list[float] = field(default_factory=list)
    opened_a: list[float] = field(default_factory=list)
    opened_b: list[float] = field(default_factory=list)
    removed: int = 0


@dataclass
class People:
    """People at work in two projects.

    Attributes:
        a: the project that is cleaned, its tasks, and the version that is to be removed.
        b: the other, and the version both ask for.
    """

    site: Site
    a: int
    b: int
    tasks_of_a: list[int]
    outdated: str
    present: str

    def wait(self, imports: int, *, cleaning: bool) -> Waits:
        """Import into B some times; of what overlaps with the cleaning of A, if there is to be one."""
        waits, rng = Waits(), random.Random(7)
        opened: list[tuple[float, float, float]] = []
        over = threading.Event()
        since = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            opening = pool.submit(self._open, opened, over)
            try:
                deadline = since + CLEANED_FOR_S
                left = self._left()
                while len(waits.imports) < imports and (not cleaning or left) and time.monotonic() < deadline:
                    started = time.monotonic()
                    took = self._import()
                    left = self._left()
                    if not cleaning or left < len(self.tasks_of_a):  # else the cleaning has not begun
                        if not waits.imports:
                            since, deadline = started, started + CLEANED_FOR_S
                        waits.imports.append(took)
                        tell(f"  {IMPORTED} imported and predicted in {took:.1f} s; A has {left} outdated predictions")
                    over.wait(rng.uniform(1, 6))
                until = time.monotonic()
            finally:
                over.set()
            opening.result()
        if cleaning and not waits.imports:
            raise SystemExit("nothing was cleaned")
        waits.removed = len(self.tasks_of_a) - left
        inside = [one for one in opened if since <= one[0] <= until]
        waits.opened_a = [one[1] for one in inside]
        waits.opened_b = [one[2] for one in inside]
        return waits

    def _left(self) -> int:
        return self.site.predicted(self.a).get(self.outdated, 0)

    def _import(self) -> float:
        expected = self.site.predicted(self.b).get(self.present, 0) + IMPORTED
        started = time.monotonic()
        self.site.import_tasks(self.b, IMPORTED)
        wait_for(
            lambda: self.site.predicted(self.b).get(self.present, 0) >= expected, 1800, "20 new tasks are predicted"
        )
        return time.monotonic() - started

    def _open(self, opened: list[tuple[float, float, float]], over: threading.Event) -> None:
        """Open a task of each project now and then; when, and how long each took."""
        rng = random.Random(8)
        tasks_of_b = self.site.task_ids(self.b)
        while not over.wait(OPEN_EVERY_S):
            started = time.monotonic()
            self.site.open_task(rng.choice(self.tasks_of_a))
            half = time.monotonic()
            if over.wait(OPEN_EVERY_S):
                return
            again = time.monotonic()
            self.site.open_task(rng.choice(tasks_of_b))
            opened.append((started, half - started, time.monotonic() - again))


def cleaning(site: Site, stack: Stack, count: int, imports: int) -> dict[str, Waits]:
    """What people wait for while nothing is cleaned, and while A is."""
    b = site.make_project("project B")
    connect(stack, b)
    site.import_tasks(b, IMPORTED)
    wait_for(lambda: sum(site.predicted(b).values()) >= IMPORTED, 120, "B is pre-labelled")
    (present,) = site.predicted(b)
    outdated = f"{present[:-6]}000000"
    a = site.make_project("project A")
    site.import_tasks(a, count)
    tasks = site.task_ids(a)
    for version in (outdated, present):
        site.import_predictions(a, tasks, version)
    people = People(site, a, b, tasks, outdated, present)
    tell("  nothing is cleaned")
    quiet = people.wait(imports, cleaning=False)
    connect(stack, a)
    tell("  A is cleaned")
    return {"quiet": quiet, "cleaning": people.wait(imports, cleaning=True)}


def measure(
    database: str, count: int, imports: int, programs: Path | None, *, until_clean: bool
) -> tuple[Edit, dict[str, Waits]]:
    """Both, in a new Label Studio."""
    with contextlib.ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
        directory.chmod(0o711)  # PostgreSQL may be another user's
        variables: Mapping[str, str] = {}
        if programs is not None:
            variables = running.enter_context(postgresql(programs, directory / "postgresql"))
        folder = directory / "pictures"
        folder.mkdir()
        names = [picture.path.name for picture in draw_pictures(folder)]
        pictures = running.enter_context(served(folder))
        tell(f"{database}, {count:,} tasks: starting Label Studio")
        server = running.enter_context(
            label_studio_server(directory / "label-studio", settings=variables, tell=lambda what: tell(f"  {what}"))
        )
        site = running.enter_context(contextlib.closing(Site(server, pictures, names)))
        tell(f"{database}, {count:,} tasks: edit")
        with running_stack(server, directory / "edit") as stack:
            edited = edit(site, stack, count, until_clean=until_clean)
        tell(f"{database}, {count:,} tasks: cleaning")
        with running_stack(server, directory / "cleaning") as stack:
            waits = cleaning(site, stack, count, imports)
    return edited, waits


def main() -> None:
    """Measure and print the tables; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL], nargs="+", default=[SQLITE])
    parser.add_argument("--imports", type=int, default=8, help="imports into B at most (default: %(default)s)")
    parser.add_argument(
        "--until-clean", action="store_true", help="also wait until nothing outdated is left after the edit (minutes)"
    )
    parser.add_argument("--postgresql-bin", type=Path, help="folder with initdb and postgres, where PATH has none")
    add_json(parser, "label_studio")
    options = parser.parse_args()
    programs: dict[str, Path | None] = {SQLITE: None}
    if POSTGRESQL in options.database:
        programs[POSTGRESQL] = postgresql_bin(options.postgresql_bin)
    rows = []
    for database in options.database:
        for count in options.tasks:
            edited, waits = measure(
                database, count, options.imports, programs[database], until_clean=options.until_clean
            )
            rows.append((database, count, edited, waits))
            write(options.json, {"rows": [_figures(*row) for row in rows]})
    out = console()
    out.print(_edits(rows))
    out.print(_waits(rows))
    out.print(shown_machine())


Row = tuple[str, int, Edit, dict[str, Waits]]


def _figures(database: str, count: int, edited: Edit, waits: dict[str, Waits]) -> dict[str, Any]:
    return {
        "database": database,
        "tasks": count,
        "edit": vars(edited),
        **{name: vars(some) for name, some in waits.items()},
    }


def _edits(rows: list[Row]) -> Table:
    titles = ("saved, s", "first shown, s", "all shown, s", "least shown", "clean, s")
    table = Table("database", "tasks", *titles, title="a label is added")
    for database, count, edited, _ in rows:
        saved, first, last, clean = (
            "" if some is None else f"{some:.1f}"
            for some in (edited.saved_s, edited.first_s, edited.last_s, edited.clean_s)
        )
        table.add_row(database, f"{count:,}", saved, first, last, f"{edited.least:,}", clean)
    return table


def _waits(rows: list[Row]) -> Table:
    titles = ("quiet, median s", "worst", "n", "A is cleaned, median s", "worst", "n", "removed")
    table = Table("database", "tasks in A", "", *titles, title="waiting while a project is cleaned")
    for database, count, _, waits in rows:
        for name, of in (
            (f"{IMPORTED} imported into B", "imports"),
            ("A's task opened", "opened_a"),
            ("B's task opened", "opened_b"),
        ):
            cells: list[str] = []
            for some in (getattr(waits[when], of) for when in ("quiet", "cleaning")):
                cells += [f"{median(some):.2f}", f"{max(some, default=float('nan')):.2f}", str(len(some))]
            removed = f"{waits['cleaning'].removed:,}" if of == "imports" else ""
            table.add_row(database, f"{count:,}", name, *cells, removed)
    return table


if __name__ == "__main__":
    in_own_session("benchmarks.label_studio", main)
