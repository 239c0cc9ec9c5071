"""The demo as a newcomer runs it: one command, real processes, a report to open."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

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
    assert "140/140" in done.stderr  # the progress bar

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
    assert report.count("<img") == 140 + 60 + 140
    assert not re.search(r"(src|href)=\"(?!data:)", report)  # self-contained
    assert "never trained on" in report
    # torch keeps a cache folder of its own there.
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("torchinductor")] == []
