"""Pushes a job's finished predictions to its platform: in batches, in order, each item once.

Pushing is not idempotent on Label Studio's side, and a pusher can die between sending a batch and marking it, or
lose to a person who opened the task and was answered inline. So the platform is asked first what it has already.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis

from ...integrations.broker.locks import LockLost, TimedLock
from ...integrations.ledger.clock import redis_time
from ...integrations.ledger.jobs import JobStore, NoSuchJob
from ...integrations.ledger.keys import PUSH_PENDING, JobKeys
from ...integrations.ledger.push_hints import PushHints
from ...integrations.platforms import Platform, PushReport
from ...schemas.errors import ConfigError, PrelabelError, TransientError
from ...schemas.jobs import PushTarget
from ...schemas.predictions import Prediction
from ...schemas.retrying import Backoff
from ...schemas.settings import Settings
from ..telemetry import metrics
from ..telemetry.logs import Once, log_about
from ..telemetry.stages import stage

log = logging.getLogger(__name__)

_LOCK_S = 120
_HOLD_S = 150.0
"""Seconds after which a held job is pushed anyway; Label Studio itself gives up on /predict after 100 s."""

_ATTEMPTS = 8
_BACKOFF = Backoff(base_s=1.0, cap_s=30.0)


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
        self._redis: Any = client
        self._hints = PushHints(client)
        self._settings = settings
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
            self._hints.taken(job_id)
            try:
                self._push(job_id)
            except NoSuchJob:
                self._redis.srem(PUSH_PENDING, job_id)
            except LockLost as error:
                log.info("push of job %s ends here: %s", job_id, error)
            except ConfigError as error:
                self._leave(job_id, error)

    def _leave(self, job_id: str, error: ConfigError) -> None:
        """Leave a job to the workers of the release that wrote it: it stays pending, and sweeps send them to it."""
        if self._left.first(job_id):
            log.warning("job %s is left for a worker of its own release to push: %s", job_id, error)

    def _push(self, job_id: str) -> None:
        keys = JobKeys(job_id)
        target = self._store.spec(job_id).push
        if target is None:
            self._redis.srem(PUSH_PENDING, job_id)
            return
        if target.hold and not self._released(job_id, keys):
            return
        lock = TimedLock(self._redis, keys.push_lock, _LOCK_S)
        self._redis.set(keys.push_wanted, 1, ex=self._settings.job_ttl_s)
        # The loop closes the gap between "nothing left" and unlocking: who asks in between finds the lock taken.
        while self._redis.exists(keys.push_wanted) and lock.take():
            try:
                self._redis.delete(keys.push_wanted)
                if not self._push_ready(job_id, keys, target, lock):
                    return  # the sweeper sends us again
            finally:
                lock.give_back()

    def _released(self, job_id: str, keys: JobKeys) -> bool:
        """Whether the submitter has let go, or has been silent for so long that it must have died.

        Raises:
            ConfigError: another release wrote the job.
        """
        created, ready = self._redis.hmget(keys.meta, "created", "push_ready")
        try:
            return bool(ready) or redis_time(self._redis) - float(created or b"") > _HOLD_S
        except ValueError:
            raise ConfigError(f"when job {job_id} was submitted cannot be read: another release wrote it") from None

    def _push_ready(self, job_id: str, keys: JobKeys, target: PushTarget, lock: TimedLock) -> bool:
        """Push all there is. Returns False when something that is ready could not be pushed.

        Raises:
            LockLost: we were slow and another has taken over.
        """
        while True:
            cursor = (self._redis.hget(keys.meta, "push_cursor") or b"0").decode()
            after, predictions = self._store.results(job_id, cursor, None)
            if not predictions:
                if self._store.progress(job_id).state.ended:
                    self._redis.srem(PUSH_PENDING, job_id)
                return True
            pushed = self._bits(keys, [prediction.ordinal for prediction in predictions])
            wanted = [p for p, is_pushed in zip(predictions, pushed, strict=True) if p.ok and not is_pushed]
            lock.keep()
            if wanted and not self._push_batch(job_id, keys, target, wanted, lock):
                return False
            lock.keep()  # whoever took over has a cursor of their own
            self._redis.hset(keys.meta, "push_cursor", after)

    def _push_batch(
        self, job_id: str, keys: JobKeys, target: PushTarget, wanted: list[Prediction], lock: TimedLock
    ) -> bool:
        """Returns False when the platform stays unavailable or refuses us; what was not pushed stays ready."""
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
                self._redis.hset(keys.meta, "push_error", str(error)[:500])
                if self._pause(lock, pause_s):
                    return False  # the sweeper of another worker goes on
                continue
            except PrelabelError as error:
                metrics.pushes.labels("refused").inc(len(wanted))
                log.error("push of job %s failed: %s", job_id, error)
                self._redis.hset(keys.meta, "push_error", str(error)[:500])
                return False
            self._mark(keys, report)
            return True
        log.error("push of job %s given up after %d tries; the next sweep goes on", job_id, _ATTEMPTS)
        return False

    @contextmanager
    def _keeping(self, lock: TimedLock) -> Iterator[None]:
        """Stay the job's one pusher while the platform takes its time."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(_LOCK_S / 4):
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
            if self._wait(min(seconds, _LOCK_S / 4)):
                return True
            seconds -= _LOCK_S / 4
            if seconds <= 0:
                lock.keep()
                return False

    def _mark(self, keys: JobKeys, report: PushReport) -> None:
        counts = {"pushed": len(report.pushed), "skipped": len(report.skipped), "rejected": len(report.rejected)}
        for status, count in counts.items():
            metrics.pushes.labels(status).inc(count)
        with self._redis.pipeline(transaction=True) as pipe:
            for ordinal in (*report.pushed, *report.skipped):
                pipe.setbit(keys.pushed, ordinal, 1)
            for ordinal, reason in report.rejected:
                pipe.hset(keys.push_failed, ordinal, reason[:500])
            pipe.hdel(keys.meta, "push_error")
            pipe.ttl(keys.meta)
            ttl = pipe.execute()[-1]
        if ttl > 0:  # the job has ended: its keys expire together
            self._redis.expire(keys.pushed, ttl)
            self._redis.expire(keys.push_failed, ttl)

    def _bits(self, keys: JobKeys, ordinals: Sequence[int]) -> list[int]:
        with self._redis.pipeline(transaction=False) as pipe:
            for ordinal in ordinals:
                pipe.getbit(keys.pushed, ordinal)
            bits: list[int] = pipe.execute()
        return bits
