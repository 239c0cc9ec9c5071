"""The pictures the demo checkpoint learns from, and what is known to be true of each."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from prelabel.worker.demo.shapes import (
    ALL_PAIRS,
    COLOURS,
    HELD_OUT_PAIRS,
    PATTERNS,
    RGB,
    SHAPES,
    Scene,
    draw,
    sample_backdrop,
    sample_scene,
)

Bytes: TypeAlias = npt.NDArray[np.uint8]
Numbers: TypeAlias = npt.NDArray[np.int64]

IMAGE_SIZE: Final = 64
PATCH: Final = 8
GRID: Final = IMAGE_SIZE // PATCH
NAMELESS: Final = len(COLOURS)
"""Colour number of a figure whose paint has no name: it teaches shape and says nothing on colour."""
CLOSE: Final = 72.0
"""Euclidean RGB distance (channels 0..255) within which a paint counts as one of the COLOURS here; a
figure named by its colour lies within 21."""
_DRAWN_AT: Final = (128, 96)
"""px; after the squash to IMAGE_SIZE hardly to be told from a 480x360 picture, and ten times as fast."""
_BLOCK: Final = 500


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures and what is in them, one row each.

    Attributes:
        pixels: uint8 (n, IMAGE_SIZE, IMAGE_SIZE, 3).
        colours: int64 (n, 3), number in COLOURS, NAMELESS, or -1 where there is no such figure.
        hues: int64 (n, 3), number of the COLOURS entry CLOSE to the paint, or -1; never NAMELESS.
        shapes: int64 (n, 3), number in SHAPES or -1.
        patterns: int64 (n, 3), number in PATTERNS or -1.
        cover: int64 (n, GRID, GRID), which figure (0..2) covers each patch, or -1.
    """

    pixels: Bytes
    colours: Numbers
    hues: Numbers
    shapes: Numbers
    patterns: Numbers
    cover: Numbers

    def __len__(self) -> int:
        """How many pictures."""
        return len(self.pixels)

    def take(self, rows: Numbers) -> Pictures:
        """The pictures with these row numbers."""
        return Pictures(*(getattr(self, field.name)[rows] for field in fields(self)))

    def mirrored(self, which: npt.NDArray[np.bool_]) -> Pictures:
        """A copy in which the pictures marked in `which`, bool (n,), are flipped left to right."""
        pixels, cover = self.pixels.copy(), self.cover.copy()
        pixels[which] = pixels[which, :, ::-1]
        cover[which] = cover[which, :, ::-1]
        return replace(self, pixels=pixels, cover=cover)


def make_pictures(seed: int, counts: Sequence[int], *, hold_out: bool, nameless: float, workers: int) -> Pictures:
    """Draw the training pictures.

    Args:
        seed: the same seed gives the same pictures, whatever `workers` is.
        counts: how many with one, two and three figures, in this order; multiples of 500.
        hold_out: leave out every (colour, shape) of HELD_OUT_PAIRS.
        nameless: share of pictures (0..1) whose figures are painted in random colours.
        workers: processes to draw with.
    """
    blocks = [
        (seed, number, figures, hold_out, nameless)
        for number, figures in enumerate(
            figures for figures, count in enumerate(counts, 1) for _ in range(count // _BLOCK)
        )
    ]
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(_block, blocks))
    return Pictures(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Pictures)))


def look(scene: Scene, size: tuple[int, int] = _DRAWN_AT) -> Bytes:
    """A scene as the model sees it: drawn, then squashed; uint8 (IMAGE_SIZE, IMAGE_SIZE, 3)."""
    return np.asarray(draw(scene, size).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC))


def close_colour(paint: RGB) -> int:
    """Number in COLOURS of the nearest named colour, or -1 where even that is not CLOSE."""
    distances = [math.dist(colour, paint) for colour in COLOURS.values()]
    nearest = min(range(len(distances)), key=distances.__getitem__)
    return nearest if distances[nearest] < CLOSE else -1


def describe(scenes: Sequence[Scene], pixels: Sequence[Bytes]) -> Pictures:
    """Bring scenes and their pixels into rows."""
    table = np.full((4, len(scenes), 3), -1, dtype=np.int64)
    cover = np.full((len(scenes), GRID, GRID), -1, dtype=np.int64)
    colour_names = [*COLOURS, ""]
    centres = (np.arange(GRID) + 0.5) / GRID
    for row, scene in enumerate(scenes):
        for slot, figure in enumerate(scene.figures):
            table[:, row, slot] = (
                colour_names.index(figure.colour),
                close_colour(figure.paint),
                SHAPES.index(figure.shape),
                PATTERNS.index(figure.pattern),
            )
            dx, dy = (centres - figure.centre[0]) * 4 / 3, centres - figure.centre[1]
            cover[row][np.hypot(dx[None, :], dy[:, None]) < figure.radius * 0.95] = slot
    return Pictures(np.stack(pixels), table[0], table[1], table[2], table[3], cover)


def _block(task: tuple[int, int, int, bool, float]) -> Pictures:
    """Draw one block of pictures with the same number of figures; runs in a worker process."""
    seed, number, figures, hold_out, nameless = task
    rng = np.random.default_rng((seed, number))
    pairs = [pair for pair in ALL_PAIRS if not (hold_out and pair in HELD_OUT_PAIRS)]
    scenes = []
    for _ in range(_BLOCK):
        scene = sample_scene(rng, figures=figures, pairs=pairs)
        scenes.append(_repaint(scene, rng, hold_out) if rng.random() < nameless else scene)
    return describe(scenes, [look(scene) for scene in scenes])


def _repaint(scene: Scene, rng: np.random.Generator, hold_out: bool) -> Scene:
    """The same scene with figures in nameless random paint."""
    figures = tuple(
        replace(figure, colour="", paint=_nameless_paint(figure.shape, rng, hold_out)) for figure in scene.figures
    )
    background, end = sample_backdrop(rng, [figure.paint for figure in figures])
    return replace(scene, figures=figures, background=background, backdrop_end=end)


def _nameless_paint(shape: str, rng: np.random.Generator, hold_out: bool) -> RGB:
    """A random RGB (0..255) for a shape.

    With `hold_out`, none CLOSE to a colour held out for this shape: the repainted pictures must not show
    held-out pairs by the back door.
    """
    avoided = [COLOURS[colour] for colour, other in HELD_OUT_PAIRS if hold_out and other == shape]
    while True:
        hue, saturation, value = rng.uniform(0, 1), rng.uniform(0, 1) ** 0.5, rng.uniform(0, 1) ** 0.6
        red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
        paint = (red, green, blue)
        if all(math.dist(colour, paint) >= CLOSE for colour in avoided):
            return paint
