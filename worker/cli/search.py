"""`prelabel search`: find images that were scored before, by words, by a picture, by likeness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ...integrations.client.client import Client
from ...integrations.client.search import DEFAULT_HITS, SearchResult
from ...schemas.errors import ConfigError
from . import finds, options
from .console import bar, err, folding_table, out, plain, print_json, user_errors
from .here import settings_here

if TYPE_CHECKING:
    from ...schemas.search import Hit

_PROJECT_DIGITS = 9

Where = Annotated[str, typer.Argument(metavar="PROJECT|JOB", help="Number of a Label Studio project, or a job's id")]
_Text = Annotated[
    list[str] | None,
    typer.Argument(metavar="TEXT", help="What the image shows; several are phrasings of the same", show_default=False),
]
_Image = Annotated[str | None, typer.Option(help="A picture it looks like: a file, or a URL", show_default=False)]
_Like = Annotated[
    list[int] | None,
    typer.Option(metavar="TASK", help="A task it looks like; more than once: their mean", show_default=False),
]
_Less = Annotated[
    list[str] | None, typer.Option(metavar="TEXT", help="What it does not look like, in words", show_default=False)
]
_Count = Annotated[int, typer.Option("-k", "--count", help="Hits at most")]
_Labeled = Annotated[
    bool | None,
    typer.Option("--labeled/--unlabeled", help="Only tasks with an annotation, or without one", show_default=False),
]
_Label = Annotated[
    str | None,
    typer.Option(help="Only what this label was predicted for; of a tree: 'animal > cat'", show_default=False),
]
_AtLeast = Annotated[
    float | None, typer.Option(min=0, max=1, help="Only predictions of this confidence or more", show_default=False)
]
_AtMost = Annotated[
    float | None, typer.Option(min=0, max=1, help="Only predictions of this confidence or less", show_default=False)
]
_Tab = Annotated[bool, typer.Option("--tab", help="Show the hits as a tab in Label Studio, and print its address")]
_Keep = Annotated[bool, typer.Option("--keep", help="With --tab: one that the next search does not take over")]
_As = Annotated[
    str | None,
    typer.Option(
        "--as",
        metavar="LABEL",
        help="With --like TASK: propose this label for the hits that nobody has annotated",
        show_default=False,
    ),
]
_Control = Annotated[str | None, typer.Option(help="With --as: the control it answers", show_default=False)]
_Yes = Annotated[bool, typer.Option("--yes", help="With --as: for more than 200 tasks, too")]
_Undo = Annotated[bool, typer.Option("--undo", help="Take the last proposals of --as back, and search nothing")]


def search(
    where: Where,
    text: _Text = None,
    image: _Image = None,
    like: _Like = None,
    less: _Less = None,
    count: _Count = DEFAULT_HITS,
    labeled: _Labeled = None,
    label: _Label = None,
    at_least: _AtLeast = None,
    at_most: _AtMost = None,
    template: options.Template = None,
    tab: _Tab = False,
    keep: _Keep = False,
    as_label: _As = None,
    control: _Control = None,
    yes: _Yes = False,
    undo: _Undo = False,
    as_json: options.AsJson = False,
) -> None:
    """Find images by their stored vectors: by words, by a picture, or by likeness to a task. No image is read again.

        prelabel search 7 "a red mug"

        prelabel search 7 "a mug" --less "a hand" --unlabeled

        prelabel search 7 --image mug.jpg -k 20

        prelabel search 7 "a mug" --tab

        prelabel search 7 --like 1234 -k 50 --as cup

    A worker does the searching. Its first search of a large project reads all of its vectors once, a million in some
    seconds; after that only what is new.
    """
    with user_errors():
        if count < 1:
            raise ConfigError(f"-k is the number of hits, 1 or more, not {count}")
        place = place_of(where)
        project = place if isinstance(place, int) else None
        if project is None and (tab or as_label or undo):
            raise ConfigError("--tab, --as and --undo are for projects of Label Studio: say which by its number")
        settings = settings_here()
        if undo and project is not None:
            finds.undo(settings, project)
            return
        with Client(settings) as client:
            found, hits = _found(
                client,
                place,
                text,
                image=image,
                like=like,
                less=less or (),
                k=count,
                labeled=False if as_label and labeled is None else labeled,
                label=None if label is None else [part.strip() for part in label.split(">")],
                at_least=at_least,
                at_most=at_most,
                template=template,
            )
            labelled = opened = None
            if as_label and project is not None:
                labelled = finds.label_hits(client, project, like or (), hits, as_label, control, yes=yes)
            if tab and project is not None:
                opened = finds.open_hits(settings, project, hits, _title(text, image, like), keep=keep)
    if as_json:
        told = _as_json(found, hits)
        print_json(
            told
            | ({"tab": opened._asdict()} if opened else {})
            | ({"labelled": labelled._asdict()} if labelled else {})
        )
        return
    if hits:
        out.print(_table(hits))
    else:
        err.print("nothing was found")
    tell(found, where)
    if labelled and project is not None:
        finds.tell_labelled(labelled, project)
    if opened:
        finds.tell_tab(opened)


def place_of(where: str) -> int | str:
    """A project's number, or a job's id."""
    return int(where) if where.isdecimal() and len(where) <= _PROJECT_DIGITS else where


def _title(text: list[str] | None, image: str | None, like: list[int] | None) -> str:
    """What was searched for, for people."""
    if text:
        return text[0]
    return f"like {', '.join(map(str, like))}" if like else f"like {Path(image or '').name}"


def _found(client: Client, where: str | int, text: list[str] | None, **asked: Any) -> tuple[SearchResult, list[Hit]]:
    """What a search finds, all of its pages, with a progress bar while vectors are read."""
    with bar() as progress:
        task = progress.add_task("reading vectors", total=None, detail="", visible=False)
        found = client.search(
            where,
            text,
            on_progress=lambda done, total: progress.update(task, completed=done, total=total, visible=True),
            **asked,
        )
        return found, list(found)


def tell(found: SearchResult, where: str) -> None:
    """Say on stderr how much was searched, and what was not."""
    err.print(f"[dim]{found.searched:,} images searched, {plain(found.model)}[/]", soft_wrap=True)
    if found.missing:
        share = 100 * found.missing / (found.searched + found.missing)
        err.print(
            f"[yellow]{found.missing:,} images ({share:.0f} %) have no stored vector and are not found[/]: "
            + (f"prelabel index {where} scores them once more" if where.isdecimal() else "submit them once more"),
            soft_wrap=True,
        )
    if found.others:
        err.print(
            f"[yellow]{found.others:,} images were scored by another model and are not found[/] in {plain(where)}",
            soft_wrap=True,
        )
    if found.note:
        err.print(f"[yellow]{plain(found.note)}[/]", soft_wrap=True)


def _table(hits: list[Hit]) -> Table:
    """Task, image, likeness, and what was predicted."""
    by_words = any(hit.probability is not None for hit in hits)
    table = folding_table("task", "image", "cosine", *(["probability"] if by_words else []), "predicted", "labeled")
    for hit in hits:
        predicted = "[dim]none[/]"
        if hit.label is not None:
            predicted = plain(" > ".join(hit.label)) + (f" {hit.confidence:.2f}" if hit.confidence is not None else "")
        table.add_row(
            str(hit.task),
            plain(hit.reference),
            f"{hit.cosine:.3f}",
            *([f"{hit.probability:.2g}" if hit.probability is not None else ""] if by_words else []),
            predicted,
            {True: "yes", False: "no", None: ""}[hit.labeled],
        )
    return table


def _as_json(found: SearchResult, hits: list[Hit]) -> dict[str, object]:
    return {
        "model": found.model,
        "searched": found.searched,
        "missing": found.missing,
        "others": found.others,
        "note": found.note,
        "hits": [
            {
                **hit.model_dump(mode="json", exclude={"image"}),
                "reference": hit.reference,
                "region": hit.region.model_dump(mode="json", exclude_none=True) if hit.region else None,
            }
            for hit in hits
        ],
    }
