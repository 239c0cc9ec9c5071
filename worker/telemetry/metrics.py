"""What a worker counts, for Prometheus.

The numbers are kept by this process and start at 0 with it; Prometheus adds workers up and notices restarts. No label
takes its values from outside (image names, jobs, labels), so the tables cannot grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ...schemas import errors
from ...schemas.predictions import QUARANTINED, Outcome

Stage = Literal["fetch", "decode", "wait", "forward", "score", "push"]

REGISTRY: Final = CollectorRegistry()

_STAGES: tuple[Stage, ...] = ("fetch", "decode", "wait", "forward", "score", "push")
_KINDS: Final = frozenset(
    name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.PrelabelError)
)
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

items = Counter(
    "prelabel_items", "Items whose outcome this worker wrote: answered, failed, quarantined", ["outcome"],
    registry=REGISTRY,
)  # fmt: skip
item_errors = Counter(
    "prelabel_item_errors", "Failed items by the kind of error (Other: none of prelabel's own)", ["kind"],
    registry=REGISTRY,
)  # fmt: skip
stages = Histogram(
    "prelabel_stage_seconds",
    "Seconds of work: fetch, decode (and resize) and wait (for the device) once an image; forward once a batch; score "
    "and push once for the items written or sent together",
    ["stage"], buckets=_SECONDS, registry=REGISTRY,
)  # fmt: skip
batch_images = Histogram(
    "prelabel_batch_images", "Images in a forward pass",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024), registry=REGISTRY,
)  # fmt: skip
batch_limit = Gauge("prelabel_batch_limit_images", "Images a forward pass may have now", registry=REGISTRY)
store_reads = Counter(
    "prelabel_vector_store_reads", "Vectors asked of the store: hit or miss, of images or of texts",
    ["of", "result"], registry=REGISTRY,
)  # fmt: skip
leases_expired = Counter(
    "prelabel_leases_expired", "Chunks given out again because their worker fell silent", registry=REGISTRY
)
pushes = Counter(
    "prelabel_pushes",
    "Predictions sent to the platform: pushed, skipped (it had one), rejected, and postponed (it was away) or "
    "refused (a wrong key, say) each time that was so",
    ["status"], registry=REGISTRY,
)  # fmt: skip
worker_info = Gauge(
    "prelabel_worker_info", "1; what this worker is", ["name", "model", "device", "dtype", "version"], registry=REGISTRY
)

_stage_children: Final = {stage: stages.labels(stage) for stage in _STAGES}
for _outcome in ("answered", "failed", "quarantined"):  # series are there before the first event, so rates are right
    items.labels(_outcome)
for _status in ("pushed", "skipped", "rejected", "postponed", "refused"):
    pushes.labels(_status)


def observe(stage: Stage, seconds: float) -> None:
    """One stage's work that is over."""
    _stage_children[stage].observe(seconds)


def count_outcomes(outcomes: Iterable[Outcome], answered: int = 0) -> None:
    """Items whose outcome was written.

    Args:
        outcomes: of single items.
        answered: further items that were answered.
    """
    items.labels("answered").inc(answered)
    for outcome in outcomes:
        if outcome.error is None:
            items.labels("answered").inc()
            continue
        kind = outcome.error.kind
        items.labels("quarantined" if kind == QUARANTINED else "failed").inc()
        item_errors.labels(kind if kind in _KINDS or kind == QUARANTINED else "Other").inc()


class DeviceMemory(Collector):
    """Memory of the device, read when somebody asks.

    Args:
        read: bytes by kind; nothing where the device has no memory of its own.
    """

    def __init__(self, read: Callable[[], Mapping[str, int]]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One gauge, with a value for each kind."""
        gauge = GaugeMetricFamily(
            "prelabel_device_memory_bytes",
            "Memory of the GPU: allocated (tensors), reserved (by this worker's allocator), used (by everybody), total",
            labels=["kind"],
        )
        for kind, size in self._read().items():
            gauge.add_metric([kind], size)
        yield gauge

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing is known before it is asked for."""
        return []
