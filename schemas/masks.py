"""Masks: which part of a region counts. What a mask leaves out is filled with one neutral colour."""

from __future__ import annotations

import base64
import binascii
import zlib
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from .wire import Model

Number = Annotated[float, Field(allow_inf_nan=False)]
"""Percent of the upright image's width or height; a mask may reach beyond the image."""

MASK_POINTS: Final = 500
"""Corners of a polygon that travel."""

MASK_CELLS: Final = 128
"""Cells of a bitmap, each way: a quarter of what the model sees of it."""


class EllipseMask(Model):
    """What lies in an ellipse.

    `x`, `y` (its centre) and its radii are percent of the upright image: `radius_x` of its width, `radius_y` of its
    height. `rotation` is in degrees, clockwise about the centre.
    """

    kind: Literal["ellipse"]
    x: Number
    y: Number
    radius_x: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    radius_y: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    rotation: Number = 0.0


class PolygonMask(Model):
    """What lies in a polygon; `points` are its corners."""

    kind: Literal["polygon"]
    points: Annotated[tuple[tuple[Number, Number], ...], Field(min_length=3, max_length=MASK_POINTS)]


class BitmapMask(Model):
    """The cells that are set of a grid spread over the region's box.

    `bits` holds the rows from the top, each of whole bytes with its first cell in the highest bit (as PBM has it),
    deflated, as base64.
    """

    kind: Literal["bitmap"]
    columns: Annotated[int, Field(ge=1, le=MASK_CELLS)]
    rows: Annotated[int, Field(ge=1, le=MASK_CELLS)]
    bits: Annotated[str, Field(max_length=4 * MASK_CELLS**2)]

    @classmethod
    def of(cls, columns: int, rows: bytes) -> Self:
        """A mask from its rows."""
        count = len(rows) // _bytes_across(columns)
        return cls(kind="bitmap", columns=columns, rows=count, bits=base64.b64encode(zlib.compress(rows, 9)).decode())

    @property
    def unpacked(self) -> bytes:
        """The rows, see `bits`."""
        size = _bytes_across(self.columns) * self.rows
        try:
            rows = zlib.decompressobj().decompress(base64.b64decode(self.bits, validate=True), size + 1)
        except (binascii.Error, zlib.error):
            raise ValueError("the bits of a mask are not deflated rows as base64") from None
        if len(rows) != size:
            raise ValueError("the bits of a mask do not fit its columns and rows")
        return rows

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.unpacked  # noqa: B018  # raises
        return self


Mask = Annotated[EllipseMask | PolygonMask | BitmapMask, Field(discriminator="kind")]


def _bytes_across(columns: int) -> int:
    return -(-columns // 8)
