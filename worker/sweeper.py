"""Finds what got lost: leases that ran out, chunks that wait although no message says so, pushes left undone.

Runs in every worker; a lock in Redis lets one at a time do it, so there is no extra process to forget.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis

from ..integrations.job_store import JobStore
from ..schemas.errors import PrelabelError
from ..schemas.names import PUSH_PENDING, SWEEPER
from .ledger import ChunkRef, Ledger

log = logging.getLogger(__name__)

Hint = Callable[[ChunkRef, str], None]
"""Puts a message for a chunk on a queue."""

_ABANDONED_S = 3600.0
"""Seconds without a new item after which an unfinished submission counts as abandoned."""

_PUSH_EVERY = 10
"""Sweeps between looks at pushes: a platform that is down wants a longer pause."""


class Sweeper:
    """Sends hints for chunks nobody will come back to.

    Args:
        ledger: what is leased and what waits.
        store: finds jobs whose submitter is gone.
        client: Redis, for the lock and queue lengths.
        hint: sends the message for a chunk.
        push: sends the message for a job with predictions to push.
        owner: this worker's name, for the lock.
        every_s: seconds between sweeps.
    """

    def __init__(
        self,
        ledger: Ledger,
        store: JobStore,
        client: redis.Redis,
        hint: Hint,
        push: Callable[[str], None],
        *,
        owner: str,
        every_s: float,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._redis: Any = client
        self._hint = hint
        self._push = push
        self._sweeps = 0
        self._owner = owner
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prelabel-sweeper", daemon=True)

    def start(self) -> None:
        """Begin sweeping."""
        self._thread.start()

    def stop(self) -> None:
        """End after the sweep under way."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                if self._redis.set(SWEEPER, self._owner, nx=True, px=int(self._every_s * 900)):
                    self.sweep()
            except redis.RedisError as error:
                log.warning("sweep put off: %s", error)
            except Exception:  # without the sweeper lost chunks stay lost
                log.exception("sweep failed")

    def sweep(self) -> int:
        """One sweep over all active jobs.

        Returns:
            Hints for chunks sent.
        """
        sent = 0
        for job_id in self._ledger.active_jobs():
            try:
                sent += self._sweep_job(job_id)
            except PrelabelError as error:  # one odd job must not keep the others waiting
                log.warning("job %s cannot be swept: %s", job_id, error)
        for job_id in self._store.abandoned(_ABANDONED_S):
            log.warning("job %s: its submitter fell silent before all items were there: cancelled", job_id)
            self._store.cancel(job_id, "its submitter fell silent")
        self._sweeps += 1
        if self._sweeps % _PUSH_EVERY == 0:
            for raw in self._redis.smembers(PUSH_PENDING):
                self._push(raw.decode())
        return sent

    def _sweep_job(self, job_id: str) -> int:
        queue = self._ledger.queue_of(job_id)
        if queue is None:
            return 0
        expired = self._ledger.reap(job_id)
        for ref in expired:
            log.warning("lease of job %s chunk %d ran out: giving it out again", ref.job_id, ref.chunk)
            self._hint(ref, queue)
        overdue = self._ledger.overdue(job_id, queue, margin_s=2 * self._every_s)
        for ref in overdue:
            log.warning("the message for job %s chunk %d was lost: sending it again", ref.job_id, ref.chunk)
            self._hint(ref, queue)
        return len(expired) + len(overdue)
