"""A real Label Studio from PyPI in an environment of its own, for `prelabel demo --label-studio` and the tests.

Its dependencies (Django, an older numpy, …) must not meet ours, so it gets a virtual environment in the user's cache
folder. That takes minutes and a gigabyte once. Later uses find it there, and with it a database that is migrated
already. A file lock lets one process do the work while others wait; an install that was cut off is done again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import Timeout

from ....schemas.errors import ConfigError, TransientError
from ...machine.children import kill, spawn
from ...machine.files import lock_file

VERSION: Final = "1.23.2"
"""The release whose behaviour the adapter is written and tested against."""

_INSTALL_TIMEOUT_S = 1800.0
_PYTHON = f"py{sys.version_info.major}.{sys.version_info.minor}"


@dataclass(frozen=True)
class Installation:
    """Where it lies.

    Attributes:
        program: the `label-studio` command.
        seed: folder for the migrated database that new servers start from.
        lock: file to lock (`locked`) while `seed` is made.
    """

    program: Path
    seed: Path
    lock: Path


def cache_dir() -> Path:
    """Prelabel's folder in the user's cache (XDG_CACHE_HOME, default ~/.cache)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prelabel"


def install(tell: Callable[[str], None] = lambda _: None) -> Installation:
    """Install Label Studio `VERSION` where it is not there yet; wait for another process that is at it.

    Args:
        tell: told what is being done, in words, where it takes long.

    Raises:
        ConfigError: the environment cannot be made, or pip finds no such release for this Python.
        TransientError: the package index does not answer in time.
    """
    home = cache_dir() / f"label-studio-{VERSION}-{_PYTHON}"
    installation = Installation(program=home / "venv" / "bin" / "label-studio", seed=home / "seed", lock=home / "lock")
    complete = home / "complete"
    if complete.exists():
        return installation
    home.mkdir(parents=True, exist_ok=True)
    with locked(installation.lock, lambda: tell("waiting for another process that installs Label Studio")):
        if complete.exists():
            return installation
        shutil.rmtree(home / "venv", ignore_errors=True)  # what a killed process left
        shutil.rmtree(installation.seed, ignore_errors=True)
        tell(f"installing Label Studio {VERSION} into {home} (once; about 1 GB, a few minutes)")
        try:
            venv.create(home / "venv", with_pip=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigError(f"no virtual environment can be made in {home}: {error}") from None
        _pip_install(home / "venv", home / "install.log")
        complete.write_text(f"label-studio=={VERSION}\n")
    return installation


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file; the lock goes with the process, however it ends.

    Args:
        path: the file; made where it is not there.
        waiting: called once when another process holds it.
    """
    with ExitStack() as held:
        try:
            held.enter_context(lock_file(path))
        except Timeout:
            waiting()
            held.enter_context(lock_file(path, wait_s=-1))
        yield


def _pip_install(environment: Path, log_path: Path) -> None:
    command = [
        *(str(environment / "bin" / "python"), "-m", "pip", "install", "--disable-pip-version-check"),
        *("--no-input", f"label-studio=={VERSION}"),
    ]
    with log_path.open("wb") as log:
        child = spawn(command, output=log)  # dies with us: nobody else may install while it writes
        try:
            status = child.wait(_INSTALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise TransientError(
                f"pip did not get Label Studio within {_INSTALL_TIMEOUT_S:.0f} s: try again (log: {log_path})"
            ) from None
        finally:
            kill(child)
    if status:
        said = [line for line in log_path.read_text(errors="replace").splitlines() if line.startswith("ERROR")]
        raise ConfigError(
            f"pip cannot install label-studio=={VERSION}: {said[-1] if said else 'no reason given'} (log: {log_path})"
        )


if __name__ == "__main__":
    install(print)
