"""The batch size is found by what the device can do."""

from __future__ import annotations

import numpy as np
import pytest

from prelabel.schemas import OutOfMemory
from prelabel.worker.model import batch_size as warmup
from prelabel.worker.model.batch_size import find_batch_size
from prelabel.worker.model.colour import ColourEncoder, ColourImages
from prelabel.worker.model.encoder import Memory


class Clock:
    """Stands while nobody sleeps: a busy machine must not decide these tests."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(warmup, "time", made)
    monkeypatch.setattr(Device, "sleep", made.sleep, raising=False)
    return made


class Device(ColourImages):
    """Takes a fixed time a batch and some a picture, and has memory for so many."""

    def __init__(self, *, batch_s: float, image_s: float, fits: int = 10_000) -> None:
        super().__init__()
        self._last = 0
        self._batch_s, self._image_s, self._fits = batch_s, image_s, fits

    def encode(self, batch):
        if len(batch) > self._fits:
            raise OutOfMemory("no memory")
        self._last = len(batch)
        self.sleep(1e-9 + self._batch_s + len(batch) * self._image_s)
        return np.zeros((len(batch), 4), dtype=np.float32)


def test_a_device_that_gains_nothing_from_batches_gets_single_images() -> None:
    assert find_batch_size(ColourEncoder(images=Device(batch_s=0.0, image_s=0.02))) == 1


def test_a_device_with_a_cost_per_call_gets_large_batches() -> None:
    assert find_batch_size(ColourEncoder(images=Device(batch_s=0.05, image_s=0.0)), largest=32) == 32


def test_memory_bounds_it() -> None:
    assert find_batch_size(ColourEncoder(images=Device(batch_s=0.05, image_s=0.0, fits=11))) == 8


def test_memory_is_measured_where_too_much_is_no_error(caplog) -> None:
    """A CPU's allocator gives what it does not have, and the kernel ends the process."""

    class Host(Device):
        def memory_of(self, work):
            work()
            return Memory(needed=self._last * 2**20, free=10 * 2**20)

    with caplog.at_level("INFO"):
        assert find_batch_size(ColourEncoder(images=Host(batch_s=0.05, image_s=0.0))) == 8
    assert "8 MiB at work, 10 MiB free; 16 may not fit into memory" in caplog.text


def test_the_log_says_the_rate_and_why_the_search_ended(caplog) -> None:
    with caplog.at_level("INFO"):
        find_batch_size(ColourEncoder(images=Device(batch_s=0.0, image_s=0.02)))
    assert "batches of 1: " in caplog.text
    assert "images/s" in caplog.text
    assert "2 gain less than 5 %" in caplog.text


def test_a_slow_device_does_not_hold_up_the_start() -> None:
    slow = Device(batch_s=0.1, image_s=0.0)
    assert find_batch_size(ColourEncoder(images=slow), budget_s=0.5) <= 4


def test_not_even_one_fitting_is_left_for_the_engine_to_report() -> None:
    assert find_batch_size(ColourEncoder(images=Device(batch_s=0.0, image_s=0.0, fits=0))) == 1


@pytest.mark.parametrize("largest", [1, 3])
def test_never_beyond_the_largest(largest) -> None:
    assert find_batch_size(ColourEncoder(images=Device(batch_s=0.02, image_s=0.0)), largest=largest) <= largest


def test_a_pass_that_others_slowed_down_does_not_decide() -> None:
    class Disturbed(Device):
        passes = 0

        def encode(self, batch):
            self.passes += 1
            if self.passes == 2:  # the first one that counts
                self.sleep(0.1)
            return super().encode(batch)

    assert find_batch_size(ColourEncoder(images=Disturbed(batch_s=0.0, image_s=0.02))) == 1
