"""Which workers are known to be gone: what runs, or may run elsewhere, is left alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.leases import ChunkRef, Refusal
from prelabel.schemas import Taxonomy, WorkerInfo
from prelabel.schemas.queues import QUEUE_BULK
from prelabel.worker.machine.children import new_worker_name
from prelabel.worker.running.gone import command_lines, free_gone_workers, is_gone

HERE = socket.gethostname()


def ended() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        (HERE + "-{ended}-abcdef", True),
        (f"{HERE}-{os.getpid()}-abcdef", False),
        ("elsewhere-{ended}-abcdef", False),
        (HERE + "-x-{ended}-abcdef", False),
        ("my own name", False),
        (new_worker_name(), False),
    ],
    ids=["ended", "runs", "another machine", "another machine's longer name", "not ours to tell", "this process"],
)
def test_a_worker_is_gone_when_no_process_of_this_machine_is_it(name: str, gone: bool) -> None:
    assert is_gone(name.format(ended=ended()), command_lines()) == gone


def test_a_worker_whose_supervisor_alone_was_killed_is_not_gone() -> None:
    name = f"{HERE}-{ended()}-abcdef"
    worker = subprocess.Popen([sys.executable, "-c", "input()", "--hostname", f"{name}@%h"], stdin=subprocess.PIPE)
    try:
        assert not is_gone(name, command_lines())
    finally:
        worker.communicate()
    assert is_gone(name, command_lines())


def test_the_leases_of_a_gone_worker_are_free_with_a_message_each_and_nobody_else_s(client, ledger, settings) -> None:
    gone, alive = f"{HERE}-{ended()}-abcdef", new_worker_name()
    jobs = [client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"])) for _ in range(2)]
    fleet = Fleet(client.connection.redis)
    for name, job in zip((gone, alive), jobs, strict=True):
        ledger(name).claim(ChunkRef(job.id, 0))
        fleet.beat(WorkerInfo(name=name, model="m", device="cpu", dtype="float32"))
    client.connection.redis.delete(QUEUE_BULK)
    assert free_gone_workers(settings) == 1
    assert client.queues()[QUEUE_BULK] == 1
    assert [worker.name for worker in client.workers()] == [alive]
    mine, theirs = (ledger("next").claim(ChunkRef(job.id, 0), alone=True) for job in jobs)
    assert mine.why == "it was gone when prelabel started again"
    assert theirs is Refusal.BUSY
