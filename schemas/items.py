"""Items: what is labelled. References to images, never pixels."""

from __future__ import annotations

import hashlib
from collections import Counter
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from .errors import ConfigError
from .references import display_uri
from .taxonomy import Label
from .wire import Model

Percent = Annotated[float, Field(ge=0.0, le=100.0)]


class Region(Model):
    """A box in an image, as Label Studio's RectangleLabels gives it.

    `x`, `y` (top-left corner), `width` and `height` are percent (0..100) of the upright image; `rotation` is in
    degrees, clockwise about the top-left corner.
    """

    x: Percent
    y: Percent
    width: Annotated[float, Field(gt=0.0, le=100.0)]
    height: Annotated[float, Field(gt=0.0, le=100.0)]
    rotation: float = 0.0


class Origin(Model):
    """A region as its platform knows it: its `id`, and `stored`, what the platform holds of it as JSON."""

    id: Annotated[str, Field(min_length=1)]
    stored: str = "[]"


class ImageRef(Model):
    """Where an image is: a local path or `file:`, `http(s):`, `s3:` or `data:` URI.

    `name` says which images of an item a control asks about (in Label Studio the `<Image>` tag's name); those that
    share one are a list, in their order. `origin` is where a region comes from. `vector` is the key of the image's
    stored vector (hexadecimal), where it is known: a worker that has it does not fetch the image.
    """

    uri: Annotated[str, Field(min_length=1)]
    region: Region | None = None
    origin: Origin | None = None
    name: str | None = None
    vector: Annotated[str, Field(pattern="^[0-9a-f]{32}$")] | None = None

    @property
    def display(self) -> str:
        """The reference as it may be shown: no password, no query (it may hold a signature), no payload."""
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
    brings along, by control name.
    """

    id: str = ""
    images: Annotated[tuple[ImageRef, ...], Field(min_length=1)]
    options: dict[str, Options] = Field(default_factory=dict)

    @classmethod
    def of(cls, source: str | ImageRef | Item) -> Item:
        """An item from whatever a caller has: a reference, an `ImageRef` or an `Item`.

        Raises:
            ConfigError: an empty reference or another type.
        """
        if isinstance(source, Item):
            return source
        if isinstance(source, ImageRef):
            return cls(images=(source,))
        if isinstance(source, str) and source:
            try:
                return cls(images=(ImageRef(uri=source),))
            except ValidationError:  # a file name whose bytes are no UTF-8
                raise ConfigError(f"{source!a} cannot be written as UTF-8: rename the file") from None
        raise ConfigError(f"an item must be an image reference, an ImageRef or an Item, got {source!r}")

    @classmethod
    def unreadable(cls, ordinal: int) -> Self:
        """Stands for an item of which only the place in its job can be read."""
        return cls(id=f"item {ordinal}", images=(ImageRef(uri="unreadable:"),))

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.images) > 1 and any(image.name is None for image in self.images):
            raise ConfigError("the images of an item with several images need names")
        if not self.id:
            object.__setattr__(self, "id", self.images[0].display)
        return self

    def image(self, name: str | None) -> ImageRef | None:
        """The image a control asks about: the named one, or the first when no name is given."""
        return next(iter(self.group(name)), None)

    def group(self, name: str | None) -> tuple[ImageRef, ...]:
        """The images of this name in their order; the first image when no name is given."""
        if name is None:
            return self.images[:1]
        return tuple(image for image in self.images if image.name == name)

    def slots(self) -> list[str]:
        """A name for each image that differs from the others': its own, and its number where it shares that.

        The number follows a control character, which no XML name holds.
        """
        seen: Counter[str] = Counter()
        made = []
        for image in self.images:
            name = image.name or ""
            made.append(f"{name}\x1f{seen[name]}" if seen[name] else name)
            seen[name] += 1
        return made
