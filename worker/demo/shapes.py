"""Generated pictures of coloured, patterned shapes: what the demo shows and its checkpoint was trained on.

A `Scene` says everything about a picture and `draw` turns it into pixels. The same scene always gives
the same pixels, so the demo needs no image files and a result can be repeated from a seed.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

RGB: TypeAlias = tuple[int, int, int]
Floats: TypeAlias = npt.NDArray[np.float32]
Outline: TypeAlias = npt.NDArray[np.float64]

COLOURS: Final[Mapping[str, RGB]] = MappingProxyType(
    {
        "red": (214, 38, 44),
        "orange": (243, 132, 22),
        "yellow": (244, 214, 40),
        "green": (44, 156, 72),
        "blue": (38, 84, 214),
        "purple": (126, 48, 168),
        "pink": (246, 128, 184),
        "black": (28, 28, 32),
    }
)
SHAPES: Final = ("circle", "square", "triangle", "star", "cross", "heart", "ring", "crescent")
PATTERNS: Final = ("solid", "striped", "dotted")
ALL_PAIRS: Final = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)

_HELD_OUT: Final = {
    "red": ("square", "heart"),
    "orange": ("cross",),
    "yellow": ("ring", "star"),
    "green": ("triangle", "star"),
    "blue": ("heart",),
    "purple": ("circle", "crescent"),
    "pink": ("crescent",),
    "black": ("circle",),
}
HELD_OUT_PAIRS: Final = frozenset((colour, shape) for colour, shapes in _HELD_OUT.items() for shape in shapes)
"""(colour, shape) pairs the demo checkpoint never saw a picture of; each colour and each shape occurs."""

JITTER: Final = 12
"""A figure's paint differs from its colour's RGB by at most this much per channel (0..255)."""
RADII: Final = ((0.26, 0.42), (0.20, 0.29), (0.17, 0.23))
"""Smallest and largest radius for scenes of one, two and three figures, in shorter sides."""
MIN_CONTRAST: Final = 110.0
"""Least Euclidean RGB distance between the background and every paint on it."""
_SUPERSAMPLING: Final = 3
_ASPECT: Final = 4 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One shape in a picture.

    Attributes:
        colour: a name of `COLOURS`: what a person would call the paint.
        shape: one of `SHAPES`.
        pattern: one of `PATTERNS`.
        centre: (x, y), each 0..1 of the picture's width and height.
        radius: radius of the enclosing circle, 0..1 of the picture's shorter side.
        rotation: degrees, counter-clockwise.
        paint: the RGB (0..255) really used, close to the named colour.
    """

    colour: str
    shape: str
    pattern: str
    centre: tuple[float, float]
    radius: float
    rotation: float
    paint: RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A whole picture.

    Attributes:
        figures: what is in it; they do not overlap.
        background: RGB (0..255) where the backdrop begins.
        backdrop_end: RGB (0..255) that the backdrop fades to.
        fade_direction: degrees along which it fades.
        noise_seed: seed of the backdrop's clouds and the picture's grain.
    """

    figures: tuple[Figure, ...]
    background: RGB
    backdrop_end: RGB
    fade_direction: float
    noise_seed: int


def sample_scene(
    rng: np.random.Generator, *, figures: int = 1, pairs: Sequence[tuple[str, str]] | None = None
) -> Scene:
    """Draw a scene by lot.

    Args:
        rng: where chance comes from; the scene depends on nothing else.
        figures: how many figures, 1..3; they do not overlap.
        pairs: (colour, shape) pairs to choose each figure's from, evenly; all pairs when None.

    Returns:
        A scene laid out for pictures of about 4:3.

    Raises:
        ValueError: `figures` is not 1..3, or `pairs` is empty.
    """
    if not 1 <= figures <= len(RADII):
        raise ValueError(f"figures must be 1..{len(RADII)}, not {figures}")
    choices = ALL_PAIRS if pairs is None else tuple(pairs)
    if not choices:
        raise ValueError("pairs is empty: name at least one (colour, shape)")
    drawn = []
    for centre, radius in _places(rng, figures):
        colour, shape = choices[int(rng.integers(len(choices)))]
        pattern = PATTERNS[int(rng.integers(len(PATTERNS)))]
        turn, paint = float(rng.uniform(-30, 30)), _jittered(rng, COLOURS[colour])
        drawn.append(
            Figure(
                colour=colour,
                shape=shape,
                pattern=pattern,
                centre=centre,
                radius=radius,
                rotation=turn,
                paint=paint,
            )
        )
    background, end = sample_backdrop(rng, [figure.paint for figure in drawn])
    return Scene(
        figures=tuple(drawn),
        background=background,
        backdrop_end=end,
        fade_direction=float(rng.uniform(0, 360)),
        noise_seed=int(rng.integers(2**31)),
    )


def sample_backdrop(rng: np.random.Generator, paints: Sequence[RGB]) -> tuple[RGB, RGB]:
    """Choose two muted backdrop colours from which every paint stands out.

    Args:
        rng: where chance comes from.
        paints: RGB (0..255) of the figures to be seen on it.

    Returns:
        RGB (0..255) of the beginning and the end of the fade.
    """
    best, best_contrast = ((236, 236, 236), (236, 236, 236)), 0.0
    for _ in range(40):
        hue, saturation = rng.uniform(0, 1), rng.uniform(0, 0.28)
        value = rng.uniform(0.18, 0.34) if rng.random() < 0.3 else rng.uniform(0.62, 0.98)
        ends = (
            _from_hsv(hue, saturation, value),
            _from_hsv(hue + rng.uniform(-0.1, 0.1), saturation, value + rng.uniform(-0.14, 0.06)),
        )
        contrast = min((math.dist(paint, end) for paint in paints for end in ends), default=math.inf)
        if contrast >= MIN_CONTRAST:
            return ends
        if contrast > best_contrast:
            best, best_contrast = ends, contrast
    return best


def draw(scene: Scene, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """Paint a scene.

    Args:
        scene: what to paint.
        size: (width, height) in px.

    Returns:
        An RGB picture with smooth edges; every pixel follows from `scene` and `size`.
    """
    rng = np.random.default_rng(scene.noise_seed)
    canvas = _backdrop(scene, size, rng)
    for figure in scene.figures:
        _paint(canvas, figure, size)
    canvas += rng.normal(0, 3.0, canvas.shape).astype(np.float32)
    return Image.fromarray(np.clip(canvas + 0.5, 0, 255).astype(np.uint8))


def _places(rng: np.random.Generator, figures: int) -> list[tuple[tuple[float, float], float]]:
    """Centres (0..1 of width and height) and radii (shorter sides) of figures that do not touch."""
    low, high = RADII[figures - 1]
    while True:
        places: list[tuple[tuple[float, float], float]] = []
        for _ in range(60):
            radius = float(rng.uniform(low, high))
            x = float(rng.uniform(radius + 0.03, _ASPECT - radius - 0.03))
            y = float(rng.uniform(radius + 0.03, 1 - radius - 0.03))
            if all(math.hypot(x - px * _ASPECT, y - py) > radius + pr + 0.03 for (px, py), pr in places):
                places.append(((x / _ASPECT, y), radius))
            if len(places) == figures:
                return places


def _jittered(rng: np.random.Generator, colour: RGB) -> RGB:
    """The colour, each channel moved by at most `JITTER` and kept within 0..255."""
    red, green, blue = (int(np.clip(c + rng.integers(-JITTER, JITTER + 1), 0, 255)) for c in colour)
    return red, green, blue


def _from_hsv(hue: float, saturation: float, value: float) -> RGB:
    """RGB (0..255) of a hue (turns), saturation and value (0..1, clipped)."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1, saturation, min(max(value, 0.0), 1.0))
    return round(red * 255), round(green * 255), round(blue * 255)


def _backdrop(scene: Scene, size: tuple[int, int], rng: np.random.Generator) -> Floats:
    """A fade between the two backdrop colours with soft clouds: float32 (height, width, 3), about 0..255."""
    width, height = size
    x, y = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)
    angle = math.radians(scene.fade_direction)
    along = 0.5 + 0.35 * (x[None, :] * math.cos(angle) + y[:, None] * math.sin(angle))
    coarse = Image.fromarray(rng.normal(0, 7.0, (6, 8)).astype(np.float32))
    clouds = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))
    start = np.asarray(scene.background, dtype=np.float32)
    step = np.asarray(scene.backdrop_end, dtype=np.float32) - start
    faded: Floats = (start + np.clip(along, 0, 1)[..., None] * step + clouds[..., None]).astype(np.float32)
    return faded


def _paint(canvas: Floats, figure: Figure, size: tuple[int, int]) -> None:
    """Lay a figure and its soft shadow onto the canvas, float32 (height, width, 3), in place."""
    side = min(size)
    mask = _mask(figure, size)
    offset = round(0.015 * side)
    shadow = np.asarray(mask.filter(ImageFilter.GaussianBlur(0.02 * side)), dtype=np.float32)
    canvas *= 1 - 0.30 * (np.roll(shadow, (offset, offset), axis=(0, 1)) / 255)[..., None]
    alpha = np.asarray(mask, dtype=np.float32)[..., None] / 255
    paint = np.asarray(figure.paint, dtype=np.float32)
    tint = paint + 0.62 * (255 - paint)
    marks = _marks(figure, size)[..., None]
    canvas += alpha * (paint * (1 - marks) + tint * marks - canvas)


def _mask(figure: Figure, size: tuple[int, int]) -> Image.Image:
    """The figure's smooth-edged silhouette as a grey picture of `size`: 255 inside, 0 outside."""
    scale = _SUPERSAMPLING
    large = Image.new("L", (size[0] * scale, size[1] * scale))
    pen = ImageDraw.Draw(large)
    angle = math.radians(figure.rotation)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    centre = np.asarray(figure.centre) * size
    for outline, fill in zip(_OUTLINES[figure.shape], (255, 0), strict=False):
        points = (centre + outline @ turn * figure.radius * min(size)) * scale
        pen.polygon([(float(x), float(y)) for x, y in points], fill=fill)
    return large.resize(size, Image.Resampling.BOX)


def _marks(figure: Figure, size: tuple[int, int]) -> Floats:
    """How much of the lighter tint shows at each pixel: float32 (height, width), 0..1."""
    width, height = size
    if figure.pattern == "solid":
        return np.zeros((height, width), dtype=np.float32)
    side = min(size) * figure.radius
    x = (np.arange(width, dtype=np.float32) + 0.5 - figure.centre[0] * width) / side
    y = (np.arange(height, dtype=np.float32) + 0.5 - figure.centre[1] * height) / side
    angle = math.radians(figure.rotation + 45)
    u = x[None, :] * math.cos(angle) - y[:, None] * math.sin(angle)
    v = x[None, :] * math.sin(angle) + y[:, None] * math.cos(angle)
    if figure.pattern == "striped":
        wave = np.sin(u * (2 * math.pi * 1.7))
    else:
        wave = 1.8 * (np.sin(u * (2 * math.pi * 1.4)) * np.sin(v * (2 * math.pi * 1.4)) - 0.5)
    return np.clip(0.5 + wave * side / 8, 0, 1).astype(np.float32)


def _round(radius: float = 1.0, x: float = 0.0, y: float = 0.0) -> Outline:
    """A circle as 72 points (72, 2)."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def _spokes(radii: Sequence[float]) -> Outline:
    """A closed outline (len(radii), 2) whose corners stand at equal angles, the first one upwards."""
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False) - np.pi / 2
    return np.stack([np.cos(angle) * radii, np.sin(angle) * radii], axis=1)


def _heart() -> Outline:
    """A heart, point downwards, as 72 points (72, 2)."""
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x = 16 * np.sin(angle) ** 3
    y = 13 * np.cos(angle) - 5 * np.cos(2 * angle) - 2 * np.cos(3 * angle) - np.cos(4 * angle)
    return np.stack([x / 16.5, (-y - 2.5) / 16.5], axis=1)


def _cross(arm: float = 0.285, end: float = 0.95) -> Outline:
    """A plus sign (12, 2) with arms of half-width `arm`, ending at `end`."""
    x = [arm, arm, end, end, arm, arm, -arm, -arm, -end, -end, -arm, -arm]
    return np.stack([x, x[9:] + x[:9]], axis=1)


_OUTLINES: Final[Mapping[str, tuple[Outline, ...]]] = MappingProxyType(
    {
        "circle": (_round(0.95),),
        "square": (np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * 0.78,),
        "triangle": (_spokes([1.0] * 3) + np.array([0.0, 0.15]),),
        "star": (_spokes([1.0, 0.42] * 5),),
        "cross": (_cross(),),
        "heart": (_heart(),),
        "ring": (_round(0.95), _round(0.55)),
        "crescent": (_round(0.95), _round(0.85, 0.45, -0.1)),
    }
)
"""Shape -> outline in the unit circle (points, 2), y downwards; for some also the part cut out of it."""
