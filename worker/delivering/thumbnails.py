"""Small pictures of tasks' images for the page, made when somebody looks, and kept for a while.

It runs in the adapter, with the worker's own fetching and decoding: the same guards on address, size, time and format.
What brings a decoder down ends a child process (`small_pictures`), never the adapter. How many are made at once is its
caller's matter.
"""

from __future__ import annotations

import hashlib
import threading
from typing import Final

from cachetools import TTLCache

from ...schemas.errors import ItemError
from ...schemas.items import ImageRef
from ...schemas.settings import Settings
from ..fetching.open import make_fetcher
from .small_pictures import SmallPictures

SIDE_PX: Final = 160
"""Longest side."""

KEPT_BYTES: Final = 16 * 2**20
"""Of all that are kept; each has some 5 kB."""

KEPT_S: Final = 600.0
"""Seconds after which one is made anew: the image may have changed."""

REFUSED_KEPT: Final = 1000
"""Images that cannot be had of which it is remembered why, the last ones."""

REFUSED_S: Final = 60.0
"""Seconds it is remembered: a page that is open asks every few seconds, and somebody may mend the image."""


class ThumbnailMaker:
    """Makes thumbnails. Thread-safe; close it after use.

    Args:
        settings: limits on what is fetched and decoded, and the Label Studio that gives out its media.

    Raises:
        ConfigError: a setting about fetching cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        self._fetcher = make_fetcher(settings)
        self._pictures = SmallPictures(settings.max_image_pixels, SIDE_PX)
        self._lock = threading.Lock()
        self._kept: TTLCache[bytes, bytes] = TTLCache(KEPT_BYTES, KEPT_S, getsizeof=len)
        self._refused: TTLCache[bytes, str] = TTLCache(REFUSED_KEPT, REFUSED_S)

    def __call__(self, image: ImageRef) -> bytes:
        """A JPEG of the whole image, upright, `SIDE_PX` at its longest side.

        Raises:
            ItemError: the image can never be had, or is none.
            TransientError: its store does not deliver for now.
        """
        key = hashlib.blake2b(image.uri.encode(), digest_size=16).digest()  # it may hold the image itself
        if (known := self._known(key)) is not None:
            return known
        try:
            made = self._make(image)
        except ItemError as error:
            with self._lock:
                self._refused[key] = str(error)
            raise
        with self._lock:
            self._kept[key] = made
        return made

    def close(self) -> None:
        """Close connections; whoever waits for an image is told that it cannot be had now."""
        self._fetcher.close()
        self._pictures.close()

    def _known(self, key: bytes) -> bytes | None:
        """What was made of the image; None where it has not been tried.

        Raises:
            ItemError: it was tried, in vain.
        """
        with self._lock:
            refusal = self._refused.get(key)
            if refusal is not None:
                raise ItemError(refusal)
            return self._kept.get(key)

    def _make(self, image: ImageRef) -> bytes:
        data = self._fetcher.read(image)
        try:
            return self._pictures.make(data)
        except ItemError as error:
            raise ItemError(f"{image.display}: {error}") from None
