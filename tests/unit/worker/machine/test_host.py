"""What a container is given counts, not what the machine has."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import ThreadpoolController

from prelabel.worker.machine import host


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "150000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "garbage"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_quota_bounds_the_cpus(tmp_path, monkeypatch, files, cpus) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert host.usable_cpus(tmp_path) == (cpus or 8)


def test_free_memory_is_the_least_of_the_machines_and_the_containers(tmp_path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal: 900 kB\nMemAvailable:   500 kB\n")
    assert host.free_memory(tmp_path, meminfo) == 500 * 1024
    (tmp_path / "memory.max").write_text("300000\n")
    (tmp_path / "memory.current").write_text("100000\n")
    assert host.free_memory(tmp_path, meminfo) == 200_000
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 30000\n")  # page cache gives way
    assert host.free_memory(tmp_path, meminfo) == 230_000
    (tmp_path / "memory.max").write_text("max\n")
    assert host.free_memory(tmp_path, meminfo) == 500 * 1024


def test_nothing_to_read_is_nothing_known(tmp_path) -> None:
    assert host.free_memory(tmp_path, tmp_path / "none") is None


@pytest.mark.skipif(not host.forget_peak(), reason="needs Linux")
def test_the_peak_begins_anew() -> None:
    before = host.resident_memory()
    held = np.ones(16 * 2**20, dtype=np.uint8)
    assert host.peak_memory() >= before + 15 * 2**20
    del held
    host.forget_peak()
    assert host.peak_memory() < before + 12 * 2**20


def test_numpys_products_are_computed_on_the_thread_that_asks_and_torchs_threads_are_left_alone() -> None:
    def threads() -> dict[Path, int]:
        return {Path(pool["filepath"]): pool["num_threads"] for pool in ThreadpoolController().info()}

    blas = [Path(pool["filepath"]) for pool in ThreadpoolController().info() if pool["internal_api"] == "openblas"]
    if not blas:
        pytest.skip("this numpy has no OpenBLAS of its own")
    before = threads()
    # Another package's OpenBLAS (faiss') is limited with it, and the OpenMP that it brings in the same folder.
    theirs = {path: count for path, count in before.items() if path.parent not in {path.parent for path in blas}}
    with host.single_threaded_blas():
        now = threads()
        assert {now[path] for path in blas} == {1}
        assert {path: now[path] for path in theirs} == theirs
    assert threads() == before
