"""What a command is at: a spinner on a terminal, elsewhere a line when it changes and every few seconds."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Final, Self

from .console import duration, err, plain

_LINE_EVERY_S: Final = 5.0


class Doing:
    """Says what is being done while its block runs, or until `stop`. On stderr.

    Args:
        text: what, to begin with.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._since = time.monotonic()
        self._status = err.status(plain(text)) if err.is_terminal else None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="prelabel-doing", daemon=True)

    def update(self, text: str) -> None:
        """Something else is being done from now on; the same again is nothing new."""
        if text == self._text:
            return
        self._text, self._since = text, time.monotonic()
        if self._status:
            self._status.update(plain(text))
        elif not self._stopped.is_set():
            err.print(plain(text), soft_wrap=True)

    def stop(self) -> None:
        """Say no more."""
        self._stopped.set()
        if self._status:
            self._status.stop()

    def _repeat(self) -> None:
        while not self._stopped.wait(_LINE_EVERY_S):
            err.print(f"{plain(self._text)} ({duration(time.monotonic() - self._since)})", soft_wrap=True)

    def __enter__(self) -> Self:
        if self._status:
            self._status.start()
        else:
            err.print(plain(self._text), soft_wrap=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
