"""`prelabel demo --label-studio`, and what a labeler then sees in a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.browser import chromium, keep

CHECKED = """labels => {
  const checked = [...document.querySelectorAll('.ant-radio-input:checked')].map(one => one.name).sort()
  return JSON.stringify(checked) === JSON.stringify(labels)
}"""
"""Whether exactly these labels are selected."""


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
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.set_default_timeout(120_000)
        page.goto(demo.told(r"project +(\S+)"))
        page.fill("input[name=email]", demo.told(r"log in as +(\S+)"))
        page.fill("input[name=password]", demo.told(r"password +(\S+)"))
        page.click("button[type=submit]")
        page.wait_for_load_state()
        yield page


def test_the_data_manager_shows_our_score(demo: Demo, page: Any, tmp_path: Path) -> None:
    url = demo.told(r"project +(\S+)")
    page.goto(url)
    row = page.locator(".lsf-table-row").first
    row.wait_for()
    page.wait_for_function("document.querySelectorAll('.lsf-table-row img').length > 3")
    project = re.search(r"/projects/(\d+)/", url)
    assert project is not None
    server = url.partition("/projects/")[0]
    stored = page.request.get(f"{server}/api/predictions/?project={project.group(1)}").json()
    lowest = min(stored, key=lambda prediction: prediction["score"])
    cells = row.inner_text().split("\n")
    assert any(cell.startswith(f"{lowest['score']:.4f}"[:5]) for cell in cells), cells
    assert lowest["model_version"] in cells
    keep(page, "label-studio-data-manager.png", tmp_path)


def test_it_says_where_its_redis_is_and_why_its_first_pictures_are_doubtful(demo: Demo) -> None:
    assert demo.told(r"Redis +(redis://\S+)").startswith("redis://127.0.0.1:")
    assert demo.told(r"(the least sure first: the pictures the\s+model doubts most)")


def test_a_task_opens_with_the_predicted_choices_selected(demo: Demo, page: Any, tmp_path: Path) -> None:
    url = demo.told(r"project +(\S+)")
    server, _, rest = url.partition("/projects/")
    project = int(rest.partition("/")[0])
    stored = page.request.get(f"{server}/api/predictions/?project={project}").json()
    surest, unsurest = (choose(stored, key=lambda one: one["score"]) for choose in (max, min))
    for address, one in (
        (f"{url}&task={surest['task']}", surest),  # opened from the table
        (f"{server}/projects/{project}/data?labeling=1", unsurest),  # "Label All Tasks", in the table's order
    ):
        predicted = {choice for entry in one["result"] for choice in entry["value"]["choices"]}
        assert len(predicted) == 2, "a shape and a colour"
        page.goto(address)
        page.wait_for_function(CHECKED, arg=sorted(predicted))  # the editor draws itself more than once
        if one is surest:
            page.wait_for_timeout(3000)  # the picture is drawn
            keep(page, "label-studio-labeling.png", tmp_path)


def test_the_adapters_page_shows_the_project_and_its_last_pictures(demo: Demo, page: Any, tmp_path: Path) -> None:
    page.goto(demo.told(r"prelabel's page +(\S+)"))
    assert page.locator(".card", has_text="connected").count() == 1
    assert page.locator(".shot img").count() > 5
    keep(page, "page.png", tmp_path)


def test_control_c_stops_everything(demo: Demo) -> None:
    family = psutil.Process(demo.process.pid).children(recursive=True)
    assert {"label-studio", "valkey-server"} <= {Path(part).name for one in family for part in one.cmdline()[:2]}
    demo.process.send_signal(signal.SIGINT)
    demo.process.wait(90)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    left = [path.name for path in demo.scratch.iterdir() if not path.name.startswith(("torchinductor", "playwright"))]
    assert left == []
