"""Faults injected into real processes: at the end every item has exactly one outcome, the right one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from prelabel.integrations import Client
from prelabel.schemas import JobState, Settings, Taxonomy
from prelabel.schemas.settings import load_settings
from prelabel.worker.demo.story import CHECKPOINT, Picture
from prelabel.worker.embedded import server_binary
from prelabel.worker.processes import kill, spawn, stop
from prelabel.worker.supervisor import worker_command

pytestmark = pytest.mark.slow
TAXONOMY = Taxonomy.flat(["red", "blue"])


class Server:
    """A Redis-compatible server that can be killed and started again with the same data."""

    def __init__(self, directory: Path, port: int) -> None:
        self._command = [
            server_binary(),
            *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        ]
        self._log = (directory / "server.log").open("ab")
        self.url = f"redis://127.0.0.1:{port}/0"
        self.start()

    def start(self) -> None:
        self.process = spawn(self._command, output=self._log)

    def kill(self) -> None:
        kill(self.process)
        self.process.wait()

    def close(self) -> None:
        stop(self.process, 5)
        self._log.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    made = Server(tmp_path, port)
    yield made
    made.close()


@pytest.fixture
def settings(server: Server, pictures_dir: Path) -> Settings:
    return load_settings(
        redis_url=server.url, model=str(CHECKPOINT), image_roots=(pictures_dir,), lease_s=3, grace_s=3, bulk_chunks=2
    )


@contextmanager
def running(settings: Settings, log: Path, *, supervised: bool = True, env: dict[str, str] | None = None):
    """A worker process, ready."""
    command = [sys.executable, "-m", "prelabel.worker.cli", "worker"] if supervised else worker_command("plain")
    with log.open("ab") as output:
        child = spawn(command, env={**settings.environment(), **(env or {})}, output=output)
        try:
            wait_for(lambda: b"is ready" in log.read_bytes(), 60)
            yield child
        finally:
            stop(child, 15)


def wait_for(condition, timeout_s: float):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def submit(settings: Settings, pictures: list[Picture], times: int = 6):
    return Client(settings).submit([str(picture.path) for picture in pictures] * times, TAXONOMY)


def assert_complete(job, count: int, timeout_s: float = 90) -> None:
    """Nothing lost, nothing doubled, nothing failed."""
    ordinals = [prediction.ordinal for prediction in job.results(timeout_s)]
    assert sorted(ordinals) == list(range(count))
    progress = job.progress()
    assert (progress.state, progress.done, progress.failed) == (JobState.DONE, count, 0)


def test_redis_killed_and_started_again_with_its_file(server, settings, pictures, tmp_path) -> None:
    with running(settings, tmp_path / "worker.log") as supervisor:
        job = submit(settings, pictures)
        next(job.results(30))
        time.sleep(1.1)  # appendfsync everysec
        server.kill()
        time.sleep(1)
        server.start()
        time.sleep(0.5)
        assert_complete(job, 6 * len(pictures))
        assert supervisor.poll() is None
        urgent = Client(settings).submit([str(pictures[0].path)], TAXONOMY, priority="interactive")
        assert_complete(urgent, 1)  # the lane consumes again


def test_redis_silent_for_a_while(server, settings, pictures, tmp_path) -> None:
    with running(settings, tmp_path / "worker.log"):
        job = submit(settings, pictures)
        next(job.results(30))
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(8)  # longer than a lease
        server.process.send_signal(signal.SIGCONT)
        assert_complete(job, 6 * len(pictures))


def test_the_queues_are_lost_but_not_the_ledger(settings, pictures, tmp_path) -> None:
    client = Client(settings)
    wait_for(lambda: _answers(client), 10)
    job = submit(settings, pictures, 2)
    client.store._redis.delete("bulk")
    with running(settings, tmp_path / "worker.log"):
        assert_complete(job, 2 * len(pictures))


def test_two_workers_one_killed_again_and_again(settings, pictures, tmp_path) -> None:
    with running(settings, tmp_path / "a.log") as victim, running(settings, tmp_path / "b.log"):
        job = submit(settings, pictures, 40)
        for _ in range(3):
            wait_for(lambda: psutil.Process(victim.pid).children(), 30)
            time.sleep(1.5)
            for child in psutil.Process(victim.pid).children():
                child.kill()
        assert_complete(job, 40 * len(pictures), 180)


def test_under_prelabel_worker_a_killed_workers_chunks_do_not_wait_for_their_leases(
    settings, pictures, tmp_path
) -> None:
    patient = settings.model_copy(update={"lease_s": 600.0})  # no lease runs out within this test
    with running(patient, tmp_path / "worker.log") as supervisor:
        job = submit(patient, pictures, 20)
        next(job.results(30))
        (worker,) = psutil.Process(supervisor.pid).children()
        worker.kill()
        assert_complete(job, 20 * len(pictures), 120)


def test_a_frozen_worker_that_wakes_up_late_wins_nothing(settings, pictures, tmp_path) -> None:
    with (
        running(settings, tmp_path / "a.log", supervised=False) as frozen,
        running(settings, tmp_path / "b.log"),
    ):
        job = submit(settings, pictures, 20)
        next(job.results(30))
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(5)  # past its leases
        frozen.send_signal(signal.SIGCONT)
        assert_complete(job, 20 * len(pictures), 180)


def test_sigterm_hands_back_within_the_grace_time_and_the_next_worker_goes_on(settings, pictures, tmp_path) -> None:
    count = 60 * len(pictures)
    with running(settings, tmp_path / "a.log") as first:
        job = submit(settings, pictures, 60)
        next(job.results(30))
        started = time.monotonic()
        first.terminate()
        assert first.wait(settings.grace_s + 10) == 0
        assert time.monotonic() - started < settings.grace_s + 10
        assert 0 < job.progress().done < count
        assert b"Traceback" not in (tmp_path / "a.log").read_bytes()
    client = Client(settings)
    leases = client.store._redis.zcount(f"prelabel:{{{job.id}}}:open", "(0", "+inf")
    assert leases == 0  # given back, not left to run out
    with running(settings, tmp_path / "b.log"):
        assert_complete(job, count, 180)


def test_a_second_signal_stops_at_once_and_leaves_no_process(settings, pictures, tmp_path) -> None:
    patient = settings.model_copy(update={"grace_s": 60.0})
    with running(patient, tmp_path / "worker.log") as supervisor:
        job = submit(settings, pictures, 60)
        next(job.results(30))
        children = psutil.Process(supervisor.pid).children(recursive=True)
        supervisor.send_signal(signal.SIGINT)
        time.sleep(0.5)
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(10) == 0
        _, alive = psutil.wait_procs(children, timeout=5)
        assert alive == []
        job.cancel()


POISON = """
import os, prelabel.worker.pipeline as pipeline
original = pipeline._ChunkRun._embed
def embed(self, scorer, ordinal, item):
    if "poison" in item.id:
        os.kill(os.getpid(), 11)  # as a segfault in a decoder would
    original(self, scorer, ordinal, item)
pipeline._ChunkRun._embed = embed
"""


def test_an_item_that_kills_its_worker_is_quarantined_alone(settings, pictures, pictures_dir, tmp_path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    # Python imports `sitecustomize` at start: the fault is in the worker process, prelabel's code is as it is.
    (hook / "sitecustomize.py").write_text(
        "import sys\nif 'worker' in sys.argv and 'celery' in str(sys.orig_argv):\n"
        + "\n".join("    " + line for line in POISON.strip().splitlines())
    )
    poison = pictures_dir / "poison.jpg"
    poison.write_bytes(pictures[0].path.read_bytes())
    sources = [str(picture.path) for picture in pictures[:100]]
    sources.insert(40, str(poison))
    with running(settings, tmp_path / "worker.log", env={"PYTHONPATH": str(hook)}):
        job = Client(settings).submit(sources, TAXONOMY)
        found = {prediction.ordinal: prediction for prediction in job.results(240)}
    assert sorted(found) == list(range(101))
    assert [ordinal for ordinal, prediction in found.items() if prediction.error] == [40]
    assert found[40].error.kind == "Quarantined"
    assert "killed its worker 3 times" in found[40].error.message
    assert "SIGSEGV" in found[40].error.message
    with running(settings, tmp_path / "healthy.log"):
        assert job.retry_failed() == 1
        assert_complete(job, 101)


def test_a_worker_whose_encoder_breaks_is_replaced(settings, pictures, tmp_path) -> None:
    hook = tmp_path / "hook"
    hook.mkdir()
    flag = tmp_path / "broke-once"
    (hook / "sitecustomize.py").write_text(
        "import sys\nif 'worker' in sys.argv and 'celery' in str(sys.orig_argv):\n"
        "    import os, prelabel.worker.siglip as siglip\n"
        "    original = siglip.SiglipEncoder.encode_images\n"
        "    def encode(self, batch):\n"
        f"        if not os.path.exists({str(flag)!r}):\n"
        f"            open({str(flag)!r}, 'w').close()\n"
        "            raise RuntimeError('CUDA error: an illegal memory access was encountered')\n"
        "        return original(self, batch)\n"
        "    siglip.SiglipEncoder.encode_images = encode\n"
    )
    with running(settings, tmp_path / "worker.log", env={"PYTHONPATH": str(hook)}) as supervisor:
        job = submit(settings, pictures, 1)
        assert_complete(job, len(pictures))
        assert supervisor.poll() is None
    assert flag.exists()
    assert b"illegal memory access" in (tmp_path / "worker.log").read_bytes()


def test_ctrl_c_twice_on_up_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "prelabel.worker.cli", "up", "--port", "0"],
            env={**os.environ, "PRELABEL_STATE_DIR": str(tmp_path / "state"), "PRELABEL_MODEL": str(CHECKPOINT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_for(lambda: b"stops everything" in log.read_bytes(), 90)
    children = psutil.Process(up.pid).children(recursive=True)
    up.send_signal(signal.SIGINT)
    time.sleep(0.3)
    up.send_signal(signal.SIGINT)
    up.wait(30)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []


def _answers(client: Client) -> bool:
    try:
        client.ping()
    except Exception:
        return False
    return True
