"""Outcomes packed for the ledger: deflated JSON, with the job's own words as dictionary.

An outcome names the same fields and labels again and again, and so does every other outcome of its job. Deflate
(RFC 1951) with a preset dictionary refers to them instead: some 300 bytes for twenty labels' scores instead of 2,000.
"""

from __future__ import annotations

import zlib
from functools import lru_cache

from ...schemas.errors import ConfigError
from ...schemas.jobs import JobSpec
from ...schemas.predictions import Answer, LabelScore, Outcome

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
    return packer.compress(outcome.to_json().encode()) + packer.flush()


def unpack(packed: bytes, spec: bytes) -> Outcome:
    """The outcome `pack` packed against the same spec.

    Raises:
        ConfigError: it is none, or was packed against another spec.
        WireVersionError: written by another wire version.
    """
    try:
        text = zlib.decompressobj(_FORMAT, zdict=_dictionary(spec)).decompress(packed)
    except zlib.error as error:
        raise ConfigError(f"the ledger holds an outcome that cannot be read ({error})") from None
    return Outcome.from_json(text)


@lru_cache(maxsize=64)
def _dictionary(spec: bytes) -> bytes:
    """What an outcome of the job looks like: every label's score, then an answer's frame. Part of the wire format."""
    parsed = JobSpec.from_json(spec)
    scores = "".join(
        LabelScore(path=path, logit=-0.0, probability=0.0).model_dump_json() + ","
        for control in parsed.controls
        for path, _ in control.taxonomy.walk()
    )
    frames = "".join(
        Outcome(
            model_version=f"{parsed.model or ''}+tax.",
            vectors={control.image or "": ""},
            answers=(Answer(control=control.name, rule="softmax", confidence=0.0),),
        ).to_json()
        for control in parsed.controls
    )
    frame = '"paths":[["'
    return (scores + frame + frames).encode()[-_WINDOW:]
