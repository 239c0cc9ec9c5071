"""The engine: batches across callers, urgent first, memory trouble survived, other trouble loud."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from prelabel.schemas import OutOfMemory, ScorerError
from prelabel.worker.model.colour import ColourEncoder, ColourImages
from prelabel.worker.model.engine import Engine
from prelabel.worker.vectors.records import as_stored, pack, vectors_of
from tests.unit.worker.model.samples import Accelerator, flat

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


def first_values(batch: np.ndarray) -> list[int]:
    return [int(one[0, 0, 0]) for one in batch]


def test_what_waits_while_the_device_is_busy_goes_together_and_what_is_urgent_goes_first_and_alone() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=4)
    engine.submit(flat(0))
    device.started.wait(10)  # the first batch is on the device
    waiting = [engine.submit(flat(value)) for value in (1, 2, 3, 4, 5)]
    urgent = [engine.submit(flat(value), urgent=True) for value in (8, 9)]
    device.gate.set()
    for future in (*waiting, *urgent):
        future.result(10)
    engine.close()
    assert [first_values(batch) for batch in device.batches] == [[0], [8, 9], [1, 2, 3, 4], [5]]


def test_a_stream_of_urgent_images_leaves_every_fifth_batch_to_the_others() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    futures = [engine.submit(flat(0))]
    device.started.wait(10)
    futures += [engine.submit(flat(value)) for value in (1, 2)]
    futures += [engine.submit(flat(value), urgent=True) for value in range(100, 110)]
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
    futures = {value: engine.submit(flat(value)) for value in range(0, 250, 5)}
    for value, future in futures.items():
        assert future.result(10)[0] == pytest.approx(value / 127.5 - 1, abs=FP16)
    engine.close()


def test_a_vector_is_rounded_as_a_store_will_give_it_back_unless_no_store_takes_it() -> None:
    class Odd(ColourImages):
        def encode(self, batch):
            return np.asarray([[1 / 3, 1e5], [1 / 3, 1e4], [1e-5, 1e-6]], dtype=np.float32)[: len(batch)]

    engine = Engine(ColourEncoder(images=Odd(2)), batch_size=1)
    too_large = engine.submit(flat(0)).result(10)
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
    futures = [engine.submit(flat(value)) for value in range(9)]
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
        engine.submit(flat(1)).result(10)
    assert not engine.broken
    engine.close()


def test_a_broken_encoder_fails_all_waiting_images_and_says_so_once() -> None:
    told: list[ScorerError] = []
    device = Recording(breaks=True)
    engine = Engine(ColourEncoder(images=device), batch_size=1, on_broken=told.append)
    futures = [engine.submit(flat(value)) for value in range(3)]
    device.gate.set()
    for future in futures:
        with pytest.raises(ScorerError, match="device-side assert"):
            future.result(10)
    with pytest.raises(ScorerError):
        engine.submit(flat(4)).result(10)
    engine.close()
    assert engine.broken
    assert len(told) == 1


def test_a_cancelled_image_costs_no_forward_pass() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    engine.submit(flat(0))
    device.started.wait(10)
    dropped = engine.submit(flat(1))
    kept = engine.submit(flat(2))
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
            engine.submit(flat(value))
        done.set()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    assert not done.wait(0.3)  # 64 wait, the rest must not pile up in memory
    device.gate.set()
    assert done.wait(10)
    thread.join()
    engine.close()


def test_a_device_gets_its_next_batch_before_the_last_ones_vectors_are_back_and_no_third() -> None:
    device = Accelerator()
    engine = Engine(ColourEncoder(images=device), batch_size=1)
    futures = [engine.submit(flat(value)) for value in (10, 20, 30, 40)]
    assert device.second.wait(10)
    assert not device.third.wait(0.2)  # what is urgent must not wait behind a heap
    device.done.set()
    assert [round((future.result(10)[0] + 1) * 127.5) for future in futures] == [10, 20, 30, 40]
    engine.close()


def test_a_device_that_breaks_while_it_works_is_told_once_and_fails_everyone() -> None:
    told: list[ScorerError] = []
    device = Accelerator(breaks=True)
    engine = Engine(ColourEncoder(images=device), batch_size=1, on_broken=told.append)
    futures = [engine.submit(flat(value)) for value in range(4)]
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
    bulk = [engine.submit(flat(1))]
    while not device.started:
        time.sleep(0.001)
    bulk += [engine.submit(flat(2)), engine.submit(flat(3)), engine.submit(flat(4))]
    assert device.second.wait(10)
    order: list[str] = []
    for future in bulk:
        future.add_done_callback(lambda _: order.append("bulk"))
    urgent = engine.submit(flat(9), urgent=True)
    urgent.add_done_callback(lambda _: order.append("urgent"))
    device.done.set()
    for future in (*bulk, urgent):
        future.result(10)
    engine.close()
    assert order.index("urgent") <= 3  # behind the batches on the device alone


def test_a_vector_that_is_no_number_is_an_error_of_its_image_alone() -> None:
    class Overflows(ColourImages):
        def encode(self, batch):
            vectors = super().encode(batch)
            vectors[batch[:, 0, 0, 0] == 7] = np.nan
            return vectors

    engine = Engine(ColourEncoder(images=Overflows(size=2)), batch_size=4)
    good, bad = engine.submit(flat(1)), engine.submit(flat(7))
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
        engine.submit(flat(1)).result(10)
    engine.close()


def test_how_long_the_device_has_been_at_a_batch_is_known() -> None:
    device = Recording()
    engine = Engine(ColourEncoder(images=device), batch_size=4)
    assert engine.busy_s() == 0.0
    future = engine.submit(flat(1))
    device.started.wait(10)
    before = engine.busy_s()
    time.sleep(0.05)
    assert engine.busy_s() >= before + 0.05
    device.gate.set()
    future.result(10)
    engine.close()
    assert engine.busy_s() == 0.0
