"""The engine: batches across callers, urgent first, memory trouble survived, other trouble loud."""

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
from prelabel.worker.vectors.records import as_stored, pack, vectors_of
from tests.conftest import eventually

FP16 = 2**-11
"""Half a step of numbers below 1: vectors are rounded as a store keeps them."""


class Recording(ColourImages):
    """Remembers batches; waits for `gate` before the first; may run out of memory or break."""

    def __init__(self, fits: int = 10_000, breaks: bool = False) -> None:
        super().__init__(size=2)
        self.batches: list[np.ndarray] = []
        self.gate = threading.Event()
        self.started = threading.Event()
        self._fits = fits
        self._breaks = breaks

    def encode(self, batch):
        self.started.set()
        assert self.gate.wait(10)
        if self._breaks:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if len(batch) > self._fits:
            raise OutOfMemory(f"{len(batch)} do not fit")
        self.batches.append(batch)
        return super().encode(batch)


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def first_values(batch: np.ndarray) -> list[int]:
    return [int(one[0, 0, 0]) for one in batch]


def test_what_waits_while_the_device_is_busy_goes_together_and_what_is_urgent_goes_first_and_alone() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=4)
    engine.submit(image(0))
    device.started.wait(10)  # the first batch is on the device
    waiting = [engine.submit(image(value)) for value in (1, 2, 3, 4, 5)]
    urgent = [engine.submit(image(value), urgent=True) for value in (8, 9)]
    device.gate.set()
    for future in (*waiting, *urgent):
        future.result(10)
    engine.close()
    assert [first_values(batch) for batch in device.batches] == [[0], [8, 9], [1, 2, 3, 4], [5]]


def test_a_stream_of_urgent_images_leaves_every_fifth_batch_to_the_others() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    futures = [engine.submit(image(0))]
    device.started.wait(10)
    futures += [engine.submit(image(value)) for value in (1, 2)]
    futures += [engine.submit(image(value), urgent=True) for value in range(100, 110)]
    device.gate.set()
    for future in futures:
        future.result(10)
    engine.close()
    urgent = list(range(100, 110))
    order = [value for batch in device.batches for value in first_values(batch)]
    assert order == [0, *urgent[:4], 1, *urgent[4:8], 2, *urgent[8:]]


def test_everyone_gets_the_embedding_of_their_own_image() -> None:
    device = Recording()
    device.gate.set()
    engine = Engine(ColourEncoder(images=device), batch_size=8)
    futures = {value: engine.submit(image(value)) for value in range(0, 250, 5)}
    for value, future in futures.items():
        assert future.result(10)[0] == pytest.approx(value / 127.5 - 1, abs=FP16)
    engine.close()


def test_a_vector_is_rounded_as_a_store_will_give_it_back_unless_no_store_takes_it() -> None:
    class Odd(ColourImages):
        def encode(self, batch):
            return np.asarray([[1 / 3, 1e5], [1 / 3, 1e4], [1e-5, 1e-6]], dtype=np.float32)[: len(batch)]

    engine = Engine(ColourEncoder(images=Odd(2)), batch_size=1)
    too_large = engine.submit(image(0)).result(10)
    engine.close()
    assert list(too_large) == [np.float32(1 / 3), np.float32(1e5)]
    rounded = as_stored(Odd(2).encode(np.zeros((3, 2, 2, 3), dtype=np.uint8)))
    keys = [bytes([number]) * 16 for number in range(3)]
    stored = pack(dict(zip(keys, rounded, strict=True)))
    assert list(stored) == [keys[1]]
    kept = vectors_of(np.frombuffer(stored[keys[1]], dtype=np.uint8)[None])
    assert (kept.astype(np.float32)[0] == rounded[1]).all()
    assert rounded[1][0] == np.float32(np.float16(1 / 3))


def test_out_of_memory_halves_the_batch_for_good_and_loses_nobody() -> None:
    device = Recording(fits=2)
    engine = Engine(ColourEncoder(images=device), batch_size=8)
    futures = [engine.submit(image(value)) for value in range(9)]
    device.gate.set()
    assert [round((future.result(10)[0] + 1) * 127.5) for future in futures] == list(range(9))
    engine.close()
    assert engine.batch_size == 2
    assert all(len(batch) <= 2 for batch in device.batches)


def test_one_image_that_does_not_fit_alone_fails_alone() -> None:
    device = Recording(fits=0)
    device.gate.set()
    engine = Engine(ColourEncoder(images=device), batch_size=2)
    with pytest.raises(OutOfMemory, match="one image alone does not fit"):
        engine.submit(image(1)).result(10)
    assert not engine.broken
    engine.close()


def test_a_broken_encoder_fails_all_waiting_images_and_says_so_once() -> None:
    told: list[ScorerError] = []
    device = Recording(breaks=True)
    engine = Engine(ColourEncoder(images=device), batch_size=1, on_broken=told.append)
    futures = [engine.submit(image(value)) for value in range(3)]
    device.gate.set()
    for future in futures:
        with pytest.raises(ScorerError, match="device-side assert"):
            future.result(10)
    with pytest.raises(ScorerError):
        engine.submit(image(4)).result(10)
    engine.close()
    assert engine.broken
    assert len(told) == 1


def test_a_cancelled_image_costs_no_forward_pass() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    engine.submit(image(0))
    device.started.wait(10)
    dropped = engine.submit(image(1))
    kept = engine.submit(image(2))
    assert dropped.cancel()
    device.gate.set()
    kept.result(10)
    engine.close()
    assert [first_values(batch) for batch in device.batches] == [[0], [2]]


def test_a_caller_is_held_back_while_too_many_images_wait() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    done = threading.Event()

    def flood() -> None:
        for value in range(80):
            engine.submit(image(value))
        done.set()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    assert not done.wait(0.3)  # 64 wait, the rest must not pile up in memory
    device.gate.set()
    assert done.wait(10)
    thread.join()
    engine.close()


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


def test_a_device_gets_its_next_batch_before_the_last_ones_vectors_are_back_and_no_third() -> None:
    device = Accelerator()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    futures = [engine.submit(image(value)) for value in (10, 20, 30, 40)]
    assert device.second.wait(10)
    assert not device.third.wait(0.2)  # what is urgent must not wait behind a heap
    device.done.set()
    assert [round((future.result(10)[0] + 1) * 127.5) for future in futures] == [10, 20, 30, 40]
    engine.close()


def test_a_device_that_breaks_while_it_works_is_told_once_and_fails_everyone() -> None:
    told: list[ScorerError] = []
    device = Accelerator(breaks=True)
    engine = Engine(ColourEncoder(images=device), batch_size=1, on_broken=told.append)
    futures = [engine.submit(image(value)) for value in range(4)]
    device.done.set()
    for future in futures:
        with pytest.raises(ScorerError, match="illegal memory access"):
            future.result(10)
    engine.close()
    assert engine.broken
    assert len(told) == 1


def test_what_is_urgent_goes_into_the_next_batch_though_a_device_is_full() -> None:
    device = Accelerator()
    engine = Engine(ColourEncoder(images=device), batch_size=2)
    bulk = [engine.submit(image(1))]
    while not device.started:
        time.sleep(0.001)
    bulk += [engine.submit(image(2)), engine.submit(image(3)), engine.submit(image(4))]
    assert device.second.wait(10)
    order: list[str] = []
    for future in bulk:
        future.add_done_callback(lambda _: order.append("bulk"))
    urgent = engine.submit(image(9), urgent=True)
    urgent.add_done_callback(lambda _: order.append("urgent"))
    device.done.set()
    for future in (*bulk, urgent):
        future.result(10)
    engine.close()
    assert order.index("urgent") <= 3  # behind the batches on the device alone


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
        futures.append(engine.submit(image(batches)))
        eventually(lambda batches=batches: len(device.started) == batches)
    return futures + [engine.submit(image(10 + value)) for value in range(images)]


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
        urgent = engine.submit(image(99), urgent=True)
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
        futures = [engine.submit(image(value)) for value in range(4)]
        futures.append(engine.submit(image(5), urgent=True))
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
        assert engine.submit(image(99), urgent=True).cancel()
    device.finish_all()
    for future in futures:
        future.result(10)
    engine.close()
    assert sum(device.started) == 10


def test_a_vector_that_is_no_number_is_an_error_of_its_image_alone() -> None:
    class Overflows(ColourImages):
        def encode(self, batch):
            vectors = super().encode(batch)
            vectors[batch[:, 0, 0, 0] == 7] = np.nan
            return vectors

    engine = Engine(ColourEncoder(images=Overflows(size=2)), batch_size=4)
    good, bad = engine.submit(image(1)), engine.submit(image(7))
    assert np.isfinite(good.result(10)).all()
    with pytest.raises(ScorerError, match="made no number"):
        bad.result(10)
    assert not engine.broken
    engine.close()


def test_an_encoder_that_fails_elsewhere_is_broken_here_too_and_said_so_once() -> None:
    said: list[ScorerError] = []
    engine = Engine(ColourEncoder(), batch_size=4, on_broken=said.append)
    for _ in range(2):
        engine.fail(ScorerError("device lost"))
    assert engine.broken
    assert len(said) == 1
    with pytest.raises(ScorerError, match="device lost"):
        engine.submit(image(1)).result(10)
    engine.close()


def test_how_long_the_device_has_been_at_a_batch_is_known() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=4)
    assert engine.busy_s() == 0.0
    future = engine.submit(image(1))
    device.started.wait(10)
    before = engine.busy_s()
    time.sleep(0.05)
    assert engine.busy_s() >= before + 0.05
    device.gate.set()
    future.result(10)
    engine.close()
    assert engine.busy_s() == 0.0
