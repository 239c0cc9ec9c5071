"""The command line as a person uses it: real commands in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest

from prelabel.integrations import Client
from prelabel.schemas import Taxonomy
from prelabel.schemas.jobs import PushTarget
from prelabel.worker.demo.story import CHECKPOINT, Picture
from prelabel.worker.running.stack import Stack
from tests.conftest import eventually

COMMANDS = [
    *("score", "demo", "up", "worker", "serve", "doctor", "connect", "disconnect", "try"),
    *("submit", "jobs", "status", "cancel", "retry", "results", "rescore"),
]


def prelabel(*arguments: str, env: dict[str, str] | None = None, stdin: str = "", cwd: Path | None = None):
    return subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", *arguments],
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", **(env or {})},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        cwd=cwd,
    )


@pytest.fixture
def env(stack: Stack) -> dict[str, str]:
    return stack.settings.environment()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    done = prelabel(command, "--help")
    assert done.returncode == 0
    assert "Usage" in done.stdout
    assert len(done.stdout.splitlines()) > 6


def test_score_needs_no_server(pictures: list[Picture]) -> None:
    done = prelabel(
        "score", str(pictures[0].path), "--labels", "circle,ring", "--json",
        env={"PRELABEL_MODEL": str(CHECKPOINT), "PRELABEL_REDIS_URL": "redis://127.0.0.1:1/0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (prediction,) = json.loads(done.stdout)
    assert {score["path"][0] for score in prediction["answers"][0]["scores"]} == {"circle", "ring"}


def test_score_reports_a_bad_file_beside_the_good_ones_and_fails(pictures: list[Picture], tmp_path: Path) -> None:
    bad = tmp_path / "notes.jpg"
    bad.write_text("no image")
    done = prelabel(
        "score", str(bad), pictures[0].path.name, "--labels", "circle,ring",
        env={"PRELABEL_MODEL": str(CHECKPOINT)}, cwd=pictures[0].path.parent,
    )  # fmt: skip
    assert done.returncode == 1
    assert "not an image" in done.stdout
    assert pictures[0].path.name in done.stdout
    assert "Traceback" not in done.stderr


def test_a_file_name_that_is_no_utf8_is_scored_beside_the_others(pictures: list[Picture], tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    (tmp_path / name).write_bytes(pictures[0].path.read_bytes())
    done = prelabel(
        "score", str(pictures[0].path), name, "--labels", "circle,ring", "--json",
        env={"PRELABEL_MODEL": str(CHECKPOINT)}, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert second["item"]["images"][0]["uri"] == f"file:{tmp_path}/caf%E9.png"
    assert second["answers"] == first["answers"]


def test_a_job_from_submission_to_results(env, pictures: list[Picture], tmp_path: Path) -> None:
    paths = "\n".join(str(picture.path) for picture in pictures[:70]) + "\n/etc/passwd\n"
    submitted = prelabel(
        "submit", "-", "--labels", "circle,ring", "--name", "by hand", "--wait", "--json", env=env, stdin=paths
    )
    assert submitted.returncode == 1, submitted.stderr
    assert "1 of 71 items failed" in submitted.stderr
    job_id = json.loads(submitted.stdout)["job_id"]

    status = json.loads(prelabel("status", job_id, "--json", env=env).stdout)
    assert (status["state"], status["done"], status["failed"], status["pending"]) == ("done", 70, 1, 0)
    assert "PRELABEL_IMAGE_ROOTS" in prelabel("status", job_id, env=env).stdout

    listed = json.loads(prelabel("jobs", "--json", env=env).stdout)
    assert "by hand" in [job["name"] for job in listed["jobs"]]
    assert listed["workers"]
    assert "by hand" in prelabel("jobs", env=env).stdout

    out = tmp_path / "results.jsonl"
    assert prelabel("results", job_id, "-o", str(out), env=env).returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 71
    assert prelabel("retry", job_id, env=env).stdout == "1 items sent again\n"
    assert prelabel("cancel", job_id, env=env).returncode == 0


def test_what_was_answered_is_scored_again_by_its_job_and_by_its_project(
    env, live: Client, pictures: list[Picture]
) -> None:
    project = 4_000_000 + os.getpid()
    push = PushTarget(project=project, label_config="<View/>", hold=True)  # held: nothing is pushed
    taxonomy = Taxonomy.flat(["circle", "ring"])
    halves = [[str(picture.path) for picture in some] for some in (pictures[:3], pictures[2:5])]
    jobs = [live.submit(paths, taxonomy, push=push) for paths in halves]
    for job in jobs:
        job.wait(60)
    live.submit(["elsewhere.jpg"], taxonomy).wait(60)

    def again(source: str) -> list[str]:
        done = prelabel("rescore", source, "--labels", "red,blue", "--wait", "--json", env=env)
        told = json.loads(done.stdout)
        assert done.returncode == bool(told["failed"]), done.stderr
        found = list(live.job(told["job_id"]).results(10))
        assert len(found) == told["total"]
        if told["failed"]:  # vectors are stored a moment after the answer
            return []
        assert {score.label for one in found for score in one.scores} == {"red", "blue"}
        return sorted(one.item.id for one in found)

    eventually(lambda: again(jobs[0].id) == sorted(halves[0]))
    eventually(lambda: again(f"project:{project}") == sorted({*halves[0], *halves[1]}))
    for source, why in ((f"project:{project + 1}", "no answers"), ("0123456789ab", "no job")):
        refused = prelabel("rescore", source, "--labels", "red,blue", env=env)
        assert refused.returncode != 0
        assert why in refused.stderr
        assert "Traceback" not in refused.stderr


def test_a_label_config_and_a_tree_file_are_taken_as_taxonomies(env, pictures: list[Picture], tmp_path: Path) -> None:
    config = tmp_path / "config.xml"
    config.write_text(
        '<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="circle"/>'
        '<Choice value="ring"/></Choices></View>'
    )
    tree = tmp_path / "tree.json"
    tree.write_text('{"red": ["circle", "ring"], "blue": ["circle", "ring"]}')
    for file in (config, tree):
        done = prelabel("score", str(pictures[0].path), "--taxonomy", str(file), env=env)
        assert done.returncode == 0, done.stderr


def test_names_and_labels_that_look_like_markup_are_shown_as_they_are(env, pictures: list[Picture]) -> None:
    path = str(pictures[0].path)
    done = prelabel("submit", path, "--labels", "[/x],[red]y", "--name", "[/night]", "--wait", env=env)
    assert done.returncode == 0, done.stderr
    assert "[/night]" in prelabel("jobs", env=env).stdout
    scored = prelabel("score", path, "--labels", "[/x],[red]y", env=env)
    assert scored.returncode == 0, scored.stderr
    assert "[/x]" in scored.stdout
    assert "[red]y" in scored.stdout


def test_a_label_config_refuses_options_it_answers_itself(env, tmp_path: Path) -> None:
    config = tmp_path / "config.xml"
    config.write_text("<View/>")
    done = prelabel("submit", "a.jpg", "--taxonomy", str(config), "--multiple", env=env)
    assert done.returncode == 2
    assert "says itself" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "env_change", "says"),
    [
        (["jobs"], {"PRELABEL_REDIS_URL": "redis://:s3cret@127.0.0.1:1/0"}, "no Redis at redis://127.0.0.1:1/0"),
        (["status", "nope"], {}, "no job 'nope'"),
        (["submit", "a.jpg"], {}, "--labels cat,dog or --taxonomy FILE"),
        (["submit", "a.jpg", "--labels", "a,a"], {}, "duplicate label: a"),
        (["submit", "a.jpg", "--labels", ","], {}, "at least one label"),
        (["submit", "a.jpg", "--taxonomy", "/no/such.json"], {}, "cannot read /no/such.json"),
        (
            ["score", __file__, "--labels", "a"],
            {"PRELABEL_MODEL": "/no/such"},
            "PRELABEL_MODEL=/no/such: no such directory",
        ),
        (["worker"], {"PRELABEL_MODEL": "/no/such"}, "PRELABEL_MODEL=/no/such: no such directory"),
        (["up", "--port", "0"], {"PRELABEL_MODEL": "/no/such"}, "PRELABEL_MODEL=/no/such: no such directory"),
        (["jobs"], {"PRELABEL_PORT": "many"}, "setting port"),
        (["connect", "--project", "1"], {}, "LABEL_STUDIO_URL"),
    ],
)
def test_a_users_mistake_is_one_clear_line_without_a_traceback(
    env, arguments, env_change, says: str, tmp_path: Path
) -> None:
    changed = {**env, "PRELABEL_STATE_DIR": str(tmp_path), **env_change}
    if arguments[0] == "up":
        del changed["PRELABEL_REDIS_URL"]
    done = prelabel(*arguments, env=changed)
    assert done.returncode != 0
    shown = done.stderr + done.stdout
    assert says in shown.replace("\n", " ").replace("  ", " ")
    assert "Traceback" not in shown
    assert "s3cret" not in shown


def test_doctor_says_what_is_right_and_what_is_not(env) -> None:
    done = prelabel("doctor", "--load-model", "--json", env=env)
    found = {check["name"]: check["status"] for check in json.loads(done.stdout)}
    assert (done.returncode, found["redis"], found["worker"], found["model"]) == (0, "ok", "ok", "ok")
    down = prelabel("doctor", "--json", env={**env, "PRELABEL_REDIS_URL": "redis://127.0.0.1:1/0"})
    assert down.returncode == 1
    assert "prelabel up" in down.stdout


def test_up_runs_everything_and_ctrl_c_leaves_nothing_behind(tmp_path: Path, pictures: list[Picture]) -> None:
    log = (tmp_path / "up.log").open("w+")
    up = subprocess.Popen(
        [sys.executable, "-m", "prelabel.worker.cli", "up", "--port", "0"],
        env={
            **os.environ,
            "PRELABEL_STATE_DIR": str(tmp_path / "state"),
            "PRELABEL_MODEL": str(CHECKPOINT),
            "COLUMNS": "200",
        },
        stdout=log,
        stderr=subprocess.STDOUT,
        cwd=pictures[0].path.parent,
    )

    def shown() -> str:
        return (tmp_path / "up.log").read_text()

    deadline = time.monotonic() + 120
    while "Ctrl-C stops everything" not in shown():
        assert up.poll() is None, shown()
        assert time.monotonic() < deadline, shown()
        time.sleep(0.2)
    words = shown().split()
    redis_url = next(word for word in words if word.startswith("redis://"))
    adapter = next(word for word in words if word.startswith("http://"))
    assert httpx.get(f"{adapter}/health", trust_env=False).json()["status"] == "UP"
    ping = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "prelabel.worker.app", "inspect", "ping", "--timeout", "10"],
        env={**os.environ, "PRELABEL_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pong" in ping.stdout
    children = psutil.Process(up.pid).children(recursive=True)
    assert len(children) >= 4  # server, supervisor, worker, adapter
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 0
    assert "Traceback" not in shown()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert alive == []
    log.close()
