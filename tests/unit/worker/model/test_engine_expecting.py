"""The engine while something urgent is expected: bulk images keep little of the device, and nobody is held up."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

import numpy as np
import pytest

from prelabel.schemas import OutOfMemory, ScorerError
from prelabel.worker.arrays import Vectors
from prelabel.worker.model.colour import ColourEncoder, ColourImages
from prelabel.worker.model.engine import Engine
from tests.conftest import eventually
from tests.unit.worker.model.samples import Accelerator, flat

FP16 = 2**-11
"""Half a step of numbers below 1: vectors are rounded as a store keeps them."""


class Stepping(ColourImages):
    """A device that works by itself and has done the oldest batch when it is told to `step`."""

    def __init__(self, fits: int = 10_000) -> None:
        super().__init__(size=2)
        self.started: list[int] = []
        self.free = False
        self._fits = fits
        self._steps = threading.Semaphore(0)

    def start(self, images):
        if len(images) > self._fits:
            raise OutOfMemory(f"{len(images)} do not fit")
        self.started.append(len(images))
        vectors = self.encode(np.stack(images))

        def wait():
            assert self.free or self._steps.acquire(timeout=10)
            return vectors

        return wait

    def step(self, batches: int = 1) -> None:
        self._steps.release(batches)

    def finish_all(self) -> None:
        self.free = True
        self.step(1000)


def busy(engine: Engine, device: Stepping, images: int) -> list[Future[Vectors]]:
    """An engine with two batches of one image in flight and so many images waiting."""
    futures = []
    for batches in (1, 2):
        futures.append(engine.submit(flat(batches)))
        eventually(lambda batches=batches: len(device.started) == batches)
    return futures + [engine.submit(flat(10 + value)) for value in range(images)]


def test_while_something_urgent_is_expected_bulk_images_go_few_at_a_time_and_one_batch_after_the_other() -> None:
    device = Stepping()
    engine = Engine(ColourEncoder(images=device), batch_size=8)
    futures = busy(engine, device, 20)
    with engine.precedence.expect():
        device.step()
        futures[0].result(10)
        time.sleep(0.1)
        assert device.started == [1, 1], "one is in flight"
        device.step()
        eventually(lambda: device.started == [1, 1, 2])
        time.sleep(0.1)
        assert device.started == [1, 1, 2]
    eventually(lambda: device.started == [1, 1, 2, 8])  # nothing has to happen for that but the end
    device.finish_all()
    for future in futures:
        future.result(10)
    engine.close()


def test_an_expected_image_waits_for_one_batch_on_the_device_at_most() -> None:
    device = Stepping()
    engine = Engine(ColourEncoder(images=device), batch_size=8)
    futures = busy(engine, device, 20)
    with engine.precedence.expect():
        device.step(2)  # while it is fetched and decoded
        eventually(lambda: device.started == [1, 1, 2])
        urgent = engine.submit(flat(99), urgent=True)
        eventually(lambda: device.started == [1, 1, 2, 1])  # at once, behind the batch of two
        device.step(2)
        assert urgent.result(10)[0] == pytest.approx(99 / 127.5 - 1, abs=FP16)
    device.finish_all()
    for future in futures:
        future.result(10)
    engine.close()


def test_what_is_expected_and_never_comes_holds_nobody_up() -> None:
    device = Stepping()
    engine = Engine(ColourEncoder(images=device), batch_size=8)
    futures = busy(engine, device, 20)
    with pytest.raises(ScorerError, match="no such image"), engine.precedence.expect():
        raise ScorerError("no such image")
    assert not engine.precedence.expected
    device.finish_all()
    for future in futures:
        future.result(10)
    engine.close()
    assert max(device.started) == 8


def test_an_engine_is_closed_though_something_urgent_is_expected() -> None:
    device = Stepping()
    engine = Engine(ColourEncoder(images=device), batch_size=8)
    futures = busy(engine, device, 20)
    device.finish_all()
    with engine.precedence.expect():
        engine.close()
    assert all(future.done() for future in futures)


def test_a_device_that_breaks_while_something_urgent_is_expected_fails_everyone() -> None:
    device = Accelerator(breaks=True)
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    with engine.precedence.expect():
        futures = [engine.submit(flat(value)) for value in range(4)]
        futures.append(engine.submit(flat(5), urgent=True))
        device.done.set()
        for future in futures:
            with pytest.raises(ScorerError, match="illegal memory access"):
                future.result(10)
    engine.close()


def test_halves_of_a_batch_that_did_not_fit_are_counted_as_batches_in_flight() -> None:
    device = Stepping(fits=2)
    engine = Engine(ColourEncoder(images=device), batch_size=4)
    futures = busy(engine, device, 8)
    device.step(2)
    eventually(lambda: device.started == [1, 1, 2, 2])  # of four
    time.sleep(0.1)
    assert device.started == [1, 1, 2, 2], "no third"
    device.finish_all()
    for future in futures:
        future.result(10)
    engine.close()
    assert device.started == [1, 1, 2, 2, 2, 2]


def test_urgent_images_that_nobody_waits_for_any_more_take_no_batch() -> None:
    device = Stepping()
    engine = Engine(ColourEncoder(images=device), batch_size=4)
    futures = busy(engine, device, 8)
    for _ in range(3):
        assert engine.submit(flat(99), urgent=True).cancel()
    device.finish_all()
    for future in futures:
        future.result(10)
    engine.close()
    assert sum(device.started) == 10
