"""One timer for each stage of an image's way, read by both that want to know: the metrics and the trace."""

from __future__ import annotations

from . import metrics, trace


class stage:  # noqa: N801  # used like a function; a generator would cost twice as much, for each image
    """What happens inside is one stage's work, if it succeeds.

    Args:
        name: the stage.
        images: how many it is about, for the trace.
    """

    __slots__ = ("_begun", "_images", "_name")

    def __init__(self, name: metrics.Stage, images: int = 1) -> None:
        self._name = name
        self._images = images

    def __enter__(self) -> None:
        self._begun = trace.now_ns()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            ended = trace.now_ns()
            metrics.observe(self._name, (ended - self._begun) / 1e9)
            trace.record(self._name, self._begun, ended, images=self._images)
