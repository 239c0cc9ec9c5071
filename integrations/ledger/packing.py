"""Single outcomes packed for the ledger: a version byte, then deflated JSON with the job's own words as dictionary.

So stand failures, and items of which a part has no answer; before there were `columns`, every outcome stood so.

An outcome names the same fields and labels again and again, and so does every other outcome of its job. Deflate
(RFC 1951) with a preset dictionary refers to them instead: some 300 bytes for twenty labels' scores instead of 2,000.

The dictionary is part of the format: with another byte in it nothing stored can be read. So its text stands here and is
not made from today's models, which gain fields. Whatever changes it, or comes in its place, is another version.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from ...schemas.errors import ConfigError, WireVersionError
from ...schemas.predictions import Outcome

VERSION: Final = 1
"""First byte of a packed outcome."""

_WINDOW = 32 * 1024
"""Deflate looks back no further; what is likelier stands nearer to the end."""

_FORMAT = 15
"""Zlib's own framing (RFC 1950): ten bytes for checksums of the dictionary and of the text, so that an outcome packed
against another spec is an error and not another outcome."""

_LEVEL = 6


def pack(outcome: Outcome, spec: bytes) -> bytes:
    """An outcome as it stands in the ledger.

    Args:
        outcome: of an item of the job.
        spec: the job's spec, JSON, byte for byte as in the ledger.
    """
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _FORMAT, zdict=_dictionary(spec))
    return bytes([VERSION]) + packer.compress(outcome.to_json().encode()) + packer.flush()


def unpack(packed: bytes, spec: bytes) -> Outcome:
    """The outcome `pack` packed against the same spec.

    Raises:
        ConfigError: it is none, was packed against another spec, or has a field that this release does not know.
        WireVersionError: written by another wire version, or packed by another version of this format.
    """
    if packed and packed[0] != VERSION:
        raise WireVersionError(
            f"an outcome in the ledger has wire version {packed[0]}, this prelabel speaks {VERSION}: "
            "run the same prelabel release on clients, adapter and workers"
        )
    try:
        text = zlib.decompressobj(_FORMAT, zdict=_dictionary(spec)).decompress(packed[1:])
    except zlib.error as error:
        raise ConfigError(f"the ledger holds an outcome that cannot be read ({error})") from None
    return Outcome.from_json(text)


@lru_cache(maxsize=64)
def _dictionary(spec: bytes) -> bytes:
    """What an outcome of the job looks like: every label's score, then an answer's frame.

    The spec is read as plain data: what a newer release has added to it is no word of an outcome.

    Raises:
        ConfigError: it is no job's spec.
    """
    try:
        read = json.loads(spec)
        controls = read["controls"]
        scores = "".join(
            f'{{"path":{_json(path)},"logit":-0.0,"probability":0.0}},'
            for control in controls
            for path in _paths(control["taxonomy"]["labels"])
        )
        frames = "".join(
            f'{{"wire_version":1,"model_version":{_json((read.get("model") or "") + "+tax.")},'
            f'"vectors":{{{_json(control.get("image") or "")}:""}},'
            f'"answers":[{{"control":{_json(control.get("name", "label"))},"rule":"softmax","confidence":0.0}}]}}'
            for control in controls
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"the ledger holds a job's spec that cannot be read ({type(error).__name__})") from None
    return f'{scores}"paths":[["{frames}'.encode()[-_WINDOW:]


def _paths(labels: list[dict[str, Any]]) -> Iterator[tuple[str, ...]]:
    """The path of every label, parents before children."""
    stack: list[tuple[tuple[str, ...], dict[str, Any]]] = [((label["name"],), label) for label in reversed(labels)]
    while stack:
        path, label = stack.pop()
        yield path
        stack.extend(((*path, child["name"]), child) for child in reversed(label.get("children", [])))


def _json(value: str | tuple[str, ...]) -> str:
    """As outcomes have it: no spaces, and letters of all languages as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
