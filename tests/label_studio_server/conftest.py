"""A real Label Studio, and a real backend before it: Redis-compatible server, adapter and worker processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.schemas import Settings
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.label_studio.server import LabelStudioServer, label_studio_server
from prelabel.worker.demo.story import CHECKPOINT, Picture, draw_pictures
from prelabel.worker.running.stack import Stack, local_stack
from tests.label_studio_server.images import CountingWeb
from tests.label_studio_server.site import LabelStudio

FIRST_INSTALL_S = 1200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(FIRST_INSTALL_S))  # whichever is first may install Label Studio


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudioServer]:
    """Label Studio 1.23 from PyPI on loopback, with an empty database and one user."""
    with label_studio_server(tmp_path_factory.mktemp("label-studio")) as running:
        yield running


@pytest.fixture(scope="session")
def label_studio(server: LabelStudioServer) -> Iterator[LabelStudio]:
    """What a labeling lead does in that Label Studio: make projects, import tasks, look at predictions."""
    with LabelStudio(server) as made:
        yield made


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Picture]:
    """The demo's pictures: 140 single figures, 60 groups, with their truth."""
    return draw_pictures(tmp_path_factory.mktemp("pictures"), seed=11)


@pytest.fixture(scope="session")
def backend(server: LabelStudioServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker, a worker with the demo checkpoint, and the adapter, all pointed at that Label Studio."""
    settings = load_settings(
        model=str(CHECKPOINT),
        label_studio_url=server.url,
        label_studio_api_key=server.token,
        basic_auth_user="label-studio",
        basic_auth_pass="between us",
        port=0,
        reconcile_s=2,
        allow_hosts=("127.0.0.1",),
        fetch_timeout_s=10,
        item_retries=0,
        vector_store_dir=tmp_path_factory.mktemp("vectors"),
    )
    with local_stack(settings, tmp_path_factory.mktemp("stack"), adapter=True, embedded=True, broker_port=0) as running:
        running.wait_until_ready(timeout_s=120)
        yield running


@pytest.fixture
def backend_settings(backend: Stack) -> Settings:
    """Settings that point at the backend's broker and at Label Studio."""
    return backend.settings


@pytest.fixture
def client(backend: Stack) -> Client:
    """A client of the backend's broker."""
    backend.check()
    return backend.client()


@pytest.fixture
def web(pictures: list[Picture]) -> Iterator[CountingWeb]:
    made = CountingWeb()
    made.serve(picture.path for picture in pictures)
    yield made
    made.close()
