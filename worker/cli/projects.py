"""`prelabel projects`: where the tasks of the Label Studio projects stand."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ...schemas.errors import ConfigError
from . import options
from .console import EXIT_FAILED, duration, err, needs, out, plain, print_json, user_errors
from .here import settings_here

if TYPE_CHECKING:
    from ...integrations.label_studio.projects.figures import ProjectFigures
    from ...integrations.label_studio.projects.overview import Overview
    from ...integrations.label_studio.projects.register import Projects
    from ...schemas.settings import Settings

_Project = Annotated[
    int | None,
    typer.Option("--project", "-p", help="All figures of this project, and why tasks have no prediction"),
]
_Tab = Annotated[
    str | None,
    typer.Option(
        metavar="FIGURE",
        help="With --project: make a Data Manager tab of the tasks behind a figure, such as failed or not_queued, and "
        "print its address",
        show_default=False,
    ),
]

_MEANS = {
    "prelabelled": ": Label Studio holds our prediction",
    "unanswerable": " as they are",
    "nothing_chosen": ": no label reached its threshold",
    "not_queued": ": older than the connection, or cancelled",
}

_REASONS = 10
_OLD_S = 30.0
"""Seconds after which counts are told with their age."""


def projects(project: _Project = None, tab: _Tab = None, as_json: options.AsJson = False) -> None:
    """Show where the tasks of each connected Label Studio project stand.

    Every task is counted once: pre-labelled (Label Studio holds our prediction), waiting for a worker or for Label
    Studio, failed, dropped by Label Studio, without an answer, or not queued. The counts are taken now; while Label
    Studio is away the last ones are shown, with their age. `prelabel projects --project 7` says why tasks have no
    prediction, and `--tab failed` shows them in Label Studio.
    """
    with user_errors():
        settings = settings_here()
        if tab is not None and project is None:
            raise ConfigError("--tab shows tasks of one project: say which with --project")
        with needs("label-studio"):
            from ...integrations.client.checkpoint import settings_model_id
            from ...integrations.client.client import Client
            from ...integrations.label_studio.projects.overview import overview
            from ...integrations.label_studio.projects.register import Projects
        with Client(settings) as client:
            register = Projects(client)
            numbers = register.numbers()
            if project is not None:
                if project not in numbers:
                    raise ConfigError(f"project {project} is not connected: prelabel connect --project {project}")
                numbers = [project]
            with err.status("counting") as status:
                found = []
                for one in overview(client, register, numbers, settings_model_id(settings)):
                    found.append(one)
                    status.update(f"counting: {len(found)} of {len(numbers)} projects")
            if tab is not None:
                _print_tab(settings, register, found[0], tab)
                return
    if as_json:
        print_json([_as_json(one) for one in found])
    elif project is not None:
        _show_one(found[0])
    else:
        _show(found)


def _as_json(one: Overview) -> dict[str, object]:
    counted = one.figures.model_dump(mode="json") if one.figures else {}
    return {"project": one.project, **counted, "problem": one.problem}


def _print_tab(settings: Settings, register: Projects, found: Overview, figure: str) -> None:
    from ...integrations.label_studio.api.connection import LabelStudioAPI
    from ...integrations.label_studio.projects.tabs import open_tab

    if found.figures is None:
        raise ConfigError(f"project {found.project} could not be counted: {found.problem}")
    with closing(LabelStudioAPI(settings)) as api:
        out.print(open_tab(api, register, found.figures, figure), soft_wrap=True)


def _show(found: list[Overview]) -> None:
    if not found:
        out.print("no project is connected: [bold]prelabel connect --project N[/]")
        return
    from ...integrations.label_studio.projects.figures import TROUBLES

    table = Table(show_edge=False, pad_edge=False)
    table.add_column("project", overflow="fold")
    for name in ("tasks", "pre-labelled", "waiting", "without", "not queued", "annotated"):
        table.add_column(name, justify="right")
    for one in found:
        counted = one.figures
        title = f"{one.project} {plain(counted.title) if counted else ''}".strip()
        if one.problem:
            title += f"\n[yellow]{plain(one.problem)}[/]"
        if counted is None:
            table.add_row(title, *["?"] * 6)
            continue
        if _is_old(counted):
            title += f"\n[yellow]{_age(counted)}[/]"
        is_wrong = sum(count for name, _, count in counted.told() if name in TROUBLES)
        without = is_wrong + counted.nothing_chosen
        table.add_row(
            title,
            str(counted.tasks),
            str(counted.prelabelled),
            str(counted.waiting),
            f"[red]{without}[/]" if is_wrong else str(without),
            str(counted.not_queued),
            str(counted.annotated),
        )
    out.print(table)


def _show_one(found: Overview) -> None:
    counted = found.figures
    if found.problem:
        err.print(f"[yellow]{plain(found.problem)}[/]", soft_wrap=True)
    if counted is None:
        raise typer.Exit(EXIT_FAILED)
    out.print(f"[bold]{counted.project} {plain(counted.title)}[/]")
    if _is_old(counted):
        out.print(f"[yellow]{_age(counted)}[/]")
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right")
    table.add_column(overflow="fold")
    for count, words in (
        (counted.tasks, "tasks"),
        *((count, f"{words}{_MEANS.get(name, '')}") for name, words, count in counted.told()),
        (counted.annotated, "annotated by people"),
        (counted.outdated, "predictions of earlier versions still there"),
    ):
        table.add_row(str(count), words)
    out.print(table)
    if counted.reasons:
        table = Table("tasks", "", "reason", show_edge=False, title="why there is no prediction", title_justify="left")
        table.columns[2].overflow = "fold"
        for reason in counted.reasons[:_REASONS]:
            table.add_row(str(reason.tasks), reason.why.replace("_", " "), plain(reason.text))
        out.print(table)


def _is_old(counted: ProjectFigures) -> bool:
    return time.time() - counted.counted_at > _OLD_S


def _age(counted: ProjectFigures) -> str:
    return f"as of {duration(time.time() - counted.counted_at)} ago"
