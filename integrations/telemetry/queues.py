"""The queues as Prometheus gauges, read from Redis when somebody asks; the same from every process that offers them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import redis
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ...schemas.errors import PrelabelError
from ...schemas.progress import QueueState


class Queues(Collector):
    """Length and age of each queue, and whether Redis answers.

    Args:
        read: the queues' state; may raise when Redis is away.
        workers: the number of live workers, likewise; left out when None.
    """

    def __init__(self, read: Callable[[], Mapping[str, QueueState]], workers: Callable[[], int] | None = None) -> None:
        self._read = read
        self._workers = workers

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All gauges; without values where Redis does not answer."""
        depth = GaugeMetricFamily("prelabel_queue_depth", "Messages waiting on a queue", labels=["queue"])
        oldest = GaugeMetricFamily(
            "prelabel_queue_oldest_seconds",
            "Seconds a queue's oldest chunk has waited for a worker, or its oldest prediction for the push",
            labels=["queue"],
        )
        workers = GaugeMetricFamily("prelabel_workers", "Workers heard of within the last 20 s")
        up = 1
        try:
            for queue, state in self._read().items():
                depth.add_metric([queue], state.depth)
                oldest.add_metric([queue], state.oldest_s)
            if self._workers:
                workers.add_metric([], self._workers())
        except (PrelabelError, redis.RedisError):
            up = 0
        yield depth
        yield oldest
        if self._workers:
            yield workers
        yield GaugeMetricFamily("prelabel_broker_up", "1 when Redis answers", value=up)

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is known before it is asked for."""
        return []
