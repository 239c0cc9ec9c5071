"""What tests of several modules of the model's room look at."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from prelabel.schemas.settings import load_settings
from prelabel.worker.arrays import Pixels
from prelabel.worker.demo.shapes import draw, sample_scene
from prelabel.worker.model.colour import ColourImages
from prelabel.worker.model.encoder import Encoder
from prelabel.worker.model.registry import load_encoder

SIZES = [(480, 360), (64, 64), (301, 777), (1, 1), (1600, 1200), (33, 500)]
"""Width and height of pictures no two of which a resize treats alike."""


def drawings(count: int = len(SIZES)) -> list[Image.Image]:
    """Scenes of shapes in the first of these sizes, the same each time."""
    rng = np.random.default_rng(3)
    return [draw(sample_scene(rng), size=size) for size in SIZES[:count]]


def flat(value: int) -> Pixels:
    """`(2, 2, 3)` uint8: a prepared image of one grey."""
    return np.full((2, 2, 3), value, dtype=np.uint8)


def load(checkpoint: Path | str, **settings: Any) -> Encoder:
    """A checkpoint on the CPU, under an id of no meaning."""
    return load_encoder(load_settings(**{"model": str(checkpoint), "device": "cpu", **settings}), "m@1")


class Accelerator(ColourImages):
    """A device that works by itself: a batch is started at once, its vectors come when `done` is set."""

    def __init__(self, breaks: bool = False) -> None:
        super().__init__(size=2)
        self.started: list[int] = []
        self.second = threading.Event()
        self.third = threading.Event()
        self.done = threading.Event()
        self._breaks = breaks

    def start(self, images):
        self.started.append(len(images))
        if len(self.started) == 2:
            self.second.set()
        if len(self.started) == 3:
            self.third.set()
        vectors = self.encode(np.stack(images))

        def wait():
            assert self.done.wait(10)
            if self._breaks:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            return vectors

        return wait
