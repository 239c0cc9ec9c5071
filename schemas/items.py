"""Items: what is labelled. References to images, never pixels."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, ValidationError, model_validator

from .errors import ConfigError
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


class Chunk(Model):
    """The unit of queueing: up to 64 items of one job and their ordinals (index in the submission, from 0).

    `ordinals` is left out when they run on from `first`.
    """

    first: int = 0
    ordinals: tuple[int, ...] | None = None
    items: tuple[Item, ...]

    @model_validator(mode="before")
    @classmethod
    def _share_options(cls, data: Any) -> Any:
        """Put the table's entries where items refer to them; each is one object then, however many items have it."""
        if not isinstance(data, Mapping) or not data.get("options"):
            return data
        table = [Options.model_validate(entry) for entry in data["options"]]
        items = [
            {**item, "options": {name: table[place] for name, place in item["options"].items()}}
            if "options" in item
            else item
            for item in data["items"]
        ]
        return {**{key: value for key, value in data.items() if key != "options"}, "items": items}

    def to_json(self) -> str:
        """Compact JSON.

        An id that is its image's displayed reference is left out, and made again when it is read. Options that several
        items bring stand there once, in a table `options`.
        """
        bare = tuple(
            Item.model_construct(images=item.images) if item.id == item.images[0].display else item
            for item in self.items
        )
        chunk = self.model_copy(update={"items": bare})
        if not any(item.options for item in self.items):
            return chunk.model_dump_json(exclude_defaults=True)
        fields = chunk.model_dump(mode="json", exclude_defaults=True, exclude={"items": {"__all__": {"options"}}})
        table: dict[str, tuple[int, Options]] = {}
        for item, written in zip(self.items, fields["items"], strict=True):
            for options in item.options.values():
                table.setdefault(options.digest, (len(table), options))
            if item.options:
                written["options"] = {name: table[options.digest][0] for name, options in item.options.items()}
        entries = ",".join(options.json_text for _, options in table.values())
        return f'{{"options":[{entries}],{json.dumps(fields, ensure_ascii=False, separators=(",", ":"))[1:]}'

    def pairs(self) -> list[tuple[int, Item]]:
        """Each item with its ordinal."""
        ordinals = self.ordinals or range(self.first, self.first + len(self.items))
        return list(zip(ordinals, self.items, strict=True))

    def item(self, ordinal: int) -> Item:
        """The item with this ordinal."""
        return self.items[self.ordinals.index(ordinal) if self.ordinals else ordinal - self.first]


_WITH_PASSWORDS = ("redis", "rediss")
_PLAIN = re.compile(r"(?:https?|s3|file)://[^@?#;\s\[\]]*")
"""Nothing to hide; most references of a large job."""

_DATA_URI = re.compile(r"data:[^,]{0,100}", re.IGNORECASE)


def display_uri(uri: str) -> str:
    """`uri` without user, password, query, fragment or inline payload."""
    if uri[:5].lower() == "data:":
        head = _DATA_URI.match(uri)
        return f"{head.group(0) if head else 'data:'},… ({len(uri)} characters)"
    if "://" not in uri or _PLAIN.fullmatch(uri):
        return uri
    scheme, _, rest = uri.partition("://")
    if scheme.lower() in _WITH_PASSWORDS:
        rest = rest.rpartition("@")[2]  # a password may hold any character, "/" and "#" among them
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return f"{scheme}://…"
