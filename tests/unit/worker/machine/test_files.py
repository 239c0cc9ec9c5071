"""A lock file is one process's as long as that lives, and no longer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import Timeout

from prelabel.schemas import ConfigError
from prelabel.worker.machine.files import lock_file, make_state_folder

HOLD = (
    "import sys, pathlib; from prelabel.worker.machine.files import lock_file\n"
    "with lock_file(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the file until it is told to end, or is killed."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_state_folder_that_cannot_be_written_is_named_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/logs cannot be written \(Not a directory\): set PRELABEL_STATE_DIR"):
        make_state_folder(tmp_path / "file" / "logs")
    make_state_folder(tmp_path / "new" / "logs")
    assert list((tmp_path / "new" / "logs").iterdir()) == []


def test_nobody_else_gets_it(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    for wait_s in (0.0, 0.05):
        with pytest.raises(Timeout), lock_file(tmp_path / "lock", wait_s):
            pass


def test_it_goes_with_a_process_that_is_killed(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    with pytest.raises(Timeout), lock_file(tmp_path / "lock"):
        pass
    holder.kill()
    holder.wait()
    with lock_file(tmp_path / "lock"):
        pass


def test_who_waits_gets_it_when_it_is_let_go(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    assert holder.stdin is not None
    holder.stdin.close()
    with lock_file(tmp_path / "lock", wait_s=-1):
        assert holder.wait() == 0


def test_the_file_stays_and_what_is_in_it_too(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("a note")
    with lock_file(tmp_path / "lock"):
        pass
    assert (tmp_path / "lock").read_text() == "a note"
