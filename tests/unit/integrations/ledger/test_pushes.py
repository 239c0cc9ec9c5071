"""What the ledger keeps of pushes, on a real Redis."""

from __future__ import annotations

import pytest

from prelabel.integrations import Client
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.pushes import Pushes
from prelabel.schemas import ConfigError, PushTarget, Taxonomy


@pytest.fixture
def pushes(client: Client) -> Pushes:
    return Pushes(client.connection.redis, ttl_s=100)


@pytest.fixture
def job_id(client: Client) -> str:
    target = PushTarget(project=1, label_config="<View/>", hold=True)
    return client.submit(["1.jpg", "2.jpg", "3.jpg"], Taxonomy.flat(["a"]), push=target).id


def test_what_was_pushed_or_refused_is_remembered_item_by_item(client: Client, pushes: Pushes, job_id: str) -> None:
    pushes.record_problem(job_id, "Label Studio is away")
    pushes.mark(job_id, pushed=[0], rejected=[(2, "the task is gone")])
    assert pushes.are_pushed(job_id, [0, 1, 2]) == [True, False, False]
    assert client.job(job_id).progress().pushed == 1
    redis, keys = client.connection.redis, JobKeys(job_id)
    assert redis.hgetall(keys.push_failed) == {b"2": b"the task is gone"}
    assert not redis.hexists(keys.meta, "push_error"), "a success drops what stood in the way"


def test_a_job_that_has_nothing_left_to_push_has_nothing_in_its_way(
    client: Client, pushes: Pushes, job_id: str
) -> None:
    pushes.record_problem(job_id, "Label Studio is away")
    pushes.forget(job_id)
    assert client.job(job_id).progress().push_problem == ""


def test_the_place_in_the_results_is_kept(pushes: Pushes, job_id: str) -> None:
    assert pushes.cursor(job_id) == "0"
    pushes.move(job_id, "17-1")
    assert pushes.cursor(job_id) == "17-1"


def test_a_push_that_is_asked_for_while_another_runs_is_not_forgotten(pushes: Pushes, job_id: str) -> None:
    pushes.want(job_id)
    assert pushes.lock(job_id).take()
    pushes.begin(job_id)
    assert not pushes.is_wanted(job_id)
    pushes.want(job_id)
    assert not pushes.lock(job_id).take()
    assert pushes.is_wanted(job_id)


def test_a_held_job_waits_for_its_submitter_but_not_for_ever(client: Client, pushes: Pushes, job_id: str) -> None:
    assert not pushes.is_released(job_id, hold_s=60)
    assert pushes.is_released(job_id, hold_s=-1)
    client.job(job_id).release_push([])
    assert pushes.is_released(job_id, hold_s=60)
    client.connection.redis.hset(JobKeys(job_id).meta, mapping={"created": "long ago"})
    client.connection.redis.hdel(JobKeys(job_id).meta, "push_ready")
    with pytest.raises(ConfigError, match="another release wrote it"):
        pushes.is_released(job_id, hold_s=60)
