"""What a platform must do to have predictions delivered to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ..schemas import Prediction, PushTarget


@dataclass(frozen=True)
class PushReport:
    """What became of every prediction given to `Platform.push`, by ordinal.

    Attributes:
        pushed: now on the platform.
        rejected: the platform does not want them and will not later; with the reason.
        skipped: nothing to push: already there, failed, or nothing chosen.
    """

    pushed: tuple[int, ...] = ()
    rejected: tuple[tuple[int, str], ...] = ()
    skipped: tuple[int, ...] = ()


@runtime_checkable
class Platform(Protocol):
    """Where predictions are pushed to; `prelabel.integrations.label_studio.deliver.push.Pusher` is one."""

    def push(
        self, target: PushTarget, predictions: Sequence[Prediction], *, check_existing: bool = False, who: str = ""
    ) -> PushReport:
        """Send predictions and say what became of each. Called from several threads.

        Args:
            target: the job's.
            predictions: finished ones with an answer; may have been sent before.
            check_existing: leave out those the platform has already.
            who: the job's id.

        Raises:
            TransientError: the platform takes none for now; they are sent again.
            PrelabelError: it refuses us; recorded at the job, and tried again at a later sweep.
        """
        ...


@runtime_checkable
class HearsOfFailures(Protocol):
    """A platform that wants to know which items could not be scored. None has to."""

    def failed(self, target: PushTarget, predictions: Sequence[Prediction]) -> None:
        """Take note of items without an answer; those that are tried again may be pushed later.

        Args:
            target: the job's.
            predictions: finished ones with an error; may have been told before.
        """
        ...
