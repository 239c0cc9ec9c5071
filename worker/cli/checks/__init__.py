"""What `prelabel doctor` looks at: one module for each part of a set-up, one `Check` for each line of the report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        status: warn is for what works and may not for long, or is not needed by everybody.
        detail: what was found.
        fix: what to do about a warning or failure.
    """

    name: str
    status: Status
    detail: str
    fix: str = ""


Checks = Iterator[Check]
