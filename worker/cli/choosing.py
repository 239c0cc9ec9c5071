"""`prelabel pause`, `resume` and `again`: which tasks of a connected Label Studio project are scored, and when."""

from __future__ import annotations

from typing import Annotated

import typer

from ...schemas.errors import ConfigError
from . import options
from .console import err, out, plain, print_json, user_errors
from .here import settings_here
from .label_studio import Project, Url, label_studio_settings


def pause(project: Project, as_json: options.AsJson = False) -> None:
    """Stop pre-labelling a Label Studio project for a while: its workers are free for others at once.

    Nothing of it is queued, opened tasks are not answered either, and what waits in its jobs is held back: they are
    cancelled, and what they had not answered is remembered. What is scored already is still pushed. `prelabel resume`
    goes on where it stopped. Needs the adapter's Redis.
    """
    with user_errors():
        from ...integrations.client.client import Client
        from ...integrations.label_studio.projects.pausing import pause as run

        with Client(settings_here()) as client:
            held_back = run(client, project)
    if as_json:
        print_json({"project": project, "paused": True, "held_back": held_back})
    else:
        out.print(f"project {project} is paused, {held_back} tasks are held back: prelabel resume --project {project}")


def resume(project: Project, as_json: options.AsJson = False) -> None:
    """Go on with a paused Label Studio project: the adapter queues what was held back, and what came meanwhile."""
    with user_errors():
        from ...integrations.client.client import Client
        from ...integrations.label_studio.projects.pausing import resume as run

        with Client(settings_here()) as client:
            held_back = run(client, project)
    if as_json:
        print_json({"project": project, "paused": False, "held_back": held_back})
    else:
        out.print(f"project {project} goes on; the adapter queues the {held_back} tasks that were held back")


def again(
    project: Project,
    tasks: Annotated[
        str | None, typer.Option(help="Numbers of tasks, with commas between: 1,2,3", show_default=False)
    ] = None,
    tab: Annotated[
        int | None,
        typer.Option(help="Number of a Data Manager tab, as in its address (?tab=5): every task it lists", min=1),
    ] = None,
    url: Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Score chosen tasks of a Label Studio project again, and replace their predictions.

    For images that have changed behind the same address, and for predictions that somebody has edited. Our predictions
    of the tasks are removed first, so they show none until they are scored; other models' stay, and so do annotations.
    Needs LABEL_STUDIO_API_KEY and the Redis of adapter and workers.

        prelabel again --project 7 --tasks 101,102
        prelabel again --project 7 --tab 5
    """
    with user_errors():
        if (tasks is None) == (tab is None):
            raise ConfigError("which tasks? Give --tasks 1,2,3 or --tab 5")
        numbers = _numbers(tasks or "")
        settings = label_studio_settings(url)
        from ...integrations.client.checkpoint import settings_model_id
        from ...integrations.client.client import Client
        from ...integrations.label_studio.projects.again import score_again

        with err.status("removing the old predictions"), Client(settings) as client:
            report = score_again(
                settings, client=client, model=settings_model_id(settings), project=project, numbers=numbers, tab=tab
            )
    if as_json:
        told = {"queued": report.queued, "job": report.job_id, "under_way": report.under_way}
        print_json({"project": project, **told, "refused": report.refused, "refusal": report.refusal})
        return
    line = f"project {project}: {report.queued} tasks are scored again"
    if report.job_id:
        line += f", the first as job {report.job_id}"
    if report.under_way:
        line += f"; {report.under_way} are on their way already"
    if report.refused:
        line += f"; {report.refused} cannot be scored ({report.refusal})"
    out.print(plain(line))


def _numbers(text: str) -> list[int]:
    """The numbers of tasks in `1,2,3`.

    Raises:
        ConfigError: something else stands there.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if odd := next((part for part in parts if not part.isdecimal()), None):
        raise ConfigError(f"--tasks takes task numbers with commas between, as in 1,2,3; {odd!r} is none")
    if text and not parts:
        raise ConfigError("--tasks names no task: task numbers with commas between, as in 1,2,3")
    return [int(part) for part in parts]
