"""Images that are in their reference: `data:` URIs."""

from __future__ import annotations

import base64
import binascii
import re
from urllib.parse import unquote_to_bytes

from ...schemas.errors import ItemError
from ...schemas.settings import Settings
from .deadline import Deadline
from .reader import Fetched, IsKnown, too_large

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")


class InlineReader:
    """Decodes `data:` URIs, base64 or percent-encoded."""

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.max_image_bytes

    def read(self, uri: str, deadline: Deadline, is_known: IsKnown) -> Fetched:  # noqa: ARG002 - all is here
        """The payload; it has no mark.

        Raises:
            ItemError: malformed or too large.
        """
        head, comma, payload = uri.partition(",")
        if not comma:
            raise ItemError("malformed data: URI (no comma)")
        if not payload.isascii():
            raise ItemError("malformed data: URI (characters that must be percent-encoded)")
        # Percent-encoding at most triples the size, base64 makes it a third larger: decode nothing beyond that.
        if len(payload) > 4 * self._limit + 4:
            raise too_large(self._limit)
        if _BAD_ESCAPE.search(payload):
            raise ItemError("malformed data: URI (a % that is no escape)")
        data = unquote_to_bytes(payload)
        if head.lower().replace(" ", "").endswith(";base64"):
            data = _base64(data)
        if len(data) > self._limit:
            raise too_large(self._limit)
        return Fetched(None, data)


def _base64(text: bytes) -> bytes:
    """Base64 as browsers read it: white space skipped, padding optional; anything else strict."""
    packed = b"".join(text.split()).rstrip(b"=")
    try:
        return base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ItemError("malformed data: URI (not base64)") from None
