"""Bringing an image to a model's input size: to the bit as Pillow does, or with torch's faster kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image

from ..arrays import Pixels
from .devices import use_threads

Resizer = Callable[[Pixels], Pixels]
"""`(h, w, 3)` uint8 -> a prepared image, uint8. Called from many threads."""

Corner = Literal["down", "even"]
"""Where the corner of a crop goes that falls between two pixels: "down" to the lower one, as transformers' does; "even"
to the one of an even number, as torchvision's does."""

_TORCH_MODES = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}
"""Filters torch has an antialiased uint8 kernel for; the one torchvision calls."""

_LONG = 16
"""How many times as long as its crop an image may be scaled whole; of a longer one only the part that stays is scaled,
which memory does not grow with and which differs by a rounding of the filter's places."""


class Squash:
    """Squashes to one size, whatever an image's proportions. Called from many threads.

    Args:
        size: height and width, pixels.
        resample: the processor's own filter.
        exact: resize with Pillow, to the bit as the processor does; else so only what has no more pixels than `size`,
            and the rest with torch's kernel where it has one, several times faster and within 2 of 255 of it.
            Small pictures are the ones whose scores such a difference moves most, and cost least.
    """

    def __init__(self, size: tuple[int, int], resample: Image.Resampling, *, exact: bool) -> None:
        self._size = size
        self._resample = resample
        self._mode = None if exact else _TORCH_MODES.get(resample)

    def __call__(self, image: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 -> `(height, width, 3)` uint8."""
        height, width = self._size
        if self._mode is None or image.shape[0] * image.shape[1] <= height * width:
            return np.array(Image.fromarray(image).resize((width, height), resample=self._resample))
        use_threads(1)  # there is a thread for each image
        # Pillow 13 squashes the height first where that loses more than twice as many pixels as the width
        # (ImagingResampleInner, src/libImaging/Resample.c); torch never does. What overshoots at a sharp edge is cut
        # off between the two, so the other order is off by 20 of 255 and more.
        if image.shape[0] > height and image.shape[0] - height > 2 * (image.shape[1] - width):
            image = _interpolated(image, (height, image.shape[1]), self._mode)
        return _interpolated(image, self._size, self._mode)


class Crop:
    """Scales the shorter edge and cuts out the middle. Called from many threads.

    Sizes are those of transformers' `CLIPImageProcessor`, which are torchvision's.

    Args:
        shortest: pixels of the shorter edge once it is scaled.
        size: height and width of what is cut out, pixels; no more than `shortest`.
        resample: the processor's own filter.
        exact: as for `Squash`.
        corner: where one goes that falls between two pixels.
    """

    def __init__(
        self,
        shortest: int,
        size: tuple[int, int],
        resample: Image.Resampling,
        *,
        exact: bool,
        corner: Corner = "down",
    ) -> None:
        self._shortest = shortest
        self._size = size
        self._resample = resample
        self._exact = exact
        self._corner = corner

    def __call__(self, image: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 -> `(height, width, 3)` uint8."""
        short, long = sorted(image.shape[:2])
        scaled = int(self._shortest * long / short)
        height, width = (self._shortest, scaled) if image.shape[0] <= image.shape[1] else (scaled, self._shortest)
        top, left = self._offset(height - self._size[0]), self._offset(width - self._size[1])
        if scaled > _LONG * self._shortest:
            return self._middle(image, (height, width), (top, left))
        whole = Squash((height, width), self._resample, exact=self._exact)(image)
        return np.ascontiguousarray(whole[top : top + self._size[0], left : left + self._size[1]])

    def _offset(self, over: int) -> int:
        """Pixels to cut off before the middle, of those that stand over."""
        return over // 2 if self._corner == "down" else round(over / 2)

    def _middle(self, image: Pixels, scaled: tuple[int, int], corner: tuple[int, int]) -> Pixels:
        """What stays of an image, without making the rest."""
        down, right = image.shape[0] / scaled[0], image.shape[1] / scaled[1]
        (top, left), (height, width) = corner, self._size
        box = (left * right, top * down, (left + width) * right, (top + height) * down)
        return np.array(Image.fromarray(image).resize((width, height), resample=self._resample, box=box))


def _interpolated(image: Pixels, size: tuple[int, int], mode: str) -> Pixels:
    """With torch's kernel: the width first, then the height."""
    # Such strides torch takes for pixels that lie together, which it resizes as they are; else it makes planes of
    # them and back, byte by byte. And numpy's views: each of torch's lets another thread in first.
    pixels = image.reshape(1, *image.shape).transpose(0, 3, 1, 2)
    squashed = torch.nn.functional.interpolate(torch.from_numpy(pixels), size, mode=mode, antialias=True)
    prepared: Pixels = np.ascontiguousarray(squashed.numpy()[0].transpose(1, 2, 0))
    return prepared
