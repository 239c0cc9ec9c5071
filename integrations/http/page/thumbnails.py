"""Small pictures of tasks' images: `/projects/<number>/tasks/<task>/thumbnail`.

A request names a project that is connected, a task of it and one of the task's images by its place, never an address:
nobody can have the adapter fetch what no task of a connected project shows. Label Studio is asked for the task with the
adapter's key each time; the picture itself is made by what `prelabel serve` passes in, and may be kept there.

Few are made at once, and the others wait in the event loop: all other routes share one pool of threads, and whoever
waits for a prediction must find one there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Annotated, Final, TypeAlias

from anyio import CapacityLimiter, Semaphore, move_on_after, to_thread
from fastapi import APIRouter, HTTPException, Path, Query, Response

from ....schemas import ConfigError, ImageRef, ItemError, PrelabelError, Settings, TransientError
from ...label_studio.api import tasks
from ...label_studio.api.connection import LabelStudioAPI, NotThere
from ...label_studio.convert.items import images_of_task
from ...label_studio.label_config import LabelConfig
from ...ledger.catalogue import image_mark
from ...problems import problems

if TYPE_CHECKING:
    from ...label_studio.projects.register import Projects

Thumbnail: TypeAlias = Callable[[ImageRef], bytes]
"""Makes a small JPEG of an image. Raises `ItemError` where there can be none, `TransientError` where not now."""

AT_ONCE: Final = 4
"""Pictures made at a time, so that a page full of them does not keep the adapter from its work."""

PATIENCE_S: Final = 20.0
"""Seconds one waits for its turn."""

AGAIN_S: Final = 5.0
"""Seconds after which one whose turn has not come may be asked for again."""

CONFIG_S: Final = 30.0
"""Seconds a project's label config is remembered: a page asks for dozens of pictures at once."""

_LARGEST = 2**53 - 1

Number = Annotated[int, Path(ge=1, le=_LARGEST)]

_HEADERS = {
    "Cache-Control": "private, max-age=300",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

_NONE_HEADERS = {"Cache-Control": "private, max-age=60"}
"""Of the answer that there is no picture: the page is built anew every few seconds, and each time asks for it."""


class _Jpeg(Response):
    media_type = "image/jpeg"


class Thumbnails:
    """The route, and the connection it asks Label Studio on. Thread-safe; close it after use.

    Args:
        settings: LABEL_STUDIO_URL and its API key.
        connected: the projects that are served.
        thumbnail: makes the pictures; None makes none.

    Attributes:
        router: the route.
    """

    def __init__(self, settings: Settings, connected: Projects, thumbnail: Thumbnail | None) -> None:
        self._settings = settings
        self._connected = connected
        self._thumbnail = thumbnail
        self._turns = Semaphore(AT_ONCE)
        self._threads = CapacityLimiter(AT_ONCE)
        self._lock = threading.Lock()
        self._api: LabelStudioAPI | None = None
        self._configs: dict[int, tuple[float, LabelConfig]] = {}
        self.router = self._routes()

    def close(self) -> None:
        """Close the connection to Label Studio."""
        with self._lock:
            if self._api is not None:
                self._api.close()
                self._api = None

    def _routes(self) -> APIRouter:
        router = APIRouter()

        @router.get(
            "/projects/{number}/tasks/{task}/thumbnail",
            summary="A small JPEG of one of a task's images; of connected projects alone",
            response_class=Response,
            responses=problems(404, 409, 503) | {200: {"description": "The picture", "content": {"image/jpeg": {}}}},
        )
        async def thumbnail(
            number: Number,
            task: Number,
            image: Annotated[int, Query(ge=0, le=_LARGEST, description="which of the task's images, from 0")] = 0,
            of: Annotated[
                str, Query(pattern="^[0-9a-f]{0,16}$", description="which of them, by what a search gives for it")
            ] = "",
        ) -> Response:
            try:
                return _Jpeg(await self._in_turn(partial(self._made, number, task, image, of)), headers=_HEADERS)
            except (ItemError, NotThere) as error:
                raise HTTPException(404, str(error), _NONE_HEADERS) from None
            except ConfigError as error:
                raise HTTPException(409, str(error)) from None
            except PrelabelError as error:
                raise HTTPException(503, str(error), _again(error)) from None

        return router

    async def _in_turn(self, work: Callable[[], bytes]) -> bytes:
        """What `work` returns, run in one of the pictures' own threads; no thread waits for that.

        Raises:
            TransientError: its turn does not come.
        """
        with move_on_after(PATIENCE_S) as waiting:
            await self._turns.acquire()
        if waiting.cancelled_caught:
            raise TransientError("too many pictures are being made at once: load the page again", retry_after_s=AGAIN_S)
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._turns.release()

    def _made(self, number: int, task: int, image: int, mark: str) -> bytes:
        if self._thumbnail is None:
            raise ItemError("pictures are made where the adapter is installed with prelabel[pictures]")
        if not self._connected.serves(number):
            raise ItemError(f"project {number} is not connected")
        images = self._images(number, task)
        if mark:
            images = tuple(one for one in images if image_mark(one) == int(mark, 16))
        if image >= len(images):
            raise ItemError(f"task {task} of project {number} shows {len(images)} images that can be fetched")
        return self._thumbnail(images[image])

    def _images(self, number: int, task: int) -> tuple[ImageRef, ...]:
        api = self._connection()
        config = self._config(api, number)
        listed = tasks.page(api, number, [tasks.numbered([task])], size=1, fields="id,data").tasks
        if not listed or int(listed[0]["id"]) != task:
            raise ItemError(f"project {number} has no task {task}")
        url, s3_direct = self._settings.label_studio_url, self._settings.s3_direct
        return images_of_task(listed[0], config, url, s3_direct=s3_direct)

    def _config(self, api: LabelStudioAPI, number: int) -> LabelConfig:
        """The project's label config; only those of connected projects are kept, and there are not many."""
        until, config = self._configs.get(number, (0.0, None))
        if config is None or time.monotonic() > until:
            there = api.project(number)
            config = LabelConfig.parse(there.get("label_config") or "")
            self._configs[number] = (time.monotonic() + CONFIG_S, config)
        return config

    def _connection(self) -> LabelStudioAPI:
        with self._lock:
            if self._api is None:
                self._api = LabelStudioAPI(self._settings)
            return self._api


def _again(error: PrelabelError) -> dict[str, str] | None:
    """The header that says when to come again, where that is known."""
    after_s = error.retry_after_s if isinstance(error, TransientError) else None
    return None if after_s is None else {"Retry-After": str(ceil(after_s))}
