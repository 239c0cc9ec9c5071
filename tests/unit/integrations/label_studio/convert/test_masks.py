"""Brushes and bitmasks: what is read of them is what Label Studio's own code and Pillow make of them."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from label_studio_sdk.converter.brush import decode_rle, encode_rle, mask2rle
from PIL import Image, ImageDraw

from prelabel.integrations.label_studio.convert import png
from prelabel.integrations.label_studio.convert.painted import MASK_WORK, Block, MaskError, Work, bitmap, bounds
from prelabel.integrations.label_studio.convert.png import Png
from prelabel.integrations.label_studio.convert.rle import painted


def pixels(blocks: Iterable[Block], width: int, height: int) -> np.ndarray:
    """`(height, width)` bool: the painted ones."""
    image = np.zeros((height, width), bool)
    for one in blocks:
        assert 0 <= one.left < one.right <= width
        assert 0 <= one.top < one.bottom <= height
        image[one.top : one.bottom, one.left : one.right] = True
    return image


@st.composite
def rgba(draw: st.DrawFn) -> np.ndarray:
    """`(height, width, 4)` uint8: strokes, noise and flat parts, as masks have them and as they do not."""
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    image = np.zeros((height, width, 4), np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
        part = image[y : y + draw(st.integers(1, 20)), x : x + draw(st.integers(1, 20))]
        part[...] = draw(st.sampled_from([(255, 255, 255, 255), (0, 0, 0, 255), (255, 255, 255, 0), (1, 2, 3, 4)]))
    if draw(st.booleans()):
        noise = np.random.default_rng(draw(st.integers(0, 99)))
        image[noise.random((height, width)) < 0.2] = noise.integers(0, 256, 4)
    return image


class Writer:
    """Writes bits, as rle-pack's encoder does."""

    def __init__(self, count: int, word: int = 8, sizes: tuple[int, ...] = (3, 4, 8, 16)) -> None:
        self.bits = f"{count:032b}{word - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
        self.sizes = sizes

    def run(self, value: int, count: int) -> Writer:
        self.bits += f"111{count - 1:0{self.sizes[3]}b}{value:08b}"
        return self

    def literal(self, values: bytes) -> Writer:
        self.bits += f"011{len(values) - 1:0{self.sizes[3]}b}" + "".join(f"{value:08b}" for value in values)
        return self

    @property
    def code(self) -> bytes:
        padded = self.bits + "0" * (-len(self.bits) % 8)
        return bytes(int(padded[i : i + 8], 2) for i in range(0, len(padded), 8))


@given(rgba())
def test_a_brush_is_painted_where_label_studios_own_decoder_has_an_alpha(image: np.ndarray) -> None:
    height, width, _ = image.shape
    code = bytes(encode_rle(image.ravel()))
    theirs = decode_rle(code).reshape(image.shape)[..., 3] > 0
    assert (pixels(painted(code, width, height, Work()), width, height) == theirs).all()


@given(rgba(), st.data())
def test_a_brush_of_long_literals_is_read_as_well(image: np.ndarray, data: st.DataObject) -> None:
    height, width, _ = image.shape
    values = image.tobytes()
    writer, at = Writer(len(values)), 0
    while at < len(values):
        size = data.draw(st.integers(1, len(values) - at))
        part = values[at : at + size]
        writer = writer.run(part[0], size) if len(set(part)) == 1 else writer.literal(part)
        at += size
    theirs = decode_rle(writer.code).reshape(image.shape)[..., 3] > 0
    assert (theirs == (image[..., 3] > 0)).all()
    assert (pixels(painted(writer.code, width, height, Work()), width, height) == theirs).all()


@given(rgba(), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=4), st.integers(0, 400))
def test_a_damaged_brush_is_refused_or_read_as_label_studio_reads_it(
    image: np.ndarray, changes: list[tuple[int, int]], cut: int
) -> None:
    height, width, _ = image.shape
    code = bytearray(encode_rle(image.ravel()))
    for place, value in changes:
        if 7 <= place < len(code):  # behind the size: what claims another is refused, see below
            code[place] = value
    del code[max(cut, 8) :]
    try:
        ours = pixels(painted(bytes(code), width, height, Work()), width, height)
    except MaskError:
        return
    assert (ours == (decode_rle(bytes(code)).reshape(image.shape)[..., 3] > 0)).all()


HOSTILE = {
    "another image": (Writer(4 * 10 * 10).run(255, 400).code, 10, 11),
    "no bytes": (b"", 10, 10),
    "no end": (Writer(400).run(255, 4).code, 10, 10),
    "too many": (Writer(4).literal(bytes(8)).code, 1, 1),
    "words of 16 bits": (Writer(400, word=16).run(255, 400).code, 10, 10),
    "too long": (bytes(MASK_WORK + 1), 10, 10),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_brush_that_cannot_be_one_is_refused(name: str) -> None:
    code, width, height = HOSTILE[name]
    with pytest.raises(MaskError):
        list(painted(code, width, height, Work()))


def test_a_brush_that_claims_a_huge_image_takes_no_memory_for_it() -> None:
    """Of a few bytes for 4 gigabytes of pixels, one row painted after another."""
    width, height = 2**14, 2**15 - 1
    writer = Writer(4 * width * height)
    for row in range(height):
        writer.bits += f"111{2**16 - 1:016b}{255 if row == 12_345 else 0:08b}"
    assert list(painted(writer.code, width, height, Work())) == [Block(0, 12_345, width, 12_346)]


def test_the_masks_of_a_task_share_the_work() -> None:
    code = Writer(4).run(255, 4).code
    work = Work(2 * len(code))
    assert list(painted(code, 1, 1, work)) == list(painted(code, 1, 1, work)) == [Block(0, 0, 1, 1)]
    with pytest.raises(MaskError, match="too large"):
        list(painted(code, 1, 1, work))


def stroke(width: int, height: int) -> np.ndarray:
    """`(height, width)` uint8: what somebody painted."""
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).line([(width // 5, height // 4), (width // 2, height // 2)], fill=255, width=width // 12)
    return np.array(image)


def test_the_box_of_a_brush_and_its_picture() -> None:
    mask = stroke(700, 500)
    code = bytes(mask2rle(mask))
    rows, columns = np.nonzero(mask)
    box = bounds(painted(code, 700, 500, Work()))
    assert box == Block(columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    coarse = bitmap(painted(code, 700, 500, Work()), box)
    cells = np.array(Image.frombytes("1", (coarse.columns, coarse.rows), coarse.unpacked))
    back = np.array(
        Image.fromarray(cells).resize((box.right - box.left, box.bottom - box.top), Image.Resampling.NEAREST)
    )
    part = mask[box.top : box.bottom, box.left : box.right] > 0
    # A pixel whose middle lies between two cells may be rounded to either.
    assert np.count_nonzero(part & ~back) < 0.005 * np.count_nonzero(part), "what is painted is left out"
    assert np.count_nonzero(back & ~part) < 0.15 * np.count_nonzero(part)


@given(rgba())
def test_the_picture_of_a_small_mask_is_exact(image: np.ndarray) -> None:
    height, width, _ = image.shape
    code = bytes(encode_rle(image.ravel()))
    box = bounds(painted(code, width, height, Work()))
    alphas = image[..., 3] > 0
    if box is None:
        assert not alphas.any()
        return
    coarse = bitmap(painted(code, width, height, Work()), box)
    cells = np.array(Image.frombytes("1", (coarse.columns, coarse.rows), coarse.unpacked))
    assert (cells == alphas[box.top : box.bottom, box.left : box.right]).all()


# --- bitmasks ---------------------------------------------------------------------------------------------------------


def url(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def png_of(image: np.ndarray, filters: Iterable[int]) -> bytes:
    """A PNG whose rows are filtered as told, by numpy and the PNG specification."""
    height, width, channels = image.shape
    left = np.zeros_like(image)
    left[:, 1:] = image[:, :-1]
    up = np.zeros_like(image)
    up[1:] = image[:-1]
    corner = np.zeros_like(image)
    corner[1:, 1:] = image[:-1, :-1]
    a, b, c = (part.astype(int) for part in (left, up, corner))
    p = a + b - c
    pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
    paeth = np.where((pa <= pb) & (pa <= pc), a, np.where(pb <= pc, b, c))
    predicted = [np.zeros_like(a), a, b, (a + b) // 2, paeth]
    lines = [
        bytes([kind]) + ((image[row].astype(int) - predicted[kind][row]) % 256).astype(np.uint8).tobytes()
        for row, kind in zip(range(height), filters, strict=False)
    ]
    colour = {4: 6, 2: 4, 3: 2}[channels]
    return packed(struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0), zlib.compress(b"".join(lines)))


def packed(header: bytes, content: bytes, each: int | None = None) -> bytes:
    """A PNG whose content comes in two chunks, or in chunks of so many bytes `each`."""
    starts = (0, 7) if each is None else range(0, len(content), each)
    pieces = [content[start:end] for start, end in pairwise((*starts, len(content)))]
    made = bytearray(b"\x89PNG\r\n\x1a\n")
    for kind, data in (
        (b"IHDR", header),
        (b"tEXt", b"a\0b"),
        *((b"IDAT", piece) for piece in pieces),
        (b"IEND", b""),
    ):
        made += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return bytes(made)


@given(rgba(), st.lists(st.integers(0, 4), min_size=40, max_size=40))
def test_a_bitmask_is_painted_where_pillow_has_an_alpha(image: np.ndarray, filters: list[int]) -> None:
    height, width, _ = image.shape
    data = png_of(image, filters)
    theirs = np.array(Image.open(io.BytesIO(data)))[..., 3] > 0
    assert (theirs == (image[..., 3] > 0)).all()
    work = Work()
    mask = Png(url(data), work)
    assert (mask.width, mask.height) == (width, height)
    assert (pixels(mask.painted(work), width, height) == theirs).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_large_bitmask_as_an_encoder_writes_it(mode: str) -> None:
    mask = Image.fromarray(stroke(2000, 1500))
    image = Image.merge("LA", (Image.new("L", mask.size), mask)).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG")
    found = pixels(Png(url(file.getvalue()), Work()).painted(Work()), *mask.size)
    assert (found == (np.array(mask) > 0)).all()


HEADER = struct.pack(">IIBBBBB", 4, 4, 8, 6, 0, 0, 0)
ROWS = zlib.compress(bytes(4 * 17))
NO_MASKS = {
    "no data URL": "https://e.org/mask.png",
    "no PNG": url(b"GIF89a"),
    "no base64": "data:image/png;base64,\u00e9",
    "without alpha": url(png_of(np.zeros((2, 2, 3), np.uint8), [0, 0])),
    "16 bits": url(packed(struct.pack(">IIBBBBB", 4, 4, 16, 6, 0, 0, 0), ROWS)),
    "interlaced": url(packed(struct.pack(">IIBBBBB", 4, 4, 8, 6, 0, 0, 1), ROWS)),
    "no height": url(packed(struct.pack(">IIBBBBB", 4, 0, 8, 6, 0, 0, 0), ROWS)),
    "huge": url(packed(struct.pack(">IIBBBBB", 2**31, 2**31, 8, 6, 0, 0, 0), ROWS)),
    "large": url(packed(struct.pack(">IIBBBBB", 65_535, 65_535, 8, 6, 0, 0, 0), ROWS)),
    "ends": url(packed(struct.pack(">IIBBBBB", 4, 5, 8, 6, 0, 0, 0), ROWS)),
    "damaged": url(packed(HEADER, b"no deflated rows")),
    "no such filter": url(packed(HEADER, zlib.compress(bytes([9, 1, 1, 1, 1]) * 20))),
}


@pytest.mark.parametrize("name", NO_MASKS)
def test_a_bitmask_that_cannot_be_read_is_refused(name: str) -> None:
    with pytest.raises(MaskError):
        list(Png(NO_MASKS[name], Work()).painted(Work()))


def test_a_bitmask_is_not_unpacked_beyond_its_rows() -> None:
    bomb = zlib.compress(bytes(2**26), 9)
    assert list(Png(url(packed(HEADER, bomb)), Work()).painted(Work())) == []


@given(st.binary(max_size=200), st.integers(0, 150))
@example(b"", 0)
def test_whatever_a_bitmask_holds_it_is_read_or_refused(noise: bytes, place: int) -> None:
    data = bytearray(packed(HEADER, ROWS))
    data[place : place + len(noise)] = noise
    for value in (url(bytes(data)), "data:image/png;base64," + noise.decode("latin-1")):
        try:
            mask = Png(value, Work())
            painted = pixels(mask.painted(Work()), mask.width, mask.height)
        except MaskError:
            continue
        assert painted.shape == (mask.height, mask.width)


def test_hostile_masks_stop_at_the_work_that_is_given() -> None:
    noise = random.Random(1).randbytes(4 * 500)
    image = np.frombuffer(noise * 300, np.uint8).reshape(300, 500, 4)
    data = url(png_of(image, [4] * 300))
    work = Work(len(data) + 100_000)
    with pytest.raises(MaskError, match="too large"):
        list(Png(data, work).painted(work))


class CountedWork(Work):
    """Counts the steps that are taken."""

    def __init__(self) -> None:
        super().__init__(2**40)
        self.taken = 0

    def take(self, steps: int) -> None:
        self.taken += steps
        super().take(steps)


class CountedPiece(bytes):
    """Counts the bytes that are copied to append it to what stands before it."""

    copied = 0

    def __radd__(self, before: bytes) -> bytes:
        CountedPiece.copied += len(before) + len(self)
        return bytes(before) + bytes(self)


@pytest.mark.parametrize("pieces", [1_000, 8_000])
def test_a_bitmask_in_many_small_chunks_is_read_in_steps_and_copies_by_its_length(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = url(packed(HEADER, ROWS + bytes(pieces), each=1))  # what follows the rows is passed over
    work, chunks = CountedWork(), png._chunks
    monkeypatch.setattr(png, "_chunks", lambda of: ((kind, CountedPiece(part)) for kind, part in chunks(of)))
    monkeypatch.setattr(CountedPiece, "copied", 0)
    assert list(Png(data, work).painted(work)) == []
    assert len(data) <= work.taken <= 1.2 * len(data)
    assert CountedPiece.copied <= len(data)


def test_a_bitmask_too_long_for_the_work_is_refused_before_anything_of_it_is_decoded() -> None:
    with pytest.raises(MaskError, match="too large"):
        Png("data:image/png;base64," + "!" * 1001, Work(1000))
    with pytest.raises(MaskError, match="no PNG"):
        Png("data:image/png;base64," + "!" * 900, Work(1000))
