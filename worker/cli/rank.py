"""`prelabel rank`: which of many texts fits a picture best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...integrations.client.client import Client
from ...schemas.errors import ConfigError
from ...schemas.search import MOST_RANKED
from . import options
from .console import folding_table, out, plain, print_json, user_errors
from .here import settings_here

_Image = Annotated[str, typer.Argument(help="The picture: a file, or a URL")]
_Texts = Annotated[list[str] | None, typer.Argument(metavar="TEXT", help="What it may show", show_default=False)]
_File = Annotated[
    Path | None,
    typer.Option("--texts", metavar="FILE", help="A file of them, one a line, UTF-8", show_default=False),
]
_Count = Annotated[int, typer.Option("-k", "--count", min=1, help="Texts printed, the best first")]


def rank(
    image: _Image,
    texts: _Texts = None,
    file: _File = None,
    count: _Count = 10,
    template: options.Template = None,
    as_json: options.AsJson = False,
) -> None:
    """Rank texts for a picture: thousands of captions or labels in one pass, by a worker that is running.

    prelabel rank photo.jpg "a cat" "a dog" "an empty sofa"

    prelabel rank photo.jpg --texts captions.txt --template "{label}"
    """
    with user_errors():
        asked = [*(texts or ()), *(_lines(file) if file else ())]
        if not asked:
            raise ConfigError("which texts? Give some, or a file of them with --texts")
        if len(asked) > MOST_RANKED:
            raise ConfigError(f"{len(asked):,} texts are more than are ranked at once ({MOST_RANKED:,})")
        with Client(settings_here()) as client:
            ranked = client.rank(image, asked, template=template)[:count]
    if as_json:
        print_json([one.model_dump(mode="json") for one in ranked])
        return
    by_pair = any(one.probability is not None for one in ranked)
    table = folding_table("text", "cosine", "logit", *(["probability"] if by_pair else []))
    for one in ranked:
        probability = [f"{one.probability:.2g}" if one.probability is not None else ""] if by_pair else []
        table.add_row(plain(one.text), f"{one.cosine:.3f}", f"{one.logit:.2f}", *probability)
    out.print(table)


def _lines(file: Path) -> list[str]:
    """The lines of a file that are not empty.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise ConfigError(f"{file} is no text in UTF-8") from None
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
