"""Messages that no worker can make anything of: set aside, so that somebody may look at them."""

from __future__ import annotations

import json
from typing import Any, Final

KEPT: Final = 100
"""Messages kept, the newest."""

_LONGEST: Final = 1_000
"""Characters of one that are kept."""

_MALFORMED: Final = "prelabel:malformed"
"""List: JSON of `queue`, `problem` and the beginning of `message`, the newest first."""


def set_aside(client: Any, queue: str, message: object, problem: str) -> None:
    """Keep a message that cannot be read.

    Args:
        client: Redis.
        queue: where it was taken from.
        message: as it was there, or what was read of it so far.
        problem: why it cannot be read.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    entry = json.dumps({"queue": queue, "problem": problem[:200], "message": text[:_LONGEST]})
    with client.pipeline(transaction=True) as pipe:
        pipe.lpush(_MALFORMED, entry)
        pipe.ltrim(_MALFORMED, 0, KEPT - 1)
        pipe.execute()
