"""The engine: batches across callers, urgent first, memory trouble survived, other trouble loud."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from prelabel.schemas import OutOfMemory, ScorerError
from prelabel.worker.engine import Engine
from prelabel.worker.scorer import ColourEncoder


class Recording(ColourEncoder):
    """Remembers batches; waits for `gate` before the first; may run out of memory or break."""

    def __init__(self, fits: int = 10_000, breaks: bool = False) -> None:
        super().__init__(size=2)
        self.batches: list[np.ndarray] = []
        self.gate = threading.Event()
        self.started = threading.Event()
        self._fits = fits
        self._breaks = breaks

    def encode_images(self, batch):
        self.started.set()
        assert self.gate.wait(10)
        if self._breaks:
            raise RuntimeError("CUDA error: device-side assert triggered")
        if len(batch) > self._fits:
            raise OutOfMemory(f"{len(batch)} do not fit")
        self.batches.append(batch)
        return super().encode_images(batch)


def image(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def first_values(batch: np.ndarray) -> list[int]:
    return [int(one[0, 0, 0]) for one in batch]


def test_what_waits_while_the_device_is_busy_goes_together_and_urgent_goes_first() -> None:
    encoder = Recording()
    engine = Engine(encoder, batch_size=4)
    engine.submit(image(0))
    encoder.started.wait(10)  # the first batch is on the device
    waiting = [engine.submit(image(value)) for value in (1, 2, 3, 4, 5)]
    urgent = engine.submit(image(9), urgent=True)
    encoder.gate.set()
    for future in (*waiting, urgent):
        future.result(10)
    engine.close()
    assert [first_values(batch) for batch in encoder.batches] == [[0], [9, 1, 2, 3], [4, 5]]


def test_everyone_gets_the_embedding_of_their_own_image() -> None:
    encoder = Recording()
    encoder.gate.set()
    engine = Engine(encoder, batch_size=8)
    futures = {value: engine.submit(image(value)) for value in range(0, 250, 5)}
    for value, future in futures.items():
        assert future.result(10)[0] == pytest.approx(value / 127.5 - 1, abs=1e-5)
    engine.close()


def test_out_of_memory_halves_the_batch_for_good_and_loses_nobody() -> None:
    encoder = Recording(fits=2)
    engine = Engine(encoder, batch_size=8)
    futures = [engine.submit(image(value)) for value in range(9)]
    encoder.gate.set()
    assert [round((future.result(10)[0] + 1) * 127.5) for future in futures] == list(range(9))
    engine.close()
    assert engine.batch_size == 2
    assert all(len(batch) <= 2 for batch in encoder.batches)


def test_one_image_that_does_not_fit_alone_fails_alone() -> None:
    encoder = Recording(fits=0)
    encoder.gate.set()
    engine = Engine(encoder, batch_size=2)
    with pytest.raises(ScorerError, match="one image alone does not fit"):
        engine.submit(image(1)).result(10)
    assert not engine.broken
    engine.close()


def test_a_broken_encoder_fails_all_waiting_images_and_says_so_once() -> None:
    told: list[ScorerError] = []
    encoder = Recording(breaks=True)
    engine = Engine(encoder, batch_size=1, on_broken=told.append)
    futures = [engine.submit(image(value)) for value in range(3)]
    encoder.gate.set()
    for future in futures:
        with pytest.raises(ScorerError, match="device-side assert"):
            future.result(10)
    with pytest.raises(ScorerError):
        engine.submit(image(4)).result(10)
    engine.close()
    assert engine.broken
    assert len(told) == 1


def test_a_cancelled_image_costs_no_forward_pass() -> None:
    encoder = Recording()
    engine = Engine(encoder, batch_size=1)
    engine.submit(image(0))
    encoder.started.wait(10)
    dropped = engine.submit(image(1))
    kept = engine.submit(image(2))
    assert dropped.cancel()
    encoder.gate.set()
    kept.result(10)
    engine.close()
    assert [first_values(batch) for batch in encoder.batches] == [[0], [2]]


def test_a_caller_is_held_back_while_too_many_images_wait() -> None:
    encoder = Recording()
    engine = Engine(encoder, batch_size=1)
    done = threading.Event()

    def flood() -> None:
        for value in range(80):
            engine.submit(image(value))
        done.set()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    assert not done.wait(0.3)  # 64 wait, the rest must not pile up in memory
    encoder.gate.set()
    assert done.wait(10)
    thread.join()
    engine.close()
