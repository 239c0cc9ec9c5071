"""The producer's half of a ledger in memory: it does what `jobs.JobStore` does in Redis."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from itertools import islice

from ....schemas.chunks import Chunk
from ....schemas.items import Item
from ....schemas.jobs import JobSpec
from ....schemas.predictions import Prediction
from ....schemas.progress import JobState, Progress, QueueState, Recent, WorkerInfo
from ....schemas.queues import QUEUE_PUSH, QUEUES, SOURCE_CHUNK_ITEMS
from .. import index as job_index
from ..entries import AT_ONCE, Block, Entry
from ..fleet import consumed
from ..jobs import NoSuchJob
from ..progress import PAST_DEADLINE, progress_of, state_of
from ..refusals import PAGE, Refused
from ..sources import Added, with_vectors
from .state import MemoryState, OpenChunk, StoredJob


class MemoryJobs:
    """Jobs in memory as producers see them. Thread-safe.

    Args:
        state: the ledger.
        ttl_s: seconds a finished job is kept.
        work: called where a reader of results would wait; may do some work, and returns whether it did. None: others
            do it.
    """

    def __init__(self, state: MemoryState, ttl_s: int, *, work: Callable[[], bool] | None = None) -> None:
        self._state = state
        self._ttl_s = ttl_s
        self._work = work

    def create(self, job_id: str, spec: JobSpec) -> None:
        """Write a job that has no items yet; a second time changes nothing."""
        with self._state.changed:
            if self._state.job(job_id) is None:
                now = self._state.now()
                self._state.add(StoredJob(job_id, spec, created_at=now, touched_at=now))

    def add_chunks(self, job_id: str, first: int, chunks: Sequence[Chunk]) -> bool:
        """Append chunks with the indices `first`, `first + 1`, …; False when the job was cancelled meanwhile."""
        with self._state.changed:
            job = self._state.job(job_id)
            if job is None or job.cancelled:
                return False
            now = self._state.now()
            for index, chunk in enumerate(chunks, first):
                if index not in job.chunks:
                    job.chunks[index] = chunk
                    job.open[index] = OpenChunk(now)
            job.submitted = chunks[-1].first + len(chunks[-1].items)
            job.touched_at = now
            return True

    def add_from(self, job_id: str, source_id: str, first: int) -> Added:
        """Append the items that another job has answered, all at once."""
        with self._state.changed:
            job, source = self._state.job(job_id), self._state.job(source_id)
            if job is None or job.cancelled or first < len(job.chunks):
                return Added(range(first, len(job.chunks) if job else first), job.submitted if job else 0, more=False)
            answered = [entry.prediction for entry in source.entries if entry.prediction.ok] if source else []
            ordinal = job.submitted
            chunks = []
            for start in range(0, len(answered), SOURCE_CHUNK_ITEMS):
                items = tuple(with_vectors(one, job.spec.model) for one in answered[start : start + SOURCE_CHUNK_ITEMS])
                chunks.append(Chunk(first=ordinal, items=items))
                ordinal += len(items)
            if chunks:
                self.add_chunks(job_id, first, chunks)
            return Added(range(first, first + len(chunks)), ordinal, more=False)

    def seal(self, job_id: str) -> None:
        """Say that no more items come: from now on the job ends when its last item does."""
        with self._state.changed:
            job = self._state.job(job_id)
            if job is not None:
                job.sealed = True
                self._state.end_if_finished(job, self._ttl_s)
                self._state.changed.notify_all()

    def cancel(self, job_id: str, why: str = "by request") -> bool:
        """Stop a job; outcomes so far stay. Returns False when it had ended already."""
        with self._state.changed:
            job = self._state.job(job_id)
            if job is None or job.ended:
                return False
            job.open.clear()
            job.cancelled = why
            self._state.end_if_finished(job, self._ttl_s)
            self._state.changed.notify_all()
            return True

    def sealed(self, job_id: str) -> bool:
        """Whether all of the job's items are there."""
        with self._state.changed:
            job = self._state.job(job_id)
            return job is not None and job.sealed

    def expired(self, silent_s: float) -> list[tuple[str, str]]:
        """Active jobs that are past their deadline or had no new item for `silent_s`, each with the reason."""
        with self._state.changed:
            now = self._state.now()
            expired = []
            for job in self._state.active():
                if job.deadline is not None and now > job.deadline:
                    expired.append((job.job_id, PAST_DEADLINE))
                elif not job.sealed and now - job.touched_at > silent_s:
                    expired.append((job.job_id, "its submitter fell silent before all items were there"))
            return expired

    def spec(self, job_id: str) -> JobSpec:
        """What the job asks."""
        with self._state.changed:
            return self._existing(job_id).spec

    def progress(self, job_id: str) -> Progress:
        """The job's counts now."""
        with self._state.changed:
            return self._progress(self._existing(job_id))

    def state(self, job_id: str) -> JobState:
        """Where the job stands."""
        with self._state.changed:
            return state_of(self._existing(job_id).counts(self._state.now()))[0]

    def specs(self, job_ids: Sequence[str]) -> dict[str, JobSpec]:
        """Jobs' specs by id, in the same order; without jobs that are gone."""
        with self._state.changed:
            jobs = [self._state.job(job_id) for job_id in job_ids]
            return {job.job_id: job.spec for job in jobs if job is not None}

    def page(self, after: job_index.Place = job_index.NEWEST) -> tuple[list[str], job_index.Place]:
        """The ids of the jobs that follow a place, the newest first, and where they end; no ids at the end."""
        with self._state.changed:
            older = (job for job in self._state.jobs() if job.created_at <= after.made_at)
            following = list(islice(older, after.passed, after.passed + job_index.PAGE))
        return [job.job_id for job in following], after.moved([job.created_at for job in following])

    def jobs(self, limit: int) -> list[Progress]:
        """The newest jobs first."""
        with self._state.changed:
            return [self._progress(job) for job in self._state.jobs()[:limit]]

    def forget_expired(self, cursor: int) -> int:  # noqa: ARG002  # the protocol's
        """Nothing is left to forget: jobs in memory go when they expire."""
        return 0

    def results(
        self,
        job_id: str,
        after: str,
        block_ms: int | None,
        at_once: int = AT_ONCE,
        *,
        scores: bool = True,  # noqa: ARG002  # here they are made anyway
    ) -> tuple[str, Sequence[Prediction]]:
        """Outcomes that came after the id `after` ("0" is the start), in order, and the id of the last of them.

        When there is none, has some work done if it can be, else waits up to `block_ms`; None does neither.
        """
        end, predictions = self._results(job_id, after, at_once)
        if predictions or block_ms is None:
            return end, predictions
        if self._work is not None and self._work():
            return self._results(job_id, after, at_once)
        with self._state.changed:
            job = self._state.job(job_id)
            if job is not None and not job.ended and not self._results(job_id, after, 1)[1]:
                self._state.changed.wait(block_ms / 1000)
            return self._results(job_id, after, at_once)

    def _results(self, job_id: str, after: str, at_once: int) -> tuple[str, list[Prediction]]:
        with self._state.changed:
            job = self._state.job(job_id)
            entries = job.entries if job else []
            start = bisect_right(entries, int(after), key=lambda entry: entry.number)
            entries = entries[start : start + at_once]
        return str(entries[-1].number) if entries else after, [entry.prediction for entry in entries]

    def blocks(
        self, job_id: str, after: str, block_ms: int | None = None, at_once: int = AT_ONCE
    ) -> tuple[str, Sequence[Block]]:
        """What `results` gives, each outcome by itself."""
        end, predictions = self.results(job_id, after, block_ms, at_once)
        return end, [Block(Entry(b"", (one.ordinal,), (), b""), one) for one in predictions]

    def answered_items(self, job_id: str, after: str, model: str) -> tuple[str, list[Item]]:
        """Items of answers that came after the id `after`, with the keys of their vectors, and the id of the last."""
        end, predictions = self.results(job_id, after, None)
        return end, [with_vectors(prediction, model) for prediction in predictions if prediction.ok]

    def item_ids(self, job_id: str) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
        """Ordinals of items and their ids."""
        with self._state.changed:
            job = self._state.job(job_id)
            pairs = [chunk.pairs() for chunk in job.chunks.values()] if job else []
        return iter([([ordinal for ordinal, _ in some], [item.id for _, item in some]) for some in pairs])

    def failures(self, job_id: str) -> Iterator[Prediction]:
        """The predictions of failed items."""
        with self._state.changed:
            job = self._state.job(job_id)
            failures = [entry.prediction for entry in job.entries if entry.prediction.error] if job else []
        return iter(failures)

    def refusals(self, job_id: str, cursor: int) -> tuple[int, list[Refused]]:
        """A page of what the platform refused, and where the next one begins; 0 begins, and comes after the last."""
        with self._state.changed:
            job = self._state.job(job_id)
            refused = sorted(job.refused.items()) if job else []
        end = cursor + PAGE
        return end if end < len(refused) else 0, [Refused(*entry) for entry in refused[cursor:end]]

    def items(self, job_id: str, ordinals: Sequence[int]) -> list[Item]:
        """The items with these ordinals; what stands for those that are not there."""
        with self._state.changed:
            job = self._state.job(job_id)
            pairs = dict(pair for chunk in job.chunks.values() for pair in chunk.pairs()) if job else {}
        return [pairs.get(ordinal, Item.unreadable(ordinal)) for ordinal in ordinals]

    def reopen(self, job_id: str, failed: Sequence[Prediction]) -> tuple[int, int] | None:
        """Take failed items back to pending, as one chunk; its index, and how many are pending again, or None."""
        with self._state.changed:
            job = self._existing(job_id)
            reopened = job.failed.intersection(prediction.ordinal for prediction in failed)
            if not reopened:
                return None
            job.entries = [entry for entry in job.entries if entry.prediction.ordinal not in reopened]
            for ordinals in (job.finished, job.failed, job.quarantined):
                ordinals -= reopened
            job.base = len(job.finished)
            job.started_at = job.updated_at = job.expires_at = None
            chunk = Chunk(
                ordinals=tuple(prediction.ordinal for prediction in failed),
                items=tuple(prediction.item for prediction in failed),
            )
            return job.open_more(chunk, OpenChunk(self._state.now())), len(reopened)

    def release_push(self, job_id: str, delivered: Iterable[int]) -> bool:
        """Mark items as delivered and let the others be pushed; whether some finished item waits for that now."""
        with self._state.changed:
            job = self._state.job(job_id)
            if job is None:
                return False
            job.push_ready = True
            job.pushed.update(delivered)
            return len(job.finished) > len(job.pushed)

    def workers(self) -> list[WorkerInfo]:
        """The workers at work; each is heard of now."""
        with self._state.changed:
            return [worker.model_copy(update={"beat": self._state.now()}) for worker in self._state.workers]

    def served(self) -> dict[str, bool] | None:
        """The workers' models, each with whether one consumes its queue; None where whatever is asked is answered."""
        with self._state.changed:
            if self._state.any_model:
                return None
            return consumed(self._state.workers)

    def active(self) -> list[Progress]:
        """The progress of jobs that have not ended, the newest first."""
        with self._state.changed:
            return [self._progress(job) for job in self._state.active()]

    def forget_queues(self, in_use: Set[str]) -> list[str]:  # noqa: ARG002  # the protocol's
        """Nothing is worth forgetting: the queues in memory go with the process."""
        return []

    def queue_lengths(self) -> dict[str, int]:
        """Messages waiting on each queue, by name."""
        with self._state.changed:
            lengths = {queue: len(messages) for queue, messages in sorted(self._state.chunk_messages.items())}
            return {**dict.fromkeys(QUEUES, 0), **lengths, QUEUE_PUSH: len(self._state.push_messages)}

    def queue_states(self) -> dict[str, QueueState]:
        """Length of each queue, and how long its oldest work has waited."""
        with self._state.changed:
            now = self._state.now()
            depths = self.queue_lengths()
            since = {queue: [now] for queue in depths}
            for job in self._state.active():
                waiting = (chunk.sent_at for chunk in job.open.values() if chunk.leased_until is None)
                since.setdefault(job.spec.queue, [now]).extend(waiting)
            for job in self._state.jobs():
                if job.spec.push is not None:
                    since[QUEUE_PUSH] += (entry.written_at for entry in job.entries[:1])
            return {queue: QueueState(depth, now - min(since[queue])) for queue, depth in depths.items()}

    def recent(self, limit: int) -> list[Recent]:
        """The last predictions of all jobs, the newest first."""
        with self._state.changed:
            return list(islice(self._state.recent, limit))

    def _progress(self, job: StoredJob) -> Progress:
        return progress_of(job.job_id, job.spec, job.counts(self._state.now()))

    def _existing(self, job_id: str) -> StoredJob:
        job = self._state.job(job_id)
        if job is None:
            raise NoSuchJob(f"no job {job_id!r}: it never was, or it has expired (see `prelabel jobs`)")
        return job
