"""An encoder without a network, for tests of everything around it and for measuring the queue alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from PIL import Image

from ..arrays import Pixels, Vectors
from .encoder import Memory


class ColourEncoder:
    """An encoder without a network: an image is its mean colour, a text the colour its hash (or name) gives.

    For tests of everything around the scorer and for measuring the queue alone.
    """

    NAMED: ClassVar = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}

    def __init__(self, size: int = 8) -> None:
        self.model_id = "colour@00000000"
        self.device = "cpu"
        self.dtype = "float32"
        self.preprocessing = f"{size}"
        self.tokenisation = "colour"
        self.dim = 4
        self.logit_scale = 10.0
        self.logit_bias = -5.0
        self._size = size

    def prepare(self, image: Pixels) -> Pixels:
        """Resize to `size` x `size`."""
        return np.asarray(Image.fromarray(image).resize((self._size, self._size)), dtype=np.uint8)

    def device_memory(self) -> dict[str, int]:
        """None."""
        return {}

    def encode_images(self, batch: Pixels) -> Vectors:
        """Mean colour of each image, and a constant."""
        means = batch.reshape(len(batch), -1, 3).mean(axis=1) / 127.5 - 1.0
        return np.asarray(np.concatenate([means, np.full((len(batch), 1), 0.1)], axis=1), dtype=np.float32)

    def start_images(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """At once."""
        vectors = self.encode_images(np.stack(images))
        return lambda: vectors

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """It takes next to none."""
        work()
        return None

    def tune(self, batch_size: int) -> None:
        """There is nothing to tune."""

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """The colour a text names, else one made from its hash."""
        rows = []
        for text in texts:
            named = next((rgb for name, rgb in self.NAMED.items() if name in text.lower()), None)
            rgb = named or tuple(hashlib.sha256(text.encode()).digest()[:3])
            rows.append([*(value / 127.5 - 1.0 for value in rgb), 0.1])
        return np.asarray(rows, dtype=np.float32)
