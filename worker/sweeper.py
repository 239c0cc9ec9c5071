"""Finds what got lost: leases that ran out, chunks that wait although no message says so, pushes left undone.

Runs in every worker; a lock in Redis lets one at a time do it, so there is no extra process to forget.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

import redis

from ..schemas.names import PUSH_PENDING, SWEEPER
from .ledger import ChunkRef, Ledger

log = logging.getLogger(__name__)

Hint = Callable[[ChunkRef, str], None]
"""Puts a message for a chunk on a queue."""

_PUSH_EVERY = 10
"""Sweeps between looks at pushes: a platform that is down wants a longer pause."""


class Sweeper:
    """Sends hints for chunks nobody will come back to.

    Args:
        ledger: what is leased and what waits.
        client: Redis, for the lock and queue lengths.
        hint: sends the message for a chunk.
        push: sends the message for a job with predictions to push.
        owner: this worker's name, for the lock.
        every_s: seconds between sweeps.
    """

    def __init__(
        self,
        ledger: Ledger,
        client: redis.Redis,
        hint: Hint,
        push: Callable[[str], None],
        *,
        owner: str,
        every_s: float,
    ) -> None:
        self._ledger = ledger
        self._redis: Any = client
        self._hint = hint
        self._push = push
        self._sweeps = 0
        self._owner = owner
        self._every_s = every_s
        self._waited: set[ChunkRef] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prelabel-sweeper", daemon=True)

    def start(self) -> None:
        """Begin sweeping."""
        self._thread.start()

    def stop(self) -> None:
        """End after the sweep under way."""
        self._stop.set()
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
        waiting: set[ChunkRef] = set()
        for job_id in self._ledger.active_jobs():
            queue = self._ledger.queue_of(job_id)
            if queue is None:
                continue
            for ref in self._ledger.reap(job_id):
                log.warning("lease of job %s chunk %d ran out: giving it out again", ref.job_id, ref.chunk)
                self._hint(ref, queue)
                sent += 1
            if self._redis.llen(queue) == 0:
                waiting.update(self._ledger.waiting(job_id))
                for ref in waiting & self._waited:
                    if ref.job_id == job_id:
                        log.warning("job %s chunk %d was on no queue: sending it again", ref.job_id, ref.chunk)
                        self._hint(ref, queue)
                        sent += 1
        # Only what waits on an empty queue for two sweeps: a message may be on its way to a worker right now.
        self._waited = waiting
        self._sweeps += 1
        if self._sweeps % _PUSH_EVERY == 0:
            for raw in self._redis.smembers(PUSH_PENDING):
                self._push(raw.decode())
        return sent
