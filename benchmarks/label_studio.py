"""What people wait for in a Label Studio whose taxonomy changes; `python -m benchmarks.label_studio --help`.

A real Label Studio, its database chosen by `--database`, beside a real broker, adapter and worker with the bundled
checkpoint, all with their defaults. For each number of tasks:

- an edit: a label is added to the label config of a project whose tasks are all pre-labelled. From the click on "save":
  when the first task shows a prediction of the new labels, when the last one does, and the least number of tasks that
  show any meanwhile. What a task shows is what the labeling screen uses: predictions of the project's `model_version`.
- cleaning: project A has an outdated and a present prediction of every task, both imported, and is connected. While
  its outdated ones are being removed, 20 tasks at a time are imported into project B, and somebody opens a task of
  either every half second. The same before A is connected, when nothing is being cleaned, stands beside it.

Label Studio is asked every 0.2 s, or for a fifth of the time where it answers slowly: nothing is known more exactly.
How long things take is its doing for the most part, so compare releases of prelabel on one machine, and not machines.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.table import Table

from prelabel.worker.demo.label_studio.server import LabelStudioServer, label_studio_server
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import draw_pictures
from prelabel.worker.running.stack import Stack

from .common import add_json, console, in_own_session, median, shown_machine, write
from .postgresql import postgresql, postgresql_bin
from .site import Site, connect, pause, running_stack, served, tell, wait_for

SQLITE, POSTGRESQL = "sqlite", "postgresql"
EDIT, CLEANING = "edit", "cleaning"
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
    told, asked_s = -1, 0.0
    started = time.monotonic()

    def save() -> float:
        site.save_labels(project, [*SHAPES, "cube"])
        return time.monotonic() - started

    deadline = 600 + count * (2.0 if until_clean else 0.5)
    with ThreadPoolExecutor(1) as pool:
        saving = pool.submit(save)
        while found.last_s is None or (until_clean and found.clean_s is None):
            pause(asked_s)
            asked = time.monotonic()
            shown = site.shown_version(project)
            predicted = site.predicted(project)
            again = site.shown_version(project)
            asked_s = time.monotonic() - asked
            if shown != again:
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


def cleaning(site: Site, stack: Stack, count: int, imports: int) -> tuple[Waits, Waits]:
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
    return quiet, people.wait(imports, cleaning=True)


@contextlib.contextmanager
def label_studio(
    database: str, programs: Path | None, directory: Path, settings: Mapping[str, str] | None = None
) -> Iterator[tuple[Site, LabelStudioServer]]:
    """A new Label Studio, with further settings of its own, and its users."""
    with contextlib.ExitStack() as running:
        variables = dict(settings or {})
        if programs is not None:
            variables |= running.enter_context(postgresql(programs, directory / "postgresql"))
        folder = directory / "pictures"
        folder.mkdir()
        names = [picture.path.name for picture in draw_pictures(folder)]
        pictures = running.enter_context(served(folder))
        tell(f"{database}: starting Label Studio")
        server = running.enter_context(label_studio_server(directory / "label-studio", settings=variables, tell=tell))
        yield running.enter_context(contextlib.closing(Site(server, pictures, names))), server


@dataclass
class Row:
    """What was measured in one Label Studio; None where it was not asked for."""

    database: str
    tasks: int
    edit: Edit | None = None
    quiet: Waits | None = None
    cleaning: Waits | None = None


def measure(row: Row, programs: Path | None, only: str | None, imports: int, *, until_clean: bool) -> None:
    """Fill in what is asked for, in a new Label Studio."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o711)  # PostgreSQL may be another user's
        with label_studio(row.database, programs, directory) as (site, server):
            if only in (None, EDIT):
                tell(f"{row.database}, {row.tasks:,} tasks: edit")
                with running_stack(server, directory / EDIT) as stack:
                    row.edit = edit(site, stack, row.tasks, until_clean=until_clean)
            if only in (None, CLEANING):
                tell(f"{row.database}, {row.tasks:,} tasks: cleaning")
                with running_stack(server, directory / CLEANING) as stack:
                    row.quiet, row.cleaning = cleaning(site, stack, row.tasks, imports)


def main() -> None:
    """Measure and print the tables; --json also writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--database", choices=[SQLITE, POSTGRESQL], nargs="+", default=[SQLITE])
    parser.add_argument("--only", choices=[EDIT, CLEANING], help="measure this alone (default: both)")
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
    rows: list[Row] = []
    for database in options.database:
        for count in options.tasks:
            row = Row(database, count)
            measure(row, programs[database], options.only, options.imports, until_clean=options.until_clean)
            rows.append(row)
            write(options.json, {"rows": [asdict(row) for row in rows]})
    out = console()
    if options.only != CLEANING:
        out.print(_edits(rows))
    if options.only != EDIT:
        out.print(_waits(rows))
    out.print(shown_machine())


def _edits(rows: list[Row]) -> Table:
    titles = ("saved, s", "first shown, s", "all shown, s", "least shown", "clean, s")
    table = Table("database", "tasks", *titles, title="a label is added")
    for row in rows:
        if row.edit is not None:
            moments = (row.edit.saved_s, row.edit.first_s, row.edit.last_s, row.edit.clean_s)
            saved, first, last, clean = ("" if some is None else f"{some:.1f}" for some in moments)
            table.add_row(row.database, f"{row.tasks:,}", saved, first, last, f"{row.edit.least:,}", clean)
    return table


def _waits(rows: list[Row]) -> Table:
    titles = ("quiet, median s", "worst", "n", "A is cleaned, median s", "worst", "n", "removed")
    table = Table("database", "tasks in A", "", *titles, title="waiting while a project is cleaned")
    for row in rows:
        if row.quiet is None or row.cleaning is None:
            continue
        for name, quiet, cleaned, removed in (
            (f"{IMPORTED} imported into B", row.quiet.imports, row.cleaning.imports, f"{row.cleaning.removed:,}"),
            ("A's task opened", row.quiet.opened_a, row.cleaning.opened_a, ""),
            ("B's task opened", row.quiet.opened_b, row.cleaning.opened_b, ""),
        ):
            table.add_row(row.database, f"{row.tasks:,}", name, *_figures(quiet), *_figures(cleaned), removed)
    return table


def _figures(waits: list[float]) -> tuple[str, str, str]:
    worst = f"{max(waits):.2f}" if waits else ""
    return f"{median(waits):.2f}", worst, str(len(waits))


if __name__ == "__main__":
    in_own_session("benchmarks.label_studio", main)
