"""What a checkpoint's image processor does to pixels, read as data: for the card, for the resizer, for the keys."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from ...schemas.models import Channels, Resize
from .checkpoint import Checkpoint
from .resize import Corner, Crop, Resizer, Squash

_BY_SETTING: Final = {"exact": "exact", "fast": "fast 2", "scaled": "scaled 2"}
"""What is done to pixels beside the processor's rules, by PRELABEL_PREPROCESSING. Count on when it changes: vectors
made otherwise are not answered with."""

_CORNERS: Final[dict[Corner, str]] = {"down": "", "even": " to even"}

BYTES: Final = 1 / 255
"""The rescaling that all processors but odd ones have."""


@dataclass(frozen=True, kw_only=True)
class PixelRules:
    """What is alike for all ways to resize.

    Attributes:
        resample: the filter.
        rescale: factor of the bytes.
        mean: taken off each channel after that.
        std: each channel is divided by it at last.
    """

    resample: Image.Resampling
    rescale: float
    mean: Channels
    std: Channels

    def pixels_name(self, preprocessing: str) -> str:
        """Their part of `ModelCard.preprocessing`.

        Args:
            preprocessing: PRELABEL_PREPROCESSING.
        """
        factor = "" if abs(self.rescale - BYTES) < 1e-9 else f" x{self.rescale!r}"
        channels = f"{','.join(map(repr, self.mean))}/{','.join(map(repr, self.std))}"
        return f"{self.resample.name}{factor} {channels} {_BY_SETTING[preprocessing]}"


@dataclass(frozen=True, kw_only=True)
class ImageRules(PixelRules):
    """An image's way from decoded pixels to the input of an image tower whose images have one size.

    Attributes:
        size: height and width of a prepared image, pixels.
        shortest: pixels the shorter edge is scaled to before the middle is cut out; None squashes instead.
        corner: where the corner of a crop goes that falls between two pixels.
    """

    size: tuple[int, int]
    shortest: int | None
    corner: Corner = "down"

    @property
    def resize(self) -> Resize:
        """As the card has it."""
        return "squash" if self.shortest is None else "crop"

    def resizer(self, preprocessing: str) -> Resizer:
        """What makes an image of this size.

        Args:
            preprocessing: PRELABEL_PREPROCESSING.
        """
        exact = preprocessing == "exact"
        if self.shortest is None:
            return Squash(self.size, self.resample, exact=exact)
        return Crop(self.shortest, self.size, self.resample, exact=exact, corner=self.corner)

    def name(self, preprocessing: str) -> str:
        """`ModelCard.preprocessing`: other pixels, another name."""
        height, width = self.size
        way = "squash" if self.shortest is None else f"crop of {self.shortest}{_CORNERS[self.corner]}"
        return f"{height}x{width} {way} {self.pixels_name(preprocessing)}"


OWN: Final = "save the checkpoint's own processor there, processor.save_pretrained(folder)"
"""What helps where an image processor is not what it has to be."""


def read_pixel_rules(checkpoint: Checkpoint, processor: Any) -> dict[str, Any]:
    """The fields of `PixelRules` in a transformers image processor.

    Raises:
        ModelLoadError: it leaves a step out that all our families take it to do, or has no number where it needs one.
    """
    file = checkpoint.image_processor_file
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not getattr(processor, step, False):
            raise checkpoint.refused(f"its image processor ({file}) has {step} off: {OWN}")
    rules: dict[str, Any] = {}
    for field, name, read in _FIELDS:
        value = getattr(processor, name, None)
        try:
            rules[field] = read(value)
        except (TypeError, ValueError):
            raise checkpoint.refused(
                f"its image processor ({file}) has {name}={value!r}, which cannot be used: {OWN}"
            ) from None
    return rules


def channels(values: Any) -> Channels:
    """A number a channel: red, green, blue.

    Raises:
        TypeError, ValueError: they are not three numbers.
    """
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def divisors(values: Any) -> Channels:
    """A number a channel to divide by.

    Raises:
        TypeError, ValueError: they are not three numbers above 0.
    """
    if not min(channels(values)) > 0:
        raise ValueError
    return channels(values)


_FIELDS: Final[tuple[tuple[str, str, Callable[[Any], Any]], ...]] = (
    ("resample", "resample", lambda value: Image.Resampling(int(value))),
    ("rescale", "rescale_factor", float),
    ("mean", "image_mean", channels),
    ("std", "image_std", divisors),
)
"""A field of `PixelRules`, a processor's name for it, and what reads it."""


def read_image_rules(checkpoint: Checkpoint, processor: Any) -> ImageRules:
    """The rules of a transformers image processor.

    Args:
        checkpoint: whose it is.
        processor: `do_resize`, `size`, `do_center_crop`, `crop_size`, `resample`, ….

    Raises:
        ModelLoadError: it neither squashes images to one size nor crops them to one, or leaves a step out.
    """
    pixels = read_pixel_rules(checkpoint, processor)
    file = checkpoint.image_processor_file
    whole = getattr(processor, "size", None)
    size, crop = _sides(whole), _sides(getattr(processor, "crop_size", None))
    shortest = None
    cut = size
    if getattr(processor, "do_center_crop", False) and crop != size:
        shortest, cut = _edge(whole), crop
        if shortest and cut and max(cut) > shortest:
            raise checkpoint.refused(
                f"its image processor ({file}) scales the shorter edge to {shortest} and crops to {cut[0]}x{cut[1]}, "
                f"which is more: {OWN}"
            )
    if cut is None or (shortest is None and cut != size):
        raise checkpoint.refused(
            f"its image processor ({file}) neither squashes images to one size nor scales their shorter edge and "
            f"crops: {OWN}"
        )
    return ImageRules(size=cut, shortest=shortest, **pixels)


def _sides(size: Any) -> tuple[int, int] | None:
    height, width = _named(size, "height"), _named(size, "width")
    return (height, width) if height and width else None


def _edge(size: Any) -> int | None:
    return None if _named(size, "longest_edge") else _named(size, "shortest_edge")


def _named(size: Any, name: str) -> int | None:
    value = size.get(name) if isinstance(size, dict) else getattr(size, name, None)
    return int(value) if value else None
