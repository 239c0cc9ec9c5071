"""Whether prelabel reads what a browser shows; `make referee IMAGES=FOLDER`, or `python -m tests.referee --help`.

Every file below a folder, and damaged copies of it, goes through prelabel's decoding and through Chromium. Listed is
where they disagree: one reads it and the other does not, their pictures have other sizes, or look different (averaged
to 16x16 cells, which tells a turn from none). A TIFF, which no browser shows, is no disagreement. Nor is a damaged file
of which a browser shows a part: prelabel scores no part of a picture; those are counted apart. Each file has a minute;
a decoder that crashes or hangs fails the run. Memory is the decoding process's peak; what it wrote to stderr is shown.
"""

from __future__ import annotations

import argparse
import base64
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from prelabel.schemas import ItemError
from prelabel.worker.arrays import Pixels
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.telemetry.logs import configure_logging

from .browser import chromium

_SIDE = 16
_TIMEOUT_S = 60
_MAX_PIXELS = 50_000_000
_LOOKED_AT = 4_000_000
"""Pixels of the largest picture whose look is compared."""

_DIFFERENT = 20
"""Mean difference, of 255, between two pictures of one file. Colour profiles, which browsers alone apply, make ten."""

_ONLY_HERE = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How files begin that prelabel reads and no browser shows: TIFFs."""

_SHOW = """
async ({encoded, side, most}) => {
  const bytes = Uint8Array.from(atob(encoded), character => character.charCodeAt(0));
  const blob = new Blob([bytes]), image = new Image(), address = URL.createObjectURL(blob);
  try {
    const shown = await new Promise(resolve => {
      image.onload = () => resolve(true);
      image.onerror = () => resolve(false);
      setTimeout(() => resolve(false), 20000);
      image.src = address;
    });
    const width = image.naturalWidth, height = image.naturalHeight;
    if (!shown || !width || !height) return null;
    if (width * height > most) return {width, height};
    // An animation plays in an element; a bitmap made of it is its first frame.
    const first = await createImageBitmap(blob).catch(() => image);
    const canvas = document.createElement('canvas');
    Object.assign(canvas, {width, height});
    const pen = canvas.getContext('2d');
    pen.fillStyle = 'white';
    pen.fillRect(0, 0, width, height);
    pen.drawImage(first, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height).data;
    const sums = new Float64Array(side * side * 3), counts = new Float64Array(side * side);
    for (let y = 0, place = 0; y < height; y++)
      for (let x = 0; x < width; x++, place += 4) {
        const cell = Math.floor(y * side / height) * side + Math.floor(x * side / width);
        counts[cell]++;
        for (let band = 0; band < 3; band++) sums[3 * cell + band] += pixels[place + band];
      }
    return {width, height, look: Array.from(sums, (sum, index) => sum / (counts[Math.floor(index / 3)] || 1))};
  } finally { URL.revokeObjectURL(address); }
}
"""


class Case(NamedTuple):
    """A file, or a damaged copy of one."""

    name: str
    data: bytes
    damaged: bool


class Seen(NamedTuple):
    """What one of the two made of a file.

    Attributes:
        size: width and height; None where it is refused.
        look: the means of its 16x16 cells, red, green and blue, 0..255; None if it is too large to compare.
        note: why it is refused.
    """

    size: tuple[int, int] | None = None
    look: npt.NDArray[np.float64] | None = None
    note: str = ""


def main() -> None:
    """Judge and print; the exit status is 1 where a decoder crashed or hung."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=2, help="damaged copies of each file")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--list", type=int, default=100, help="files shown of each disagreement")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    out = Console(width=max(120, Console().width), soft_wrap=True)
    groups: dict[str, list[str]] = defaultdict(list)
    counts: dict[bool, Counter[str]] = {False: Counter(), True: Counter()}
    with tempfile.TemporaryFile() as stderr, Decoder(stderr.fileno()) as decoder, chromium() as browser:
        shower = Shower(browser)
        for case in cases(options.folder, options.copies, options.seed):
            ours, theirs = decoder.see(case.data), shower.see(case.data)
            verdict, words = judge(ours, theirs, case.data)
            counts[case.damaged][verdict] += 1
            groups[verdict].append(f"{case.name}: {words}")
        stderr.seek(0)
        said = stderr.read().decode(errors="replace").splitlines()
    for verdict in (name for name in sorted(groups) if name not in _AGREED):
        out.print(f"\n[bold]{verdict}[/bold] ({len(groups[verdict])})")
        for line in groups[verdict][: options.list]:
            out.print(f"  {line}", markup=False, highlight=False)
    table = Table("verdict", "files", "damaged copies")
    for verdict in sorted(groups):
        table.add_row(verdict, *(f"{counts[damaged][verdict]:,}" for damaged in (False, True)))
    out.print(table)
    out.print(
        f"{decoder.crashes} crashes, {decoder.hangs} hangs, {shower.crashes} of Chromium; slowest here "
        f"{decoder.slowest_s:.1f} s of CPU; at most {decoder.peak_mb:,} MB; {len(said)} lines on stderr"
    )
    for line in said[: options.list]:
        out.print(f"  {line}", markup=False, highlight=False)
    sys.exit(bool(decoder.crashes or decoder.hangs))


_DAMAGED = "shown by Chromium, damaged here"
_AGREED = ("both show it", "neither shows it", "a TIFF, read here")


def cases(folder: Path, copies: int, seed: int) -> Iterator[Case]:
    """Every file and its damaged copies: bytes changed, cut off, or both."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data, name = path.read_bytes(), str(path.relative_to(folder))
        yield Case(name, data, damaged=False)
        for copy in range(copies if data else 0):
            rng = random.Random(f"{seed} {name} {copy}")
            yield Case(f"{name} (copy {copy})", _damaged(data, rng), damaged=True)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    kind = rng.choice(("header", "anywhere", "cut", "both"))
    if kind != "cut":
        end = min(len(changed), 256) if kind == "header" else len(changed)
        for _ in range(rng.choice((1, 4, 16))):
            changed[rng.randrange(end)] = rng.randrange(256)
    return bytes(changed[: rng.randrange(1, len(changed) + 1)] if kind in ("cut", "both") else changed)


def judge(ours: Seen, theirs: Seen, data: bytes) -> tuple[str, str]:
    """The verdict on one file, and its reason."""
    if ours.size is None and theirs.size is None:
        return "neither shows it", ours.note
    if ours.size is None:
        return _DAMAGED if "damaged" in ours.note else "shown by Chromium, refused here", ours.note
    if theirs.size is None:
        tiff = data.startswith(_ONLY_HERE)
        return ("a TIFF, read here" if tiff else "refused by Chromium, read here"), f"{ours.size}"
    if ours.size != theirs.size:
        return "other sizes", f"{ours.size} here, {theirs.size} in Chromium"
    if ours.look is None or theirs.look is None:
        return "both show it", "too large to compare"
    apart = float(np.abs(ours.look - theirs.look).mean())
    return ("both show it" if apart < _DIFFERENT else "looks different"), f"by {apart:.0f} of 255"


class Decoder:
    """prelabel's decoding in a process of its own, which is started again after a crash or a hang.

    Args:
        stderr: where the process writes what it has to say.
    """

    def __init__(self, stderr: int) -> None:
        self._stderr = stderr
        self.crashes = self.hangs = self.peak_mb = 0
        self.slowest_s = 0.0

    def __enter__(self) -> Decoder:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()

    def _start(self) -> None:
        # Forked, so that it keeps the file that stands for its stderr; nothing here has threads yet.
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_decode_all, args=(theirs, self._stderr), daemon=True)
        self._process.start()
        theirs.close()

    def see(self, data: bytes) -> Seen:
        """What prelabel makes of a file."""
        self._pipe.send_bytes(data)
        try:
            if not self._pipe.poll(_TIMEOUT_S):
                self.hangs += 1
                return self._again("hangs")
            seen, seconds, peak_mb = self._pipe.recv()
        except EOFError:
            self.crashes += 1
            return self._again("crashes")
        self.slowest_s, self.peak_mb = max(self.slowest_s, seconds), max(self.peak_mb, peak_mb)
        assert isinstance(seen, Seen)
        return seen

    def _again(self, note: str) -> Seen:
        self._process.kill()
        self._process.join()
        self._start()
        return Seen(note=note)


def _decode_all(pipe: Connection, stderr: int) -> None:
    os.dup2(stderr, 2)
    configure_logging("WARNING")
    while True:
        data, begun = pipe.recv_bytes(), time.process_time()
        try:
            pixels = decode_pixels(data, max_pixels=_MAX_PIXELS)
        except ItemError as error:
            seen = Seen(note=str(error))
        else:
            height, width, _ = pixels.shape
            seen = Seen((width, height), _look(pixels) if width * height <= _LOOKED_AT else None)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        pipe.send((seen, time.process_time() - begun, peak))


def _look(pixels: Pixels) -> npt.NDArray[np.float64]:
    """The mean of each of 16x16 cells; 0 where a picture has fewer pixels."""
    rows, columns = (np.arange(side) * _SIDE // side for side in pixels.shape[:2])
    cells = (rows[:, np.newaxis] * _SIDE + columns).ravel()
    counts = np.maximum(1, np.bincount(cells, minlength=_SIDE**2))
    bands = [np.bincount(cells, pixels[:, :, band].ravel(), _SIDE**2) / counts for band in range(3)]
    return np.stack(bands, axis=-1).ravel()


class Shower:
    """Chromium, with a new page after each crash.

    Args:
        browser: of playwright.
    """

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._page = browser.new_page()
        self.crashes = 0

    def see(self, data: bytes) -> Seen:
        """What Chromium makes of a file."""
        from playwright.sync_api import Error

        try:
            shown = self._page.evaluate(
                _SHOW, {"encoded": base64.b64encode(data).decode(), "side": _SIDE, "most": _LOOKED_AT}
            )
        except Error:
            self.crashes += 1
            self._page = self._browser.new_page()
            return Seen(note="crashes Chromium")
        if shown is None:
            return Seen()
        return Seen((shown["width"], shown["height"]), np.array(shown["look"]) if "look" in shown else None)


if __name__ == "__main__":
    main()
