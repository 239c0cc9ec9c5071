"""What anybody may put on a queue, by mistake or not: said, set aside, and no worker ends of it."""

from __future__ import annotations

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from prelabel.integrations import Client
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.ledger.malformed import KEPT, set_aside
from prelabel.schemas import Priority, Taxonomy
from prelabel.schemas.queues import QUEUE_INTERACTIVE, QUEUES, TASK_PUSH, TASK_SCORE_CHUNK, queue_of
from prelabel.worker.running.stack import Stack


def envelope(body: Any = None, **changes: Any) -> dict[str, Any]:
    """A message as Celery sends it, with some parts changed; None leaves one out."""
    made: dict[str, Any] = {
        "body": base64.b64encode(json.dumps([["0" * 12, 0], {}, {}] if body is None else body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": TASK_SCORE_CHUNK, "id": "1", "lang": "py", "argsrepr": "", "kwargsrepr": ""},
        "properties": {
            "delivery_tag": "t",
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "bulk"},
        },
    } | changes
    return {name: part for name, part in made.items() if part is not None}


HEADERS = envelope()["headers"]
PROPERTIES = envelope()["properties"]
JSON_VALUES = [None, True, 7, -1.5, "text", [], [1], {}, {"a": 1}]

MALFORMED: list[bytes] = [
    *(b"", b"\x00", b"\xff\xfe", b"{", b"[" * 50_000, b"nan", b'"', b'{"a":1}'),
    *(json.dumps(value).encode() for value in JSON_VALUES),
    *(json.dumps(envelope(**{part: value})).encode() for part in envelope() for value in JSON_VALUES),
    *(json.dumps(envelope(headers={**HEADERS, name: value})).encode() for name in HEADERS for value in ([], {"a": 1})),
    *(
        json.dumps(envelope(properties={**PROPERTIES, name: value})).encode()
        for name in PROPERTIES
        for value in (7, [])
    ),
    *(json.dumps(envelope(body)).encode() for body in JSON_VALUES[1:]),
    *(json.dumps(envelope([args, {}, {}])).encode() for args in (7, None, [], ["job"], ["job", 0, 1], [1, "x"])),
    json.dumps(envelope(headers={**HEADERS, "task": TASK_PUSH})).encode(),
    json.dumps(envelope(headers={**HEADERS, "task": "os.system"})).encode(),
    json.dumps(envelope(**{"content-type": "application/x-python-serialize"})).encode(),
]


def test_a_worker_outlives_every_malformed_message_on_every_queue(stack: Stack, live: Client, photo: Path) -> None:
    before = {worker.name for worker in stack.workers()}  # one that ended lately may be among them still
    redis = live.connection.redis
    assert len(MALFORMED) > 94
    model = settings_model_id(stack.settings)
    own = [queue_of(priority, model) for priority in Priority]
    for queue, message in itertools.product([*QUEUES, *own], MALFORMED):
        redis.lpush(queue, message)
    # Queues are first in, first out: all of the above is taken before.
    for priority, named in itertools.product(Priority, (None, model)):
        job = live.submit([str(photo)] * 3, Taxonomy.flat(["a", "b"]), priority=priority, model=named)
        assert job.wait(timeout=60).done == 3
    after = {worker.name for worker in stack.workers()}
    assert after, "one was there to score"
    assert after <= before, "none has been started anew"
    assert not any(redis.llen(queue) for queue in (QUEUE_INTERACTIVE, *own))


def test_what_is_set_aside_is_bounded(client: Client) -> None:
    redis = client.connection.redis
    for number in range(KEPT + 50):
        set_aside(redis, "bulk", b"x" * 100_000 + b"%d" % number, "odd")
    (key,) = redis.keys("prelabel:malformed")
    assert redis.llen(key) == KEPT
    newest = json.loads(redis.lindex(key, 0))
    assert (newest["queue"], newest["problem"], len(newest["message"])) == ("bulk", "odd", 1000)


@pytest.mark.parametrize("raw", [b"\xff", "text"])
def test_what_is_set_aside_may_be_any_bytes(client: Client, raw: bytes | str) -> None:
    set_aside(client.connection.redis, "bulk", raw, "odd")
    assert client.connection.redis.llen("prelabel:malformed") == 1
