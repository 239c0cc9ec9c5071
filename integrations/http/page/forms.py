"""What every form of the page shares: who may send it, and what goes wrong as an HTTP answer.

A page of another site must not send one (cross-site request forgery): each form carries a token that must equal the one
in a `SameSite=Strict` cookie (double submit, as the OWASP cheat sheet has it), and a browser that says where a request
comes from (`Sec-Fetch-Site`, `Origin`) must say that it is this page.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, TypeVar
from urllib.parse import urlsplit

from fastapi import HTTPException, Request, Response

from ....schemas.errors import ConfigError, PrelabelError

COOKIE: Final = "prelabel_csrf"

_TOKEN_BYTES = 24

_R = TypeVar("_R", bound=Response)


def token_for(request: Request) -> str:
    """The token that a browser's forms carry: the one it has, else a new one."""
    token = request.cookies.get(COOKIE, "")
    return token if len(token) >= _TOKEN_BYTES else secrets.token_urlsafe(_TOKEN_BYTES)


def hand_out(token: str, request: Request, response: _R) -> _R:
    """The response, with the cookie that the token in its forms must equal."""
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=request.url.scheme == "https", path="/")
    return response


def refuse_forgery(request: Request, given: str) -> None:
    """Let a form pass that came from our own page.

    Args:
        request: what came.
        given: the token in the form.

    Raises:
        HTTPException: 403, it did not.
    """
    cookie = request.cookies.get(COOKIE, "")
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        here = site == "same-origin"
    else:  # an older browser; behind a proxy it needs the Host header to be passed on
        here = origin is None or urlsplit(origin).netloc == request.headers.get("host", "")
    if not (here and cookie and secrets.compare_digest(cookie.encode(), given.encode())):
        raise HTTPException(403, "the form is not from this page, or the page is too old: load it again")


@contextmanager
def as_http() -> Iterator[None]:
    """Our errors inside as HTTP answers: 409 for something to fix, 503 for trouble outside."""
    try:
        yield
    except ConfigError as error:
        raise HTTPException(409, str(error)) from None
    except PrelabelError as error:
        raise HTTPException(503, str(error)) from None
