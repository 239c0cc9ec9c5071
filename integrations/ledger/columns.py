"""Answers of many items as columns, one record for all of them: what a worker writes for what it answered at once.

An answer as JSON names its labels again and again. Here a label is its place in the job's own list of labels, which the
job's spec holds once, and a probability is not kept where it follows from the logit. Twenty scores of an item take some
140 bytes. Items without an answer, or with a part of one, stand apart, each by itself (`packing`).

All numbers are little-endian; floats are IEEE 754. A record of `n` items is

    offset  type    what
    0       u8      2, the version of this format
    1       u32     CRC-32 (as in zlib) of all bytes from offset 5 on
    5       u8      bit 0: each item has the vector of its first image and no other
    6       u16     n
    8       u16     v, bytes of the model version
    10      u16     t, tables that follow
    12      v       `Outcome.model_version`, UTF-8

    without bit 0 of the flags:
            u16     n times: stored vectors of the item, m in all
            u16     m times: the image's place in the item, from 0
    then
            16      m times (with bit 0: n times): the vector's key

and `t` tables, each with the `r` answers to one control by one list of labels:

            u16     the control's place in the job, from 0
            u8      bit 0: the labels are those of the control and those that the table's items bring
                    bit 1: answer `i` is item `i`'s, so that r = n
                    bit 2: there is `Answer.index`
                    bit 3: every answer keeps the same number of scores
                    bit 4: there are norms
                    bit 5: the logits are no log odds of a pair by itself (`LabelScore.pairwise` is false)
            u8      w: 1, 2 or 4 bytes for a label
            u32     r
            u32     CRC-32 of the list of labels: each path's names joined by U+001F, the paths by U+001E, UTF-8
            u16     without bit 1, r times: the item, from 0
            u16     with bit 2, r times: `Answer.index`; 65535 stands for none
            u32     with bit 3 once, else r times: scores kept, s in all
            w       s times: the label's place in `Taxonomy.walk()`
            f32     s times: the logit; of a label that has others below it the probability,
                    rounded up (by 1.2e-7 of it at most), so that it is never below its child's
            f64     with bit 4, r times: ln(sum(exp(logit / temperature))) over all leaves, which makes the probability
                    of a logit exp(logit / temperature - norm); without it that is
                    sigmoid((logit + logit_shift) / temperature)
            f64     r times: the confidence
            u16     (u32 where w is 2 or 4) r times: labels chosen, c in all
            w       c times: the chosen label's place

Scores stand best first, chosen labels in the order of the answer. Which items a record is about is told beside it.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...schemas.errors import ConfigError, WireVersionError
from ...schemas.taxonomy import LabelPath

VERSION: Final = 2
"""First byte of a record."""

KEY_BYTES: Final = 16

NO_INDEX: Final = 0xFFFF
"""Stands for `Answer.index` None."""

MOST_ITEMS: Final = 0xFFFF
MOST_IMAGES: Final = 0xFFFF
"""Images of an item whose place, and whose `Answer.index`, a record can hold."""

_FIRST_IMAGE_ALONE: Final = 1
_BROUGHT, _ONE_EACH, _INDEXED, _EVEN, _NORMS, _NOT_PAIRWISE = 1, 2, 4, 8, 16, 32

_HEAD: Final = struct.Struct("<BIBHHH")
_CHECKED_FROM: Final = 5
_TABLE: Final = struct.Struct("<HBBII")

Ints = array  # of "B", "H" or "I"
Floats = array  # of "f" or "d"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnswerColumns:
    """The answers to one control by one list of labels, `r` of them.

    Attributes:
        place: the control's among the job's, from 0.
        labels_crc: see `labels_crc`.
        brought: the list holds labels that the items bring.
        items: `(r,)` the item of each, from 0; None: answer `i` is item `i`'s.
        indices: `(r,)` `Answer.index`, or `NO_INDEX`; None: no answer has one.
        counts: `(r,)` scores kept.
        nodes: `(sum(counts),)` places of labels in `Taxonomy.walk()`, best first.
        values: `(sum(counts),)` logits of leaves, probabilities of other labels.
        norms: `(r,)` see the module; None where probabilities are sigmoids.
        confidences: `(r,)`, 0..1.
        chosen_counts: `(r,)` labels chosen.
        chosen: `(sum(chosen_counts),)` places of labels.
        pairwise: as `LabelScore.pairwise`.
    """

    place: int
    labels_crc: int
    brought: bool
    items: Ints[int] | None
    indices: Ints[int] | None
    counts: Ints[int]
    nodes: Ints[int]
    values: Floats[float]
    norms: Floats[float] | None
    confidences: Floats[float]
    chosen_counts: Ints[int]
    chosen: Ints[int]
    pairwise: bool = True


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Columns:
    """Answers of `count` items.

    Attributes:
        model_version: `Outcome.model_version` of all of them.
        count: items.
        images: `(count,)` stored vectors of each item; None: each has that of its first image.
        places: `(sum(images),)` the image's place in its item; empty where `images` is None.
        keys: 16 bytes a vector.
        answers: a table for each control and list of labels.
    """

    model_version: str
    count: int
    images: Ints[int] | None
    places: Ints[int]
    keys: bytes
    answers: tuple[AnswerColumns, ...]


def label_code(labels: int) -> str:
    """Type code (`array`) of the smallest integer that holds a place among so many labels."""
    return "B" if labels <= 1 << 8 else "H" if labels <= 1 << 16 else "I"


def count_code(code: str) -> str:
    """Type code of numbers of chosen labels, where labels have `code`: all of them may be chosen."""
    return "H" if code == "B" else "I"


def labels_crc(paths: Sequence[LabelPath]) -> int:
    """What tells one list of labels from another; see the module."""
    return zlib.crc32("\x1e".join("\x1f".join(path) for path in paths).encode(errors="surrogatepass"))


def pack(columns: Columns) -> bytes:
    """The record.

    Raises:
        ValueError: more items or images than a record holds.
    """
    if columns.count > MOST_ITEMS or len(columns.answers) > MOST_ITEMS:
        raise ValueError(f"a record holds {MOST_ITEMS} items at most, not {columns.count}")
    version = columns.model_version.encode(errors="surrogatepass")
    flags = _FIRST_IMAGE_ALONE if columns.images is None else 0
    parts = [struct.pack("<BHHH", flags, columns.count, len(version), len(columns.answers)), version]
    if columns.images is not None:
        parts += [_bytes(columns.images), _bytes(columns.places)]
    parts.append(columns.keys)
    for answers in columns.answers:
        parts += _table(answers)
    body = b"".join(parts)
    return struct.pack("<BI", VERSION, zlib.crc32(body)) + body


def _table(answers: AnswerColumns) -> list[bytes]:
    counts = answers.counts
    is_even = bool(counts) and counts.count(counts[0]) == len(counts)
    flags = (
        (_BROUGHT if answers.brought else 0)
        | (_ONE_EACH if answers.items is None else 0)
        | (_INDEXED if answers.indices is not None else 0)
        | (_EVEN if is_even else 0)
        | (_NORMS if answers.norms is not None else 0)
        | (0 if answers.pairwise else _NOT_PAIRWISE)
    )
    columns = (
        answers.items,
        answers.indices,
        counts[:1] if is_even else counts,
        answers.nodes,
        answers.values,
        answers.norms,
        answers.confidences,
        answers.chosen_counts,
        answers.chosen,
    )
    head = _TABLE.pack(answers.place, flags, answers.nodes.itemsize, len(counts), answers.labels_crc)
    return [head, *(_bytes(column) for column in columns if column is not None)]


def unpack(record: bytes) -> Columns:
    """What `pack` made a record of.

    Raises:
        ConfigError: it is none, or damaged.
        WireVersionError: another version of this format.
    """
    if record and record[0] != VERSION:
        raise WireVersionError(
            f"answers in the ledger have wire version {record[0]}, this prelabel speaks {VERSION}: "
            "run the same prelabel release on clients, adapter and workers"
        )
    try:
        _, crc, flags, count, length, tables = _HEAD.unpack_from(record)
        if zlib.crc32(memoryview(record)[_CHECKED_FROM:]) != crc:
            raise ConfigError("the ledger holds answers that cannot be read (they are damaged)")
        reader = _Reader(record, _HEAD.size)
        version = reader.bytes(length).decode(errors="surrogatepass")
        images = None if flags & _FIRST_IMAGE_ALONE else reader.array("H", count)
        places = array("H") if images is None else reader.array("H", sum(images))
        keys = reader.bytes(KEY_BYTES * (count if images is None else len(places)))
        answers = tuple(reader.table(count) for _ in range(tables))
        reader.end()
    except (struct.error, ValueError) as error:  # of a sound record whose writer erred
        raise ConfigError(f"the ledger holds answers that cannot be read ({error})") from None
    return Columns(model_version=version, count=count, images=images, places=places, keys=keys, answers=answers)


class _Reader:
    """Reads a record from a place on."""

    def __init__(self, record: bytes, at: int) -> None:
        self._record = record
        self._at = at

    def bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._record):
            raise ValueError("it ends too early")
        taken = self._record[self._at : end]
        self._at = end
        return taken

    def array(self, code: str, count: int) -> array[Any]:
        made: array[Any] = array(code)
        made.frombytes(self.bytes(made.itemsize * count))
        if sys.byteorder == "big":
            made.byteswap()
        return made

    def table(self, count: int) -> AnswerColumns:
        place, flags, width, rows, crc = _TABLE.unpack(self.bytes(_TABLE.size))
        code = {1: "B", 2: "H", 4: "I"}.get(width)
        if code is None:
            raise ValueError(f"labels of {width} bytes")
        if flags & _ONE_EACH and rows != count:
            raise ValueError(f"{rows} answers of {count} items")
        items = None if flags & _ONE_EACH else self.array("H", rows)
        indices = self.array("H", rows) if flags & _INDEXED else None
        counts = self.array("I", 1) * rows if flags & _EVEN else self.array("I", rows)
        total = counts[0] * rows if flags & _EVEN else sum(counts)
        nodes = self.array(code, total)
        values = self.array("f", total)
        norms = self.array("d", rows) if flags & _NORMS else None
        confidences = self.array("d", rows)
        chosen_counts = self.array(count_code(code), rows)
        return AnswerColumns(
            place=place,
            labels_crc=crc,
            brought=bool(flags & _BROUGHT),
            items=items,
            indices=indices,
            counts=counts,
            nodes=nodes,
            values=values,
            norms=norms,
            confidences=confidences,
            chosen_counts=chosen_counts,
            chosen=self.array(code, sum(chosen_counts)),
            pairwise=not flags & _NOT_PAIRWISE,
        )

    def end(self) -> None:
        if self._at != len(self._record):
            raise ValueError(f"{len(self._record) - self._at} bytes are left")


def _bytes(column: array[Any]) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()
