"""The worker's half of the ledger: lease a chunk, write outcomes exactly once, hand chunks back.

A Celery message is only a hint; these keys are the truth (`keys.JobKeys`). A chunk is leased
under a fencing token that grows with every lease: whoever holds an older token can write nothing. An item's
outcome is written by the first who has one; the bit in `finished` and the entry in `results` are set by one
script, so counters derived from them never count an item twice. All deadlines are Redis's own clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

import redis

from ...schemas.chunks import Chunk, SourceChunk
from ...schemas.errors import ConfigError
from ...schemas.items import Item
from ...schemas.jobs import JobSpec
from ...schemas.predictions import QUARANTINED, Outcome
from . import scripts
from .catalogue import CONNECTED, catalogue_key, new_head, outcome_rows
from .clock import redis_time
from .entries import ranges
from .keys import ACTIVE, MODEL_QUEUES, WATERMARKS, JobKeys, held_key
from .packing import pack
from .source_scripts import RESOLVE
from .sources import resolved
from .specs import parsed_spec

_LONGEST_BEAT_MS = 8_000
"""No worker renews its leases less often, whatever its settings."""


class Refusal(Enum):
    """Why a chunk was not leased.

    `GONE`: finished, cancelled or past the job's deadline. `BUSY`: somebody else is at it, or it is postponed.
    `SUSPECT`: its last worker died; claim it alone. `UNREADABLE`: for those who catch `claim`'s ConfigError.
    """

    GONE = "gone"
    BUSY = "busy"
    SUSPECT = "suspect"
    UNREADABLE = "unreadable"


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
        postponed: times the chunk was postponed because its images could not be had for now.
        why: how the last one died, as far as known.
        spec: what the job asks.
        spec_json: the same as it stands in the ledger; outcomes are packed against it.
        pairs: the items without an outcome yet, each with its ordinal.
        problem: why none of the items can be read; `pairs` are then those whose ordinal can be, with stand-ins for
            items. Empty when all is well.
    """

    ref: ChunkRef
    token: int
    deaths: int
    postponed: int
    why: str
    spec: JobSpec
    spec_json: bytes
    pairs: Sequence[tuple[int, Item]]
    problem: str = ""


class Answered(NamedTuple):
    """Items of a chunk that were answered together, `RECORD_ROWS` of them at most.

    Attributes:
        ordinals: theirs.
        record: of their answers, as `columns.pack` made it.
        rows: of each of them, for the catalogue of the project they are for (`catalogue.record_rows`); none where they
            are for none.
    """

    ordinals: Sequence[int]
    record: bytes
    rows: Sequence[bytes] = ()


class Written(NamedTuple):
    """What became of a write.

    Attributes:
        held: False when the lease had been taken over: nothing was written.
        push_ready: finished predictions of this job may be pushed now.
        ordinals: the items whose outcome was written now; the others had one already.
    """

    held: bool
    push_ready: bool
    ordinals: frozenset[int] = frozenset()


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
            client.register_script, (scripts.CLAIM, scripts.RENEW, scripts.COMPLETE, scripts.SPLIT)
        )
        self._resolve, self._hand_over = map(client.register_script, (RESOLVE, scripts.HAND_OVER))
        self._release, self._free, self._reap, self._overdue = map(
            client.register_script, (scripts.RELEASE, scripts.FREE, scripts.REAP, scripts.OVERDUE)
        )

    def claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:
        """Lease a chunk.

        Args:
            ref: the chunk.
            alone: nothing else is being worked on in this process, so a suspect may be leased.

        Raises:
            ConfigError: the job was written by another prelabel version, or is not there any more; the chunk is free
                again.
            RedisError: Redis does not answer, or refuses; the chunk is free again where Redis can be told.
        """
        keys = JobKeys(ref.job_id)
        held = held_key(self._owner)
        reply: Any = self._claim(
            keys=[keys.meta, keys.chunks, keys.open, keys.leases, held, WATERMARKS],
            args=[ref.chunk, self._owner, self._lease_ms, ref.member, int(alone)],
        )
        if reply[0] != b"claimed":
            return Refusal(reply[0].decode())
        _, token, deaths, postponed, why, spec, chunk = reply
        try:
            if spec is None:
                raise ConfigError(f"job {ref.job_id} is not there any more: was Redis emptied while it ran?")
            parsed = parsed_spec(spec)
            chunk = self._with_its_items(ref, token, chunk, parsed.model)
        except Exception:  # Redis may refuse what it is asked here: that is nobody's death
            with suppress(redis.RedisError):
                self._release(keys=[keys.open, keys.leases, held], args=[ref.chunk, token, ref.member, 0])
            raise
        pairs, problem = _items_of(chunk)
        if token > 1 or deaths:  # some may have an outcome already
            with self._redis.pipeline(transaction=False) as pipe:
                for ordinal, _ in pairs:
                    pipe.getbit(keys.finished, ordinal)
                pairs = [pair for pair, finished in zip(pairs, pipe.execute(), strict=True) if not finished]
        return Lease(
            ref=ref,
            token=token,
            deaths=deaths,
            postponed=postponed,
            why=(why or b"").decode(),
            spec=parsed,
            spec_json=spec,
            pairs=pairs,
            problem=problem,
        )

    def _with_its_items(self, ref: ChunkRef, token: int, chunk: bytes | None, model: str | None) -> bytes | None:
        """The chunk's JSON; of one that only refers to its items the chunk itself, which takes its place.

        Raises:
            WireVersionError: another release wrote what it refers to.
        """
        referring = SourceChunk.find(chunk) if chunk is not None else None
        if referring is None:
            return chunk
        text = resolved(self._redis, referring, model)
        keys = JobKeys(ref.job_id)
        self._resolve(keys=[keys.chunks, keys.leases], args=[ref.chunk, token, text])
        return text.encode()

    def split(self, lease: Lease) -> list[ChunkRef]:
        """Replace a suspect chunk by one chunk per item without an outcome; each needs a hint on its queue."""
        keys = JobKeys(lease.ref.job_id)
        alone = [Chunk(first=ordinal, items=(item,)).to_json() for ordinal, item in lease.pairs]
        made: Any = self._split(
            keys=[keys.meta, keys.chunks, keys.open, keys.leases, held_key(self._owner)],
            args=[lease.ref.chunk, lease.token, lease.ref.member, lease.deaths, lease.why, *alone],
        )
        return [ChunkRef(lease.ref.job_id, chunk) for chunk in made]

    def renew(self, lease: Lease) -> bool:
        """Start the lease anew. False: it was taken over, or the job was cancelled."""
        keys = JobKeys(lease.ref.job_id)
        return bool(self._renew(keys=[keys.open, keys.leases], args=[lease.ref.chunk, lease.token, self._lease_ms]))

    def complete(
        self,
        lease: Lease,
        outcomes: Sequence[tuple[int, Outcome]],
        *,
        close: bool,
        answered: Sequence[Answered] = (),
    ) -> Written:
        """Write outcomes; an item that has one already keeps it.

        Args:
            lease: the lease the outcomes were made under.
            outcomes: ordinal and outcome, of single items.
            close: these were the chunk's last items.
            answered: items that were answered together.
        """
        keys = JobKeys(lease.ref.job_id)
        project = lease.spec.label_studio_project
        items = {} if project is None else dict(lease.pairs)
        flat: list[Any] = [len(outcomes)]
        for ordinal, outcome in outcomes:
            rows = outcome_rows(items[ordinal], outcome) if ordinal in items else b""
            flat += [ordinal, _verdict(outcome), pack(outcome, lease.spec_json), rows]
        for ordinals, record, rows_of in answered:
            flat += [len(ordinals), ranges(ordinals), record, int(bool(rows_of)), *ordinals, *rows_of]
        held, push_ready, *written = self._complete(
            keys=[
                keys.meta,
                keys.open,
                keys.leases,
                keys.finished,
                keys.failed,
                keys.quarantined,
                keys.results,
                held_key(self._owner),
                ACTIVE,
                catalogue_key(project or 0),
                CONNECTED,
                *keys.all(),
            ],
            args=[
                lease.ref.chunk,
                lease.token,
                int(close),
                lease.ref.job_id,
                self._ttl_s,
                lease.ref.member,
                project or 0,
                b"" if project is None else new_head(),
                *flat,
            ],
        )
        push = lease.spec.push
        return Written(
            held=held >= 0,
            push_ready=push is not None and (not push.hold or bool(push_ready)),
            ordinals=frozenset(written),
        )

    def release(self, lease: Lease, pause_s: float = 0.0) -> bool:
        """Give a chunk back.

        Args:
            lease: the chunk.
            pause_s: seconds it is postponed for, ten minutes at most; a sweep sends its hint then.

        Returns:
            Whether it is free; without a pause it needs a new hint on its queue.
        """
        keys = JobKeys(lease.ref.job_id)
        pause_ms = min(int(pause_s * 1000), scripts.LONGEST_PAUSE_MS)
        return bool(
            self._release(
                keys=[keys.open, keys.leases, held_key(self._owner)],
                args=[lease.ref.chunk, lease.token, lease.ref.member, pause_ms],
            )
        )

    def hand_over(self, lease: Lease, queue: str) -> bool:
        """Give back a chunk that this worker's model cannot answer, or is not to.

        Args:
            lease: the chunk.
            queue: where the job's chunks are to wait from now on.

        Returns:
            Whether it needs a hint on that queue: the first time, if it is still ours.
        """
        keys = JobKeys(lease.ref.job_id)
        return bool(
            self._hand_over(
                keys=[keys.meta, keys.open, keys.leases, held_key(self._owner), MODEL_QUEUES],
                args=[lease.ref.chunk, lease.token, lease.ref.member, queue],
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
        asked_ms = int(redis_time(self._redis) * 1000)
        expired: Any = self._reap(keys=[keys.open, keys.leases], args=[asked_ms, max(self._lease_ms, _LONGEST_BEAT_MS)])
        return [ChunkRef(job_id, int(chunk)) for chunk in expired]

    def overdue(self, job_id: str, queue: str, margin_s: float) -> list[ChunkRef]:
        """The job's chunks that wait without a message: it was lost, or they were postponed until now.

        They count as sent now, and each needs a new hint. A message counts as lost `margin_s` after later ones were
        taken from its queue or, when the queue is empty, `margin_s` after it was sent.
        """
        numbers: Any = self._overdue(
            keys=[JobKeys(job_id).open, WATERMARKS, queue],
            args=[queue, int(margin_s * 1000), scripts.LONGEST_PAUSE_MS],
        )
        return [ChunkRef(job_id, int(chunk)) for chunk in numbers]

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


def _items_of(chunk: bytes | None) -> tuple[list[tuple[int, Item]], str]:
    """A chunk's items with their ordinals, and why they cannot be read: see `Lease`."""
    if chunk is None:
        return [], "it is not there any more: was Redis emptied while it ran?"
    try:
        return Chunk.from_json(chunk).pairs(), ""
    except ConfigError as error:
        pairs = [(ordinal, Item.unreadable(ordinal)) for ordinal in Chunk.ordinals_in(chunk)]
        return pairs, f"{error}: run the same prelabel release on clients, adapter and workers"


def _verdict(outcome: Outcome) -> int:
    """How the scripts are told: 0 answered, 1 failed, 2 quarantined."""
    if outcome.error is None:
        return 0
    return 2 if outcome.error.kind == QUARANTINED else 1
