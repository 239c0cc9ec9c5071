"""Where the time goes: a span for each stage of an image, in Chrome's trace format, when somebody asks for it.

`PRELABEL_TRACE=trace.json prelabel worker` writes it; https://ui.perfetto.dev and chrome://tracing show it. Format:
"Trace Event Format", JSON array, complete events ("X"); the closing bracket may be missing, so a killed worker's file
can be read too.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)

now_ns = time.perf_counter_ns
"""The trace's clock, nanoseconds."""


class _File:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[str] = path.open("w", buffering=1)
        self._lock = threading.Lock()
        self._named: set[int] = set()
        self._file.write("[\n")

    def write(self, stage: str, begun_ns: int, ended_ns: int, arguments: dict[str, object]) -> None:
        thread = threading.get_ident()
        # A wait is nobody's work: it gets a line of its own beside the thread that ends it.
        line = thread if stage != "wait" else 0
        event = {"ph": "X", "name": stage, "pid": os.getpid(), "tid": line, "args": arguments}
        event |= {"ts": begun_ns / 1000, "dur": (ended_ns - begun_ns) / 1000}
        with self._lock:
            if self._file.closed:
                return
            try:
                if line not in self._named:
                    self._named.add(line)
                    name = threading.current_thread().name if line else "waiting for the device"
                    named = {"ph": "M", "name": "thread_name", "pid": os.getpid(), "tid": line, "args": {"name": name}}
                    self._file.write(json.dumps(named) + ",\n")
                self._file.write(json.dumps(event) + ",\n")
            except OSError as error:  # a full disk must not end a thread that works
                log.warning("the trace ends here: %s", error)
                with contextlib.suppress(OSError):
                    self._file.close()

    def close(self) -> None:
        with self._lock:
            self._file.close()


_file: _File | None = None


def start(path: Path) -> None:
    """Write spans to a file from now on, in place of what stands there.

    Raises:
        OSError: it cannot be written.
    """
    global _file
    _file = _File(path)


def stop() -> None:
    """Write no more."""
    global _file
    if _file:
        _file.close()
    _file = None


def record(stage: str, begun_ns: int, ended_ns: int, **arguments: object) -> None:
    """A stage that is over, by `now_ns`; nothing unless a trace is written."""
    if _file:
        _file.write(stage, begun_ns, ended_ns, arguments)


@contextmanager
def span(stage: str, **arguments: object) -> Iterator[None]:
    """What happens inside is one stage."""
    if _file is None:
        yield
        return
    begun = now_ns()
    try:
        yield
    finally:
        record(stage, begun, now_ns(), **arguments)
