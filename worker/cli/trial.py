"""`prelabel try`: another wording on a project's own tasks, before it replaces anything."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...schemas.errors import ConfigError
from ...schemas.settings import Settings
from . import options
from .console import EXIT_USER, err, fail, interruptible, needs, out, plain, print_json, user_errors
from .label_studio import Project, Url, label_studio_settings

if TYPE_CHECKING:
    from ...integrations.client.client import Client
    from ...integrations.label_studio.trials.result import Trial

_STDIN = "-"


def try_(
    project: Project,
    config: Annotated[str, typer.Option(help="File with the new label config (XML); - reads standard input")],
    tasks: Annotated[int, typer.Option("--tasks", "-n", min=1, help="Tasks in the sample")] = 50,
    save: Annotated[
        bool, typer.Option("--save", help="Save the new label config in Label Studio afterwards; asks first")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before saving")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also show the answers that stay as they are")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds it may take in all")] = 60,
    url: Url = None,
    as_json: options.AsJson = False,
) -> None:
    """Try a label config on a project's own tasks: what would change, side by side. Nothing is pushed.

    A sample from all over the project is scored under its present label config and under the new one, in the same run:
    "present" is what the workers answer now, not what Label Studio happens to hold. Tasks that were scored before come
    first, from their stored vectors; images of others are read. Needs LABEL_STUDIO_API_KEY, the workers' Redis and a
    running worker.

        prelabel try --project 7 --config new.xml

        prelabel try --project 7 --config new.xml --save
    """
    with user_errors(), interruptible():
        if save and not yes and (config == _STDIN or as_json):
            raise ConfigError("--save asks before it saves, and here nobody can answer: add --yes")
        settings = label_studio_settings(url)
        label_config = _read(config)
        with needs("label-studio"):
            from ...integrations.label_studio.trials.report import as_json as json_of
            from ...integrations.label_studio.trials.run import try_label_config
        from ...integrations.client.checkpoint import settings_model_id
        from ...integrations.client.client import Client

        with Client(settings) as client:
            with err.status("trying the label config") as status:
                trial = try_label_config(
                    settings,
                    client,
                    project=project,
                    label_config=label_config,
                    model=settings_model_id(settings),
                    size=tasks,
                    timeout_s=timeout,
                    tell=lambda text: status.update(plain(text)),
                )
            if as_json:
                print_json(json_of(trial))
            else:
                from .trial_tables import show

                show(trial, everything=everything)
            if save:
                _save(settings, client, trial, yes=yes)
            elif not as_json:
                out.print("[dim]nothing was pushed or saved; --save saves the new label config[/]")


def _read(config: str) -> str:
    """The label config in a file or on standard input, in the encoding its byte order mark names, else UTF-8.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if config == _STDIN else Path(config).read_bytes()
        text = data.decode(json.detect_encoding(data))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {config}: {error}") from None
    if not text.strip():
        raise ConfigError(f"{'standard input' if config == _STDIN else config} is empty: a label config is XML")
    return text


def _save(settings: Settings, client: Client, trial: Trial, *, yes: bool) -> None:
    from ...integrations.label_studio.projects.register import Projects
    from ...integrations.label_studio.trials.save import digest_of, save_label_config

    if trial.refusal:
        raise ConfigError(f"nothing is saved, Label Studio does not take the label config: {trial.refusal}")
    question = f"Save it as the label config of project {trial.project} in Label Studio?"
    try:
        if not yes and not typer.confirm(question, err=True):
            err.print("nothing is saved")
            return
    except typer.Abort:  # the end of standard input, or Ctrl-C
        fail("nothing is saved: nobody answered; --yes saves without asking", EXIT_USER)
    save_label_config(settings, trial.project, trial.new_config, instead_of=digest_of(trial.old_config))
    follows = (
        "no prediction changes by it"
        if trial.same
        else "the adapter scores the project's tasks again"
        if Projects(client).serves(trial.project)
        else f"tasks are scored again once it is connected: prelabel connect --project {trial.project} --all"
    )
    err.print(f"saved in Label Studio; {follows}", soft_wrap=True)
