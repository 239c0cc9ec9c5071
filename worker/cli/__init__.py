"""The `prelabel` command. Each command imports what it needs when it runs: `prelabel jobs` needs no torch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ...schemas.package import package_version
from . import jobs, score, services
from .choosing import again, pause, resume
from .console import err
from .demo import demo
from .doctor import doctor
from .duplicates import duplicates
from .index import index
from .label_studio import connect, disconnect
from .models import models
from .projects import projects
from .rank import rank
from .search import search
from .streams import standard_streams
from .trial import try_

app = typer.Typer(
    name="prelabel",
    help="Pre-label images for labeling teams: Redis queue, GPU workers, SigLIP zero-shot, Label Studio.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"prelabel {package_version()}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[  # its callback has done it
        bool, typer.Option("--version", help="Show the version and exit", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of prelabel itself."""


app.command(rich_help_panel="Try it")(score.score)
app.command(rich_help_panel="Try it")(demo)
app.command(rich_help_panel="Run it")(services.up)
app.command(rich_help_panel="Run it")(services.worker)
app.command(rich_help_panel="Run it")(services.serve)
app.command(rich_help_panel="Run it")(models)
app.command(rich_help_panel="Run it")(doctor)
app.command(rich_help_panel="Label Studio")(connect)
app.command(rich_help_panel="Label Studio")(disconnect)
app.command(rich_help_panel="Label Studio")(projects)
app.command("try", rich_help_panel="Label Studio")(try_)
app.command(rich_help_panel="Label Studio")(again)
app.command(rich_help_panel="Label Studio")(pause)
app.command(rich_help_panel="Label Studio")(resume)
app.command(rich_help_panel="Find images")(search)
app.command(rich_help_panel="Find images")(rank)
app.command(rich_help_panel="Find images")(duplicates)
app.command(rich_help_panel="Find images")(index)
app.command(rich_help_panel="Jobs")(jobs.submit)
app.command("jobs", rich_help_panel="Jobs")(jobs.jobs)
app.command(rich_help_panel="Jobs")(jobs.status)
app.command(rich_help_panel="Jobs")(jobs.cancel)
app.command(rich_help_panel="Jobs")(jobs.retry)
app.command(rich_help_panel="Jobs")(jobs.results)
app.command(rich_help_panel="Jobs")(jobs.rescore)


def main() -> None:
    """Entry point of the `prelabel` script."""
    try:
        with standard_streams():
            app()
    except KeyboardInterrupt:
        err.print("interrupted")
        sys.exit(130)
