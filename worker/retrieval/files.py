"""A collection's vectors in files that any number of processes map and one at a time extends.

A folder holds, for one generation of the collection,

    <generation>.vectors   (n, dim) float16, rows of length 1, little-endian
    <generation>.entries   (n,) `ENTRY`, 40 bytes each
    <generation>.….states  (n,) uint8: 0 counts, 1 does not any more; behind a checksum
    <generation>.….missing (m,) `ENTRY`: those that have no vector at present; behind a checksum
    meta.json              which generation counts, how many rows of it, and checksums of the blocks of its rows

Rows are only ever appended; `states` and `missing` are written anew. All are on the disk before `meta.json` names them,
which is replaced in one step: whoever is killed on the way leaves a tail that nobody reads. Each block of rows has a
checksum; a collection with a block that is not what was written is made anew.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
import xxhash
from numpy.typing import NDArray
from pydantic import Field

from ...schemas.errors import ConfigError
from ...schemas.wire import Model
from ..machine.files import lock_file
from ..vectors.records import Halves
from .entries import ENTRY, Entries, Tasks

log = logging.getLogger(__name__)

VERSION: Final[Literal[1]] = 1
BLOCK: Final = 4096
"""Rows with a checksum of their own."""

META: Final = "meta.json"
_COUNTS, _OUTDATED = 0, 1
_MOST_DEAD: Final = 0.25
"""Share of rows that count no more, from which on a collection is worth being made anew."""


class Damage(Exception):
    """The files are not what was written."""


class Snapshot(NamedTuple):
    """A collection as it stood at one moment; stays as it is whatever is done to the folder.

    Attributes:
        vectors: `(n, dim)` float16, rows of length 1, mapped.
        entries: `(n,)`, mapped.
        counts: `(n,)`: which rows are of their task's newest outcome.
        missing: `(m,)`: those of such an outcome that have no vector.
        position: how much of the catalogue is in it; empty is nothing.
    """

    vectors: Halves
    entries: Entries
    counts: NDArray[np.bool_]
    missing: Entries
    position: str

    @property
    def dead(self) -> float:
        """Share of the rows that count no more."""
        return 1.0 - float(self.counts.mean()) if len(self.counts) else 0.0

    @property
    def is_worn(self) -> bool:
        """Whether so many rows are dead that the collection is to be made anew."""
        return self.dead > _MOST_DEAD


class _Meta(Model):
    """What `meta.json` holds. `vectors` and `entries` are the checksums of their blocks, `checksum` is of all else."""

    version: Literal[1] = VERSION
    space: str
    dim: int
    generation: str
    states: str
    missing: str
    rows: Annotated[int, Field(ge=0)] = 0
    position: str = ""
    vectors: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    checksum: str = ""

    @property
    def right_checksum(self) -> str:
        return xxhash.xxh3_64_hexdigest(self.model_dump_json(exclude={"checksum"}).encode())


class CollectionFiles:
    """The files of one collection and one space of vectors. Processes and threads may share a folder.

    Args:
        folder: theirs; made when first written to.
        space: name of the vectors' space; files of another are not looked at.
        dim: length of a vector.
    """

    def __init__(self, folder: Path, space: str, dim: int) -> None:
        self._folder = folder
        self._space = space
        self._dim = dim
        self._sound: set[tuple[str, int, str, str]] = set()

    @contextlib.contextmanager
    def writing(self, wait_s: float) -> Iterator[None]:
        """Be the only one who extends the collection.

        Raises:
            OSError: the folder cannot be written to, or another process is at it for longer than `wait_s`.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with lock_file(self._folder / "lock", wait_s):
            yield

    def read(self) -> Snapshot | None:
        """The collection as it stands; None where there is none of this space, or it is damaged.

        Raises:
            OSError: the disk does not work.
        """
        for _ in range(3):
            meta = self._meta()
            if meta is None:
                return None
            try:
                return self._mapped(meta)
            except FileNotFoundError:
                continue  # another has made it anew meanwhile
            except Damage as damage:
                log.warning("the collection in %s is damaged (%s): it is made anew", self._folder, damage)
                return None
        return None

    def begin(self) -> Snapshot:
        """An empty collection in place of what there is; call it inside `writing`, and `extend` it then.

        Raises:
            OSError: it cannot be written.
        """
        generation = secrets.token_hex(8)
        for kind in ("vectors", "entries"):
            (self._folder / f"{generation}.{kind}").touch(mode=0o600)
        none = np.zeros(0, dtype=ENTRY)
        meta = _Meta(
            space=self._space,
            dim=self._dim,
            generation=generation,
            states=self._write(generation, "states", b""),
            missing=self._write(generation, "missing", b""),
        )
        self._commit(meta)
        self._sweep()
        empty = np.zeros((0, self._dim), dtype=np.float16)
        return Snapshot(empty, none, np.zeros(0, dtype=np.bool_), none, "")

    def extend(self, entries: Entries, vectors: Halves, *, outdated: Tasks, missing: Entries, position: str) -> None:
        """Append rows. Call it inside `writing`.

        Args:
            entries: `(m,)`.
            vectors: `(m, dim)` float16, rows of length 1.
            outdated: tasks whose rows so far count no more.
            missing: all that have no vector from now on.
            position: how much of the catalogue is in it then.

        Raises:
            Damage: what is there cannot be extended.
            OSError: it cannot be written, as on a disk that is full; the collection stays as it was.
        """
        meta = self._meta()
        if meta is None:
            raise Damage("it has no meta.json")
        before = self._mapped(meta)
        counts = before.counts & ~np.isin(before.entries["task"], outdated)
        states = np.where(np.concatenate([counts, np.ones(len(entries), dtype=np.bool_)]), _COUNTS, _OUTDATED)
        rows = meta.rows + len(entries)
        self._append(meta, "vectors", np.ascontiguousarray(vectors, dtype="<f2"), meta.rows * 2 * self._dim)
        self._append(meta, "entries", np.ascontiguousarray(entries), meta.rows * ENTRY.itemsize)
        first = meta.rows // BLOCK
        # The last block may have been begun before: it is read back, with what was written to it now.
        fresh = {kind: tuple(self._checksums(meta.generation, kind, first, rows)) for kind in ("vectors", "entries")}
        self._commit(
            _Meta(
                space=self._space,
                dim=self._dim,
                generation=meta.generation,
                states=self._write(meta.generation, "states", states.astype(np.uint8).tobytes()),
                missing=self._write(meta.generation, "missing", missing.tobytes()),
                rows=rows,
                position=position,
                vectors=(*meta.vectors[:first], *fresh["vectors"]),
                entries=(*meta.entries[:first], *fresh["entries"]),
            )
        )
        self._sweep()

    def _append(self, meta: _Meta, kind: str, rows: NDArray[np.generic], at: int) -> None:
        with (self._folder / f"{meta.generation}.{kind}").open("r+b") as file:
            file.seek(at)
            file.write(rows.tobytes())
            file.truncate()
            os.fsync(file.fileno())

    def _checksums(self, generation: str, kind: str, first: int, rows: int) -> Iterator[str]:
        width = self._width(kind)
        with (self._folder / f"{generation}.{kind}").open("rb") as file:
            file.seek(first * BLOCK * width)
            for start in range(first * BLOCK, rows, BLOCK):
                wanted = (min(rows, start + BLOCK) - start) * width
                yield xxhash.xxh3_64_hexdigest(file.read(wanted))

    def _width(self, kind: str) -> int:
        return 2 * self._dim if kind == "vectors" else ENTRY.itemsize

    def _write(self, generation: str, kind: str, content: bytes) -> str:
        """A small file with its checksum; its name."""
        name = f"{generation}.{secrets.token_hex(4)}.{kind}"
        with (self._folder / name).open("xb") as file:
            file.write(xxhash.xxh3_64_digest(content) + content)
            os.fsync(file.fileno())
        return name

    def _commit(self, meta: _Meta) -> None:
        text = meta.model_copy(update={"checksum": meta.right_checksum}).model_dump_json()
        fresh = self._folder / f"{META}.{secrets.token_hex(4)}"
        try:
            with fresh.open("x") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._folder / META)
        finally:
            fresh.unlink(missing_ok=True)

    def _meta(self) -> _Meta | None:
        try:
            meta = _Meta.from_json((self._folder / META).read_bytes())
        except FileNotFoundError:
            return None
        except ConfigError as error:
            log.warning("the collection in %s is made anew: %s", self._folder, error)
            return None
        is_ours = (meta.checksum, meta.space, meta.dim) == (meta.right_checksum, self._space, self._dim)
        return meta if is_ours else None

    def _mapped(self, meta: _Meta) -> Snapshot:
        """The rows that count, after a look at the blocks this process has not looked at yet."""
        paths = {kind: self._folder / f"{meta.generation}.{kind}" for kind in ("vectors", "entries")}
        for kind, path in paths.items():
            if path.stat().st_size < meta.rows * self._width(kind):
                raise Damage(f"{path.name} is too short")
            self._verify(meta, kind)
        counts = np.frombuffer(self._small(meta.states), dtype=np.uint8) == _COUNTS
        lost = self._small(meta.missing)
        if len(counts) != meta.rows or len(lost) % ENTRY.itemsize:
            raise Damage(f"{meta.states} or {meta.missing} is of another collection")
        missing = np.frombuffer(lost, dtype=ENTRY)
        if not meta.rows:
            empty = np.zeros((0, self._dim), dtype=np.float16)
            return Snapshot(empty, np.zeros(0, dtype=ENTRY), counts, missing, meta.position)
        vectors = np.memmap(paths["vectors"], dtype="<f2", mode="r", shape=(meta.rows, self._dim))
        entries = np.memmap(paths["entries"], dtype=ENTRY, mode="r", shape=(meta.rows,))
        return Snapshot(vectors, entries, counts, missing, meta.position)

    def _small(self, name: str) -> bytes:
        content = (self._folder / name).read_bytes()
        if xxhash.xxh3_64_digest(content[8:]) != content[:8]:
            raise Damage(f"{name} is not what was written")
        return content[8:]

    def _verify(self, meta: _Meta, kind: str) -> None:
        wanted: tuple[str, ...] = getattr(meta, kind)
        todo = [at for at, checksum in enumerate(wanted) if (kind, at, meta.generation, checksum) not in self._sound]
        if not todo:
            return
        found = self._checksums(meta.generation, kind, todo[0], meta.rows)
        for at, checksum in enumerate(found, todo[0]):
            if checksum != wanted[at]:
                raise Damage(f"rows from {at * BLOCK} on are not what was written")
            self._sound.add((kind, at, meta.generation, checksum))

    def _sweep(self) -> None:
        """Drop the files of other generations, and earlier small ones; who has them mapped keeps them."""
        meta = self._meta()
        keep = {"lock", META}
        if meta:
            keep |= {f"{meta.generation}.vectors", f"{meta.generation}.entries", meta.states, meta.missing}
        for path in self._folder.iterdir():
            if path.name not in keep:
                path.unlink(missing_ok=True)
