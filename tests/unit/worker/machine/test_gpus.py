"""Workers started alike take one GPU each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from prelabel.schemas import ConfigError
from prelabel.schemas.settings import load_settings
from prelabel.worker.machine.children import EXIT_CONFIG
from prelabel.worker.machine.gpus import claimed_gpu
from prelabel.worker.running import supervisor


@pytest.fixture
def devices(tmp_path):
    """Device files as the driver makes them, of two GPUs."""
    folder = tmp_path / "dev"
    folder.mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"):
        (folder / name).touch()
    return folder


def test_each_takes_one_that_is_free_and_one_too_many_is_told(tmp_path, devices) -> None:
    with ExitStack() as workers:
        assert [workers.enter_context(claimed_gpu(tmp_path / "s", devices)) for _ in range(2)] == [0, 1]
        with (
            pytest.raises(ConfigError, match="each of the 2 GPUs here has a worker"),
            claimed_gpu(tmp_path / "s", devices),
        ):
            pass
    with claimed_gpu(tmp_path / "s", devices) as number:
        assert number == 0


def test_a_killed_workers_gpu_is_free_again(tmp_path, devices) -> None:
    code = (
        "import sys, time, pathlib; from prelabel.worker.machine.gpus import claimed_gpu\n"
        "with claimed_gpu(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])) as number:\n"
        "    print(number, flush=True); time.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, tmp_path / "s", devices], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "0\n"
    with claimed_gpu(tmp_path / "s", devices) as number:
        assert number == 1
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    other.stdout.close()
    with claimed_gpu(tmp_path / "s", devices) as number:
        assert number == 0


def test_no_gpu_is_told_with_what_to_do(tmp_path) -> None:
    (tmp_path / "dev").mkdir()
    with pytest.raises(ConfigError, match="NVIDIA Container Toolkit"), claimed_gpu(tmp_path / "s", tmp_path / "dev"):
        pass


def test_the_supervisor_gives_its_worker_the_claimed_gpu_alone(tmp_path, devices, monkeypatch) -> None:
    seen = []

    def spawn(command, *, env, output):
        seen.append(env["CUDA_VISIBLE_DEVICES"])
        with claimed_gpu(tmp_path / "gpus", devices) as other:
            assert other == 1  # the first is taken as long as the worker runs
        return subprocess.Popen([sys.executable, "-c", f"raise SystemExit({EXIT_CONFIG})"])

    monkeypatch.setattr(supervisor, "spawn", spawn)
    monkeypatch.setattr(supervisor, "claimed_gpu", lambda folder: claimed_gpu(folder, devices))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(supervisor.Supervisor, "_free_leases", lambda *_: None)
    settings = load_settings(claim_gpu=True, state_dir=tmp_path)
    assert supervisor.Supervisor(settings).run() == EXIT_CONFIG
    assert seen == ["0"]
