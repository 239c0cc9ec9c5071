"""Options several commands take: what to answer with."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from ...integrations.label_studio.label_config import LabelConfig
from ...schemas.errors import ConfigError
from ...schemas.taxonomy import MAX_LEVELS, Taxonomy
from ...schemas.wire import brief

Labels = Annotated[str | None, typer.Option(help="Labels, comma-separated: cat,dog", show_default=False)]
TaxonomyFile = Annotated[
    Path | None,
    typer.Option(
        "--taxonomy",
        help='JSON file: a list of labels, or a tree {"animal": ["cat", "dog"]}, or a Label Studio label config (.xml)',
        show_default=False,
    ),
]
Multiple = Annotated[bool, typer.Option("--multiple", help="Several labels may be right (default: exactly one)")]
Threshold = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Probability from which a label is answered", show_default=False),
]
Template = Annotated[
    str | None, typer.Option(help='Prompt for a label, default "This is a photo of {label}."', show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts")]


def build_taxonomy(
    labels: str | None, file: Path | None, multiple: bool, threshold: float | None, template: str | None
) -> Taxonomy:
    """The taxonomy the options describe.

    Raises:
        ConfigError: neither or both of labels and file, an unreadable file, a bad taxonomy.
    """
    if (labels is None) == (file is None):
        raise ConfigError("say what to answer with: either --labels cat,dog or --taxonomy FILE")
    options: dict[str, Any] = {"choice": "multiple" if multiple else "single"}
    if threshold is not None:
        options["threshold"] = threshold
    if template is not None:
        options["template"] = template
    if file is None:
        return Taxonomy.flat([label.strip() for label in (labels or "").split(",") if label.strip()], **options)
    text = _text_of(file)
    if file.suffix == ".xml":
        if options != {"choice": "single"}:
            raise ConfigError(
                f"{file} is a label config and says itself what --multiple, --threshold and --template say"
            )
        return LabelConfig.parse(text).taxonomy()
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{file}: a taxonomy of more than {MAX_LEVELS} levels cannot be used") from None
    if isinstance(content, list):
        return Taxonomy.flat(content, **options)
    if isinstance(content, dict):
        return Taxonomy.tree(content, **options)
    raise ConfigError(f"{file}: expected a list of labels or a tree, got {type(content).__name__}")


def _text_of(file: Path) -> str:
    """A file's text, in the encoding that its byte order mark or its XML declaration names, else UTF-8.

    Raises:
        ConfigError: it cannot be read, or is not in that encoding.
    """
    try:
        data = file.read_bytes()
        encoding: str = json.detect_encoding(data)  # UTF-16 and UTF-32 with a mark or without one; else UTF-8
        if (declared := _DECLARED.match(data)) and not _WIDE.match(declared[1]):
            encoding = declared[1].decode()
        return data.decode(encoding)
    except LookupError as error:
        raise ConfigError(f"cannot read {file}: {error}; save it as UTF-8") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from None


_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
"""The declaration of an XML file whose encoding has ASCII for its first letters, and no byte order mark."""

_WIDE = re.compile(rb"(?i)(utf|ucs|iso-10646-ucs)-?(16|32|2|4)")
"""Declared by a file whose letters are of one byte: a program wrote a text as it was into a file of UTF-8."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; of a name that stands there twice, Python would keep the last one and drop the labels of the rest.

    Raises:
        ConfigError: a name stands twice.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        repeated = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ConfigError(f"{brief(repeated)} stands twice in one object: put what is below it together")
    return content
