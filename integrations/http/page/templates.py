"""The page's templates and files, and the headers that every document of it is sent with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

import jinja2

from .words import ago, duration, percent

HEADERS: Final[Mapping[str, str]] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


@cache
def environment() -> jinja2.Environment:
    """Makes documents of the templates beside this module; everything that is put in is escaped."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(text_of),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(duration=duration, ago=ago, percent=percent)
    return made


def text_of(name: str) -> str:
    """A template or a file of the page."""
    return (files("prelabel.integrations.http.page") / name).read_text(encoding="utf-8")
