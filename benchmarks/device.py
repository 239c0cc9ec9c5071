"""What the device can do at best: its measured matrix product, the tower's operations, and the forward pass alone."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from prelabel.schemas.settings import load_settings
from prelabel.worker.model.batch_size import find_batch_size
from prelabel.worker.model.devices import pick_device
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder

from .common import median


@dataclass(frozen=True)
class Device:
    """Figures of a device with a model on it.

    Attributes:
        name: for people.
        dtype: the compute type.
        matmul_flops: operations a second of a large square matrix product in that type, measured.
        image_flop: operations of one image through the tower, counted.
    """

    name: str
    dtype: str
    matmul_flops: float
    image_flop: float

    def share(self, images_per_s: float) -> float:
        """Of the measured matrix product's rate."""
        return images_per_s * self.image_flop / self.matmul_flops

    def figures(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def measure(encoder: Encoder) -> Device:
    """Measure the encoder's device, a few seconds."""
    device, dtype = pick_device(encoder.device.partition(":")[0]), getattr(torch, encoder.dtype)
    one = blanks(encoder, 1)
    encoder.images.encode(one)  # sets this thread's number of threads, too
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    side = 8192 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    rates = []
    for _ in range(6):
        _wait(device)
        begun = time.perf_counter()
        for _ in range(10 if device.type == "cuda" else 1):
            torch.mm(a, b)
        _wait(device)
        rates.append((10 if device.type == "cuda" else 1) * 2 * side**3 / (time.perf_counter() - begun))
    # The counter knows the operations of attention written out, not those of every fused kernel.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        encoder.images.encode(one)
    return Device(name, encoder.dtype, max(rates), float(counter.get_total_flops()))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def blanks(encoder: Encoder, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Prepared images, ready for the device."""
    return np.stack([encoder.images.prepare(np.full((8, 8, 3), 127, dtype=np.uint8))] * count)


class BareForward:
    """The image tower alone, on tensors that are ready, in the batch size that is fastest: what no pipeline can beat.

    Two batches are in flight, as the worker has it.

    Args:
        checkpoint: directory or hub id.
    """

    def __init__(self, checkpoint: str) -> None:
        self.encoder = load_encoder(load_settings(model=checkpoint), "limit")
        self.batch_size = find_batch_size(self.encoder)
        self.encoder.images.tune(self.batch_size)
        self._batch = list(blanks(self.encoder, self.batch_size))

    def __call__(self, images: int) -> None:
        """Embed so many."""
        started = []
        for start in range(0, images, self.batch_size):
            started.append(self.encoder.images.start(self._batch[: images - start]))
            if len(started) > 1:
                started.pop(0)()
        for wait in started:
            wait()

    def batch_of_one_s(self, times: int = 5) -> float:
        """Seconds of one image alone, the median."""
        one = np.stack(self._batch[:1])
        seconds = []
        for _ in range(times):
            begun = time.perf_counter()
            self.encoder.images.encode(one)
            seconds.append(time.perf_counter() - begun)
        return median(seconds)
