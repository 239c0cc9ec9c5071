"""Commands about jobs: submit, jobs, status, cancel, retry, results."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from ...integrations.client.client import Client
from ...integrations.client.export import check_output, export
from ...integrations.client.job import Job
from ...schemas.jobs import Priority
from ...schemas.predictions import Prediction
from ...schemas.progress import Progress, PushRefusal
from . import options
from .console import (
    Tally,
    bar,
    err,
    interruptible,
    out,
    plain,
    predictions_table,
    print_json,
    print_json_line,
    refusals_table,
    tell_partly,
    user_errors,
)
from .following import end_waiting, follow, going_on, jobs_table, tell_waiting
from .here import settings_here

JobId = Annotated[str, typer.Argument(help="Job id, as `prelabel submit` and `prelabel jobs` print it")]

_SHOWN = 20
_STDIN = "-"


def submit(
    images: Annotated[list[str], typer.Argument(help="Image files or URLs; - reads one a line from stdin")],
    labels: options.Labels = None,
    taxonomy: options.TaxonomyFile = None,
    multiple: options.Multiple = False,
    threshold: options.Threshold = None,
    template: options.Template = None,
    priority: Annotated[Priority, typer.Option(help="interactive overtakes any bulk backlog")] = Priority.BULK,
    name: Annotated[str, typer.Option(help="A name for `prelabel jobs`")] = "",
    deadline: Annotated[
        float | None,
        typer.Option(min=0.001, help="Hours after which the job is cancelled; what is done stays", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Stay and show progress until the job has ended")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Queue images to be scored by the workers.

    prelabel submit photos/*.jpg --labels cat,dog --wait
    find /data -name '*.jpg' | prelabel submit - --taxonomy animals.json
    """
    with user_errors(), interruptible():
        chosen = options.build_taxonomy(labels, taxonomy, multiple, threshold, template)
        with Client(settings_here()) as client:
            with _submitting(None if _STDIN in images else len(images)) as shown:
                job = client.submit(
                    _references(images),
                    chosen,
                    priority=priority,
                    name=name,
                    deadline_s=deadline and deadline * 3600,
                    on_submitted=shown,
                )
            progress = _tell_submitted(job, wait=wait, as_json=as_json)
    if wait:
        end_waiting(progress)


@contextmanager
def _submitting(total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar of the submission, to be told how many images are there; none where nobody looks."""
    shown = bar()
    shown.disable = not err.is_terminal
    with shown:
        task = shown.add_task("submitting", total=total, detail="")

        def told(count: int) -> None:
            shown.update(task, completed=count)
            speed = shown.tasks[task].speed
            shown.update(task, detail=f"{speed:,.0f} images/s" if speed else "")

        yield told


def _tell_submitted(job: Job, *, wait: bool, as_json: bool) -> Progress:
    """Print what a job just submitted is called and how it stands, at its end where it is waited for."""
    with going_on(job):
        if not as_json:
            out.print(job.id)
        if wait:
            follow(job)
        progress = job.progress()
        if not wait:
            tell_waiting(progress)
        if as_json:
            print_json(_progress_json(progress))
        elif wait:
            out.print(jobs_table([progress]))
    return progress


def jobs(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first")] = 20, as_json: options.AsJson = False
) -> None:
    """List jobs with their progress, the queues and the workers."""
    with user_errors(), Client(settings_here()) as client:
        newest = client.jobs(limit)
        queues, workers = client.queues(), client.workers()
    if as_json:
        print_json(
            {
                "jobs": [_progress_json(progress) for progress in newest],
                "queues": queues,
                "workers": [worker.model_dump(mode="json") for worker in workers],
            }
        )
        return
    out.print(jobs_table(newest) if newest else "no jobs yet: `prelabel submit IMAGES… --labels cat,dog`")
    for problem in dict.fromkeys(progress.waiting_for for progress in newest if progress.waiting_for):
        waiting = ", ".join(progress.job_id for progress in newest if progress.waiting_for == problem)
        out.print(f"[yellow]waiting:[/] {plain(f'{problem} (job {waiting})')}")
    out.print(plain("queues: " + ", ".join(f"{name} {length}" for name, length in queues.items())))
    if workers:
        for worker in workers:
            out.print(plain(f"worker {worker.name}: {worker.model} on {worker.device} ({worker.dtype})"))
    else:
        out.print("[yellow]no worker is running[/]: `prelabel worker`, or `prelabel up`")


def status(
    job_id: JobId,
    wait: Annotated[bool, typer.Option("--wait", help="Stay and show progress until the job has ended")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show one job: counts, rate, time left, what failed, and what the platform refused."""
    with user_errors(), interruptible(), Client(settings_here()) as client:
        job = client.job(job_id)
        if wait:
            with going_on(job):
                follow(job)
        progress = job.progress()
        refusals = job.refusals() if progress.refused else []
        if as_json:
            print_json(
                {**_progress_json(progress), "refusals": [refusal.model_dump(mode="json") for refusal in refusals]}
            )
        else:
            _show_status(job, progress, refusals)
    if wait:
        end_waiting(progress)


def _show_status(job: Job, progress: Progress, refusals: Sequence[PushRefusal]) -> None:
    out.print(jobs_table([progress]))
    if progress.waiting_for:
        out.print(f"[yellow]waiting:[/] {plain(progress.waiting_for)}")
    if progress.cancelled:
        out.print(f"cancelled: {plain(progress.cancelled)}")
    if progress.quarantined:
        out.print(f"{progress.quarantined} quarantined: they killed their worker and are scored no more until retried")
    failed = list(islice(job.failures(), _SHOWN))
    if failed:
        out.print(predictions_table(failed, title=f"failed (first {len(failed)} of {progress.failed})"))
        out.print(f"try them again: prelabel retry {plain(job.id)}")
    if refusals:
        out.print(refusals_table(refusals, title=f"refused by the platform: {progress.refused}, not sent again"))
        project = job.spec().label_studio_project
        if project is not None:
            out.print(f"correct the project, then: prelabel connect --project {project} --all")
    if progress.push_problem:
        out.print(f"not pushed at present: {plain(progress.push_problem)}")


def cancel(job_id: JobId) -> None:
    """Stop a job; what is done stays."""
    with user_errors(), Client(settings_here()) as client:
        stopped = client.job(job_id).cancel()
    out.print("cancelled" if stopped else "it had ended already")


def retry(job_id: JobId) -> None:
    """Send a job's failed items again."""
    with user_errors(), Client(settings_here()) as client:
        count = client.job(job_id).retry_failed()
    out.print(f"{count} items sent again" if count else "nothing failed")


def rescore(
    source: Annotated[str, typer.Argument(help="Job id; or project:7 for all that was answered for a project")],
    labels: options.Labels = None,
    taxonomy: options.TaxonomyFile = None,
    multiple: options.Multiple = False,
    threshold: options.Threshold = None,
    template: options.Template = None,
    name: Annotated[str, typer.Option(help="A name for `prelabel jobs`")] = "",
    wait: Annotated[bool, typer.Option("--wait", help="Stay and show progress until the job has ended")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Score a job's images against other labels, from stored vectors: no image is fetched, no model runs over one.

    prelabel rescore 1a2b3c4d5e6f --labels cat,dog,fox --wait
    """
    with user_errors(), interruptible():
        chosen = options.build_taxonomy(labels, taxonomy, multiple, threshold, template)
        project = re.fullmatch(r"project:(\d+)", source)
        with Client(settings_here()) as client:
            with _submitting(None) as shown:
                job = client.rescore(int(project[1]) if project else source, chosen, name=name, on_submitted=shown)
            progress = _tell_submitted(job, wait=wait, as_json=as_json)
    if wait:
        end_waiting(progress)


def results(
    job_id: JobId,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write to this file: .jsonl, .csv or .parquet", show_default=False),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Follow the job to its end")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Print a job's predictions: a table, with --json one JSON object a line, with -o a file."""
    with user_errors():
        if output:
            check_output(output)
    with user_errors(), interruptible(), Client(settings_here()) as client:
        job = client.job(job_id)
        with going_on(job) if wait else nullcontext():
            tally = Tally()
            stream = tally.over(job.results() if wait else job.results_so_far())
            if output:
                count = export(stream, output)
                err.print(f"{count} predictions written to {plain(str(output))}")
            elif as_json:
                for prediction in stream:
                    print_json_line(prediction.to_json())
            else:
                _show_results(job, stream, wait=wait)
        tell_partly(tally)
        if wait:
            end_waiting(job.progress())


def _show_results(job: Job, stream: Iterator[Prediction], *, wait: bool) -> None:
    shown = list(islice(stream, _SHOWN))
    if wait:
        deque(stream, maxlen=0)  # what is not shown is waited for all the same
    out.print(predictions_table(shown))
    total = job.progress().total
    if total > len(shown):
        out.print(f"first {len(shown)} of {total}; all of them: prelabel results {plain(job.id)} -o results.jsonl")


def _references(images: list[str]) -> Iterator[str]:
    for image in images:
        if image == _STDIN:
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="surrogateescape")  # as names on the command line are read
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield image


def _progress_json(progress: Progress) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(progress.model_dump_json())
    return {**made, "pending": progress.pending}
