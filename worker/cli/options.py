"""Options several commands take: what to answer with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ...integrations.label_studio.label_config import LabelConfig
from ...schemas.errors import ConfigError
from ...schemas.taxonomy import Taxonomy

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
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {file}: {error}") from None
    if file.suffix == ".xml":
        if options != {"choice": "single"}:
            raise ConfigError(
                f"{file} is a label config and says itself what --multiple, --threshold and --template say"
            )
        return LabelConfig.parse(text).taxonomy()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{file} is not JSON: {error}") from None
    if isinstance(content, list):
        return Taxonomy.flat(content, **options)
    if isinstance(content, dict):
        return Taxonomy.tree(content, **options)
    raise ConfigError(f"{file}: expected a list of labels or a tree, got {type(content).__name__}")
