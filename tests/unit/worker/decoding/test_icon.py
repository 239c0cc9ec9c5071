"""Icons, cursors and bitmaps: the largest picture, within the limits."""

import struct

import pytest
from PIL import Image

from prelabel.schemas.errors import ItemError
from tests.unit.worker.decoding.files import BLUE, GREEN, RED, WHITE, corners, encoded, opened, png, quarters

# --- icons, cursors, bitmaps -----------------------------------------------------------------------------------------


def icon(kind, *pictures):
    """An ICO (1) or CUR (2) of these pictures, whose entries say nothing of them."""
    offset = 6 + 16 * len(pictures)
    entries = b""
    for picture in pictures:
        entries += struct.pack("<BBBBHHII", 0, 0, 0, 0, 7, 9, len(picture), offset)
        offset += len(picture)
    return struct.pack("<HHH", 0, kind, len(pictures)) + entries + b"".join(pictures)


def bitmap(image, bits=24, height=None):
    """What an icon holds of an image besides PNGs: a DIB of twice its height, and a mask that covers nothing of it."""
    lines = -(-image.width // 32) * 4 * image.height
    head = struct.pack("<IiiHHIIiiII", 40, image.width, height or 2 * image.height, 1, bits, 0, 0, 0, 0, 0, 0)
    order = {24: ("RGB", "BGR"), 32: ("RGBA", "BGRA")}[bits]
    return head + image.convert(order[0]).tobytes("raw", order[1], 0, -1) + bytes(lines)


@pytest.mark.parametrize("kind", [1, 2], ids=["icon", "cursor"])
@pytest.mark.parametrize("largest", ["png", "bitmap", "bitmap with alpha"])
def test_an_icon_or_a_cursor_is_its_largest_picture(kind, largest):
    small = encoded(Image.new("RGB", (16, 16)))
    large = {"png": encoded, "bitmap": bitmap, "bitmap with alpha": lambda image: bitmap(image, 32)}[largest]
    image = opened(icon(kind, small, large(quarters()), bitmap(Image.new("RGB", (8, 8)))))
    assert image.size == (40, 20)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_the_picture_of_an_icon_is_held_to_the_limit_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda _: pytest.fail("its pixels were decoded"))
    with pytest.raises(ItemError, match="more than 50,000,000 pixels"):
        opened(icon(1, png(9000, 9000)))
    with pytest.raises(ItemError, match="damaged ICO"):
        opened(icon(1, bitmap(quarters(), height=2**30)))


@pytest.mark.parametrize("kind", [1, 2], ids=["icon", "cursor"])
def test_a_picture_of_an_icon_may_be_longer_than_its_entry_says(kind):
    whole = icon(kind, bitmap(quarters()))
    assert corners(opened(whole[:14] + struct.pack("<I", 8) + whole[18:])) == [RED, GREEN, BLUE, WHITE]


def test_what_pillow_saves_as_an_icon_is_read():
    assert opened(encoded(quarters(64, 64), "ICO")).size == (64, 64)


def bitfields(*masks):
    """A BMP of four red pixels whose colours lie where the masks say."""
    head = struct.pack("<IiiHHIIiiII", 40, 2, 2, 1, 32, 3, 16, 0, 0, 0, 0) + struct.pack("<III", *masks)
    return b"BM" + struct.pack("<IHHI", 82, 0, 0, 66) + head + struct.pack("<I", masks[0]) * 4


def test_a_bitmap_of_bit_fields_is_read_where_pillow_reads_it_and_named_elsewhere():
    assert opened(bitfields(0xFF0000, 0xFF00, 0xFF)).getpixel((0, 0)) == RED
    with pytest.raises(ItemError, match=r"not supported \(Unsupported BMP bitfields"):
        opened(bitfields(0x3FF00000, 0xFFC00, 0x3FF))
