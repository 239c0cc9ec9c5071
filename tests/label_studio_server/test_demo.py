"""`prelabel demo --label-studio`, and what a labeler then sees in a browser."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PICTURES = Path(__file__).parents[2] / "docs" / "images"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Demo:
    """The running demo and what it printed."""

    process: subprocess.Popen[str]
    scratch: Path
    printed: str

    def told(self, pattern: str) -> str:
        match = re.search(pattern, self.printed)
        assert match, self.printed
        return match.group(1)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    scratch = tmp_path_factory.mktemp("scratch")
    process = subprocess.Popen(
        [sys.executable, "-m", "prelabel.worker.cli", "demo", "--label-studio"],
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    complaints: list[str] = []
    reader = threading.Thread(target=lambda: complaints.extend(process.stderr), daemon=True)
    reader.start()
    printed = ""
    for line in process.stdout:
        printed += line
        if "Ctrl-C stops everything" in line:
            break
    else:
        pytest.fail(f"the demo ended: {printed} {''.join(complaints)}")
    yield Demo(process, scratch, printed)
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait(60)
    reader.join(10)
    process.stdout.close()
    process.stderr.close()


@pytest.fixture(scope="module")
def page(demo: Demo) -> Iterator[Any]:
    """A page of a headless Chromium, logged in."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        message = "no Chromium on this machine: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.goto(demo.told(r"project +(\S+)"))
        page.fill("input[name=email]", demo.told(r"log in as +(\S+)"))
        page.fill("input[name=password]", demo.told(r"password +(\S+)"))
        page.click("button[type=submit]")
        page.wait_for_load_state()
        yield page
        browser.close()
