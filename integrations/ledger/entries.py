"""Entries of a job's results: what a worker wrote of some items at once, read as predictions one by one.

An entry of the stream is of one of two kinds. `o`, `c`, `r` is one item: its ordinal, the index of its chunk, and the
outcome as `packing` packs it; failures are written so, and everything was before there were records. `o`, `c`, `n`, `b`
is what a chunk's items were answered with at once: their ordinals as `3-5,9`, the chunk, how many they are, and the
record as `columns` packs it. A worker whose lease was taken over for a while may have answered items that had an
outcome by then; `s` says which rows of the record count nevertheless, as `0,1,3`, and `n` how many those are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, overload

from ...schemas.errors import ConfigError, WireVersionError
from ...schemas.items import Item
from ...schemas.predictions import ItemFailure, Outcome, Prediction
from .answers import Outcomes, job_labels
from .columns import Columns
from .columns import unpack as unpack_columns
from .items import item_in
from .keys import JobKeys
from .packing import unpack

RECORD_ROWS: Final = 64
"""Items of a record at most: whoever reads some entries shall know how much that may be."""

AT_ONCE: Final = 2048
"""Predictions read at once, about, unless somebody asks for fewer."""


class Entry(NamedTuple):
    """One entry, or one row of it.

    Attributes:
        chunk: the index of the items' chunk, as it stands in the ledger.
        ordinals: of the items that the entry counts for.
        rows: which row of the record each of them is; none for an entry of one item.
        data: the record, or the one item's packed outcome.
    """

    chunk: bytes
    ordinals: Sequence[int]
    rows: Sequence[int]
    data: bytes

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes]) -> Entry:
        """Read an entry's fields.

        Raises:
            ConfigError: they are those of no entry.
        """
        try:
            if b"r" in fields:
                return cls(fields[b"c"], (int(fields[b"o"]),), (), fields[b"r"])
            ordinals = numbers(fields[b"o"])
            rows: Sequence[int] = range(len(ordinals))
            if b"s" in fields:
                rows = numbers(fields[b"s"])
                ordinals = [ordinals[row] for row in rows]
            return cls(fields[b"c"], ordinals, rows, fields[b"b"])
        except (KeyError, ValueError, IndexError):
            raise ConfigError("the ledger holds an entry that cannot be read: another release wrote it") from None

    @property
    def is_record(self) -> bool:
        """Whether it holds columns."""
        return bool(self.rows)

    def columns(self) -> Columns:
        """The record of an entry that holds one.

        Raises:
            ConfigError: it is damaged.
            WireVersionError: another release wrote it.
        """
        columns = unpack_columns(self.data)
        if max(self.rows) >= columns.count:
            raise ConfigError("the ledger holds answers that cannot be read (fewer than they are said to be)")
        return columns


class Block(NamedTuple):
    """What an entry holds: outcomes of many items, or one outcome that is that of all of them.

    Attributes:
        entry: says which items.
        held: their outcomes.
    """

    entry: Entry
    held: Outcomes | Outcome

    @classmethod
    def of(cls, fields: Mapping[bytes, bytes], spec: bytes) -> Block:
        """Read an entry of the job with this spec; what is damaged says so in its items' outcomes.

        Raises:
            ConfigError: the spec, or the entry, is none of this release's.
            WireVersionError: another release wrote the entry, and can read it.
        """
        entry = Entry.of(fields)
        labels = job_labels(spec) if entry.is_record else None
        try:
            if labels is not None:
                return cls(entry, Outcomes(entry.columns(), labels))
            return cls(entry, unpack(entry.data, spec))
        except WireVersionError:
            raise
        except ConfigError as error:
            return cls(entry, unreadable(error))

    def outcome(self, at: int, item: Item, *, scores: bool = True) -> Outcome:
        """The outcome of the item with `entry.ordinals[at]`, made now; see `Outcomes.outcome`."""
        if isinstance(self.held, Outcome):
            return self.held
        try:
            return self.held.outcome(self.entry.rows[at], item, scores=scores)
        except ConfigError as error:
            return unreadable(error)


class Predictions(Sequence[Prediction]):
    """The predictions of some blocks, each made when it is asked for.

    Args:
        blocks: what they are made of, in order.
        chunks: JSON of the chunks these name; None for one that is not there.
        scores: whether answers shall have their scores.
    """

    def __init__(self, blocks: Iterable[Block], chunks: Mapping[bytes, bytes | None], *, scores: bool = True) -> None:
        self._chunks = chunks
        self._scores = scores
        self._rows = [(block, at) for block in blocks for at in range(len(block.entry.ordinals))]

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Prediction: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Prediction]: ...
    def __getitem__(self, at: int | slice) -> Prediction | Sequence[Prediction]:
        if isinstance(at, slice):
            return [self._prediction(*row) for row in self._rows[at]]
        return self._prediction(*self._rows[at])

    def __iter__(self) -> Iterator[Prediction]:
        for row in self._rows:
            yield self._prediction(*row)

    def _prediction(self, block: Block, at: int) -> Prediction:
        ordinal = block.entry.ordinals[at]
        item = item_in(self._chunks.get(block.entry.chunk), ordinal)
        outcome = block.outcome(at, item, scores=self._scores)
        return Prediction(
            item=item,
            ordinal=ordinal,
            model_version=outcome.model_version,
            vectors=outcome.vectors,
            answers=outcome.answers,
            unanswered=outcome.unanswered,
            error=outcome.error,
        )


def unreadable(error: ConfigError) -> Outcome:
    """Stands for an outcome that is damaged."""
    return Outcome(error=ItemFailure(kind=type(error).__name__, message=str(error)))


def ranges(values: Sequence[int]) -> str:
    """Numbers as text: `[3, 4, 5, 9]` is `3-5,9`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def numbers(text: bytes) -> Sequence[int]:
    """The numbers that `ranges` made a text of.

    Raises:
        ValueError: it made no such text.
    """
    made: list[int] = []
    for run in text.split(b","):
        first, _, last = run.partition(b"-")
        begin, end = int(first), int(last or first)
        if not 0 <= end - begin < _LONGEST_RUN:
            raise ValueError("no run of numbers")
        made += range(begin, end + 1)
    return made


_LONGEST_RUN: Final = 1 << 16
"""As many items as a record holds: a damaged number must not take all memory."""


def read_entries(
    client: Any, job_id: str, after: str, block_ms: int | None, at_once: int
) -> tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]:
    """Entries that came after one, in order.

    Args:
        client: Redis.
        job_id: the job.
        after: the stream id of that one; "0" is the start.
        block_ms: wait this long for the first when there is none; None does not wait.
        at_once: predictions in them at most, about.

    Returns:
        The id of the last of them, `after` where there is none; and ids and fields.
    """
    key = JobKeys(job_id).results
    reply = client.xread({key: after}, count=max(1, at_once // RECORD_ROWS), block=block_ms)
    if not reply:
        return after, []
    entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
    return entries[-1][0].decode(), entries
