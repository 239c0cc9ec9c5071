"""Fetching: from an image reference to bytes, whatever store it is in."""

from __future__ import annotations

import threading

from ...schemas.errors import ItemError, TransientError
from ...schemas.items import ImageRef
from ...schemas.retrying import Backoff
from ...schemas.settings import Settings
from .deadline import Deadline
from .files import FileReader
from .inline import InlineReader
from .reader import Fetched, IsKnown, Reader, no_content
from .readers import Readers, scheme_of
from .s3 import S3Reader
from .web import Authorize, Refused, WebReader

_BACKOFF = Backoff(base_s=0.25, cap_s=8.0)


class Fetcher:
    """Fetches images within the settings' limits on place, size and time. Usable from many threads.

    Args:
        settings: limits, roots, allowed hosts, and the Label Studio origin.
        authorize: gives the headers that identify us to Label Studio for a URL; asked for those of exactly the origin
            of `settings.label_studio_url`, and never sent anywhere else.
        refused: told the headers that Label Studio does not take; says whether `authorize` has others by now.

    Raises:
        ConfigError: a setting about fetching cannot be used.
    """

    def __init__(self, settings: Settings, authorize: Authorize | None = None, refused: Refused | None = None) -> None:
        self._attempts = settings.fetch_attempts
        self._timeout_s = settings.fetch_timeout_s
        self._closed = threading.Event()
        web, files = WebReader(settings, authorize, refused), FileReader(settings)
        ours: dict[str, Reader] = {
            "": files,
            "file": files,
            "http": web,
            "https": web,
            "s3": S3Reader(settings),
            "data": InlineReader(settings),
        }
        self._readers = Readers(settings, ours)

    def read(self, ref: ImageRef) -> bytes:
        """The encoded image. Raises what `fetch` does."""
        content = self.fetch(ref, lambda _: False).content
        if content is None:
            raise ItemError(f"{ref.display}: {no_content()}")
        return content

    def fetch(self, ref: ImageRef, is_known: IsKnown) -> Fetched:
        """The encoded image and its store's mark for it; the mark alone where that is known.

        Passing trouble is tried again up to `fetch_attempts` times within `fetch_timeout_s`, after a random part of
        a doubling delay, or after what the server's Retry-After asks when that still fits.

        Raises:
            ItemError: this reference can never be fetched.
            TransientError: the store did not deliver in the tries and the time there are; says how long it asked to
                be left alone for.
            ConfigError: the package that reads such references is broken.
        """
        reader = self._reader(ref)
        deadline = Deadline(self._timeout_s)
        attempt = 1
        wait_s = 0.0
        while not self._closed.wait(wait_s):
            try:
                return reader.read(ref.uri, deadline, is_known)
            except ItemError as error:
                raise ItemError(f"{ref.display}: {error}") from None
            except TransientError as error:
                wait_s = self._wait_s(attempt, error.retry_after_s)
                if attempt == self._attempts or wait_s >= deadline.remaining:
                    tries = "1 try" if attempt == 1 else f"{attempt} tries"
                    said = f"{ref.display}: {error} (gave up after {tries})"
                    raise TransientError(said, retry_after_s=error.retry_after_s) from None
            attempt += 1
        raise TransientError(f"{ref.display}: the worker is stopping")

    def check(self, ref: ImageRef) -> None:
        """Look whether an image can be fetched, as far as this machine alone can tell, without reading it.

        Raises:
            ItemError: nothing reads such references, or the file cannot be read.
            TransientError, ConfigError: as from `fetch`.
        """
        if isinstance(self._reader(ref), FileReader):
            self.fetch(ref, lambda _: True)  # as if its content were known

    def close(self) -> None:
        """Close connections and wake whoever waits for another try."""
        self._closed.set()
        self._readers.close()

    def _reader(self, ref: ImageRef) -> Reader:
        scheme = scheme_of(ref.uri)
        reader = self._readers.get(scheme)
        if reader is None:
            known = ", ".join(f"{name}:" for name in self._readers.schemes())
            raise ItemError(
                f"{ref.display}: images cannot be fetched by {scheme!r}, only from a path or by {known} "
                "(write ./ before a file name that holds a colon)"
            )
        return reader

    @staticmethod
    def _wait_s(attempt: int, retry_after_s: float | None) -> float:
        return _BACKOFF.pause_s(attempt) + (retry_after_s or 0.0)
