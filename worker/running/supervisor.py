"""`prelabel worker`: a small parent that keeps one Celery worker alive.

It starts the worker as a child, frees its leases the moment it dies, and starts it again with backoff. A worker
that cannot start as it is set up (no such model) is not started again. The parent never loads the model.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from typing import IO, Any

from ...integrations.broker.celery import Sender
from ...integrations.broker.connection import connect_redis
from ...integrations.broker.errors import broker_errors
from ...integrations.ledger.leases import Ledger
from ...schemas.retrying import Backoff
from ...schemas.settings import Settings
from ..machine.children import EXIT_CONFIG, WORKER_NAME_VARIABLE, kill, new_worker_name, spawn
from ..machine.gpus import claimed_gpu

log = logging.getLogger(__name__)

_STABLE_S = 60.0
"""A child that ran this long counts as healthy: the next death starts the backoff anew."""

_BACKOFF = Backoff(base_s=0.5, cap_s=30.0)

_WAIT_POLICY = "OMP_WAIT_POLICY"
"""OpenMP's threads spin while they wait for each other, on the cores that decoding wants: on busy cores a forward pass
of a small model then took 5 to 20 times as long. A worker's sleep instead, unless told otherwise; waking them up costs
microseconds."""


class Supervisor:
    """Runs and restarts one worker child until told to stop.

    Args:
        settings: where Redis is, how long stopping may take.
        output: where the child's log goes; None is this process's stderr.
    """

    def __init__(self, settings: Settings, output: IO[bytes] | None = None) -> None:
        self._settings = settings
        self._output = output
        self._child: subprocess.Popen[bytes] | None = None
        self._stop = threading.Event()
        self._signals = 0
        self._variables: dict[str, str] = {}

    def run(self) -> int:
        """Supervise until SIGTERM or SIGINT (the second one kills). Returns the exit status.

        Raises:
            ConfigError: `claim_gpu` is set and there is no GPU to claim.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if not self._settings.claim_gpu:
            return self._supervise()
        with claimed_gpu(self._settings.state_dir / "gpus") as gpu:
            log.info("this worker owns GPU %d", gpu)
            self._variables["CUDA_VISIBLE_DEVICES"] = str(gpu)
            return self._supervise()

    def _supervise(self) -> int:
        deaths = 0
        while not self._stop.is_set():
            started = time.monotonic()
            status = self._run_child()
            if self._stop.is_set():
                return 0
            if status == EXIT_CONFIG:
                return EXIT_CONFIG
            if time.monotonic() - started > _STABLE_S:
                deaths = 0
            deaths += 1
            pause_s = _BACKOFF.longest_s(deaths)
            log.error("the worker ended (%s); starting it again in %.1f s", _describe(status), pause_s)
            self._stop.wait(pause_s)
        return 0

    def _run_child(self) -> int:
        name = new_worker_name()
        policy = os.environ.get(_WAIT_POLICY, "PASSIVE")
        variables = {**self._variables, WORKER_NAME_VARIABLE: name, _WAIT_POLICY: policy}
        child = spawn(worker_command(name), env=variables, output=self._output)
        self._child = child
        if self._stop.is_set():  # the signal came before there was a child to pass it on to
            child.terminate()
        status = child.wait()
        if status != 0:
            self._free_leases(name, _describe(status))
        return status

    def _free_leases(self, name: str, why: str) -> None:
        """What a dead child had leased goes back on its queue now, not when the leases run out."""
        try:
            with (
                broker_errors(self._settings),
                connect_redis(self._settings) as client,
                closing(Sender(self._settings)) as sender,
            ):
                ledger = Ledger(client, owner=name, lease_s=self._settings.lease_s, ttl_s=self._settings.job_ttl_s)
                for ref in ledger.free_owner(name, why):
                    queue = ledger.queue_of(ref.job_id)
                    if queue:
                        sender.score_chunk(ref.job_id, ref.chunk, queue)
        except Exception as error:  # the sweepers do it a little later
            log.warning("could not free the dead worker's leases: %s", error)

    def _on_signal(self, *_: Any) -> None:
        self._stop.set()
        self._signals += 1
        if self._child is None or self._child.poll() is not None:
            return
        if self._signals == 1:
            self._child.terminate()
        else:
            kill(self._child)


def worker_command(name: str) -> list[str]:
    """The Celery command line of one worker."""
    return [
        sys.executable,
        *("-m", "celery", "-A", "prelabel.worker.app", "--quiet", "worker"),
        *("--without-gossip", "--without-mingle", "--hostname", f"{name}@%h"),
    ]


def _describe(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
