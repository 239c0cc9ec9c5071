"""Having a project looked at soon: what the adapter, and whoever pushes, say to each other through Redis."""

from __future__ import annotations

import time
from typing import Any

from .keys import PROJECT_HINTS


def hint(client: Any, project: int, after_s: float = 0.0) -> None:
    """Have a project looked at soon, whether it is served yet or not.

    Args:
        client: the Redis client.
        project: its number.
        after_s: seconds.

    Raises:
        redis.RedisError: Redis is unavailable.
    """
    client.zadd(PROJECT_HINTS, {str(project): time.time() + after_s}, lt=True)
