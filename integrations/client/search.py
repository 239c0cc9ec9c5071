"""Asking workers to search a project or a job, and reading what they find page by page."""

from __future__ import annotations

import os
import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, overload

from ...schemas.errors import ConfigError, ItemError, PrelabelError, TransientError
from ...schemas.items import ImageRef
from ...schemas.search import (
    MOST_HITS,
    PAGE_HITS,
    Duplicates,
    DuplicatesQuery,
    Hit,
    MissingQuery,
    RankedText,
    RankQuery,
    SearchFilter,
    SearchPage,
    SearchQuery,
    SearchReply,
)
from ...schemas.wire import brief, kind_of
from ..ledger.searches import Searches, SearchRequest
from .arguments import count_of, numbers_of, seconds_of, texts_of

if TYPE_CHECKING:
    from .connection import Connection

DEFAULT_HITS: Final = 50
TIMEOUT_S: Final = 60.0
"""Seconds without a sign of life after which a search is given up."""

_LONGEST_S: Final = 86_400.0

_ADDRESS: Final = re.compile("(https?|s3|data):", re.IGNORECASE)

_KINDS: Final[dict[str, type[PrelabelError]]] = {
    kind.__name__: kind for kind in (ConfigError, ItemError, TransientError)
}

Progress = Callable[[int, int], object]
"""Called with how many vectors were read, and of how many, while a first search is prepared."""


class SearchResult(Sequence[Hit]):
    """What was found, the best first; pages are asked for as they are read.

    Args:
        first: the first page.
        ask: gets the page that begins at a place.
        count: hits at most.

    Attributes:
        model: `<model>@<revision8>` whose vectors were searched.
        searched: images that were looked at.
        missing: images without a stored vector.
        others: images whose vectors another model has made.
    """

    def __init__(self, first: SearchPage, ask: Callable[[int, int], SearchPage], count: int) -> None:
        self.model = first.model
        self.searched = first.searched
        self.missing = first.missing
        self.others = first.others
        self._ask = ask
        self._count = count
        self._hits = list(first.hits[:count])
        self._next = first.next
        self._notes = [first.note] if first.note else []

    @property
    def note(self) -> str:
        """What else is to be said, in words, of the pages read so far."""
        return "; ".join(dict.fromkeys(self._notes))

    def __iter__(self) -> Iterator[Hit]:
        at = 0
        while self._reaches(at):
            yield self._hits[at]
            at += 1

    def __len__(self) -> int:
        """How many hits there are; asks for the pages that are still to come."""
        while self._more():
            pass
        return len(self._hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[Hit]: ...

    def __getitem__(self, at: int | slice) -> Hit | Sequence[Hit]:
        """One hit, or some."""
        last = at.stop if isinstance(at, slice) else at
        if last is None or last < 0:
            len(self)
        else:
            self._reaches(last)
        return self._hits[at]

    def _reaches(self, at: int) -> bool:
        while len(self._hits) <= at:
            if not self._more():
                return False
        return True

    def _more(self) -> bool:
        """Ask for the next page; whether there was one."""
        if self._next is None or len(self._hits) >= self._count:
            return False
        page = self._ask(self._next, min(PAGE_HITS, self._count - len(self._hits)))
        self._hits += page.hits
        self._next = page.next
        self._notes += [page.note] if page.note else []
        return True


def picture(given: str | os.PathLike[str] | ImageRef) -> ImageRef:
    """The reference of a picture to search with; a file of this machine travels in it.

    Args:
        given: a path, a URL, or a reference.

    Raises:
        ConfigError: the file cannot be read, or is too large to travel.
    """
    if isinstance(given, ImageRef):
        return given
    if not isinstance(given, str | os.PathLike) or not given:
        raise ConfigError(f"the picture must be a path, a URL or an ImageRef, not {kind_of(given)}")
    text = os.fspath(given)
    if isinstance(text, str) and _ADDRESS.match(text):
        return ImageRef(uri=text)
    path = Path(os.fsdecode(text))
    try:
        return ImageRef.from_bytes(path.read_bytes())
    except (OSError, ValueError) as error:  # ValueError: no path at all, such as one with a zero byte
        why = getattr(error, "strerror", None) or "it is no path"
        raise ConfigError(f"the picture {brief(str(path))} cannot be read: {why}") from None


def filter_of(
    label: str | Sequence[str] | None,
    labeled: bool | None,
    at_least: float | None,
    at_most: float | None,
    tasks: Iterable[int] | None,
    without: Iterable[int],
    since: float | None,
) -> SearchFilter:
    """What a hit must be, from what callers of `Client.search` give."""
    return SearchFilter(
        label=None if label is None else texts_of(label, "label"),
        labeled=labeled,
        at_least=at_least,
        at_most=at_most,
        tasks=None if tasks is None else numbers_of(tasks, "tasks"),
        without=numbers_of(without, "without"),
        since=since,
    )


def search(
    connection: Connection, query: SearchQuery, count: int, *, timeout_s: float, on_progress: Progress | None
) -> SearchResult:
    """Search; see `Client.search`.

    Raises:
        ConfigError: as there.
        TransientError: as there.
    """
    if not 1 <= count_of(count, "k") <= MOST_HITS:
        raise ConfigError(f"a search gives 1 to {MOST_HITS:,} hits, not {count:,}: narrow it down with a filter")
    if on_progress is not None and not callable(on_progress):
        raise ConfigError(f"on_progress must be a function, not {kind_of(on_progress)}")
    queues = _queues(connection)
    best: tuple[SearchPage, str] | None = None
    first = query.model_copy(update={"count": min(count, PAGE_HITS)})
    for queue in queues:
        page = _page(connection, first, queue, timeout_s, on_progress)
        if best is None or page.searched > best[0].searched:
            best = page, queue
        if page.searched >= page.missing + page.others:
            break
    if best is None:
        raise _nobody(connection)
    page, queue = best

    def ask(after: int, hits: int) -> SearchPage:
        return _page(connection, query.model_copy(update={"after": after, "count": hits}), queue, timeout_s, None)

    return SearchResult(page, ask, count)


def _queues(connection: Connection) -> list[str]:
    """Where live workers answer searches, those of most workers first."""
    workers = connection.patiently(connection.store.workers)
    return [queue for queue, _ in Counter(worker.search for worker in workers if worker.search).most_common()]


def _nobody(connection: Connection) -> PrelabelError:
    if connection.patiently(connection.store.workers):
        return ConfigError(
            "none of the workers that are running can search: they store no vectors (PRELABEL_VECTOR_STORE=off, or a "
            "model without PRELABEL_REVISION), or are of an earlier release"
        )
    return TransientError(
        "no worker is running, and workers do the searching: start `prelabel worker`, or `prelabel up`"
    )


def _page(
    connection: Connection, query: SearchQuery, queue: str, timeout_s: float, on_progress: Progress | None
) -> SearchPage:
    reply = _asked(connection, queue, timeout_s, on_progress, query=query)
    if reply.page is None:
        raise _strange()
    return reply.page


def rank(
    connection: Connection, image: ImageRef, texts: tuple[str, ...], template: str | None, *, timeout_s: float
) -> tuple[RankedText, ...]:
    """Rank texts; see `Client.rank`."""
    query = RankQuery(image=image, texts=texts, template=template)
    for queue in _queues(connection):
        reply = _asked(connection, queue, timeout_s, None, rank=query)
        if reply.ranked is None:
            raise _strange()
        return reply.ranked
    raise _nobody(connection)


def duplicates(
    connection: Connection, query: DuplicatesQuery, *, timeout_s: float, on_progress: Progress | None
) -> Duplicates:
    """Find near duplicates; see `Client.duplicates`."""
    best: Duplicates | None = None
    for queue in _queues(connection):
        reply = _asked(connection, queue, timeout_s, on_progress, duplicates=query)
        if reply.duplicates is None:
            raise _strange()
        if best is None or reply.duplicates.searched > best.searched:
            best = reply.duplicates
        if best.searched >= best.missing:
            return best
    if best is None:
        raise _nobody(connection)
    return best


def without_vector(
    connection: Connection, project: int, *, timeout_s: float = TIMEOUT_S, on_progress: Progress | None = None
) -> set[int]:
    """Tasks of a project that no worker which can search has a vector of.

    Raises:
        ConfigError: as `Client.search`.
        TransientError: as there.
    """
    lost: list[set[int]] = []
    for queue in _queues(connection):
        reply = _asked(connection, queue, timeout_s, on_progress, missing=MissingQuery(project=project))
        if reply.missing is None:
            raise _strange()
        lost.append(set(reply.missing))
    if not lost:
        raise _nobody(connection)
    return set.intersection(*lost)


def _asked(
    connection: Connection, queue: str, timeout_s: float, on_progress: Progress | None, **question: Any
) -> SearchReply:
    """What a worker answers.

    Raises:
        PrelabelError: it does not, or says why it cannot.
    """
    wait_s = seconds_of(timeout_s)
    silent_s = _LONGEST_S if wait_s is None else wait_s
    searches = Searches(connection.redis)
    now = connection.patiently(searches.now)
    request = SearchRequest(id=uuid.uuid4().hex, until=now + silent_s, **question)
    connection.patiently(partial(connection.sender.search, request.to_json(), queue))
    answers = searches.answers(request.id, silent_s)
    while True:
        reply = connection.patiently(lambda: next(answers, None))
        if reply is None:
            raise TransientError(
                f"no worker answered the search within {silent_s:.0f} s: it is busy with another one, or has ended"
            )
        if reply.progress is None:
            break
        if on_progress:
            on_progress(*reply.progress)
    if reply.error:
        raise _KINDS.get(reply.error.kind, ConfigError)(reply.error.message)
    return reply


def _strange() -> ConfigError:
    return ConfigError("a worker answered another question: run the same prelabel release everywhere")
