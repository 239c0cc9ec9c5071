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

from ..integrations.job_store import NOW_MS
from ..schemas.errors import ConfigError
from ..schemas.items import Chunk, Item
from ..schemas.jobs import JobSpec
from ..schemas.names import ACTIVE, WATERMARKS, JobKeys, held_key
from ..schemas.predictions import Outcome

# KEYS: meta chunks open leases held watermarks. ARGV: chunk, owner, lease ms, held member, alone (0/1).
_CLAIM = (
    NOW_MS
    + """
if redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then return {'gone'} end
local score = tonumber(redis.call('ZSCORE', KEYS[3], ARGV[1]) or 'nan')
if score ~= score then return {'gone'} end
if score > now then return {'busy'} end
if score > 0 then redis.call('HINCRBY', KEYS[4], 'deaths:' .. ARGV[1], 1) end
local deaths = tonumber(redis.call('HGET', KEYS[4], 'deaths:' .. ARGV[1]) or 0)
if deaths > 0 and ARGV[5] == '0' then
  if score > 0 then redis.call('ZADD', KEYS[3], -now, ARGV[1]) end
  return {'suspect'}
end
if score < 0 then
  local queue = redis.call('HGET', KEYS[1], 'queue')
  local mark = redis.call('HGET', KEYS[6], queue)
  if not mark or tonumber(mark) < -score then redis.call('HSET', KEYS[6], queue, -score) end
end
local token = redis.call('HINCRBY', KEYS[4], 'token:' .. ARGV[1], 1)
redis.call('HSET', KEYS[4], 'owner:' .. ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[3], now + ARGV[3], ARGV[1])
redis.call('SADD', KEYS[5], ARGV[4])
redis.call('HSETNX', KEYS[1], 'started', now / 1000)
return {'claimed', token, deaths, redis.call('HGET', KEYS[4], 'why:' .. ARGV[1]),
  redis.call('HGET', KEYS[1], 'spec'), redis.call('HGET', KEYS[2], ARGV[1])}
"""
)

# KEYS: open leases. ARGV: chunk, token, lease ms. Returns 1, or 0 when the lease is no longer ours.
_RENEW = (
    NOW_MS
    + """
if redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) ~= ARGV[2] then return 0 end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
return 1
"""
)

_FORGET_CHUNK = """
local function forget(open, leases, chunk)
  redis.call('ZREM', open, chunk)
  redis.call('HDEL', leases, 'token:' .. chunk, 'deaths:' .. chunk, 'owner:' .. chunk, 'why:' .. chunk)
end
"""

# KEYS: meta open leases finished failed results held active, then all keys.
# ARGV: chunk, token, close (0/1), job id, ttl, held member, then (ordinal, failed 0/1, outcome JSON)...
# Returns {written or -1 when fenced off, push_ready 0/1}. Progress clears the chunk of suspicion.
_COMPLETE = (
    NOW_MS
    + _FORGET_CHUNK
    + """
if redis.call('HGET', KEYS[3], 'token:' .. ARGV[1]) ~= ARGV[2] then
  redis.call('SREM', KEYS[7], ARGV[6])
  return {-1, 0}
end
local written = 0
for i = 7, #ARGV, 3 do
  if redis.call('SETBIT', KEYS[4], ARGV[i], 1) == 0 then
    local id = redis.call('XADD', KEYS[6], '*', 'o', ARGV[i], 'c', ARGV[1], 'r', ARGV[i + 2])
    if ARGV[i + 1] == '1' then redis.call('HSET', KEYS[5], ARGV[i], id) end
    written = written + 1
  end
end
redis.call('HSET', KEYS[1], 'updated', now / 1000)
if written > 0 then redis.call('HDEL', KEYS[3], 'deaths:' .. ARGV[1]) end
if ARGV[3] == '1' then
  forget(KEYS[2], KEYS[3], ARGV[1])
  redis.call('SREM', KEYS[7], ARGV[6])
  if redis.call('HEXISTS', KEYS[1], 'sealed') == 1 and redis.call('ZCARD', KEYS[2]) == 0 then
    redis.call('SREM', KEYS[8], ARGV[4])
    for i = 9, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
  end
end
return {written, redis.call('HEXISTS', KEYS[1], 'push_ready')}
"""
)

# KEYS: meta chunks open leases held. ARGV: chunk, token, held member, deaths, why, chunk JSONs...
# Replaces a chunk by others, each as suspect as it was; returns their indices, or nothing when fenced off.
_SPLIT = (
    NOW_MS
    + _FORGET_CHUNK
    + """
redis.call('SREM', KEYS[5], ARGV[3])
if redis.call('HGET', KEYS[4], 'token:' .. ARGV[1]) ~= ARGV[2] then return {} end
forget(KEYS[3], KEYS[4], ARGV[1])
local made = {}
for i = 6, #ARGV do
  local chunk = redis.call('HINCRBY', KEYS[1], 'next_chunk', 1) - 1
  redis.call('HSET', KEYS[2], chunk, ARGV[i])
  redis.call('ZADD', KEYS[3], -now, chunk)
  redis.call('HSET', KEYS[4], 'deaths:' .. chunk, ARGV[4], 'why:' .. chunk, ARGV[5])
  made[#made + 1] = chunk
end
return made
"""
)

# KEYS: open leases held. ARGV: chunk, token, held member. Returns 1 when the chunk is free again.
_RELEASE = (
    NOW_MS
    + """
redis.call('SREM', KEYS[3], ARGV[3])
if redis.call('HGET', KEYS[2], 'token:' .. ARGV[1]) ~= ARGV[2] then return 0 end
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return 0 end
redis.call('HINCRBY', KEYS[2], 'token:' .. ARGV[1], 1)
redis.call('ZADD', KEYS[1], -now, ARGV[1])
return 1
"""
)

# KEYS: open leases. ARGV: chunk, owner, why. Frees the lease of a dead owner; returns 1 when it was that owner's.
_FREE = (
    NOW_MS
    + """
if redis.call('HGET', KEYS[2], 'owner:' .. ARGV[1]) ~= ARGV[2] then return 0 end
local deadline = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not deadline or tonumber(deadline) <= 0 then return 0 end
redis.call('HINCRBY', KEYS[2], 'token:' .. ARGV[1], 1)
redis.call('HINCRBY', KEYS[2], 'deaths:' .. ARGV[1], 1)
redis.call('HSET', KEYS[2], 'why:' .. ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[1], -now, ARGV[1])
return 1
"""
)

# KEYS: open leases. Frees every lease whose deadline has passed; returns the chunks.
_REAP = (
    NOW_MS
    + """
local expired = redis.call('ZRANGEBYSCORE', KEYS[1], '(0', now, 'LIMIT', 0, 1000)
for _, chunk in ipairs(expired) do
  redis.call('HINCRBY', KEYS[2], 'token:' .. chunk, 1)
  redis.call('HINCRBY', KEYS[2], 'deaths:' .. chunk, 1)
  redis.call('HSET', KEYS[2], 'why:' .. chunk, 'its worker fell silent')
  redis.call('ZADD', KEYS[1], -now, chunk)
end
return expired
"""
)

# KEYS: open. ARGV: sent before (Unix ms). Chunks whose message was sent earlier count as sent now; returns them.
_OVERDUE = (
    NOW_MS
    + """
local overdue = redis.call('ZRANGEBYSCORE', KEYS[1], '(-' .. ARGV[1], '(0', 'LIMIT', 0, 1000)
for _, chunk in ipairs(overdue) do redis.call('ZADD', KEYS[1], -now, chunk) end
return overdue
"""
)


class Refusal(Enum):
    """Why a chunk was not leased.

    `GONE`: finished or cancelled. `BUSY`: somebody else is at it. `SUSPECT`: its last worker died; claim it alone.
    """

    GONE = "gone"
    BUSY = "busy"
    SUSPECT = "suspect"


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
        deaths: leases in a row that ended with the death of their worker and no item done.
        why: how the last one died, as far as known.
        spec: what the job asks.
        pairs: the items without an outcome yet, each with its ordinal.
    """

    ref: ChunkRef
    token: int
    deaths: int
    why: str
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
        self._claim, self._renew, self._complete, self._split = map(
            client.register_script, (_CLAIM, _RENEW, _COMPLETE, _SPLIT)
        )
        self._release, self._free, self._reap, self._overdue = map(
            client.register_script, (_RELEASE, _FREE, _REAP, _OVERDUE)
        )

    def claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:
        """Lease a chunk.

        Args:
            ref: the chunk.
            alone: nothing else is being worked on in this process, so a suspect may be leased.

        Raises:
            ConfigError: the job was written by another prelabel version, or its items are not there any more; the
                chunk is free again.
        """
        keys = JobKeys(ref.job_id)
        held = held_key(self._owner)
        reply: Any = self._claim(
            keys=[keys.meta, keys.chunks, keys.open, keys.leases, held, WATERMARKS],
            args=[ref.chunk, self._owner, self._lease_ms, ref.member, int(alone)],
        )
        if reply[0] != b"claimed":
            return Refusal(reply[0].decode())
        _, token, deaths, why, spec, chunk = reply
        try:
            if spec is None or chunk is None:
                raise ConfigError(f"job {ref.job_id} has no chunk {ref.chunk}: was Redis emptied while it ran?")
            parsed = JobSpec.from_json(spec)
            pairs = Chunk.model_validate_json(chunk).pairs()
        except ConfigError:
            self._release(keys=[keys.open, keys.leases, held], args=[ref.chunk, token, ref.member])
            raise
        if token > 1 or deaths:  # some may have an outcome already
            with self._redis.pipeline(transaction=False) as pipe:
                for ordinal, _ in pairs:
                    pipe.getbit(keys.finished, ordinal)
                pairs = [pair for pair, finished in zip(pairs, pipe.execute(), strict=True) if not finished]
        return Lease(ref=ref, token=token, deaths=deaths, why=(why or b"").decode(), spec=parsed, pairs=pairs)

    def split(self, lease: Lease) -> list[ChunkRef]:
        """Replace a suspect chunk by one chunk per item without an outcome; each needs a hint on its queue."""
        keys = JobKeys(lease.ref.job_id)
        alone = [
            Chunk(first=ordinal, items=(item,)).model_dump_json(exclude_defaults=True) for ordinal, item in lease.pairs
        ]
        made: Any = self._split(
            keys=[keys.meta, keys.chunks, keys.open, keys.leases, held_key(self._owner)],
            args=[lease.ref.chunk, lease.token, lease.ref.member, lease.deaths, lease.why, *alone],
        )
        return [ChunkRef(lease.ref.job_id, chunk) for chunk in made]

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

    def free_owner(self, owner: str, why: str) -> list[ChunkRef]:
        """Free every lease of a worker that has died; each chunk returned needs a new hint on its queue.

        Args:
            owner: the worker's name.
            why: how it died, for people.
        """
        freed = []
        for member in self._redis.smembers(held_key(owner)):
            job_id, _, chunk = member.decode().partition("/")
            keys = JobKeys(job_id)
            if self._free(keys=[keys.open, keys.leases], args=[chunk, owner, why]):
                freed.append(ChunkRef(job_id, int(chunk)))
        self._redis.delete(held_key(owner))
        return freed

    def reap(self, job_id: str) -> list[ChunkRef]:
        """Free the job's leases that have run out; each chunk returned needs a new hint on its queue."""
        keys = JobKeys(job_id)
        expired: Any = self._reap(keys=[keys.open, keys.leases])
        return [ChunkRef(job_id, int(chunk)) for chunk in expired]

    def overdue(self, job_id: str, queue: str, margin_s: float) -> list[ChunkRef]:
        """The job's chunks whose message must be lost; they count as sent now, and each needs a new hint.

        A queue is first in, first out: while there are messages on it, lost is what was sent `margin_s` before the
        newest one taken from it. When it is empty, lost is whatever was sent `margin_s` ago.
        """
        if self._redis.llen(queue):
            newest = float(self._redis.hget(WATERMARKS, queue) or 0)
        else:
            seconds, microseconds = self._redis.time()
            newest = seconds * 1000 + microseconds / 1000
        before = int(newest - margin_s * 1000)
        if before <= 0:
            return []
        # Scores are negative: sent earlier than `before` is between -before and 0.
        found: Any = self._overdue(keys=[JobKeys(job_id).open], args=[before])
        return [ChunkRef(job_id, int(chunk)) for chunk in found]

    def active_jobs(self) -> list[str]:
        """Ids of jobs that have not ended."""
        return [job_id.decode() for job_id in self._redis.smembers(ACTIVE)]

    def queue_of(self, job_id: str) -> str | None:
        """The queue the job's chunks go to; None when the job is gone."""
        queue = self._redis.hget(JobKeys(job_id).meta, "queue")
        return queue.decode() if queue else None

    def forget_owner(self) -> None:
        """Sign off: drop what is kept under this worker's name."""
        self._redis.delete(held_key(self._owner))
