"""Takes searches from the queue and sends their answers back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from redis import RedisError

from ...integrations.ledger.searches import Searches, SearchRequest
from ...schemas.errors import ConfigError, PrelabelError
from ...schemas.predictions import ItemFailure
from ...schemas.search import SearchReply
from .searcher import Searcher

log = logging.getLogger(__name__)

_TELL_S: Final = 1.0


class SearchDesk:
    """Answers requests. Thread-safe.

    Args:
        searcher: finds what is asked for.
        searches: where answers go.
        clock: seconds, monotonic.
    """

    def __init__(self, searcher: Searcher, searches: Searches, clock: Callable[[], float] = time.monotonic) -> None:
        self._searcher = searcher
        self._searches = searches
        self._clock = clock

    def answer(self, text: str) -> None:
        """Answer one request; one that nobody waits for any more is dropped.

        Args:
            text: JSON of a `SearchRequest`.

        Raises:
            RedisError: the answer cannot be sent.
        """
        try:
            request = SearchRequest.from_json(text)
        except ConfigError as error:  # nobody knows where its answer would go
            log.warning("a search cannot be read, run the same prelabel release everywhere: %s", error)
            return
        if self._searches.now() > request.until:
            return
        self._searches.answer(request.id, self._reply(request))

    def _reply(self, request: SearchRequest) -> SearchReply:
        told = self._clock()

        def tell(done: int, count: int) -> None:
            nonlocal told
            if self._clock() - told >= _TELL_S:
                told = self._clock()
                self._searches.answer(request.id, SearchReply(progress=(done, count)))

        try:
            if request.rank is not None:
                return SearchReply(ranked=self._searcher.rank(request.rank))
            if request.duplicates is not None:
                return SearchReply(duplicates=self._searcher.duplicates(request.duplicates, tell))
            if request.missing is not None:
                return SearchReply(missing=self._searcher.missing(request.missing.project, tell))
            if request.query is not None:
                return SearchReply(page=self._searcher.search(request.query, tell))
            raise ConfigError("the question is none of this release's: run the same prelabel release everywhere")
        except RedisError:
            raise
        except PrelabelError as error:
            kind = next(name for name in map(_name, type(error).__mro__) if name in _KINDS)
            return SearchReply(error=ItemFailure(kind=kind, message=str(error)))
        except Exception as error:
            log.exception("a search failed")
            message = f"the search failed in the worker ({type(error).__name__}): its log says more"
            return SearchReply(error=ItemFailure(kind="TransientError", message=message))


_KINDS: Final = ("ConfigError", "ItemError", "TransientError", "PrelabelError")
"""What the asker tells apart."""


def _name(kind: type) -> str:
    return kind.__name__
