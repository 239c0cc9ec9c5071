"""Tasks of a project that got no prediction, and why: one entry per task, whatever job it was in.

Jobs expire and a task may be in several of them, so what became of a task is kept by project: the last word counts. A
task that is submitted again, or answered, has no entry any more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from functools import partial, reduce
from typing import Any, Final, NamedTuple

import redis

from .keys import ProjectKeys

REASONS: Final = 200
"""Reasons of one project that are told apart."""

OTHER_REASONS: Final = "other reasons"

_LONGEST: Final = 300
_PER_TRIP: Final = 1000
_NUMBER: Final = re.compile(r"\d+|…")
_DIGITS: Final = 8

# KEYS: unanswered, counts. ARGV: task, its entry or nothing, and so on. Each count is that of the entries there are.
_SET = """
for i = 1, #ARGV, 2 do
  local old = redis.call('HGET', KEYS[1], ARGV[i])
  if (old or '') ~= ARGV[i + 1] then
    if old then
      if redis.call('HINCRBY', KEYS[2], old, -1) <= 0 then redis.call('HDEL', KEYS[2], old) end
    end
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
      redis.call('HINCRBY', KEYS[2], ARGV[i + 1], 1)
    end
  end
end
"""


class Why(StrEnum):
    """What became of a task without a prediction.

    Attributes:
        FAILED: scoring it failed; it can be tried again.
        DROPPED: Label Studio did not take its prediction.
        UNANSWERABLE: it cannot be scored as it is: no image, an option nobody can read.
        NOTHING_CHOSEN: it was scored, and no label reached its threshold.
    """

    FAILED = "failed"
    DROPPED = "dropped"
    UNANSWERABLE = "unanswerable"
    NOTHING_CHOSEN = "nothing_chosen"


class Reason(NamedTuple):
    """Why a task has no prediction.

    Attributes:
        why: which kind.
        text: in words.
    """

    why: Why
    text: str = ""


class Group(NamedTuple):
    """Tasks without a prediction for one reason.

    Attributes:
        why: which kind.
        text: in words; numbers that differ from task to task are an ellipsis.
        tasks: how many.
    """

    why: Why
    text: str
    tasks: int


class Unanswered:
    """The register of tasks without a prediction. Thread-safe.

    Args:
        client: Redis.
        call: runs what uses Redis; `Connection.patiently` makes its errors prelabel's.
    """

    def __init__(self, client: redis.Redis, call: Callable[[Callable[[], Any]], Any] = lambda use: use()) -> None:
        self._redis: Any = client
        self._call = call
        self._set: Any = client.register_script(_SET)

    def record(self, project: int, tasks: Mapping[int, Reason | None]) -> None:
        """Write what became of tasks.

        Args:
            project: the project's number.
            tasks: by number; None for one that has a prediction, or will be scored again.
        """
        keys = ProjectKeys(project)
        numbers = list(tasks)
        for start in range(0, len(numbers), _PER_TRIP):
            some = {number: tasks[number] for number in numbers[start : start + _PER_TRIP]}
            entries = self._entries(keys, {reason for reason in some.values() if reason is not None})
            args = [part for number, one in some.items() for part in (number, entries[one] if one else "")]
            self._call(partial(self._set, keys=[keys.unanswered, keys.unanswered_counts], args=args))

    def groups(self, project: int) -> list[Group]:
        """How many tasks have no prediction, and why; the most frequent reason first."""
        keys = ProjectKeys(project)
        counts, texts = self._call(
            lambda: (self._redis.hgetall(keys.unanswered_counts), self._redis.hgetall(keys.reasons))
        )
        groups = []
        for raw, count in counts.items():
            why, digest = _read(raw)
            if why is not None:
                groups.append(Group(why, texts.get(digest, b"").decode(errors="replace"), int(count)))
        return sorted(groups, key=lambda one: (-one.tasks, one.why, one.text))

    def tasks(self, project: int, why: Why, limit: int) -> list[int]:
        """Numbers of tasks that have no prediction for this kind of reason, ascending; `limit` at most."""
        found: list[int] = []
        for number, kind in self._all(project):
            if kind is why:
                found.append(number)
                if len(found) >= limit:
                    break
        return sorted(found)

    def pages(self, project: int, size: int) -> Iterator[list[int]]:
        """The numbers of all tasks that have an entry, some at a time."""
        page: list[int] = []
        for number, _ in self._all(project):
            page.append(number)
            if len(page) >= size:
                yield page
                page = []
        if page:
            yield page

    def forget(self, project: int) -> None:
        """Drop all of a project."""
        keys = ProjectKeys(project)
        self._call(lambda: self._redis.unlink(keys.unanswered, keys.unanswered_counts, keys.reasons))

    def _all(self, project: int) -> Iterator[tuple[int, Why | None]]:
        key, cursor = ProjectKeys(project).unanswered, 0
        while True:
            cursor, entries = self._call(partial(self._redis.hscan, key, cursor, count=_PER_TRIP))
            yield from ((int(number), _read(raw)[0]) for number, raw in entries.items())
            if not cursor:
                return

    def _forget_unused(self, keys: ProjectKeys, keep: set[str]) -> int:
        """Drop the texts that no task has any more; returns how many."""
        used = {_read(raw)[1].decode(errors="replace") for raw in self._redis.hkeys(keys.unanswered_counts)} | keep
        unused = [raw for raw in self._redis.hkeys(keys.reasons) if raw.decode(errors="replace") not in used]
        return int(self._redis.hdel(keys.reasons, *unused)) if unused else 0

    def _entries(self, keys: ProjectKeys, reasons: set[Reason]) -> dict[Reason, str]:
        """What is written for each reason; the text of those that differ in numbers alone is kept once."""
        by_digest: dict[str, list[str]] = {}
        digests = {reason: _digest(text) for reason, text in ((one, _plain(one.text)) for one in reasons)}
        for reason, digest in digests.items():
            by_digest.setdefault(digest, []).append(_plain(reason.text))

        def keep() -> set[str]:
            known = dict(zip(by_digest, self._redis.hmget(keys.reasons, list(by_digest)), strict=True))
            room = REASONS - int(self._redis.hlen(keys.reasons))
            if room < len(by_digest):
                room += self._forget_unused(keys, keep=set(by_digest))
            texts, without_room = {}, set()
            for digest, some in by_digest.items():
                before = known[digest]
                if before is None and room <= 0:
                    without_room.add(digest)
                    texts[_OTHERS] = OTHER_REASONS
                    continue
                room -= before is None
                text = reduce(_common, some if before is None else [before.decode(errors="replace"), *some])
                if before is None or text != before.decode(errors="replace"):
                    texts[digest] = text
            if texts:
                self._redis.hset(keys.reasons, mapping=texts)
            return without_room

        others: set[str] = self._call(keep) if reasons else set()
        return {
            reason: f"{_LETTERS[reason.why]}{_OTHERS if digest in others else digest}"
            for reason, digest in digests.items()
        }


_LETTERS: Final[dict[Why, str]] = {Why.FAILED: "f", Why.DROPPED: "d", Why.UNANSWERABLE: "u", Why.NOTHING_CHOSEN: "n"}
_KINDS: Final = {letter.encode(): why for why, letter in _LETTERS.items()}


def _plain(text: str) -> str:
    """One line that Redis can hold."""
    return " ".join(text.encode(errors="replace").decode().split())[:_LONGEST]


def _digest(text: str) -> str:
    """The same for texts that differ in numbers alone: each may name its task."""
    return hashlib.blake2b(_NUMBER.sub("…", text).encode(), digest_size=_DIGITS // 2).hexdigest()


def _common(one: str, other: str) -> str:
    """Of two texts that differ in numbers alone, one with an ellipsis where they do."""
    numbers = zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True)
    common = iter([a if a == b else "…" for a, b in numbers])
    return _NUMBER.sub(lambda _: next(common), one)


_OTHERS: Final = _digest(OTHER_REASONS)


def _read(raw: bytes) -> tuple[Why | None, bytes]:
    """An entry's kind and its reason's digest; no kind where another release wrote it."""
    return _KINDS.get(raw[:1]), raw[1:]
