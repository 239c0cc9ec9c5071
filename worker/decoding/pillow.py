"""Decoding: from the bytes of an image file to upright RGB pixels, as a person sees them in the browser.

Choices, where there is one:

- **Formats**: JPEG (with MPO, the JPEG of two-lens cameras), PNG, WebP, GIF, BMP, TIFF, icons and cursors (the largest
  picture in them) and, where Pillow was built with it, AVIF. Pillow knows many more; their parsers are attack surface,
  and no browser shows them.
- **Transparency** lies over white, as transformers' processor has it since 5.x and as Label Studio's page shows it.
  Dropping alpha instead would bring back whatever colours an editor left under the transparent parts.
- **16-bit grey** is divided by 257, so that 65535 is white. Pillow's own conversion clips: nearly all is white.
- **32-bit integers and floats** have no white of their own. Integers that all lie in 0..65535 are read as 16-bit
  grey and floats that all lie in 0..1 as black to white; anything else is stretched from its least to its greatest
  value. NaN is black.
- **Colour profiles** are not applied: the model's own processor does not either.
- **First frame** of animations, first page of TIFFs. The picture that some animated PNGs have for programs that show no
  animations is none of their frames, and no browser shows it.
- **Orientation** is EXIF's. XMP repeats it, and browsers do not look there.
- **Out of memory** is reported on the item, not retried: the size was checked before, so trying again at the same
  load would most likely fail again and take the worker's other images with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from ...schemas.errors import ItemError
from ...schemas.items import Region
from .crop import crop
from .icon import is_icon, largest_picture
from .jpeg import END, JPEG, check_scans, is_whole, scans_of
from .kinds import kind_of
from .png import PNG, pixels_only
from .tiff import check_parts
from .timed import TimedFile

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "ICO")

# Bytes a pixel at the peak of `unpack`, rounded up; the file's own are counted apart.
_WIDE_BYTES = 20
_LAYERED_BYTES = 25
_PLAIN_BYTES = 18
_WHOLE_CANVAS = ("WEBP", "AVIF")
"""Their decoders keep canvases of their own, with alpha whether it is used or not."""

_TILE_WIDTH, _TILE_HEIGHT = 322, 323

_WHITE = (255, 255, 255, 255)

_XMP = ("xmp", "XML:com.adobe.xmp", "Raw profile type xmp")
"""What Pillow calls that block of metadata."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data: bytes, *, max_pixels: int, region: Region | None = None) -> Image.Image:
    """The image as a person sees it: RGB, upright, cropped to `region` if one is given.

    Safe to call from many threads; changes none of Pillow's settings. Pillow may warn: see `logs.quiet_pillow`.

    Args:
        data: an image file.
        max_pixels: the largest width times height that is decoded, at least 1; checked against the file's header
            before any pixel is. Pillow's own bound, about 179 million pixels, holds besides.
        region: a box in percent of the upright image, rotated clockwise about its top-left corner. What sticks out
            of the image is cut off, or grey where the box is rotated.

    Raises:
        ItemError: not an image, of another format, damaged, too large, or a region that holds no whole pixel.
    """
    upright = unpack(open_packed(data, max_pixels))
    return upright if region is None else crop(upright, region)


class Packed(NamedTuple):
    """An image file that may be decoded: its header is read and its size checked, its pixels are still packed.

    Attributes:
        data: the file.
        image: what Pillow read of it.
        scans: of a JPEG; 0 for other formats.
        endless: whether it is a JPEG whose end was missing: it may be all that is, and pixels may be.
    """

    data: bytes
    image: Image.Image
    scans: int
    endless: bool = False

    @property
    def memory(self) -> int:
        """Bytes that `unpack` takes at its peak, and no less: measured for each format and kind of pixel."""
        width, height = self.image.size
        return width * height * _bytes_per_pixel(self.image) + len(self.data)


def _bytes_per_pixel(image: Image.Image) -> int:
    if image.mode in ("I", "F"):
        return _WIDE_BYTES
    if image.format in _WHOLE_CANVAS or has_alpha(image) or image.info.get("default_image"):
        return _LAYERED_BYTES
    return _PLAIN_BYTES


def unpack(packed: Packed) -> Image.Image:
    """The pixels of an image as a person sees it: RGB, upright. The file is closed.

    Raises:
        ItemError: damaged, or no memory for it.
    """
    image = packed.image
    try:
        if packed.endless and not is_whole(packed.data):
            raise OSError("its end is missing")
        if isinstance(image, ImageFile) and isinstance(image.fp, TimedFile):
            image.fp.begin()
        return _upright(image)
    except ItemError:
        raise
    except MemoryError:
        width, height = image.size
        raise ItemError(
            f"not enough memory to decode {width}x{height} pixels: lower PRELABEL_MAX_IMAGE_PIXELS or "
            "PRELABEL_DECODE_BYTES, then retry"
        ) from None
    except Exception as error:
        # Pillow's parsers raise nearly anything on hostile bytes (OSError, SyntaxError, struct.error, KeyError, …).
        if image.format == "PNG" and (reduced := _reduced(packed)):
            return unpack(reduced)
        raise ItemError(f"truncated or damaged {image.format} ({_first_line(error)})") from None


def _reduced(packed: Packed) -> Packed | None:
    """A PNG without the texts and profiles behind its pixels, if it is the same picture then."""
    reduced = pixels_only(packed.data)
    try:
        image = Image.open(TimedFile(reduced), formats=("PNG",))
    except Exception:
        return None
    same = reduced != packed.data and image.size == packed.image.size
    return Packed(reduced, image, 0) if same else None


def _upright(image: Image.Image) -> Image.Image:
    with image:
        if image.info.get("default_image"):
            image.seek(1)
        image.load()
        turn = _TURNS.get(orientation(image))
        shown = _to_rgb(image)
    return shown if turn is None else shown.transpose(turn)


def open_packed(data: bytes, max_pixels: int) -> Packed:
    """The image with its header read and its size checked.

    Raises:
        ItemError: not an image, of another format, too large, or of too many scans.
    """
    if not data:
        raise ItemError("empty file")
    if is_icon(data):
        data = largest_picture(data)
    check_parts(data)
    scans, endless = 0, False
    if data.startswith(JPEG):
        scans, ended = scans_of(data)
        if endless := scans > 0 and not ended:
            data += END
    try:
        image = _opened(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many_pixels(max_pixels) from None
    except UnidentifiedImageError:
        raise ItemError(kind_of(data)) from None
    except ItemError:
        raise
    except Exception as error:
        if str(error).startswith("Unsupported"):
            raise ItemError(f"an image of a kind that is not supported ({_first_line(error)})") from None
        raise ItemError(f"truncated or damaged image ({_first_line(error)})") from None
    width, height = image.size
    if width < 1 or height < 1:
        raise ItemError(f"an image of {width}x{height} pixels")
    if isinstance(image, TiffImageFile):  # libtiff unpacks whole tiles, and those may be larger than the image
        width, height = max(width, image.tag_v2.get(_TILE_WIDTH, 0)), max(height, image.tag_v2.get(_TILE_HEIGHT, 0))
    if width * height > max_pixels:
        raise _too_many_pixels(max_pixels, f"{width}x{height}: ")
    check_scans(scans, width, height)
    return Packed(data, image, scans, endless)


def _opened(data: bytes) -> Image.Image:
    """What Pillow reads of a file's header; of a PNG without its texts and profiles where those are the trouble."""
    try:
        return Image.open(TimedFile(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, ItemError):
        raise
    except Exception:
        if not data.startswith(PNG):
            raise
        return Image.open(TimedFile(pixels_only(data)), formats=FORMATS)


def _too_many_pixels(max_pixels: int, size: str = "") -> ItemError:
    pillow = 2 * (Image.MAX_IMAGE_PIXELS or max_pixels)
    if max_pixels > pillow:
        return ItemError(f"{size}more than {pillow:,} pixels, the most Pillow decodes safely")
    return ItemError(f"{size}more than {max_pixels:,} pixels (PRELABEL_MAX_IMAGE_PIXELS)")


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8. Pillow has already turned TIFFs while loading and then says 1."""
    for name in _XMP:  # where Pillow looks if EXIF has none
        image.info.pop(name, None)
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:
        # EXIF is written by every camera and broken by every editor; the pixels are good all the same.
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = values // 257
        if isinstance(key := image.info.get("transparency"), int):  # Pillow converts only other modes by it
            grey[values == key] = 255
        return _from_grey(grey)
    if image.mode in ("I", "F"):
        return _from_grey(_stretched(np.array(image, dtype=np.float32), 65535.0 if image.mode == "I" else 1.0))
    if image.mode == "LAB":
        to_srgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return to_srgb.apply(image)
    if has_alpha(image):
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, _WHITE), layer).convert("RGB")
    return image.convert("RGB")


def has_alpha(image: Image.Image) -> bool:
    """Whether parts of it may be transparent."""
    return "A" in image.getbands() or image.info.get("transparency") is not None


def _stretched(values: npt.NDArray[np.float32], white: float) -> npt.NDArray[np.float32]:
    """Wide values as 0..255: `white` is white if all lie in 0..`white`, else their own range is stretched.

    They are written over: copies of a large image would take more memory than all the rest of its decoding.
    """
    finite = np.isfinite(values)
    low, high = (float(values.min(where=finite, initial=np.inf)), float(values.max(where=finite, initial=-np.inf)))
    if low > high:
        low, high = 0.0, 0.0  # none is
    if low >= 0.0 and high <= white:
        low, high = 0.0, white
    with np.errstate(all="ignore"):  # what overflows is clipped below
        values -= np.float32(low)
        values *= np.float32(255.0 / ((high - low) or 1.0))
    np.nan_to_num(values, copy=False, nan=0.0)
    values += np.float32(0.5)
    return values.clip(0, 255, out=values)


def _from_grey(values: npt.NDArray[Any]) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8)).convert("RGB")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:100]
