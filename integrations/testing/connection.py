"""The connection of a client whose jobs and queues are in memory: no socket, no setting of the environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn, TypeVar

from ...schemas.errors import ConfigError
from ...schemas.settings import Settings
from ..ledger.leases import ChunkRef
from ..ledger.memory.jobs import MemoryJobs
from ..ledger.memory.push_hints import MemoryPushHints
from ..ledger.memory.state import MemoryState

_T = TypeVar("_T")


class MemorySender:
    """Puts messages on the queues in memory. Thread-safe.

    Args:
        state: the ledger.
    """

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def score_chunk(self, job_id: str, chunk: int, queue: str) -> None:
        """Hint that a chunk of a job waits."""
        self.score_chunks(job_id, [chunk], queue)

    def score_chunks(self, job_id: str, chunks: Iterable[int], queue: str) -> None:
        """Hint that chunks of a job wait."""
        with self._state.changed:
            self._state.chunk_messages[queue].extend(ChunkRef(job_id, chunk) for chunk in chunks)
            self._state.changed.notify_all()

    def search(self, request: str, queue: str) -> None:  # noqa: ARG002
        """Refused: what is searched are the vectors that workers of a model have stored.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("images are searched by workers: without Redis there is nothing to search")

    def push(self, job_id: str) -> None:
        """Hint that a job has predictions to push."""
        with self._state.changed:
            self._state.push_messages.append(job_id)


class MemoryConnection:
    """One program's way to jobs in memory. Thread-safe.

    Args:
        state: the ledger.
        work: called where a reader of results would wait; may do some work, and returns whether it did.

    Attributes:
        settings: the defaults, whatever the environment says.
        state: the ledger.
        store: its producer's half.
        push_hints: says whether a job's message on the push queue is due.
        sender: puts messages on the queues.
    """

    def __init__(self, state: MemoryState, *, work: Callable[[], bool] | None = None) -> None:
        self.settings = Settings.model_construct(state_dir=Path("nowhere"))  # nothing here keeps state
        self.state = state
        self.store = MemoryJobs(state, self.settings.job_ttl_s, work=work)
        self.push_hints = MemoryPushHints(state)
        self.sender = MemorySender(state)

    @property
    def redis(self) -> NoReturn:
        """There is none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError("jobs in memory have no Redis: what is kept beside jobs needs a prelabel.integrations.Client")

    def patiently(self, call: Callable[[], _T], *, wait_s: float | None = None) -> _T:  # noqa: ARG002  # never away
        """What `call` returns."""
        return call()

    def close(self) -> None:
        """Nothing is open; the jobs stay."""
