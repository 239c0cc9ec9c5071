"""An encoder without a network, for tests of everything around it and for measuring the queue alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from PIL import Image

from ...schemas.models import ModelCard
from ..arrays import Pixels, Vectors
from .encoder import Encoder, ImageTower, Memory, TextTower

_SIZE = 8


class ColourImages:
    """An image is its mean colour.

    Args:
        size: side of a prepared image, pixels.
    """

    def __init__(self, size: int = _SIZE) -> None:
        self._size = size

    def prepare(self, image: Pixels) -> Pixels:
        """Resize to `size` x `size`."""
        return np.asarray(Image.fromarray(image).resize((self._size, self._size)), dtype=np.uint8)

    def encode(self, batch: Pixels) -> Vectors:
        """Mean colour of each image, and a constant."""
        means = batch.reshape(len(batch), -1, 3).mean(axis=1) / 127.5 - 1.0
        return np.asarray(np.concatenate([means, np.full((len(batch), 1), 0.1)], axis=1), dtype=np.float32)

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """At once."""
        vectors = self.encode(np.stack(images))
        return lambda: vectors

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """It takes next to none."""
        work()
        return None

    def tune(self, batch_size: int) -> None:
        """There is nothing to tune."""


class ColourTexts:
    """A text is the colour it names, else one made from its hash."""

    NAMED: ClassVar = {"red": (255, 0, 0), "green": (0, 128, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}

    def encode(self, texts: Sequence[str]) -> Vectors:
        """The colours, and a constant."""
        rows = []
        for text in texts:
            named = next((rgb for name, rgb in self.NAMED.items() if name in text.lower()), None)
            rgb = named or tuple(hashlib.sha256(text.encode()).digest()[:3])
            rows.append([*(value / 127.5 - 1.0 for value in rgb), 0.1])
        return np.asarray(rows, dtype=np.float32)


def colour_card(model_id: str = "colour@00000000") -> ModelCard:
    """The card of a `ColourEncoder`."""
    return ModelCard(
        id=model_id,
        family="colour",
        dim=4,
        logit_scale=10.0,
        logit_bias=-5.0,
        head="sigmoid",
        input_size=(_SIZE, _SIZE),
        resize="squash",
        text_length=None,
        lower_case=True,
        padded=False,
        tokenisation="colour",
        preprocessing=f"{_SIZE}",
    )


@dataclass(frozen=True)
class ColourEncoder(Encoder):
    """A complete encoder whose parts may be replaced: `ColourEncoder(images=Slow())`."""

    card: ModelCard = field(default_factory=colour_card)
    images: ImageTower = field(default_factory=ColourImages)
    texts: TextTower = field(default_factory=ColourTexts)
    device: str = "cpu"
    dtype: str = "float32"
