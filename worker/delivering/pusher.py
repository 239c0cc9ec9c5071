"""Pushes a job's finished predictions to its platform: in batches, in order, each item once.

Pushing is not idempotent on Label Studio's side, and a pusher can die between sending a batch and marking it, or
lose to a person who opened the task and was answered inline. So the platform is asked first what it has already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import redis

from ...integrations.broker.locks import LockLost, TimedLock
from ...integrations.ledger.jobs import JobStore, NoSuchJob
from ...integrations.ledger.pushes import LOCK_S, START, Pushes
from ...integrations.platforms import HearsOfFailures, Platform, PushReport
from ...schemas.errors import ConfigError, PrelabelError, TransientError
from ...schemas.jobs import LABEL_STUDIO, PushTarget
from ...schemas.predictions import Prediction
from ...schemas.retrying import Backoff
from ...schemas.settings import Settings
from ..telemetry import metrics
from ..telemetry.logs import log_about
from ..telemetry.once import Once
from ..telemetry.stages import stage

log = logging.getLogger(__name__)

_HOLD_S = 150.0
"""Seconds after which a held job is pushed anyway; Label Studio itself gives up on /predict after 100 s."""

_AT_ONCE = 4096
"""Predictions from which on no more are read for one push: Label Studio counts all tasks of the project after each,
whatever it holds."""

_AT_FIRST = 256
"""The same of a job's first push, so that people see something soon."""

_ATTEMPTS = 8
_BACKOFF = Backoff(base_s=1.0, cap_s=30.0)


@dataclass
class _Refused:
    """What the platform refused in the course of one push.

    Attributes:
        count: items.
        first: the first one's id, and why.
    """

    count: int = 0
    first: tuple[str, str] | None = None

    def add(self, sent: Sequence[Prediction], report: PushReport) -> None:
        """Count what is refused of a batch."""
        self.count += len(report.rejected)
        if report.rejected and self.first is None:
            ordinal, reason = report.rejected[0]
            self.first = next((p.item.id for p in sent if p.ordinal == ordinal), str(ordinal)), " ".join(reason.split())

    def tell(self, job_id: str) -> None:
        """Say in one line of the log what was refused, if anything was."""
        if self.first is not None:
            log.warning(
                "%d predictions of job %s are refused and not sent again; the first is item %s: %s (all: prelabel "
                "status %s)", self.count, job_id, *self.first, job_id,
            )  # fmt: skip


class JobPusher:
    """Pushes what a job has ready. One pusher works on a job at a time, in whatever process.

    Args:
        store: reads results.
        client: Redis.
        settings: how long a job is kept.
        platforms: the platform a job names; raises `ConfigError` where there is none.
        wait: for tests; waits some seconds between tries and says whether to stop.
    """

    def __init__(
        self,
        store: JobStore,
        client: redis.Redis,
        settings: Settings,
        platforms: Callable[[str], Platform],
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self._store = store
        self._pushes = Pushes(client, settings.job_ttl_s)
        self._platforms = platforms
        self._left = Once()
        self._stopping = threading.Event()
        self._wait = wait or self._stopping.wait

    def stop(self) -> None:
        """End waiting for a platform that is down."""
        self._stopping.set()

    def push(self, job_id: str) -> None:
        """Push until nothing is ready. Returns at once when somebody else is at it: they go on for us."""
        with log_about(job=job_id):
            self._pushes.taken(job_id)
            try:
                self._push(job_id)
            except NoSuchJob:
                self._pushes.forget(job_id)
            except LockLost as error:
                log.info("push of job %s ends here: %s", job_id, error)
            except ConfigError as error:
                self._leave(job_id, error)

    def _leave(self, job_id: str, error: ConfigError) -> None:
        """Leave a job to the workers of the release that wrote it: it stays pending, and sweeps send them to it."""
        if self._left.first(job_id):
            log.warning("job %s is left for a worker of its own release to push: %s", job_id, error)

    def _push(self, job_id: str) -> None:
        refused = _Refused()
        try:
            self._push_wanted(job_id, refused)
        finally:
            refused.tell(job_id)

    def _push_wanted(self, job_id: str, refused: _Refused) -> None:
        target = self._store.spec(job_id).push
        if target is None:
            self._pushes.forget(job_id)
            return
        if target.hold and not self._pushes.is_released(job_id, _HOLD_S):
            return
        lock = self._pushes.lock(job_id)
        self._pushes.want(job_id)
        # The loop closes the gap between "nothing left" and unlocking: who asks in between finds the lock taken.
        while self._pushes.is_wanted(job_id) and lock.take():
            try:
                self._pushes.begin(job_id)
                if not self._push_ready(job_id, target, lock, refused):
                    return  # the sweeper sends us again
            finally:
                lock.give_back()

    def _push_ready(self, job_id: str, target: PushTarget, lock: TimedLock, refused: _Refused) -> bool:
        """Push all there is. Returns False when something that is ready could not be pushed.

        Raises:
            LockLost: we were slow and another has taken over.
        """
        while True:
            after, predictions = self._ready(job_id, scores=target.platform != LABEL_STUDIO)
            if not predictions:
                if self._store.progress(job_id).state.ended:
                    self._pushes.forget(job_id)
                return True
            pushed = self._pushes.are_pushed(job_id, [prediction.ordinal for prediction in predictions])
            wanted = [p for p, is_pushed in zip(predictions, pushed, strict=True) if p.ok and not is_pushed]
            lock.keep()
            report = self._push_batch(job_id, target, wanted, lock) if wanted else PushReport()
            if report is None:
                return False
            refused.add(wanted, report)
            self._tell_failures(target, [prediction for prediction in predictions if not prediction.ok])
            lock.keep()  # whoever took over has a cursor of their own
            self._pushes.move(job_id, after)

    def _ready(self, job_id: str, *, scores: bool) -> tuple[str, list[Prediction]]:
        """What is finished and was not read yet, up to where it is, and no more of it than is to go at once.

        Args:
            job_id: the job.
            scores: whether the platform may look at other scores than the chosen labels'; Label Studio has no place for
                them.
        """
        after, predictions = self._pushes.cursor(job_id), list[Prediction]()
        most = _AT_FIRST if after == START else _AT_ONCE
        while len(predictions) < most:
            after, more = self._store.results(job_id, after, None, most, scores=scores)
            if not more:
                break
            predictions += more
        return after, predictions

    def _push_batch(
        self, job_id: str, target: PushTarget, wanted: list[Prediction], lock: TimedLock
    ) -> PushReport | None:
        """What became of each; None when the platform stays unavailable or refuses us, and all of it stays ready."""
        for attempt in range(_ATTEMPTS):
            try:
                with stage("push", len(wanted)), self._keeping(lock):
                    platform = self._platforms(target.platform)
                    report = platform.push(target, wanted, check_existing=True, who=job_id)
            except TransientError as error:
                metrics.pushes.labels("postponed").inc(len(wanted))
                pause_s = _BACKOFF.pause_s(attempt + 1)
                if error.retry_after_s is not None:
                    pause_s += error.retry_after_s
                log.warning("push of job %s postponed for %.1f s: %s", job_id, pause_s, error)
                self._pushes.record_problem(job_id, str(error))
                if self._pause(lock, pause_s):
                    return None  # the sweeper of another worker goes on
                continue
            except PrelabelError as error:
                metrics.pushes.labels("refused").inc(len(wanted))
                log.error("push of job %s failed: %s", job_id, error)
                self._pushes.record_problem(job_id, str(error))
                return None
            self._mark(job_id, report)
            told = {*report.pushed, *report.skipped, *(ordinal for ordinal, _ in report.rejected)}
            if untold := [prediction.ordinal for prediction in wanted if prediction.ordinal not in told]:
                problem = f"the platform said nothing of {len(untold)} of {len(wanted)} predictions"
                log.error("push of job %s: %s; they stay ready", job_id, problem)
                self._pushes.record_problem(job_id, problem)
                return None
            return report
        log.error("push of job %s given up after %d tries; the next sweep goes on", job_id, _ATTEMPTS)
        return None

    def _tell_failures(self, target: PushTarget, failed: Sequence[Prediction]) -> None:
        if not failed:
            return
        try:
            platform = self._platforms(target.platform)
            if isinstance(platform, HearsOfFailures):
                platform.failed(target, failed)
        except PrelabelError as error:
            log.warning("%d items that failed are not told to %s: %s", len(failed), target.platform, error)

    @contextmanager
    def _keeping(self, lock: TimedLock) -> Iterator[None]:
        """Stay the job's one pusher while the platform takes its time."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LOCK_S / 4):
                try:
                    lock.keep()
                except LockLost:
                    return  # what is on its way arrives; then nothing more is sent
                except redis.RedisError as error:
                    log.warning("the push lock could not be renewed: %s", error)

        thread = threading.Thread(target=renew, name="prelabel-push-lock", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _pause(self, lock: TimedLock, seconds: float) -> bool:
        """Wait, and go on being the job's one pusher. Returns whether to stop."""
        while True:
            lock.keep()
            if self._wait(min(seconds, LOCK_S / 4)):
                return True
            seconds -= LOCK_S / 4
            if seconds <= 0:
                lock.keep()
                return False

    def _mark(self, job_id: str, report: PushReport) -> None:
        counts = {"pushed": len(report.pushed), "skipped": len(report.skipped), "rejected": len(report.rejected)}
        for status, count in counts.items():
            metrics.pushes.labels(status).inc(count)
        self._pushes.mark(job_id, (*report.pushed, *report.skipped), report.rejected)
