"""Files of this machine's state: folders that can be written, and locks that one process holds at a time."""

from __future__ import annotations

import tempfile
from pathlib import Path

from filelock import FileLock

from ...schemas.errors import ConfigError

_ASK_EVERY_S = 0.02


def make_state_folder(folder: Path) -> None:
    """Have a folder in the state folder, with those above it.

    Raises:
        ConfigError: it cannot be made, or nothing can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written ({error.strerror or error}): set PRELABEL_STATE_DIR to a folder that this "
            "user may write"
        ) from None


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
