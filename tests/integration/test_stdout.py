"""Standard output that cannot be written, is closed, or lacks letters: no traceback, and nothing scored is lost."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from prelabel.integrations import Client
from prelabel.worker.demo.story import CHECKPOINT, Picture

FULL = Path("/dev/full")
SCORE = ("score", "--labels", "circle,r\u00eand \U0001f600")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def run(*arguments: str, shell_redirect: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", f'"$@" {shell_redirect}', "bash", sys.executable, "-m", "prelabel.worker.cli", *arguments],
        env={**os.environ, "NO_COLOR": "1", "PRELABEL_MODEL": str(CHECKPOINT), **(env or {})},
        capture_output=True,
        encoding="utf-8",
        timeout=240,
    )


@needs_full
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["table", "json"])
def test_what_was_scored_is_kept_when_stdout_is_full(pictures: list[Picture], tmp_path: Path, form: tuple) -> None:
    done = run(*SCORE, *form, str(pictures[0].path), shell_redirect=">/dev/full", env={"TMPDIR": str(tmp_path)})
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    said = re.sub(r"\s+", " ", done.stderr)
    assert "error: standard output cannot be written: No space left on device; the results are in " in said
    (kept,) = tmp_path.glob("prelabel-*.jsonl")
    assert kept.name in said
    (prediction,) = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert len(prediction["answers"]) == 1


@needs_full
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-"])
def test_a_full_stderr_changes_no_result(live: Client, pictures: list[Picture], stderr: str) -> None:
    env = {"PRELABEL_REDIS_URL": live.connection.settings.redis_url.get_secret_value()}
    path = str(pictures[0].path)
    scored = run(*SCORE, "--json", path, shell_redirect=stderr)
    assert (scored.returncode, len(json.loads(scored.stdout))) == (0, 1)
    submitted = run("submit", path, "--labels", "circle,ring", "--wait", "--json", shell_redirect=stderr, env=env)
    assert (submitted.returncode, json.loads(submitted.stdout)["done"]) == (0, 1)
    job_id = json.loads(submitted.stdout)["job_id"]
    assert run("results", job_id, "--wait", shell_redirect=stderr, env=env).returncode == 0
    assert run("status", "nope", shell_redirect=stderr, env=env).returncode == 2, "nor a mistake's status"


@needs_full
@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("doctor",), ("doctor", "--json")])
def test_every_command_says_that_stdout_is_full(arguments: tuple[str, ...]) -> None:
    done = run(*arguments, shell_redirect=">/dev/full", env={"PRELABEL_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert done.returncode == 1
    assert "standard output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@needs_full
def test_a_job_whose_number_cannot_be_printed_is_named_where_it_can_be(live: Client, pictures: list[Picture]) -> None:
    env = {"PRELABEL_REDIS_URL": live.connection.settings.redis_url.get_secret_value()}
    for form in ((), ("--json",)):
        submitted = ("submit", "--labels", "circle,ring", *form, str(pictures[0].path))
        done = run(*submitted, shell_redirect=">/dev/full", env=env)
        assert done.returncode == 1
        newest = live.jobs(1)[0].job_id
        assert f"job {newest} goes on" in re.sub(r"\s+", " ", done.stderr)


def test_results_stay_json_in_a_narrow_encoding(live: Client, pictures: list[Picture]) -> None:
    job = live.submit([str(pictures[0].path)], ["circle", "r\u00eand \U0001f600"])
    list(job.results(timeout=60))
    env = {"PRELABEL_REDIS_URL": live.connection.settings.redis_url.get_secret_value()}
    done = run("results", job.id, "--json", shell_redirect="", env={**env, "PYTHONIOENCODING": "ascii"})
    (prediction,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert {score["path"][0] for score in prediction["answers"][0]["scores"]} == {"circle", "r\u00eand \U0001f600"}


def test_letters_the_encoding_lacks_are_escaped_and_json_stays_json(pictures: list[Picture]) -> None:
    env = {"PYTHONIOENCODING": "ascii"}
    table = run(*SCORE, str(pictures[0].path), shell_redirect="", env=env)
    assert table.returncode == 0, table.stderr
    assert table.stdout.isascii()
    document = run(*SCORE, "--json", str(pictures[0].path), shell_redirect="", env=env)
    (prediction,) = json.loads(document.stdout)
    assert {score["path"][0] for score in prediction["answers"][0]["scores"]} == {"circle", "r\u00eand \U0001f600"}


@pytest.mark.parametrize("redirect", [">&-", "2>&-", "| head -0"], ids=["closed", "stderr closed", "nobody reads"])
def test_a_stream_that_is_closed_ends_nothing_in_a_traceback(pictures: list[Picture], redirect: str) -> None:
    done = run(*SCORE, "--json", str(pictures[0].path), shell_redirect=redirect)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
