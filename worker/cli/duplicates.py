"""`prelabel duplicates`: images of a project or a job that are nearly the same, with a sheet to look at."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing, suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...integrations.client.client import Client
from ...schemas.errors import ConfigError, PrelabelError
from ...schemas.search import NEAR_DUPLICATES, Duplicates
from ...schemas.settings import Settings
from . import options
from .console import bar, err, folding_table, needs, out, plain, print_json, user_errors
from .here import settings_here
from .search import Where, place_of

if TYPE_CHECKING:
    from ...schemas.search import Hit

_SHOWN = 12
"""Images of a group on the sheet."""

_Threshold = Annotated[float, typer.Option(help="Cosine from which two images are near duplicates, 0..1")]
_Count = Annotated[int, typer.Option("-k", "--count", min=1, max=1000, help="Groups told, the largest ones")]
_Sheet = Annotated[
    Path | None,
    typer.Option("-o", "--sheet", metavar="FILE.html", help="Write the groups as pictures here", show_default=False),
]


def duplicates(
    where: Where,
    threshold: _Threshold = NEAR_DUPLICATES,
    count: _Count = 100,
    sheet: _Sheet = None,
    as_json: options.AsJson = False,
) -> None:
    """Find images that are nearly the same, by their stored vectors: no image is read for that.

        prelabel duplicates 7

        prelabel duplicates 7 --threshold 0.99 -o sheet.html

    Each image is held against each other one, which for 100,000 of them takes a core some minutes. The sheet reads the
    images it shows.
    """
    with user_errors():
        if sheet is not None and not sheet.parent.is_dir():
            raise ConfigError(f"{sheet.parent} is no folder: the sheet cannot be written there")
        settings = settings_here()
        with Client(settings) as client, bar() as progress:
            task = progress.add_task("comparing", total=None, detail="")
            found = client.duplicates(
                place_of(where),
                threshold=threshold,
                count=count,
                on_progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
        if sheet is not None:
            _write(sheet, found, settings)
    if as_json:
        print_json(_as_json(found))
        return
    _print(found)
    if sheet is not None:
        out.print(f"the groups as pictures: {plain(str(sheet))}", soft_wrap=True)


def _print(found: Duplicates) -> None:
    if found.groups:
        table = folding_table("images", "like task", "others", "cosine from")
        for group in found.groups:
            first, *others = group.hits
            told = ", ".join(str(hit.task) for hit in others[:8]) + (", …" if group.size > 9 else "")
            table.add_row(str(group.size), str(first.task), told, f"{min(hit.cosine for hit in others):.3f}")
        out.print(table)
    out.print(
        f"{found.total_groups:,} groups of near duplicates, {found.total_images:,} images in them: "
        f"{found.total_images - found.total_groups:,} of {found.searched:,} images are like another one",
        soft_wrap=True,
    )
    if found.missing:
        err.print(f"[yellow]{found.missing:,} images have no stored vector and were not compared[/]", soft_wrap=True)


def _as_json(found: Duplicates) -> dict[str, Any]:
    return {
        **found.model_dump(mode="json", exclude={"groups"}),
        "groups": [
            {
                "size": group.size,
                "images": [
                    {"task": hit.task, "reference": hit.reference, "cosine": hit.cosine, "labeled": hit.labeled}
                    for hit in group.hits
                ],
            }
            for group in found.groups
        ],
    }


def _write(sheet: Path, found: Duplicates, settings: Settings) -> None:
    """Write the groups as one page that holds its pictures.

    Raises:
        ConfigError: it cannot be written, or what makes pictures is not installed.
    """
    with needs("worker"):
        import jinja2

        from ..delivering.thumbnails import ThumbnailMaker
    template = (files("prelabel.worker.cli") / "duplicates.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    total = sum(min(len(group.hits), _SHOWN) for group in found.groups)
    with closing(ThumbnailMaker(settings)) as make, bar() as progress:
        task = progress.add_task("pictures", total=total, detail="")

        def shown(hits: tuple[Hit, ...]) -> Iterator[dict[str, Any]]:
            for hit in hits[:_SHOWN]:
                picture = ""
                with suppress(PrelabelError):  # one that cannot be had now has its place all the same
                    picture = base64.b64encode(make(hit.image)).decode()
                progress.advance(task)
                yield {"hit": hit, "picture": picture}

        groups = [{"size": group.size, "shown": list(shown(group.hits))} for group in found.groups]
    html = environment.from_string(template).render(found=found, groups=groups)
    try:
        sheet.write_text(html, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{sheet} cannot be written: {error.strerror}") from None
