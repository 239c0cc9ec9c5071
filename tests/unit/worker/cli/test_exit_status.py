"""With which status commands about jobs end: 0 fine, 1 something failed, 2 something to fix (docs/cli.md)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from prelabel.integrations import Client
from prelabel.integrations.broker.connection import connect_redis
from prelabel.integrations.ledger.leases import ChunkRef, Ledger
from prelabel.integrations.ledger.pushes import Pushes
from prelabel.schemas import Answer, ItemFailure, Outcome, PushTarget, Settings, Taxonomy, Unanswered, get_settings
from prelabel.schemas.queues import QUEUE_BULK, queue_of
from prelabel.worker.cli import app

LABELS = ("--labels", "cat,dog")
TAXONOMY = Taxonomy.flat(["cat", "dog"])
MODEL = "m@12345678"
ANSWERED = Outcome(
    model_version=f"{MODEL}+tax.abcdef",
    vectors={"image": "00" * 16},
    answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),),
)
FAILED = Outcome(error=ItemFailure(kind="ItemError", message="no such file"))

Ending = Callable[[Client, Ledger, str], None]
"""What becomes of a job of two items in one chunk."""


def writing(*outcomes: Outcome) -> Ending:
    def end(_: Client, ledger: Ledger, job_id: str) -> None:
        lease = ledger.claim(ChunkRef(job_id, 0))
        ledger.complete(lease, list(enumerate(outcomes)), close=True)

    return end


def cancel(client: Client, _: Ledger, job_id: str) -> None:
    client.job(job_id).cancel()


ENDINGS: dict[str, Ending] = {
    "answered": writing(ANSWERED, ANSWERED),
    "failed in part": writing(ANSWERED, FAILED),
    "failed": writing(FAILED, FAILED),
    "cancelled": cancel,
}

OF_MODEL = queue_of(QUEUE_BULK, MODEL)
"""Where a job that is scored again from these answers goes."""


@pytest.fixture
def work(client: Client, settings: Settings) -> Iterator[Callable[[Ending], None]]:
    """Has the next job that is submitted end so, in a thread of a worker's."""
    threads: list[threading.Thread] = []

    def work_in_thread(ending: Ending) -> None:
        with connect_redis(settings) as redis:
            if redis.blpop([QUEUE_BULK, OF_MODEL], timeout=60) is None:
                return
            ledger = Ledger(redis, owner="a", lease_s=30, ttl_s=100)
            (job_id,) = ledger.active_jobs()
            ending(client, ledger, job_id)

    def begin(ending: Ending) -> None:
        threads.append(threading.Thread(target=work_in_thread, args=(ending,)))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("ending", "status"), [("answered", 0), ("failed in part", 1), ("failed", 1), ("cancelled", 1)]
)
@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["", "json"])
class TestWaiting:
    """Who waits for a job is told by the status how it ended, and by a line what to look at."""

    def check(self, done, status: int) -> None:
        assert done.exit_code == status, done.output
        assert ("prelabel status" in done.stderr) == bool(status), done.output

    @pytest.mark.parametrize("command", ["status", "results"])
    def test_a_job_that_is_there(self, client, ledger, run, command, ending, status, as_json) -> None:
        job = client.submit(["s3://b/1", "s3://b/2"], TAXONOMY)
        ENDINGS[ending](client, ledger("a"), job.id)
        self.check(run(command, job.id, "--wait", *as_json), status)
        assert run(command, job.id, *as_json).exit_code == 0, "without --wait it says how things are"

    def test_submit(self, run, work, ending, status, as_json) -> None:
        work(ENDINGS[ending])
        self.check(run("submit", "s3://b/1", "s3://b/2", *LABELS, "--wait", *as_json), status)

    def test_rescore(self, client, ledger, run, work, ending, status, as_json) -> None:
        source = client.submit(["s3://b/1", "s3://b/2"], TAXONOMY)
        writing(ANSWERED, ANSWERED)(client, ledger("a"), source.id)
        client.connection.redis.delete(QUEUE_BULK)
        work(ENDINGS[ending])
        self.check(run("rescore", source.id, *LABELS, "--wait", *as_json), status)


@pytest.mark.parametrize("command", ["status", "results"])
def test_what_the_platform_refused_has_failed_outside(client, ledger, run, command) -> None:
    push = PushTarget(project=7, label_config="<View/>")
    job = client.submit(["s3://b/1", "s3://b/2"], TAXONOMY, push=push)
    writing(ANSWERED, ANSWERED)(client, ledger("a"), job.id)
    Pushes(client.connection.redis, ttl_s=100).mark(job.id, pushed=[0], rejected=[(1, "task is gone")])
    done = run(command, job.id, "--wait")
    assert done.exit_code == 1
    assert "1 of 2 items refused" in done.stderr


def test_results_in_a_table_are_waited_for_to_the_end(client, ledger, run) -> None:
    job = client.submit([f"s3://b/{i}" for i in range(30)], TAXONOMY)
    writing(*[ANSWERED] * 29, FAILED)(client, ledger("a"), job.id)
    assert run("results", job.id, "--wait").exit_code == 1


def test_a_job_that_is_submitted_and_not_waited_for_is_fine(run) -> None:
    assert run("submit", "s3://b/1", *LABELS).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        *((command, "nope") for command in ("status", "results", "cancel", "retry")),
        ("status", "nope", "--wait"),
        ("results", "nope", "--wait"),
        ("rescore", "nope", *LABELS, "--wait"),
        ("submit", "s3://b/1", "--wait"),
        ("submit", "s3://b/1", "--labels", "a,a", "--wait"),
    ],
    ids=" ".join,
)
def test_what_is_for_the_user_to_fix_ends_with_2(client, run, arguments) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments", [("jobs",), ("status", "a"), ("results", "a"), ("submit", "s3://b/1", *LABELS)], ids=" ".join
)
def test_a_redis_that_is_away_ends_with_1(run, monkeypatch, arguments) -> None:
    monkeypatch.setenv("PRELABEL_REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    assert run(*arguments).exit_code == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("results", "nope", "-o", "x.xyz"), "the name must end in .jsonl, .csv, .parquet"),
        (("results", "nope", "-o", "/no/such/folder/x.csv"), "there is no folder /no/such/folder"),
        (("submit", "x.jpg"), "--labels cat,dog"),
        (("submit", "x.jpg", "--labels", "cat,cat"), "duplicate label: cat"),
        (("submit", "x.jpg", "--taxonomy", "/no/such/file.json"), "/no/such/file.json"),
        (("submit", "x.jpg", *LABELS, "--template", "no label"), "must contain {label}"),
        (("rescore", "nope", "--labels", ""), "at least one label"),
        (("score", "x.jpg"), "--labels cat,dog"),
        (("connect", "--project", "1"), "LABEL_STUDIO_URL is not set"),
        (("connect", "--project", "1", "--url", "http://127.0.0.1:1"), "LABEL_STUDIO_API_KEY is not set"),
        (("disconnect", "--project", "1"), "LABEL_STUDIO_URL is not set"),
        (("connect", "--project", "0"), "greater than or equal to 1"),
        (("disconnect", "--project", "-3"), "greater than or equal to 1"),
        (("doctor", "--project", "0"), "greater than or equal to 1"),
        (("demo", "--report", "/"), "the report cannot be written to /, which is a folder"),
        (("demo", "--report", "/no/such/folder/x.html"), "the report cannot be written to /no/such/folder/x.html"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_the_user_can_mend_is_said_before_a_server_is_asked(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.setenv("PRELABEL_REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    get_settings.cache_clear()
    assert (done.exit_code, message in done.output) == (2, True), done.output
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize(
    "arguments",
    [
        *(("status", "x"), ("results", "x"), ("cancel", "x"), ("retry", "x"), ("jobs",)),
        *(("submit", "x.jpg", *LABELS), ("rescore", "x", *LABELS), ("doctor",)),
    ],
    ids=" ".join,
)
def test_a_server_that_does_not_answer_is_a_failure_outside(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PRELABEL_REDIS_URL", "redis://127.0.0.1:1/0")
    get_settings.cache_clear()
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "300"})
    get_settings.cache_clear()
    assert (done.exit_code, "no Redis at redis://127.0.0.1:1/0" in done.output) == (1, True), done.output


@pytest.mark.parametrize("command", ["submit", "score"])
def test_a_current_folder_that_is_gone_is_said(
    run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = run(command, "x.jpg", *LABELS)
    assert (done.exit_code, "current folder" in done.output) == (2, True), done.output
    assert isinstance(done.exception, SystemExit)


CHECKPOINTS = {
    "a folder that is not there": ("/nonsense", {}, 2),
    "a folder that holds none": (".", {}, 2),
    "no name of any": ("no good name", {}, 2),
    "not there while the hub may not be asked": ("somebody/something", {}, 2),
    "a hub that is away": ("somebody/something", {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:1"}, 1),
}


@pytest.mark.parametrize(("model", "variables", "status"), CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_cannot_be_loaded_is_the_user_s_to_mend_and_a_hub_that_is_away_is_not(
    tmp_path: Path, model: str, variables: dict[str, str], status: int
) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "x.png")
    env = {"PRELABEL_MODEL": model, "HF_HOME": str(tmp_path), "HF_HUB_ETAG_TIMEOUT": "1", **variables}
    done = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "score", "x.png", *LABELS],
        env={**os.environ, **env},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr


def test_a_demo_without_a_place_for_its_pictures_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "demo"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        cwd=tmp_path,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),  # nothing can be written anywhere
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "set TMPDIR" in done.stderr
    assert not done.stdout


def test_what_was_answered_in_part_is_counted_at_the_end(client, ledger, run) -> None:
    job = client.submit(["s3://b/1", "s3://b/2"], TAXONOMY)
    partly = ANSWERED.model_copy(
        update={"unanswered": (Unanswered(kind="ItemError", message="gone", control="label", index=1),)}
    )
    writing(ANSWERED, partly)(client, ledger("a"), job.id)
    for options in ((), ("--json",), ("--wait",)):
        done = run("results", job.id, *options)
        assert "1 of 2 items were answered in part" in done.stderr
        assert "in part" not in done.stdout
        assert done.exit_code == 0, "what could be answered was"


def test_up_says_that_a_checkpoint_is_not_there_before_it_starts_anything(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prelabel.worker.cli", "up", "--port", "0", "--model", "/nonsense"],
        env={**os.environ, "PRELABEL_STATE_DIR": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (2, "error: PRELABEL_MODEL=/nonsense: no such directory\n")
    assert not (tmp_path / "state").exists()
