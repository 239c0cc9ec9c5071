"""`prelabel try` as a person runs it, against a real Label Studio and a real worker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from prelabel.integrations import Client
from prelabel.worker.demo.shapes import SHAPES
from prelabel.worker.demo.story import Picture
from prelabel.worker.running.stack import Stack
from tests.label_studio_server.site import SHAPES_CONFIG, LabelStudio, inline, pre_labelled_project, prelabel

SOME_SHAPES = SHAPES_CONFIG.replace(f'<Choice value="{SHAPES[0]}"/>', "")

Run = Callable[..., CompletedProcess[str]]


@pytest.fixture
def run(backend: Stack) -> Run:
    """Runs `prelabel try` in a terminal's 80 columns."""

    def command(*arguments: object, stdin: str = "", **variables: str) -> CompletedProcess[str]:
        return prelabel(backend, "try", *arguments, stdin=stdin, **variables)

    return command


@pytest.fixture(scope="module")
def project(label_studio: LabelStudio, backend: Stack, pictures: list[Picture]) -> int:
    """A connected project of twelve single figures, all pre-labelled."""
    return pre_labelled_project(label_studio, backend, pictures, "figures [of] all kinds")


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """A label config with one shape fewer."""
    path = tmp_path / "new.xml"
    path.write_text(SOME_SHAPES)
    return path


def test_what_would_change_is_shown_side_by_side_and_nothing_is_saved(
    run: Run, label_studio: LabelStudio, project: int, new: Path
) -> None:
    before = label_studio.predictions(project=project)
    lost = sorted(one["task"] for one in before if one["result"][0]["value"]["choices"] == [SHAPES[0]])
    done = run("--project", project, "--config", new, "-n", 12)
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    said = " ".join(done.stdout.split())
    assert f"project {project} (figures [of] all kinds): 12 of 12 tasks" in said
    assert f"{len(lost)} of 12 tasks would change" in said
    rows = [line.split() for line in done.stdout.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    assert [int(row[0]) for row in rows if "shape" in row] == lost
    assert "nothing was pushed or saved" in said
    assert label_studio.predictions(project=project) == before
    assert label_studio.project(project)["label_config"] == SHAPES_CONFIG

    everything = run("--project", project, "--config", "-", "-n", 12, "--json", stdin=SOME_SHAPES)
    assert everything.returncode == 0, everything.stderr
    found = json.loads(everything.stdout)
    assert (found["tasks_tried"], found["tasks_changed"], found["tasks_read"]) == (12, len(lost), 0)
    assert [one["task"] for one in found["tasks"] if one["changed"]] == lost
    assert found["controls"][0]["lost"] == {SHAPES[0]: len(lost)}


def test_what_is_wrong_is_one_line_with_the_fix(
    run: Run, client: Client, project: int, new: Path, tmp_path: Path
) -> None:
    def line(*arguments: object, status: int, **options: str) -> str:
        done = run(*arguments, **options)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        (said,) = (one for one in done.stderr.splitlines() if one.startswith("error:"))
        return said

    here = ("--project", project, "--config", new)
    assert "cannot read" in line("--project", project, "--config", tmp_path / "gone.xml", status=2)
    assert "is empty" in line("--project", project, "--config", "-", status=2)
    assert "no project 99999999" in line("--project", 99999999, "--config", new, status=2)
    assert "cannot be pre-labelled" in line("--project", project, "--config", "-", status=2, stdin="<View/>")
    assert "1 to 1,000 tasks" in line(*here, "-n", 5000, status=2)
    assert "LABEL_STUDIO_API_KEY" in line(*here, status=2, LABEL_STUDIO_API_KEY="")
    assert "add --yes" in line("--project", project, "--config", "-", "--save", status=2, stdin=SOME_SHAPES)
    # As if no worker served the model: these settings name another revision of it.
    assert "no worker serves" in line(*here, status=1, PRELABEL_REVISION="0123456789")
    assert "no Redis" in line(*here, status=1, PRELABEL_REDIS_URL="redis://:s3cret@127.0.0.1:1/0")
    assert "s3cret" not in line(*here, status=1, PRELABEL_REDIS_URL="redis://:s3cret@127.0.0.1:1/0")


def test_the_same_questions_change_nothing(run: Run, project: int, tmp_path: Path) -> None:
    same = tmp_path / "same.xml"
    same.write_text(SHAPES_CONFIG.replace("<Choices ", '<Choices showInLine="true" '))
    done = run("--project", project, "--config", same)
    assert done.returncode == 0, done.stderr
    assert "nothing would change" in done.stdout


def test_it_is_saved_after_a_yes_and_only_then(
    run: Run, label_studio: LabelStudio, backend: Stack, pictures: list[Picture], new: Path
) -> None:
    project = label_studio.make_project()
    label_studio.import_tasks(project, [{"image": inline(pictures[0].path)}])
    save = ("--project", project, "--config", new, "--save")
    refused = run(*save, stdin="n\n")
    assert refused.returncode == 0, refused.stderr
    assert "nothing is saved" in refused.stderr
    silent = run(*save)
    assert silent.returncode == 2
    assert "nobody answered" in silent.stderr
    assert label_studio.project(project)["label_config"] == SHAPES_CONFIG
    done = run(*save, stdin="y\n")
    assert done.returncode == 0, done.stderr
    assert f"prelabel connect --project {project} --all" in done.stderr
    assert label_studio.project(project)["label_config"] == SOME_SHAPES
    back = run("--project", project, "--config", "-", "--save", "--yes", stdin=SHAPES_CONFIG)
    assert back.returncode == 0, back.stderr
    assert label_studio.project(project)["label_config"] == SHAPES_CONFIG
