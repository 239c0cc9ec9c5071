"""Lock files: what one process of this machine holds, no other takes."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

_ASK_EVERY_S = 0.02


def lock_file(path: Path, wait_s: float = 0.0) -> FileLock:
    """The lock of a file, which is made where it is not there and stays. Held inside `with`.

    The kernel frees it with a process that dies, however it dies. On a file system that cannot do that it is refused:
    a file that only says "taken" would say so for ever.

    Args:
        path: the file; its folder must be there.
        wait_s: seconds to wait while another process holds it; negative is for as long as it takes.

    Returns:
        Of which `with` raises `filelock.Timeout`, an `OSError`, when it stays held for so long, and another `OSError`
        when the file cannot be locked at all.
    """
    return FileLock(path, timeout=wait_s, poll_interval=_ASK_EVERY_S, fallback_to_soft=False)
