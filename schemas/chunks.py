"""Chunks: the unit of queueing. References to images, never pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from .errors import ConfigError
from .items import Item, Options
from .references import display_uri
from .wire import Model, brief


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
        try:
            items = [
                {**item, "options": {name: table[place] for name, place in item["options"].items()}}
                if "options" in item
                else item
                for item in data["items"]
            ]
        except (AttributeError, LookupError, TypeError):
            raise ValueError("the items do not fit the table of options") from None
        return {**{key: value for key, value in data.items() if key != "options"}, "items": items}

    @model_validator(mode="after")
    def _each_has_an_ordinal(self) -> Self:
        _ordinals(self.first, self.ordinals, len(self.items))
        return self

    @staticmethod
    def ordinals_in(text: str | bytes) -> Sequence[int]:
        """The ordinals of the items of a chunk that `from_json` refuses; none where they cannot be told."""
        try:
            outline = _Outline.model_validate_json(text)
            return _ordinals(outline.first, outline.ordinals, outline.count)
        except ValueError:  # what pydantic raises is one
            return ()

    @staticmethod
    def first_in(text: str | bytes) -> int | None:
        """The ordinal a chunk begins with, also of one that refers to its items; None where it cannot be told."""
        try:
            return _Outline.model_validate_json(text).first
        except ValueError:
            return None

    @staticmethod
    def ids_in(text: str | bytes) -> tuple[Sequence[int], Sequence[str]]:
        """The ordinals and ids of a chunk's items, ten times as fast as its items are read; none where it cannot be."""
        try:
            chunk = json.loads(text)
            ids = [item.get("id") or display_uri(item["images"][0]["uri"]) for item in chunk.get("items", ())]
            return _ordinals(chunk.get("first", 0), chunk.get("ordinals"), len(ids)), ids
        except (ValueError, LookupError, TypeError, AttributeError):
            return (), ()

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
        return list(zip(_ordinals(self.first, self.ordinals, len(self.items)), self.items, strict=True))

    def item(self, ordinal: int) -> Item:
        """The item with this ordinal.

        Raises:
            ConfigError: there is none.
        """
        try:
            return self.items[_ordinals(self.first, self.ordinals, len(self.items)).index(ordinal)]
        except Exception:  # a value's own `==` may fail
            raise ConfigError(f"the chunk has no item {brief(ordinal)}") from None


class Source(Model):
    """Where the items of a chunk are that only refers to them: among what another job has answered.

    Attributes:
        job: that job's id.
        after: the entry of its results (a stream id) behind which they begin.
        upto: the entry with which they end.
        count: how many there are.
    """

    job: str
    after: str
    upto: str
    count: Annotated[int, Field(ge=1)]


class SourceChunk(Model):
    """A chunk that refers to its items. Whoever works on it first puts the `Chunk` itself in its place.

    Attributes:
        first: ordinal of its first item; the others follow.
        source: where the items are.
    """

    first: int = 0
    source: Source

    @classmethod
    def find(cls, text: str | bytes) -> Self | None:
        """Read a chunk's JSON; None where it has its items itself, or cannot be read."""
        if b'"source"' not in (text if isinstance(text, bytes) else text.encode())[:_REFERENCE_BYTES]:
            return None
        try:
            return cls.model_validate_json(text)
        except ValueError:
            return None


_REFERENCE_BYTES = 64
"""A chunk that refers to its items says so at its start, and no other does."""


class _Outline(BaseModel):
    """Of a chunk, what says how many items there are and which: for whoever cannot read the items themselves."""

    first: int = 0
    ordinals: tuple[int, ...] | None = None
    items: tuple[Any, ...] = ()
    source: Source | None = None

    @property
    def count(self) -> int:
        return len(self.items) if self.source is None else self.source.count


def _ordinals(first: int, ordinals: tuple[int, ...] | None, count: int) -> Sequence[int]:
    """See `Chunk.ordinals`.

    Raises:
        ValueError: an item has none, or one below 0.
    """
    all_ordinals = ordinals or range(first, first + count)
    if len(all_ordinals) != count or min(all_ordinals, default=0) < 0:
        raise ValueError("the ordinals do not fit the items")
    return all_ordinals
