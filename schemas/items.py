"""Items: what is labelled. References to images, never pixels."""

from __future__ import annotations

import base64
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from functools import cached_property
from typing import Annotated, Final, Self

from pydantic import Field, model_validator

from .errors import ConfigError
from .masks import Mask
from .references import display_uri, travelling
from .taxonomy import Label
from .wire import Model, brief, kind_of

Percent = Annotated[float, Field(ge=0.0, le=100.0)]

INLINE_BYTES: Final = 4 * 2**20
"""Largest image that travels in its reference: until it is scored, Redis holds all of it, a third larger."""


UNREADABLE: Final = "unreadable:"
"""The address of an image of which nothing is known."""


class Region(Model):
    """A box in an image, as Label Studio's RectangleLabels gives it.

    `x`, `y` (top-left corner), `width` and `height` are percent (0..100) of the upright image; `rotation` is in
    degrees, clockwise about the top-left corner. `mask` says which part of the box counts; without one all of it does.
    """

    x: Percent
    y: Percent
    width: Annotated[float, Field(gt=0.0, le=100.0)]
    height: Annotated[float, Field(gt=0.0, le=100.0)]
    rotation: Annotated[float, Field(allow_inf_nan=False)] = 0.0
    mask: Mask | None = None


class Origin(Model):
    """A region as its platform knows it: its `id`, and `stored`, what the platform holds of it as JSON.

    Of what is too large to travel, such as the pixels of a brush, `stored` is empty and `digest` (hexadecimal) is that
    of the JSON: whoever needs it asks the platform again, and knows by the digest whether it is still the same.
    """

    id: Annotated[str, Field(min_length=1)]
    stored: str = "[]"
    digest: Annotated[str, Field(pattern="^([0-9a-f]{32})?$")] = ""


class ImageRef(Model):
    """Where an image is: a local path or `file:`, `http(s):`, `s3:` or `data:` URI.

    `name` says which images of an item a control asks about (in Label Studio the `<Image>` tag's name); those that
    share one are a list, in their order. `origin` is where a region comes from. `vector` is the key of the image's
    stored vector (hexadecimal), where it is known: a worker that has it does not fetch the image. `problem` is why the
    image can never be had, where that is known beforehand: nobody fetches it, and it keeps its place in a list.
    """

    uri: Annotated[str, Field(min_length=1)]
    region: Region | None = None
    origin: Origin | None = None
    name: str | None = None
    vector: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None
    problem: Annotated[str, Field(min_length=1)] | None = None

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview, *, name: str | None = None) -> Self:
        """An image that travels in its reference, where there is no file or address to name.

        Args:
            data: the image as a file would hold it (JPEG, PNG, …), 4 MiB at most; no bare pixels.
            name: see `name`.

        Raises:
            ConfigError: no bytes, none at all, or too many.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise ConfigError(
                f"ImageRef.from_bytes takes the bytes of an image file, not {kind_of(data)}: save the image into an "
                "io.BytesIO first"
            )
        content = bytes(data)
        if not content:
            raise ConfigError("ImageRef.from_bytes got no bytes")
        if len(content) > INLINE_BYTES:
            raise ConfigError(
                f"an image of {len(content) / 2**20:.1f} MiB is too large for a reference "
                f"({INLINE_BYTES // 2**20} MiB at most): put it where workers read it, and give its address"
            )
        return cls(uri=f"data:application/octet-stream;base64,{base64.b64encode(content).decode()}", name=name)

    @classmethod
    def unusable(cls, problem: str, *, name: str | None = None) -> Self:
        """Stands for an image that can never be had; see `problem`."""
        return cls(uri=UNREADABLE, name=name, problem=problem)

    @property
    def display(self) -> str:
        """The reference as it may be shown: no password, no signature, no payload; see `display_uri`."""
        return display_uri(self.uri)

    def __repr__(self) -> str:
        return f"ImageRef({self.display!r})"

    __str__ = __repr__


class Options(Model):
    """Labels an item brings along for a control whose taxonomy is open."""

    labels: Annotated[tuple[Label, ...], Field(min_length=1)]

    @cached_property
    def json_text(self) -> str:
        """As it travels."""
        return self.model_dump_json(exclude_defaults=True)

    @cached_property
    def digest(self) -> str:
        """32 hex digits, the same for the same labels."""
        return hashlib.blake2b(self.json_text.encode(), digest_size=16).hexdigest()


class Item(Model):
    """One thing to label: usually one image, several where a task shows several.

    `id` is the caller's name for it; it defaults to the first image's displayed reference. `options` are the labels it
    brings along, by control name; `problems` says by control name why what it brings cannot be used: that control is
    not answered, the others are.
    """

    id: str = ""
    images: Annotated[tuple[ImageRef, ...], Field(min_length=1)]
    options: dict[str, Options] = Field(default_factory=dict)
    problems: dict[str, str] = Field(default_factory=dict)

    @classmethod
    def of(cls, source: str | os.PathLike[str] | ImageRef | Item) -> Item:
        """An item from whatever a caller has: a reference, a path, an `ImageRef` or an `Item`.

        Raises:
            ConfigError: an empty reference or another type.
        """
        if isinstance(source, Item):
            return source
        if isinstance(source, ImageRef):
            return cls(images=(source,))
        reference = os.fspath(source) if isinstance(source, os.PathLike) else source
        if isinstance(reference, str) and reference:
            return cls(images=(ImageRef(uri=travelling(reference)),))
        if isinstance(reference, str):
            raise ConfigError("an item is an empty text: give the path or the URL of an image")
        raise ConfigError(
            f"an item is an image reference (path or URL), an ImageRef or an Item, not {kind_of(source)}; for the "
            "bytes of an image file: ImageRef.from_bytes(...)"
        )

    @classmethod
    def unreadable(cls, ordinal: int) -> Self:
        """Stands for an item of which only the place in its job can be read."""
        return cls(id=f"item {brief(ordinal)}", images=(ImageRef(uri=UNREADABLE),))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.images) > 1 and any(image.name is None for image in self.images):
            raise ConfigError("the images of an item with several images need names")
        if not self.id:
            object.__setattr__(self, "id", self.images[0].display)
        return self

    @property
    def problem(self) -> str:
        """What keeps a part of it from being answered, as far as that is known beforehand; empty when nothing does."""
        told = (*self.problems.values(), *(image.problem for image in self.images))
        return next(filter(None, told), "")

    def image(self, name: str | None) -> ImageRef | None:
        """The image a control asks about: the named one, or the first when no name is given."""
        return next(iter(self.images_of(name)), None)

    def images_of(self, name: str | None) -> tuple[ImageRef, ...]:
        """The images of this name in their order; the first image when no name is given.

        An item's only image need not have a name: whatever asks about one means it. So the questions of a label config
        with one image can be asked about plain references.

        Raises:
            ConfigError: the name is no text.
        """
        if not isinstance(name, str | None):
            raise ConfigError(f"an image's name is a text, not {kind_of(name)}")
        if name is None or (len(self.images) == 1 and self.images[0].name is None):
            return self.images[:1]
        return tuple(image for image in self.images if image.name == name)

    def slots(self) -> list[str]:
        """A name for each image that differs from the others': its own, and its number where it shares that.

        The number follows a control character, which no XML name holds.
        """
        return slots_of(image.name or "" for image in self.images)


def slots_of(names: Iterable[str]) -> list[str]:
    """See `Item.slots`.

    Args:
        names: of the images of an item, in their order; empty where an image has none.
    """
    seen: Counter[str] = Counter()
    made = []
    for name in names:
        made.append(f"{name}\x1f{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return made
