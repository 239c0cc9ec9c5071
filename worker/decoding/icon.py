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
        pictures = [data[offset : offset + size] for *_, size, offset in entries]
        return max((_standing_alone(picture) for picture in pictures), key=lambda measured: measured[0])[1]
    except (struct.error, ValueError):
        raise ItemError(f"a truncated or damaged {name}") from None


def _standing_alone(picture: bytes) -> tuple[tuple[int, int], bytes]:
    """Pixels and bits of one picture, and the file it makes."""
    if picture.startswith(PNG):
        width, height, bits = struct.unpack_from(">IIB", picture, 16)
        return (width * height, 4 * bits), picture
    _, width, doubled, _, bits = _BITMAP.unpack_from(picture)
    height = doubled // 2
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise ValueError("no bitmap of an icon")
    entry = _ENTRY.pack(width % 256, height % 256, 0, 0, 1, bits, len(picture), _DIRECTORY_BYTES + _ENTRY.size)
    return (width * height, bits), _ICON + b"\1\0" + entry + picture
