"""Batches to torch's device and vectors back.

On CUDA a batch goes over from pinned memory while the one before it is computed, and its vectors come back the same
way; on a CPU everything is done at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..arrays import Vectors
from .devices import device_errors, use_threads


class Transfers:
    """The way to one device and back.

    Args:
        device: where the model is.
        threads: CPU threads of a forward pass.
    """

    def __init__(self, device: torch.device, *, threads: int) -> None:
        self._device = device
        self._threads = threads
        # Copies run beside the computation in a stream of their own.
        self._copies: Any = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def buffer(self, shape: Sequence[int]) -> torch.Tensor:
        """Uint8 on the host, pinned where that helps: for one batch, to be filled and sent."""
        # torch keeps pinned blocks and gives one out again when the copy from it is over.
        return torch.empty(tuple(shape), dtype=torch.uint8, pin_memory=self._device.type == "cuda")

    def launch(
        self, pixels: torch.Tensor, count: int, features: Callable[[torch.Tensor], torch.Tensor]
    ) -> Callable[[], Vectors]:
        """Begin to embed a batch; what is returned waits for its vectors.

        Args:
            pixels: uint8 on the host.
            count: images in them.
            features: of the pixels on the device: `(count, dim)` float32 there.

        Raises:
            OutOfMemory: the batch does not fit on the device.
            ScorerError: the forward pass failed; it may come from the wait as well.
        """
        use_threads(self._threads)
        with torch.inference_mode(), device_errors(count):
            made = features(self._sent(pixels))
            if self._device.type != "cuda":
                vectors: Vectors = made.cpu().numpy()
                return lambda: vectors
            back = torch.empty(made.shape, dtype=torch.float32, pin_memory=True)
            back.copy_(made, non_blocking=True)
            done: Any = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            done.record(torch.cuda.current_stream(self._device))

        def wait() -> Vectors:
            with device_errors(count):
                done.synchronize()
                arrived: Vectors = back.numpy().copy()
                return arrived

        return wait

    def _sent(self, pixels: torch.Tensor) -> torch.Tensor:
        """A batch on the device; on CUDA on its way there, beside what is computed meanwhile."""
        if self._copies is None:
            return pixels.to(self._device)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._copies):
            sent = pixels.to(self._device, non_blocking=True)
        computing.wait_stream(self._copies)
        sent.record_stream(computing)  # its memory must not be given out while it is computed with
        return sent


def pooled(output: Any) -> torch.Tensor:
    """The vectors in what a model's `get_image_features` or `get_text_features` returns: `(n, dim)` float32."""
    # transformers 5 returns an output object, 4 returned the tensor.
    tensor: torch.Tensor = getattr(output, "pooler_output", output)
    return tensor.to(torch.float32)
