"""What chunks are scored and written with, the same for every chunk of a worker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...integrations.ledger.leases import ChunkRef
from ...integrations.ledger.protocol import Leases
from ...schemas.jobs import JobSpec
from ..delivering.showcase import Exhibit
from ..embedding.images import ImageEmbedder
from ..model.engine import Engine
from ..scoring.job_scorer import JobScorers

Show = Callable[[str, JobSpec, Sequence[Exhibit]], None]
"""`Showcase.show`."""


def show_nobody(_job: str, _spec: JobSpec, _exhibits: Sequence[Exhibit]) -> None:
    """For a worker without a showcase."""


Hint = Callable[[ChunkRef, str], None]
"""Puts a message for a chunk on a queue."""


def nobody_is_able(_: JobSpec) -> str | None:
    """For a worker that knows of no other."""
    return None


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What a worker's chunks share.

    Attributes:
        engine: embeds prepared images.
        scorers: the jobs' answer rules and text matrices.
        bulk: embeds the images of bulk chunks.
        urgent: embeds the images of interactive chunks.
        ledger: leases and outcomes.
        hint: puts a handed-back chunk on its queue again.
        push: says that a job has predictions to push.
        stopping: set when every running chunk is to write what it has and hand back the rest.
        item_retries: times a bulk item is tried again later when its images cannot be had for now.
        show: lets people see some of what was scored.
        queue_of_able: of a job that this worker's model cannot answer, the queue of a live one that can; None where
            there is none.
        recalling: held by the one bulk chunk that is being scored from stored vectors.
    """

    engine: Engine
    scorers: JobScorers
    bulk: ImageEmbedder
    urgent: ImageEmbedder
    ledger: Leases
    hint: Hint
    push: Callable[[str], None]
    stopping: threading.Event
    item_retries: int = 0
    show: Show = show_nobody
    queue_of_able: Callable[[JobSpec], str | None] = nobody_is_able
    recalling: threading.Lock = field(default_factory=threading.Lock)
