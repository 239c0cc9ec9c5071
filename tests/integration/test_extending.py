"""The code of docs/extending.md, which shows the marked parts of this file, and what it must do."""

from __future__ import annotations

# --8<-- [start:platform]
import os
import sqlite3
from contextlib import closing

from prelabel.integrations.platforms import PushReport
from prelabel.schemas import TransientError


class TablePlatform:
    """Keeps one answer an item and version in an SQLite table, so that pushing twice changes nothing."""

    def __init__(self, path: str) -> None:
        self._path = path

    def push(self, target, predictions, *, check_existing=False, who=""):
        rows = [(target.project, one.item.id, one.model_version, one.label) for one in predictions]
        try:
            with closing(sqlite3.connect(self._path)) as database, database:
                database.execute(
                    "CREATE TABLE IF NOT EXISTS answers (project, item, version, label, "
                    "PRIMARY KEY (project, item, version))"
                )
                database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:  # locked, or its disk is full
            raise TransientError(f"{self._path} takes no answers for now: {error}") from None
        return PushReport(pushed=tuple(one.ordinal for one in predictions))


def table(settings, redis):
    return TablePlatform(os.environ["ANSWERS"])


# --8<-- [end:platform]

from pathlib import Path

import pytest

from prelabel.schemas import PushTarget, Taxonomy
from prelabel.worker.running.stack import local_stack
from tests.conftest import eventually
from tests.packages import Site, announced_in_docs, marked

GROUP = "prelabel.platforms"


@pytest.fixture
def answers(tmp_path: Path, monkeypatch) -> Path:
    """Where the table of the package shown is; it is installed for whatever is started from here."""
    folder, answers = tmp_path / "site", tmp_path / "answers.db"
    folder.mkdir()
    Site(folder).install("my_package", marked(Path(__file__), "platform"), GROUP, *announced_in_docs(GROUP))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("ANSWERS", str(answers))
    return answers


def test_a_platform_of_another_package_gets_every_answer_of_a_job(answers: Path, stack, photo, tmp_path) -> None:
    settings = stack.settings.model_copy(update={"port": 0})
    with local_stack(settings, tmp_path / "stack", adapter=False, embedded=True, broker_port=0) as mine:
        mine.wait_until_ready(timeout_s=120)
        with mine.client() as client:
            push = PushTarget(platform="table", project=7)
            job = client.submit([str(photo)], Taxonomy.flat(["circle", "ring"]), push=push)
            (prediction,) = job.results(timeout=60)
            assert eventually(lambda: job.progress().pushed == 1)
    with closing(sqlite3.connect(answers)) as database:
        rows = database.execute("SELECT * FROM answers").fetchall()
    assert rows == [(7, str(photo), prediction.model_version, prediction.label)]
