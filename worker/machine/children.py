"""Child processes: started in their own session, stopped for certain, never outliving a killed parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import IO, Final

EXIT_CONFIG: Final = 78
"""Exit status of a process that cannot start as it is set up (sysexits' EX_CONFIG): starting it again is no use."""

WORKER_NAME_VARIABLE: Final = "PRELABEL_WORKER_NAME"
"""Set for a worker by its supervising parent, which frees the leases of that name when the worker dies."""

EXIT_BROKEN: Final = 70
"""Exit status of a worker whose encoder broke (EX_SOFTWARE): a new process may work."""

_PR_SET_PDEATHSIG = 1
_LAST_CALL_S = 5.0


def new_worker_name() -> str:
    """A name no other process has or had."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"


def spawn(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    output: IO[bytes] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that a Ctrl-C in the terminal does not reach and, on Linux, that dies with this process.

    Args:
        command: program and arguments; no shell.
        env: variables on top of this process's.
        stdin: what the child reads, then end of file; None gives it nothing.
        output: where stdout and stderr go; None leaves them on this process's.
    """
    child = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=output,
        stderr=subprocess.STDOUT if output else None,
        start_new_session=True,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,
    )
    if stdin is not None and child.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(stdin)
            child.stdin.close()
    return child


def stop(child: subprocess.Popen[bytes], grace_s: float) -> int:
    """Stop a child: SIGTERM, after `grace_s` or a Ctrl-C a second one ("at once"), then SIGKILL to its group.

    Returns:
        Its exit status.
    """
    for patience in (grace_s, _LAST_CALL_S):
        if child.poll() is not None:
            break
        child.terminate()
        try:
            return child.wait(patience)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            continue
    kill(child)
    return child.wait()


def kill(child: subprocess.Popen[bytes]) -> None:
    """SIGKILL to the child and everything in its group. Does not wait, so a signal handler may call it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
