"""Numbers as people read them."""

from __future__ import annotations


def duration(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3.5 h`; a dash when unknown."""
    if seconds is None:
        return "-"
    if seconds < 90:
        return f"{max(0.0, seconds):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:.0f} days"


def ago(now: float, then: float) -> str:
    """`12 min ago`."""
    return f"{duration(now - then)} ago"


def percent(share: float) -> str:
    """`87 %` for 0.87; never 100 % for what is not quite."""
    return f"{int(100 * share + 0.5) if share < 0.995 or share >= 1 else 99} %"
