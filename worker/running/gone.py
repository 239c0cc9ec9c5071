"""Processes of this machine that are gone, as after `kill -9` of everything: what they had is free at the next start.

A worker's own supervisor frees its leases when it dies. Where that was killed with it, somebody else has to see that
the worker is gone; by its silence alone that takes until its leases run out and a sweep finds them. So it is with the
locks of who looked through a project, cleaned it or pushed.
"""

from __future__ import annotations

import logging
import re
import socket
from contextlib import closing

import psutil

from ...integrations.broker.celery import Sender
from ...integrations.broker.connection import connect_redis
from ...integrations.broker.errors import broker_errors
from ...integrations.client.client import Client
from ...integrations.label_studio.projects.register import Projects
from ...integrations.ledger.fleet import Fleet
from ...integrations.ledger.leases import Ledger
from ...integrations.ledger.pushes import free_locks
from ...schemas.errors import PrelabelError
from ...schemas.settings import Settings
from ..machine.children import new_worker_name

log = logging.getLogger(__name__)

_NAME = re.compile(r"(?P<host>.+)-(?P<pid>\d+)-(?:[0-9a-f]{6}|[0-9a-f]{16})")
"""See `new_worker_name` and `new_holder`."""


def is_gone(worker: str, processes: dict[int, str]) -> bool:
    """Whether a worker is known to have ended: it ran on this machine, and no process is it or supervises it.

    Args:
        worker: its name.
        processes: command lines of this machine's processes, by process id.
    """
    parts = _NAME.fullmatch(worker)
    if parts is None or parts["host"] != socket.gethostname():
        return False
    named = any(worker in command for command in processes.values())  # a supervised one has its name there
    return not named and not re.search("prelabel|celery|python", processes.get(int(parts["pid"]), ""))


def command_lines() -> dict[int, str]:
    """The command lines of this machine's processes, by process id; the name alone of one that hides its own."""
    lines = {}
    for process in psutil.process_iter(["cmdline", "name", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE:
            lines[process.pid] = " ".join(process.info["cmdline"] or [process.info["name"] or ""])
    return lines


def free_gone_holders(settings: Settings) -> int:
    """Free what those of this machine had leased or locked who are gone, and take them off the list of workers.

    Only for a Redis that this machine's workers alone use: in containers that share a host name, process ids mean
    nothing to each other.

    Returns:
        How many chunks; 0 where Redis does not answer, and leases run out by themselves.
    """
    try:
        with (
            broker_errors(settings),
            connect_redis(settings) as client,
            closing(Sender(settings)) as sender,
        ):
            processes, fleet = command_lines(), Fleet(client)
            ledger = Ledger(client, owner=new_worker_name(), lease_s=settings.lease_s, ttl_s=settings.job_ttl_s)
            for worker in fleet.workers():
                if is_gone(worker.name, processes):
                    fleet.sign_off(worker)
            fleet.free_sweeper(lambda holder: is_gone(holder, processes))
            free_locks(client, lambda holder: is_gone(holder, processes))
            with Client(settings) as producer:
                Projects(producer).free_locks(lambda holder: is_gone(holder, processes))
            freed = 0
            for name in filter(lambda name: is_gone(name, processes), fleet.holders()):
                for ref in ledger.free_owner(name, "it was gone when prelabel started again"):
                    queue = ledger.queue_of(ref.job_id)
                    if queue:
                        sender.score_chunk(ref.job_id, ref.chunk, queue)
                    freed += 1
            return freed
    except PrelabelError as error:
        log.warning("what workers had that are gone is given out again a little later: %s", error)
        return 0
