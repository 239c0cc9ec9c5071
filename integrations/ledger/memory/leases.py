"""The worker's half of a ledger in memory: it does what `leases.Ledger` does in Redis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from ....schemas.chunks import Chunk
from ....schemas.predictions import QUARANTINED, Outcome
from ..answers import JobLabels, Outcomes
from ..columns import unpack
from ..leases import Answered, ChunkRef, Lease, Refusal, Written
from ..scripts import LONGEST_PAUSE_MS
from .state import MemoryState, OpenChunk, StoredJob

_LONGEST_PAUSE_S: Final = LONGEST_PAUSE_MS / 1000


class MemoryLedger:
    """Leases and outcomes for one worker. Thread-safe.

    Args:
        state: the ledger.
        owner: this worker's name.
        lease_s: seconds a lease lasts unless renewed.
        ttl_s: seconds a finished job is kept.
    """

    def __init__(self, state: MemoryState, *, owner: str, lease_s: float, ttl_s: int) -> None:
        self._state = state
        self._owner = owner
        self._lease_s = lease_s
        self._ttl_s = ttl_s

    def claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:
        """Lease a chunk; a suspect one only when it is worked on `alone`."""
        with self._state.changed:
            now = self._state.now()
            job = self._state.job(ref.job_id)
            chunk = job.open.get(ref.chunk) if job else None
            if job is None or chunk is None or (job.deadline is not None and job.deadline <= now):
                return Refusal.GONE
            if chunk.leased_until is None:
                is_busy = chunk.postponed > 0 and chunk.sent_at > now
            else:
                is_busy = chunk.leased_until > now
            if is_busy:
                return Refusal.BUSY
            has_run_out = chunk.leased_until is not None
            chunk.deaths += has_run_out
            if chunk.deaths and not alone:
                if has_run_out:
                    chunk.wait(now)
                return Refusal.SUSPECT
            if not has_run_out:
                queue = job.spec.queue
                self._state.watermarks[queue] = max(self._state.watermarks.get(queue, 0.0), chunk.sent_at)
            return self._lease(ref, job, chunk, now)

    def _lease(self, ref: ChunkRef, job: StoredJob, chunk: OpenChunk, now: float) -> Lease:
        chunk.token += 1
        chunk.owner = self._owner
        chunk.leased_until = now + self._lease_s
        self._state.held[self._owner].add(ref)
        if job.started_at is None:
            job.started_at = now
        return Lease(
            ref=ref,
            token=chunk.token,
            deaths=chunk.deaths,
            postponed=chunk.postponed,
            why=chunk.why,
            spec=job.spec,
            spec_json=job.spec.to_json().encode(),
            pairs=[pair for pair in job.chunks[ref.chunk].pairs() if pair[0] not in job.finished],
        )

    def split(self, lease: Lease) -> list[ChunkRef]:
        """Replace a suspect chunk by one chunk per item without an outcome; each needs a hint on its queue."""
        with self._state.changed:
            self._let_go(lease)
            job, chunk = self._held(lease)
            if job is None or chunk is None:
                return []
            del job.open[lease.ref.chunk]
            now = self._state.now()
            return [
                ChunkRef(
                    job.job_id,
                    job.open_more(
                        Chunk(first=ordinal, items=(item,)), OpenChunk(now, deaths=lease.deaths, why=lease.why)
                    ),
                )
                for ordinal, item in lease.pairs
            ]

    def renew(self, lease: Lease) -> bool:
        """Start the lease anew. False: it was taken over, or the job was cancelled."""
        with self._state.changed:
            _, chunk = self._held(lease)
            if chunk is not None:
                chunk.leased_until = self._state.now() + self._lease_s
            return chunk is not None

    def complete(
        self,
        lease: Lease,
        outcomes: Sequence[tuple[int, Outcome]],
        *,
        close: bool,
        answered: Sequence[Answered] = (),
    ) -> Written:
        """Write outcomes by ordinal, the chunk's last ones with `close`; an item that has one already keeps it."""
        outcomes = [*outcomes, *_outcomes(lease, answered)]
        with self._state.changed:
            job, chunk = self._held(lease)
            push = lease.spec.push
            if job is None or chunk is None:
                self._let_go(lease)
                return Written(held=False, push_ready=push is not None and not push.hold)
            job.updated_at = self._state.now()
            written = [ordinal for ordinal, outcome in outcomes if self._write(job, lease, ordinal, outcome)]
            if written:
                chunk.deaths = 0
            if close:
                self._let_go(lease)
                del job.open[lease.ref.chunk]
                self._state.end_if_finished(job, self._ttl_s)
            self._state.changed.notify_all()
            return Written(
                held=True,
                push_ready=push is not None and (not push.hold or job.push_ready),
                ordinals=frozenset(written),
            )

    def _write(self, job: StoredJob, lease: Lease, ordinal: int, outcome: Outcome) -> bool:
        """Write an item's outcome, unless it has one: whether it had none."""
        if ordinal in job.finished:
            return False
        job.finished.add(ordinal)
        job.write(lease.ref.chunk, ordinal, outcome, self._state.now())
        if outcome.error is not None:
            job.failed.add(ordinal)
            if outcome.error.kind == QUARANTINED:
                job.quarantined.add(ordinal)
        return True

    def release(self, lease: Lease, pause_s: float = 0.0) -> bool:
        """Give a chunk back, postponed by `pause_s` (ten minutes at most). Returns whether it is free."""
        with self._state.changed:
            self._let_go(lease)
            _, chunk = self._held(lease)
            if chunk is None:
                return False
            chunk.wait(self._state.now() + min(pause_s, _LONGEST_PAUSE_S))
            chunk.token += 1
            chunk.postponed += pause_s > 0
            return True

    def hand_over(self, lease: Lease, queue: str) -> bool:  # noqa: ARG002  # there are no queues in memory
        """Give back a chunk that this worker's model is not to answer; whether the queue needs a hint."""
        with self._state.changed:
            self._let_go(lease)
            job, chunk = self._held(lease)
            if job is None or chunk is None:
                return False
            chunk.wait(self._state.now())
            chunk.token += 1
            if job.updated_at is None:
                job.started_at = None
            is_first, chunk.handed = not chunk.handed, True
            return is_first

    def free_owner(self, owner: str, why: str) -> list[ChunkRef]:
        """Free every lease of a worker that has died; each chunk returned needs a new hint on its queue."""
        with self._state.changed:
            freed = []
            for ref in self._state.held.pop(owner, set()):
                job = self._state.job(ref.job_id)
                chunk = job.open.get(ref.chunk) if job else None
                if chunk is not None and chunk.owner == owner and chunk.leased_until is not None:
                    self._bury(chunk, why)
                    freed.append(ref)
            return freed

    def reap(self, job_id: str) -> list[ChunkRef]:
        """Free the job's leases that have run out; each chunk returned needs a new hint on its queue."""
        with self._state.changed:
            now = self._state.now()
            job = self._state.job(job_id)
            freed = []
            for index, chunk in job.open.items() if job else ():
                if chunk.leased_until is not None and chunk.leased_until <= now:
                    self._bury(chunk, "its worker fell silent")
                    freed.append(ChunkRef(job_id, index))
            return freed

    def _bury(self, chunk: OpenChunk, why: str) -> None:
        """Free a lease whose worker died."""
        chunk.wait(self._state.now())
        chunk.token += 1
        chunk.deaths += 1
        chunk.why = why

    def overdue(self, job_id: str, queue: str, margin_s: float) -> list[ChunkRef]:
        """The job's chunks that wait without a message; they count as sent now, and each needs a new hint."""
        with self._state.changed:
            now = self._state.now()
            newest = self._state.watermarks.get(queue, 0.0) if self._state.chunk_messages.get(queue) else now
            job = self._state.job(job_id)
            overdue = []
            for index, chunk in job.open.items() if job else ():
                if chunk.leased_until is None and chunk.sent_at < newest - margin_s:
                    chunk.wait(now)
                    overdue.append(ChunkRef(job_id, index))
            return overdue

    def active_jobs(self) -> list[str]:
        """Ids of jobs that have not ended."""
        with self._state.changed:
            return [job.job_id for job in self._state.active()]

    def queue_of(self, job_id: str) -> str | None:
        """The queue the job's chunks go to; None when the job is gone."""
        with self._state.changed:
            job = self._state.job(job_id)
            return job.spec.queue if job else None

    def forget_owner(self) -> None:
        """Sign off: drop what is kept under this worker's name."""
        with self._state.changed:
            self._state.held.pop(self._owner, None)

    def _held(self, lease: Lease) -> tuple[StoredJob | None, OpenChunk | None]:
        """The lease's job, and its chunk if the lease still counts."""
        job = self._state.job(lease.ref.job_id)
        chunk = job.open.get(lease.ref.chunk) if job else None
        return job, chunk if chunk is not None and chunk.token == lease.token else None

    def _let_go(self, lease: Lease) -> None:
        self._state.held[self._owner].discard(lease.ref)


def _outcomes(lease: Lease, answered: Sequence[Answered]) -> Iterator[tuple[int, Outcome]]:
    """What records hold, by ordinal."""
    items, labels = dict(lease.pairs), JobLabels(lease.spec.controls)
    for ordinals, record, _ in answered:
        held = Outcomes(unpack(record), labels)
        for row, ordinal in enumerate(ordinals):
            yield ordinal, held.outcome(row, items[ordinal])
