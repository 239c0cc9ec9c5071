"""The image vectors that were stored when a project's tasks were scored before: a new taxonomy needs no image."""

from __future__ import annotations

import hashlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from ....schemas import ConfigError, ImageRef, Item, Prediction
from ...ledger.sources import with_vectors

if TYPE_CHECKING:
    from ...client.client import Client
    from ...client.job import Job

log = logging.getLogger(__name__)


class StoredVectors:
    """By task, the keys of its images' vectors. Close it after use.

    Read from the jobs that were pushed to the project, once, when the first item asks, into a temporary file: a
    project may have any number of tasks.

    Args:
        client: whose jobs.
        project: their project.
        model: `schemas.model_id` the vectors must come from.
        more: asked before each job and each answer of it; False ends the reading, and what was found by then is known.
    """

    def __init__(self, client: Client, project: int, model: str, more: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._project = project
        self._model = model
        self._more = more
        self._keys: sqlite3.Connection | None = None

    def close(self) -> None:
        """Remove the file."""
        if self._keys is not None:
            self._keys.close()

    def add_to(self, item: Item) -> Item:
        """The item with the keys of its images' vectors, where they were scored before."""
        rows = self._opened().execute("SELECT shown, vector FROM keys WHERE task = ?", (item.id,))
        known: dict[bytes, str] = dict(rows)
        images = tuple(image.model_copy(update={"vector": known.get(_shown(image))}) for image in item.images)
        return item.model_copy(update={"images": images})

    def tasks(self) -> list[int]:
        """The tasks that have a stored vector, ascending."""
        rows = self._opened().execute("SELECT DISTINCT task FROM keys")
        return sorted(int(task) for (task,) in rows if task.isascii() and task.isdigit())

    def remember(self, predictions: Iterable[Prediction]) -> None:
        """Know the vectors of these, too, where none was known; failed ones have none."""
        with (keys := self._opened()):
            for prediction in predictions:
                if prediction.ok:
                    self._keep(keys, _images_of(with_vectors(prediction, self._model)))

    def _opened(self) -> sqlite3.Connection:
        if self._keys is None:
            # SQLite's temporary database: in memory while small, then a file. Any thread may collect us.
            self._keys = sqlite3.connect("", check_same_thread=False)
            self._read(self._keys)
        return self._keys

    def _read(self, keys: sqlite3.Connection) -> None:
        keys.execute("CREATE TABLE keys (task TEXT, shown BLOB, vector TEXT, PRIMARY KEY (task, shown)) WITHOUT ROWID")
        with keys:
            for job in self._client.project_jobs(self._project):  # the newest first, and it counts
                if not self._more():
                    return
                try:
                    self._keep(keys, self._images(job))
                except ConfigError as error:  # another release wrote it: its images are read again
                    log.info("stored vectors of job %s are not used: %s", job.id, error)

    def _images(self, job: Job) -> Iterator[tuple[Item, ImageRef]]:
        """The images of a job that have a stored vector, each with its item."""
        for item in job.answered_items(self._model):
            if not self._more():
                return
            yield from _images_of(item)

    @staticmethod
    def _keep(keys: sqlite3.Connection, images: Iterator[tuple[Item, ImageRef]]) -> None:
        rows = ((item.id, _shown(image), image.vector) for item, image in images)
        keys.executemany("INSERT OR IGNORE INTO keys VALUES (?, ?, ?)", rows)


def _images_of(item: Item) -> Iterator[tuple[Item, ImageRef]]:
    return ((item, image) for image in item.images if image.vector)


def _shown(image: ImageRef) -> bytes:
    """A digest of what an image shows, whatever is asked about it now: a task's data may have changed."""
    return hashlib.blake2b(f"{image.uri}\0{image.region}".encode(), digest_size=8).digest()
