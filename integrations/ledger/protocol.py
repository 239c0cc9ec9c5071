"""What a ledger does, whatever it is kept in: the producer's half, the worker's half, and what there is of pushes.

`jobs.JobStore`, `leases.Ledger`, `push_hints.PushHints` and `pushes.Pushes` keep it in Redis; `memory` keeps it
in this process, for tests. One suite (`tests/unit/integrations/ledger/contract`) holds both to the same behaviour.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from typing import Protocol

from ...schemas.chunks import Chunk
from ...schemas.items import Item
from ...schemas.jobs import JobSpec
from ...schemas.predictions import Outcome, Prediction
from ...schemas.progress import JobState, Progress, QueueState, Recent, WorkerInfo
from . import index as job_index
from .entries import AT_ONCE, Block
from .leases import Answered, ChunkRef, Lease, Refusal, Written
from .refusals import Refused
from .sources import Added


class Jobs(Protocol):
    """The producer's half: create, seal, watch, read, cancel and retry jobs. Thread-safe.

    Of what takes a job's id `spec`, `progress`, `state` and `reopen` raise `NoSuchJob` when the job never was or has
    expired; the other methods then find nothing and change nothing.
    """

    def create(self, job_id: str, spec: JobSpec) -> None:
        """Write a job that has no items yet; a second time changes nothing."""
        ...

    def add_chunks(self, job_id: str, first: int, chunks: Sequence[Chunk]) -> bool:
        """Append chunks with the indices `first`, `first + 1`, …; False when the job was cancelled meanwhile."""
        ...

    def add_from(self, job_id: str, source_id: str, first: int) -> Added:
        """Append, as chunks with the indices `first`, `first + 1`, …, more of the items that another job has answered.

        Their images have the keys of their vectors by the time a worker has them. A call that is repeated because its
        reply was lost adds nothing twice.
        """
        ...

    def seal(self, job_id: str) -> None:
        """Say that no more items come: from now on the job ends when its last item does."""
        ...

    def cancel(self, job_id: str, why: str = "by request") -> bool:
        """Stop a job; outcomes so far stay. Returns False when it had ended already."""
        ...

    def sealed(self, job_id: str) -> bool:
        """Whether all of the job's items are there."""
        ...

    def expired(self, silent_s: float) -> list[tuple[str, str]]:
        """Active jobs that are past their deadline or had no new item for `silent_s`, each with the reason."""
        ...

    def spec(self, job_id: str) -> JobSpec:
        """What the job asks."""
        ...

    def progress(self, job_id: str) -> Progress:
        """The job's counts now."""
        ...

    def state(self, job_id: str) -> JobState:
        """Where the job stands."""
        ...

    def specs(self, job_ids: Sequence[str]) -> dict[str, JobSpec]:
        """Jobs' specs by id, in the same order; without jobs that are gone."""
        ...

    def page(self, after: job_index.Place = job_index.NEWEST) -> tuple[list[str], job_index.Place]:
        """The ids of the jobs that follow a place, the newest first, and where they end; no ids at the end."""
        ...

    def jobs(self, limit: int) -> list[Progress]:
        """The newest jobs first."""
        ...

    def forget_expired(self, cursor: int) -> int:
        """Forget ids of expired jobs, some at a time; takes 0 or the last reply, returns 0 after a whole round."""
        ...

    def results(
        self, job_id: str, after: str, block_ms: int | None, at_once: int = AT_ONCE, *, scores: bool = True
    ) -> tuple[str, Sequence[Prediction]]:
        """Outcomes that came after the id `after` ("0" is the start), in order, and the id of the last of them.

        `at_once` of them at most, about; without `scores` some have none, which is faster. When there is no outcome,
        waits up to `block_ms` for the first; None does not wait.
        """
        ...

    def blocks(
        self, job_id: str, after: str, block_ms: int | None = None, at_once: int = AT_ONCE
    ) -> tuple[str, Sequence[Block]]:
        """What `results` gives as it stands in the ledger, without the items; the ids are the same."""
        ...

    def answered_items(self, job_id: str, after: str, model: str) -> tuple[str, list[Item]]:
        """Items of answers that came after the id `after`, with the keys of their vectors, and the id of the last.

        `model` is `<model>@<revision8>`: what another one has answered comes without the key.
        """
        ...

    def item_ids(self, job_id: str) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
        """Ordinals of items and their ids, some at a time, perhaps again; without those that cannot be read."""
        ...

    def failures(self, job_id: str) -> Iterator[Prediction]:
        """The predictions of failed items, in no order."""
        ...

    def refusals(self, job_id: str, cursor: int) -> tuple[int, list[Refused]]:
        """A page of what the platform refused, in no order, an item perhaps twice; takes 0 or the last reply.

        Returns where the next call goes on, 0 after the last page, and the items of this page.
        """
        ...

    def items(self, job_id: str, ordinals: Sequence[int]) -> list[Item]:
        """The items with these ordinals, few of them; what stands for those that cannot be read."""
        ...

    def reopen(self, job_id: str, failed: Sequence[Prediction]) -> tuple[int, int] | None:
        """Take failed items back to pending, as one chunk; its index, and how many are pending again, or None."""
        ...

    def release_push(self, job_id: str, delivered: Iterable[int]) -> bool:
        """Mark items as delivered and let the others be pushed; whether some finished item waits for that now."""
        ...

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s."""
        ...

    def served(self) -> dict[str, bool] | None:
        """The models of live workers, each with whether one consumes its queue: those of earlier releases do not.

        None where whatever a job asks for is answered.
        """
        ...

    def active(self) -> list[Progress]:
        """The progress of jobs that have not ended, in no order, the first thousand found."""
        ...

    def forget_queues(self, in_use: Set[str]) -> list[str]:
        """Forget the queues of models that no job came to for a day, but for those `in_use`; which they were."""
        ...

    def queue_lengths(self) -> dict[str, int]:
        """Messages waiting on each queue, by name."""
        ...

    def queue_states(self) -> dict[str, QueueState]:
        """Length of each queue, and how long its oldest work has waited."""
        ...

    def recent(self, limit: int) -> list[Recent]:
        """A sample of the last predictions of all jobs, the newest first."""
        ...


class Leases(Protocol):
    """The worker's half: lease a chunk, write outcomes exactly once, hand chunks back. Thread-safe.

    A lease's fencing token grows each time its chunk is leased or freed: whoever holds an older one writes nothing.
    """

    def claim(self, ref: ChunkRef, *, alone: bool = False) -> Lease | Refusal:
        """Lease a chunk; a suspect one only when it is worked on `alone`.

        Raises:
            ConfigError: the job's spec cannot be read; the chunk is free again.
        """
        ...

    def split(self, lease: Lease) -> list[ChunkRef]:
        """Replace a suspect chunk by one chunk per item without an outcome; each needs a hint on its queue."""
        ...

    def renew(self, lease: Lease) -> bool:
        """Start the lease anew. False: it was taken over, or the job was cancelled."""
        ...

    def complete(
        self,
        lease: Lease,
        outcomes: Sequence[tuple[int, Outcome]],
        *,
        close: bool,
        answered: Sequence[Answered] = (),
    ) -> Written:
        """Write outcomes by ordinal, the chunk's last ones with `close`; an item that has one already keeps it."""
        ...

    def release(self, lease: Lease, pause_s: float = 0.0) -> bool:
        """Give a chunk back, postponed by `pause_s` (ten minutes at most). Returns whether it is free."""
        ...

    def hand_over(self, lease: Lease, queue: str) -> bool:
        """Give back a chunk that this worker's model cannot answer, or is not to, for the workers of a queue.

        Returns whether it needs a hint there: the first time, if it is still ours.
        """
        ...

    def free_owner(self, owner: str, why: str) -> list[ChunkRef]:
        """Free every lease of a worker that has died; each chunk returned needs a new hint on its queue."""
        ...

    def reap(self, job_id: str) -> list[ChunkRef]:
        """Free the job's leases that have run out; each chunk returned needs a new hint on its queue."""
        ...

    def overdue(self, job_id: str, queue: str, margin_s: float) -> list[ChunkRef]:
        """The job's chunks that wait without a message: it was lost, or they were postponed until now.

        They count as sent now, and each needs a new hint. A message counts as lost `margin_s` after later ones were
        taken from its queue or, when the queue is empty, `margin_s` after it was sent.
        """
        ...

    def active_jobs(self) -> list[str]:
        """Ids of jobs that have not ended."""
        ...

    def queue_of(self, job_id: str) -> str | None:
        """The queue the job's chunks go to; None when the job is gone."""
        ...

    def forget_owner(self) -> None:
        """Sign off: drop what is kept under this worker's name."""
        ...


class PushMarks(Protocol):
    """Which jobs have a message on the push queue. Thread-safe."""

    def due(self, job_id: str) -> bool:
        """Whether no message of the job is under way; the caller sends one then."""
        ...

    def taken(self, job_id: str) -> None:
        """Note that the job's message was taken: what is ready from now on is news again."""
        ...


class PushOutcomes(Protocol):
    """What came of pushes. Thread-safe."""

    def mark(self, job_id: str, pushed: Iterable[int], rejected: Iterable[tuple[int, str]]) -> None:
        """Write which ordinals are delivered and which the platform does not take, with the reason; drops `trouble`.

        An ordinal that was refused before and is delivered now is refused no more.
        """
        ...

    def record_problem(self, job_id: str, problem: str) -> None:
        """Keep why the job cannot be pushed now."""
        ...
