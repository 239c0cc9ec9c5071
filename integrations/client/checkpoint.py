"""Which checkpoint the settings name, said the same way by producers, adapter and workers, without torch."""

from __future__ import annotations

import hashlib
import logging
import re
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError

from ...schemas.model_version import model_id
from ...schemas.settings import Settings
from ...schemas.wire import Model

log = logging.getLogger(__name__)

_CHECKPOINT_FILES = (".json", ".safetensors", ".model", ".spm", ".tiktoken", ".txt")
"""Weights, configs, and the vocabularies of all kinds of tokenizers."""

_MEMORY = "checkpoints.json"
"""In the state folder."""


def settings_model_id(settings: Settings) -> str:
    """`<model>@<revision8>` for the settings' model.

    A hub checkpoint is told by its pinned revision. A local directory is told by `PRELABEL_REVISION` when set,
    else by a digest of its files, so that other weights under the same name are another version. Digests of files are
    remembered in the state folder.
    """
    directory = Path(settings.model)
    if settings.revision is None and directory.is_dir():
        directory = directory.resolve()
        return model_id(str(directory), _revision(directory, settings.state_dir / _MEMORY))
    return model_id(settings.model, settings.pinned_revision)


def names_one_model(settings: Settings) -> bool:
    """Whether the settings' model id always means the same weights; a hub model without a commit may change."""
    if Path(settings.model).is_dir():
        return True
    return bool(re.fullmatch(r"[0-9a-f]{7,40}", settings.pinned_revision or ""))


class _Digest(Model):
    """What a file held when it was last read.

    It counts for as long as the file's size (bytes), time of change (Unix ns) and inode are the same.
    """

    size: int
    mtime_ns: int
    inode: int
    sha256: str

    @property
    def seen(self) -> tuple[int, int, int]:
        """What told it from other contents."""
        return self.size, self.mtime_ns, self.inode


_DIGESTS = TypeAdapter(dict[str, _Digest])


def _revision(directory: Path, memory: Path) -> str:
    """Sha256 over the names and the whole contents of a checkpoint's files.

    Args:
        directory: the checkpoint, resolved.
        memory: file with the digests made before, of this and other checkpoints. Reading gigabytes takes seconds: an
            unchanged file is read once. Without the memory it is read by every process.
    """
    known = _remembered(memory)
    digests = {
        str(path): _digest(path, known.get(str(path)))
        for path in sorted(directory.iterdir())
        if path.suffix in _CHECKPOINT_FILES
    }
    if any(known.get(path) != digest for path, digest in digests.items()):
        _remember(memory, {path: digest for path, digest in (known | digests).items() if Path(path).exists()})
    revision = hashlib.sha256()
    for path, digest in digests.items():
        revision.update(f"{Path(path).name}\0{digest.sha256}\0".encode())
    return revision.hexdigest()


def _digest(path: Path, known: _Digest | None) -> _Digest:
    stat = path.stat()
    seen = stat.st_size, stat.st_mtime_ns, stat.st_ino
    return known if known and known.seen == seen else _read_digest(path, *seen)


@lru_cache(maxsize=64)
def _read_digest(path: Path, size: int, mtime_ns: int, inode: int) -> _Digest:
    """Read the file; once a process, should there be no place to remember it in."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _Digest(size=size, mtime_ns=mtime_ns, inode=inode, sha256=digest)


def _remembered(memory: Path) -> dict[str, _Digest]:
    try:
        return _DIGESTS.validate_json(memory.read_bytes())
    except (OSError, ValidationError):  # it saves time, no more: what cannot be read is made again
        return {}


def _remember(memory: Path, digests: dict[str, _Digest]) -> None:
    """Replace the memory in one step: workers that start together read the old one or the new one."""
    fresh = memory.with_name(f"{memory.name}.{uuid4().hex}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        try:
            fresh.write_bytes(_DIGESTS.dump_json(digests))
            fresh.replace(memory)
        finally:
            fresh.unlink(missing_ok=True)
    except OSError as error:
        log.debug("digests of checkpoints are not kept in %s: %s", memory, error.strerror or error)
