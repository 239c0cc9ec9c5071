"""Says when leases may be judged by Redis's clock: not while that clock, or the way to it, is out of order."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)

_JUMP_S = 1.5
"""Seconds Redis's clock may drift from ours between two contacts."""


class ClockGuard:
    """Keeps live workers from being taken for dead after Redis was silent or its clock jumped.

    Leases run by Redis's clock. When nobody could reach Redis for a while, or its clock leapt ahead, all of them seem
    to have run out. The workers that live renew theirs within a heartbeat; who has not done so by then is dead.

    Args:
        gap_s: seconds without contact that count as silence.
        settle_s: seconds within which every live worker renews its leases.
    """

    def __init__(self, gap_s: float, settle_s: float) -> None:
        self._gap_s = gap_s
        self._settle_s = settle_s
        self._last: tuple[float, float] | None = None
        self._settled_at_s = 0.0

    def contact(self, redis_s: float, monotonic_s: float) -> bool:
        """Note that Redis has answered.

        Args:
            redis_s: Redis's clock.
            monotonic_s: ours, which never jumps.

        Returns:
            Whether leases may be judged now.
        """
        if self._last is not None:
            passed_s = monotonic_s - self._last[1]
            jump_s = redis_s - self._last[0] - passed_s
            if passed_s > self._gap_s or jump_s > _JUMP_S:
                log.info("Redis was silent for %.1f s, or its clock jumped: leases get time to be renewed", passed_s)
                self._settled_at_s = monotonic_s + self._settle_s
        self._last = redis_s, monotonic_s
        return monotonic_s >= self._settled_at_s
