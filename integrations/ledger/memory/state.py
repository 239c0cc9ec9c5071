"""What a ledger in memory holds: jobs, their chunks and outcomes, and the messages on the queues."""

from __future__ import annotations

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from ....schemas.chunks import Chunk
from ....schemas.jobs import JobSpec
from ....schemas.predictions import Outcome, Prediction
from ....schemas.progress import Recent, WorkerInfo
from ..leases import ChunkRef
from ..progress import Counts
from ..recent import KEPT

_BEFORE_MORE_CHUNKS: Final = 999_999_999
"""Chunks made of other chunks' items follow: apart from the submitter's, which may still be counting up."""


@dataclass(slots=True, eq=False)
class OpenChunk:
    """A chunk that is not closed.

    Attributes:
        sent_at: Unix seconds its message was sent; while it is postponed, is to be sent.
        leased_until: Unix seconds its lease runs out; None while it waits.
        token: fencing token, as high as the leases given and taken away.
        owner: whose the last lease was.
        deaths: leases in a row that ended with the death of their worker and no item done.
        why: how the last one died.
        postponed: times it was.
        handed: it was handed over to the workers of its model.
    """

    sent_at: float
    leased_until: float | None = None
    token: int = 0
    owner: str = ""
    deaths: int = 0
    why: str = ""
    postponed: int = 0
    handed: bool = False

    def wait(self, sent_at: float) -> None:
        """Be leased no more and wait for a worker, under a message of this time (Unix seconds)."""
        self.leased_until = None
        self.sent_at = sent_at


class Entry(NamedTuple):
    """One outcome in the order they came: its number from 1, the Unix second, and the item with it."""

    number: int
    written_at: float
    prediction: Prediction


@dataclass(slots=True, eq=False)
class StoredJob:
    """One job. Times are Unix seconds.

    Attributes:
        job_id: its id.
        spec: what it asks.
        created_at: when it was submitted.
        touched_at: when its submitter was last heard of.
        submitted: items so far.
        sealed: all of its items are there.
        cancelled: why it was cancelled; empty when it was not.
        push_ready: its submitter lets predictions be pushed.
        started_at: the first lease.
        updated_at: the last outcome.
        base: items finished before a retry.
        expires_at: when it is forgotten; None until it has ended.
        chunks: every chunk by its index.
        open: those that are not closed.
        finished: ordinals of items that have an outcome.
        failed: ordinals of items whose outcome is an error.
        quarantined: those among them that killed their worker again and again.
        pushed: ordinals of items whose answer is on the platform.
        refused: ordinals of items whose answer the platform does not take, with the reason.
        push_problem: why nothing can be pushed at present; empty when all is well.
        entries: outcomes in the order they came.
    """

    job_id: str
    spec: JobSpec
    created_at: float
    touched_at: float
    submitted: int = 0
    sealed: bool = False
    cancelled: str = ""
    push_ready: bool = False
    started_at: float | None = None
    updated_at: float | None = None
    base: int = 0
    expires_at: float | None = None
    chunks: dict[int, Chunk] = field(default_factory=dict)
    open: dict[int, OpenChunk] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    quarantined: set[int] = field(default_factory=set)
    pushed: set[int] = field(default_factory=set)
    refused: dict[int, str] = field(default_factory=dict)
    push_problem: str = ""
    entries: list[Entry] = field(default_factory=list)
    _more_chunks: int = field(default=0, init=False)
    _written: int = field(default=0, init=False)

    @property
    def deadline(self) -> float | None:
        """When it is cancelled, Unix seconds; None is never."""
        return None if self.spec.deadline_s is None else self.created_at + self.spec.deadline_s

    @property
    def ended(self) -> bool:
        """Whether no worker has anything left to do for it."""
        return bool(self.cancelled) or (self.sealed and not self.open)

    def open_more(self, chunk: Chunk, opened: OpenChunk) -> int:
        """Add a chunk made of other chunks' items; its index."""
        self._more_chunks += 1
        index = _BEFORE_MORE_CHUNKS + self._more_chunks
        self.chunks[index] = chunk
        self.open[index] = opened
        return index

    def write(self, chunk: int, ordinal: int, outcome: Outcome, now: float) -> None:
        """Put an item's outcome at the end."""
        self._written += 1
        prediction = Prediction(
            item=self.chunks[chunk].item(ordinal),
            ordinal=ordinal,
            model_version=outcome.model_version,
            vectors=outcome.vectors,
            answers=outcome.answers,
            unanswered=outcome.unanswered,
            error=outcome.error,
        )
        self.entries.append(Entry(self._written, now, prediction))

    def counts(self, now: float) -> Counts:
        """What progress is derived from, in the words of `keys.JobKeys`."""
        values = {
            "created": self.created_at,
            "submitted": self.submitted,
            "deadline": self.deadline,
            "started": self.started_at,
            "updated": self.updated_at,
            "base": self.base,
            "sealed": 1 if self.sealed else None,
            "cancelled": self.cancelled or None,
            "push_error": self.push_problem or None,
        }
        return Counts(
            meta={name: str(value).encode() for name, value in values.items() if value is not None},
            finished=len(self.finished),
            failed=len(self.failed),
            quarantined=len(self.quarantined),
            pushed=len(self.pushed),
            refused=len(self.refused),
            waiting=len(self.open),
            now=now,
        )


class MemoryState:
    """Everything a ledger in memory holds, for its halves. Whoever looks at it or changes it holds `changed`.

    Args:
        clock: Unix seconds; leases, deadlines and expiry run by it.

    Attributes:
        changed: the lock; whoever changes what others may wait for notifies all.
        chunk_messages: queue -> the chunks it has a message of, the oldest first.
        push_messages: the jobs that the push queue has a message of, the oldest first.
        watermarks: queue -> when the newest message taken from it so far was sent, Unix seconds.
        held: owner -> the chunks it has leased.
        push_hinted: jobs that have a message on the push queue.
        workers: the workers at work.
        any_model: they answer for whatever model a job asks.
        recent: the last predictions, the newest first.
    """

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.now = clock
        self.changed = threading.Condition()
        self.chunk_messages: defaultdict[str, deque[ChunkRef]] = defaultdict(deque)
        self.push_messages: deque[str] = deque()
        self.watermarks: dict[str, float] = {}
        self.held: defaultdict[str, set[ChunkRef]] = defaultdict(set)
        self.push_hinted: set[str] = set()
        self.workers: list[WorkerInfo] = []
        self.any_model = False
        self.recent: deque[Recent] = deque(maxlen=KEPT)
        self._jobs: dict[str, StoredJob] = {}

    def add(self, job: StoredJob) -> None:
        """Keep a new job."""
        self._jobs[job.job_id] = job

    def job(self, job_id: str) -> StoredJob | None:
        """A job; None when it never was or has expired."""
        job = self._jobs.get(job_id)
        if job is not None and self._has_expired(job):
            del self._jobs[job_id]
            return None
        return job

    def jobs(self) -> list[StoredJob]:
        """All jobs, the newest first; of one moment the last one added."""
        self._jobs = {job_id: job for job_id, job in self._jobs.items() if not self._has_expired(job)}
        return sorted(self._jobs.values(), key=lambda job: job.created_at)[::-1]

    def active(self) -> list[StoredJob]:
        """The jobs that have not ended."""
        return [job for job in self.jobs() if not job.ended]

    def end_if_finished(self, job: StoredJob, ttl_s: int) -> None:
        """Have a job that has ended expire in so many seconds."""
        if job.ended:
            job.expires_at = self.now() + (job.spec.keep_s or ttl_s)

    def _has_expired(self, job: StoredJob) -> bool:
        return job.expires_at is not None and job.expires_at <= self.now()
