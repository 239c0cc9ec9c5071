"""`prelabel index`: make what is pre-labelled in a project searchable."""

from __future__ import annotations

from typing import Annotated

import typer

from . import options
from .console import bar, out, plain, print_json, user_errors
from .label_studio import Url, label_studio_settings

_Project = Annotated[int, typer.Argument(min=1, help="Number of a connected Label Studio project")]


def index(project: _Project, url: Url = None, as_json: options.AsJson = False) -> None:
    """Make all that is pre-labelled in a project searchable.

    `prelabel search` finds images by the vectors that scoring has stored. Tasks that were pre-labelled before there was
    a search, or whose vectors the store has dropped since, are scored once more; their predictions stay as they are.

        prelabel index 7
    """
    with user_errors():
        settings = label_studio_settings(url)
        from ...integrations.client.checkpoint import settings_model_id
        from ...integrations.client.client import Client
        from ...integrations.label_studio.projects.indexing import index_project

        with Client(settings) as client, bar() as progress:
            task = progress.add_task("tasks", total=None, detail="")
            report = index_project(
                settings,
                client=client,
                model=settings_model_id(settings),
                project=project,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    if as_json:
        print_json({"project": project, **report._asdict()})
        return
    if not report.queued:
        out.print(f"project {project}: all {report.looked_at:,} pre-labelled tasks can be found")
        return
    out.print(
        f"project {project}: {report.queued:,} of {report.looked_at:,} pre-labelled tasks are scored once more, as job "
        f"{plain(report.job_id)}: prelabel status {plain(report.job_id)}",
        soft_wrap=True,
    )
