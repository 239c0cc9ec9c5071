"""Which jobs have a message on the push queue, in memory: where no message is lost, the first one does until taken."""

from __future__ import annotations

from .state import MemoryState


class MemoryPushHints:
    """Says whether a job's message is to be sent. Thread-safe.

    Args:
        state: the ledger.
    """

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def due(self, job_id: str) -> bool:
        """Whether no message of the job is under way; the caller sends one then."""
        with self._state.changed:
            is_due = job_id not in self._state.push_hinted
            self._state.push_hinted.add(job_id)
            return is_due

    def taken(self, job_id: str) -> None:
        """Note that the job's message was taken: what is ready from now on is news again."""
        with self._state.changed:
            self._state.push_hinted.discard(job_id)
