"""What came of pushes, in memory: it does what `pushes.Pushes` does in Redis."""

from __future__ import annotations

from collections.abc import Iterable

from .state import MemoryState


class MemoryPushes:
    """Writes what became of pushes. Thread-safe.

    Args:
        state: the ledger.
    """

    def __init__(self, state: MemoryState) -> None:
        self._state = state

    def mark(self, job_id: str, pushed: Iterable[int], rejected: Iterable[tuple[int, str]]) -> None:
        """Write which ordinals are delivered and which the platform does not take, with the reason."""
        with self._state.changed:
            job = self._state.job(job_id)
            if job is None:
                return
            for ordinal in pushed:
                job.pushed.add(ordinal)
                job.refused.pop(ordinal, None)
            job.refused.update(rejected)
            job.push_problem = ""

    def record_problem(self, job_id: str, problem: str) -> None:
        """Keep why the job cannot be pushed now."""
        with self._state.changed:
            job = self._state.job(job_id)
            if job is not None:
                job.push_problem = problem
