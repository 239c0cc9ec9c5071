"""What cleaners share in Redis: who cleans a project, whether others wait, and that a project is clean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...broker.locks import TimedLock
from ...client.client import Client
from ...ledger.pushes import pending_jobs
from .keys import PROJECT_HINTS, ProjectKeys

_ALONE_S = 330
"""Seconds after which a cleaner that says nothing has died; one request may take 300."""

# KEYS: state. ARGV: a model version. Says that nothing is outdated, unless another version is asked for by now.
_DONE = """
if redis.call('HGET', KEYS[1], 'version') == ARGV[1] then redis.call('HSET', KEYS[1], 'prune', 0) end
"""


class Cleaning:
    """Thread-safe. Every method raises `BrokerUnavailable` as the client's do.

    Args:
        client: whose Redis it is in.
    """

    def __init__(self, client: Client) -> None:
        self._redis: Any = client.connection.redis
        self._patiently = client.connection.patiently
        self._done: Any = self._redis.register_script(_DONE)

    @contextmanager
    def alone(self, project: int) -> Iterator[bool]:
        """Be the only one who cleans the project; yields whether we are."""
        lock = TimedLock(self._redis, ProjectKeys(project).clean, _ALONE_S)
        is_ours = bool(self._patiently(lock.take))
        try:
            yield is_ours
        finally:
            if is_ours:
                self._patiently(lock.give_back)

    def others_wait(self) -> bool:
        """Whether a project is to be looked at, or predictions are being made or pushed for a platform."""
        due = self._patiently(lambda: self._redis.zcount(PROJECT_HINTS, "-inf", time.time()))
        return bool(due) or bool(self._patiently(lambda: pending_jobs(self._redis)))

    def done(self, project: int, version: str) -> None:
        """Say that nothing older than this version is left, if it is still the one that is asked for."""
        self._patiently(lambda: self._done(keys=[ProjectKeys(project).state], args=[version]))
