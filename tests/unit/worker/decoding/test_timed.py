"""A file built of endlessly many parts frees the thread that decodes it, whatever its format."""

from __future__ import annotations

import io
import struct
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from prelabel.schemas import ItemError
from prelabel.worker.decoding import timed
from prelabel.worker.decoding.pixels import decode_pixels
from prelabel.worker.decoding.png import PNG


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(before: bytes = b"", within: bytes = b"") -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100, 100, 8, 2, 0, 0, 0))
    return PNG + header + before + within + chunk(b"IDAT", zlib.compress(bytes(100 * 301))) + chunk(b"IEND")


def gif(before: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.new("P", (100, 100)).save(buffer, "GIF")
    whole = buffer.getvalue()
    screen = 13 + 3 * (2 << (whole[10] & 7))  # the header and the palette
    return whole[:screen] + before + whole[screen:]


def bmp() -> bytes:
    """A bitmap whose every pixel is a run of its own."""
    side = 1500
    runs = (b"\1\0" * side + b"\0\0") * side + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + header + bytes(1024) + runs


def tiff(strips: int) -> bytes:
    """A column of pixels, each a strip."""
    tags = {256: 1, 257: strips, 258: 8, 259: 1, 262: 1, 277: 1, 278: 1}
    fields = [(tag, 4, 1, value) for tag, value in tags.items()]
    lists = 12 + 2 + 12 * 9 + 4
    fields += [(273, 4, strips, lists), (279, 4, strips, lists + 4 * strips)]
    directory = b"".join(struct.pack("<HHII", *field) for field in sorted(fields))
    offsets, sizes = np.full(strips, 8, "<u4").tobytes(), np.ones(strips, "<u4").tobytes()
    return b"II*\0" + struct.pack("<I", 12) + bytes(4) + struct.pack("<H", 9) + directory + bytes(4) + offsets + sizes


@pytest.mark.parametrize(
    "data",
    [
        png(before=chunk(b"tEXt", b"a\0") * 600_000),
        png(before=chunk(b"prVt") * 600_000),
        gif(b"!\xfe\0" * 600_000),
        tiff(300_000),
    ],
    ids=["png texts", "png chunks", "gif comments", "tiff strips"],
)
@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_a_file_of_endless_parts_is_refused_as_it_is_opened(data, exact) -> None:
    with pytest.raises(ItemError, match="built to keep a decoder busy"):
        decode_pixels(data, max_pixels=10**7, exact=exact)


@pytest.mark.parametrize("data", [png(within=chunk(b"IDAT") * 20_000), bmp()], ids=["png", "bmp"])
def test_a_decoder_that_is_at_it_for_too_long_is_ended_between_two_blocks(data, monkeypatch) -> None:
    assert decode_pixels(data, max_pixels=10**7).shape[2] == 3
    monkeypatch.setattr(timed, "MAX_CPU_S", 0.02)
    begun = time.thread_time()
    with pytest.raises(ItemError, match="takes too long to decode"):
        decode_pixels(data, max_pixels=10**7)
    assert time.thread_time() - begun < 1


def test_a_tiff_of_endless_strips_is_refused_before_pillow_lists_them(monkeypatch) -> None:
    monkeypatch.setattr("PIL.TiffImagePlugin.TiffImageFile._setup", lambda _: pytest.fail("they were listed"))
    with pytest.raises(ItemError, match="more than 100,000 parts"):
        decode_pixels(tiff(300_000), max_pixels=10**7)


def test_a_tall_tiff_of_a_strip_a_row_is_read() -> None:
    assert decode_pixels(tiff(20_000), max_pixels=10**7).shape == (20_000, 1, 3)


def test_waiting_is_not_counted(monkeypatch) -> None:
    monkeypatch.setattr(timed, "MAX_CPU_S", 0.05)
    file = timed.TimedFile(bytes(1000))
    time.sleep(0.1)
    assert all(file.read(1) == b"\0" for _ in range(200))
