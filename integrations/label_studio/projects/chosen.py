"""The model a project has chosen, for whoever has Redis alone."""

from __future__ import annotations

from typing import Any

from .keys import ProjectKeys


def chosen_model(redis: Any, project: int) -> str:
    """The `schemas.model_id` of the model that a project has chosen; empty where it has not, and the adapter's counts.

    Args:
        redis: a redis-py client with bytes replies.
        project: its number.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    chosen = redis.hget(ProjectKeys(project).state, "model")
    return chosen.decode() if chosen else ""
