"""The child process that decodes images for the page: what ends it, and what does not."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from PIL import Image

from prelabel.schemas import ItemError
from prelabel.worker.delivering import small_pictures
from prelabel.worker.delivering.small_pictures import SmallPictures
from tests.conftest import eventually


def png(side: int = 300, colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(buffer, "PNG")
    return buffer.getvalue()


def children() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if any("small_pictures" in part for part in command_of(one))]


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # it has ended, and may not have been waited for yet
        return []


@pytest.fixture
def pictures() -> Iterator[SmallPictures]:
    made = SmallPictures(1_000_000, 64)
    yield made
    made.close()
    assert children() == []


def test_nothing_is_started_until_it_is_needed(pictures: SmallPictures) -> None:
    assert children() == []
    assert Image.open(io.BytesIO(pictures.make(png()))).size == (64, 64)
    (child,) = children()
    with pytest.raises(ItemError, match="pixels"):
        pictures.make(png(1001))
    pictures.make(png(10))
    assert children() == [child], "a refused image ends nobody"


def test_a_child_that_has_ended_is_replaced(pictures: SmallPictures) -> None:
    pictures.make(png())
    os.kill(children()[0].pid, signal.SIGKILL)
    assert pictures.make(png())


def test_an_image_that_ends_the_process_is_refused_and_the_next_one_is_made(
    pictures: SmallPictures,
) -> None:
    def kill_whatever_starts() -> None:
        for _ in range(2):
            started: list[psutil.Process] = eventually(lambda: [one for one in children() if one.pid not in killed])
            killed.add(started[0].pid)
            started[0].kill()

    killed: set[int] = set()
    killer = threading.Thread(target=kill_whatever_starts)
    killer.start()
    with pytest.raises(ItemError, match="ends the process that tries"):
        pictures.make(png())
    killer.join()
    assert len(killed) == 2
    assert pictures.make(png())


def test_one_that_takes_too_long_is_ended(pictures: SmallPictures, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures.make(png())
    monkeypatch.setattr(small_pictures, "LONGEST_S", 0.5)
    os.kill(children()[0].pid, signal.SIGSTOP)
    start, started = subprocess.Popen, []

    def counted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(arguments)
        return start(*arguments, **options)

    monkeypatch.setattr(small_pictures.subprocess, "Popen", counted)
    with pytest.raises(ItemError, match="takes too long"):
        pictures.make(png())
    assert started == [], "what has just kept one process busy is given to no other"
    monkeypatch.setattr(small_pictures, "LONGEST_S", 20.0)
    assert pictures.make(png(40)), "the next one is made"
    assert len(started) == 1


def test_many_threads_share_it(pictures: SmallPictures) -> None:
    sizes: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda side=side: sizes.append(Image.open(io.BytesIO(pictures.make(png(side)))).size))
        for side in range(20, 32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sizes) == [(side, side) for side in range(20, 32)]


def test_it_ends_with_its_parent_however_that_ends() -> None:
    program = (
        "import sys, time; from tests.unit.worker.delivering.test_small_pictures import *;"
        "made = SmallPictures(10**6, 64); made.make(png()); print(children()[0].pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    if parent.stdout is None:
        pytest.fail("there is a pipe")
    child = int(parent.stdout.readline())
    assert psutil.pid_exists(child)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    eventually(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)
