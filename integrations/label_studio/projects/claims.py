"""Who delivers a prediction: one claim per task and model version, in Redis, for all adapters and workers.

A task's answer can reach Label Studio in the reply to /predict, which Label Studio stores, and by a push; and three
people who open one task make three calls to /predict. Label Studio stores whatever it gets, so two deliveries are two
predictions. Whoever wants to deliver takes the claim first, and leaves the task alone when another has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from .keys import TO_VERIFY, ProjectKeys

log = logging.getLogger(__name__)

Delivery = tuple[int, str]
"""Task number and model version."""

# KEYS: claims. ARGV: who, ms, what else may be taken over. Takes each that is free or ours already; returns 1 or 0 for
# each.
_TAKE = """
local taken = {}
for i = 1, #KEYS do
  local holder = redis.call('GET', KEYS[i])
  if holder and holder ~= ARGV[1] and holder ~= ARGV[3] then
    taken[i] = 0
  else
    redis.call('SET', KEYS[i], ARGV[1], 'PX', ARGV[2])
    taken[i] = 1
  end
end
return taken
"""

# KEYS: claims. ARGV: who, ms, who holds it from now on. Lets each that is ours go after that time.
_LET_GO = """
for i = 1, #KEYS do
  if redis.call('GET', KEYS[i]) == ARGV[1] then
    if tonumber(ARGV[2]) > 0 then redis.call('SET', KEYS[i], ARGV[3], 'PX', ARGV[2]) else redis.call('DEL', KEYS[i]) end
  end
end
"""

_PUSHED = "pushed"
"""Holds a claim after a push: another push asks Label Studio what it has, and so needs not wait; /predict does not."""


class Claims:
    """Claims on deliveries, and promised deliveries that are to be checked. Thread-safe.

    Args:
        client: Redis.
        call: runs what uses Redis; `Connection.patiently` makes its errors prelabel's.
    """

    def __init__(self, client: redis.Redis, call: Callable[[Callable[[], Any]], Any] = lambda use: use()) -> None:
        self._redis: Any = client
        self._call = call
        self._take: Any = client.register_script(_TAKE)
        self._let_go: Any = client.register_script(_LET_GO)

    def take(
        self, project: int, deliveries: Sequence[Delivery], who: str, for_s: float, *, to_push: bool = False
    ) -> list[bool]:
        """Claim deliveries; which of them are ours now.

        Args:
            project: the project's number.
            deliveries: what is to be delivered.
            who: one name for one deliverer; it may take again what it has.
            for_s: seconds after which the claim is void, should we die.
            to_push: for a push, which may follow another one at once.
        """
        if not deliveries:
            return []
        keys = _keys(project, deliveries)
        return [
            bool(one)
            for one in self._call(
                lambda: self._take(keys=keys, args=[who, int(for_s * 1000), _PUSHED if to_push else who])
            )
        ]

    def let_go(
        self, project: int, deliveries: Sequence[Delivery], who: str, after_s: float = 0.0, *, pushed: bool = False
    ) -> None:
        """Give up claims of ours, at once or when `after_s` have passed; after a push, to other pushes at once."""
        if deliveries:
            keys = _keys(project, deliveries)
            self._call(lambda: self._let_go(keys=keys, args=[who, int(after_s * 1000), _PUSHED if pushed else who]))

    def verify_later(self, project: int, deliveries: Sequence[Delivery], after_s: float) -> None:
        """Have it checked that somebody else's delivery has arrived."""
        due = time.time() + after_s
        members = {f"{project}/{task}/{version}": due for task, version in deliveries}
        if members:
            self._call(lambda: self._redis.zadd(TO_VERIFY, members))

    def to_verify(self, limit: int = 500) -> dict[int, list[Delivery]]:
        """Deliveries that must have arrived by now, by project; they stay until `verified`."""
        deliveries: dict[int, list[Delivery]] = {}
        odd = []
        for member in self._call(lambda: self._redis.zrangebyscore(TO_VERIFY, "-inf", time.time(), 0, limit)):
            try:
                project, task, version = member.decode().split("/", 2)
                deliveries.setdefault(int(project), []).append((int(task), version))
            except ValueError:
                odd.append(member)
        if odd:  # they would come first for ever, and leave no room for others
            log.warning("%d deliveries to be checked cannot be read and are dropped", len(odd))
            self._call(lambda: self._redis.zrem(TO_VERIFY, *odd))
        return deliveries

    def verified(self, project: int, deliveries: Sequence[Delivery]) -> None:
        """Take deliveries off the list."""
        members = [f"{project}/{task}/{version}" for task, version in deliveries]
        if members:
            self._call(lambda: self._redis.zrem(TO_VERIFY, *members))


def _keys(project: int, deliveries: Sequence[Delivery]) -> list[str]:
    keys = ProjectKeys(project)
    return [keys.claim(task, version) for task, version in deliveries]
