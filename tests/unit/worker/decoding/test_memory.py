"""What an image is said to need while it is decoded is what decoding takes: measured, for each kind of file."""

from __future__ import annotations

import ctypes
import gc
import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from prelabel.schemas import ItemError
from prelabel.worker.decoding.pixels import EncodedImage, decode_pixels
from prelabel.worker.machine import host

WIDTH, HEIGHT = 4000, 3000
"""Large enough that each of its buffers comes from the system and goes back there."""


ELSEWHERE = 4 * 2**20
"""Bytes that the rest of the process may take meanwhile: threads that other tests have left behind."""


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return Image.fromarray(np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)).convert(mode)


def flat(mode: str, colour: float | tuple[int, ...]) -> Image.Image:
    return Image.new(mode, (WIDTH, HEIGHT), colour)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encoded(gradient(), "JPEG", exif=turned()),
    "progressive jpeg": lambda: encoded(gradient(), "JPEG", progressive=True, subsampling=0, exif=turned()),
    "grey jpeg": lambda: encoded(gradient("L"), "JPEG"),
    "cmyk jpeg": lambda: encoded(gradient("CMYK"), "JPEG", progressive=True),
    "png": lambda: encoded(gradient(), "PNG", compress_level=1, exif=turned()),
    "bilevel png": lambda: encoded(gradient("1"), "PNG", exif=turned()),
    "png with alpha": lambda: encoded(flat("RGBA", (1, 2, 3, 4)), "PNG", compress_level=1, exif=turned()),
    "16-bit png": lambda: encoded(Image.fromarray(np.full((HEIGHT, WIDTH), 999, np.uint16)), "PNG", exif=turned()),
    "webp": lambda: encoded(flat("RGB", (1, 2, 3)), "WEBP", lossless=True, method=0, exif=turned()),
    "webp with alpha": lambda: encoded(flat("RGBA", (1, 2, 3, 4)), "WEBP", lossless=True, method=0),
    "gif with a transparent colour": lambda: encoded(flat("P", 0), "GIF", transparency=0),
    "bmp": lambda: encoded(gradient(), "BMP"),
    "tiff": lambda: encoded(gradient(), "TIFF", compression="tiff_deflate", exif=turned()),
    "float tiff": lambda: encoded(flat("F", 0.5), "TIFF", compression="tiff_deflate", exif=turned()),
    "uncompressed float tiff": lambda: encoded(flat("F", 0.5), "TIFF", exif=turned()),
    "integer tiff": lambda: encoded(flat("I", 70_000), "TIFF", compression="tiff_deflate"),
    "lab tiff": lambda: encoded(flat("LAB", (1, 2, 3)), "TIFF", compression="tiff_deflate"),
    "avif": lambda: encoded(gradient(), "AVIF", speed=10),
}


@pytest.mark.skipif(not host.forget_peak(), reason="needs Linux")
@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize("kind", FILES)
def test_decoding_takes_no_more_than_it_is_said_to(kind, exact) -> None:
    image = EncodedImage(FILES[kind](), max_pixels=50_000_000, exact=exact)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    assert host.forget_peak()
    before = host.resident_memory()
    image.pixels()
    taken = host.peak_memory() - before
    assert image.memory / 4 < taken <= image.memory + ELSEWHERE


def test_a_jpeg_read_at_a_fraction_of_its_size_needs_a_fraction_of_the_memory() -> None:
    data = encoded(gradient(), "JPEG")
    whole, scaled = (EncodedImage(data, max_pixels=50_000_000, scaled=scaled).memory for scaled in (False, True))
    assert scaled - len(data) == (whole - len(data)) / 4


def test_a_tile_larger_than_the_image_counts_with_all_its_pixels() -> None:
    tags = [(256, 16), (257, 16), (258, 8), (259, 1), (262, 1), (277, 1), (322, 16_000), (323, 16_000), (324, 0)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in [*tags, (325, 100)])
    data = b"II*\0" + struct.pack("<IH", 8, len(tags) + 1) + entries + struct.pack("<I", 0)
    with pytest.raises(ItemError, match="16000x16000: more than"):
        decode_pixels(data, max_pixels=50_000_000)
