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

from prelabel.schemas.errors import ItemError
from tests.unit.worker.decoding.files import BLUE, GREEN, RED, WHITE, chunk, corners, encoded, opened, png, quarters

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


# --- whose process it is ---------------------------------------------------------------------------------------------


def test_importing_it_changes_nothing_about_the_warnings_of_a_program():
    code = (
        "import warnings, numpy, PIL.Image, PIL.ImageCms, prelabel.schemas; before = warnings.filters[:]; "
        "import prelabel.worker.decoding.pillow; assert warnings.filters == before, warnings.filters"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
