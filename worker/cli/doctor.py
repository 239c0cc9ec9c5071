"""`prelabel doctor`: is everything there, and if not, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import typer
from rich.table import Table

from ...schemas.errors import PrelabelError
from . import options
from .checks import Check, Checks, Status
from .checks.broker import check_redis
from .checks.disk import check_disk
from .checks.figures import check_figures
from .checks.images import check_image, check_project_image
from .checks.label_studio import check_label_studio
from .checks.model import check_model
from .checks.projects import check_projects
from .checks.pushes import check_pushes
from .checks.workers import check_workers
from .console import EXIT_FAILED, err, out, plain, print_json, user_errors
from .here import settings_here

_COLOURS: dict[Status, str] = {"ok": "green", "warn": "yellow", "fail": "red"}

_NEEDED = {
    "workers": "redis",
    "tasks": "redis",
    "projects": "redis",
    "pushes": "redis",
    "project's image": "label studio",
}
"""Parts that can say nothing where another one failed."""


def doctor(
    project: int | None = typer.Option(
        None, "--project", "-p", min=1, help="Also look at this Label Studio project, and fetch an image of it"
    ),
    load_model: bool = typer.Option(False, "--load-model", help="Really load the checkpoint (slow for a big one)"),
    image: str | None = typer.Option(None, help="Also fetch and decode this image as a worker here would"),
    as_json: options.AsJson = False,
) -> None:
    """Check Redis, workers, model, device, Label Studio, images, clocks and disk; say what to do about what is wrong.

    It looks from where it runs, with the settings it finds there: run it beside the adapter for Label Studio, beside a
    worker for model and images (`docker compose exec worker prelabel doctor --project 7`). Whether Label Studio reaches
    the adapter is asked of Label Studio itself. Exit status 1 when a check failed; warnings do not count.
    """
    with user_errors():
        settings = settings_here()
    checks: list[Check] = []
    parts: dict[str, Checks] = {
        "redis": check_redis(settings),
        "workers": check_workers(settings),
        "model": check_model(settings, load_model),
        "label studio": check_label_studio(settings, project),
        "projects": check_projects(settings, project),
        "tasks": check_figures(settings, project),
        "pushes": check_pushes(settings, project),
        "project's image": check_project_image(settings, project),
        "image": check_image(settings, image),
        "disk": check_disk(settings),
    }
    with err.status("looking") as status:
        for name, results in parts.items():
            status.update(f"looking at {name}")
            needed = _NEEDED.get(name)
            if any(check.name == needed and check.status == "fail" for check in checks):
                continue
            try:
                for check in results:
                    checks.append(check)
            except PrelabelError as error:
                checks.append(Check(name, "fail", str(error)))
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        _show(checks)
    if any(check.status == "fail" for check in checks):
        raise typer.Exit(EXIT_FAILED)


def _show(checks: Sequence[Check]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        colour = _COLOURS[check.status]
        fix = f"\n[bold]fix:[/] {plain(check.fix)}" if check.fix and check.status != "ok" else ""
        table.add_row(f"[{colour}]{check.status}[/]", check.name, plain(check.detail) + fix)
    out.print(table)
    counts = {status: sum(check.status == status for check in checks) for status in _COLOURS}
    out.print(f"\n{counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed")
