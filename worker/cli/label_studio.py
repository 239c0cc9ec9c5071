"""`prelabel connect`: make a Label Studio project use the adapter."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from ...schemas.settings import get_settings, load_settings
from . import options
from .console import EXIT_FAILED, err, needs, out, print_json, user_errors

_COLOURS = {"ok": "green", "changed": "cyan", "warning": "yellow", "failed": "red"}


def connect(
    project: Annotated[int, typer.Option(help="Label Studio project number, as in its URL")],
    url: Annotated[str | None, typer.Option(help="Label Studio; default LABEL_STUDIO_URL", show_default=False)] = None,
    backend_url: Annotated[
        str | None, typer.Option(help="The adapter as Label Studio reaches it; default this host's PRELABEL_PORT")
    ] = None,
    all_tasks: Annotated[bool, typer.Option("--all", help="Also pre-label every task that is there")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Register the adapter with a Label Studio project; with --all pre-label the tasks that are there.

    Needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY (a personal access token or a legacy token). Running it again
    changes nothing that is right already.
    """
    with user_errors():
        settings = get_settings()
        if url is not None:
            settings = load_settings(**{**settings.model_dump(), "label_studio_url": url})
        with needs("label-studio"):
            import label_studio_sdk  # noqa: F401  # told here, not inside connect

        from ...integrations.client import Client
        from ...integrations.label_studio.connect import connect as run
        from ...integrations.model_identity import settings_model_id

        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared, not bound
        with err.status("connecting"):
            steps = run(
                settings,
                project=project,
                backend_url=backend_url or f"http://{host}:{settings.port}",
                model=settings_model_id(settings),
                client=Client(settings) if all_tasks else None,
                pre_label_all=all_tasks,
            )
    if as_json:
        print_json([step._asdict() for step in steps])
    else:
        table = Table("step", "", "result", show_edge=False)
        for step in steps:
            table.add_row(step.name, f"[{_COLOURS[step.status]}]{step.status}[/]", step.detail)
        out.print(table)
    if any(step.status == "failed" for step in steps):
        raise typer.Exit(EXIT_FAILED)
