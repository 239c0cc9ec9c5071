"""Request bodies as Label Studio 1.23 sends them, read leniently: unknown fields are ignored, odd tasks survive.

Secrets that Label Studio sends along (`access_token`, a project's `task_data_password`) are never read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from functools import cache
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import from_json

READERS = 2
"""Bodies and label configs read at once, in threads of their own: whoever waits for a prediction has the others."""

_T = TypeVar("_T")

_BOM = b"\xef\xbb\xbf"


class _Request(Request):
    """A request whose JSON is read beside the event loop, by a parser that is quick with hostile input, too."""

    async def json(self) -> Any:
        """The body's value.

        Raises:
            json.JSONDecodeError: it is not JSON, or nested too deeply.
        """
        if not hasattr(self, "_parsed"):
            body = (await self.body()).removeprefix(_BOM)
            self._parsed: Any = await to_thread.run_sync(_parse, body, limiter=_limiter())
        return self._parsed


def _parse(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


class BodyRoute(APIRoute):
    """A route whose body does not hold the event loop (https://fastapi.tiangolo.com/how-to/custom-request-and-route/)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, over our kind of request."""
        handle = super().get_route_handler()

        async def handle_ours(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handle_ours


async def beside_the_loop(work: Callable[[], _T]) -> _T:
    """What `work` returns, run in one of the readers' threads."""
    return await to_thread.run_sync(work, limiter=_limiter())


@cache
def _limiter() -> CapacityLimiter:
    return CapacityLimiter(READERS)


class _Body(BaseModel):
    # As strict as the OpenAPI document: a project that is `true` is no project.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class SetupBody(_Body):
    """`POST /setup`, before every prediction; a new project's config is `<View></View>`."""

    project: str | int | None = None
    label_config: str = Field("", alias="schema")


class PredictBody(_Body):
    """`POST /predict`: all tasks without our version at once, several hundred in one request."""

    tasks: list[Any]
    project: str | int | None = None
    label_config: str = ""


class WebhookProject(_Body):
    """The one of a webhook project's 45 fields that is used."""

    id: int | None = None


class WebhookBody(_Body):
    """`POST /webhook`: an event; its tasks (at most 5,000 in `TASKS_CREATED`) are not read."""

    action: str = ""
    project: WebhookProject = WebhookProject()
