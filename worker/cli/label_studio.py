"""`prelabel connect` and `prelabel disconnect`: make a Label Studio project use the adapter, and undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ...schemas.jobs import Priority
from ...schemas.settings import Settings, load_settings
from . import options
from .console import EXIT_FAILED, err, folding_table, needs, out, plain, print_json, user_errors
from .here import settings_here

if TYPE_CHECKING:
    from ...integrations.client.client import Client
    from ...integrations.label_studio.projects.registration import Step

_OWN_MODEL = "default"
_COLOURS = {"ok": "green", "changed": "cyan", "warning": "yellow", "failed": "red"}

Project = Annotated[int, typer.Option(min=1, help="Label Studio project number, as in its URL")]
Url = Annotated[str | None, typer.Option(help="Label Studio; default LABEL_STUDIO_URL", show_default=False)]
_BackendUrl = Annotated[
    str | None,
    typer.Option(
        help="The adapter as Label Studio reaches it; default PRELABEL_ADAPTER_URL, else its host and port",
        show_default=False,
    ),
]


def connect(
    project: Project,
    url: Url = None,
    backend_url: _BackendUrl = None,
    all_tasks: Annotated[bool, typer.Option("--all", help="Also pre-label every task that is there")] = False,
    unlabelled_only: Annotated[
        bool | None,
        typer.Option(
            "--unlabelled-only/--labelled-too",
            help="From now on leave tasks alone that somebody has labelled; default as it was, at first labelled too",
            show_default=False,
        ),
    ] = None,
    priority: Annotated[
        Priority | None,
        typer.Option(
            help="Queue of the project's tasks from now on: interactive is before every bulk backlog, beside the tasks "
            "people are opening, so keep it for small and urgent projects; default as it was, at first bulk",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Model of the project from now on, one that a worker serves (`prelabel jobs` lists them; the revision "
            "may be left out), or `default` for the adapter's own. A change scores the project again; default as it "
            "was, at first the adapter's",
            show_default=False,
        ),
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a Label Studio project use the adapter: tasks open with a pre-annotation from then on.

    Needs LABEL_STUDIO_API_KEY (a personal access token or a legacy token) and the Redis of adapter and workers. It
    registers the ML backend and a webhook, checks that Label Studio and the adapter reach each other and that a worker
    can score an image, and says what it did. With --all the tasks that are there are pre-labelled too: unlabelled ones
    first, and the newest of them. Running it again changes nothing that is right already; `prelabel disconnect` undoes
    it.

    A small project that is wanted today, ahead of a big one, and without what is labelled already:

        prelabel connect --project 8 --all --unlabelled-only --priority interactive
    """
    with user_errors():
        settings = label_studio_settings(url)
        from ...integrations.client.checkpoint import settings_model_id
        from ...integrations.client.client import Client
        from ...integrations.label_studio.projects.connect import connect as run
        from ...integrations.label_studio.projects.registration import own_url

        with err.status("connecting"), Client(settings) as client:
            steps = run(
                settings,
                project=project,
                backend_url=backend_url or own_url(settings),
                model=settings_model_id(settings),
                client=client,
                chosen=_chosen(client, model),
                pre_label_all=all_tasks,
                unlabelled_only=unlabelled_only,
                priority=priority,
            )
    _tell(steps, as_json=as_json)


def _chosen(client: Client, name: str | None) -> str | None:
    """The id of the model a project is to have; empty for the adapter's own, None for the one it has.

    Raises:
        ConfigError: no worker serves a model of that name, or workers serve several.
    """
    if name is None or name == _OWN_MODEL:
        return None if name is None else ""
    from ...integrations.client.workers import served_model

    return served_model(client.connection, name)


def disconnect(
    project: Project,
    url: Url = None,
    backend_url: _BackendUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Undo `prelabel connect`: remove ML backend and webhook, cancel the project's jobs. Predictions stay."""
    with user_errors():
        settings = label_studio_settings(url)
        from ...integrations.client.client import Client
        from ...integrations.label_studio.projects.connect import disconnect as run
        from ...integrations.label_studio.projects.registration import own_url

        with err.status("disconnecting"), Client(settings) as client:
            steps = run(settings, project=project, backend_url=backend_url or own_url(settings), client=client)
    _tell(steps, as_json=as_json)


def label_studio_settings(url: str | None) -> Settings:
    """The settings, with this Label Studio where one is given.

    Raises:
        ConfigError: a setting cannot be used, or no Label Studio or key is set.
    """
    settings = settings_here()
    if url is not None:
        settings = load_settings(**{**settings.model_dump(), "label_studio_url": url})
    with needs("label-studio"):
        from ...integrations.label_studio.api.auth import LabelStudioAuth

        LabelStudioAuth.from_settings(settings)  # told here, not in the middle
    return settings


def _tell(steps: Sequence[Step], *, as_json: bool) -> None:
    if as_json:
        print_json([step._asdict() for step in steps])
    else:
        table = folding_table("step", "", "result")
        table.show_edge = False
        for step in steps:
            table.add_row(step.name, f"[{_COLOURS[step.status]}]{step.status}[/]", plain(step.detail))
        out.print(table)
    if any(step.status == "failed" for step in steps):
        raise typer.Exit(EXIT_FAILED)
