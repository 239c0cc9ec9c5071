"""What a worker counts, and where it can be read."""

from __future__ import annotations

import socket
import urllib.request

import pytest
from prometheus_client import CollectorRegistry

from prelabel.integrations.telemetry.server import PORTS, serve_metrics
from prelabel.schemas import Answer, ItemFailure, Outcome
from prelabel.worker.telemetry import metrics
from prelabel.worker.telemetry.stages import stage
from prelabel.worker.vectors.counted import CountingStore
from prelabel.worker.vectors.store import NoStore

GOOD = Outcome(model_version="m", answers=(Answer(control="c", rule="softmax", confidence=0.9),))


def value(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(name, labels) or 0.0


def test_outcomes_are_counted_by_kind_and_no_name_from_outside_becomes_a_label() -> None:
    kinds = ["ItemError", "TransientError", "Quarantined", "ZeroDivisionError", "whatever/came:in"]
    before = {kind: value("prelabel_item_errors_total", kind=kind) for kind in [*kinds, "Other"]}
    answered, failed = (
        value("prelabel_items_total", outcome="answered"),
        value("prelabel_items_total", outcome="failed"),
    )
    failures = [Outcome(error=ItemFailure(kind=kind, message="m")) for kind in kinds]
    metrics.count_outcomes([GOOD, GOOD, *failures])
    assert value("prelabel_items_total", outcome="answered") == answered + 2
    assert value("prelabel_items_total", outcome="failed") == failed + 4
    assert value("prelabel_item_errors_total", kind="ItemError") == before["ItemError"] + 1
    assert value("prelabel_item_errors_total", kind="Other") == before["Other"] + 2
    assert value("prelabel_item_errors_total", kind="whatever/came:in") == 0


def test_store_reads_are_hits_and_misses() -> None:
    class One(NoStore):
        def get(self, keys):
            return {b"k": None}

    hits, misses = ({"of": "texts", "result": result} for result in ("hit", "miss"))
    before = value("prelabel_vector_store_reads_total", **hits), value("prelabel_vector_store_reads_total", **misses)
    CountingStore(One(), "texts").get([b"k", b"l", b"m"])
    assert value("prelabel_vector_store_reads_total", **hits) == before[0] + 1
    assert value("prelabel_vector_store_reads_total", **misses) == before[1] + 2


def test_stages_that_fail_are_not_timed() -> None:
    before = value("prelabel_stage_seconds_count", stage="fetch")
    with pytest.raises(OSError, match="gone"), stage("fetch"):
        raise OSError("gone")
    with stage("fetch"):
        pass
    assert value("prelabel_stage_seconds_count", stage="fetch") == before + 1


def test_workers_of_one_host_share_a_setting_and_take_different_ports() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        registry = CollectorRegistry()
        registry.register(metrics.DeviceMemory(lambda: {"total": 80}))
        port, stop = serve_metrics(registry, "127.0.0.1", taken)
        try:
            assert taken < port < taken + PORTS
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
            assert 'prelabel_device_memory_bytes{kind="total"} 80.0' in text
        finally:
            stop()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_an_address_that_cannot_be_listened_on_is_a_warning_and_no_end(caplog) -> None:
    assert serve_metrics(CollectorRegistry(), "203.0.113.1", 9091) is None
    assert "PRELABEL_METRICS_PORT" in caplog.text
