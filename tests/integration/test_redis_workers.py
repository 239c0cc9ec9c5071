"""A Redis that comes late, refuses for a while or is full: how workers come back; and the rights they need."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prelabel.integrations import Client
from tests.integration.redis_server import PASSWORD, TAXONOMY, cli, wait_for
from tests.integration.redis_worker import assert_complete, worker, worker_settings

SECURITY = Path(__file__).parent.parent.parent / "docs" / "security.md"


@pytest.mark.slow
def test_a_user_with_the_rights_the_documentation_lists_can_do_everything(
    server, pictures, pictures_dir, tmp_path
) -> None:
    rights = re.search(r"ACL SETUSER prelabel on >\S+ (.*)", SECURITY.read_text()).group(1).split()
    server.admin.execute_command("ACL", "SETUSER", "prelabel", "on", f">{PASSWORD}", *rights)
    settings = worker_settings(server.url("prelabel", PASSWORD), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log):
        job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
        assert_complete(job, len(pictures))
        urgent = Client(settings).submit([str(pictures_dir / "none.jpg")], TAXONOMY, priority="interactive")
        assert urgent.wait(60).failed == 1
        assert urgent.retry_failed() == 1
        assert urgent.wait(60).failed == 1
        urgent.release_push([])
        for arguments in (["jobs"], ["doctor"], ["status", job.id], ["cancel", job.id]):
            assert cli(settings, *arguments).returncode == 0
        ping = [sys.executable, "-m", "celery", "-A", "prelabel.worker.app", "inspect", "ping", "--timeout", "10"]
        assert subprocess.run(ping, env={**os.environ, **settings.environment()}, timeout=60).returncode == 0
    # Doctor would like to know how often the file is written; the answer is an administrator's, and it does without.
    denied = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in server.admin.execute_command("ACL", "LOG")]
    assert {entry[b"object"] for entry in denied} <= {b"config|get"}
    assert b"Traceback" not in log.read_bytes()


@pytest.mark.slow
def test_a_worker_started_before_redis(server, pictures, pictures_dir, tmp_path) -> None:
    server.stop()
    settings = worker_settings(server.url(), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log):
        wait_for(lambda: b"Cannot connect to" in log.read_bytes())
        server.start()
        job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
        assert_complete(job, len(pictures))
    assert b"Traceback" not in log.read_bytes()


@pytest.mark.slow
def test_a_worker_whose_password_is_accepted_only_later(server, pictures, pictures_dir, tmp_path) -> None:
    server.require("another")
    settings = worker_settings(server.url(password=PASSWORD), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log):
        wait_for(lambda: b"Cannot connect to" in log.read_bytes())
        server.require(PASSWORD)
        job = Client(settings).submit([str(picture.path) for picture in pictures], TAXONOMY)
        assert_complete(job, len(pictures))
    assert b"Traceback" not in log.read_bytes()
    assert PASSWORD.encode() not in log.read_bytes()


@pytest.mark.slow
def test_a_password_that_changes_under_a_worker_and_is_put_right_again(
    server, pictures, pictures_dir, tmp_path
) -> None:
    server.require(PASSWORD)
    settings = worker_settings(server.url(), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log) as supervisor:
        job = Client(settings).submit([str(picture.path) for picture in pictures] * 6, TAXONOMY)
        next(job.results(60))
        server.require("another")
        time.sleep(5)  # longer than a lease
        server.require(PASSWORD)
        assert_complete(job, 6 * len(pictures))
        urgent = Client(settings).submit([str(pictures[0].path)], TAXONOMY, priority="interactive")
        assert_complete(urgent, 1)
        assert supervisor.poll() is None
    assert PASSWORD.encode() not in log.read_bytes()


@pytest.mark.slow
def test_a_worker_at_the_memory_limit_goes_on_when_it_is_lifted(server, pictures, pictures_dir, tmp_path) -> None:
    settings = worker_settings(server.url(), pictures_dir)
    log = tmp_path / "worker.log"
    with worker(settings, log) as supervisor:
        job = Client(settings).submit([str(picture.path) for picture in pictures] * 6, TAXONOMY)
        next(job.results(60))
        server.admin.config_set("maxmemory", "1mb")
        time.sleep(5)  # longer than a lease
        server.admin.config_set("maxmemory", 0)
        assert_complete(job, 6 * len(pictures))
        assert supervisor.poll() is None
