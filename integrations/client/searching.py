"""What a client finds among images that were scored before: by words, by a picture, by likeness."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...schemas.items import ImageRef
from ...schemas.search import NEAR_DUPLICATES, Duplicates, DuplicatesQuery, RankedText, SearchQuery
from .arguments import numbers_of, texts_of
from .connection import Connection
from .job import Job
from .search import DEFAULT_HITS, TIMEOUT_S, SearchResult, duplicates, filter_of, picture, rank, search


class Searching(ABC):
    """The half of a `Client` that searches."""

    connection: Connection

    @abstractmethod
    def job(self, job_id: str) -> Job:
        """A job by its id."""

    def search(
        self,
        where: Job | str | int,
        text: str | Sequence[str] | None = None,
        *,
        image: str | os.PathLike[str] | ImageRef | None = None,
        like: int | Sequence[int] | None = None,
        less: str | Sequence[str] = (),
        less_weight: float = 0.5,
        template: str | None = None,
        k: int = DEFAULT_HITS,
        label: str | Sequence[str] | None = None,
        labeled: bool | None = None,
        at_least: float | None = None,
        at_most: float | None = None,
        tasks: Iterable[int] | None = None,
        without: Iterable[int] = (),
        since: float | None = None,
        timeout: float = TIMEOUT_S,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> SearchResult:
        """Find images that were scored before, by their stored vectors: no image is read again.

        Give one of `text`, `image` and `like`.

        Args:
            where: number of a connected Label Studio project; or a job, or its id.
            text: what the image shows; several are phrasings of the same, whose mean is looked for.
            image: a picture it looks like: a file of this machine (4 MiB at most), a URL, or a reference.
            like: a task it looks like (of a job: an item's ordinal), or several, whose mean is looked for.
            less: what it does not look like, in words, beside `text`.
            less_weight: how much that counts; above 0, 2 at most.
            template: what a text is put into, at `{label}`; None is the model's own prompt.
            k: hits at most; 10,000 at most.
            label: only what this label was predicted for: its name, or names from the root down.
            labeled: only tasks with an annotation (True) or without one (False); for projects.
            at_least: only predictions of this confidence or more, 0..1.
            at_most: the same, or less.
            tasks: only these.
            without: none of these.
            since: only tasks made after this Unix second; for projects.
            timeout: seconds without a sign of life after which it is given up.
            on_progress: called with how many vectors were read, and of how many, while a first search is prepared.

        Returns:
            The hits, the best first; pages are asked for as they are read.

        Raises:
            ConfigError: an argument that cannot be used, no such project or job, or workers that cannot search.
            ItemError: the picture cannot be read.
            TransientError: no worker is running or answers, or Label Studio does not.
            BrokerUnavailable: see `submit`.
        """
        query = SearchQuery(
            **self._place(where),
            texts=texts_of(text, "text"),
            less=texts_of(less, "less"),
            less_weight=less_weight,
            template=template,
            image=None if image is None else picture(image),
            like=numbers_of(like, "like"),
            filter=filter_of(label, labeled, at_least, at_most, tasks, without, since),
        )
        return search(self.connection, query, k, timeout_s=timeout, on_progress=on_progress)

    def duplicates(
        self,
        where: Job | str | int,
        *,
        threshold: float = NEAR_DUPLICATES,
        count: int = 100,
        timeout: float = TIMEOUT_S,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Duplicates:
        """Images that are nearly the same, by their stored vectors: each with each, in time that grows as its square.

        Args:
            where: as for `search`.
            threshold: cosine from which two images are near duplicates; above 0, 1 at most.
            count: groups that are told, the largest ones; 1,000 at most.
            timeout: seconds without a sign of life after which it is given up.
            on_progress: called with how much is done, and of how much.

        Raises:
            PrelabelError: as `search`.
        """
        query = DuplicatesQuery(**self._place(where), threshold=threshold, count=count)
        return duplicates(self.connection, query, timeout_s=timeout, on_progress=on_progress)

    def _place(self, where: Job | str | int) -> dict[str, Any]:
        """A project, or a job that is there, as queries name it."""
        if isinstance(where, int) and not isinstance(where, bool):
            return {"project": where}
        job_id: Any = where.id if isinstance(where, Job) else where  # `job` refuses what is none
        return {"job": self.job(job_id).id}

    def rank(
        self,
        image: str | os.PathLike[str] | ImageRef,
        texts: Sequence[str],
        *,
        template: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> Sequence[RankedText]:
        """Texts by how well they fit a picture, the best first.

        Args:
            image: a file of this machine (4 MiB at most), a URL, or a reference.
            texts: what it may show; 10,000 at most.
            template: what each is put into, at `{label}`; None is the model's own prompt, "{label}" the text alone.
            timeout: seconds after which it is given up.

        Raises:
            PrelabelError: as `search`.
        """
        return rank(self.connection, picture(image), texts_of(texts, "texts"), template, timeout_s=timeout)
