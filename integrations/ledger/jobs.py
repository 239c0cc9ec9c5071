"""The producer's half of the ledger: create, seal, watch, read, cancel and retry jobs.

The worker's half (claim, complete, release) is `leases` beside it; both work on the keys described in
`keys.JobKeys`. Whatever must not be torn apart is one Lua script.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any, Final

import redis

from ...schemas.chunks import Chunk
from ...schemas.errors import ConfigError
from ...schemas.items import Item
from ...schemas.jobs import JobSpec
from ...schemas.predictions import Prediction
from ...schemas.progress import JobState, Progress, QueueState, Recent, WorkerInfo
from . import index as job_index
from .clock import redis_time
from .entries import AT_ONCE, Block, Predictions, read_entries
from .fleet import Fleet, consumed
from .items import item_ids, items_of
from .keys import ACTIVE, JOBS, MODEL_QUEUES, PUSH_PENDING, JobKeys
from .progress import PAST_DEADLINE, Counts, progress_of, read_counts, state_of
from .queues import forget_queues, queue_lengths, queue_states
from .recent import newest
from .refusals import Refused, refusals_page
from .scripts import ADD_CHUNKS, CANCEL, CREATE, RELEASE_PUSH, REOPEN, SEAL
from .sources import Added, SourceCutter, answered_items
from .specs import parsed_spec

log = logging.getLogger(__name__)

_MOST_ACTIVE: Final = 1000
"""Jobs that have not ended, looked at in one reading: Redis does nothing else meanwhile."""


@contextmanager
def _readable(job_id: str) -> Iterator[None]:
    """Raises `ConfigError` where the counts of a job are not what this release writes."""
    try:
        yield
    except (KeyError, ValueError):
        raise ConfigError(f"the counts of job {job_id} cannot be read: another release wrote them") from None


class NoSuchJob(ConfigError):
    """It never was, or it has expired."""


class JobStore:
    """Jobs in Redis as producers see them. Thread-safe."""

    def __init__(self, client: redis.Redis, ttl_s: int) -> None:
        self._redis: Any = client  # redis-py types every reply as a union of all replies
        self._ttl_s = ttl_s
        self._create = client.register_script(CREATE)
        self._add_chunks = client.register_script(ADD_CHUNKS)
        self._seal = client.register_script(SEAL)
        self._cancel = client.register_script(CANCEL)
        self._reopen = client.register_script(REOPEN)
        self._release_push = client.register_script(RELEASE_PUSH)
        self._sources = SourceCutter(client, ttl_s)

    @property
    def redis(self) -> redis.Redis:
        """The connection, for what is kept beside jobs."""
        client: redis.Redis = self._redis
        return client

    def create(self, job_id: str, spec: JobSpec) -> None:
        """Write a job that has no items yet."""
        self._create(
            keys=[JobKeys(job_id).meta, JOBS, ACTIVE, PUSH_PENDING, MODEL_QUEUES],
            args=[
                job_id,
                spec.to_json(),
                spec.queue,
                int(spec.push is not None),
                "" if spec.deadline_s is None else spec.deadline_s,
                "" if spec.keep_s is None else spec.keep_s,
                int(spec.model is not None),
            ],
        )

    def add_chunks(self, job_id: str, first: int, chunks: Sequence[Chunk]) -> bool:
        """Append chunks with the indices `first`, `first + 1`, …; one round trip.

        Returns:
            False when the job was cancelled meanwhile: there is no use in submitting more.
        """
        keys = JobKeys(job_id)
        submitted = chunks[-1].first + len(chunks[-1].items)
        payloads = [chunk.to_json() for chunk in chunks]
        return bool(self._add_chunks(keys=[keys.meta, keys.chunks, keys.open], args=[submitted, first, *payloads]))

    def add_from(self, job_id: str, source_id: str, first: int) -> Added:
        """Append more of the items that another job has answered; see `SourceCutter`."""
        return self._sources.add(job_id, source_id, first)

    def seal(self, job_id: str) -> None:
        """Say that no more items come: from now on the job ends when its last item does."""
        keys = JobKeys(job_id)
        self._seal(keys=[keys.meta, keys.open, ACTIVE, *keys.all()], args=[job_id, self._ttl_s])

    def cancel(self, job_id: str, why: str = "by request") -> bool:
        """Stop a job; outcomes so far stay. Returns False when it had ended already."""
        keys = JobKeys(job_id)
        return bool(
            self._cancel(keys=[keys.meta, keys.open, keys.leases, ACTIVE, *keys.all()], args=[job_id, self._ttl_s, why])
        )

    def sealed(self, job_id: str) -> bool:
        """Whether all of the job's items are there."""
        return bool(self._redis.hexists(JobKeys(job_id).meta, "sealed"))

    def expired(self, silent_s: float) -> list[tuple[str, str]]:
        """Active jobs that must be cancelled, each with the reason; without those whose times cannot be read.

        Args:
            silent_s: seconds without a new item after which an unfinished submission counts as abandoned.
        """
        expired = []
        now = redis_time(self._redis)
        for raw in self._redis.smembers(ACTIVE):
            job_id = raw.decode()
            sealed, touched, deadline = self._redis.hmget(JobKeys(job_id).meta, "sealed", "touched", "deadline")
            try:
                if deadline and now > float(deadline):
                    expired.append((job_id, PAST_DEADLINE))
                elif not sealed and touched and now - float(touched) > silent_s:
                    expired.append((job_id, "its submitter fell silent before all items were there"))
            except ValueError:  # another release wrote it: one odd job must not keep the others from being judged
                log.debug("job %s is not judged: its times cannot be read", job_id)
        return expired

    def spec(self, job_id: str) -> JobSpec:
        """The job's spec.

        Raises:
            NoSuchJob: it never was, or has expired.
            ConfigError: another release wrote it.
        """
        return parsed_spec(self._existing(self._redis.hget(JobKeys(job_id).meta, "spec"), job_id))

    def progress(self, job_id: str) -> Progress:
        """The job's counts now.

        Raises:
            NoSuchJob: it never was, or has expired.
            ConfigError: another release wrote it.
        """
        return self._progress(job_id, read_counts(self._redis, [job_id])[0])

    def state(self, job_id: str) -> JobState:
        """Where the job stands; another release's too.

        Raises:
            NoSuchJob: it never was, or has expired.
        """
        (counts,) = read_counts(self._redis, [job_id])
        self._existing(counts.meta.get("spec"), job_id)
        with _readable(job_id):
            return state_of(counts)[0]

    def specs(self, job_ids: Sequence[str]) -> dict[str, JobSpec]:
        """Jobs' specs by id, in the same order; without jobs that are gone or that another release wrote."""
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hget(JobKeys(job_id).meta, "spec")
            replies = pipe.execute()
        specs = {}
        for job_id, raw in zip(job_ids, replies, strict=True):
            try:
                specs[job_id] = parsed_spec(self._existing(raw, job_id))
            except ConfigError as error:
                log.debug("job %s is left out: %s", job_id, error)
        return specs

    def page(self, after: job_index.Place = job_index.NEWEST) -> tuple[list[str], job_index.Place]:
        """The ids of the jobs that follow a place, the newest first, and where they end; no ids at the end."""
        return job_index.page(self._redis, after, job_index.PAGE)

    def jobs(self, limit: int) -> list[Progress]:
        """The newest jobs first; forgets ids whose job has expired."""
        jobs: list[Progress] = []
        gone: list[str] = []
        place, count = job_index.NEWEST, min(limit, job_index.PAGE)
        while len(jobs) < limit:
            job_ids, place = job_index.page(self._redis, place, count)
            listed, expired = self._listed(job_ids)
            jobs += listed
            gone += expired
            if len(job_ids) < count:
                break
            count = job_index.PAGE
        job_index.forget(self._redis, gone)
        return jobs[:limit]

    def _listed(self, job_ids: Sequence[str]) -> tuple[list[Progress], list[str]]:
        """Jobs' progress, and the ids of those that are gone; without those that another release wrote."""
        jobs, gone = [], []
        for job_id, counts in zip(job_ids, read_counts(self._redis, job_ids), strict=True):
            try:
                jobs.append(self._progress(job_id, counts))
            except NoSuchJob:
                gone.append(job_id)
            except ConfigError as error:  # another release wrote it, and can read it
                log.debug("job %s is not listed: %s", job_id, error)
        return jobs, gone

    def _progress(self, job_id: str, counts: Counts) -> Progress:
        spec = parsed_spec(self._existing(counts.meta.get("spec"), job_id))
        with _readable(job_id):
            return progress_of(job_id, spec, counts)

    def forget_expired(self, cursor: int) -> int:
        """Take ids of expired jobs off the index, a bounded number at a time.

        Args:
            cursor: what the call before returned; 0 begins.

        Returns:
            Where the next call goes on; 0 when all have been looked at.
        """
        return job_index.forget_expired(self._redis, cursor)

    def results(
        self, job_id: str, after: str, block_ms: int | None, at_once: int = AT_ONCE, *, scores: bool = True
    ) -> tuple[str, Sequence[Prediction]]:
        """Outcomes that came after the stream id `after` ("0" is the start), in order.

        Args:
            job_id: the job.
            after: the last stream id seen.
            block_ms: wait this long for the first one when there is none; None does not wait.
            at_once: predictions at most, about.
            scores: whether answers shall have their scores, which take most of the time; some have them all the same.

        Returns:
            The new last id, and the predictions.
        """
        end, blocks = self.blocks(job_id, after, block_ms, at_once)
        return end, self._predictions(job_id, blocks, scores=scores)

    def blocks(
        self, job_id: str, after: str, block_ms: int | None = None, at_once: int = AT_ONCE
    ) -> tuple[str, Sequence[Block]]:
        """The same as it stands in the ledger, without the items."""
        end, entries = read_entries(self._redis, job_id, after, block_ms, at_once)
        return end, self._blocks(job_id, [fields for _, fields in entries])

    def answered_items(self, job_id: str, after: str, model: str) -> tuple[str, list[Item]]:
        """Some of the items that are answered, with the keys of their vectors; see `sources.answered_items`."""
        return answered_items(self._redis, job_id, after, model)

    def item_ids(self, job_id: str) -> Iterator[tuple[Sequence[int], Sequence[str]]]:
        """Ordinals of items and their ids, some at a time; without those that cannot be read."""
        return item_ids(self._redis, job_id)

    def failures(self, job_id: str) -> Iterator[Prediction]:
        """The predictions of failed items."""
        keys = JobKeys(job_id)
        for _, entry_id in self._redis.hscan_iter(keys.failed):
            for _, fields in self._redis.xrange(keys.results, entry_id, entry_id):
                yield from self._predictions(job_id, self._blocks(job_id, [fields]))

    def _blocks(self, job_id: str, entries: Sequence[dict[bytes, bytes]]) -> Sequence[Block]:
        spec = self._redis.hget(JobKeys(job_id).meta, "spec") if entries else b""
        if spec is None:
            raise NoSuchJob("the job expired while its predictions were read")
        return [Block.of(fields, spec) for fields in entries]

    def _predictions(self, job_id: str, blocks: Sequence[Block], *, scores: bool = True) -> Sequence[Prediction]:
        wanted = list({block.entry.chunk for block in blocks})
        if not wanted:
            return ()
        chunks = dict(zip(wanted, self._redis.hmget(JobKeys(job_id).chunks, wanted), strict=True))
        return Predictions(blocks, chunks, scores=scores)

    def refusals(self, job_id: str, cursor: int) -> tuple[int, list[Refused]]:
        """A page of what the platform refused, in no order.

        Args:
            job_id: the job.
            cursor: what the call before returned; 0 begins.

        Returns:
            Where the next call goes on, 0 when this was the last page; and some items, a few of them perhaps again.
        """
        return refusals_page(self._redis, job_id, cursor)

    def items(self, job_id: str, ordinals: Sequence[int]) -> list[Item]:
        """The items with these ordinals; what stands for those that cannot be read."""
        return items_of(self._redis, job_id, ordinals)

    def reopen(self, job_id: str, failed: Sequence[Prediction]) -> tuple[int, int] | None:
        """Take failed items back to pending, as one chunk.

        Returns:
            The chunk's index and how many items are pending again; None when somebody else retried all of them.
        """
        keys, spec = JobKeys(job_id), self.spec(job_id)
        ordinals = tuple(prediction.ordinal for prediction in failed)
        chunk = Chunk(ordinals=ordinals, items=tuple(prediction.item for prediction in failed))
        index, reopened = self._reopen(
            keys=[
                keys.meta,
                keys.chunks,
                keys.open,
                keys.finished,
                keys.failed,
                keys.quarantined,
                keys.results,
                ACTIVE,
                PUSH_PENDING,
                MODEL_QUEUES,
                *keys.all(),
            ],
            args=[
                job_id,
                int(spec.push is not None),
                chunk.to_json(),
                spec.queue,
                int(spec.model is not None),
                *ordinals,
            ],
        )
        return None if index < 0 else (index, reopened)

    def release_push(self, job_id: str, delivered: Iterable[int]) -> bool:
        """Mark items as delivered and let the others be pushed.

        Returns:
            Whether some finished item waits to be pushed now.
        """
        keys = JobKeys(job_id)
        return bool(self._release_push(keys=[keys.meta, keys.finished, keys.pushed], args=list(delivered)))

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s; one that another release describes in its own way is left out."""
        return Fleet(self._redis).workers()

    def served(self) -> dict[str, bool] | None:
        """The models of live workers, each with whether one consumes its queue: those of earlier releases do not."""
        return consumed(self.workers())

    def active(self) -> list[Progress]:
        """The progress of jobs that have not ended, in no order, the first thousand found."""
        return self._listed([job_id.decode() for job_id in self._redis.srandmember(ACTIVE, _MOST_ACTIVE)])[0]

    def forget_queues(self, in_use: Set[str]) -> list[str]:
        """Forget the queues of models that no job came to for a day, but for those `in_use`; which they were."""
        return forget_queues(self._redis, in_use)

    def queue_lengths(self) -> dict[str, int]:
        """Messages waiting on each queue, by name."""
        return queue_lengths(self._redis)

    def queue_states(self) -> dict[str, QueueState]:
        """Length of each queue, and how long its oldest work has waited."""
        return queue_states(self._redis)

    def recent(self, limit: int) -> list[Recent]:
        """A sample of the last predictions of all jobs, the newest first."""
        return newest(self._redis, limit)

    @staticmethod
    def _existing(value: Any, job_id: str) -> Any:
        if value is None:
            raise NoSuchJob(f"no job {job_id!r}: it never was, or it has expired (see `prelabel jobs`)")
        return value
