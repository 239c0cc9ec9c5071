"""Draws the pipeline at work; `python -m benchmarks.pipeline_picture --help`.

A real worker scores a job and writes its trace (`PRELABEL_TRACE`); what each of its threads did in a few seconds of it
becomes an SVG, a row a thread. docs/pipeline.svg is such a picture. Any worker's trace can be drawn with `--trace`.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from html import escape
from pathlib import Path

from prelabel.schemas import Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT

from .checkpoint import make_base_checkpoint
from .common import add_json, console, draw_jpegs, in_own_session, running_worker, shown_machine, write
from .stages import STAGES, Span, per_image_ms, read

COLOURS = dict(zip(STAGES, ("#4477aa", "#66ccee", "#dddddd", "#228833", "#aa3377", "#ccbb44", "#ee6677"), strict=True))
"""Paul Tol's "bright" scheme, told apart by the colour-blind too (https://personal.sron.nl/~pault/)."""

WIDTH, ROW, LEFT, TOP = 1100, 18, 170, 64
_LEAST = 0.6
"""Pixels of the shortest span."""


def draw(spans: list[Span], begin_s: float, seconds: float, title: str) -> str:
    """An SVG of what happened from `begin_s` on."""
    some = [span for span in spans if span.ended_s > begin_s and span.begun_s < begin_s + seconds]
    threads = sorted({span.thread for span in some}, key=_order)
    height = TOP + ROW * len(threads) + 34
    scale = (WIDTH - LEFT - 20) / seconds
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18" font-size="13">{escape(title)}</text>',
    ]
    for at, stage in enumerate(STAGES):
        x = LEFT + at * 110
        parts.append(f'<rect x="{x}" y="30" width="12" height="12" fill="{COLOURS[stage]}"/>')
        parts.append(f'<text x="{x + 17}" y="40">{stage}</text>')
    for line, thread in enumerate(threads):
        y = TOP + line * ROW
        parts.append(f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(_label(thread))}</text>')
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 20}" y1="{y + ROW - 1}" y2="{y + ROW - 1}" stroke="#eeeeee"/>')
        for span in some:
            if span.thread == thread:
                left = max(0.0, span.begun_s - begin_s) * scale
                width = max(_LEAST, (min(seconds, span.ended_s - begin_s) - max(0.0, span.begun_s - begin_s)) * scale)
                parts.append(
                    f'<rect x="{LEFT + left:.1f}" y="{y + 2}" width="{width:.1f}" height="{ROW - 5}" '
                    f'fill="{COLOURS.get(span.stage, "#bbbbbb")}"><title>{span.stage}, {span.images} images, '
                    f"{1000 * (span.ended_s - span.begun_s):.2f} ms</title></rect>"
                )
    for tick in range(6):
        x_tick = LEFT + tick * (WIDTH - LEFT - 20) / 5
        label = f"{1000 * tick * seconds / 5:.0f} ms"
        parts.append(f'<text x="{x_tick:.0f}" y="{height - 10}" text-anchor="middle" fill="#555555">{label}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _label(thread: str) -> str:
    """Celery's pool does not name its threads; each has a chunk."""
    return re.sub(r"^ThreadPoolExecutor-\d+_", "chunk ", thread.removeprefix("prelabel-"))


def _order(thread: str) -> tuple[int, str]:
    kinds = ("prelabel-fetch", "prelabel-urgent", "waiting", "prelabel-forward", "prelabel-vectors")
    return next((at for at, kind in enumerate(kinds) if thread.startswith(kind)), len(kinds)), thread


def main() -> None:
    """Run a job with a trace, or take one, and draw it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=str(CHECKPOINT), help="directory, hub id, or 'base'")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--size", default="1920x1080", help="of the JPEGs")
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=0.4, help="shown, from the middle of the job")
    parser.add_argument("--trace", type=Path, help="a trace there is already")
    parser.add_argument("--svg", type=Path, default=Path("docs") / "pipeline.svg")
    add_json(parser, "pipeline_picture")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        trace = options.trace or root / "trace.json"
        if not options.trace:
            checkpoint = options.checkpoint
            if checkpoint == "base":
                checkpoint = str(make_base_checkpoint(root / "base"))
            width, _, height = options.size.partition("x")
            images = draw_jpegs(root, min(options.images, 64), (int(width), int(height)))
            settings = load_settings(
                model=checkpoint, image_roots=(root,), vector_store="off", trace=trace, fetch_threads=8
            )
            with running_worker(settings, root / "state") as worker:
                taxonomy = Taxonomy.flat([f"label number {i}" for i in range(options.labels)])
                many = [images[index % len(images)] for index in range(options.images)]
                worker.stack.client().submit(many, taxonomy).wait()
        spans = read(trace)
    middle = spans[len(spans) // 2].begun_s
    name = options.checkpoint if options.checkpoint == "base" else Path(options.checkpoint).name
    title = f"A worker's threads, {options.size} JPEGs, checkpoint {name}" if not options.trace else str(options.trace)
    options.svg.parent.mkdir(parents=True, exist_ok=True)
    options.svg.write_text(draw(spans, middle, options.seconds, title))
    stages = per_image_ms(spans)
    out = console()
    out.print(f"{options.svg}: {', '.join(f'{stage} {ms:.2f}' for stage, ms in stages.items())} ms an image")
    out.print(shown_machine())
    write(options.json, {"stages_ms": stages})


if __name__ == "__main__":
    in_own_session("benchmarks.pipeline_picture", main)
