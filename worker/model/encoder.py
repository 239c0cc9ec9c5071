"""A dual encoder: a card, an image tower and a text tower. Images and texts go into one space.

`dual_encoder.py` makes one with torch; `ColourEncoder` is its in-memory twin for tests and queue benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...schemas.models import ModelCard
from ..arrays import Pixels, Vectors


class Memory(NamedTuple):
    """Memory of the device, in bytes.

    Attributes:
        needed: what a piece of work took at its peak, beyond what the model itself holds.
        free: what is left beside the model.
    """

    needed: int
    free: int


class ImageTower(Protocol):
    """The image half: `prepare` on CPU threads, all else on the device."""

    def prepare(self, image: Pixels) -> Pixels:
        """Resize an image as the checkpoint's own processor does. Called from many threads.

        Args:
            image: `(h, w, 3)` uint8, upright, RGB.

        Returns:
            `(height, width, 3)` uint8 of the card's `input_size`, or of a size that depends on the image where the
            card's `resize` is "patches". Rescaling and normalising are the device's.
        """
        ...

    def encode(self, batch: Pixels) -> Vectors:
        """Embed prepared images of one size: `(n, height, width, 3)` uint8 -> `(n, dim)` float32, not normalised.

        An image's vector does not depend on what else is in the batch.

        Raises:
            OutOfMemory: the batch does not fit; a smaller one may.
            ScorerError: the forward pass failed.
        """
        ...

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """Begin to embed prepared images of any sizes that `prepare` gives.

        What is returned waits for the vectors, which are those of `encode`. A device that works by itself has its next
        batch before the last one's vectors are back; a CPU is done when this returns. Called from one thread; the wait
        may happen in another.

        Raises:
            OutOfMemory: as for `encode`.
            ScorerError: as for `encode`; it may come from the wait as well.
        """
        ...

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """Do some work and tell what memory of the device it took; None where that cannot be told."""
        ...

    def tune(self, batch_size: int) -> None:
        """Make batches of this size faster if that can be done. Called once, before the first image."""
        ...


class TextTower(Protocol):
    """The text half."""

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Embed texts by the card's text rules: `n` texts -> `(n, dim)` float32, not normalised.

        Raises:
            ConfigError: the model has nothing for one of them; whoever wrote it is told, and the worker goes on.
            OutOfMemory: they do not fit; fewer may.
            ScorerError: the forward pass failed.
        """
        ...


@dataclass(frozen=True)
class Encoder:
    """A loaded model.

    Attributes:
        card: its facts.
        images: its image tower.
        texts: its text tower.
        device: where it runs: "cpu", "cuda:0", …, for people.
        dtype: what it computes in; part of the keys of stored vectors, as two of the card's names are.
        device_memory: bytes of the device's memory by kind; empty where it has none of its own. Called from any thread.
    """

    card: ModelCard
    images: ImageTower
    texts: TextTower
    device: str
    dtype: str
    device_memory: Callable[[], dict[str, int]] = dict
