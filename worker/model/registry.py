"""Which family loads a checkpoint: told by its config.json, before a weight is read. Torch comes with the family.

A family of another package announces itself as an entry point of the group `prelabel.models`, named as the
`model_type` it loads (https://packaging.python.org/en/latest/specifications/entry-points/). Ours come first.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Final, Protocol, runtime_checkable

from ...schemas.errors import ConfigError, PrelabelError
from ...schemas.settings import Settings
from .checkpoint import Checkpoint, read_checkpoint
from .encoder import Encoder

GROUP: Final = "prelabel.models"

_SIGLIP = f"{__package__}.siglip:FAMILY"
_OURS: Final = {name: EntryPoint(name, _SIGLIP, GROUP) for name in ("siglip", "siglip2")}


@runtime_checkable
class Family(Protocol):
    """A kind of model. Its module may import torch: it is imported when one of its checkpoints is to be loaded."""

    def load(self, checkpoint: Checkpoint, settings: Settings, model_id: str) -> Encoder:
        """Load a checkpoint.

        Args:
            checkpoint: what is known of it; its `model_type` is one the family announced itself for.
            settings: how it is to run: device, dtype, preprocessing, compile, cpu_threads.
            model_id: the card's `id`.

        Raises:
            ModelLoadError: a file is missing or is not what the family reads, or the device is missing.
        """
        ...


def load_encoder(settings: Settings, model_id: str) -> Encoder:
    """The encoder the settings ask for.

    Args:
        settings: name the checkpoint and how it runs.
        model_id: `<model>@<revision8>`, put on predictions.

    Raises:
        ModelLoadError: the checkpoint cannot be found or loaded, or no family knows its kind.
        ConfigError: the package that brings the family is broken.
    """
    checkpoint = read_checkpoint(settings.model, settings.pinned_revision)
    entry = _entry(checkpoint)
    family = _family(entry)
    try:
        encoder = family.load(checkpoint, settings, model_id)
    except PrelabelError:
        raise
    except Exception as error:
        if _is_ours(entry):
            raise
        raise _broken(entry, f"it failed to load {checkpoint.model}: {_one_line(error)}") from error
    if not isinstance(encoder, Encoder):
        raise _broken(entry, f"its load() returned {type(encoder).__name__}, not an Encoder")
    return encoder


def _entry(checkpoint: Checkpoint) -> EntryPoint:
    name = checkpoint.model_type
    if name in _OURS:
        return _OURS[name]
    brought = entry_points(group=GROUP)
    found = [entry for entry in brought if entry.name == name]
    if len(found) > 1:
        packages = " and ".join(sorted(_package(entry) for entry in found))
        raise ConfigError(f"{packages} both bring the model family {name!r}: uninstall one of them")
    if not found:
        known = ", ".join(sorted({*_OURS, *brought.names}))
        raise checkpoint.refused(
            f"config.json says model_type {name!r}, and there are families for {known} alone: "
            "set PRELABEL_MODEL to such a checkpoint, or install a package that brings the family"
        )
    return found[0]


def _family(entry: EntryPoint) -> Family:
    try:
        family = entry.load()
    except Exception as error:  # whatever the module raises when it is imported
        if _is_ours(entry):
            raise
        raise _broken(entry, f"{entry.value} cannot be imported: {_one_line(error)}") from error
    if isinstance(family, type) or not isinstance(family, Family):
        raise _broken(entry, f"{entry.value} is no object with load(checkpoint, settings, model_id)")
    return family


def _is_ours(entry: EntryPoint) -> bool:
    return _OURS.get(entry.name) is entry


def _broken(entry: EntryPoint, what: str) -> ConfigError:
    return ConfigError(f"the model family {entry.name!r} of {_package(entry)}: {what} (update or uninstall it)")


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value


def _one_line(error: Exception) -> str:
    return " ".join((str(error).strip().splitlines() or [type(error).__name__])[0].split())[:300]
