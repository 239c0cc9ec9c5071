"""Every example runs as a person runs it: a process of its own against a real broker and a real worker."""

from __future__ import annotations

import ast
import csv
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SHAPES = "circle,cross,ring,square,star,triangle"

Run = Callable[..., list[str]]


@pytest.fixture
def run(stack: Stack) -> Run:
    """Runs an example; its lines."""

    def running(name: str, *arguments: str | Path, cwd: Path | None = None, status: int = 0) -> list[str]:
        done = subprocess.run(
            [sys.executable, EXAMPLES / f"{name}.py", *map(str, arguments)],
            env={**os.environ, **stack.settings.environment()},
            capture_output=True,
            text=True,
            timeout=120,
            cwd=cwd,
        )
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return (done.stdout + done.stderr).splitlines()

    return running


@pytest.fixture
def few(pictures: list[Picture]) -> list[Path]:
    return [picture.path for picture in pictures[:6]]


@pytest.fixture
def finished(stack: Stack, few: list[Path]) -> str:
    """The id of a job that has ended; one of its images is not there."""
    from prelabel.schemas import Taxonomy

    job = stack.client().submit([*map(str, few), str(few[0].parent / "gone.jpg")], Taxonomy.flat(["circle", "ring"]))
    job.wait(timeout=60)
    return job.id


def test_submit(run: Run, few: list[Path]) -> None:
    *lines, last = run("submit", SHAPES, *few, few[0].parent / "gone.jpg")
    assert last == "6 done, 1 failed"
    assert sum("failed: " in line and "no such file" in line for line in lines) == 1
    answered = re.compile(rf"\S+\.\w+ ({SHAPES.replace(',', '|')}) [01]\.\d\d")
    assert sum(bool(answered.fullmatch(line)) for line in lines) == 6


def test_evaluate(run: Run, few: list[Path], pictures_dir: Path) -> None:
    root = pictures_dir / "sorted"
    for label, path in zip(["red", "blue"] * 3, few, strict=True):
        (root / label).mkdir(parents=True, exist_ok=True)
        (root / label / path.name).write_bytes(path.read_bytes())
    *labels, accuracy = run("evaluate", "sorted", cwd=pictures_dir)
    counted = dict(line.split(": ") for line in labels)
    right = sum(int(counts.split()[0]) for counts in counted.values())
    assert {counts.split(" of ")[1] for counts in counted.values()} == {"3"}
    assert accuracy == f"accuracy {right / 6:.1%}, 0 failed"


def test_multiple(run: Run, few: list[Path]) -> None:
    lines = run("multiple", *few)
    assert sum("probability 0." in line or "probability 1." in line for line in lines) == 18
    assert sum(line.startswith(str(few[0].parent)) for line in lines) == 6


def test_tree(run: Run, few: list[Path]) -> None:
    lines = run("tree", *few)
    assert len(lines) == 6
    assert all(
        re.search(r" (undecided|empty|(red|blue)( > (circle|square|star))?) [01]\.\d\d$", line) for line in lines
    )


def test_label_config(run: Run, few: list[Path], tmp_path: Path) -> None:
    config = tmp_path / "config.xml"
    config.write_text(
        '<View><Image name="i" value="$image"/><Choices name="shape" toName="i"><Choice value="circle"/>'
        '<Choice value="ring"/></Choices><Choices name="mood" toName="i" model_skip="true"><Choice value="a"/>'
        "</Choices></View>"
    )
    first, *lines = run("label_config", config, *few)
    assert first == 'left to people: mood (model_skip="true")'
    assert len(lines) == 6
    assert all(" shape (('" in line for line in lines)


def test_rescore(run: Run, finished: str) -> None:
    *changed, last = run("rescore", finished, "star,square")
    assert re.fullmatch(r"6 scored again as job \w+", last)
    assert len(changed) == 6
    assert all(re.search(r": (circle|ring) is now (star|square)$", line) for line in changed)


def test_interactive(run: Run, few: list[Path]) -> None:
    (line,) = run("interactive", SHAPES, few[0])
    assert re.fullmatch(rf"({SHAPES.replace(',', '|')}) siglip-shapes@\w+\+tax\.\w{{6}}", line)


def test_export(run: Run, finished: str, tmp_path: Path) -> None:
    out = tmp_path / "results.csv"
    failed, written = run("export", finished, out)
    assert "gone.jpg ItemError" in failed
    assert written == "7 predictions written"
    with out.open() as file:
        assert len(list(csv.DictReader(file))) == 7


def test_stubborn(run: Run, few: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = run("stubborn", SHAPES, *few)
    assert re.fullmatch(r"\w{12} done", line)
    (line,) = run("stubborn", "a,a", *few, status=1)
    assert line == "fix this: duplicate label: a"


ELSEWHERE = {"convert_openclip": "tests/unit/worker/model/test_openclip_refused.py"}
"""Examples that need no queue, and where each is run."""


def test_every_example_is_short_and_has_its_test() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.py")} - set(ELSEWHERE)
    assert all(f"{name}.py" in (EXAMPLES.parent / where).read_text() for name, where in ELSEWHERE.items())
    assert {name.removeprefix("test_") for name in globals() if name.startswith("test_")} >= names
    for path in EXAMPLES.glob("*.py"):
        code = [line for line in path.read_text().splitlines() if line.strip()]
        assert 5 <= len(code) - 1 <= 20, path  # without the docstring
        assert f"python {path.name}" in (ast.get_docstring(ast.parse(path.read_text())) or "")
