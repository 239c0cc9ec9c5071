"""What `prelabel search` does with hits in Label Studio: a tab, one label for all, and taking that back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from ...schemas.errors import ConfigError
from .console import err, needs, out, plain

if TYPE_CHECKING:
    from ...integrations.client.client import Client
    from ...integrations.label_studio.deliver.look_alikes import LookAlikes
    from ...integrations.label_studio.projects.search_tab import Tab
    from ...schemas.search import Hit
    from ...schemas.settings import Settings


def open_hits(settings: Settings, project: int, hits: Sequence[Hit], title: str, *, keep: bool) -> Tab:
    """Show hits as a tab of the project's Data Manager.

    Raises:
        PrelabelError: Label Studio is unavailable or refuses us, or there are no hits.
    """
    with needs("label-studio"):
        from ...integrations.label_studio.api.connection import LabelStudioAPI
        from ...integrations.label_studio.label_config import LabelConfig
        from ...integrations.label_studio.projects.search_tab import open_tab

    with closing(LabelStudioAPI(settings)) as api, err.status("making the tab"):
        config = LabelConfig.parse(api.project(project).get("label_config") or "")
        return open_tab(api, project, config, [hit.task for hit in hits], f"search: {title}", keep=keep)


def label_hits(
    client: Client,
    project: int,
    like: Sequence[int],
    hits: Sequence[Hit],
    label: str,
    control: str | None,
    *,
    yes: bool,
) -> LookAlikes:
    """Propose one label for hits that look like a task.

    Raises:
        PrelabelError: Label Studio is unavailable or refuses us, or it cannot be done as asked.
    """
    with needs("label-studio"):
        from ...integrations.label_studio.deliver.look_alikes import label_look_alikes
        from ...integrations.label_studio.projects.register import Projects

    if len(like) != 1:
        raise ConfigError("--as labels what looks like one task: say which with --like TASK")
    cosines: dict[int, float] = {}
    for hit in hits:  # of a task's images the most alike
        cosines.setdefault(hit.task, min(1.0, max(0.0, hit.cosine)))
    with err.status("proposing the label"):
        claims = Projects(client).claims
        return label_look_alikes(client.settings, claims, project, like[0], cosines, label, control, yes=yes)


def undo(settings: Settings, project: int) -> None:
    """Take the last proposals of a label back, and say how many."""
    with needs("label-studio"):
        from ...integrations.label_studio.deliver.look_alikes import undo_look_alikes

    with err.status("taking proposals back"):
        removed = undo_look_alikes(settings, project)
    out.print(
        f"project {project}: {removed:,} proposals were taken back; annotations that were made of them stay"
        if removed
        else f"project {project} has no proposals of look-alikes"
    )


def tell_tab(tab: Tab) -> None:
    """Print where a tab is."""
    out.print(f"{tab.shown:,} tasks: {plain(tab.url)}", soft_wrap=True)
    out.print(f"label them one after the other: {plain(tab.label_stream_url)}", soft_wrap=True)
    if tab.note:
        err.print(f"[yellow]{plain(tab.note)}[/]", soft_wrap=True)


def tell_labelled(done: LookAlikes, project: int) -> None:
    """Print what became of a proposal."""
    out.print(f"{done.pushed:,} tasks have the proposal, as {plain(done.version)}", soft_wrap=True)
    for reason, count in done.left_out.items():
        out.print(f"[dim]{count:,} left out: {plain(reason)}[/]", soft_wrap=True)
    err.print(
        'In Label Studio, "Create annotations from predictions" makes annotations of that version; '
        f"prelabel search {project} --undo takes it back",
        soft_wrap=True,
    )
