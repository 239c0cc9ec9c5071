"""The worker's half of the ledger: lease a chunk, write outcomes exactly once, hand chunks back.

A Celery message is only a hint; these keys are the truth (`prelabel.schemas.names.JobKeys`). A chunk is leased
under a fencing token that grows with every lease: whoever holds an older token can write nothing. An item's
outcome is written by the first who has one; the bit in `finished` and the entry in `results` are set by one
script, so counters derived from them never count an item twice. All deadlines are Redis's own clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import redis

from ..schemas.errors import ConfigError
from ..schemas.items import Chunk, Item
from ..schemas.jobs import JobSpec
from ..schemas.names import ACTIVE, JobKeys, held_key
from ..schemas.predictions import Outcome

_NOW_MS = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# KEYS: meta chunks open leases held. ARGV: chunk, owner, lease ms, held member.
_CLAIM = (
    _NOW_MS
    + """
if redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then return {'gone'} end
local deadline = redis.call('ZSCORE', KEYS[3], ARGV[1])
if not deadline then return {'gone'} end
if tonumber(deadline) > now then return {'busy'} end
local token = redis.call('HINCRBY', KEYS[4], 'token:' .. ARGV[1], 1)
local attempts = redis.call('HINCRBY', KEYS[4], 'attempts:' .. ARGV[1], 1)
redis.call('HSET', KEYS[4], 'owner:' .. ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[4])
redis.call('HSETNX', KEYS[1], 'started', now / 1000)
return {'claimed', token, attempts, redis.call('HGET', KEYS[1], 'spec'), redis.call('HGET', KEYS[2], ARGV[1])}
"""
)

# KEYS: open leases. ARGV: chunk, token, lease ms. Returns 1, or 0 when the lease is no longer ours.
_RENEW = (
    _NOW_MS
    + """
if redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) ~= ARGV[2] then return 0 end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
return 1
"""
)

# KEYS: meta open leases finished failed results held active, then all keys.
# ARGV: chunk, token, close (0/1), job id, ttl, held member, then (ordinal, failed 0/1, outcome JSON)...
# Returns {written or -1 when fenced off, push_ready 0/1}.
_COMPLETE = (
    _NOW_MS
    + """
if redis.call('HGET', KEYS[3], 'token:' .. ARGV[1]) ~= ARGV[2] then return {-1, 0} end
local written = 0
for i = 7, #ARGV, 3 do
  if redis.call('SETBIT', KEYS[4], ARGV[i], 1) == 0 then
    local id = redis.call('XADD', KEYS[6], '*', 'o', ARGV[i], 'c', ARGV[1], 'r', ARGV[i + 2])
    if ARGV[i + 1] == '1' then redis.call('HSET', KEYS[5], ARGV[i], id) end
    written = written + 1
  end
end
redis.call('HSET', KEYS[1], 'updated', now / 1000)
if ARGV[3] == '1' then
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[3], 'token:' .. ARGV[1], 'attempts:' .. ARGV[1], 'owner:' .. ARGV[1])
  redis.call('SREM', KEYS[7], ARGV[6])
  if redis.call('HEXISTS', KEYS[1], 'sealed') == 1 and redis.call('ZCARD', KEYS[2]) == 0 then
    redis.call('SREM', KEYS[8], ARGV[4])
    for i = 9, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
  end
end
return {written, redis.call('HEXISTS', KEYS[1], 'push_ready')}
"""
)

# KEYS: open leases held. ARGV: chunk, token, held member. Returns 1 when the chunk is free again.
_RELEASE = """
redis.call('SREM', KEYS[3], ARGV[3])
if redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) ~= ARGV[2] then return 0 end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[2], 'token:' .. ARGV[1], 1)
redis.call('HINCRBY', KEYS[2], 'attempts:' .. ARGV[1], -1)
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
"""

# KEYS: open leases. ARGV: chunk, owner. Frees the lease of a dead owner; returns 1 when it was that owner's.
_FREE = """
if redis.call('HGET', KEYS[2], 'owner:' .. ARGV[1]) ~= ARGV[2] then return 0 end
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not deadline or tonumber(deadline) == 0 then return 0 end
redis.call('HINCRBY', KEYS[2], 'token:' .. ARGV[1], 1)
redis.call('ZADD', KEYS[1], 0, ARGV[1])
return 1
"""

# KEYS: open leases. Frees every lease whose deadline has passed; returns the chunks.
_REAP = (
    _NOW_MS
    + """
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', now, 'LIMIT', 0, 1000)
for _, chunk in ipairs(expired) do
  redis.call('HINCRBY', KEYS[2], 'token:' .. chunk, 1)
  redis.call('ZADD', KEYS[1], 0, chunk)
end
return expired
"""
)


class Refusal(Enum):
    """Why a chunk was not leased: `GONE` finished or cancelled, `BUSY` somebody else is at it."""

    GONE = "gone"
    BUSY = "busy"


class ChunkRef(NamedTuple):
    """One chunk of one job."""

    job_id: str
    chunk: int

    @property
    def member(self) -> str:
        """How the chunk stands in a worker's held set."""
        return f"{self.job_id}/{self.chunk}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lease:
    """A chunk that is ours until the lease runs out.

    Attributes:
        ref: the chunk.
        token: fencing token; grows with every lease of the chunk.
        attempts: leases so far, those given back on purpose not counted.
        spec: what the job asks.
        pairs: the items without an outcome yet, each with its ordinal.
    """

    ref: ChunkRef
    token: int
    attempts: int
    spec: JobSpec
    pairs: Sequence[tuple[int, Item]]


class Written(NamedTuple):
    """What became of a write.

    Attributes:
        held: False when the lease had been taken over: nothing was written.
        push_ready: finished predictions of this job may be pushed now.
    """

    held: bool
    push_ready: bool


class Ledger:
    """Leases and outcomes for one worker. Thread-safe.

    Args:
        client: Redis.
        owner: this worker's name; unique per process.
        lease_s: seconds a lease lasts unless renewed.
        ttl_s: seconds a finished job is kept.
    """

    def __init__(self, client: redis.Redis, *, owner: str, lease_s: float, ttl_s: int) -> None:
        self._redis: Any = client  # redis-py types every reply as a union of all replies
        self._owner = owner
        self._lease_ms = int(lease_s * 1000)
        self._ttl_s = ttl_s
        self._claim, self._renew, self._complete, self._release, self._free, self._reap = (
            client.register_script(script) for script in (_CLAIM, _RENEW, _COMPLETE, _RELEASE, _FREE, _REAP)
        )

    def claim(self, ref: ChunkRef) -> Lease | Refusal:
        """Lease a chunk.

        Raises:
            ConfigError: the job was written by another prelabel version.
        """
        keys = JobKeys(ref.job_id)
        reply: Any = self._claim(
            keys=[keys.meta, keys.chunks, keys.open, keys.leases, held_key(self._owner)],
            args=[ref.chunk, self._owner, self._lease_ms, ref.member],
        )
        if reply[0] != b"claimed":
            return Refusal(reply[0].decode())
        _, token, attempts, spec, chunk = reply
        if spec is None or chunk is None:
            raise ConfigError(f"job {ref.job_id} has no chunk {ref.chunk}: was Redis emptied while it ran?")
        pairs = Chunk.model_validate_json(chunk).pairs()
        if token > 1:
            with self._redis.pipeline(transaction=False) as pipe:
                for ordinal, _ in pairs:
                    pipe.getbit(keys.finished, ordinal)
                pairs = [pair for pair, finished in zip(pairs, pipe.execute(), strict=True) if not finished]
        return Lease(ref=ref, token=token, attempts=attempts, spec=JobSpec.from_json(spec), pairs=pairs)

    def renew(self, lease: Lease) -> bool:
        """Start the lease anew. False: it was taken over, or the job was cancelled."""
        keys = JobKeys(lease.ref.job_id)
        return bool(self._renew(keys=[keys.open, keys.leases], args=[lease.ref.chunk, lease.token, self._lease_ms]))

    def complete(self, lease: Lease, outcomes: Sequence[tuple[int, Outcome]], *, close: bool) -> Written:
        """Write outcomes; an item that has one already keeps it.

        Args:
            lease: the lease the outcomes were made under.
            outcomes: ordinal and outcome.
            close: these were the chunk's last items.
        """
        keys = JobKeys(lease.ref.job_id)
        flat: list[Any] = []
        for ordinal, outcome in outcomes:
            flat += [ordinal, int(outcome.error is not None), outcome.to_json()]
        written, push_ready = self._complete(
            keys=[
                keys.meta,
                keys.open,
                keys.leases,
                keys.finished,
                keys.failed,
                keys.results,
                held_key(self._owner),
                ACTIVE,
                *keys.all(),
            ],
            args=[lease.ref.chunk, lease.token, int(close), lease.ref.job_id, self._ttl_s, lease.ref.member, *flat],
        )
        push = lease.spec.push
        return Written(held=written >= 0, push_ready=push is not None and (not push.hold or bool(push_ready)))

    def release(self, lease: Lease) -> bool:
        """Give a chunk back. True: it is free and needs a new hint on its queue."""
        keys = JobKeys(lease.ref.job_id)
        return bool(
            self._release(
                keys=[keys.open, keys.leases, held_key(self._owner)],
                args=[lease.ref.chunk, lease.token, lease.ref.member],
            )
        )

    def free_owner(self, owner: str) -> list[ChunkRef]:
        """Free every lease of a worker that has died; each chunk returned needs a new hint on its queue."""
        freed = []
        for member in self._redis.smembers(held_key(owner)):
            job_id, _, chunk = member.decode().partition("/")
            keys = JobKeys(job_id)
            if self._free(keys=[keys.open, keys.leases], args=[chunk, owner]):
                freed.append(ChunkRef(job_id, int(chunk)))
        self._redis.delete(held_key(owner))
        return freed

    def reap(self, job_id: str) -> list[ChunkRef]:
        """Free the job's leases that have run out; each chunk returned needs a new hint on its queue."""
        keys = JobKeys(job_id)
        expired: Any = self._reap(keys=[keys.open, keys.leases])
        return [ChunkRef(job_id, int(chunk)) for chunk in expired]

    def waiting(self, job_id: str) -> list[ChunkRef]:
        """The job's chunks nobody has leased (at most 1,000)."""
        found = self._redis.zrangebyscore(JobKeys(job_id).open, 0, 0, start=0, num=1000)
        return [ChunkRef(job_id, int(chunk)) for chunk in found]

    def active_jobs(self) -> list[str]:
        """Ids of jobs that have not ended."""
        return [job_id.decode() for job_id in self._redis.smembers(ACTIVE)]

    def queue_of(self, job_id: str) -> str | None:
        """The queue the job's chunks go to; None when the job is gone."""
        raw = self._redis.hget(JobKeys(job_id).meta, "spec")
        return JobSpec.from_json(raw).priority.value if raw else None
