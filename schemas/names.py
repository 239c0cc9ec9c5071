"""Names both ends of the queue must agree on: Celery tasks, queues and Redis keys."""

from __future__ import annotations

from typing import Final

TASK_SCORE_CHUNK: Final = "prelabel.score_chunk"
"""Score one chunk of a job. Arguments: job id (str), chunk index (int). Only a hint: the ledger is the truth."""

TASK_PUSH: Final = "prelabel.push"
"""Push a job's finished predictions to its platform. Argument: job id (str)."""

QUEUE_INTERACTIVE: Final = "interactive"
QUEUE_BULK: Final = "bulk"
QUEUE_PUSH: Final = "push"
QUEUES: Final = (QUEUE_INTERACTIVE, QUEUE_BULK, QUEUE_PUSH)

CHUNK_ITEMS: Final = 64
"""Items in a chunk at most: a Celery message costs 1-2 ms of CPU, shared here by 64 items."""

CHUNK_BYTES: Final = 64 * 1024
"""A chunk's items as JSON at most, in bytes; one larger item still travels, alone."""

JOBS: Final = "prelabel:jobs"
"""Sorted set: job id by creation time (Unix seconds)."""

ACTIVE: Final = "prelabel:active"
"""Set: ids of jobs that have not ended; what sweepers look at."""

WORKERS: Final = "prelabel:workers"
"""Hash: worker name -> JSON of `WorkerInfo`, written every few seconds."""


class JobKeys:
    """The Redis keys of one job. The braces put them into one cluster slot.

    Attributes:
        meta: hash: spec, created, submitted, sealed, cancelled, started, updated.
        chunks: hash: chunk index -> JSON {"start": first ordinal, "items": [...]}.
        open: sorted set: unfinished chunk index by lease deadline in Unix ms; 0 is "on its queue".
        leases: hash: `token:<chunk>` fencing token, `owner:<chunk>`, `attempts:<chunk>`.
        finished: bitmap by item ordinal: the item has an outcome.
        failed: hash: ordinal -> id of its entry in `results`, for items whose outcome is an error.
        results: stream of outcomes in the order they came: fields `o` (ordinal) and `r` (Outcome JSON).
        pushed: bitmap by item ordinal: the answer is on the platform.
    """

    def __init__(self, job_id: str) -> None:
        prefix = f"prelabel:{{{job_id}}}"
        self.meta = f"{prefix}:meta"
        self.chunks = f"{prefix}:chunks"
        self.open = f"{prefix}:open"
        self.leases = f"{prefix}:leases"
        self.finished = f"{prefix}:finished"
        self.failed = f"{prefix}:failed"
        self.results = f"{prefix}:results"
        self.pushed = f"{prefix}:pushed"

    def all(self) -> tuple[str, ...]:
        """Every key, in the order the ledger's scripts take them."""
        return (
            self.meta,
            self.chunks,
            self.open,
            self.leases,
            self.finished,
            self.failed,
            self.results,
            self.pushed,
        )
