"""What `prelabel jobs` and `prelabel status` tell of a job, on a real Redis-compatible server."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from prelabel.integrations.ledger.leases import ChunkRef
from prelabel.schemas import Answer, ItemFailure, Outcome, Taxonomy, get_settings
from prelabel.worker.cli import app
from prelabel.worker.cli.console import err, out

TAXONOMY = Taxonomy.flat(["cat", "dog"])
GOOD = Outcome(model_version="m", answers=(Answer(control="label", rule="softmax", paths=(("cat",),), confidence=0.9),))
KILLER = Outcome(error=ItemFailure(kind="Quarantined", message="it killed its worker 3 times (killed by SIGSEGV)"))


@pytest.fixture
def run(client, broker_url, monkeypatch):
    """Runs `prelabel …` and returns what it printed."""
    monkeypatch.setenv("PRELABEL_REDIS_URL", broker_url)
    get_settings.cache_clear()
    for console in (out, err):
        monkeypatch.setattr(console, "_width", 200)

    def call(*arguments: str) -> str:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
        return result.output

    yield call
    get_settings.cache_clear()


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
