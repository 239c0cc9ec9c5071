"""The scorer protocol: `prepare` on CPU threads, `start_images` and `encode_*` on the device, logits from both.

`siglip.py` implements it with torch; `ColourEncoder` is its in-memory twin for tests and queue benchmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from ..arrays import Pixels, Vectors


class Memory(NamedTuple):
    """Memory of the device, in bytes.

    Attributes:
        needed: what a piece of work took at its peak, beyond what the model itself holds.
        free: what is left beside the model.
    """

    needed: int
    free: int


class Encoder(Protocol):
    """A dual encoder: images and texts into one space.

    Attributes:
        model_id: `<model>@<revision8>`.
        device: "cpu", "cuda:0", …, for people.
        dtype: the compute type, for people.
        preprocessing: names what `prepare` and the decoder before it do to pixels; another name, another vector.
        tokenisation: names what happens to a text before the model; another name, another vector.
        dim: length of an embedding.
        logit_scale: exp(t) in `logit = logit_scale * cos(image, text) + logit_bias`.
        logit_bias: b in the same formula (SigLIP, https://arxiv.org/abs/2303.15343, section 3.2).
    """

    model_id: str
    device: str
    dtype: str
    preprocessing: str
    tokenisation: str
    dim: int
    logit_scale: float
    logit_bias: float

    def prepare(self, image: Pixels) -> Pixels:
        """Resize an upright `(h, w, 3)` RGB image as the checkpoint's own processor does. Called from many threads."""
        ...

    def encode_images(self, batch: Pixels) -> Vectors:
        """Embed `(n, height, width, 3)` prepared images.

        Raises:
            OutOfMemory: the batch does not fit; a smaller one may.
        """
        ...

    def start_images(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """Begin to embed prepared images; what is returned waits for the vectors, `(n, dim)`.

        A device that works by itself has its next batch before the last one's vectors are back; a CPU is done when
        this returns. Called from one thread; the wait may happen in another.

        Raises:
            OutOfMemory: as for `encode_images`.
        """
        ...

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """Do some work and tell what memory it took; None where that cannot be told."""
        ...

    def tune(self, batch_size: int) -> None:
        """Make batches of this size faster if that can be done. Called once, before the first image."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """Embed texts, canonicalised, padded and truncated as the checkpoint expects."""
        ...

    def device_memory(self) -> dict[str, int]:
        """Bytes of the device's memory by kind; empty where it has none of its own. Called from any thread."""
        ...
