"""What a file is that Pillow does not know, as far as its beginning tells: the reason given to a person."""

from __future__ import annotations

import re

_DAMAGED = "a truncated or damaged {}"
_OTHER = "{}, which is not supported; convert it to PNG or JPEG"

_BEGINNINGS = (
    (b"\xff\xd8", _DAMAGED.format("JPEG")),
    (b"\x89PNG", _DAMAGED.format("PNG")),
    (b"GIF8", _DAMAGED.format("GIF")),
    (b"BM", _DAMAGED.format("BMP")),
    (b"\0\0\1\0", _DAMAGED.format("ICO")),
    (b"II*\0", "a truncated or damaged TIFF, or of a kind Pillow cannot read"),
    (b"MM\0*", "a truncated or damaged TIFF, or of a kind Pillow cannot read"),
    (b"II+\0", _OTHER.format("a BigTIFF")),
    (b"MM\0+", _OTHER.format("a BigTIFF")),
    (b"II\xbc", _OTHER.format("a JPEG XR image")),
    (b"\0\0\0\x0cjP  ", _OTHER.format("a JPEG 2000 image")),
    (b"\xff\x4f\xff\x51", _OTHER.format("a JPEG 2000 image")),
    (b"\0\0\0\x0cJXL ", _OTHER.format("a JPEG XL image")),
    (b"\xff\x0a", _OTHER.format("a JPEG XL image")),
    (b"8BPS", _OTHER.format("a Photoshop document")),
    (b"qoif", _OTHER.format("a QOI image")),
    (b"gimp xcf", _OTHER.format("a GIMP document")),
    (b"SIMPLE  =", _OTHER.format("a FITS image")),
    (b"\x76\x2f\x31\x01", _OTHER.format("an OpenEXR image")),
    (b"#?RADIANCE", _OTHER.format("a Radiance HDR image")),
    (b"DDS ", _OTHER.format("a DirectDraw surface")),
    (b"%!PS", _OTHER.format("a PostScript file")),
    (b"%PDF", "a PDF, not an image"),
    (b"PK\3\4", "a ZIP archive, not an image"),
    (b"\x1f\x8b", "a gzip archive, not an image"),
    (b"\x1a\x45\xdf\xa3", "a video, not an image"),
)

_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    **dict.fromkeys((b"mif1", b"msf1"), "HEIF"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
}
"""Of files in ISO's base media format; the others are videos."""

_ROOT = re.compile(rb"<(?:[a-z0-9_-]+:)?([a-z0-9_-]+)")
_SKIPPED = ((b"<?", b"?>"), (b"<!--", b"-->"), (b"<!doctype", b">"))
"""What may stand before the first element of a page or a drawing, and what ends it."""


def kind_of(data: bytes) -> str:
    """Why Pillow does not know these bytes, for a person."""
    root = _root_element(data)
    if root == b"html":
        return "a web page, not an image; the link may need a login"
    if root == b"svg":
        return "an SVG drawing, which is not supported; export it as PNG first"
    if data[:4] == b"RIFF":
        return _DAMAGED.format("WEBP") if data[8:12] == b"WEBP" else "a video or sound, not an image"
    if data[4:8] == b"ftyp":
        brand = _BRANDS.get(data[8:12])
        return (
            f"a damaged {brand} image or of an unsupported kind; convert it to JPEG"
            if brand
            else "a video, not an image"
        )
    if data[128:132] == b"DICM":
        return _OTHER.format("a DICOM file")
    for beginning, meaning in _BEGINNINGS:
        if data.startswith(beginning):
            return meaning
    shown = data[:8].decode("ascii", "replace")
    quoted = repr(shown + "…" * (len(data) > 8)) if shown.isprintable() and shown.isascii() else data[:8].hex(" ")
    return f"not an image (it starts with {quoted})"


def _root_element(data: bytes) -> bytes:
    """The name of the first element of a page or a drawing, in small letters; empty if it is neither."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        data = data.decode("utf-16", "ignore").encode()
    text = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith(b"<"):
        return b""
    text, place = text.lower(), 0
    while (root := _ROOT.match(text, place)) is None:
        ends = [end for start, end in _SKIPPED if text.startswith(start, place)]
        after = text.find(ends[0], place) if ends else -1
        if after < 0:
            return b"html" if text.startswith(b"<!doctype html") else b""
        place = after + len(ends[0])
        while text[place : place + 1].isspace():
            place += 1
    return root[1]
