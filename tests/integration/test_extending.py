"""The code of docs/extending.md, which shows the marked parts of this file, and what it must do."""

from __future__ import annotations

# --8<-- [start:platform]
from collections.abc import Sequence
from typing import Any

from prelabel.integrations.platforms import PushReport
from prelabel.schemas import Prediction, PushTarget


class TablePlatform:
    """Keeps one answer an item and version, so that pushing twice changes nothing."""

    def __init__(self, table: dict[tuple[str, str], str | None]) -> None:
        self._table = table

    def push(self, target: PushTarget, predictions: Sequence[Prediction], **options: Any) -> PushReport:
        for prediction in predictions:
            self._table[prediction.item.id, prediction.model_version] = prediction.label
        return PushReport(pushed=tuple(prediction.ordinal for prediction in predictions))


# --8<-- [end:platform]

from pathlib import Path

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.schemas import Taxonomy
from prelabel.worker.delivering.pusher import JobPusher


def test_a_platform_gets_every_answer_of_a_job(live: Client, stack, photo: Path) -> None:
    table: dict[tuple[str, str], str | None] = {}
    push = PushTarget(project=1, label_config="<View/>", hold=True)  # held: the worker has no such platform
    job = live.submit([str(photo)], Taxonomy.flat(["circle", "ring"]), push=push)
    (prediction,) = job.results(timeout=60)
    live.connection.redis.hset(f"prelabel:{{{job.id}}}:meta", "push_ready", 1)
    pusher = JobPusher(live.connection.store, connect_redis(stack.settings), stack.settings, TablePlatform(table))
    pusher.push(job.id)
    pusher.push(job.id)
    assert table == {(str(photo), prediction.model_version): prediction.label}
    assert job.progress().pushed == 1
