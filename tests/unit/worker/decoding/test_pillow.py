"""What `decode` makes of image files: upright RGB as a person sees them, or an ItemError that says why not."""

import contextlib
import io
import random
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydantic import ValidationError

from prelabel.schemas import Region
from prelabel.schemas.errors import ItemError
from prelabel.worker.decoding.crop import OUTSIDE
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


# --- formats and pixel kinds -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_each_listed_format_is_read(kind):
    image = opened(encoded(quarters(), kind))
    assert image.size == (40, 20)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("kind", ["PPM", "DIB", "TGA", "SGI"])
def test_formats_off_the_list_are_refused(kind):
    with pytest.raises(ItemError, match="not an image"):
        opened(encoded(quarters(), kind))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA", "P", "LA", "I;16"])
def test_an_image_of_one_pixel(mode):
    assert opened(encoded(Image.new(mode, (1, 1)))).size == (1, 1)


def test_a_cmyk_jpeg_keeps_its_colours():
    cmyk = quarters().convert("CMYK")
    assert corners(opened(encoded(cmyk, "JPEG"))) == [RED, GREEN, BLUE, WHITE]


def test_a_lab_tiff_keeps_its_colours():
    assert corners(opened(encoded(Image.new("LAB", (4, 4), (255, 128, 128)), "TIFF"))) == [WHITE] * 4


def test_sixteen_bit_grey_is_scaled_not_clipped():
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    image = opened(encoded(Image.fromarray(ramp)))
    assert np.array_equal(np.asarray(image)[..., 0].ravel(), np.arange(256))


def test_the_transparent_value_of_sixteen_bit_grey_lies_over_white():
    pixels = np.full((20, 40), 30_000, dtype=np.uint16)
    pixels[:10] = 1_000
    image = opened(encoded(Image.fromarray(pixels), transparency=1_000))
    assert image.getpixel((5, 5)) == WHITE
    assert image.getpixel((5, 15)) == (30_000 // 257,) * 3


def test_big_endian_sixteen_bit_grey_is_scaled():
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    image = opened(encoded(Image.fromarray(ramp.astype(">u2")), "TIFF"))
    assert np.array_equal(np.asarray(image)[..., 0].ravel(), np.arange(256))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-40.0, 0.0, 40.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, np.nan, 1.0]], np.float32), [0, 0, 255]),
        (np.array([[-np.inf, 0.5, np.inf]], np.float32), [0, 128, 255]),
        (np.array([[7.0, 7.0, 7.0]], np.float32), [0, 0, 0]),
        (np.array([[0, 128 * 257, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 500_000, 1_000_000]], np.int32), [0, 128, 255]),
        (np.array([[-1000, 0, 1000]], np.int32), [0, 128, 255]),
    ],
    ids=["unit", "any", "nan", "infinite", "constant", "16-bit-in-32", "wide", "signed"],
)
def test_floats_and_wide_integers_are_scaled_by_their_range(values, expected):
    image = opened(encoded(Image.fromarray(values), "TIFF"))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == pytest.approx(expected, abs=1)


def test_transparency_lies_over_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    half = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert [opened(encoded(image)).getpixel((x, 0)) for x in (0, 1)] == [RED, WHITE]
    assert opened(encoded(half)).getpixel((0, 0)) == pytest.approx((127, 127, 127), abs=1)


def test_a_palette_with_a_transparent_colour_lies_over_white():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.putpixel((1, 0), 1)
    shown = opened(encoded(image, transparency=1))
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [RED, WHITE]


def test_grey_with_alpha_lies_over_white():
    assert opened(encoded(Image.new("LA", (1, 1), (0, 0)))).getpixel((0, 0)) == WHITE


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_of_an_animation_counts(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert corners(opened(data)) == [RED] * 4


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


# --- orientation -------------------------------------------------------------------------------------------------

# How a camera stores the picture so that the orientation tag brings it upright again.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_every_exif_orientation_gives_the_upright_picture(orientation, kind):
    stored = quarters() if STORED_AS[orientation] is None else quarters().transpose(STORED_AS[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = opened(encoded(stored, kind, exif=exif))
    assert image.size == (40, 20)
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_an_orientation_that_only_xmp_has_is_ignored_as_browsers_do(kind):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="3"/></x:xmpmeta>'
    if kind == "PNG":
        text = PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode())
        data = encoded(quarters(), pnginfo=text)
    else:
        data = encoded(quarters(), kind, xmp=xmp)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.getexif()[0x0112] == 3
    assert corners(opened(data)) == [RED, GREEN, BLUE, WHITE]


def test_an_animated_png_is_its_first_frame_and_not_the_picture_for_who_shows_no_animations():
    frames = [quarters(), quarters().transpose(Image.Transpose.ROTATE_180)]
    plain = Image.new("RGB", (40, 20), "black")
    shown = opened(encoded(plain, save_all=True, append_images=frames, default_image=True))
    assert corners(shown) == [RED, GREEN, BLUE, WHITE]
    assert corners(opened(encoded(frames[0], save_all=True, append_images=frames[1:]))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_ignored(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert corners(opened(encoded(quarters(), "JPEG", exif=exif))) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_broken_exif_does_not_cost_the_image():
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010E] = "a description"
    good = encoded(quarters(), "JPEG", exif=exif)
    start = good.index(b"Exif\0\0") + 6
    end = good.index(b"a description")
    chance = random.Random(7)
    for _ in range(200):
        broken = bytearray(good)
        for _ in range(4):
            broken[chance.randrange(start, end)] = chance.randrange(256)
        assert opened(bytes(broken)).width in (40, 20)


# --- what is no image ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"hello world", r"not an image \(it starts with 'hello wo…'\)"),
        (b"\x00\x01\x02", r"not an image \(it starts with 00 01 02\)"),
        (b"\n<!DOCTYPE html><html>", "web page.*login"),
        (b"<?xml version='1.0'?><svg xmlns=''/>", "SVG"),
        (
            b"<?xml version='1.0'?>\n<!-- " + b"c" * 100_000 + b" -->\n<!DOCTYPE svg>\n<svg xmlns=''/>",
            "SVG.*not supported",
        ),
        (b"\xef\xbb\xbf<s:svg xmlns:s='http://www.w3.org/2000/svg'/>", "SVG.*not supported"),
        ("<svg/>".encode("utf-16"), "SVG.*not supported"),
        (b"<!-- " + b"c" * 100_000 + b" --><html>", "web page"),
        (b"<note/>", r"not an image \(it starts with '<note/>'\)"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000 image, which is not supported"),
        (b"\xff\x4f\xff\x51\0", "JPEG 2000 image, which is not supported"),
        (b"\xff\x0a\0", "JPEG XL image, which is not supported"),
        (b"8BPS\0\1", "Photoshop document, which is not supported"),
        (b"qoif\0\0\0\x30", "QOI image, which is not supported"),
        (b"\0\0\0\x18ftypisom", "video"),
        (b"\0" * 128 + b"DICM", "DICOM file, which is not supported"),
        (b"\0\0\1\0\1\0", "damaged ICO"),
        (b"\0\0\2\0\1\0", "damaged CUR"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC.*convert it to JPEG"),
        (b"\xff\xd8\xff\xe0", "damaged JPEG"),
        (b"\x89PNG\r\n\x1a\n", "damaged PNG"),
        (png(0, 5), "damaged PNG"),
    ],
)
def test_what_is_no_image_is_named_plainly(data, message):
    with pytest.raises(ItemError, match=message):
        opened(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_a_truncated_file_is_an_item_error_wherever_it_ends(kind):
    noise = Image.effect_noise((64, 64), 90).convert("RGB")
    data = encoded(noise, kind)
    for part in (0.02, 0.1, 0.5, 0.9):
        with pytest.raises(ItemError, match=r"truncated|damaged|not an image"):
            opened(data[: int(len(data) * part)])


def test_a_truncated_jpeg_says_so():
    data = encoded(Image.effect_noise((64, 64), 90), "JPEG")
    with pytest.raises(ItemError, match="truncated or damaged JPEG"):
        opened(data[: len(data) // 2])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_hostile_bytes_never_raise_anything_else():
    chance = random.Random(3)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "ICO"):
        good = encoded(quarters(), kind)
        for _ in range(60):
            broken = bytearray(good)
            for _ in range(6):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            with contextlib.suppress(ItemError):  # any other error fails the test
                assert opened(bytes(broken), max_pixels=100_000).mode == "RGB"


# --- read as browsers read it -------------------------------------------------------------------------------------

LONG = b"a" * (2 * 2**20)
PROFILE = b"a name\0\0" + zlib.compress(LONG)
BESIDE_THE_PIXELS = {
    "long text": chunk(b"tEXt", b"Comment\0" + LONG),
    "packed text": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + LONG),
    "packed XMP": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(LONG)),
    "profile": chunk(b"iCCP", PROFILE),
    "many texts": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG[: 2**20])) * 65,
    "gamma of a wrong checksum": chunk(b"gAMA", struct.pack(">I", 45455), checksum=1),
    "text of a wrong checksum": chunk(b"tEXt", b"Comment\0hello", checksum=1),
    "gamma too short": chunk(b"gAMA", b""),
}


@pytest.mark.parametrize("where", ["before the pixels", "behind them"])
@pytest.mark.parametrize("what", BESIDE_THE_PIXELS)
def test_a_png_is_read_whatever_is_wrong_beside_its_pixels(what, where):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(quarters().transpose(Image.Transpose.ROTATE_90), exif=exif)
    place = data.index(b"IDAT") - 4 if where == "before the pixels" else len(data) - 12
    image = opened(data[:place] + BESIDE_THE_PIXELS[what] + data[place:])
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_an_orientation_of_a_wrong_checksum_is_passed_over():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(quarters())
    image = opened(data[:33] + chunk(b"eXIf", exif.tobytes(), checksum=1) + data[33:])
    assert corners(image) == [RED, GREEN, BLUE, WHITE]


def test_a_png_stays_transparent_whatever_is_wrong_beside_its_pixels():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.putpixel((1, 0), 1)
    data = encoded(image, transparency=1)
    shown = opened(data[:33] + BESIDE_THE_PIXELS["long text"] + data[33:])
    assert [shown.getpixel((x, 0)) for x in (0, 1)] == [RED, WHITE]


@pytest.mark.parametrize("beside", [b"", BESIDE_THE_PIXELS["long text"]], ids=["plain", "with a long text"])
def test_a_png_is_refused_when_its_pixels_or_its_header_are_wrong(beside):
    good = encoded(Image.effect_noise((64, 64), 90))
    for bad in (good[:-200], good.replace(b"IHDR\0\0\0\x40", b"IHDR\0\0\0\x41")):
        with pytest.raises(ItemError, match="damaged"):
            opened(bad[:33] + beside + bad[33:])


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_jpeg_may_lack_its_end_but_no_pixel(mode, progressive):
    noise = Image.effect_noise((64, 64), 90).convert(mode)
    whole = encoded(noise, "JPEG", progressive=progressive)
    for cut in (1, 2):
        assert opened(whole[:-cut]).tobytes() == opened(whole).tobytes()
    for cut in (3, 4, 30, 300):
        with pytest.raises(ItemError, match="truncated or damaged JPEG"):
            opened(whole[:-cut])


# --- size ------------------------------------------------------------------------------------------------------------


def test_a_bomb_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("its pixels were decoded"))
    with pytest.raises(ItemError, match=r"more than 50,000,000 pixels \(PRELABEL_MAX_IMAGE_PIXELS\)"):
        opened(png(20_000, 20_000, depth=1))


def test_one_pixel_too_many_is_refused_and_exactly_enough_is_not():
    data = encoded(Image.new("L", (10, 10)))
    assert opened(data, max_pixels=100).size == (10, 10)
    with pytest.raises(ItemError, match="10x10: more than 99 pixels"):
        opened(data, max_pixels=99)


def test_a_limit_beyond_what_pillow_decodes_says_whose_limit_it_is():
    with pytest.raises(ItemError, match="the most Pillow decodes"):
        opened(png(20_000, 20_000, depth=1), max_pixels=10**9)


def test_running_out_of_memory_is_reported_on_the_item(monkeypatch):
    def load(self):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    with pytest.raises(ItemError, match="not enough memory to decode 40x20"):
        opened(encoded(quarters()))


def test_many_threads_decode_at_once():
    data = [encoded(quarters(), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP")]
    wrong = []

    def work():
        for _ in range(10):
            wrong.extend(d[:4] for d in data if corners(opened(d)) != [RED, GREEN, BLUE, WHITE])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- regions ----------------------------------------------------------------------------------------------------------


def region(x, y, width, height, rotation=0.0):
    return Region(x=x, y=y, width=width, height=height, rotation=rotation)


def test_a_region_is_percent_of_the_image():
    image = opened(encoded(quarters()), region(50, 0, 50, 50))
    assert image.size == (20, 10)
    assert corners(image) == [GREEN] * 4


def test_the_whole_image_as_a_region_is_the_image():
    assert opened(encoded(quarters()), region(0, 0, 100, 100)).tobytes() == quarters().tobytes()


def test_a_region_refers_to_the_upright_image():
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = encoded(quarters().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)
    assert corners(opened(stored, region(50, 0, 50, 50))) == [GREEN] * 4


@pytest.mark.parametrize("turn", [0, 360])
def test_a_region_that_sticks_out_is_cut_off(turn):
    image = opened(encoded(quarters()), region(75, 50, 50, 100, turn))
    assert image.size == (10, 10)
    assert corners(image) == [WHITE] * 4


def test_a_quarter_turn_is_clockwise_about_the_top_left_corner():
    # The box starts at the image's top-right corner and its width runs down the right edge.
    image = opened(encoded(quarters(40, 40)), region(100, 0, 100, 50, 90))
    assert image.size == (40, 20)
    assert corners(image) == [GREEN, WHITE, GREEN, WHITE]


def test_half_a_turn_shows_the_box_upside_down():
    image = opened(encoded(quarters()), region(100, 100, 100, 100, 180))
    assert image.tobytes() == quarters().transpose(Image.Transpose.ROTATE_180).tobytes()


def test_a_slanted_box_shows_what_lies_in_it():
    canvas = Image.new("RGB", (200, 200), WHITE)
    side = 60
    cos = sin = 2**-0.5
    for u in np.arange(0, side, 0.4):
        for v in np.arange(0, side / 2, 0.4):
            canvas.putpixel((int(100 + u * cos - v * sin), int(40 + u * sin + v * cos)), RED if u < side / 2 else BLUE)
    image = opened(encoded(canvas), region(50, 20, 30, 15, 45))
    assert image.size == (60, 30)
    assert corners(image) == [RED, BLUE, RED, BLUE]


def test_a_rotated_box_is_grey_beyond_the_image():
    image = opened(encoded(quarters(40, 40)), region(0, 0, 50, 50, 45))
    assert image.getpixel((0, 19)) == OUTSIDE
    assert image.getpixel((10, 1)) == RED


@pytest.mark.parametrize(
    "box",
    [region(0, 0, 1, 1), region(10, 10, 100, 0.5, 30), region(100, 0, 50, 50), region(0, 99.99, 50, 50)],
    ids=["tiny", "thin", "right of the image", "below the image"],
)
def test_a_region_without_a_whole_pixel_is_refused(box):
    with pytest.raises(ItemError, match="smaller than a pixel"):
        opened(encoded(quarters()), box)


def test_a_rotated_region_outside_the_image_is_refused():
    with pytest.raises(ItemError, match="outside the image"):
        opened(encoded(quarters()), region(100, 0, 50, 50, -45))


@pytest.mark.parametrize("rotation", [float("nan"), float("inf")])
def test_a_rotation_that_is_no_number_is_refused(rotation):
    with pytest.raises(ValidationError, match="finite"):
        region(0, 0, 50, 50, rotation)


@pytest.mark.parametrize("x", range(0, 100, 7))
def test_a_region_of_one_pixel_is_one_pixel_wherever_it_starts(x):
    image = opened(encoded(Image.new("L", (10, 10))), region(min(x, 90), min(x, 90), 10, 10))
    assert image.size == (1, 1)


# --- whose process it is ---------------------------------------------------------------------------------------------


def test_importing_it_changes_nothing_about_the_warnings_of_a_program():
    code = (
        "import warnings, numpy, PIL.Image, PIL.ImageCms, prelabel.schemas; before = warnings.filters[:]; "
        "import prelabel.worker.decoding.pillow; assert warnings.filters == before, warnings.filters"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
