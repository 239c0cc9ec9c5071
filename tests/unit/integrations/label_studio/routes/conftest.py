"""The adapter over a client whose jobs are in memory; what else is in Redis is in a real one."""

import pytest
from fastapi.testclient import TestClient

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.http.app import create_app
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.schemas.settings import load_settings
from tests.unit.integrations.label_studio.routes.fakes import MODEL, FakeClient


@pytest.fixture
def client(broker_url):
    settings = load_settings(redis_url=broker_url)
    connect_redis(settings).flushall()
    yield FakeClient(settings)
    connect_redis(settings).flushall()


@pytest.fixture
def projects(client):
    return Projects(client)


@pytest.fixture
def make(client):
    opened = []

    def build(**overrides):
        values = {"label_studio_url": "http://ls:8080", "label_studio_api_key": "k", **overrides}
        http = TestClient(create_app(load_settings(**values), client, model=MODEL))
        opened.append(http)
        return http

    yield build
    for http in opened:
        http.close()


@pytest.fixture
def http(make):
    return make()
