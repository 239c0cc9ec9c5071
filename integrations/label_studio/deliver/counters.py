"""What is counted where `/predict` is answered."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class PredictCounters:
    """Counts the tasks of /predict by what became of them, and the seconds it waited.

    Args:
        registry: where the series are shown; nobody sees them without one.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._tasks = Counter(
            "prelabel_predict_tasks",
            "Tasks of /predict: inline answered at once, deferred queued, known already predicted, busy being "
            "answered, refused not scorable, paused of a project that rests, unavailable no broker",
            ["outcome"],
            registry=registry,
        )
        self._wait = Histogram(
            "prelabel_predict_wait_seconds",
            "Seconds /predict waited for answers",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 90),
            registry=registry,
        )

    def tasks(self, outcome: str, count: int = 1) -> None:
        """Count tasks of /predict."""
        if count:
            self._tasks.labels(outcome).inc(count)

    def waited(self, seconds: float) -> None:
        """Record how long /predict waited."""
        self._wait.observe(seconds)
