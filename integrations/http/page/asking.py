"""What the pages share that ask workers something and wait for it: of whom, how many at once, what becomes of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, HTTPException, Response

from ....schemas import ConfigError, ItemError, PrelabelError, TransientError

if TYPE_CHECKING:
    from ...label_studio.projects.register import Projects

TIMEOUT_S: Final = 45.0
"""Seconds a page waits: proxies often give up after a minute."""

_OTHER_METHODS: Final = ["DELETE", "HEAD", "OPTIONS", "PATCH", "PUT", "TRACE"]


def require_connected(connected: Projects, number: int) -> None:
    """Go on only with a project that is served.

    Raises:
        HTTPException: 404, it is not.
    """
    if not connected.serves(number):
        raise HTTPException(404, f"project {number} is not connected: prelabel connect --project {number}")


def status_of(problem: PrelabelError | None) -> int:
    """The HTTP status of a page that tells a problem: 409 for something to mend, 503 for trouble outside."""
    if problem is None:
        return 200
    return 409 if isinstance(problem, ConfigError | ItemError) else 503


def refuse_other_methods(router: APIRouter, path: str) -> None:
    """Answer 405 for all but GET and POST, and name both: the router would name the first route's method alone."""

    @router.api_route(path, methods=_OTHER_METHODS, include_in_schema=False)
    def neither() -> Response:
        raise HTTPException(405, "Method Not Allowed", {"Allow": "GET, POST"})


class Turns:
    """Lets so many ask at a time: each keeps a thread of the adapter waiting.

    Args:
        at_once: how many.
        busy: what others are told, in words.
    """

    def __init__(self, at_once: int, busy: str) -> None:
        self._free = threading.BoundedSemaphore(at_once)
        self._busy = busy

    @contextmanager
    def take(self) -> Iterator[None]:
        """A turn, for the block.

        Raises:
            TransientError: there is none.
        """
        if not self._free.acquire(blocking=False):
            raise TransientError(self._busy)
        try:
            yield
        finally:
            self._free.release()
