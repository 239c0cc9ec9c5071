"""Vectors of which each test knows the right one, and the files a store on disk keeps them in."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
from numpy.testing import assert_allclose  # at once: a child that gives up its rights may not read it later

from prelabel.schemas import ImageRef, Region
from prelabel.worker.vectors.keys import ImageKeys, vector_space
from prelabel.worker.vectors.records import record_bytes

SPACE = vector_space("m@12345678", 8, "fast")
BOX = Region(x=10, y=20, width=30, height=40)
HUGE = 2**40
RECORD = record_bytes(8)


def key(number: int) -> bytes:
    return ImageKeys(SPACE, ImageRef(uri="any")).content(str(number).encode())


def vector(number: int, dim: int = 8) -> np.ndarray:
    """The one vector that may ever be found under `key(number)`."""
    return np.random.default_rng(number).standard_normal(dim).astype(np.float32) * 10


def filled(numbers, dim: int = 8) -> dict[bytes, np.ndarray]:
    return {key(number): vector(number, dim) for number in numbers}


def store_numbers(store, numbers, dim: int = 8) -> None:
    store.put(filled(numbers, dim))
    store.flush()


def right_numbers(store, numbers, dim: int = 8) -> list[int]:
    """Which numbers are found; fails when one is found with another vector than its own."""
    numbers = list(numbers)
    found = store.get([key(number) for number in numbers])
    there = [number for number in numbers if key(number) in found]
    assert len(there) == len(found)
    for number in there:
        assert found[key(number)].dtype == np.float32
        assert_allclose(found[key(number)], vector(number, dim), rtol=2**-10, atol=2**-14)
    return there


def streamed_numbers(store, numbers, rows: int = 4096) -> list[int]:
    numbers = list(numbers)
    there = []
    for positions, vectors in store.blocks([key(number) for number in numbers], rows):
        assert vectors.dtype == np.float16
        assert len(positions) == len(vectors) <= rows
        for position, row in zip(positions, vectors, strict=True):
            assert_allclose(row, vector(numbers[position]), rtol=2**-10, atol=2**-14)
            there.append(numbers[position])
    return there


def index_file(root: Path) -> Path:
    return root / (root / "current").readlink() / "index.sqlite"


def shard_files(root: Path) -> list[Path]:
    return sorted(root.glob("v*/*.f16"))


def warnings(caplog) -> list[str]:
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def child(code: str, *arguments: object, **options) -> subprocess.Popen:
    """A Python process with this module's names, and `DiskStore`."""
    head = textwrap.dedent(
        f"""
        import importlib.util, os, random, resource, sys, time
        from pathlib import Path
        from prelabel.worker.vectors.disk.store import DiskStore
        spec = importlib.util.spec_from_file_location("shared", {__file__!r})
        shared = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shared)
        globals().update(vars(shared))
        """
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )
