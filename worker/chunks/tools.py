"""What a chunk's run may call on: hints, and who is shown what was scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...integrations.ledger.leases import ChunkRef
from ...schemas.jobs import JobSpec
from ..delivering.showcase import Shown

Show = Callable[[str, JobSpec, Sequence[Shown]], None]
"""`Showcase.show`."""


def show_nobody(_job: str, _spec: JobSpec, _scored: Sequence[Shown]) -> None:
    """For a worker without a showcase."""


Hint = Callable[[ChunkRef, str], None]
"""Puts a message for a chunk on a queue."""
