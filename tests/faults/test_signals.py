"""Ctrl-C, SIGTERM in a hurry, and an encoder that breaks: nothing is lost and no process stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from prelabel.worker.demo.story import CHECKPOINT
from tests.faults.report import Report
from tests.faults.site import Site, wait_for


def test_a_worker_whose_encoder_breaks_is_replaced(site: Site, report: Report) -> None:
    written = [worker.log.stat().st_size for worker in site.workers]
    site.switch("encoder-breaks")
    job, work = site.submit(lasts_s=2)
    report.faults += 1
    site.finish(job, work, report)
    report.assert_clean()
    logs = [worker.log.read_bytes()[start:] for worker, start in zip(site.workers, written, strict=True)]
    assert b"illegal memory access" in b"".join(logs)
    assert all(worker.process.poll() is None for worker in site.workers)


def test_a_second_signal_stops_at_once_and_leaves_no_process(site: Site, report: Report) -> None:
    site.ready()
    job, work = site.submit(lasts_s=5)  # longer than the grace time
    site.wait_started(job)
    victim = site.someone_busy()
    children = psutil.Process(victim.process.pid).children(recursive=True)
    victim.process.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert victim.process.poll() is None
    victim.process.send_signal(signal.SIGINT)
    report.faults += 1
    assert victim.process.wait(10) == 0
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    site.finish(job, work, report)
    victim.start()
    report.assert_clean()


def test_ctrl_c_twice_on_up_leaves_nothing_behind(tmp_path: Path) -> None:
    log = tmp_path / "up.log"
    with log.open("wb") as output:
        up = subprocess.Popen(
            [sys.executable, "-m", "prelabel.worker.cli", "up", "--port", "0"],
            env={**os.environ, "PRELABEL_STATE_DIR": str(tmp_path / "state"), "PRELABEL_MODEL": str(CHECKPOINT)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    children: list[psutil.Process] = []
    try:
        wait_for(lambda: b"stops everything" in log.read_bytes(), 90)
        children = psutil.Process(up.pid).children(recursive=True)
        up.send_signal(signal.SIGINT)
        time.sleep(0.3)
        up.send_signal(signal.SIGINT)
        up.wait(30)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []
    finally:
        up.kill()
        up.wait()
        for child in children:
            if child.is_running():
                child.kill()
