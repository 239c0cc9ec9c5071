"""How long queues are and how long their oldest work has waited, on a real Redis-compatible server."""

from __future__ import annotations

import time

from prelabel.integrations import Client
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.integrations.telemetry.queues import Queues
from prelabel.schemas import Answer, Outcome, PushTarget, Taxonomy
from prelabel.schemas.settings import load_settings

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))


def claim(client: Client, job_id: str):
    ledger = Ledger(client.connection.redis, owner="w", lease_s=10, ttl_s=60)
    return ledger, ledger.claim(ChunkRef(job_id, 0))


def test_nothing_waits(client: Client) -> None:
    assert {queue: tuple(state) for queue, state in client.queue_states().items()} == {
        "interactive": (0, 0.0),
        "bulk": (0, 0.0),
        "push": (0, 0.0),
    }


def test_the_oldest_waiting_chunk_counts_and_a_leased_one_no_more(client: Client) -> None:
    first = client.submit(["s3://b/1.jpg"], TAXONOMY)
    time.sleep(0.3)
    client.submit(["s3://b/2.jpg"], TAXONOMY)
    states = client.queue_states()
    assert states["bulk"].depth == 2
    assert 0.3 <= states["bulk"].oldest_s < 10
    assert states["interactive"].oldest_s == 0
    claim(client, first.id)
    assert client.queue_states()["bulk"].oldest_s < states["bulk"].oldest_s


def test_a_prediction_that_waits_for_its_push_has_an_age(client: Client) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, push=PushTarget(project=1, label_config="<View/>"))
    ledger, lease = claim(client, job.id)
    ledger.complete(lease, [(0, GOOD)], close=True)
    time.sleep(0.2)
    assert 0.2 <= client.queue_states()["push"].oldest_s < 10


def test_the_gauges_say_when_redis_is_away() -> None:
    away = Client(load_settings(redis_url="redis://127.0.0.1:1/0"))
    found = {metric.name: metric for metric in Queues(away.queue_states).collect()}
    assert found["prelabel_broker_up"].samples[0].value == 0
    assert found["prelabel_queue_depth"].samples == []
