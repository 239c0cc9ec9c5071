"""One job as a Python program sees it: watch it, read its predictions, cancel it, retry what failed."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeVar

from ...schemas.errors import ConfigError
from ...schemas.items import Item
from ...schemas.jobs import JobSpec
from ...schemas.predictions import Prediction
from ...schemas.progress import JobState, Progress, PushRefusal
from ...schemas.queues import queue_of
from ...schemas.wire import kind_of
from .arguments import count_of, seconds_of
from .connection import Connection
from .cutting import retry_batches
from .refusals import Reasons
from .workers import with_problems

if TYPE_CHECKING:
    import pyarrow as pa

    from .table import Table

_BLOCK_MS = 500
_T = TypeVar("_T")
_T_co = TypeVar("_T_co", covariant=True)


class _Read(Protocol[_T_co]):
    """`Jobs.results`, or `Jobs.blocks`."""

    def __call__(self, job_id: str, after: str, block_ms: int | None) -> tuple[str, Sequence[_T_co]]: ...


class Job:
    """A handle on one job; holds nothing but its id.

    Args:
        connection: where the job is.
        job_id: which one. Nothing is asked yet: `Client.job` says whether it is there.
    """

    def __init__(self, connection: Connection, job_id: str) -> None:
        self.id = job_id
        self._connection = connection
        self._store = connection.store
        self._patiently = connection.patiently

    def __repr__(self) -> str:
        return f"Job({self.id!r})"

    def is_of(self, connection: Connection) -> bool:
        """Whether this is where the job is."""
        return self._connection is connection

    def spec(self) -> JobSpec:
        """What the job asks."""
        return self._patiently(lambda: self._store.spec(self.id))

    def progress(self) -> Progress:
        """Counts, state, images per second and time left, now; and what it lacks where nobody works on it."""
        return self._patiently(lambda: with_problems(self._store, [self._store.progress(self.id)])[0])

    def results(self, timeout: float | None = None) -> Iterator[Prediction]:
        """Predictions as they come, each item once, until the job has ended.

        A failed item is yielded too, with `.error` set; when it is sent again meanwhile (`retry_failed`), its answer
        follows. Items a cancelled job never reached are not.

        Args:
            timeout: seconds to wait in all; None waits as long as the job takes.

        Raises:
            TimeoutError: the job has not ended in time.
        """
        seen = Seen()
        for predictions in self._following(self._store.results, timeout):
            yield from filter(seen.is_news, predictions)

    def _following(self, read: _Read[_T], timeout: float | None) -> Iterator[Sequence[_T]]:
        """What has come, as often as something has, until the job has ended.

        Raises:
            TimeoutError: the job has not ended in time.
        """
        timeout = seconds_of(timeout)
        deadline = None if timeout is None else time.monotonic() + timeout
        after = "0"
        while True:
            left_s = None if deadline is None else deadline - time.monotonic()
            ended, after, page = self._patiently(
                partial(self._next, read, after, left_s), wait_s=None if left_s is None else max(0.0, left_s)
            )
            if page:
                yield page
                continue
            if ended:
                return
            if left_s is not None and left_s <= 0:
                raise TimeoutError(f"job {self.id} has not ended within {timeout:g} s")

    def _next(self, read: _Read[_T], after: str, left_s: float | None) -> tuple[bool, str, Sequence[_T]]:
        """Whether the job had ended, and what has come after a stream id; waits a moment when nothing has."""
        ended = self._store.progress(self.id).state.ended
        wait_ms = _BLOCK_MS if left_s is None else min(_BLOCK_MS, int(left_s * 1000))
        return ended, *read(self.id, after, None if ended or wait_ms <= 0 else wait_ms)

    def results_so_far(self) -> Iterator[Prediction]:
        """The predictions there are now, without waiting for more."""
        after = "0"
        seen = Seen()
        while True:
            after, predictions = self._patiently(partial(self._store.results, self.id, after, None))
            if not predictions:
                return
            yield from filter(seen.is_news, predictions)

    def table(self, control: str | None = None) -> Table:
        """The predictions there are now as numpy columns: a million in seconds, since no object is made of any.

        Args:
            control: whose answers; None takes the first control's.

        Returns:
            A row for each answer, in the order of the submission, and for each item that failed.

        Raises:
            ConfigError: numpy is missing, there is no such control, or its labels come with the items.
        """
        try:
            from .table import TableBuilder, control_of
        except ImportError:
            raise ConfigError("job.table() needs numpy: pip install 'prelabel[parquet]'") from None
        spec = self.spec()
        builder = TableBuilder(spec, control_of(spec, control))
        after = "0"
        while True:
            after, blocks = self._patiently(partial(self._store.blocks, self.id, after))
            if not blocks:
                return builder.table()
            builder.add(blocks)

    def answered_items(self, model: str) -> Iterator[Item]:
        """The items answered so far, each image with the key of its stored vector (`ImageRef.vector`).

        Args:
            model: `<model>@<revision8>` the vectors must come from; another one's have no key.

        Raises:
            ConfigError: the model is no text.
        """
        if not isinstance(model, str):
            raise ConfigError(f"model must be <model>@<revision8>, a text, not {kind_of(model)}")
        after = "0"
        while True:
            end, items = self._patiently(partial(self._store.answered_items, self.id, after, model))
            yield from items
            if end == after:
                return
            after = end

    def item_ids(self) -> list[str]:
        """The ids of the items, by ordinal; empty for one that cannot be read."""
        pages = self._patiently(lambda: list(self._store.item_ids(self.id)))
        ids = [""] * (1 + max((max(ordinals) for ordinals, _ in pages if ordinals), default=-1))
        for ordinals, some in pages:
            for ordinal, item_id in zip(ordinals, some, strict=True):
                ids[ordinal] = item_id
        return ids

    def to_arrow(self, control: str | None = None) -> pa.Table:
        """What `table` gives, with the items' ids and the labels' names, as a `pyarrow.Table`.

        Args:
            control: whose answers; None takes the first control's.

        Raises:
            ConfigError: as `table`; or pyarrow is missing.
        """
        try:
            from .arrow import arrow_table
        except ImportError:
            raise ConfigError("job.to_arrow() needs pyarrow: pip install 'prelabel[parquet]'") from None
        return arrow_table(self.table(control), self.item_ids())

    def failures(self) -> Iterator[Prediction]:
        """The predictions of failed items, in no order."""
        seen = Seen()
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

    def refusals(self, limit: int | None = None) -> list[PushRefusal]:
        """Why the platform does not take answers of this job: each reason once, the most frequent first.

        Args:
            limit: refused items to look at, at least; `progress().refused` counts all. None looks at every one.
        """
        reasons, seen, cursor = Reasons(), set[int](), 0
        while True:
            cursor, page = self._patiently(partial(self._store.refusals, self.id, cursor))
            for refused in page:
                if refused.ordinal not in seen:
                    seen.add(refused.ordinal)
                    reasons.add(refused)
            if not cursor or (limit is not None and len(seen) >= limit):
                return reasons.refusals(lambda ordinals: self._patiently(lambda: self._store.items(self.id, ordinals)))

    def wait(self, timeout: float | None = None) -> Progress:
        """Block until the job has ended.

        Raises:
            TimeoutError: it has not within `timeout` seconds.
        """
        for _ in self._following(self._store.blocks, timeout):
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
        queue = queue_of(progress.priority.value, progress.model)
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
                self._patiently(partial(self._connection.sender.score_chunk, self.id, chunk, queue))
                retried += count
        return retried

    def release_push(self, delivered: Iterable[int]) -> None:
        """Let a job submitted with `PushTarget(hold=True)` push, except the ordinals delivered already."""
        if isinstance(delivered, str | bytes) or not isinstance(delivered, Iterable):
            raise ConfigError(f"delivered must be a list of ordinals, not {kind_of(delivered)}")
        ordinals = [count_of(ordinal, "an ordinal") for ordinal in delivered]
        released = self._patiently(lambda: self._store.release_push(self.id, ordinals))
        if released and self._patiently(lambda: self._connection.push_hints.due(self.id)):
            self._patiently(lambda: self._connection.sender.push(self.id))


class Seen:
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
