"""Real worker processes, supervised or bare, each with a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from prelabel.schemas import Settings
from prelabel.worker.machine.children import WORKER_NAME_VARIABLE, kill, new_worker_name, spawn, stop
from prelabel.worker.running.supervisor import worker_command

HOOK = Path(__file__).parent / "hook"
_TIRED = 3
"""Deaths under one supervisor after which it waits long before it starts the next worker."""


class Worker:
    """One `prelabel worker`, or one bare `celery worker` where `supervised` is False.

    Attributes:
        process: the supervisor, or the bare worker itself.
        log: where both write.
        supervised: whether `prelabel worker` looks after it.
    """

    def __init__(self, settings: Settings, log: Path, switches: Path, *, supervised: bool = True) -> None:
        self._env = {**settings.environment(), "PYTHONPATH": str(HOOK), "FAULT_SWITCHES": str(switches)}
        self._patience_s = settings.grace_s + 10
        self.supervised = supervised
        self.log = log
        self.start()

    def start(self) -> None:
        """Start it. Returns at once."""
        self._name = new_worker_name()
        env, command = self._env, [sys.executable, "-m", "prelabel.worker.cli", "worker"]
        if not self.supervised:
            env, command = {**env, WORKER_NAME_VARIABLE: self._name}, worker_command(self._name)
        with self.log.open("ab") as output:
            self.process: subprocess.Popen[bytes] = spawn(command, env=env, output=output)
        self._log_start = self.log.stat().st_size

    def name(self) -> str | None:
        """The name it leases under; None while it has no process."""
        worker = self.worker()
        if worker is None:
            return None
        try:
            command = worker.cmdline()
            return command[command.index("--hostname") + 1].rpartition("@")[0]
        except (psutil.Error, ValueError, IndexError):
            return None

    def worker(self) -> psutil.Process | None:
        """The process that scores, if there is one at present."""
        if self.process.poll() is not None:
            return None
        with suppress(psutil.Error):
            process = psutil.Process(self.process.pid)
            found = process.children() if self.supervised else [process]
            if found and found[0].status() != psutil.STATUS_ZOMBIE:
                return found[0]
        return None

    def has(self, port: int) -> bool:
        """Whether this local port is one of its own."""
        worker = self.worker()
        return worker is not None and any(c.laddr and c.laddr.port == port for c in worker.net_connections("tcp"))

    def kill(self) -> None:
        """SIGKILL to the process that scores. A bare one is started again."""
        worker = self.worker()
        assert worker is not None
        worker.kill()
        if not self.supervised:
            self.process.wait()

    def kill_with_parent(self) -> None:
        """SIGKILL to supervisor and worker, as when their host dies. The worker is in a session of its own."""
        worker = self.worker()
        kill(self.process)
        with suppress(psutil.Error):
            if worker:
                os.killpg(worker.pid, signal.SIGKILL)
        self.process.wait()

    def freeze(self) -> None:
        """SIGSTOP to the process that scores."""
        worker = self.worker()
        assert worker is not None
        worker.suspend()

    def thaw(self) -> None:
        """SIGCONT."""
        worker = self.worker()
        if worker:
            worker.resume()

    @property
    def tired(self) -> bool:
        """Whether the next death would be followed by a long wait, or everything has ended."""
        if self.process.poll() is not None:
            return True
        with self.log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().count(b"starting it again in") >= _TIRED

    def stop(self) -> int:
        """SIGTERM, and what follows when that is not enough. Returns the exit status."""
        self.thaw()
        return stop(self.process, self._patience_s)
