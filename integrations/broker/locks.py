"""Locks in Redis that last for a limited time: one holder at a time, whatever the process.

redis-py's lock prolongs and releases by token, so nobody touches what has become another's meanwhile. Here it also
bears a clock that jumps and a command that is sent twice.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from typing import Any, Final

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from ...schemas.errors import TransientError

# KEYS: lock. ARGV: ms. A lock that lasts for much longer than any is taken for is from before Redis's clock jumped
# back: it is brought near, where it ends as any other whose holder has died. Not removed: the holder may be alive.
_BRING_NEAR: Final = """
if redis.call('PTTL', KEYS[1]) > 2 * tonumber(ARGV[1]) + 5000 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
"""


def new_holder() -> str:
    """A name for one holder of locks, `<host>-<process id>-<hexadecimal digits>`: it tells whether that one is gone."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"


def free_lock(client: redis.Redis, name: str, is_gone: Callable[[str], bool]) -> bool:
    """Give back a lock whose holder is gone; whether there was one.

    Args:
        client: Redis.
        name: the key.
        is_gone: whether who is named so has ended.
    """
    redis_client: Any = client
    holder = redis_client.get(name)
    if holder is None or not is_gone(holder.decode(errors="replace")):
        return False
    with contextlib.suppress(LockError):  # it has just become another's
        _Lock(client, name).do_release(holder)
    return True


class LockLost(TransientError):
    """The lock ran out, or another has it now: stop, and let them go on."""


class TimedLock:
    """A lock of one name, for one holder. May be taken again after it was given back; used by one thread at a time.

    Args:
        client: Redis.
        name: the key.
        for_s: seconds it lasts unless it is kept.
        who: what stands in it, which no other holder's may equal; `new_holder()` when left out.
    """

    def __init__(self, client: redis.Redis, name: str, for_s: float, who: str | None = None) -> None:
        self._name = name
        self._token = who or new_holder()
        self._for_ms = int(for_s * 1000)
        self._lock = _Lock(client, name, timeout=for_s, blocking=False, thread_local=False)
        self._bring_near: Any = client.register_script(_BRING_NEAR)

    def take(self) -> bool:
        """Whether it is ours now. Does not wait."""
        if self._lock.acquire(token=self._token):
            return True
        self._bring_near(keys=[self._name], args=[self._for_ms])
        return False

    def keep(self) -> None:
        """Start its time anew; any thread may.

        Raises:
            LockLost: it is not ours any more.
        """
        try:
            self._lock.reacquire()
        except LockError:
            raise LockLost(f"the lock {self._name} ran out, or is another's now") from None

    def give_back(self) -> None:
        """Let another have it, if it is still ours."""
        # Not `release`: that forgets the token first, so that the same command sent twice would give nothing back.
        with contextlib.suppress(LockError):
            self._lock.do_release(self._token)


class _Lock(Lock):
    """Redis-py's, for commands that may be sent twice: who finds its own token there has the lock."""

    def do_acquire(self, token: Any) -> bool:  # encoded, whatever redis-py has it typed as
        return super().do_acquire(token) or self.redis.get(self.name) == token
