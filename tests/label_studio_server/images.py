"""An image server whose requests are counted."""

from __future__ import annotations

from random import Random

from tests.faults.web import Web


class CountingWeb(Web):
    """An image server that counts what it served."""

    def __init__(self) -> None:
        super().__init__(Random(0), refuse=0.0)
        self.asked: list[str] = []

    def refuses(self) -> bool:
        self.asked.append("")
        return super().refuses()
