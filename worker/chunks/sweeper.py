"""Finds what got lost: leases that ran out, chunks that wait although no message says so, pushes left undone.

It also forgets the ids of jobs that have expired, and the queues of models nobody asks for any more.

Runs in every worker; a lock in Redis lets one at a time do it, so there is no extra process to forget.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from ...integrations.broker.locks import LockLost
from ...integrations.ledger.clock import redis_time
from ...integrations.ledger.fleet import Fleet
from ...integrations.ledger.protocol import Jobs, Leases
from ...integrations.ledger.pushes import pending_jobs
from ...schemas.errors import PrelabelError
from ..telemetry import metrics
from ..telemetry.logs import log_about
from .clock_guard import ClockGuard
from .keeper import BEAT_S
from .tools import Hint

log = logging.getLogger(__name__)

_ABANDONED_S = 3600.0
"""Seconds without a new item after which an unfinished submission counts as abandoned."""

_PUSH_EVERY = 10
"""Sweeps between looks at pushes (a platform that is down wants a longer pause) and at jobs that have expired."""


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
        lease_s: seconds a lease lasts.
    """

    def __init__(
        self,
        ledger: Leases,
        store: Jobs,
        client: redis.Redis,
        hint: Hint,
        push: Callable[[str], None],
        *,
        owner: str,
        every_s: float,
        lease_s: float,
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._redis: Any = client
        self._hint = hint
        self._push = push
        self._sweeps = 0
        self._forgotten_to = 0
        self._every_s = every_s
        self._clock_guard = ClockGuard(gap_s=2 * every_s + 1, settle_s=min(lease_s / 3, BEAT_S) + 1)
        # Not given back: it ends shortly before the next sweep is due, so that all workers together sweep that often.
        self._lock = Fleet(client).sweeping(0.9 * every_s, owner)
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
                mine = self._lock.take()
                may_judge = self._clock_guard.contact(redis_time(self._redis), time.monotonic())
                if mine:
                    self.sweep(judge_leases=may_judge, keep=self._lock.keep)
            except LockLost as error:
                log.info("sweep ends here: %s", error)
            except redis.RedisError as error:
                log.warning("sweep postponed: %s", error)
            except Exception:  # without the sweeper lost chunks stay lost
                log.exception("sweep failed")

    def sweep(self, *, judge_leases: bool = True, keep: Callable[[], None] = lambda: None) -> int:
        """One sweep over all active jobs.

        Args:
            judge_leases: whether leases that have run out are taken for dead.
            keep: called before each job, to go on being the only one who sweeps.

        Returns:
            Hints for chunks sent.

        Raises:
            LockLost: by `keep`; another goes on.
        """
        sent = 0
        for job_id, why in self._store.expired(_ABANDONED_S):
            log.warning("job %s: %s: cancelled", job_id, why)
            self._store.cancel(job_id, why)
        queues = set()
        for job_id in self._ledger.active_jobs():
            keep()
            queue = self._ledger.queue_of(job_id)
            if queue is None:
                continue
            queues.add(queue)
            with log_about(job=job_id):
                try:
                    sent += self._sweep_job(job_id, queue, judge_leases=judge_leases)
                except PrelabelError as error:  # one odd job must not keep the others waiting
                    log.warning("job %s cannot be swept: %s", job_id, error)
        self._sweeps += 1
        if self._sweeps % _PUSH_EVERY == 0:
            for job_id in pending_jobs(self._redis):
                self._push(job_id)
            self._forgotten_to = self._store.forget_expired(self._forgotten_to)
            for queue in self._store.forget_queues(queues):
                log.info("queue %s is forgotten: no job has come to it for a day", queue)
        return sent

    def _sweep_job(self, job_id: str, queue: str, *, judge_leases: bool) -> int:
        expired = self._ledger.reap(job_id) if judge_leases else []
        metrics.leases_expired.inc(len(expired))
        for ref in expired:
            log.warning("lease of job %s chunk %d ran out: giving it out again", ref.job_id, ref.chunk)
            self._hint(ref, queue)
        overdue = self._ledger.overdue(job_id, queue, margin_s=2 * self._every_s)
        for ref in overdue:
            log.info("job %s chunk %d waits without a message: sending one", ref.job_id, ref.chunk)
            self._hint(ref, queue)
        return len(expired) + len(overdue)
