"""What `prelabel jobs` and `prelabel status` tell of a job, on a real Redis-compatible server."""

from __future__ import annotations

import io
import json
import re
import threading

import pytest
from rich.console import ColorSystem

from prelabel.integrations.ledger.fleet import Fleet
from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.integrations.ledger.pushes import Pushes
from prelabel.schemas import Answer, ItemFailure, Outcome, PushTarget, Taxonomy, WorkerInfo
from prelabel.worker.cli import following
from prelabel.worker.cli.console import err, out
from prelabel.worker.cli.following import follow
from prelabel.worker.model.colour import colour_card

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
KILLER = Outcome(error=ItemFailure(kind="Quarantined", message="it killed its worker 3 times (killed by SIGSEGV)"))


@pytest.fixture
def run(client, run):
    """Runs `prelabel …` beside a Redis that holds nothing, and returns what it printed."""

    def call(*arguments: str) -> str:
        result = run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    return call


def test_quarantined_items_are_shown_with_their_reason_and_sent_again(client, ledger, run) -> None:
    job = client.submit(["s3://b/good.jpg", "s3://b/killer.jpg"], TAXONOMY)
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, GOOD), (1, KILLER)], close=True)
    assert "1 (1 quarantined)" in run("jobs")
    status = run("status", job.id)
    assert "killed by SIGSEGV" in status
    assert f"prelabel retry {job.id}" in status
    assert "1 items sent again" in run("retry", job.id)
    assert "quarantined" not in run("jobs")


def test_a_job_that_ran_into_its_deadline_says_so(client, run) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, deadline_s=0.001)
    assert "its deadline passed" in run("status", job.id)


@pytest.fixture
def pushed_job(client, ledger):
    """A job of project 7: three answers are delivered, two refused for one reason and one for another."""
    push = PushTarget(project=7, label_config="<View/>")
    job = client.submit([f"s3://b/{i}.jpg" for i in range(6)], TAXONOMY, push=push)
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(ordinal, GOOD) for ordinal in range(6)], close=True)
    refused = [(3, "dropped: [unknown] choice"), (4, "task is gone"), (5, "dropped: [unknown] choice")]
    Pushes(client.connection.redis, ttl_s=100).mark(job.id, pushed=range(3), rejected=refused)
    return job


def test_what_the_platform_refused_is_shown_by_reason_with_examples_and_what_to_do(pushed_job, run) -> None:
    status = run("status", pushed_job.id)
    assert "refused by the platform: 3" in status
    (line,) = (line for line in status.splitlines() if "dropped: [unknown] choice" in line)
    assert "2" in line
    assert "s3://b/3.jpg, s3://b/5.jpg" in line
    assert "task is gone" in status
    assert "prelabel connect --project 7 --all" in status


def test_scripts_get_count_and_reasons_of_what_was_refused(pushed_job, run) -> None:
    told = json.loads(run("status", pushed_job.id, "--json"))
    assert (told["pushed"], told["refused"], told["push_problem"]) == (3, 3, "")
    assert told["refusals"] == [
        {"reason": "dropped: [unknown] choice", "count": 2, "examples": ["s3://b/3.jpg", "s3://b/5.jpg"]},
        {"reason": "task is gone", "count": 1, "examples": ["s3://b/4.jpg"]},
    ]


def test_the_list_of_jobs_counts_what_was_refused_where_something_was(client, pushed_job, run) -> None:
    client.submit(["s3://b/1.jpg"], TAXONOMY)
    shown = run("jobs")
    assert "refused" in shown
    (line,) = (line for line in shown.splitlines() if pushed_job.id in line)
    assert " 3 " in line
    assert sorted(job["refused"] for job in json.loads(run("jobs", "--json"))["jobs"]) == [0, 3]


def test_where_nothing_was_refused_nothing_is_said_of_it(client, run) -> None:
    job = client.submit(["s3://b/1.jpg"], TAXONOMY)
    assert "refused" not in run("jobs") + run("status", job.id)
    assert json.loads(run("status", job.id, "--json"))["refusals"] == []


def test_what_stands_in_the_way_of_pushes_is_told(client, pushed_job, run) -> None:
    Pushes(client.connection.redis, ttl_s=100).record_problem(pushed_job.id, "Label Studio refuses [the] API key")
    assert "not pushed at present: Label Studio refuses [the] API key" in run("status", pushed_job.id)
    assert json.loads(run("status", pushed_job.id, "--json"))["push_problem"] == "Label Studio refuses [the] API key"


FAILED = Outcome(error=ItemFailure(kind="ItemError", message="no such file"))


@pytest.fixture
def printed(monkeypatch):
    """What is printed on a terminal of so many columns, in colour."""

    def at(columns: int) -> io.StringIO:
        screen = io.StringIO()
        for console in (out, err):
            monkeypatch.setattr(console, "_width", columns)
            monkeypatch.setattr(console, "_color_system", ColorSystem.STANDARD)
            monkeypatch.setattr(console, "_force_terminal", True)
            monkeypatch.setattr(console, "_file", screen)
        return screen

    return at


RED, GREEN, YELLOW = "\x1b[31m", "\x1b[32m", "\x1b[33m"


@pytest.mark.parametrize(
    ("outcomes", "state"),
    [((GOOD, GOOD), f"{GREEN}done"), ((GOOD, FAILED), f"{YELLOW}done"), ((FAILED, FAILED), f"{RED}failed")],
    ids=["answered", "failed in part", "failed"],
)
def test_a_job_is_green_and_its_bar_full_only_when_nothing_failed(
    client, ledger, run, printed, outcomes, state
) -> None:
    job = client.submit(["s3://b/1.jpg", "s3://b/2.jpg"], TAXONOMY)
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), list(enumerate(outcomes)), close=True)
    screen = printed(200)
    for command in (("jobs",), ("status", job.id)):
        run(*command)
        assert state in screen.getvalue()
    follow(client.job(job.id))
    answered = sum(outcome is GOOD for outcome in outcomes)
    assert f"{answered}/2" in screen.getvalue()
    assert (f"{RED}{2 - answered} failed" in screen.getvalue()) == (answered < 2)


def test_tables_of_80_columns_cut_nothing_of_a_path(client, ledger, run, printed) -> None:
    path = "/data/" + "/".join(f"a-long-folder-name-{letter}" for letter in "abcdefg") + "/the-picture.jpg"
    job = client.submit([path, path + "x"], TAXONOMY, name="a name of many words and\u00a0" + "x" * 60)
    worker = ledger()
    worker.complete(worker.claim(ChunkRef(job.id, 0)), [(0, GOOD), (1, FAILED)], close=True)
    screen = printed(80)
    run("jobs")
    run("results", job.id)
    run("status", job.id)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    assert "\u2026" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    columns = [line.split("\u2502")[1].strip() for line in shown.splitlines() if line.count("\u2502") == 5]
    assert path in "".join(columns)


def test_who_has_no_terminal_is_told_how_a_job_comes_on(client, ledger, run, monkeypatch, capsys) -> None:
    monkeypatch.setattr(following, "_LINE_EVERY_S", 0.3)
    Fleet(client.connection.redis).beat(WorkerInfo(name="w", model="m@1", device="cpu", dtype="float32"))
    job = client.submit(["s3://b/1.jpg", "s3://b/2.jpg"], TAXONOMY)
    worker = ledger()
    lease = worker.claim(ChunkRef(job.id, 0))
    worker.complete(lease, [(0, GOOD)], close=False)
    finish = threading.Timer(1.5, lambda: worker.complete(lease, [(1, GOOD)], close=True))
    finish.start()
    follow(client.job(job.id), "pictures")
    finish.join()
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first.startswith("pictures: 1/2")
    assert last.startswith("pictures: 2/2")


def test_a_job_whose_model_nobody_serves_says_so_wherever_it_is_shown(client, run) -> None:
    Fleet(client.connection.redis).beat(
        WorkerInfo(name="w", model="other@1", device="cpu", dtype="float32", card=colour_card("other@1"))
    )
    job = client.submit(["s3://b/1.jpg"], TAXONOMY, model="org/name@main")
    plain = client.submit(["s3://b/1.jpg"], TAXONOMY)
    says = "no worker serves org/name@main (those running serve other@1): start one with PRELABEL_MODEL=org/name"
    assert f"waiting: {says}" in run("status", job.id)
    assert json.loads(run("status", job.id, "--json"))["waiting_for"] == says
    assert "waiting" not in run("status", plain.id)
    listed = run("jobs")
    assert f"waiting: {says} (job {job.id})" in listed
    assert "bulk:org/name@main 1" in listed
    job.cancel()
    assert "waiting" not in run("status", job.id)


def test_a_job_submitted_while_nobody_works_is_told_what_it_waits_for(client, run) -> None:
    assert "waiting: no worker is running: start one with" in run("submit", "s3://b/1.jpg", "--labels", "cat,dog")
