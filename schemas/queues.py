"""Names both ends of the queue must agree on: Celery tasks and queues."""

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

SOURCE_CHUNK_ITEMS: Final = 1024
"""The same of a chunk that refers to items another job has answered: no image is fetched for any of them, so that a
larger one keeps nobody waiting."""

CHUNK_BYTES: Final = 64 * 1024
"""A chunk's items as JSON at most, in bytes; one larger item still travels, alone."""

SOURCE_CHUNK_BYTES: Final = 4 * CHUNK_BYTES
"""The same, about, of a chunk that refers to items."""
