"""Squashing an image to a model's input size: to the bit as Pillow does, or with torch's faster kernel."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..arrays import Pixels
from .devices import use_threads

_TORCH_MODES = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}
"""Filters torch has an antialiased uint8 kernel for; the one torchvision calls."""


class Squash:
    """Squashes to one size, whatever an image's proportions. Called from many threads.

    Args:
        size: height and width, pixels.
        resample: the processor's own filter.
        exact: resize with Pillow, to the bit as the processor does; else with torch's kernel where it has one, several
            times faster and within 2 of 255 of it.
    """

    def __init__(self, size: tuple[int, int], resample: Image.Resampling, *, exact: bool) -> None:
        self._size = size
        self._resample = resample
        self._mode = None if exact else _TORCH_MODES.get(resample)

    def __call__(self, image: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 -> `(height, width, 3)` uint8."""
        height, width = self._size
        if self._mode is None:
            return np.array(Image.fromarray(image).resize((width, height), resample=self._resample))
        use_threads(1)  # there is a thread for each image
        # Such strides torch takes for pixels that lie together, which it resizes as they are; else it makes planes of
        # them and back, byte by byte. And numpy's views: each of torch's lets another thread in first.
        pixels = image.reshape(1, *image.shape).transpose(0, 3, 1, 2)
        squashed = torch.nn.functional.interpolate(
            torch.from_numpy(pixels), (height, width), mode=self._mode, antialias=True
        )
        prepared: Pixels = np.ascontiguousarray(squashed.numpy()[0].transpose(1, 2, 0))
        return prepared
