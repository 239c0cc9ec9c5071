"""The producer's half of the ledger: create, seal, watch, read, cancel and retry jobs.

The worker's half (claim, complete, release) is `prelabel.worker.ledger`; both work on the keys described in
`prelabel.schemas.names.JobKeys`. Whatever must not be torn apart is one Lua script.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import redis

from ..schemas.errors import ConfigError
from ..schemas.items import Chunk
from ..schemas.jobs import JobSpec, JobState, Progress, WorkerInfo
from ..schemas.names import ACTIVE, JOBS, PUSH_PENDING, QUEUES, WORKERS, JobKeys
from ..schemas.predictions import Outcome, Prediction

WORKER_SILENT_S = 20.0
"""Seconds without a heartbeat after which a worker no longer counts as alive."""

# KEYS: meta open active, then all keys. ARGV: job id, ttl. Ends the job if everything is finished.
_SEAL = """
redis.call('HSET', KEYS[1], 'sealed', 1)
if redis.call('ZCARD', KEYS[2]) == 0 then
  redis.call('SREM', KEYS[3], ARGV[1])
  for i = 4, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
end
"""

# KEYS: meta open leases active, then all keys. ARGV: job id, ttl. Returns 0 if the job had ended already.
_CANCEL = """
if redis.call('HEXISTS', KEYS[1], 'spec') == 0 or redis.call('HEXISTS', KEYS[1], 'cancelled') == 1 then return 0 end
if redis.call('HEXISTS', KEYS[1], 'sealed') == 1 and redis.call('ZCARD', KEYS[2]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'cancelled', 1)
redis.call('DEL', KEYS[2], KEYS[3])
redis.call('SREM', KEYS[4], ARGV[1])
for i = 5, #KEYS do redis.call('EXPIRE', KEYS[i], ARGV[2]) end
return 1
"""

# KEYS: meta chunks open finished failed results active, then all keys. ARGV: job id, chunk JSON, ordinals...
# Takes failed items back to pending and opens one chunk with them; returns its index, or -1 when the items are
# no longer failed (somebody else retried them).
_REOPEN = """
for i = 3, #ARGV do
  if redis.call('HEXISTS', KEYS[5], ARGV[i]) == 0 then return -1 end
end
for i = 3, #ARGV do
  redis.call('XDEL', KEYS[6], redis.call('HGET', KEYS[5], ARGV[i]))
  redis.call('HDEL', KEYS[5], ARGV[i])
  redis.call('SETBIT', KEYS[4], ARGV[i], 0)
end
local chunk = redis.call('HINCRBY', KEYS[1], 'next_chunk', 1) - 1
redis.call('HSET', KEYS[2], chunk, ARGV[2])
redis.call('ZADD', KEYS[3], 0, chunk)
redis.call('SADD', KEYS[7], ARGV[1])
for i = 8, #KEYS do redis.call('PERSIST', KEYS[i]) end
return chunk
"""

# KEYS: meta finished pushed. ARGV: delivered ordinals. Returns 1 when there is something to push now.
_RELEASE_PUSH = """
redis.call('HSET', KEYS[1], 'push_ready', 1)
for i = 1, #ARGV do redis.call('SETBIT', KEYS[3], ARGV[i], 1) end
return redis.call('BITCOUNT', KEYS[2]) > redis.call('BITCOUNT', KEYS[3]) and 1 or 0
"""


class JobStore:
    """Jobs in Redis as producers see them. Thread-safe."""

    def __init__(self, client: redis.Redis, ttl_s: int) -> None:
        self._redis: Any = client  # redis-py types every reply as a union of all replies
        self._ttl_s = ttl_s
        self._seal = client.register_script(_SEAL)
        self._cancel = client.register_script(_CANCEL)
        self._reopen = client.register_script(_REOPEN)
        self._release_push = client.register_script(_RELEASE_PUSH)

    def create(self, job_id: str, spec: JobSpec) -> None:
        """Write a job that has no items yet."""
        now = time.time()
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(JobKeys(job_id).meta, mapping={"spec": spec.to_json(), "created": now, "submitted": 0})
            pipe.zadd(JOBS, {job_id: now})
            pipe.sadd(ACTIVE, job_id)
            if spec.push:
                pipe.sadd(PUSH_PENDING, job_id)
            pipe.execute()

    def add_chunks(self, job_id: str, first: int, chunks: Sequence[Chunk]) -> None:
        """Append chunks with the indices `first`, `first + 1`, …; one round trip."""
        keys = JobKeys(job_id)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hset(
                keys.chunks,
                mapping={
                    str(index): chunk.model_dump_json(exclude_defaults=True)
                    for index, chunk in enumerate(chunks, first)
                },
            )
            pipe.zadd(keys.open, {str(index): 0 for index in range(first, first + len(chunks))})
            pipe.hincrby(keys.meta, "submitted", sum(len(chunk.items) for chunk in chunks))
            pipe.hset(keys.meta, "next_chunk", str(first + len(chunks)))
            pipe.execute()

    def seal(self, job_id: str) -> None:
        """Say that no more items come: from now on the job ends when its last item does."""
        keys = JobKeys(job_id)
        self._seal(keys=[keys.meta, keys.open, ACTIVE, *keys.all()], args=[job_id, self._ttl_s])

    def cancel(self, job_id: str) -> bool:
        """Stop a job; outcomes so far stay. Returns False when it had ended already."""
        keys = JobKeys(job_id)
        done = self._cancel(keys=[keys.meta, keys.open, keys.leases, ACTIVE, *keys.all()], args=[job_id, self._ttl_s])
        return bool(done)

    def spec(self, job_id: str) -> JobSpec:
        """The job's spec.

        Raises:
            ConfigError: no such job (never was, or expired).
        """
        return _parse_spec(self._existing(self._redis.hget(JobKeys(job_id).meta, "spec"), job_id))

    def progress(self, job_id: str) -> Progress:
        """The job's counts now.

        Raises:
            ConfigError: no such job.
        """
        keys = JobKeys(job_id)
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.hgetall(keys.meta)
            pipe.bitcount(keys.finished)
            pipe.hlen(keys.failed)
            pipe.bitcount(keys.pushed)
            meta, finished, failed, pushed = pipe.execute()
        self._existing(meta.get(b"spec"), job_id)
        return _progress(job_id, {key.decode(): value for key, value in meta.items()}, finished, failed, pushed)

    def jobs(self, limit: int) -> list[Progress]:
        """The newest jobs first; forgets ids whose job has expired."""
        found = []
        for raw in self._redis.zrevrange(JOBS, 0, limit - 1):
            try:
                found.append(self.progress(raw.decode()))
            except ConfigError:
                self._redis.zrem(JOBS, raw)
        return found

    def results(self, job_id: str, after: str, block_ms: int | None) -> tuple[str, list[Prediction]]:
        """Outcomes that came after the stream id `after` ("0" is the start), in order.

        Args:
            job_id: the job.
            after: the last stream id seen.
            block_ms: wait this long for the first one when there is none; None does not wait.

        Returns:
            The new last id, and the predictions.
        """
        keys = JobKeys(job_id)
        reply = self._redis.xread({keys.results: after}, count=256, block=block_ms)
        if not reply:
            return after, []
        entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        wanted = list({fields[b"c"] for _, fields in entries})
        chunks = dict(zip(wanted, self._redis.hmget(keys.chunks, wanted), strict=True))
        return entries[-1][0].decode(), [_join(fields, chunks[fields[b"c"]]) for _, fields in entries]

    def failures(self, job_id: str) -> Iterator[Prediction]:
        """The predictions of failed items."""
        keys = JobKeys(job_id)
        for _, entry_id in self._redis.hscan_iter(keys.failed):
            for _, fields in self._redis.xrange(keys.results, entry_id, entry_id):
                yield _join(fields, self._redis.hget(keys.chunks, fields[b"c"]))

    def reopen(self, job_id: str, failed: Sequence[Prediction]) -> int | None:
        """Take failed items back to pending, as one chunk.

        Returns:
            The chunk's index; None when somebody else retried one of them first.
        """
        keys = JobKeys(job_id)
        ordinals = tuple(prediction.ordinal for prediction in failed)
        chunk = Chunk(ordinals=ordinals, items=tuple(prediction.item for prediction in failed))
        index: int = self._reopen(
            keys=[keys.meta, keys.chunks, keys.open, keys.finished, keys.failed, keys.results, ACTIVE, *keys.all()],
            args=[job_id, chunk.model_dump_json(exclude_defaults=True), *ordinals],
        )
        return None if index < 0 else index

    def release_push(self, job_id: str, delivered: Iterable[int]) -> bool:
        """Mark items as delivered and let the others be pushed.

        Returns:
            Whether some finished item waits to be pushed now.
        """
        keys = JobKeys(job_id)
        return bool(self._release_push(keys=[keys.meta, keys.finished, keys.pushed], args=list(delivered)))

    def queues(self) -> dict[str, int]:
        """Messages waiting on each queue."""
        with self._redis.pipeline(transaction=False) as pipe:
            for queue in QUEUES:
                pipe.llen(queue)
            return dict(zip(QUEUES, pipe.execute(), strict=True))

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s."""
        since = time.time() - WORKER_SILENT_S
        found = self._redis.zrangebyscore(WORKERS, since, "+inf", withscores=True)
        return [WorkerInfo.model_validate_json(raw).model_copy(update={"beat": beat}) for raw, beat in found]

    @staticmethod
    def _existing(value: Any, job_id: str) -> Any:
        if value is None:
            raise ConfigError(f"no job {job_id!r}: it never was, or it has expired (see `prelabel jobs`)")
        return value


@lru_cache(maxsize=64)
def _parse_spec(raw: bytes) -> JobSpec:
    return JobSpec.from_json(raw)


@lru_cache(maxsize=256)
def _parse_chunk(raw: bytes) -> Chunk:
    return Chunk.model_validate_json(raw)


def _join(fields: dict[bytes, bytes], chunk: bytes) -> Prediction:
    ordinal = int(fields[b"o"])
    outcome = Outcome.from_json(fields[b"r"])
    return Prediction(
        item=_parse_chunk(chunk).item(ordinal),
        ordinal=ordinal,
        model_version=outcome.model_version,
        answers=outcome.answers,
        error=outcome.error,
    )


def _progress(job_id: str, meta: dict[str, bytes], finished: int, failed: int, pushed: int) -> Progress:
    spec = _parse_spec(meta["spec"])
    total = int(meta["submitted"])
    if "cancelled" in meta:
        state = JobState.CANCELLED
    elif "sealed" in meta and finished >= total:
        state = JobState.DONE
    elif "started" in meta:
        state = JobState.RUNNING
    else:
        state = JobState.QUEUED if "sealed" in meta else JobState.SUBMITTING
    rate = None
    if "updated" in meta and finished > 1:
        elapsed = float(meta["updated"]) - float(meta["started"])
        rate = finished / elapsed if elapsed > 0 else None
    return Progress(
        job_id=job_id,
        name=spec.name,
        priority=spec.priority,
        state=state,
        total=total,
        done=finished - failed,
        failed=failed,
        pushed=pushed,
        created_at=float(meta["created"]),
        rate=rate,
        eta_s=(total - finished) / rate if rate and not state.ended else None,
    )
