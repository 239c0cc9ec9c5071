"""What the adapter counts, in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from ..telemetry.queues import Queues

if TYPE_CHECKING:
    from ..client.client import Client

ENDPOINTS = frozenset({"/", "/health", "/setup", "/predict", "/webhook", "/check", "/metrics"})
"""Paths counted by name; any other is "other", so that nobody can grow the table."""


class Metrics:
    """The adapter's counters; one registry of its own per application."""

    def __init__(self, client: Client) -> None:
        self.registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "prelabel_http_requests", "Requests answered", ["endpoint", "status"], registry=self._registry
        )
        self._tasks = Counter(
            "prelabel_predict_tasks",
            "Tasks of /predict: inline answered at once, deferred queued, known already predicted, busy being "
            "answered, refused not scorable, unavailable no broker",
            ["outcome"],
            registry=self._registry,
        )
        self._wait = Histogram(
            "prelabel_predict_wait_seconds",
            "Seconds /predict waited for answers",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 30, 90),
            registry=self._registry,
        )
        self._registry.register(Queues(client.queue_states, lambda: len(client.workers())))

    def request(self, path: str, status: int) -> None:
        """Count one answered request."""
        self._requests.labels(path if path in ENDPOINTS else "other", str(status)).inc()

    def tasks(self, outcome: str, count: int = 1) -> None:
        """Count tasks of /predict."""
        if count:
            self._tasks.labels(outcome).inc(count)

    def waited(self, seconds: float) -> None:
        """Record how long /predict waited."""
        self._wait.observe(seconds)

    def text(self) -> bytes:
        """Everything, with the queues as they are now."""
        return generate_latest(self._registry)
