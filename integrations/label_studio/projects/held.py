"""Which tasks the jobs of a project that are under way still have in hand: nobody needs to queue those again."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Self

from ....schemas import ConfigError, ModelVersion
from ...ledger.held import held_items, unfinished_items
from ...ledger.jobs import NoSuchJob
from ...ledger.pushes import is_pending

if TYPE_CHECKING:
    from ...client.client import Client


class HeldTasks:
    """The tasks that jobs have in hand, as they were when this was made. Close it after use, or use it with `with`.

    Made before Label Studio is asked which tasks lack a prediction: what was pushed before then is no more lacking, and
    what is pushed meanwhile is among these. What is queued twice all the same is stored once, since a push looks
    first. They lie in a temporary file: a job may have any number of tasks.

    Args:
        client: whose jobs, and whose Redis. Raises `BrokerUnavailable` as its methods do.
        job_ids: the jobs, see `Projects.working`.
        version: only those that answer with this model version; a job that another release wrote counts as one.
    """

    def __init__(self, client: Client, job_ids: Sequence[str], version: str) -> None:
        # SQLite's temporary database: in memory while small, then a file. Any thread may collect us.
        self._held = sqlite3.connect("", check_same_thread=False)
        self._held.execute("CREATE TABLE held (task TEXT PRIMARY KEY) WITHOUT ROWID")
        for job_id in job_ids:
            if _answers_with(client, job_id, version):
                self._read(client, job_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove the file."""
        self._held.close()

    def __contains__(self, task: object) -> bool:
        return self._held.execute("SELECT 1 FROM held WHERE task = ?", (str(task),)).fetchone() is not None

    def _read(self, client: Client, job_id: str) -> None:
        connection = client.connection
        try:
            ended = connection.patiently(partial(connection.store.state, job_id)).ended
        except NoSuchJob:
            return
        pushes = connection.patiently(partial(is_pending, connection.redis, job_id))
        pages = held_items(connection.redis, job_id, ended=ended, pushes=pushes)
        with self._held:
            for ids in _patient(client, pages):
                self._held.executemany("INSERT OR IGNORE INTO held VALUES (?)", [(one,) for one in ids])


def unfinished_tasks(client: Client, job_id: str) -> Iterator[int]:
    """Numbers of the tasks of a job that have no outcome; one may come twice. Raises `BrokerUnavailable`."""
    for ids in _patient(client, unfinished_items(client.connection.redis, job_id)):
        yield from (int(one) for one in ids if one.isdigit())


def _patient(client: Client, pages: Iterator[list[str]]) -> Iterator[list[str]]:
    """The pages, with Redis's errors told as the client tells them; they are not tried again."""
    while (page := client.connection.patiently(lambda: next(pages, None), wait_s=0)) is not None:
        yield page


def _answers_with(client: Client, job_id: str, version: str) -> bool:
    connection = client.connection
    try:
        spec = connection.patiently(partial(connection.store.spec, job_id))
    except NoSuchJob:
        return False
    except ConfigError:
        return True
    return spec.model is None or str(ModelVersion.of(spec.model, spec.controls)) == version
