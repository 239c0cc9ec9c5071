"""`prelabel doctor` about Redis and the workers."""

from __future__ import annotations

import time
from typing import Any

import pytest

from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.client.checkpoint import settings_model_id
from prelabel.integrations.ledger.keys import WORKERS, JobKeys
from prelabel.schemas import Settings, Taxonomy
from prelabel.schemas.progress import WorkerInfo
from prelabel.worker.cli.checks import Check, broker
from prelabel.worker.cli.checks.broker import check_redis
from prelabel.worker.cli.checks.workers import check_workers
from prelabel.worker.model.colour import colour_card
from tests.unit.worker.cli.checks import by_name

HEALTHY = {
    "redis_version": "7.2.4", "aof_enabled": 1, "aof_last_write_status": "ok", "maxmemory_policy": "noeviction",
    "maxmemory": 2**31, "used_memory": 2**20, "total_system_memory": 2**35, "role": "master",
}  # fmt: skip


# ---- Redis


class FakeRedis:
    """Answers INFO and TIME as told."""

    def __init__(self, ahead_s: float = 0.0, appendfsync: str = "everysec", **info: Any) -> None:
        self._info = {**HEALTHY, **info}
        self._ahead_s = ahead_s
        self._appendfsync = appendfsync

    def __enter__(self) -> FakeRedis:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def info(self) -> dict[str, Any]:
        return self._info

    def time(self) -> tuple[int, int]:
        now = time.time() + self._ahead_s
        return int(now), int(now % 1 * 1e6)

    def config_get(self, name: str) -> dict[str, str]:
        return {name: self._appendfsync}


@pytest.mark.parametrize(
    ("redis", "name", "status", "says"),
    [
        ({}, "redis", "ok", "7.2.4"),
        ({"redis_version": "4.0.14"}, "redis", "fail", "too old"),
        ({"redis_version": "6.0.1"}, "redis", "warn", "older than what is tested"),
        ({"redis_version": "5.0.14"}, "redis", "fail", "too old"),
        ({"cluster_enabled": 1}, "redis", "fail", "is a Redis Cluster"),
        ({"server_name": "valkey", "valkey_version": "9.1.0"}, "redis", "ok", "valkey 9.1.0"),
        ({"role": "slave"}, "role", "fail", "replica"),
        ({}, "persistence", "ok", "append-only file, everysec"),
        ({"aof_enabled": 0}, "persistence", "warn", "loses queued jobs"),
        ({"aof_enabled": 0, "rdb_last_bgsave_status": "err"}, "persistence", "fail", "disk full"),
        ({"aof_last_write_status": "err"}, "persistence", "fail", "disk full"),
        ({"appendfsync": "no"}, "persistence", "warn", "half a minute"),
        ({"maxmemory_policy": "allkeys-lru"}, "memory policy", "fail", "may drop queued jobs"),
        ({}, "memory", "ok", "1 MiB used of 2048 MiB"),
        ({"used_memory": 2**31 - 1}, "memory", "fail", "2048 MiB used"),
        ({"maxmemory": 0}, "memory", "ok", "no limit set"),
        ({"maxmemory": 0, "used_memory": 2**34 + 2**30}, "memory", "warn", "no limit set"),
        ({}, "clock", "ok", "within"),
        ({"ahead_s": 30}, "clock", "warn", "30.0 s ahead of"),
        ({"ahead_s": -600}, "clock", "fail", "600.0 s behind"),
    ],
)
def test_a_redis_is_judged_by_what_it_says(settings, monkeypatch, redis, name, status, says) -> None:
    monkeypatch.setattr(broker, "connect_redis", lambda *_, **__: FakeRedis(**redis))
    check = by_name(check_redis(settings))[name]
    assert (check.status, says in check.detail) == (status, True), check
    assert check.status == "ok" or check.fix or "PRELABEL_REDIS_URL" in check.detail


def test_a_real_redis_is_found_in_order(settings) -> None:
    checks = by_name(check_redis(settings))
    assert {check.status for check in checks.values()} == {"ok"}
    assert {"redis", "persistence", "memory policy", "memory", "clock"} <= checks.keys()


# ---- workers


def announce(settings: Settings, **change: str) -> None:
    client = connect_redis(settings)
    card = colour_card(change.get("model") or settings_model_id(settings))
    info = WorkerInfo(name="w", model=card.id, device="cuda:0", dtype="bfloat16", card=card)
    info = info.model_copy(update=change)
    client.zadd(WORKERS, {info.model_dump_json(exclude={"beat"}): time.time()})


def test_live_workers_are_listed_with_their_device(settings, client) -> None:
    announce(settings)
    checks = by_name(check_workers(settings))
    assert checks["worker"].status == "ok"
    assert "cuda:0 (bfloat16)" in checks["worker"].detail
    assert checks["queues"] == Check("queues", "ok", "interactive 0, bulk 0, push 0")


def test_several_models_are_nothing_out_of_the_ordinary(settings, client) -> None:
    announce(settings)
    for name in ("v", "u"):
        announce(settings, name=name, model="other@12345678")
    checks = list(check_workers(settings))
    assert {check.status for check in checks} == {"ok"}
    assert by_name(checks)["models"].detail == (
        f"served: other@12345678 (2 workers), {settings_model_id(settings)} (1 worker)"
    )


def test_that_nobody_serves_the_settings_own_model_is_a_warning(settings, client) -> None:
    announce(settings, model="other@12345678")
    check = by_name(check_workers(settings))["models"]
    assert (check.status, "PRELABEL_MODEL" in check.fix) == ("warn", True)
    assert f"no worker serves {settings_model_id(settings)} (those running serve other@12345678)" in check.detail


def test_work_for_a_model_nobody_serves_is_a_failure_that_says_which_and_how_much(settings, client) -> None:
    announce(settings)
    for count in (1, 70):
        client.submit([f"s3://b/{i}.jpg" for i in range(count)], Taxonomy.flat(["cat"]), model="org/name@main")
    client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"]))
    check = by_name(check_workers(settings))["waiting"]
    assert check.status == "fail"
    assert check.detail.startswith("71 images of 2 jobs: no worker serves org/name@main (those running serve ")
    assert check.fix == "start one with PRELABEL_MODEL=org/name"


def test_people_who_wait_for_one_model_are_a_warning(settings, client) -> None:
    announce(settings, model="org/name@main")
    job = client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"]), model="org/name@main", priority="interactive")
    client.connection.redis.zincrby(JobKeys(job.id).open, 100_000, 0)
    check = by_name(check_workers(settings))["queues"]
    assert check.status == "warn"
    assert "interactive:org/name@main 1 (oldest " in check.detail
    assert check.detail.endswith(": people wait")


def test_work_that_nobody_works_on_is_a_failure(settings, client) -> None:
    assert by_name(check_workers(settings))["workers"].status == "warn"
    client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat", "dog"]))
    check = by_name(check_workers(settings))["queues"]
    assert (check.status, check.fix) == ("fail", "prelabel worker")
