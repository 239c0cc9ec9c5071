"""Which jobs have a message on the push queue: one of each job at a time, and another when it was lost.

Every flush of a chunk has something to push, and while Label Studio is down nobody takes the messages. What they say is
always the same, so the first does for all. A message counts as lost as a chunk's does (`Ledger.overdue`): when younger
ones were taken from the queue, or the queue is empty, and it has not been taken.
"""

from __future__ import annotations

from typing import Any, Final

import redis

from ...schemas.queues import QUEUE_PUSH
from .keys import WATERMARKS, JobKeys
from .scripts import NOW_MS

_MARGIN_MS: Final = 10_000
"""A message may be on its way from the queue to its thread for so long."""

_FORGET_S: Final = 86_400
"""Marks of jobs that are gone vanish after a day."""

# KEYS: push_hinted watermarks queue. ARGV: queue name, margin (ms), seconds to keep the mark. Returns 1 when a message
# is to be sent, and counts it as sent now. A time in the future is from before the clock jumped back.
_DUE: Final = (
    NOW_MS
    + """
local sent = tonumber(redis.call('GET', KEYS[1]) or 'nan')
if sent <= now then
  local newest = now
  if redis.call('LLEN', KEYS[3]) > 0 then
    newest = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
    if newest > now then
      redis.call('HDEL', KEYS[2], ARGV[1])
      newest = 0
    end
  end
  if sent >= newest - ARGV[2] then return 0 end
end
redis.call('SET', KEYS[1], now, 'EX', ARGV[3])
return 1
"""
)

# KEYS: push_hinted watermarks. ARGV: queue name.
_TAKEN: Final = (
    NOW_MS
    + """
local sent = tonumber(redis.call('GET', KEYS[1]) or 'nan')
redis.call('DEL', KEYS[1])
if sent <= now and sent > tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0) then
  redis.call('HSET', KEYS[2], ARGV[1], sent)
end
"""
)


class PushHints:
    """Says whether a job's message is to be sent. Thread-safe.

    Args:
        client: Redis.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._due: Any = client.register_script(_DUE)
        self._taken: Any = client.register_script(_TAKEN)

    def due(self, job_id: str) -> bool:
        """Whether no message of the job is under way; the caller sends one then."""
        reply = self._due(
            keys=[JobKeys(job_id).push_hinted, WATERMARKS, QUEUE_PUSH], args=[QUEUE_PUSH, _MARGIN_MS, _FORGET_S]
        )
        return bool(reply)

    def taken(self, job_id: str) -> None:
        """Note that the job's message was taken: what is ready from now on is news again. Call it before looking."""
        self._taken(keys=[JobKeys(job_id).push_hinted, WATERMARKS], args=[QUEUE_PUSH])
