"""An image tower on torch's device, for images of one size: uint8 batches in, vectors out, compilation included."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch

from ...schemas.errors import OutOfMemory
from ..arrays import Pixels, Vectors
from .devices import device_errors, memory_of
from .encoder import Memory
from .transfers import Transfers, pooled

log = logging.getLogger(__name__)

Compile = Literal["auto", "on", "off"]

_WORTH = 1.03
"""How much faster than the eager tower a compiled one must be to be taken when nobody asked for it."""

_ALIKE = 0.9999
"""Least cosine between an eager and a compiled vector of the same image: bf16 rounds, a wrong kernel does more."""

_ALIKE_EXACT = 0.999999
"""The same in float32, where nothing but the order of sums differs."""

_TIMED = 3


class Normalisation:
    """The image processor's rescaling and normalising, on the device.

    Args:
        rescale: factor of the bytes.
        mean: per channel.
        std: per channel.
        device: where it is done.
    """

    def __init__(self, rescale: float, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        self._rescale = rescale
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)
        self._std = torch.tensor(std, dtype=torch.float32, device=device).view(1, 3, 1, 1)

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """`(n, height, width, 3)` uint8 -> `(n, 3, height, width)` float32."""
        return (pixels.permute(0, 3, 1, 2).to(torch.float32) * self._rescale - self._mean) / self._std


class TorchImages:
    """The image half of a loaded transformers model.

    Args:
        model: a model with `get_image_features`, in eval mode, on its device.
        resize: an image to the input size, as the checkpoint's own processor does; called from many threads.
        normalise: bytes to the tower's input.
        compile_: whether `torch.compile` is tried by `tune`: "auto" does on CUDA and keeps it where it is faster.
        threads: CPU threads of a forward pass.
    """

    def __init__(
        self,
        model: Any,
        resize: Callable[[Pixels], Pixels],
        normalise: Normalisation,
        *,
        compile_: Compile,
        threads: int,
    ) -> None:
        self._model = model
        self._resize = resize
        self._normalise = normalise
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        self._compile = compile_
        self._transfers = Transfers(self._device, threads=threads)
        self._compiled: tuple[int, Callable[[torch.Tensor], torch.Tensor]] | None = None

    def prepare(self, image: Pixels) -> Pixels:
        """See `encoder.ImageTower.prepare`."""
        return self._resize(image)

    def encode(self, batch: Pixels) -> Vectors:
        """`(n, height, width, 3)` uint8 -> `(n, dim)` float32, not normalised.

        Raises:
            OutOfMemory: the batch does not fit on the device.
            ScorerError: the forward pass failed.
        """
        return self._transfers.launch(torch.from_numpy(batch), len(batch), self._features)()

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """Begin to embed; see `encoder.ImageTower.start`.

        Raises:
            OutOfMemory, ScorerError: as for `encode`; the second may come from the wait as well.
        """
        with device_errors(len(images)):
            pixels = self._transfers.buffer((len(images), *images[0].shape))
            np.stack(images, out=pixels.numpy())
        return self._transfers.launch(pixels, len(images), self._features)

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """Compiled for batches that fill it more than half, which blanks make full; eager for the others."""
        if self._compiled is None:
            return self._eager(pixels)
        size, compiled = self._compiled
        count = len(pixels)
        if not size // 2 < count <= size:
            return self._eager(pixels)
        if count < size:
            pixels = torch.cat([pixels, pixels.new_zeros((size - count, *pixels.shape[1:]))])
        return compiled(pixels)[:count]

    def _eager(self, pixels: torch.Tensor) -> torch.Tensor:
        return pooled(self._model.get_image_features(pixel_values=self._normalise(pixels).to(self._dtype)))

    def tune(self, batch_size: int, **options: Any) -> None:
        """Compile for one batch size, where that is asked for, works, gives the same vectors and is faster.

        Args:
            batch_size: images of a batch.
            options: passed on to `torch.compile`.
        """
        if self._compile == "off" or (self._compile == "auto" and self._device.type != "cuda"):
            return
        blank = self.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))
        noise = np.random.default_rng(0).integers(0, 256, (batch_size, *blank.shape), dtype=np.uint8)
        try:
            eager, eager_s = self._timed(noise)
        except OutOfMemory:  # the engine halves its batches; a smaller one is not worth another try here
            log.warning("the image tower is not compiled: a batch of %d does not fit into memory", batch_size)
            return
        log.info("compiling the image tower for batches of %d (PRELABEL_COMPILE=off leaves that out)", batch_size)
        begun = time.perf_counter()
        try:
            self._compiled = batch_size, torch.compile(self._eager, dynamic=False, **options)
            compiled, compiled_s = self._timed(noise)
        except Exception as error:  # a missing compiler, an operator it does not know: each says so in its own type
            self._compiled = None
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            log.warning("the image tower cannot be compiled, it runs as it is: %s", reason)
            return
        took, gain, alike = time.perf_counter() - begun, eager_s / compiled_s, _least_cosine(eager, compiled)
        log.info("compiled in %.0f s: %.2f times as fast, least cosine to the eager tower %.6f", took, gain, alike)
        if not alike >= (_ALIKE_EXACT if self._dtype == torch.float32 else _ALIKE):
            log.warning("the compiled tower is not used: its vectors differ")
            self._compiled = None
        elif self._compile == "auto" and gain < _WORTH:
            log.info("the compiled tower is not used: it gains too little")
            self._compiled = None

    def _timed(self, batch: Pixels) -> tuple[Vectors, float]:
        """The vectors, and the seconds of the fastest of a few passes after the first."""
        vectors = self.encode(batch)
        seconds = []
        for _ in range(_TIMED):
            begun = time.perf_counter()
            self.encode(batch)
            seconds.append(time.perf_counter() - begun)
        return vectors, min(seconds)

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """See `encoder.ImageTower.memory_of`."""
        return memory_of(self._device, work)


def _least_cosine(some: Vectors, others: Vectors) -> float:
    lengths = np.linalg.norm(some, axis=1) * np.linalg.norm(others, axis=1)
    return float((np.einsum("ij,ij->i", some, others) / lengths).min())
