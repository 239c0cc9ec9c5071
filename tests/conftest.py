"""What every test shares: an environment without prelabel's variables, a real broker process, a real worker process."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile

# Read by the hub library when it is imported: no test may wait for a hub.
os.environ["HF_HUB_OFFLINE"] = "1"

# Read by the settings: no worker of a test may touch the vectors of the person who runs them.
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="prelabel-tests-")
atexit.register(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True)

import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from prelabel.integrations import Client
from prelabel.schemas import Settings, get_settings
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.running.broker import embedded_broker
from prelabel.worker.running.stack import Stack, local_stack
from tests.packages import Site

hypothesis.settings.register_profile("untimed", deadline=None)  # how busy the machine is says nothing of the code
hypothesis.settings.load_profile("untimed")

# A shell that starts the suite in the background has it ignore Ctrl-C, `nohup` a terminal that goes away, and every
# child of ours with it.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

FOREIGN = ("PRELABEL_", "LABEL_STUDIO_", "BASIC_AUTH_", "LOG_LEVEL", "AWS_")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make faults N=20000` runs the fault suite for long, `make week N=2000` the scripted week."""
    parser.addoption("--fault-items", type=int, default=400, help="items in a job of the fault suite")
    parser.addoption("--week-tasks", type=int, default=30, help="tasks of the project in the scripted week")
    parser.addoption("--fault-seed", type=int, default=None, help="repeat a run's random fault points")


@pytest.fixture(scope="session", autouse=True)
def _clean_environment() -> Iterator[None]:
    """No variable of the person who runs the tests reaches them, and no hub is asked for a model."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith(FOREIGN):
                patch.delenv(name)
        get_settings.cache_clear()
        yield
        get_settings.cache_clear()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Packages of other people, installed for this test and the processes it starts."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    packages = Site(folder)
    yield packages
    packages.forget()


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis-compatible server process on a free port."""
    with embedded_broker(tmp_path_factory.mktemp("broker"), port=0) as url:
        yield url


@pytest.fixture
def settings(broker_url: str) -> Settings:
    """Settings that point at the test broker and the demo checkpoint."""
    return load_settings(redis_url=broker_url, model=str(CHECKPOINT))


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    """A client of a broker that holds nothing."""
    with Client(settings) as made:
        made.connection.redis.flushall()
        yield made
        made.connection.redis.flushall()


@pytest.fixture(scope="session")
def pictures_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder the test worker may read images from."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Iterator[Stack]:
    """A broker, a supervised Celery worker with the demo checkpoint, and the adapter: real processes."""
    settings = load_settings(
        model=str(CHECKPOINT),
        image_roots=(pictures_dir,),
        port=0,
        fetch_timeout_s=3,
        fetch_attempts=2,
        item_retries=0,
        vector_store_dir=tmp_path_factory.mktemp("vectors"),
    )
    with local_stack(settings, tmp_path_factory.mktemp("stack"), adapter=True, embedded=True, broker_port=0) as running:
        running.wait_until_ready(timeout_s=120)
        yield running


def eventually(condition, timeout_s: float = 20.0):
    """The first truthy value of `condition()`; fails when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {timeout_s} s")
