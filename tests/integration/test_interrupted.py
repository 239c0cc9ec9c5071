"""A submission that is interrupted says what became of its job, and leaves none that stands unfinished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from prelabel.integrations import Client
from prelabel.schemas import JobState, Taxonomy
from tests.conftest import eventually

LABELS = ("--labels", "cat,dog")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def start(broker_url: str) -> Iterator:
    """Starts `prelabel …` with an open standard input."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*arguments: str) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "prelabel.worker.cli", *arguments],
                env={**os.environ, "PRELABEL_REDIS_URL": broker_url, "COLUMNS": "200", "NO_COLOR": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def feed(process: subprocess.Popen[str], count: int) -> None:
    """Name images and leave the input open: more may come."""
    process.stdin.write("".join(f"s3://b/{number}.jpg\n" for number in range(count)))
    process.stdin.flush()


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_job_that_is_still_being_submitted_is_cancelled_and_named(client: Client, start, number: int) -> None:
    process = start("submit", "-", *LABELS)
    feed(process, 3000)
    (job,) = eventually(lambda: [job for job in client.jobs() if job.total])
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"job {job.job_id} is cancelled" in said
    assert "Traceback" not in said
    assert client.job(job.job_id).progress().state is JobState.CANCELLED


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("output", [(), ("--json",)], ids=["", "json"])
def test_a_job_that_is_waited_for_goes_on_and_is_named(client: Client, start, number: int, output) -> None:
    process = start("submit", "s3://b/1.jpg", *LABELS, "--wait", *output)
    (job,) = eventually(lambda: [job for job in client.jobs() if job.state is JobState.QUEUED])
    assert "no worker is running" in process.stderr.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"job {job.job_id} goes on" in said
    assert f"prelabel cancel {job.job_id}" in said
    assert client.job(job.job_id).progress().state is JobState.QUEUED


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("command", [("status",), ("results",), ("results", "--json")], ids=" ".join)
def test_who_stops_waiting_for_a_job_is_told_that_it_goes_on(client: Client, start, number: int, command) -> None:
    job = client.submit(["s3://b/1.jpg"], ["cat", "dog"])
    name, *options = command
    process = start(name, job.id, "--wait", *options)
    asked = {"exec", "xrange", "xread", "zrangebyscore"}  # what waiting asks of Redis again and again
    others = client.connection.redis.client_id()
    eventually(
        lambda: [
            one for one in client.connection.redis.client_list() if one["cmd"] in asked and int(one["id"]) > others
        ]
    )
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert f"job {job.id} goes on" in said
    assert f"prelabel cancel {job.id}" in said
    assert client.job(job.id).progress().state is JobState.QUEUED


def test_a_submission_under_nohup_outlives_its_terminal(client: Client, start) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a child ignores what its parent does
    try:
        process = start("submit", "-", *LABELS)
    finally:
        signal.signal(signal.SIGHUP, before)
    feed(process, 3000)
    eventually(lambda: [job for job in client.jobs() if job.total])
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert client.jobs()[0].total == 3000


def test_a_program_is_told_in_a_note_what_became_of_its_job(client: Client) -> None:
    def items():
        yield "s3://b/1.jpg"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as interrupted:
        client.submit(items(), Taxonomy.flat(["cat", "dog"]))
    (job,) = client.jobs()
    assert interrupted.value.__notes__ == [f"job {job.job_id} is cancelled; what is done stays"]
