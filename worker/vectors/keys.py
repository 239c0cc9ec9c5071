"""Keys of stored vectors: what an image was, read as which model reads it."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from ...schemas.items import ImageRef, Region
from ...schemas.models import ModelCard

VectorKey = bytes
"""16 bytes: 12 of BLAKE2b of everything a vector depends on, and the 4 of its space's `space_tag`."""

TAG_BYTES = 4

_SPACE_VERSION = 2
"""Bumped when prelabel itself makes other pixels or vectors of the same bytes."""


def vector_space(model_id: str, dim: int, preprocessing: str) -> str:
    """A name for all vectors that may be compared with each other: other arguments, another name.

    Args:
        model_id: `<model>@<revision8>`.
        dim: length of its embeddings.
        preprocessing: everything else that changes a vector of the same image, like "fast" or "exact".
    """
    return json.dumps([_SPACE_VERSION, model_id, dim, preprocessing])


def image_space(card: ModelCard, dtype: str) -> str:
    """The name for the vectors of images that a model makes.

    Args:
        card: the model's facts.
        dtype: what it computes in.
    """
    return vector_space(card.id, card.dim, f"{card.preprocessing} {dtype}")


def text_space(card: ModelCard, dtype: str) -> str:
    """The same of texts."""
    return vector_space(card.id, card.dim, f"text {card.tokenisation} {dtype}")


def space_tag(space: str) -> bytes:
    """How every key of a space ends, so that a key somebody hands on tells whether its vector may be compared.

    Args:
        space: from `vector_space`.
    """
    name = space.encode(errors="surrogatepass")
    return hashlib.blake2b(name, digest_size=TAG_BYTES, person=b"prelabel.space").digest()


class ImageKeys(NamedTuple):
    """The keys under which an image, or a region of one, is remembered.

    Attributes:
        space: from `vector_space`.
        ref: the image and its region; no region is the whole image.
    """

    space: str
    ref: ImageRef

    def content(self, data: bytes) -> VectorKey:
        """The key of the vector of the image that is in an undecoded file, wherever that file lies."""
        # Of a megabyte: SHA-256 has instructions of its own in today's processors, BLAKE2b takes twice as long.
        return _vector_key(b"prelabel.image", self.space, hashlib.sha256(data).digest(), _canonical(self.ref.region))

    def stamp(self, mark: str) -> bytes:
        """The key of "this object had that content".

        Args:
            mark: changes whenever the object does, see `Fetched`; of the object's address only a hash is kept.
        """
        return _key(b"prelabel.stamp", self.space, self.ref.uri, mark, _canonical(self.ref.region))


def text_key(space: str, prompt: str) -> VectorKey:
    """The key of a prompt's vector."""
    return _vector_key(b"prelabel.text", space, prompt)


def _canonical(region: Region | None) -> str:
    # Without what is None: a region that has no mask keeps the key it had before there were any.
    return region.model_dump_json(exclude_none=True) if region else ""


def _vector_key(person: bytes, space: str, *parts: str | bytes) -> VectorKey:
    return _key(person, space, *parts)[:-TAG_BYTES] + space_tag(space)


def _key(person: bytes, *parts: str | bytes) -> bytes:
    """BLAKE2b-128 of the parts, each behind its length: no two lists of parts are the same bytes."""
    digest = hashlib.blake2b(digest_size=16, person=person)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode(errors="surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
