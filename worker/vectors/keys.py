"""Keys of stored vectors: what an image was, read as which model reads it."""

from __future__ import annotations

import hashlib
import json

from ...schemas.items import Region

VectorKey = bytes
"""16 bytes: BLAKE2b of everything a vector depends on."""

_SPACE_VERSION = 1
"""Bumped when prelabel itself makes other pixels or vectors of the same bytes."""


def vector_space(model_id: str, dim: int, preprocessing: str) -> str:
    """A name for all vectors that may be compared with each other: other arguments, another name.

    Args:
        model_id: `<model>@<revision8>`.
        dim: length of its embeddings.
        preprocessing: everything else that changes a vector of the same image, like "fast" or "exact".
    """
    return json.dumps([_SPACE_VERSION, model_id, dim, preprocessing])


def content_key(space: str, content: bytes, region: Region | None) -> VectorKey:
    """The key of an image file's vector, or of a region's crop of it.

    Args:
        space: from `vector_space`.
        content: the file's bytes, undecoded.
        region: the crop; None is the whole image.
    """
    # Of a megabyte: SHA-256 has instructions of its own in today's processors, BLAKE2b takes twice as long.
    return _key(b"prelabel.image", space, hashlib.sha256(content).digest(), _canonical(region))


def stamp_key(space: str, uri: str, validator: str, region: Region | None) -> bytes:
    """The key of "this object had that content".

    Args:
        space: from `vector_space`.
        uri: the reference; only its hash is kept.
        validator: changes whenever the object does: an ETag and size, or size, time of change and inode.
        region: as for `content_key`.
    """
    return _key(b"prelabel.stamp", space, uri, validator, _canonical(region))


def text_key(space: str, prompt: str) -> VectorKey:
    """The key of a prompt's vector."""
    return _key(b"prelabel.text", space, prompt)


def _canonical(region: Region | None) -> str:
    return region.model_dump_json() if region else ""


def _key(person: bytes, *parts: str | bytes) -> bytes:
    """BLAKE2b-128 of the parts, each behind its length: no two lists of parts are the same bytes."""
    made = hashlib.blake2b(digest_size=16, person=person)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode(errors="surrogatepass")
        made.update(len(data).to_bytes(8, "little"))
        made.update(data)
    return made.digest()
