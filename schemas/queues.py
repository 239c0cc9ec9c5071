"""Names both ends of the queue must agree on: Celery tasks and queues."""

from __future__ import annotations

from typing import Final

TASK_SCORE_CHUNK: Final = "prelabel.score_chunk"
"""Score one chunk of a job. Arguments: job id (str), chunk index (int). Only a hint: the ledger is the truth."""

TASK_PUSH: Final = "prelabel.push"
"""Push a job's finished predictions to its platform. Argument: job id (str)."""

TASK_SEARCH: Final = "prelabel.search"
"""Search a project or a job. Argument: JSON of `prelabel.integrations.ledger.searches.SearchRequest` (str)."""

QUEUE_INTERACTIVE: Final = "interactive"
QUEUE_BULK: Final = "bulk"
QUEUE_PUSH: Final = "push"
QUEUES: Final = (QUEUE_INTERACTIVE, QUEUE_BULK, QUEUE_PUSH)
"""Those that are always there; each model that a job names has two more of its own, see `queue_of`."""

_OF_MODEL: Final = ":"
_SEARCH: Final = "prelabel:searches"
"""Begins as all other keys do that are no queues of jobs: users of Redis may be restricted to these."""


def queue_of(priority: str, model: str | None) -> str:
    """The queue of a job's chunks.

    A job that names a model is on that model's queue, which its workers alone consume, beside the plain one: what
    nobody serves waits there without anybody looking at it.

    Args:
        priority: "interactive" or "bulk".
        model: `<model>@<revision8>`, as the job names it; None takes whatever the worker serves.
    """
    return priority if model is None else f"{priority}{_OF_MODEL}{model}"


def search_queue(model: str, store: str) -> str:
    """The queue of searches among the vectors that a model has made, in one store: workers with both consume it.

    Args:
        model: `<model>@<revision8>`.
        store: what tells the store from others.
    """
    return f"{_SEARCH}{_OF_MODEL}{store}{_OF_MODEL}{model}"


def is_queue(name: str) -> bool:
    """Whether a queue is one of prelabel's: not one that Celery keeps for itself."""
    return name in QUEUES or name.startswith((f"{QUEUE_INTERACTIVE}{_OF_MODEL}", f"{QUEUE_BULK}{_OF_MODEL}"))


CHUNK_ITEMS: Final = 64
"""Items in a chunk at most: a Celery message costs 1-2 ms of CPU, shared here by 64 items."""

SOURCE_CHUNK_ITEMS: Final = 1024
"""The same of a chunk that refers to items another job has answered: no image is fetched for any of them, so that a
larger one keeps nobody waiting."""

CHUNK_BYTES: Final = 64 * 1024
"""A chunk's items as JSON at most, in bytes; one larger item still travels, alone."""

SOURCE_CHUNK_BYTES: Final = 4 * CHUNK_BYTES
"""The same, about, of a chunk that refers to items."""
