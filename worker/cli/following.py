"""How jobs are shown: followed to their end, or as rows of a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.table import Column, Table

from ...integrations.client.job import Job
from ...schemas.progress import JobState, Progress
from .console import EXIT_FAILED, bar, duration, err, fail, folding_table, job_detail, plain
from .streams import keeping

_LINE_EVERY_S: Final = 3.0
"""Seconds from one line to the next where there is no terminal for a bar."""


def follow(job: Job, description: str | None = None) -> None:
    """Show how a job comes on until it has ended: a bar on a terminal, elsewhere a line every few seconds."""
    what = description or f"job {job.id}"
    with bar() as shown:
        shown.disable = not err.is_terminal
        task = shown.add_task(plain(what), total=None, detail="")
        due = time.monotonic() + _LINE_EVERY_S
        waiting_for = ""
        while True:
            progress = job.progress()
            if progress.waiting_for != waiting_for:
                waiting_for = progress.waiting_for
                tell_waiting(progress)
            # What failed leaves a gap: a full bar is a job that went well.
            shown.update(task, total=progress.total, completed=progress.done, detail=job_detail(progress))
            if not err.is_terminal and (progress.state.ended or time.monotonic() >= due):
                due = time.monotonic() + _LINE_EVERY_S
                _tell_line(what, progress)
            if progress.state.ended:
                return
            time.sleep(0.2)


def tell_waiting(progress: Progress) -> None:
    """Say what a job lacks that nobody works on."""
    if progress.waiting_for:
        err.print(f"[yellow]waiting:[/] {plain(progress.waiting_for)}", soft_wrap=True)


def _tell_line(what: str, progress: Progress) -> None:
    detail = job_detail(progress)
    err.print(f"{plain(what)}: {progress.done}/{progress.total}{detail and ', '}{detail}", soft_wrap=True)


@contextmanager
def going_on(job: Job) -> Iterator[None]:
    """Say at what interrupts the block, or cannot be printed in it, that the job goes on."""
    try:
        with keeping(lambda: f"job {job.id} goes on (prelabel status {job.id}, prelabel results {job.id})"):
            yield
    except KeyboardInterrupt as interrupt:
        interrupt.add_note(f"job {job.id} goes on (prelabel status {job.id} --wait, prelabel cancel {job.id})")
        raise


def end_waiting(progress: Progress) -> None:
    """End a command that has waited for a job with status 1 and a line that says why, unless all is well."""
    counts = {"failed": progress.failed, "refused by the platform": progress.refused}
    problems = [f"{count} of {progress.total} items {what}" for what, count in counts.items() if count]
    if progress.cancelled:
        problems.append(f"cancelled: {progress.cancelled}")
    if problems:
        fail(f"job {progress.job_id}: {', '.join(problems)} (prelabel status {progress.job_id})", EXIT_FAILED)


def _progress_row(progress: Progress, with_refused: bool) -> list[str]:
    state, colour = _state_shown(progress)
    return [
        progress.job_id,
        plain(progress.name),
        f"[{colour}]{state}[/]",
        str(progress.done),
        _failed_cell(progress),
        *([f"[red]{progress.refused}[/]" if progress.refused else "0"] if with_refused else []),
        str(progress.total),
        f"{progress.rate:.1f}" if progress.rate else "",
        duration(progress.eta_s) if progress.eta_s else "",
        duration(max(0.0, time.time() - progress.created_at)),
    ]


def _state_shown(progress: Progress) -> tuple[str, str]:
    """A job's state and its colour: green is for a job of which nothing failed."""
    if progress.state is JobState.DONE and progress.failed:
        return ("done", "yellow") if progress.done else ("failed", "red")
    if progress.state is JobState.DONE and progress.refused:
        return "done", "yellow"
    colours = {JobState.DONE: "green", JobState.RUNNING: "cyan", JobState.CANCELLED: "yellow"}
    return progress.state.value, colours.get(progress.state, "white")


def _failed_cell(progress: Progress) -> str:
    if not progress.failed:
        return "0"
    return f"[red]{progress.failed}[/]" + (f" ({progress.quarantined} quarantined)" if progress.quarantined else "")


def jobs_table(jobs: Sequence[Progress]) -> Table:
    """A row for each job; what platforms refused has a column where they refused something."""
    with_refused = any(progress.refused for progress in jobs)
    counts = ("done", "failed", *(("refused",) if with_refused else ()), "total")
    table = folding_table("name", "state", *counts, "images/s", "left", "age")
    table.columns.insert(0, Column("job", no_wrap=True))
    for progress in jobs:
        table.add_row(*_progress_row(progress, with_refused))
    return table
