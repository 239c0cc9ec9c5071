"""Redis's own clock: the one that leases and deadlines run by."""

from __future__ import annotations

from typing import Any


def redis_time(client: Any) -> float:
    """Redis's own clock, Unix seconds."""
    seconds, microseconds = client.time()
    return float(seconds) + float(microseconds) / 1e6
