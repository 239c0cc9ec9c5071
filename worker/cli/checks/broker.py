"""Redis: reachable, recent enough, keeps what it is told, has room, and its clock."""

from __future__ import annotations

import time
from typing import Any

import redis

from ....integrations.broker.connection import connect_redis
from ....integrations.broker.errors import LEAST_VERSION, NO_CLUSTER, broker_errors, shown_url
from ....integrations.ledger.clock import redis_time
from ....schemas.settings import Settings
from . import Check, Checks, Status

OLDEST, TESTED = (6, 0), (6, 2)
"""From Redis 6 on there is HELLO, with which redis-py begins; the tests run from 6.2 on."""

_HALF_FULL, _NEARLY_FULL = 0.5, 0.9
_SKEW_WARN_S, _SKEW_FAIL_S = 5.0, 240.0
"""Label Studio's access tokens last 300 s, signed S3 requests 900 s."""


def check_redis(settings: Settings) -> Checks:
    """Everything about the Redis of the settings. Asks for INFO and TIME, and for CONFIG GET where that is allowed."""
    with connect_redis(settings, stubborn=False) as client, broker_errors(settings):
        asked = time.time()
        clock = redis_time(client)
        answered = time.time()
        info: Any = client.info()
        appendfsync = _appendfsync(client)
    if info.get("cluster_enabled"):
        yield Check("redis", "fail", f"Redis at {shown_url(settings)} is {NO_CLUSTER}")
        return
    yield _version(info, shown_url(settings))
    if info.get("role") == "slave":
        yield Check(
            "role", "fail", "this Redis is a replica and takes no writes", "name the primary in PRELABEL_REDIS_URL"
        )
    yield _persistence(info, appendfsync)
    yield from _memory(info)
    yield _clock(clock - (asked + answered) / 2, (answered - asked) / 2)


def _version(info: dict[str, Any], where: str) -> Check:
    name = str(info.get("server_name", "redis"))
    text = str(info.get(f"{name}_version") or info["redis_version"])
    compatible = tuple(int(part) for part in str(info["redis_version"]).split(".")[:2])
    if compatible < OLDEST:
        return Check("redis", "fail", f"{name} {text} at {where} is too old", LEAST_VERSION)
    if compatible < TESTED:
        return Check("redis", "warn", f"{name} {text} at {where} is older than what is tested", LEAST_VERSION)
    return Check("redis", "ok", f"{name} {text} at {where}")


def _appendfsync(client: Any) -> str:
    """Empty where this user may not ask."""
    try:
        return str(client.config_get("appendfsync").get("appendfsync", ""))
    except redis.RedisError:
        return ""


def _persistence(info: dict[str, Any], appendfsync: str) -> Check:
    if not info.get("aof_enabled"):
        if info.get("rdb_last_bgsave_status", "ok") != "ok":
            return Check("persistence", "fail", "the last snapshot failed: is its disk full?", "see Redis's own log")
        return Check("persistence", "warn", "no append-only file: a crash of Redis loses queued jobs", "appendonly yes")
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("aof_last_bgrewrite_status", "ok") != "ok":
        return Check(
            "persistence", "fail", "Redis cannot write its append-only file: is its disk full?", "see Redis's own log"
        )
    if appendfsync == "no":
        return Check(
            "persistence", "warn", "append-only file, appendfsync no: a lost host loses half a minute", "everysec"
        )
    return Check("persistence", "ok", f"append-only file{', ' + appendfsync if appendfsync else ''}")


def _memory(info: dict[str, Any]) -> Checks:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        yield Check("memory policy", "ok", "noeviction")
    else:
        yield Check("memory policy", "fail", f"{policy}: Redis may drop queued jobs", "maxmemory-policy noeviction")
    used, limit = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
    room = limit or int(info.get("total_system_memory", 0))
    detail = f"{used / 2**20:.0f} MiB used of {room / 2**20:.0f} MiB" + ("" if limit else " of its host, no limit set")
    if room and used > _NEARLY_FULL * room:
        yield Check("memory", "fail", detail, "raise maxmemory, or let jobs expire sooner (PRELABEL_JOB_TTL_S)")
    elif room and not limit and used > _HALF_FULL * room:
        yield Check("memory", "warn", detail, "set maxmemory: Redis then refuses writes, and prelabel waits")
    else:
        yield Check("memory", "ok", detail)


def _clock(ahead_s: float, unsure_s: float) -> Check:
    """Leases run by Redis's clock alone, so skew loses nothing; tokens and signed requests fail with it."""
    skew = max(0.0, abs(ahead_s) - unsure_s)
    said = f"Redis's clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    if skew < _SKEW_WARN_S:
        return Check("clock", "ok", f"within {max(abs(ahead_s), 0.1):.1f} s of Redis's")
    status: Status = "fail" if skew >= _SKEW_FAIL_S else "warn"
    return Check("clock", status, said, "synchronise both (NTP): Label Studio's tokens and S3 signatures last minutes")
