"""The demo as a newcomer runs it: one command, real processes, a report to open."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest


@pytest.mark.slow
def test_the_demo_tells_its_story_and_leaves_nothing_but_its_report(tmp_path: Path) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "demo"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    for expected in ("single choice", "multiple choice", "two-level taxonomy", "google/siglip-base-patch16-512"):
        assert expected in done.stdout
    # There is no terminal for a progress bar: lines say how far it is.
    lines = done.stderr.splitlines()
    assert lines[0] == "drawing pictures"
    assert sum(line.startswith("single choice: which shape is it?: 140/140") for line in lines) == 1

    accuracy = {
        what: [float(number) for number in re.findall(r"([\d.]+)%", line)]
        for line in done.stdout.splitlines()
        for what in ("shape", "colour", "colour > shape", "F1 over shapes")
        if re.search(rf"│ {re.escape(what)} +│", line)
    }
    # 60 pictures of combinations the checkpoint was never trained on.
    assert accuracy["colour"][2] >= 95
    assert accuracy["shape"][2] >= 85
    assert accuracy["colour > shape"][2] >= 75
    assert accuracy["F1 over shapes"][0] >= 75

    report = (tmp_path / "demo-report.html").read_text()
    cards, _, searches = report.partition("<h2>search</h2>")
    assert cards.count("<img") == 140 + 60 + 140
    assert searches.count("<img") >= 2 * 6
    told = [float(share) for share in re.findall(r"<td>([\d.]+) %</td>", searches)]
    assert len(told) == 2
    assert told[0] >= 80, "by words"
    assert told[1] >= 40, "by likeness"
    assert f"{told[0]}%" in done.stdout
    assert not re.search(r"(src|href)=\"(?!data:)", report)  # self-contained
    assert "never trained on" in report
    # torch keeps a cache folder of its own there.
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor")] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM], ids=lambda number: number.name)
def test_jobs_beside_the_demo_shows_its_jobs_and_a_signal_ends_all_of_it(tmp_path: Path, number: int) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    env = {**os.environ, "NO_COLOR": "1", "TMPDIR": str(scratch), "PRELABEL_STATE_DIR": str(tmp_path / "state")}
    prelabel = [sys.executable, "-m", "prelabel.worker.cli"]
    demo = subprocess.Popen(
        [*prelabel, "demo"], cwd=tmp_path, env={**env, "COLUMNS": "160", "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    complaints: list[str] = []
    reader = threading.Thread(target=lambda: complaints.extend(demo.stderr), daemon=True)
    reader.start()
    printed = ""
    while not (told := re.search(r"Redis +(redis://127\.0\.0\.1:\d+/0)", printed)):
        line = demo.stdout.readline()
        assert line, complaints
        printed += line
    family = psutil.Process(demo.pid).children(recursive=True)
    demo.send_signal(signal.SIGSTOP)  # it may take less time than the command beside it
    beside = subprocess.run([*prelabel, "jobs"], env=env, capture_output=True, text=True, timeout=120)
    assert (beside.returncode, beside.stderr) == (0, f"Redis of `prelabel demo` on this machine: {told[1]}\n")
    assert "siglip-shapes" in beside.stdout, "its worker"
    demo.send_signal(number)
    demo.send_signal(signal.SIGCONT)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor")] == []
    assert list((tmp_path / "state" / "running").iterdir()) == []
