"""What a TIFF says of itself before Pillow makes objects of it: into how many parts its picture is cut."""

from __future__ import annotations

import struct

from ...schemas.errors import ItemError

MAX_PARTS = 100_000
"""Strips or tiles of one TIFF, for each of which Pillow keeps 300 bytes and takes a turn of Python. A strip a row makes
some ten thousand of them."""

_LISTS = (258, 273, 324, 338, 339)
"""Tags whose values Pillow reads one by one: bits, strips, tiles, extra samples, sample formats (TIFF 6.0)."""

_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}


def check_parts(data: bytes) -> None:
    """Refuse a TIFF, or BigTIFF, that is cut into more parts than any program makes; let everything else pass.

    Raises:
        ItemError: too many parts.
    """
    order = _ORDERS.get(data[:4])
    if order is None:
        return
    place, entries, entry = (8, "Q", "HHQQ") if b"+" in data[:4] else (4, "I", "HHII")
    try:
        (directory,) = struct.unpack_from(order + entries, data, place)
        (count,) = struct.unpack_from(order + ("Q" if entries == "Q" else "H"), data, directory)
        first = directory + (8 if entries == "Q" else 2)
        for index in range(count):
            tag, _, values, _ = struct.unpack_from(order + entry, data, first + index * struct.calcsize(order + entry))
            if tag in _LISTS and values > MAX_PARTS:
                raise ItemError(f"a TIFF of more than {MAX_PARTS:,} parts: built to keep a decoder busy")
    except (struct.error, OverflowError):
        return  # it ends here: Pillow has the words for it
