"""What the ledger does on a real Redis-compatible server alone; what every ledger does is in `contract`."""

from __future__ import annotations

import pytest
from redis.exceptions import OutOfMemoryError

from prelabel.integrations import Client
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Answer, ConfigError, ItemFailure, JobState, Outcome, PushTarget, Taxonomy

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
OTHER = Outcome(model_version="late", answers=(Answer(control="label", rule="softmax", confidence=0.1),))
BAD = Outcome(error=ItemFailure(kind="ItemError", message="empty file"))


def submit(client: Client, count: int = 3, **options):
    job = client.submit([f"s3://b/{i}.jpg" for i in range(count)], TAXONOMY, **options)
    return job, ChunkRef(job.id, 0)


def test_a_job_of_another_prelabel_version_is_refused_and_its_chunk_left_free(client, ledger) -> None:
    _, ref = submit(client)
    meta = f"prelabel:{{{ref.job_id}}}:meta"
    client.connection.redis.hset(meta, "spec", '{"wire_version": 2}')
    for _ in range(2):
        with pytest.raises(ConfigError, match="wire version 2"):
            ledger().claim(ref)


def test_finished_jobs_expire_and_running_ones_do_not(client, ledger) -> None:
    job, ref = submit(client)
    redis = client.connection.redis
    keys = redis.keys(f"prelabel:{{{job.id}}}:*")
    assert all(redis.ttl(key) == -1 for key in keys)
    worker = ledger()
    worker.complete(worker.claim(ref), [(i, GOOD) for i in range(3)], close=True)
    keys = redis.keys(f"prelabel:{{{job.id}}}:*")
    assert keys
    assert all(0 < redis.ttl(key) <= 100 for key in keys)


def test_what_is_pushed_after_the_end_expires_with_the_job(client, ledger) -> None:
    job, ref = submit(client, push=PushTarget(project=1, label_config="<View/>", hold=True))
    worker = ledger()
    worker.complete(worker.claim(ref), [(i, GOOD) for i in range(3)], close=True)
    job.release_push(delivered=[0])
    redis = client.connection.redis
    assert all(redis.ttl(key) > 0 for key in redis.keys(f"prelabel:{{{job.id}}}:*"))


def test_at_the_memory_limit_leases_are_kept_given_back_and_cancelled_but_not_begun(client, ledger) -> None:
    job, ref = submit(client)
    _, other = submit(client)
    worker = ledger()
    lease = worker.claim(ref)
    redis = client.connection.redis
    redis.config_set("maxmemory", 1)
    try:
        assert worker.renew(lease)
        with pytest.raises(OutOfMemoryError):
            worker.complete(lease, [(0, GOOD)], close=False)
        with pytest.raises(OutOfMemoryError):
            worker.claim(other)
        assert worker.release(lease)
        assert job.cancel()
    finally:
        redis.config_set("maxmemory", 0)
    assert job.progress().state is JobState.CANCELLED
