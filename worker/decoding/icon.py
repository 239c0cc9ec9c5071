"""Icons and cursors (ICO, CUR): their largest picture, cut out so that it is checked before it is decoded.

Pillow decodes an icon as it opens it, at whatever size the picture inside has; it reads cursors only in part.
"""

from __future__ import annotations

import struct

from ...schemas.errors import ItemError
from .png import PNG

_ICON, _CURSOR = b"\0\0\1\0", b"\0\0\2\0"

MAX_SIDE = 1024
"""Pixels of a side of a bitmap in an icon. Windows makes them of 256; larger pictures are PNGs."""

_ENTRY = struct.Struct("<BBBBHHII")
"""Width, height, colours, nothing, planes, bits a pixel, bytes, offset. 0 is 256; a cursor has its hot spot for planes
and bits."""

_BITMAP = struct.Struct("<IiiHH")
"""Size of this header, width, twice the height, planes, bits a pixel."""

_DIRECTORY_BYTES = 6
_MAX_ENTRIES = 256


def is_icon(data: bytes) -> bool:
    """Whether it begins as an icon or a cursor with at least one picture; a Targa image may begin as one of none."""
    return data.startswith((_ICON, _CURSOR)) and data[4:6] not in (b"", b"\0\0")


def largest_picture(data: bytes) -> bytes:
    """A PNG, or an icon of one bitmap.

    Raises:
        ItemError: there is none, or it is larger than those of icons are.
    """
    name = "ICO" if data.startswith(_ICON) else "CUR"
    try:
        (count,) = struct.unpack_from("<H", data, 4)
        entries = [
            _ENTRY.unpack_from(data, _DIRECTORY_BYTES + index * _ENTRY.size)
            for index in range(min(count, _MAX_ENTRIES))
        ]
        # Pillow itself has written sizes that are too small, and nobody needs them: a picture says where it ends.
        pictures = [memoryview(data)[offset:] for *_, offset in entries]
        return _standing_alone(max(pictures, key=_measured))
    except (struct.error, ValueError):
        raise ItemError(f"a truncated or damaged {name}") from None


def _measured(picture: memoryview) -> tuple[int, int]:
    """Pixels and bits of one picture."""
    if picture[: len(PNG)] == PNG:
        width, height, bits = struct.unpack_from(">IIB", picture, 16)
        return width * height, 4 * bits
    _, width, doubled, _, bits = _BITMAP.unpack_from(picture)
    height = doubled // 2
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError("no bitmap of an icon")
    return width * height, bits


def _standing_alone(picture: memoryview) -> bytes:
    """The file that one measured picture makes."""
    if picture[: len(PNG)] == PNG:
        return bytes(picture)
    _, width, doubled, _, bits = _BITMAP.unpack_from(picture)
    start = _DIRECTORY_BYTES + _ENTRY.size
    entry = _ENTRY.pack(width % 256, doubled // 2 % 256, 0, 0, 1, bits, len(picture), start)
    return _ICON + b"\1\0" + entry + picture
