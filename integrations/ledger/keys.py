"""The Redis keys of jobs, and of what is kept beside them."""

from __future__ import annotations

from typing import Final

JOBS: Final = "prelabel:jobs"
"""Sorted set: job id by creation time (Unix seconds)."""

ACTIVE: Final = "prelabel:active"
"""Set: ids of jobs that have not ended; what sweepers look at."""

PUSH_PENDING: Final = "prelabel:push_pending"
"""Set: ids of jobs that may still have something to push."""

WORKERS: Final = "prelabel:workers"
"""Sorted set: JSON of `WorkerInfo` by the Unix second of its last heartbeat."""


WATERMARKS: Final = "prelabel:watermarks"
"""Hash: queue -> when the newest message taken from it so far was sent, Unix ms. Queues are first in, first out: a
chunk, or a push, whose message was sent well before that and that still waits has lost its message."""

MODEL_QUEUES: Final = "prelabel:model_queues"
"""Sorted set: names of the queues of models by the Unix second a job last came to them."""

SWEEPER: Final = "prelabel:sweeper"
"""String with an expiry: the worker that looks for lost chunks at present."""


RECENT: Final = "prelabel:recent"
"""List: JSON of `Recent`, the newest first: a sample of the last predictions, for the adapter's page."""


def held_key(worker: str) -> str:
    """Set of `<job id>/<chunk index>`: the chunks a worker has leased, so that its death frees them at once."""
    return f"prelabel:held:{worker}"


class JobKeys:
    """The Redis keys of one job. The braces put them into one cluster slot.

    Attributes:
        meta: hash: `spec`, `queue`, `created`, `touched` (by the submitter), `deadline`, `started`, `updated` (Unix
            seconds), `keep` (seconds after its end, where it says so itself), `submitted` (items), `next_chunk`,
            `more_chunks` (made by splits and retries, with indices from 10^9), `sealed`, `cancelled` (why), `leased`
            (leases given in all), `base` (items finished before a retry), `push_ready`, `push_cursor`, `push_error`,
            `source_after` (how far another job's results are cut into chunks).
        chunks: hash: chunk index -> JSON of `Chunk`, or of a `SourceChunk` until somebody works on it.
        open: sorted set: unfinished chunk index by lease deadline in Unix ms, or while it waits on its queue by
            minus the Unix ms its message was sent at; while it is postponed, is to be sent at.
        leases: hash: `token:<chunk>` fencing token, `owner:<chunk>`, `deaths:<chunk>` of workers in a row,
            `why:<chunk>` the last one died, `postponed:<chunk>` times it was, `handed:<chunk>` it was handed over to
            the workers of its model.
        finished: bitmap by item ordinal: the item has an outcome.
        failed: hash: ordinal -> id of its entry in `results`, for items whose outcome is an error.
        quarantined: set: ordinals among `failed` that killed their worker again and again.
        results: stream of outcomes in the order they came, those of one chunk that were answered together in one
            entry; see `prelabel.integrations.ledger.entries`.
        pushed: bitmap by item ordinal: the answer is on the platform.
        push_failed: hash: ordinal -> why the platform refused the answer.
        push_lock: string with an expiry: who pushes at present.
        push_wanted: string: somebody asked for a push since the last one began.
        push_hinted: string with an expiry: when (Unix ms) the message that waits on the push queue was sent.
    """

    def __init__(self, job_id: str) -> None:
        prefix = f"prelabel:{{{job_id}}}"
        self.meta = f"{prefix}:meta"
        self.chunks = f"{prefix}:chunks"
        self.open = f"{prefix}:open"
        self.leases = f"{prefix}:leases"
        self.finished = f"{prefix}:finished"
        self.failed = f"{prefix}:failed"
        self.quarantined = f"{prefix}:quarantined"
        self.results = f"{prefix}:results"
        self.pushed = f"{prefix}:pushed"
        self.push_failed = f"{prefix}:push_failed"
        self.push_lock = f"{prefix}:push_lock"
        self.push_wanted = f"{prefix}:push_wanted"
        self.push_hinted = f"{prefix}:push_hinted"

    def all(self) -> tuple[str, ...]:
        """Every key that lasts as long as the job does."""
        return (
            self.meta,
            self.chunks,
            self.open,
            self.leases,
            self.finished,
            self.failed,
            self.quarantined,
            self.results,
            self.pushed,
            self.push_failed,
        )
