"""What takes a worker's place: chunks in the order of their queues, answered by a function of the test's."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

from ...schemas.errors import ItemError, PrelabelError
from ...schemas.items import ImageRef, Item
from ...schemas.jobs import Control, JobSpec
from ...schemas.model_version import model_version
from ...schemas.predictions import Answer, ItemFailure, Outcome, Unanswered
from ...schemas.progress import Recent, WorkerInfo
from ...schemas.queues import QUEUE_INTERACTIVE
from ..client.connection import Hints
from ..ledger.leases import ChunkRef, Lease, Refusal
from ..ledger.memory.leases import MemoryLedger
from ..ledger.memory.state import MemoryState
from ..ledger.protocol import Leases, PushMarks
from .answers import Choice, answer_of

Answering: TypeAlias = Callable[[Item, Control], Choice]
"""Chooses labels for an item, one control at a time."""

_NAME: Final = "memory"
_LEASE_S: Final = 3600.0
_LONGEST_MESSAGE: Final = 500


class MemoryWorker:
    """Works on what is queued when it is told to, in the thread that tells it. Thread-safe.

    Args:
        state: the ledger.
        push_hints: says whether a job's message on the push queue is due.
        sender: puts messages on the queues.
        answer: chooses the labels.
        model: `<model>@<revision8>` of jobs that ask for none.
        ttl_s: seconds a finished job is kept.
    """

    def __init__(
        self,
        state: MemoryState,
        push_hints: PushMarks,
        sender: Hints,
        *,
        answer: Answering,
        model: str,
        ttl_s: int,
    ) -> None:
        self._state = state
        self._push_hints = push_hints
        self._sender = sender
        self._answer = answer
        self._model = model
        self._ledger: Leases = MemoryLedger(state, owner=_NAME, lease_s=_LEASE_S, ttl_s=ttl_s)
        state.any_model = True
        state.workers.append(WorkerInfo(name=_NAME, model=model, device="cpu", dtype="float32"))

    def work(self, limit: int | None = None) -> int:
        """Work on queued items, interactive ones first, until the queues are empty.

        Args:
            limit: items at most; None is no bound.

        Returns:
            How many items got an outcome.
        """
        written = 0
        while limit is None or written < limit:
            message = self._next_message()
            if message is None:
                break
            written += self._work_on(*message, None if limit is None else limit - written)
        return written

    def _next_message(self) -> tuple[str, ChunkRef] | None:
        """The queue and the chunk of the next message, which is taken; None when there is none."""
        with self._state.changed:
            messages = self._state.chunk_messages
            waiting = [queue for queue, chunks in messages.items() if chunks]
            if not waiting:
                return None
            # Of one priority the queues take turns, as a worker's do.
            queue = min(waiting, key=lambda name: not name.startswith(QUEUE_INTERACTIVE))
            messages[queue] = messages.pop(queue)
            return queue, messages[queue].popleft()

    def _work_on(self, queue: str, ref: ChunkRef, most: int | None) -> int:
        """Work on items of one chunk, `most` at most, and put it back first in its queue when some are left."""
        lease = self._ledger.claim(ref, alone=True)
        if isinstance(lease, Refusal):
            return 0
        outcomes: list[tuple[int, Outcome]] = []
        written = 0
        try:
            for ordinal, item in lease.pairs[:most]:
                outcomes.append((ordinal, self._outcome(lease.spec, item)))
        finally:  # what the test's own mistake ends keeps the outcomes it had, and can be worked on again
            written = self._write(queue, lease, outcomes)
        return written

    def _write(self, queue: str, lease: Lease, outcomes: Sequence[tuple[int, Outcome]]) -> int:
        written = self._ledger.complete(lease, outcomes, close=len(outcomes) == len(lease.pairs))
        if len(outcomes) < len(lease.pairs) and self._ledger.release(lease):
            with self._state.changed:
                self._state.chunk_messages[queue].appendleft(lease.ref)
                self._state.changed.notify_all()
        if written.held:
            self._show(lease, [pair for pair in outcomes if pair[0] in written.ordinals])
        if written.push_ready and written.ordinals and self._push_hints.due(lease.ref.job_id):
            self._sender.push(lease.ref.job_id)
        return len(written.ordinals)

    def _show(self, lease: Lease, outcomes: Sequence[tuple[int, Outcome]]) -> None:
        """Put the answers where `Client.recent` finds them."""
        items = dict(lease.pairs)
        with self._state.changed:
            for ordinal, outcome in outcomes:
                if outcome.answers:
                    self._state.recent.appendleft(
                        Recent(
                            job_id=lease.ref.job_id,
                            item_id=items[ordinal].id,
                            image=items[ordinal].images[0].display,
                            project=lease.spec.label_studio_project,
                            paths=outcome.answers[0].paths,
                            confidence=outcome.answers[0].confidence,
                            made_at=self._state.now(),
                        )
                    )

    def _outcome(self, spec: JobSpec, item: Item) -> Outcome:
        try:
            version = model_version(spec.model or self._model, spec.controls)
        except PrelabelError as error:
            return _failure(error)
        answers: list[Answer] = []
        missing: list[Unanswered] = []
        first: PrelabelError | None = None

        def miss(error: PrelabelError, control: Control, place: int, index: int | None = None) -> None:
            nonlocal first
            first = first or error
            why = _failure_of(error)
            missing.append(
                Unanswered(kind=why.kind, message=why.message, control=control.name, place=place, index=index)
            )

        for place, control in enumerate(spec.controls):
            try:
                asked = list(_questions(control, item))
            except PrelabelError as error:
                miss(error, control, place)
                continue
            for closed, about, index in asked:
                try:
                    for image in about.images_of(control.image):
                        if image.problem:
                            raise ItemError(image.problem)
                    choice = self._answer(about, closed)
                except ItemError as error:  # what else is asked is answered all the same
                    miss(error, control, place, index)
                except PrelabelError as error:
                    return _failure(error)
                else:
                    answers.append(answer_of(choice, closed, index=index, top_k=spec.top_k))
        if not answers:
            return _failure(first or ItemError("the item has no image that is asked about"))
        vectors = {slot: _vector(image) for slot, image in zip(item.slots(), item.images, strict=True)}
        return Outcome(model_version=version, vectors=vectors, answers=tuple(answers), unanswered=tuple(missing))


def _questions(control: Control, item: Item) -> Iterator[tuple[Control, Item, int | None]]:
    """What a control asks about an item: itself with its taxonomy closed, the item, and `Answer.index`.

    Raises:
        ItemError: the item has no image the control asks about, or none of the labels it should bring.
        ConfigError: the labels it brings make no taxonomy.
    """
    if control.name in item.problems:
        raise ItemError(item.problems[control.name])
    images = item.images_of(control.image)
    if not images and control.over != "each":
        raise ItemError(f"the item has no image named {control.image!r}")
    if control.taxonomy.is_open:
        if control.name not in item.options:
            raise ItemError(f"the item brings no labels for {control.name!r}")
        closed = control.taxonomy.closed(item.options[control.name].labels)
        control = control.model_copy(update={"taxonomy": closed})
    if control.over != "each":
        yield control, item, None
        return
    for index, image in enumerate(images):
        yield control, item.model_copy(update={"images": (image,)}), index


def _vector(image: ImageRef) -> str:
    """A key as of a stored vector, so that jobs in memory can be scored again."""
    where = f"{image.uri}\0{image.region}"
    return image.vector or hashlib.blake2b(where.encode(), digest_size=16).hexdigest()


def _failure(error: PrelabelError) -> Outcome:
    return Outcome(error=_failure_of(error))


def _failure_of(error: PrelabelError) -> ItemFailure:
    return ItemFailure(kind=type(error).__name__, message=str(error)[:_LONGEST_MESSAGE])
