"""Where the time goes: a worker's trace (`PRELABEL_TRACE`) summed up by stage."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

STAGES = ("fetch", "decode", "wait", "forward", "vectors", "score", "write")
"""In an image's order. `forward` is starting a batch (on a CPU: all of it), `vectors` waiting for what a device
computes and handing it out."""


@dataclass(frozen=True)
class Span:
    """A stage of one or several images: when, and on which thread."""

    stage: str
    begun_s: float
    ended_s: float
    thread: str
    images: int


def read(path: Path) -> list[Span]:
    """The spans of a trace, in time, seconds from the first one's beginning."""
    events: list[dict[str, Any]] = json.loads(path.read_text().rstrip().rstrip(",") + "]")
    names = {event["tid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    spans = [event for event in events if event["ph"] == "X"]
    zero = min((event["ts"] for event in spans), default=0.0)
    made = [
        Span(
            stage=event["name"],
            begun_s=(event["ts"] - zero) / 1e6,
            ended_s=(event["ts"] + event["dur"] - zero) / 1e6,
            thread=names.get(event["tid"], str(event["tid"])),
            images=int(event["args"].get("images", 1)),
        )
        for event in spans
    ]
    return sorted(made, key=lambda span: span.begun_s)


def per_image_ms(spans: list[Span]) -> dict[str, float]:
    """Milliseconds an image of each stage. They overlap: their sum is no image's time."""
    totals: dict[str, float] = defaultdict(float)
    counts: dict[str, int] = defaultdict(int)
    for span in spans:
        totals[span.stage] += span.ended_s - span.begun_s
        counts[span.stage] += span.images
    return {stage: 1000 * totals[stage] / counts[stage] for stage in STAGES if counts[stage]}
