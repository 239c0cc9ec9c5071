"""The fast decoder gives what the exact one gives: same orientation, same errors, pixels within 2 of 255."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from prelabel.schemas import ItemError, Region
from prelabel.worker.decoding.jpeg import MAX_SCANS, MAX_SEGMENTS, scans_of
from prelabel.worker.decoding.pixels import decode_pixels


def picture(width: int = 97, height: int = 61, mode: str = "RGB") -> Image.Image:
    """Smooth gradients and a bright corner, so that every turn shows."""
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], axis=-1).astype(np.uint8)
    pixels[: height // 4, : width // 4] = 250
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def both(data: bytes, **options):
    return (decode_pixels(data, max_pixels=10**7, exact=exact, **options) for exact in (False, True))


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_exif_orientation_is_turned_as_the_exact_decoder_turns_it(turn) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    fast, exact = both(encoded(picture(), exif=exif))
    assert fast.shape == exact.shape
    assert np.abs(fast.astype(int) - exact).max() <= 2


@pytest.mark.parametrize(
    "data",
    [
        encoded(picture()),
        encoded(picture(), progressive=True),
        encoded(picture(), subsampling=0),
        encoded(picture(), subsampling=2, quality=40),
        encoded(picture(mode="L")),
        encoded(picture(mode="CMYK")),
        encoded(picture(1, 1)),
        encoded(picture(), "PNG"),
        encoded(picture(), "WEBP", lossless=True),
    ],
    ids=["baseline", "progressive", "444", "420", "grey", "cmyk", "1x1", "png", "webp"],
)
def test_every_kind_of_file_gives_the_same_pixels(data) -> None:
    fast, exact = both(data)
    assert fast.dtype == np.uint8
    assert fast.shape == exact.shape
    assert np.abs(fast.astype(int) - exact).max() <= 2


def test_a_jpeg_without_its_end_gives_the_same_pixels() -> None:
    whole = encoded(picture())
    for exact in (False, True):
        pixels = [decode_pixels(data, max_pixels=10**7, exact=exact) for data in (whole, whole[:-2])]
        assert np.array_equal(*pixels)


def test_a_region_is_cut_alike() -> None:
    fast, exact = both(encoded(picture()), region=Region(x=10, y=20, width=30, height=40))
    assert np.array_equal(fast, exact)


@given(cut=st.integers(0, 1500), flip=st.integers(0, 1500), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_what_one_refuses_the_other_refuses_in_the_same_words(cut, flip, byte) -> None:
    data = bytearray(encoded(picture()))
    data[flip % len(data)] = byte
    data = bytes(data[: max(4, len(data) - cut)])
    ends = []
    for exact in (False, True):
        try:
            ends.append(decode_pixels(data, max_pixels=10**7, exact=exact).shape)
        except ItemError as error:
            ends.append(str(error))
    assert ends[0] == ends[1]


def test_too_many_pixels_are_refused_before_any_is_decoded() -> None:
    with pytest.raises(ItemError, match="97x61: more than 100 pixels"):
        decode_pixels(encoded(picture()), max_pixels=100)


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = encoded(picture(), progressive=True)
    scan = data.rindex(b"\xff\xda")
    hostile = data[:scan] + data[scan:-2] * (MAX_SCANS + 1) + data[-2:]
    for exact in (False, True):
        with pytest.raises(ItemError, match="scans"):
            decode_pixels(hostile, max_pixels=10**7, exact=exact)


def resized_in_its_header(data: bytes, width: int, height: int) -> bytes:
    """A JPEG that claims another size than its scans have pixels for."""
    frame = next(place for marker in (b"\xff\xc0", b"\xff\xc2") if (place := data.find(marker)) > 0)
    return data[: frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def with_scans(count: int) -> bytes:
    """A JPEG of so many scans, the last of its own ten sent again and again."""
    data = encoded(picture(), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - 9) + data[-2:]


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_scans_times_pixels_are_bounded_before_any_pixel_is_decoded(exact, monkeypatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("its pixels were decoded"))
    monkeypatch.setattr("simplejpeg.decode_jpeg", lambda *_, **__: pytest.fail("its pixels were decoded"))
    many = resized_in_its_header(with_scans(300), 7000, 7000)
    with pytest.raises(ItemError, match=r"300 scans of 7000x7000 pixels"):
        decode_pixels(many, max_pixels=50_000_000, exact=exact)


def test_a_small_jpeg_may_have_as_many_scans_and_a_large_one_as_many_as_programs_write() -> None:
    assert decode_pixels(with_scans(300), max_pixels=50_000_000).shape == (61, 97, 3)
    large = picture().resize((5000, 5000))
    assert decode_pixels(encoded(large, progressive=True), max_pixels=50_000_000).shape == (5000, 5000, 3)


def test_a_jpeg_of_endless_segments_is_refused() -> None:
    data = encoded(picture())
    with pytest.raises(ItemError, match="more than 10,000 segments"):
        decode_pixels(data[:2] + b"\xff\xfe\0\2" * MAX_SEGMENTS + data[2:], max_pixels=10**7)


def test_restarts_are_part_of_their_scan() -> None:
    data = encoded(picture(640, 480), restart_marker_blocks=1)
    assert data.count(b"\xff\xd3") > 100
    assert scans_of(data) == (1, True)


@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
@pytest.mark.parametrize("where", ["in a segment", "behind the end"])
def test_what_only_looks_like_a_scan_is_none(where, exact) -> None:
    data, alike = encoded(picture()), b"\xff\xda" * 2 * MAX_SCANS
    if where == "in a segment":
        data = data[:2] + b"\xff\xe7" + struct.pack(">H", len(alike) + 2) + alike + data[2:]
    else:
        data += alike
    assert decode_pixels(data, max_pixels=10**7, exact=exact).shape == (61, 97, 3)


@pytest.mark.parametrize(
    ("size", "read"),
    [
        ((2047, 3000), (2047, 3000)),
        ((2048, 2048), (1024, 1024)),
        ((4001, 3001), (2001, 1501)),
        ((4096, 9000), (1024, 2250)),
    ],
    ids=["small", "half", "odd", "quarter"],
)
def test_scaled_reads_large_jpegs_smaller_but_never_below_1024(size, read) -> None:
    data = encoded(picture(*size), quality=90)
    scaled = decode_pixels(data, max_pixels=10**8, scaled=True)
    assert scaled.shape == (read[1], read[0], 3)


def test_scaled_and_squashed_it_stays_within_4_of_255_and_the_turn_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(2304, 2048), quality=95, exif=exif)
    squashed = [
        np.asarray(Image.fromarray(decode_pixels(data, max_pixels=10**8, scaled=scaled)).resize((512, 512)))
        for scaled in (True, False)
    ]
    difference = np.abs(squashed[0].astype(int) - squashed[1])
    assert difference.max() <= 4
    assert difference.mean() < 0.5


@pytest.mark.parametrize(
    ("progressive", "frame"), [(False, b"\xff\xc0"), (True, b"\xff\xc2")], ids=["whole", "progressive"]
)
@pytest.mark.parametrize("exact", [False, True], ids=["fast", "exact"])
def test_arithmetic_coding_is_refused_in_words(progressive: bool, frame: bytes, exact: bool) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG", progressive=progressive)
    assert decode_pixels(buffer.getvalue(), max_pixels=10**6, exact=exact).shape == (64, 64, 3)
    data = buffer.getvalue().replace(frame, bytes([0xFF, frame[1] + 8 + (not progressive)]), 1)
    with pytest.raises(ItemError, match="arithmetic coding"):
        decode_pixels(data, max_pixels=10**6, exact=exact)
