"""`prelabel score`: what it says of files that are not there, and when."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from prelabel.schemas import get_settings
from prelabel.worker.cli import app
from prelabel.worker.cli.console import err, out
from prelabel.worker.demo.story import CHECKPOINT
from prelabel.worker.model import registry


class Loaded(Exception):
    """The model is being loaded."""


@pytest.fixture
def run(monkeypatch, tmp_path: Path):
    """Runs `prelabel score …` in a folder of its own."""
    monkeypatch.setenv("PRELABEL_MODEL", str(CHECKPOINT))
    monkeypatch.chdir(tmp_path)
    get_settings.cache_clear()
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 200)
    yield lambda *arguments: CliRunner().invoke(app, ["score", *arguments, "--labels", "circle,ring"])
    get_settings.cache_clear()


@pytest.fixture
def no_model(monkeypatch) -> None:
    """Loading the model is a failure of the test."""

    def load(*_: object) -> None:
        raise Loaded

    monkeypatch.setattr(registry, "load_encoder", load)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "red.png")
    return "red.png"


@pytest.mark.parametrize(
    "reference", ["nofile.jpg", "no/such/folder/*.jpg", "file:///no/such.jpg", "~/nofile.jpg", "."]
)
def test_files_that_are_not_there_are_said_before_the_model_is_loaded(run, no_model, reference: str) -> None:
    done = run(reference, "another.jpg")
    assert done.exit_code == 1, done.output
    first, second = done.stderr.splitlines()
    assert "no such file" in first or "not a regular file" in first
    assert "another.jpg: no such file" in second
    assert done.stdout == ""


def test_scripts_get_an_entry_for_each_file_that_is_not_there(run, no_model) -> None:
    done = run("nofile.jpg", "another.jpg", "--json")
    assert done.exit_code == 1
    assert [(entry["ordinal"], entry["error"]["kind"]) for entry in json.loads(done.stdout)] == [
        (0, "ItemError"),
        (1, "ItemError"),
    ]


def test_what_is_elsewhere_is_not_asked_for_beforehand(run, no_model) -> None:
    assert isinstance(run("nofile.jpg", "https://images.invalid/a.jpg").exception, Loaded)


def test_files_beside_one_that_is_not_there_are_scored(run, picture: str) -> None:
    done = run("nofile.jpg", picture, "--json")
    assert done.exit_code == 1
    missing, scored = json.loads(done.stdout)
    assert (missing["ordinal"], "no such file" in missing["error"]["message"]) == (0, True)
    assert (scored["ordinal"], len(scored["answers"])) == (1, 1)


def test_an_error_is_not_shown_as_an_answer(run, picture: str) -> None:
    shown = run("nofile.jpg", picture).stdout
    assert "ItemError" not in shown
    (line,) = (line for line in shown.splitlines() if "nofile.jpg" in line)
    assert "failed" in line
    assert "no such file" in line


def test_torch_is_not_imported_to_say_so(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PRELABEL_MODEL", str(CHECKPOINT))
    program = (
        "import sys\nfrom prelabel.worker.cli import main\n"
        "sys.argv = ['prelabel', 'score', 'nofile.jpg', '--labels', 'a,b']\n"
        "try:\n    main()\nfinally:\n    print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "False\n", done.stderr
