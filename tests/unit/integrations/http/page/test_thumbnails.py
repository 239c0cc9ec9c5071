"""Small pictures on the adapter's page: what they may take from those who wait for a prediction."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import httpx
import pytest
from fastapi import FastAPI

from prelabel.integrations import Client
from prelabel.integrations.http.app import create_app
from prelabel.integrations.http.page import thumbnails
from prelabel.integrations.http.page.thumbnails import Thumbnail
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas import ImageRef, ItemError, Settings, TransientError
from prelabel.schemas.settings import load_settings
from tests.conftest import eventually
from tests.label_studio import LEGACY, LabelStudio, running

XML = '<View><Image name="img" value="$image"/><Choices name="cls" toName="img"><Choice value="Cat"/></Choices></View>'
MODEL = "siglip@12345678"
MORE_THAN_THE_POOL = 60
"""Requests; the pool that other routes wait in has 40 threads."""
FAILSAFE_S = 15

_T = TypeVar("_T")


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    with running() as state:
        state.add_project(1, XML, tasks=range(1, MORE_THAN_THE_POOL + 1))
        yield state


@pytest.fixture
def make(settings: Settings, client: Client, label_studio: LabelStudio) -> Callable[[Thumbnail], FastAPI]:
    """The adapter of project 1, with something that makes pictures."""
    Projects(client).add(1)
    values = {"label_studio_url": label_studio.url, "label_studio_api_key": LEGACY, "redis_url": settings.redis_url}
    return lambda thumbnail: create_app(load_settings(**values), client, model=MODEL, thumbnail=thumbnail)


def asked(app: FastAPI, work: Callable[[httpx.AsyncClient], Awaitable[_T]]) -> _T:
    """What comes of requests that are sent in one event loop: one that is sent first is taken up first."""

    async def main() -> _T:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://prelabel.test") as http,
        ):
            return await work(http)

    return asyncio.run(main())


class Hanging:
    """Makes no picture until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.entered = 0
        self._lock = threading.Lock()

    def __call__(self, _: ImageRef) -> bytes:
        with self._lock:
            self.entered += 1
        self.go.wait(FAILSAFE_S * 2)
        return b"jpeg"


def picture(task: int) -> str:
    return f"/projects/1/tasks/{task}/thumbnail"


def test_pictures_that_hang_leave_other_routes_their_threads(make: Callable[[Thumbnail], FastAPI]) -> None:
    maker = Hanging()

    async def work(http: httpx.AsyncClient) -> tuple[httpx.Response, list[httpx.Response]]:
        tasks = range(1, MORE_THAN_THE_POOL + 1)
        pictures = [asyncio.create_task(http.get(picture(task))) for task in tasks]
        try:
            await asyncio.to_thread(eventually, lambda: maker.entered >= thumbnails.AT_ONCE)
            body = {"tasks": [{"id": 1, "data": {}}], "label_config": XML, "project": "1.1"}
            predicted = await asyncio.wait_for(http.post("/predict", json=body), FAILSAFE_S)
        finally:
            maker.go.set()
            answers = await asyncio.gather(*pictures)
        return predicted, answers

    predicted, answers = asked(make(maker), work)
    assert predicted.status_code == 200, predicted.text
    assert {answer.status_code for answer in answers} == {200}, "a picture waits for its turn"
    assert maker.entered == MORE_THAN_THE_POOL


def test_a_picture_whose_turn_does_not_come_is_told_to_come_again(
    make: Callable[[Thumbnail], FastAPI], monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = Hanging()

    async def work(http: httpx.AsyncClient) -> tuple[httpx.Response, list[httpx.Response]]:
        at_work = [asyncio.create_task(http.get(picture(task))) for task in range(1, thumbnails.AT_ONCE + 1)]
        await asyncio.to_thread(eventually, lambda: maker.entered == thumbnails.AT_ONCE)
        monkeypatch.setattr(thumbnails, "PATIENCE_S", 0.05)
        try:
            refused = await http.get(picture(thumbnails.AT_ONCE + 1))
        finally:
            maker.go.set()
            answers = await asyncio.gather(*at_work)
        return refused, answers

    refused, answers = asked(make(maker), work)
    assert (refused.status_code, refused.headers.get("retry-after")) == (503, "5"), refused.text
    assert "too many pictures" in refused.json()["detail"]
    assert {answer.status_code for answer in answers} == {200}, "those at work are not disturbed"


def test_a_picture_that_cannot_be_made_is_not_asked_for_again_by_every_look_at_the_page(
    make: Callable[[Thumbnail], FastAPI],
) -> None:
    def maker(image: ImageRef) -> bytes:
        raise ItemError(f"{image.display}: no image") if image.uri.endswith("/1.jpg") else TransientError("away")

    async def work(http: httpx.AsyncClient) -> tuple[httpx.Response, ...]:
        return await http.get(picture(1)), await http.get(picture(2))

    broken, away = asked(make(maker), work)
    assert (broken.status_code, broken.headers.get("cache-control")) == (404, "private, max-age=60"), broken.text
    assert (away.status_code, away.headers.get("cache-control")) == (503, None), "it may be there a moment later"
