"""Options several commands take: what to answer with."""

from __future__ import annotations

import json
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
    try:
        data = file.read_bytes()
        text = data.decode(json.detect_encoding(data))  # by its byte order mark, too
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from None
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
