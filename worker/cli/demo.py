"""`prelabel demo`: the whole story on generated images, nothing to configure."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ...schemas.errors import ConfigError, TransientError
from ...schemas.settings import get_settings, load_settings
from .console import confidence_bar, err, interruptible, needs, out, plain, user_errors
from .doing import Doing
from .following import follow

if TYPE_CHECKING:
    from ...integrations.client.client import Client
    from ...integrations.client.job import Job
    from ...schemas.settings import Settings
    from ..demo.finding import Findings
    from ..demo.report import ChapterResult
    from ..running.stack import Stack

_SHOWN = 6
_PUSH_S = 60.0


def demo(
    report: Annotated[Path, typer.Option(help="Where the HTML report goes")] = Path("demo-report.html"),
    seed: Annotated[int, typer.Option(help="Other pictures")] = 7,
    label_studio: Annotated[
        bool, typer.Option("--label-studio", help="Show it in a real Label Studio on this machine instead")
    ] = False,
) -> None:
    """Watch it work: images into Redis, a worker scores them, predictions come back.

    Draws about 200 pictures of coloured shapes, starts a Redis and a worker of its own, submits three jobs (single
    choice, multiple choice, a taxonomy of two levels), shows the predictions beside the truth and writes a report.
    It uses a small checkpoint that comes with prelabel and was trained on such pictures; some combinations of
    colour and shape were kept from it, and the demo says how it does on those.

    With --label-studio it installs a real Label Studio from PyPI (once, into your cache folder), starts it on
    loopback, makes a project with the pictures, connects it and pre-labels every task; then you look. Ctrl-C stops
    all of it.
    """
    if label_studio:
        _in_label_studio(seed)
        return
    with user_errors(), interruptible(), _scratch() as directory:
        _check_report(report)
        with needs("all"):
            from ..demo import story
            from ..demo.finding import find
            from ..demo.report import ChapterResult, write_report
            from ..running.stack import local_stack

        root = Path(directory)
        settings = load_settings(
            **{
                **get_settings().model_dump(),
                "model": str(story.CHECKPOINT),
                "revision": None,
                "image_roots": (root,),
                "vector_store_dir": root / "vectors",
            }
        )
        with Doing("drawing pictures"):
            pictures = story.draw_pictures(root, seed=seed)
        embedded = "redis_url" not in get_settings().model_fields_set
        results: list[ChapterResult] = []
        try:
            with (
                local_stack(settings, root / "state", adapter=False, embedded=embedded, broker_port=0) as stack,
                _findable(stack, settings),
                stack.client() as client,
            ):
                with Doing("starting") as doing:
                    stack.wait_until_ready(doing.update)
                worker = stack.workers()[0]
                out.print(
                    f"Redis    {plain(stack.settings_shown_url())}"
                    + (" (embedded; `prelabel jobs` in another terminal finds it)" if embedded else "")
                )
                out.print(f"worker   {plain(worker.model)} on {worker.device} ({worker.dtype})")
                out.print(
                    "         the demo's own small SigLIP checkpoint; the default PRELABEL_MODEL is "
                    "google/siglip-base-patch16-512"
                )
                out.print(f"pictures {len(pictures)}, generated, in {plain(str(root))}\n")
                for chapter in story.chapters(pictures):
                    job = client.submit(
                        [str(picture.path) for picture in chapter.pictures],
                        chapter.taxonomy,
                        name=f"demo: {chapter.name}",
                        model=worker.model,
                    )
                    follow(job, f"{chapter.name}: {chapter.question}")
                    predictions = sorted(job.results(), key=lambda prediction: prediction.ordinal)
                    results.append(ChapterResult(chapter, predictions, job.progress()))
                with Doing("searching"):
                    findings = find(client, job, chapter.pictures)
        except KeyboardInterrupt:
            err.print("stopped")
            raise typer.Exit(130) from None
        for result in results:
            out.print(_table(result))
        out.print(_accuracy_table(results))
        out.print(_search_table(findings))
        write_report(report, results, findings)
        out.print(f"report   {plain(str(report.resolve()))}")
        failed = sum(result.progress.failed for result in results)
    if failed:
        err.print(f"[red]{failed} items failed[/]")
        raise typer.Exit(1)


def _findable(stack: Stack, settings: Settings) -> contextlib.AbstractContextManager[None]:
    """While the demo runs, `prelabel jobs` in another terminal finds its Redis, if that is its own."""
    from ..running.announced import announced

    if not stack.embedded:
        return contextlib.nullcontext()
    return announced(settings.state_dir, stack.redis_port, "prelabel demo")


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    """A folder for what the demo makes, gone with it.

    Raises:
        ConfigError: there is no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="prelabel-demo-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ConfigError(
            f"the demo has no place for its pictures ({error.strerror or error}): set TMPDIR to a folder that this "
            "user may write"
        ) from None
    with folder as name:
        yield name


def _check_report(report: Path) -> None:
    """Say that the report cannot be written before the demo has run for it."""
    if report.is_dir():
        raise ConfigError(f"the report cannot be written to {report}, which is a folder: --report demo-report.html")
    if not report.parent.is_dir() or not os.access(report if report.exists() else report.parent, os.W_OK):
        raise ConfigError(f"the report cannot be written to {report}: --report a file that this user may write")


def _in_label_studio(seed: int) -> None:
    with user_errors(), interruptible(), _scratch() as directory:
        with needs("all"):
            from ..demo import story
            from ..demo.label_studio.server import label_studio_server
            from ..demo.project import make_project, pre_label
            from ..running.stack import local_stack

        root = Path(directory)
        try:
            with Doing("drawing pictures") as doing, contextlib.ExitStack() as running:
                pictures = [one for one in story.draw_pictures(root, seed=seed) if len(one.pairs) == 1]
                server = running.enter_context(label_studio_server(root / "label-studio", tell=doing.update))
                settings = load_settings(
                    **{
                        **get_settings().model_dump(),
                        "model": str(story.CHECKPOINT),
                        "revision": None,
                        "vector_store_dir": root / "vectors",
                        "label_studio_url": server.url,
                        "label_studio_api_key": server.personal_token,
                        "host": "127.0.0.1",
                        "port": 0,
                        "reconcile_s": 10.0,
                    }
                )
                stack = running.enter_context(
                    local_stack(settings, root / "state", adapter=True, embedded=True, broker_port=0)
                )
                running.enter_context(_findable(stack, settings))
                stack.wait_until_ready(doing.update)
                doing.update("importing pictures into Label Studio")
                project = make_project(server, pictures)
                client = running.enter_context(stack.client())
                for job in pre_label(stack, client, project.number, doing.update):
                    doing.stop()
                    follow(job, "pre-labelling")
                    _until_pushed(job)
                doing.stop()
                out.print(_hits_table(client, project.number, server.url))
                table = Table(show_header=False, box=None)
                table.add_row("project", plain(project.url))
                table.add_row("log in as", plain(server.username))
                table.add_row("password", plain(server.password))
                table.add_row("prelabel's page", plain(f"{stack.adapter_url}/"))
                table.add_row("Redis", plain(f"{stack.settings_shown_url()} (`prelabel jobs` beside this finds it)"))
                out.print(table)
                out.print(
                    f"{len(pictures)} tasks are pre-labelled. The tab shows the least sure first: the pictures the "
                    "model doubts most come first because a look is worth most there. Wrong answers gather at the "
                    "top; further down it is ever surer"
                )
                out.print("open one. Ctrl-C stops everything")
                while server.process.poll() is None:
                    stack.check()
                    time.sleep(0.5)
                raise TransientError(f"Label Studio has ended (log: {server.log})")
        except KeyboardInterrupt:
            err.print("stopped")


def _hits_table(client: Client, project: int, url: str) -> Table:
    """What a search of the project finds."""
    text = "a red star"
    table = Table("task", "predicted", "cosine", title=f'prelabel search {project} "{text}"', title_justify="left")
    for hit in client.search(project, text, k=5):
        predicted = plain(" > ".join(hit.label)) if hit.label else "none"
        table.add_row(plain(f"{url}/projects/{project}/data?task={hit.task}"), predicted, f"{hit.cosine:.3f}")
    return table


def _until_pushed(job: Job) -> None:
    deadline = time.monotonic() + _PUSH_S
    while (progress := job.progress()).pushed < progress.done and time.monotonic() < deadline:
        time.sleep(0.1)


def _table(result: ChapterResult) -> Table:
    """The first few predictions of a job, each beside the truth."""
    chapter = result.chapter
    progress = result.progress
    rate = f", {progress.rate:.0f} images/s" if progress.rate else ""
    table = Table(
        "picture",
        "prediction",
        "confidence",
        "truth",
        title=f"{chapter.name}: {chapter.question} ({progress.done} of {progress.total}{rate})",
        title_justify="left",
    )
    step = max(1, len(result.predictions) // _SHOWN)
    for prediction in result.predictions[::step][:_SHOWN]:
        mark = "[green]✓[/]" if chapter.right(prediction) else "[red]✗[/]"
        table.add_row(
            plain(Path(prediction.item.id).name),
            _paths(prediction.answer.paths) if prediction.answer else "[red]failed[/]",
            confidence_bar(prediction.confidence or 0.0),
            f"{mark} {_paths(sorted(chapter.truth[prediction.item.images[0].uri]))}",
        )
    return table


def _accuracy_table(results: Sequence[ChapterResult]) -> Table:
    table = Table(
        "job",
        "what",
        "all pictures",
        "combinations trained on",
        "never trained on",
        title="accuracy against the generated truth",
        title_justify="left",
    )
    for result in results:
        for accuracy in result.accuracies:
            table.add_row(
                result.chapter.name,
                accuracy.what,
                f"{accuracy.overall:.1%}",
                f"{accuracy.trained:.1%}" if accuracy.trained is not None else "",
                f"{accuracy.held_out:.1%}" if accuracy.held_out is not None else "",
            )
    return table


def _search_table(findings: Findings) -> Table:
    table = Table(
        "search", "what", "right", title=f"searching {findings.searched} of the pictures", title_justify="left"
    )
    such = f" such as {findings.shown[0].text!r}" if findings.shown else ""
    table.add_row("by words", f"{findings.pairs} texts{such}, precision at 20", f"{findings.precision:.1%}")
    table.add_row("by likeness", f"{findings.samples} pictures, same kind among the 10 nearest", f"{findings.same:.1%}")
    return table


def _paths(paths: Sequence[tuple[str, ...]]) -> str:
    return plain(", ".join(" > ".join(path) for path in paths)) or "none"
