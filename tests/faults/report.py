"""What a case found, and the table of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.table import Table

KILL_WORST_S = 15.0
"""The promise: a killed worker's chunks are back within this time, however it was run."""

KILL_MEDIAN_S = 2.0
"""The promise under `prelabel worker`, whose parent sees the death."""


@dataclass
class Report:
    """One case: what was done to it and what came out.

    Attributes:
        case: its name.
        guard: for a negative control, the guard that is off; empty for a case.
        items: items whose right outcome is known.
        faults: faults injected.
        lost: items without an outcome, or tasks without their prediction.
        doubled: outcomes or predictions beyond an item's first.
        wrong: items with another outcome than the right one.
        redelivered: leases given beyond one per chunk.
        recoveries: seconds from each fault to the work going on.
        problems: the first things that were not right, for people.
    """

    case: str
    guard: str = ""
    items: int = 0
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    redelivered: int = 0
    recoveries: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether every item has exactly its one right outcome."""
        return self.lost == self.doubled == self.wrong == 0

    def note(self, problem: str) -> None:
        """Keep a problem for the failure message; the first few tell enough."""
        if len(self.problems) < 10:
            self.problems.append(problem)

    def assert_clean(self) -> None:
        """Fail when an item was lost, doubled or wrong, or nothing was done to the job."""
        assert self.clean, f"lost {self.lost}, doubled {self.doubled}, wrong {self.wrong}: {self.problems}"
        assert self.items, "no item was checked"
        assert self.faults, "no fault was injected"

    def assert_promise(self, *, supervised: bool) -> None:
        """Fail when a killed worker's chunks came back later than promised."""
        assert self.recoveries, "no killed worker held a chunk: nothing was measured"
        assert max(self.recoveries) <= KILL_WORST_S, self.recoveries
        if supervised:
            assert median(self.recoveries) <= KILL_MEDIAN_S, self.recoveries


def table(reports: Sequence[Report], title: str) -> Table:
    """The reports as one table."""
    made = Table(title=title, title_justify="left", caption_justify="left")
    made.add_column("case", no_wrap=True)
    for heading in ("items", "faults", "lost", "doubled", "wrong", "redelivered", "recovery median", "worst"):
        made.add_column(heading, justify="right")
    for one in reports:
        name = f"{one.case}: {one.guard}" if one.guard else one.case
        counts = (one.items, one.faults, one.lost, one.doubled, one.wrong, one.redelivered)
        middle, worst = (median(one.recoveries), max(one.recoveries)) if one.recoveries else (None, None)
        made.add_row(name, *map(str, counts), _seconds(middle), _seconds(worst))
    return made


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return "never" if math.isinf(value) else f"{value:.2f} s"
