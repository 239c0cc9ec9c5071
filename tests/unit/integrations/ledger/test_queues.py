"""The queues as gauges."""

from __future__ import annotations

from prelabel.integrations import Client
from prelabel.integrations.telemetry.queues import Queues
from prelabel.schemas.settings import load_settings


def test_the_gauges_say_when_redis_is_away() -> None:
    away = Client(load_settings(redis_url="redis://127.0.0.1:1/0"))
    found = {metric.name: metric for metric in Queues(away.queue_states).collect()}
    assert found["prelabel_broker_up"].samples[0].value == 0
    assert found["prelabel_queue_depth"].samples == []
