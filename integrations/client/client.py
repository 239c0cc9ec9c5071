"""The Python API: submit images, watch a job, read predictions. Needs neither torch nor the worker."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Literal, Self, TypeVar

from ...schemas.errors import ConfigError, PrelabelError
from ...schemas.jobs import JobSpec, Priority, PushTarget
from ...schemas.model_version import model_of
from ...schemas.progress import JobState, Progress, QueueState, Recent, WorkerInfo
from ...schemas.settings import Settings, get_settings
from ...schemas.wire import brief, kind_of
from .arguments import Question, Source, count_of, sources_of, spec_of
from .capable import asks_each_label, for_capable_workers
from .connection import Connection, RedisConnection
from .cutting import item_of, make_chunks
from .job import Job
from .rescore import each_once
from .searching import Searching
from .workers import served_model, with_problems

_CHUNKS_PER_TRIP = 16
_JOB_ID = re.compile(r"[ -~]{1,64}")
_T = TypeVar("_T")


class Client(Searching):
    """Submits jobs and finds them again. Thread-safe; close it after use, or use it with `with`.

    Args:
        settings: where Redis is; from the environment (`PRELABEL_REDIS_URL`) when left out.
        connection: another place for the jobs than the settings' Redis; the settings are then the connection's.

    Attributes:
        settings: the settings in use.
        connection: what it shares with its jobs.

    Every method, and every one of a `Job`, waits `PRELABEL_BROKER_WAIT_S` (default 0) for a Redis that is away,
    starting up, read-only or at its memory limit, and raises `BrokerUnavailable` then. It raises `ConfigError` at
    once when Redis refuses the credentials or the certificate.
    """

    def __init__(self, settings: Settings | None = None, *, connection: Connection | None = None) -> None:
        if settings is not None and not isinstance(settings, Settings):
            raise ConfigError(f"settings must be Settings(redis_url=...), not {kind_of(settings)}")
        if connection is not None and not hasattr(type(connection), "patiently"):
            raise ConfigError(f"connection must be a Connection, not {kind_of(connection)}")
        self.connection: Connection = RedisConnection(settings or get_settings()) if connection is None else connection
        self.settings = self.connection.settings
        self._patiently = self.connection.patiently

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, its jobs' too; whatever is used afterwards makes new ones."""
        self.connection.close()

    def submit(
        self,
        items: Iterable[Source] | Source,
        taxonomy: Question,
        *,
        priority: Priority | Literal["bulk", "interactive"] = Priority.BULK,
        name: str = "",
        model: str | None = None,
        top_k: int | None = 20,
        push: PushTarget | None = None,
        deadline_s: float | None = None,
        keep_s: int | None = None,
        on_submitted: Callable[[int], None] | None = None,
    ) -> Job:
        """Queue images to be scored. `items` is consumed as a stream: memory does not grow with it.

        Args:
            items: image references (paths, `file:`, `http(s):`, `s3:`, `data:`), `Path`s, `ImageRef`s or `Item`s; or
                one of them. Relative paths are taken from this process's current folder.
            taxonomy: what to answer with: a taxonomy; a list of labels, of which exactly one is right; or several
                `Control`s, each with its own taxonomy.
            priority: "interactive" overtakes any bulk backlog.
            name: for people, in `prelabel jobs`.
            model: `<model>@<revision8>` the answers must come from: its workers alone take the images, and until there
                is one they wait (`Progress.waiting_for`). Without `@<revision8>` it is the one that live workers serve.
                None takes what the first worker that is free serves.
            top_k: scores kept per control; None keeps all.
            push: platform the predictions go to as they are ready.
            deadline_s: seconds from now at which the job is cancelled; what is done by then stays.
            keep_s: seconds the job is kept after it has ended; None is PRELABEL_JOB_TTL_S.
            on_submitted: called with the number of items submitted so far, for a progress bar.

        Returns:
            The job, which may be running already.

        Raises:
            ConfigError: an argument that cannot be used; a model without a revision that no worker serves, or workers
                serve several of; a question that no worker's model can answer; or something that is no image reference
                among the items, and the job is cancelled.
            BrokerUnavailable: Redis does not answer. The job is cancelled; by a worker, after an hour without an
                item, if Redis cannot be told now.

        Whatever ends a submission, Ctrl-C too, ends the job. A note of the error (`__notes__`) says what became of it.
        """
        if not isinstance(priority, str) or priority not in tuple(Priority):
            raise ConfigError(f'priority must be "bulk" or "interactive", not {brief(priority)}')
        spec = spec_of(
            taxonomy,
            priority=Priority(priority),
            name=name,
            model=model,
            top_k=top_k,
            push=push,
            deadline_s=deadline_s,
            keep_s=keep_s,
        )
        return self._submit(sources_of(items), self._for_capable(self._with_revision(spec)), on_submitted)

    def rescore(
        self,
        job: Job | str | int,
        taxonomy: Question,
        *,
        name: str = "",
        top_k: int | None = 20,
        push: PushTarget | None = None,
        on_submitted: Callable[[int], None] | None = None,
    ) -> Job:
        """Score what was answered before against another taxonomy, from stored vectors: no image is fetched.

        An image whose vector is not stored any more fails; submit it again.

        Args:
            job: a job or its id: every item it has answered so far. Or the number of a Label Studio project: every item
                any job answered for it, once each, the newest job first.
            taxonomy: what to answer with now; see `submit`.
            name: for people, in `prelabel jobs`.
            top_k: scores kept per control; None keeps all.
            push: platform the predictions go to as they are ready.
            on_submitted: called with the number of items submitted so far.

        Returns:
            A new job.

        Raises:
            ConfigError: no such job, or nothing in it has an answer.
            BrokerUnavailable: see `submit`.
        """
        sources = self._sources(job)
        predictions = (prediction for source in sources for prediction in source.results_so_far() if prediction.ok)
        first = next(predictions, None)
        model = None if first is None else model_of(first)
        if model is None:
            raise ConfigError(f"nothing to score again: {brief(job)} has no answers yet")
        spec = self._for_capable(spec_of(taxonomy, name=name, model=model, top_k=top_k, push=push, stored_only=True))
        is_elsewhere = isinstance(job, Job) and not job.is_of(self.connection)
        if isinstance(job, int) or is_elsewhere or spec.label_studio_project is not None:
            # Of a project each item once; and its adapter looks up which tasks are being worked on.
            items = chain.from_iterable(source.answered_items(model) for source in self._sources(job))
            return self._submit(each_once(items), spec, on_submitted)
        source_id = job.id if isinstance(job, Job) else job
        return self._made(spec, on_submitted, lambda made: self._send_from(made, source_id, spec, on_submitted))

    def _with_revision(self, spec: JobSpec) -> JobSpec:
        """The job, for the model that workers serve of the name it gives: none ever serves one without a revision."""
        if spec.model is None or "@" in spec.model:
            return spec
        return spec.model_copy(update={"model": served_model(self.connection, spec.model)})

    def _for_capable(self, spec: JobSpec) -> JobSpec:
        """See `for_capable_workers`; the workers are asked for only where it matters."""
        return for_capable_workers(spec, self.workers()) if asks_each_label(spec.controls) else spec

    def _sources(self, job: Job | str | int) -> Iterator[Job]:
        if isinstance(job, Job):
            yield job
        elif isinstance(job, int):
            yield from self.project_jobs(job)
        else:
            yield self.job(job)

    def project_jobs(self, project: int) -> Iterator[Job]:
        """The jobs whose answers went to a Label Studio project, the newest first.

        Args:
            project: the project's number.
        """
        job_ids, place = self._patiently(self.connection.store.page)
        while job_ids:
            for job_id, spec in self._patiently(partial(self.connection.store.specs, job_ids)).items():
                if spec.label_studio_project == project:
                    yield Job(self.connection, job_id)
            job_ids, place = self._patiently(partial(self.connection.store.page, place))

    def _submit(self, items: Iterable[Source], spec: JobSpec, on_submitted: Callable[[int], None] | None) -> Job:
        return self._made(spec, on_submitted, lambda job_id: self._send_items(job_id, items, spec.queue, on_submitted))

    def _made(self, spec: JobSpec, on_submitted: object, send: Callable[[str], None]) -> Job:
        """A new job with the items that `send` gives it."""
        if on_submitted is not None and not callable(on_submitted):
            raise ConfigError(f"on_submitted must be a function, not {kind_of(on_submitted)}")
        job = Job(self.connection, uuid.uuid4().hex[:12])
        is_there = False
        try:
            self._patiently(lambda: self.connection.store.create(job.id, spec))
            is_there = True
            send(job.id)
            self._patiently(lambda: self.connection.store.seal(job.id))
        except (Exception, KeyboardInterrupt) as error:
            fate = self._abandon(job.id)
            if fate and is_there:
                error.add_note(f"job {job.id} {fate}")
            raise
        return job

    def _abandon(self, job_id: str) -> str:
        """Cancel a job whose submission failed. Returns what became of it; nothing when there was none."""
        try:
            cancelled = self._patiently(lambda: self.connection.store.cancel(job_id, "its submission failed"), wait_s=0)
        except PrelabelError:  # what went wrong before is the news, not that this does too
            return "stands unfinished, and a worker cancels it an hour after its last image"
        return "is cancelled; what is done stays" if cancelled else ""

    def _send_items(
        self,
        job_id: str,
        items: Iterable[Source],
        queue: str,
        on_submitted: Callable[[int], None] | None,
    ) -> None:
        chunks = make_chunks(map(item_of, items))
        sent_chunks = sent_items = 0
        while batch := list(islice(chunks, _CHUNKS_PER_TRIP)):
            if not self._patiently(partial(self.connection.store.add_chunks, job_id, sent_chunks, batch)):
                return  # cancelled from elsewhere
            indices = range(sent_chunks, sent_chunks + len(batch))
            self._patiently(partial(self.connection.sender.score_chunks, job_id, indices, queue))
            sent_chunks += len(batch)
            sent_items += sum(len(chunk.items) for chunk in batch)
            if on_submitted:
                on_submitted(sent_items)

    def _send_from(
        self, job_id: str, source_id: str, spec: JobSpec, on_submitted: Callable[[int], None] | None
    ) -> None:
        sent_chunks, more = 0, True
        while more:
            chunks, submitted, more = self._patiently(
                partial(self.connection.store.add_from, job_id, source_id, sent_chunks)
            )
            self._patiently(partial(self.connection.sender.score_chunks, job_id, chunks, spec.queue))
            sent_chunks = chunks.stop
            if not submitted and not more and not self._patiently(lambda: self._was_cancelled(job_id)):
                raise ConfigError(f"nothing to score again: job {source_id} has expired")
            if on_submitted and chunks:
                on_submitted(submitted)

    def _was_cancelled(self, job_id: str) -> bool:
        return self.connection.store.state(job_id) is JobState.CANCELLED

    def job(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            ConfigError: no such job.
        """
        if not isinstance(job_id, str) or not _JOB_ID.fullmatch(job_id):
            raise ConfigError(f"no job's id is {brief(job_id)}: `prelabel jobs` lists them")
        self._patiently(lambda: self.connection.store.spec(job_id))
        return Job(self.connection, job_id)

    def jobs(self, limit: int = 50) -> list[Progress]:
        """The newest jobs' progress, newest first."""
        store, most = self.connection.store, count_of(limit, "limit")
        return self._patiently(lambda: with_problems(store, store.jobs(most)))

    def queues(self) -> dict[str, int]:
        """Messages waiting on each queue."""
        return self._patiently(self.connection.store.queue_lengths)

    def queue_states(self) -> dict[str, QueueState]:
        """Length of each queue, and how long its oldest work has waited."""
        return self._patiently(self.connection.store.queue_states)

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s."""
        return self._patiently(lambda: self.connection.store.workers())

    def recent(self, limit: int = 24) -> list[Recent]:
        """A sample of the last predictions of all jobs, newest first, with thumbnails."""
        return self._patiently(partial(self.connection.store.recent, count_of(limit, "limit")))

    def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            BrokerUnavailable: it does not.
        """
        self._patiently(self.connection.store.queue_lengths)
