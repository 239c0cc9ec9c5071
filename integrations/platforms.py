"""What a platform must do to have predictions delivered to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ..schemas import Prediction, PushTarget


@dataclass(frozen=True)
class PushReport:
    """What became of every prediction given to `Pusher.push`, by ordinal.

    Attributes:
        pushed: now in Label Studio.
        rejected: Label Studio does not want them and will not later; with the reason.
        skipped: nothing to push: already there, failed, or nothing chosen.
    """

    pushed: tuple[int, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    skipped: tuple[int, ...] = ()


class Platform(Protocol):
    """Where predictions are pushed to; `prelabel.integrations.label_studio.deliver.push.Pusher` is one."""

    def push(
        self, target: PushTarget, predictions: Sequence[Prediction], *, check_existing: bool = False, who: str = ""
    ) -> PushReport:
        """Send predictions; with `check_existing` leave out those the platform has already. `who` names the job."""
        ...
