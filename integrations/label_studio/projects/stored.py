"""The image vectors that were stored when a project's tasks were scored before: a new taxonomy needs no image."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from ....schemas import ConfigError, ImageRef, Item
from ...client.rescore import stored_items

if TYPE_CHECKING:
    from ...client.client import Client

log = logging.getLogger(__name__)


class StoredVectors:
    """By task, the keys of its images' vectors.

    Read from the jobs that were pushed to the project, once, when the first item asks.

    Args:
        client: whose jobs.
        project: their project.
        model: `schemas.model_id` the vectors must come from.
    """

    def __init__(self, client: Client, project: int, model: str) -> None:
        self._client = client
        self._project = project
        self._model = model
        self._keys: dict[str, dict[bytes, str]] | None = None

    def add_to(self, item: Item) -> Item:
        """The item with the keys of its images' vectors, where they were scored before."""
        if self._keys is None:
            self._keys = self._read()
        known = self._keys.get(item.id, {})
        images = tuple(image.model_copy(update={"vector": known.get(_shown(image))}) for image in item.images)
        return item.model_copy(update={"images": images})

    def _read(self) -> dict[str, dict[bytes, str]]:
        found: dict[str, dict[bytes, str]] = {}
        for job in self._client.project_jobs(self._project):
            try:
                for item in stored_items(job.results_so_far(), self._model):
                    if item.id not in found:
                        found[item.id] = {_shown(image): image.vector for image in item.images if image.vector}
            except ConfigError as error:  # another release wrote it: its images are read again
                log.info("stored vectors of job %s are not used: %s", job.id, error)
        return found


def _shown(image: ImageRef) -> bytes:
    """A digest of what an image shows, whatever is asked about it now: a task's data may have changed."""
    return hashlib.blake2b(f"{image.uri}\0{image.region}".encode(), digest_size=8).digest()
