"""What a JPEG says of itself before any of its pixels is decoded: how many scans it has, and where it ends."""

from __future__ import annotations

import re
from typing import NamedTuple

import simplejpeg

from ...schemas.errors import ItemError

MAX_SCANS = 500
"""Each scan of a progressive JPEG goes over all pixels; cameras write about ten. libjpeg-turbo advises such a bound
against small files that take minutes (its ChangeLog, 1.5.90 and 2.1)."""

MAX_SCANNED_PIXELS = 2_000_000_000
"""Scans times pixels of one JPEG. An empty scan takes a good nanosecond a pixel, so that is a few seconds; it leaves
40 scans to 50 million pixels."""

MAX_SEGMENTS = 10_000
"""Segments of one JPEG: a profile and an EXIF block of many megabytes take some hundreds."""

JPEG = b"\xff\xd8\xff"
"""How every JPEG begins."""

END = b"\xff\xd9"
"""How it should end."""

_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_ARITHMETIC = (0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
"""How the frame of a JPEG with arithmetic coding begins. A few bytes of it keep a decoder busy for longer than those of
any other kind, no camera writes it, and browsers do not show it."""

_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]", re.DOTALL)
"""In the data of a scan, a 255 is followed by a zero or is a restart, or it is filling, or it begins a marker.

A pattern looks through a file in one go. Products of numpy do as fast, and after each the thread waits for its turn at
Python's lock: under load that was a fifth of what an interactive image took.
"""
_ALONE = (0x01, 0xD8)
"""Markers without a segment: TEM, and another start of an image. The restarts are none of these, but of a scan."""


class Scans(NamedTuple):
    """The scans of a JPEG's first image.

    Attributes:
        total: how many there are.
        ended: whether the marker of the image's end follows them.
    """

    total: int
    ended: bool


def scans_of(data: bytes) -> Scans:
    """Walk a JPEG's markers (ITU-T T.81, annex B) as a decoder does, from segment to segment to the first image's end.

    Bytes that look like a marker count for nothing inside a segment (a thumbnail, say) or behind the end.

    Raises:
        ItemError: more segments than any program writes, or arithmetic coding.
    """
    count, place = 0, 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, place)
        if marker is None:
            return Scans(count, ended=False)
        place = marker.start()
        kind = data[place + 1]
        if kind == _END_OF_IMAGE:
            return Scans(count, ended=True)
        if kind in _ARITHMETIC:
            raise ItemError("a JPEG with arithmetic coding, which no browser shows; convert it to an ordinary JPEG")
        count += kind == _START_OF_SCAN
        place += 2
        if kind not in _ALONE:
            place += int.from_bytes(data[place : place + 2], "big")
    raise ItemError(f"a JPEG of more than {MAX_SEGMENTS:,} segments: built to keep a decoder busy")


def check_scans(scans: int, width: int, height: int) -> None:
    """Refuse what takes a decoder too long.

    Raises:
        ItemError: too many scans for a JPEG of that size, in pixels.
    """
    if scans > MAX_SCANS:
        raise ItemError(f"a JPEG of more than {MAX_SCANS} scans: built to keep a decoder busy")
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise ItemError(f"a JPEG of {scans} scans of {width}x{height} pixels: built to keep a decoder busy")


def is_whole(data: bytes) -> bool:
    """Whether no pixel of a JPEG is missing, by decoding it at an eighth of its size.

    libjpeg makes up what is missing and warns of it; simplejpeg refuses such a file, Pillow does not look.
    """
    try:
        _, _, colours, _ = simplejpeg.decode_jpeg_header(data)
        wanted = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(data, wanted, min_height=1, min_width=1, min_factor=8)
    except ValueError:
        return False
    return True
