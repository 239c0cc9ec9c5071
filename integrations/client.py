"""The Python API: submit images, watch a job, read predictions. Needs neither torch nor the worker."""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ValidationError

from ..schemas.errors import ConfigError
from ..schemas.items import Chunk, ImageRef, Item
from ..schemas.jobs import Control, JobSpec, JobState, Priority, Progress, PushTarget, WorkerInfo
from ..schemas.names import CHUNK_BYTES, CHUNK_ITEMS
from ..schemas.predictions import Prediction
from ..schemas.settings import Settings, get_settings
from ..schemas.taxonomy import Taxonomy
from ..schemas.wire import first_problem
from .broker import Sender, broker_errors, connect_redis
from .job_store import JobStore

_BLOCK_MS = 500
_CHUNKS_PER_TRIP = 16
_T = TypeVar("_T")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


class Client:
    """Submits jobs and finds them again. Thread-safe.

    Args:
        settings: where Redis is; from the environment (`PRELABEL_REDIS_URL`) when left out.

    Every method raises `BrokerUnavailable` when Redis does not answer.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or get_settings()
        self.store = JobStore(connect_redis(self.settings), self.settings.job_ttl_s)
        self.sender = Sender(self.settings)

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
            on_submitted: called with the number of items submitted so far, for a progress bar.

        Returns:
            The job, which may be running already.

        Raises:
            ConfigError: something that is no image reference among the items; the job is cancelled.
            BrokerUnavailable: Redis does not answer.
        """
        controls = (Control(taxonomy=taxonomy),) if isinstance(taxonomy, Taxonomy) else tuple(taxonomy)
        try:
            chosen = Priority(priority)
        except ValueError:
            raise ConfigError(f'priority must be "bulk" or "interactive", not {priority!r}') from None
        try:
            spec = JobSpec(controls=controls, priority=chosen, name=name, model=model, top_k=top_k, push=push)
        except ValidationError as error:
            raise ConfigError(f"job: {first_problem(error)}") from None
        if isinstance(items, str):
            items = [items]
        job = Job(self, uuid.uuid4().hex[:12])
        with broker_errors(self.settings):
            self.store.create(job.id, spec)
            try:
                self._send_items(job.id, items, chosen.value, on_submitted)
            except (Exception, KeyboardInterrupt):
                self.store.cancel(job.id)
                raise
            self.store.seal(job.id)
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
            if not self.store.add_chunks(job_id, sent_chunks, batch):
                return  # cancelled from elsewhere
            for index in range(sent_chunks, sent_chunks + len(batch)):
                self.sender.score_chunk(job_id, index, queue)
            sent_chunks += len(batch)
            sent_items += sum(len(chunk.items) for chunk in batch)
            if on_submitted:
                on_submitted(sent_items)

    def job(self, job_id: str) -> Job:
        """A job by its id.

        Raises:
            ConfigError: no such job.
        """
        with broker_errors(self.settings):
            self.store.spec(job_id)
        return Job(self, job_id)

    def jobs(self, limit: int = 50) -> list[Progress]:
        """The newest jobs' progress, newest first."""
        with broker_errors(self.settings):
            return self.store.jobs(limit)

    def queues(self) -> dict[str, int]:
        """Messages waiting on each queue."""
        with broker_errors(self.settings):
            return self.store.queues()

    def workers(self) -> list[WorkerInfo]:
        """Workers heard of within the last 20 s."""
        with broker_errors(self.settings):
            return self.store.workers()

    def ping(self) -> None:
        """Check that Redis answers.

        Raises:
            BrokerUnavailable: it does not.
        """
        with broker_errors(self.settings):
            self.store.queues()


class Job:
    """A handle on one job; holds nothing but its id."""

    def __init__(self, client: Client, job_id: str) -> None:
        self.id = job_id
        self._client = client
        self._store = client.store

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def spec(self) -> JobSpec:
        """What the job asks."""
        with broker_errors(self._client.settings):
            return self._store.spec(self.id)

    def progress(self) -> Progress:
        """Counts, state, images per second and time left, now."""
        with broker_errors(self._client.settings):
            return self._store.progress(self.id)

    def results(self, timeout: float | None = None) -> Iterator[Prediction]:
        """Predictions as they come, each item once, until the job has ended.

        A failed item is yielded too, with `.error` set. Items a cancelled job never reached are not.

        Args:
            timeout: seconds to wait in all; None waits as long as the job takes.

        Raises:
            TimeoutError: the job has not ended in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        after = "0"
        while True:
            with broker_errors(self._client.settings):
                ended = self._store.progress(self.id).state.ended
                left = _BLOCK_MS if deadline is None else int((deadline - time.monotonic()) * 1000)
                wait_ms = None if ended or left <= 0 else min(_BLOCK_MS, left)
                after, predictions = self._store.results(self.id, after, wait_ms)
            yield from predictions
            if predictions:
                continue
            if ended:
                return
            if left <= 0:
                raise TimeoutError(f"job {self.id} has not ended within {timeout:g} s")

    def results_so_far(self) -> Iterator[Prediction]:
        """The predictions there are now, without waiting for more."""
        after = "0"
        while True:
            with broker_errors(self._client.settings):
                after, predictions = self._store.results(self.id, after, None)
            if not predictions:
                return
            yield from predictions

    def failures(self) -> Iterator[Prediction]:
        """The predictions of failed items, in no order."""
        with broker_errors(self._client.settings):
            yield from self._store.failures(self.id)

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
        with broker_errors(self._client.settings):
            return self._store.cancel(self.id)

    def retry_failed(self) -> int:
        """Send the failed items again.

        Returns:
            How many.

        Raises:
            ConfigError: the job was cancelled, or is still being submitted.
        """
        retried = 0
        with broker_errors(self._client.settings):
            progress = self._store.progress(self.id)
            if progress.state is JobState.CANCELLED:
                raise ConfigError(f"job {self.id} was cancelled; submit its items again")
            if progress.state is JobState.SUBMITTING or not self._store.sealed(self.id):
                raise ConfigError(f"job {self.id} is still being submitted; retry when that has ended")
            # Read first: what fails again meanwhile is left for the next time.
            failures = {prediction.ordinal: prediction for prediction in self._store.failures(self.id)}
            for batch in _batches(failures.values()):
                reopened = self._store.reopen(self.id, batch)
                if reopened is not None:
                    self._client.sender.score_chunk(self.id, reopened[0], progress.priority.value)
                    retried += reopened[1]
        return retried

    def release_push(self, delivered: Iterable[int]) -> None:
        """Let a job submitted with `PushTarget(hold=True)` push, except the ordinals delivered already."""
        with broker_errors(self._client.settings):
            if self._store.release_push(self.id, delivered):
                self._client.sender.push(self.id)


def make_chunks(items: Iterable[Item]) -> Iterator[Chunk]:
    """Cut a stream of items into chunks of at most 64 items and 64 KiB of JSON (a larger item goes alone)."""
    first = 0
    for batch in _cut(items, _json_size):
        yield Chunk(first=first, items=tuple(batch))
        first += len(batch)


def _batches(failed: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    """Cut failed predictions as `make_chunks` cuts items."""
    return _cut(failed, lambda prediction: _json_size(prediction.item))


def _cut(things: Iterable[_T], size_of: Callable[[_T], int]) -> Iterator[list[_T]]:
    held: list[_T] = []
    held_bytes = 0
    for thing in things:
        size = size_of(thing)
        if held and (len(held) >= CHUNK_ITEMS or held_bytes + size > CHUNK_BYTES):
            yield held
            held, held_bytes = [], 0
        held.append(thing)
        held_bytes += size
    if held:
        yield held


def _json_size(item: Item) -> int:
    """About the bytes of its JSON."""
    return sum(len(image.uri) for image in item.images) + len(item.id) + 80


def absolute_item(item: Item) -> Item:
    """The item with local paths made absolute: the worker's current folder is another one."""
    if all(_SCHEME.match(image.uri) for image in item.images):
        return item
    images = tuple(
        image
        if _SCHEME.match(image.uri)
        else image.model_copy(update={"uri": str(Path(image.uri).expanduser().absolute())})
        for image in item.images
    )
    return item.model_copy(update={"images": images})
