"""Contents that come packed: what a store's or a server's Content-Encoding says, undone within the byte cap."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from ...schemas.errors import ItemError, TransientError
from .reader import too_large

_NONE = ("", "identity", "aws-chunked")
"""Nothing to undo. `aws-chunked` is how an object was once sent to its store; some keep it as if it were a packing."""

_ZLIB = ("gzip", "x-gzip", "deflate")


def unpacked(chunks: Iterable[bytes], encoding: str, limit: int) -> bytes:
    """A content without its Content-Encoding.

    Not httpx's own decoding: that unpacks a whole chunk before anyone can count, and packings inside packings.

    Args:
        chunks: the content as it was sent, counted as well: empty blocks would unpack to nothing for ever.
        encoding: the header's value; empty where there is none.
        limit: the most bytes it may have, packed and unpacked.

    Raises:
        ItemError: too large, damaged, or packed in another way.
        TransientError: it ends too early.
    """
    names = [name.strip().lower() for name in encoding.split(",")]
    packings = [name for name in names if name not in _NONE]
    sent = _capped(chunks, limit)
    if packings:
        if len(packings) > 1 or packings[0] not in _ZLIB:
            raise ItemError(f"sent with an unsupported Content-Encoding ({', '.join(packings)[:40]})")
        sent = _capped(_inflated(sent, limit), limit)
    return b"".join(sent)


def _capped(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    total = 0
    for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise too_large(limit)
        yield chunk


def _inflated(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Never more than `limit` + 1 bytes at once."""
    unpack = zlib.decompressobj(wbits=32 + zlib.MAX_WBITS)  # reads the header: gzip or zlib
    try:
        for chunk in chunks:
            piece = unpack.decompress(chunk, limit + 1)
            while piece:
                yield piece
                piece = unpack.decompress(unpack.unconsumed_tail, limit + 1)
    except zlib.error:
        raise ItemError("sent with a damaged Content-Encoding") from None
    if not unpack.eof:
        raise TransientError("the connection broke before the image was complete")
