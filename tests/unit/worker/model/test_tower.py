"""The image tower: batches that are started give what batches that are awaited give, compiled or not.

Pinned memory, streams and events need a GPU; here the same code runs on a CPU, and
`benchmarks.throughput` runs it on a GPU.
"""

from __future__ import annotations

import mmap
import shutil
import threading

import numpy as np
import pytest
import torch

from prelabel.schemas import OutOfMemory, ScorerError
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model.devices import device_errors
from prelabel.worker.model.registry import load_encoder
from prelabel.worker.model.tower import TorchImages

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


def load(**options) -> TorchImages:
    settings = load_settings(model=str(CHECKPOINT), device="cpu", dtype="float32", **options)
    return load_encoder(settings, "m@1").images


@pytest.fixture(scope="module")
def tower() -> TorchImages:
    return load()


@pytest.fixture(scope="module")
def images(tower) -> np.ndarray:
    rng = np.random.default_rng(5)
    return np.stack([tower.prepare(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)) for _ in range(6)])


def test_started_batches_give_what_awaited_ones_give_in_any_order(tower, images) -> None:
    waits = [tower.start(list(images[:4])), tower.start(list(images[4:]))]
    second, first = waits[1](), waits[0]()
    assert np.allclose(np.concatenate([first, second]), tower.encode(images), atol=1e-5)


def test_a_compiled_tower_gives_the_same_vectors_for_full_and_other_batches(tower, images) -> None:
    sizes: list[int] = []

    def backend(graph, inputs):
        def run(*arguments):
            sizes.append(next(len(one) for one in arguments if one.dtype == torch.uint8))
            return graph(*arguments)

        return run

    compiled = load(compile="on")
    compiled.tune(4, backend=backend)
    assert compiled._compiled is not None
    sizes.clear()
    for count in (1, 2, 3, 4, 6):
        assert np.allclose(compiled.encode(images[:count]), tower.encode(images[:count]), atol=1e-4)
    assert sizes == [4, 4]  # three are filled up with a blank; the compiler sees one size, ever


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="the CPU's compiler backend needs g++")
def test_the_real_compiler_gives_the_same_vectors(tower, images) -> None:
    compiled = load(compile="on")
    compiled.tune(4)
    assert compiled._compiled is not None
    assert np.allclose(compiled.encode(images[:3]), tower.encode(images[:3]), atol=1e-4)


def test_a_compiler_that_fails_is_a_warning_and_the_tower_runs_as_it_is(tower, images, caplog) -> None:
    def broken(graph, inputs):
        raise RuntimeError("no C compiler here")

    compiled = load(compile="on")
    compiled.tune(4, backend=broken)
    assert "cannot be compiled" in caplog.text
    assert compiled._compiled is None
    assert np.array_equal(compiled.encode(images), tower.encode(images))


def test_a_compiler_that_makes_other_vectors_is_not_used(images, caplog) -> None:
    def wrong(graph, inputs):
        return lambda *arguments: [torch.randn_like(graph(*arguments)[0])]

    compiled = load(compile="on")
    compiled.tune(4, backend=wrong)
    assert "its vectors differ" in caplog.text
    assert compiled._compiled is None


def test_nothing_is_compiled_on_a_cpu_unless_asked_for() -> None:
    for choice in ("auto", "off"):
        tower = load(compile=choice)
        tower.tune(4, backend="no such backend")
        assert tower._compiled is None


def test_decoding_and_the_forward_pass_have_threads_of_their_own_number(images) -> None:
    tower = load(cpu_threads=2)
    seen: dict[str, int] = {}

    def decode() -> None:
        tower.prepare(np.zeros((999, 999, 3), dtype=np.uint8))  # larger than what the model looks at: with torch
        seen["decode"] = torch.get_num_threads()

    def forward() -> None:
        tower.encode(images[:1])
        seen["forward"] = torch.get_num_threads()

    for work in (forward, decode, forward):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert seen == {"decode": 1, "forward": 2}


def touch_128_mib() -> None:
    """Straight from the kernel: an allocator might have it left over from something else."""
    with mmap.mmap(-1, 2**27, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as fresh:
        for at in range(0, 2**27, mmap.PAGESIZE):
            fresh[at] = 1


def test_the_memory_of_a_batch_is_told(tower) -> None:
    told = [tower.memory_of(touch_128_mib) for _ in range(3)]
    if None in told:
        pytest.skip("needs Linux")
    needed = max(memory.needed for memory in told)
    if needed == 0:
        pytest.skip("this kernel's peak of a process does not follow at once")
    assert 2**26 < needed < 2**29
    assert all(memory.free > 2**20 for memory in told)


def test_what_torch_raises_becomes_ours() -> None:
    with pytest.raises(OutOfMemory, match="batch of 3"), device_errors(3):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(OutOfMemory), device_errors(3):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
    with pytest.raises(ScorerError, match="device-side assert"), device_errors(3):
        raise RuntimeError("CUDA error: device-side assert triggered\nmore")
