"""What a checkpoint's image processor does to pixels, read as data: for the card, for the resizer, for the keys."""

from __future__ import annotations

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
class ImageRules:
    """An image's way from decoded pixels to the image tower's input.

    Attributes:
        size: height and width of a prepared image, pixels.
        shortest: pixels the shorter edge is scaled to before the middle is cut out; None squashes instead.
        resample: the filter.
        rescale: factor of the bytes.
        mean: taken off each channel after that.
        std: each channel is divided by it at last.
        corner: where the corner of a crop goes that falls between two pixels.
    """

    size: tuple[int, int]
    shortest: int | None
    resample: Image.Resampling
    rescale: float
    mean: Channels
    std: Channels
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
        return f"{height}x{width} {way} {named(self.resample, self.rescale, self.mean, self.std, preprocessing)}"


def named(resample: Image.Resampling, rescale: float, mean: Channels, std: Channels, preprocessing: str) -> str:
    """The part of `ModelCard.preprocessing` that is alike for all ways to resize."""
    factor = "" if abs(rescale - BYTES) < 1e-9 else f" x{rescale!r}"
    channels = f"{','.join(map(repr, mean))}/{','.join(map(repr, std))}"
    return f"{resample.name}{factor} {channels} {_BY_SETTING[preprocessing]}"


def channels(values: Any) -> Channels:
    """Three numbers of a processor."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def read_image_rules(checkpoint: Checkpoint, processor: Any) -> ImageRules:
    """The rules of a transformers image processor.

    Args:
        checkpoint: whose it is.
        processor: `do_resize`, `size`, `do_center_crop`, `crop_size`, `resample`, ….

    Raises:
        ModelLoadError: it neither squashes images to one size nor crops them to one, or leaves a step out.
    """
    for step in ("do_resize", "do_rescale", "do_normalize"):
        if not getattr(processor, step, False):
            raise checkpoint.refused(f"its image processor (preprocessor_config.json) has {step} off: {_OWN}")
    size, crop = _sides(processor.size), _sides(getattr(processor, "crop_size", None))
    shortest = None
    cut = size
    if getattr(processor, "do_center_crop", False) and crop != size:
        shortest, cut = _edge(processor.size), crop
        if shortest and cut and max(cut) > shortest:
            raise checkpoint.refused(
                f"its image processor (preprocessor_config.json) scales the shorter edge to {shortest} and crops to "
                f"{cut[0]}x{cut[1]}, which is more: {_OWN}"
            )
    if cut is None or (shortest is None and cut != size):
        raise checkpoint.refused(
            "its image processor (preprocessor_config.json) neither squashes images to one size nor scales their "
            f"shorter edge and crops: {_OWN}"
        )
    return ImageRules(
        size=cut,
        shortest=shortest,
        resample=Image.Resampling(int(processor.resample)),
        rescale=float(processor.rescale_factor),
        mean=channels(processor.image_mean),
        std=channels(processor.image_std),
    )


_OWN: Final = "save the checkpoint's own processor there, processor.save_pretrained(folder)"


def _sides(size: Any) -> tuple[int, int] | None:
    height, width = _named(size, "height"), _named(size, "width")
    return (height, width) if height and width else None


def _edge(size: Any) -> int | None:
    return None if _named(size, "longest_edge") else _named(size, "shortest_edge")


def _named(size: Any, name: str) -> int | None:
    value = size.get(name) if isinstance(size, dict) else getattr(size, name, None)
    return int(value) if value else None
