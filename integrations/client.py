"""The Python API: submit images, watch a job, read predictions. Needs neither torch nor the worker."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from ..schemas.errors import ConfigError, PrelabelError
from ..schemas.items import ImageRef, Item
from ..schemas.jobs import Control, JobSpec, JobState, Priority, Progress, PushTarget, WorkerInfo
from ..schemas.predictions import Prediction
from ..schemas.recent import Recent
from ..schemas.settings import Settings, get_settings
from ..schemas.taxonomy import Taxonomy
from ..schemas.wire import first_problem
from .broker import Patience, Sender, connect_redis
from .chunks import absolute_item, make_chunks, retry_batches
from .job_store import JobStore
from .queue_state import QueueState, queue_lengths, queue_states
from .recent import newest
from .rescore import model_of, stored_items

_BLOCK_MS = 500
_CHUNKS_PER_TRIP = 16
_ALL_JOBS = 10_000
_T = TypeVar("_T")


class Client:
    """Submits jobs and finds them again. Thread-safe.

    Args:
        settings: where Redis is; from the environment (`PRELABEL_REDIS_URL`) when left out.

    Every method, and every one of a `Job`, waits `PRELABEL_BROKER_WAIT_S` (default 0) for a Redis that is away,
    starting up, read-only or at its memory limit, and raises `BrokerUnavailable` then. It raises `ConfigError` at
    once when Redis refuses the credentials or the certificate.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or get_settings()
        self._redis = connect_redis(self.settings, stubborn=False)
        self.store = JobStore(self._redis, self.settings.job_ttl_s)
        self.sender = Sender(self.settings)
        self.patiently = Patience(self.settings)

    def submit(
        self,
        items: Iterable[str | ImageRef | Item],
        taxonomy: Taxonomy | Sequence[Control],
        *,
        priority: Priority | Literal["bulk", "interactive"] = Priority.BULK,
        name: str = "",
        model: str | None = None,
        top_k: int | None = 20,
        push: PushTarget | None = None,
        deadline_s: float | None = None,
        on_submitted: Callable[[int], None] | None = None,
    ) -> Job:
        """Queue images to be scored. `items` is consumed as a stream: memory does not grow with it.

        Args:
            items: image references (paths, `file:`, `http(s):`, `s3:`, `data:`), `ImageRef`s or `Item`s.
                Relative paths are taken from this process's current folder.
            taxonomy: what to answer with; or several `Control`s, each with its own taxonomy.
            priority: "interactive" overtakes any bulk backlog.
            name: for people, in `prelabel jobs`.
            model: `<model>@<revision8>` the answers must come from; None takes what the worker serves.
            top_k: scores kept per control; None keeps all.
            push: platform the predictions go to as they are ready.
            deadline_s: seconds from now at which the job is cancelled; what is done by then stays.
            on_submitted: called with the number of items submitted so far, for a progress bar.

        Returns:
            The job, which may be running already.

        Raises:
            ConfigError: something that is no image reference among the items; the job is cancelled.
            BrokerUnavailable: Redis does not answer. The job is cancelled; by a worker, after an hour without an
                item, if Redis cannot be told now.
        """
        try:
            chosen = Priority(priority)
        except ValueError:
            raise ConfigError(f'priority must be "bulk" or "interactive", not {priority!r}') from None
        spec = _spec(taxonomy, priority=chosen, name=name, model=model, top_k=top_k, push=push, deadline_s=deadline_s)
        return self._submit([items] if isinstance(items, str) else items, spec, on_submitted)

    def rescore(
        self,
        job: Job | str | int,
        taxonomy: Taxonomy | Sequence[Control],
        *,
        name: str = "",
        top_k: int | None = 20,
        push: PushTarget | None = None,
        on_submitted: Callable[[int], None] | None = None,
    ) -> Job:
        """Score what was answered before against another taxonomy, from stored vectors: no image is fetched.

        An image whose vector is not stored any more fails; submit it again.

        Args:
            job: a job or its id; or the number of a Label Studio project: every item any job answered for it, the
                newest job first.
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
        predictions = (
            prediction for source in self._sources(job) for prediction in source.results_so_far() if prediction.ok
        )
        first = next(predictions, None)
        if first is None:
            raise ConfigError(f"nothing to score again: {job!r} has no answers yet")
        model = model_of(first)
        spec = _spec(taxonomy, name=name, model=model, top_k=top_k, push=push, stored_only=True)
        return self._submit(stored_items(chain((first,), predictions), model), spec, on_submitted)

    def _sources(self, job: Job | str | int) -> Iterator[Job]:
        if isinstance(job, Job):
            yield job
        elif isinstance(job, str):
            yield self.job(job)
        else:
            yield from self.project_jobs(job)

    def project_jobs(self, project: int) -> Iterator[Job]:
        """The jobs whose answers went to a Label Studio project, the newest first.

        Args:
            project: the project's number.
        """
        for progress in self.jobs(_ALL_JOBS):
            try:
                job = self.job(progress.job_id)
                target = job.spec().push
            except ConfigError:  # expired meanwhile, or written by another release
                continue
            if target is not None and target.project == project:
                yield job

    def _submit(
        self, items: Iterable[str | ImageRef | Item], spec: JobSpec, on_submitted: Callable[[int], None] | None
    ) -> Job:
        job = Job(self, uuid.uuid4().hex[:12])
        try:
            self.patiently(lambda: self.store.create(job.id, spec))
            self._send_items(job.id, items, spec.priority.value, on_submitted)
            self.patiently(lambda: self.store.seal(job.id))
        except (Exception, KeyboardInterrupt):
            with contextlib.suppress(PrelabelError):  # what went wrong is the news, not that this does too
                self.patiently(lambda: self.store.cancel(job.id, "its submission failed"), wait_s=0)
            raise
        return job

    def _send_items(
        self,
        job_id: str,
        items: Iterable[str | ImageRef | Item],
        queue: str,
        on_submitted: Callable[[int], None] | None,
    ) -> None:
        chunks = make_chunks(absolute_item(Item.of(item)) for item in items)
        sent_chunks = sent_items = 0
        while batch := list(islice(chunks, _CHUNKS_PER_TRIP)):
            if not self.patiently(partial(self.store.add_chunks, job_id, sent_chunks, batch)):
                return  # cancelled from elsewhere
            indices = range(sent_chunks, sent_chunks + len(batch))
            self.patiently(partial(self.sender.score_chunks, job_id, indices, queue))
            sent_chunks += len(batch)
            sent_items += sum(len(chunk.items) for chunk in batch)
            if on_submitted:
                on_submitted(sent_items)

    def job(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            ConfigError: no such job.
        """
        self.patiently(lambda: self.store.spec(job_id))
        return Job(self, job_id)

    def jobs(self, limit: int = 50) -> list[Progress]:
        """The newest jobs' progress, newest first."""
        return self.patiently(lambda: self.store.jobs(limit))

    def queues(self) -> dict[str, int]:
        """Messages waiting on each queue."""
        return self.patiently(lambda: queue_lengths(self._redis))

    def queue_states(self) -> dict[str, QueueState]:
        """Length of each queue, and how long its oldest work has waited."""
        return self.patiently(lambda: queue_states(self._redis))

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s."""
        return self.patiently(lambda: self.store.workers())

    def recent(self, limit: int = 24) -> list[Recent]:
        """A sample of the last predictions of all jobs, newest first, with thumbnails."""
        return self.patiently(lambda: newest(self.store.redis, limit))

    def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            BrokerUnavailable: it does not.
        """
        self.patiently(lambda: queue_lengths(self._redis))


def _spec(taxonomy: Taxonomy | Sequence[Control], **asked: Any) -> JobSpec:
    """The spec of a job that asks this.

    Raises:
        ConfigError: a value cannot be used; names it.
    """
    controls = (Control(taxonomy=taxonomy),) if isinstance(taxonomy, Taxonomy) else tuple(taxonomy)
    try:
        return JobSpec(controls=controls, **asked)
    except ValidationError as error:
        raise ConfigError(f"job: {first_problem(error)}") from None


class Job:
    """A handle on one job; holds nothing but its id."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client
        self._store = client.store
        self._patiently = client.patiently

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def spec(self) -> JobSpec:
        """What the job asks."""
        return self._patiently(lambda: self._store.spec(self.id))

    def progress(self) -> Progress:
        """Counts, state, images per second and time left, now."""
        return self._patiently(lambda: self._store.progress(self.id))

    def results(self, timeout: float | None = None) -> Iterator[Prediction]:
        """Predictions as they come, each item once, until the job has ended.

        A failed item is yielded too, with `.error` set; when it is sent again meanwhile (`retry_failed`), its answer
        follows. Items a cancelled job never reached are not.

        Args:
            timeout: seconds to wait in all; None waits as long as the job takes.

        Raises:
            TimeoutError: the job has not ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        after = "0"
        seen = _Seen()
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            ended, after, predictions = self._patiently(
                partial(self._next_results, after, left_s), wait_s=None if left_s is None else max(0.0, left_s)
            )
            yield from filter(seen.is_news, predictions)
            if predictions:
                continue
            if ended:
                return
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"job {self.id} has not ended within {timeout:g} s")

    def _next_results(self, after: str, left_s: float | None) -> tuple[bool, str, list[Prediction]]:
        """Whether the job had ended, and what has come after a stream id; waits a moment when nothing has."""
        ended = self._store.progress(self.id).state.ended
        wait_ms = _BLOCK_MS if left_s is None else min(_BLOCK_MS, int(left_s * 1000))
        return ended, *self._store.results(self.id, after, None if ended or wait_ms <= 0 else wait_ms)

    def results_so_far(self) -> Iterator[Prediction]:
        """The predictions there are now, without waiting for more."""
        after = "0"
        seen = _Seen()
        while True:
            after, predictions = self._patiently(partial(self._store.results, self.id, after, None))
            if not predictions:
                return
            yield from filter(seen.is_news, predictions)

    def failures(self) -> Iterator[Prediction]:
        """The predictions of failed items, in no order."""
        seen = _Seen()
        stream: Iterator[Prediction] | None = None

        def following() -> Prediction | None:
            nonlocal stream
            stream = stream or self._store.failures(self.id)
            try:
                return next(stream, None)
            except Exception:
                stream = None  # a generator that has raised is at its end: the next one starts anew
                raise

        while prediction := self._patiently(following):
            if seen.is_news(prediction):
                yield prediction

    def wait(self, timeout: float | None = None) -> Progress:
        """Block until the job has ended.

        Raises:
            TimeoutError: it has not within `timeout` seconds.
        """
        for _ in self.results(timeout):
            pass
        return self.progress()

    def cancel(self) -> bool:
        """Stop the job; what is done stays. Returns False when it had ended already."""
        return self._patiently(lambda: self._store.cancel(self.id))

    def retry_failed(self) -> int:
        """Send the failed items again.

        Returns:
            How many.

        Raises:
            ConfigError: the job was cancelled, or is still being submitted.
        """
        retried = 0
        progress = self.progress()
        if progress.state is JobState.CANCELLED:
            raise ConfigError(f"job {self.id} was cancelled; submit its items again")
        if progress.state is JobState.SUBMITTING or not self._patiently(lambda: self._store.sealed(self.id)):
            raise ConfigError(f"job {self.id} is still being submitted; retry when that has ended")
        # Read first: what fails again meanwhile is left for the next time.
        failures = {prediction.ordinal: prediction for prediction in self.failures()}
        for batch in retry_batches(failures.values()):
            reopened = self._patiently(partial(self._store.reopen, self.id, batch))
            if reopened is not None:
                chunk, count = reopened
                self._patiently(partial(self._client.sender.score_chunk, self.id, chunk, progress.priority.value))
                retried += count
        return retried

    def release_push(self, delivered: Iterable[int]) -> None:
        """Let a job submitted with `PushTarget(hold=True)` push, except the ordinals delivered already."""
        ordinals = list(delivered)
        if self._patiently(lambda: self._store.release_push(self.id, ordinals)):
            self._patiently(lambda: self._client.sender.push(self.id))


class _Seen:
    """Which items have been yielded, in two bits each.

    A Redis that comes back without its last second (`appendfsync everysec`) has outcomes written again, which a
    reader may have had already.
    """

    def __init__(self) -> None:
        self._bits = bytearray()

    def is_news(self, prediction: Prediction) -> bool:
        """Whether this is the item's first outcome, or its first answer after failures."""
        byte, shift = divmod(2 * prediction.ordinal, 8)
        if byte >= len(self._bits):
            self._bits.extend(bytes(byte + 1024 - len(self._bits)))
        known = self._bits[byte] >> shift & 3
        outcome = 1 if prediction.error else 2
        self._bits[byte] |= outcome << shift
        return outcome > known
