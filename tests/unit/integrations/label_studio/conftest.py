"""Recorded Label Studio requests, and the stand-in for a Label Studio."""

import json
from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas.settings import load_settings
from tests.label_studio import LEGACY, running

DATA = Path(__file__).parents[3] / "data" / "label_studio"
VARIABLES = (
    "LABEL_STUDIO_URL",
    "LABEL_STUDIO_HOST",
    "LABEL_STUDIO_API_KEY",
    "BASIC_AUTH_USER",
    "BASIC_AUTH_PASS",
    "LOG_LEVEL",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def capture():
    """A recorded request by its file's name."""
    return lambda name: json.loads((DATA / f"{name}.json").read_text())


@pytest.fixture
def label_studio():
    """The stand-in's state; `.url` is where it listens."""
    with running() as state:
        yield state


@pytest.fixture
def settings(label_studio, broker_url):
    """Settings pointing at the stand-in, with the legacy token, and at the test broker."""

    def make(**overrides):
        values = {
            "label_studio_url": label_studio.url,
            "label_studio_api_key": LEGACY,
            "redis_url": broker_url,
            **overrides,
        }
        return load_settings(**values)

    return make


@pytest.fixture
def client(settings):
    """A client of a broker that holds nothing."""
    with Client(settings()) as made:
        made.connection.redis.flushall()
        yield made
        made.connection.redis.flushall()


@pytest.fixture
def claims(client):
    """Claims in that broker."""
    return Projects(client).claims
