"""What every ledger says of its queues: how long they are, and how long their oldest work has waited."""

from __future__ import annotations

from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Answer, Outcome, PushTarget, Taxonomy

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))


def test_nothing_waits(client) -> None:
    assert {queue: tuple(state) for queue, state in client.queue_states().items()} == {
        "interactive": (0, 0.0),
        "bulk": (0, 0.0),
        "push": (0, 0.0),
    }


def test_the_oldest_waiting_chunk_counts_and_a_leased_one_no_more(client, ledger, kept) -> None:
    first = client.submit(["s3://b/1.jpg"], TAXONOMY)
    kept.pass_time(0.25)
    client.submit(["s3://b/2.jpg"], TAXONOMY)
    states = client.queue_states()
    assert states["bulk"].depth == 2
    assert 0.25 <= states["bulk"].oldest_s < 10
    assert states["interactive"].oldest_s == 0
    ledger().claim(ChunkRef(first.id, 0))
    assert client.queue_states()["bulk"].oldest_s < states["bulk"].oldest_s


def test_a_prediction_that_waits_for_its_push_has_an_age(client, ledger, kept) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, push=PushTarget(project=1, label_config="<View/>"))
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, GOOD)], close=True)
    kept.pass_time(0.25)
    assert 0.25 <= client.queue_states()["push"].oldest_s < 10
