"""Image files that the tests of decoding are about, and what is to be seen in them."""

import io
import struct
import zlib

from PIL import Image

from prelabel.worker.decoding.pillow import decode

LIMIT = 50_000_000
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def encoded(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def opened(data, region=None, max_pixels=LIMIT):
    image = decode(data, max_pixels=max_pixels, region=region)
    assert image.mode == "RGB"
    return image


def quarters(width=40, height=20):
    """Red, green above blue, white: no flip or turn of it looks like another."""
    image = Image.new("RGB", (width, height), WHITE)
    image.paste(RED, (0, 0, width // 2, height // 2))
    image.paste(GREEN, (width // 2, 0, width, height // 2))
    image.paste(BLUE, (0, height // 2, width // 2, height))
    return image


def corners(image):
    """The four quarters' colours, each channel rounded to 0 or 255."""
    w, h = image.size
    points = [(w // 4, h // 4), (3 * w // 4, h // 4), (w // 4, 3 * h // 4), (3 * w // 4, 3 * h // 4)]
    return [tuple(255 * (channel > 127) for channel in image.getpixel(point)) for point in points]


def chunk(kind, body, checksum=None):
    """A chunk of a PNG."""
    checksum = zlib.crc32(kind + body) if checksum is None else checksum
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def png(width, height, depth=8, colour=0, pixels=b""):
    """A PNG whose header claims what it likes."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
