"""The trace: what a worker did when, in a file that viewers open."""

from __future__ import annotations

import json
import threading

from prelabel.worker.telemetry import trace


def read(path) -> list[dict]:
    return json.loads(path.read_text().rstrip().rstrip(",") + "]")


def test_a_span_is_a_complete_event_on_its_threads_line(tmp_path) -> None:
    path = tmp_path / "deep" / "trace.json"
    trace.start(path)

    def work() -> None:
        with trace.span("decode", images=1):
            pass

    thread = threading.Thread(target=work, name="prelabel-fetch_0")
    thread.start()
    thread.join()
    begun = trace.now_ns()
    trace.record("wait", begun, begun + 2_000_000)
    trace.stop()
    events = read(path)
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    decode, wait = (e for e in events if e["ph"] == "X")
    assert (names[decode["tid"]], decode["name"], decode["args"]) == ("prelabel-fetch_0", "decode", {"images": 1})
    assert (names[wait["tid"]], wait["dur"]) == ("waiting for the device", 2000.0)


def test_a_stage_that_fails_is_in_it_too(tmp_path) -> None:
    trace.start(tmp_path / "t")
    try:
        with trace.span("fetch"):
            raise ValueError
    except ValueError:
        pass
    trace.stop()
    assert [e["name"] for e in read(tmp_path / "t") if e["ph"] == "X"] == ["fetch"]


def test_nothing_is_written_unless_asked_for(tmp_path) -> None:
    with trace.span("fetch"):
        trace.record("wait", 0, 1)
    assert list(tmp_path.iterdir()) == []
