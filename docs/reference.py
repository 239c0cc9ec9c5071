"""An mkdocs hook: the tables of the reference pages come from the code at build time, so they cannot be out of date.

A page says where: `<!-- reference: settings -->`, `<!-- reference: commands -->` and `<!-- reference: models -->` on
lines of their own.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click
from typer.main import get_command

from prelabel.schemas.known_models import KNOWN_MODELS
from prelabel.schemas.settings import DEFAULT_REVISION, Settings
from prelabel.worker.cli import app

# Names that are not there are passed over; settings that no group names come last.
_GROUPS = {
    "Redis and jobs": ("redis_url", "broker_wait_s", "job_ttl_s", "lease_s", "item_retries", "grace_s"),
    "Model": ("model", "revision", "format", "device", "dtype", "batch_size", "compile", "preprocessing", "text_cache"),
    "Worker threads and queues": (
        *("bulk_chunks", "interactive_chunks", "fetch_threads", "decode_threads", "decode_bytes", "cpu_threads"),
        "claim_gpu",
    ),
    "Stored vectors": ("vector_store", "vector_store_dir", "vector_store_bytes"),
    "Images: what may be fetched": (
        *("image_roots", "allow_hosts", "s3_direct", "max_image_bytes", "max_image_pixels"),
        *("fetch_timeout_s", "fetch_attempts", "max_redirects"),
    ),
    "Label Studio": (
        *("label_studio_url", "label_studio_api_key", "webhook_secret", "reconcile_s", "old_predictions"),
    ),
    "Adapter": (
        *("host", "port", "basic_auth_user", "basic_auth_pass"),
        *("predict_wait_s", "predict_wait_tasks", "max_body_bytes"),
    ),
    "Logs and metrics": ("log_level", "log_format", "metrics_port", "trace"),
}
_REST = "Everything else"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the tables in; called by mkdocs for every page."""
    tables = {"settings": settings_reference, "commands": commands_reference, "models": models_reference}
    for name, make in tables.items():
        marker = f"<!-- reference: {name} -->"
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    # ```json task: a word for people (and for the tests) behind the language.
    return re.sub(r"^( *```\w+) (\w+)$", r'\1 title="\2"', markdown, flags=re.MULTILINE)


def models_reference() -> str:
    """The published checkpoints in one table, and where their figures are from."""
    sources = list(dict.fromkeys(model.source for model in KNOWN_MODELS))
    lines = [
        "| `PRELABEL_MODEL` | family | params M | GFLOP | ImageNet | EuroSAT | T→I | I→T "
        "| languages | licence | source |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|---|--:|",
    ]
    for one in KNOWN_MODELS:
        figures = (one.parameters, one.gflop, one.imagenet, one.eurosat, one.images_of_text, one.texts_of_image)
        shown = " | ".join("" if figure is None else f"{figure:g}" for figure in figures)
        where = sources.index(one.source) + 1
        lines.append(f"| `{one.name}` | {one.family} | {shown} | {one.languages} | {one.licence} | {where} |")
    notes = [f"{number}. <{source}>" for number, source in enumerate(sources, 1)]
    return "\n".join([*lines, "", *notes])


def settings_reference() -> str:
    """Every setting in tables, by what it is about. Each variable is an anchor."""
    left = dict(Settings.model_fields)
    lines: list[str] = []
    for title, names in [*_GROUPS.items(), (_REST, tuple(left))]:
        fields = {name: left.pop(name) for name in names if name in left}
        if fields:
            lines += [f"## {title}", "", "| variable | default | takes | meaning |", "|---|---|---|---|"]
            lines += [_row(name, field) for name, field in fields.items()]
            lines.append("")
    return "\n".join(lines)


def variables(name: str, field: FieldInfo) -> list[str]:
    """The environment variables a setting is read from, the first one wins."""
    if isinstance(field.validation_alias, AliasChoices):
        return [str(choice) for choice in field.validation_alias.choices if str(choice).isupper()]
    return [f"PRELABEL_{name.upper()}"]


def _row(name: str, field: FieldInfo) -> str:
    first, *others = variables(name, field)
    shown = f"`{first}`" + "".join(f"<br>or `{other}`" for other in others)
    cells = [f'<span id="{name}"></span>{shown}', _default(name, field), ", ".join(_takes(field)), field.description]
    return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"


def _default(name: str, field: FieldInfo) -> str:
    value = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if name == "state_dir":  # made from whose machine this is
        return "`~/.local/state/prelabel`, or below `XDG_STATE_HOME`"
    if name == "revision":
        return f"the default model's is pinned: `{DEFAULT_REVISION[:8]}…`"
    if value is None or value == ():
        return "unset"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int) and value >= 2**20 and value % 2**20 == 0:
        return f"`{value}` ({value // 2**20} MiB)" if value < 2**30 else f"`{value}` ({value // 2**30} GiB)"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _takes(field: FieldInfo) -> Iterator[str]:
    kinds = [kind for kind in _members(field.annotation) if kind is not type(None)]
    for kind in kinds:
        if typing.get_origin(kind) is typing.Literal:
            yield " or ".join(f"`{choice}`" for choice in typing.get_args(kind))
        elif typing.get_origin(kind) is tuple:
            yield "a list"
        elif isinstance(kind, type):
            yield _WORDS.get(kind, "a number")
    low = high = ""
    for bound in field.metadata:
        if (least := getattr(bound, "ge", None)) is not None:
            low = f"from {least:g}" if least < 2**20 else f"from {least}"
        elif (above := getattr(bound, "gt", None)) is not None:
            low = f"above {above:g}"
        if (most := getattr(bound, "le", None)) is not None:
            high = f"to {most}"
    if low or high:
        yield " ".join(part for part in (low, high) if part)


_WORDS = {str: "text", SecretStr: "text, secret", Path: "a path", bool: "`true` or `false`", int: "a whole number"}


def _members(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [member for part in typing.get_args(annotation) for member in _members(part)]
    return [annotation]


def commands_reference() -> str:
    """Every command with its help, arguments and options, as `--help` has them."""
    command = get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="prelabel")
    _, _, commands = text.partition("\n## ")
    # The pages' own title stands above; lines that call prelabel are code, not prose with asterisks in it.
    return re.sub(r"^(prelabel \w+ .*|.* \| prelabel .*)$", r"    \1", f"## {commands}", flags=re.MULTILINE)
