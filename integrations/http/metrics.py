"""What the application counts, in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, generate_latest

from ..telemetry.queues import Queues

if TYPE_CHECKING:
    from ..client.client import Client

ENDPOINTS = frozenset({"/", "/health", "/setup", "/predict", "/webhook", "/check", "/metrics"})
"""Paths counted by name; any other is "other", so that nobody can grow the table."""


class Metrics:
    """Requests and queues; one registry of its own per application, which every front door counts in."""

    def __init__(self, client: Client) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "prelabel_http_requests", "Requests answered", ["endpoint", "status"], registry=self.registry
        )
        self.registry.register(Queues(client.queue_states, lambda: len(client.workers())))

    def request(self, path: str, status: int) -> None:
        """Count one answered request."""
        self._requests.labels(path if path in ENDPOINTS else "other", str(status)).inc()

    def text(self) -> bytes:
        """Everything, with the queues as they are now."""
        return generate_latest(self.registry)
