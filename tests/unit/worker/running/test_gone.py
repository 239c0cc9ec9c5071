"""Which workers are known to be gone: what runs, or may run elsewhere, is left alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from prelabel.integrations.broker.locks import LockLost, TimedLock, new_holder
from prelabel.integrations.label_studio.projects.keys import ProjectKeys
from prelabel.integrations.label_studio.projects.register import Projects
from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.keys import JobKeys
from prelabel.integrations.ledger.leases import ChunkRef, Refusal
from prelabel.schemas import PushTarget, Taxonomy, WorkerInfo
from prelabel.schemas.queues import QUEUE_BULK
from prelabel.worker.machine.children import new_worker_name
from prelabel.worker.running.gone import command_lines, free_gone_holders, is_gone

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
    assert free_gone_holders(settings) == 1
    assert client.queues()[QUEUE_BULK] == 1
    assert [worker.name for worker in client.workers()] == [alive]
    mine, theirs = (ledger("next").claim(ChunkRef(job.id, 0), alone=True) for job in jobs)
    assert mine.why == "it was gone when prelabel started again"
    assert theirs is Refusal.BUSY


def test_the_locks_of_who_is_gone_are_free_and_nobody_else_s(client, settings) -> None:
    raw, projects = client.connection.redis, Projects(client)
    projects.add(7)
    projects.add(8)
    jobs = [
        client.submit(["s3://b/1.jpg"], Taxonomy.flat(["cat"]), push=PushTarget(project=n, label_config="<View/>"))
        for n in (7, 8)
    ]
    gone, alive = f"{HERE}-{ended()}-{'0123456789abcdef'}", new_holder()
    locks = {
        name: [
            TimedLock(raw, ProjectKeys(number).scan, 100, who=name),
            TimedLock(raw, ProjectKeys(number).clean, 100, who=name),
            TimedLock(raw, JobKeys(job.id).push_lock, 100, who=name),
        ]
        for number, job, name in zip((7, 8), jobs, (gone, alive), strict=True)
    }
    locks[gone].append(Fleet(raw).sweeping(100, gone))
    for lock in (*locks[gone], *locks[alive]):
        assert lock.take()
    free_gone_holders(settings)
    for lock in locks[gone]:
        with pytest.raises(LockLost):
            lock.keep()
    for lock in locks[alive]:
        lock.keep()
