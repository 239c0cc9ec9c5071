"""Which checkpoint the settings name, said the same way by producers, adapter and workers, without torch."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from pathlib import Path

from ...schemas.model_version import model_id
from ...schemas.settings import Settings

_READ_BYTES = 1 << 20


def settings_model_id(settings: Settings) -> str:
    """`<model>@<revision8>` for the settings' model.

    A hub checkpoint is told by its pinned revision. A local directory is told by `PRELABEL_REVISION` when set,
    else by a digest of its files, so that other weights under the same name are another version.
    """
    directory = Path(settings.model).expanduser()
    if settings.revision is None and directory.is_dir():
        return model_id(str(directory.resolve()), _digest(directory.resolve()))
    return model_id(settings.model, settings.pinned_revision)


def names_one_model(settings: Settings) -> bool:
    """Whether the settings' model id always means the same weights; a hub model without a commit may change."""
    if Path(settings.model).expanduser().is_dir():
        return True
    return bool(re.fullmatch(r"[0-9a-f]{7,40}", settings.pinned_revision or ""))


@lru_cache(maxsize=8)
def _digest(directory: Path) -> str:
    """Sha256 over the names, sizes and first and last MiB of a checkpoint's files.

    Quick on gigabytes, and different whenever weights were trained or converted anew.
    """
    digest = hashlib.sha256()
    for path in sorted(directory.iterdir()):
        if path.suffix not in (".json", ".safetensors", ".model"):
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            digest.update(file.read(_READ_BYTES))
            if size > _READ_BYTES:
                file.seek(max(_READ_BYTES, size - _READ_BYTES))
                digest.update(file.read())
    return digest.hexdigest()
