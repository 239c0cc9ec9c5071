"""What becomes of an item that cannot be scored: an outcome that says why."""

from __future__ import annotations

from ...schemas.errors import PrelabelError
from ...schemas.predictions import ItemFailure, Outcome, Unanswered


def failure(error: Exception) -> Outcome:
    """The outcome of an item that failed."""
    return Outcome(error=ItemFailure(kind=type(error).__name__, message=failure_message(error)))


def unanswered(control: str, place: int, error: Exception, index: int | None = None) -> Unanswered:
    """What stands for the answer of a control that has none, in an item that has others; see `Unanswered`."""
    message = failure_message(error)
    return Unanswered(kind=type(error).__name__, message=message, control=control, place=place, index=index)


def failure_message(error: Exception) -> str:
    """What went wrong, for people."""
    text = str(error) if isinstance(error, PrelabelError) else f"unexpected {type(error).__name__}: {error}"
    return text[:500]
