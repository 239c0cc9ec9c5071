"""One timer for each stage of an image's way, read by both that want to know: the metrics and the trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from . import metrics, trace

now_ns = trace.now_ns
"""The stages' clock, nanoseconds."""


@contextmanager
def stage(name: metrics.Stage, images: int = 1) -> Iterator[None]:
    """What happens inside is one stage's work, if it succeeds."""
    begun = now_ns()
    yield
    ended = now_ns()
    metrics.observe(name, (ended - begun) / 1e9)
    trace.record(name, begun, ended, images=images)
