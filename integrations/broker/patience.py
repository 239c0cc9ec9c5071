"""Calls to Redis repeated while it is away, for as long as the settings say."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import redis
import redis.backoff
import redis.connection
import redis.exceptions
import redis.retry

from ...schemas.errors import BrokerUnavailable
from ...schemas.settings import Settings
from .errors import broker_errors

_T = TypeVar("_T")


class Patience:
    """Runs calls to Redis, again while it is away or takes no writes, for as long as `broker_wait_s` says.

    A call that is repeated must mean the same thing twice, for its reply may be all that was lost. Thread-safe.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._retry = redis.retry.Retry(_Backoff(cap=2.0, base=0.1), -1, supported_errors=(BrokerUnavailable,))

    def __call__(self, call: Callable[[], _T], *, wait_s: float | None = None) -> _T:
        """What `call` returns.

        Args:
            call: uses Redis or Celery, and may be run more than once.
            wait_s: seconds to keep trying, if that is less than `broker_wait_s`.

        Raises:
            BrokerUnavailable: Redis was away, loading, read-only or full all the time.
            ConfigError: Redis refuses us; waiting does not help.
        """
        limit = self._settings.broker_wait_s if wait_s is None else min(wait_s, self._settings.broker_wait_s)
        deadline = time.monotonic() + limit

        def attempt() -> _T:
            with broker_errors(self._settings):
                return call()

        def give_up(error: Exception) -> None:
            if time.monotonic() >= deadline:
                raise error

        return self._retry.call_with_retry(attempt, give_up)


class _Backoff(redis.backoff.FullJitterBackoff):
    """Redis-py's, for any number of failures: 2.0 ** 1024 is too large for it."""

    def compute(self, failures: int) -> float:
        return super().compute(min(failures, 16))
