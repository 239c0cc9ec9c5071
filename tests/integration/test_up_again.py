"""`prelabel up` is found by the commands beside it, and goes on where it was after everything was killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from prelabel.worker.demo.story import CHECKPOINT, Picture
from prelabel.worker.running.announced import find_announced
from tests.conftest import eventually

BESIDE = "Redis of `prelabel up` on this machine: redis://127.0.0.1:"


@dataclass
class Up:
    """`prelabel up` with a state folder of its own, and commands beside it."""

    state: Path
    images: Path
    process: subprocess.Popen[bytes] | None = None
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.env = {
            **os.environ,
            "PRELABEL_STATE_DIR": str(self.state),
            "PRELABEL_MODEL": str(CHECKPOINT),
            "PRELABEL_LEASE_S": "3600",  # what is not freed stays leased for longer than any test runs
            "COLUMNS": "200",
            "NO_COLOR": "1",
        }

    @property
    def log(self) -> Path:
        return self.state.with_suffix(".log")

    def start(self) -> None:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "prelabel.worker.cli", "up", "--port", "0"],
                env=self.env, cwd=self.images, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        eventually(lambda: "Ctrl-C stops everything" in self.log.read_text() or self.process.poll(), 120)
        assert self.process.poll() is None, self.log.read_text()

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "prelabel.worker.cli", *arguments],
            env={**self.env, **env}, cwd=self.images, capture_output=True, text=True, timeout=240,
        )  # fmt: skip

    def url(self) -> str:
        found = find_announced(self.state)
        assert found is not None
        return found.url

    def kill_everything(self) -> None:
        """As `kill -9` of every process does, the parent first."""
        family = [self.process, *psutil.Process(self.process.pid).children(recursive=True)]
        for one in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        self.process.wait()
        psutil.wait_procs(family[1:], timeout=30)

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)


@pytest.fixture
def make(tmp_path: Path, pictures: list[Picture]) -> Iterator:
    made: list[Up] = []

    def new(name: str) -> Up:
        made.append(Up(tmp_path / name, pictures[0].path.parent))
        return made[-1]

    yield new
    for one in made:
        one.stop()


def test_commands_find_the_up_of_their_state_folder_and_say_so(make, pictures: list[Picture], tmp_path: Path) -> None:
    first, second = make("first"), make("second")
    for one in (first, second):
        one.start()
    assert first.url() != second.url()
    done = first.run("submit", str(pictures[0].path), "--labels", "circle,ring", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"Redis of `prelabel up` on this machine: {first.url()}\n")
    assert json.loads(done.stdout)["done"] == 1
    assert [len(json.loads(one.run("jobs", "--json").stdout)["jobs"]) for one in (first, second)] == [1, 0]

    told = first.run("jobs", PRELABEL_REDIS_URL=second.url())
    assert "no jobs yet" in told.stdout, "what is set goes before what is found"
    assert BESIDE not in told.stderr
    assert first.run("doctor").returncode in (0, 1)
    assert BESIDE in first.run("doctor").stderr
    alone = first.run("jobs", PRELABEL_STATE_DIR=str(tmp_path / "third"))
    assert BESIDE not in alone.stderr

    again = first.run("up", "--port", "0")
    assert (again.returncode, "runs in" in again.stderr) == (2, True)
    assert first.url(), "a second one that could not start has taken nothing away"

    first.stop()
    assert BESIDE not in first.run("jobs").stderr
    assert list((first.state / "running").iterdir()) == []


def test_after_a_kill_of_everything_the_next_start_goes_on_at_once(make, pictures: list[Picture]) -> None:
    up = make("killed")
    up.start()
    url = up.url()
    paths = [str(picture.path) for picture in pictures] * 20
    submitted = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "submit", "-", "--labels", "circle,ring", "--json"],
        env=up.env, cwd=up.images, input="\n".join(paths), capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    job_id = json.loads(submitted.stdout)["job_id"]

    def progress() -> dict[str, int]:
        return json.loads(up.run("status", job_id, "--json").stdout)

    eventually(lambda: progress()["done"] > 0, 60)
    up.kill_everything()
    assert find_announced(up.state) is None, "what a crash leaves behind is not believed"
    up.start()
    assert up.url() == url
    workers = json.loads(up.run("jobs", "--json").stdout)["workers"]
    assert len(workers) == 1, "the one that was killed is not listed beside its successor"
    done = up.run("status", job_id, "--wait", "--json")
    assert (done.returncode, json.loads(done.stdout)["done"]) == (0, len(paths)), done.stderr
