"""Which family loads a checkpoint: told by its config.json, before a weight is read. Torch comes with the family."""

from __future__ import annotations

from typing import Final

from ...schemas.settings import Settings
from .checkpoint import read_checkpoint
from .encoder import Encoder

_SIGLIP: Final = ("siglip", "siglip2")


def load_encoder(settings: Settings, model_id: str) -> Encoder:
    """The encoder the settings ask for.

    Args:
        settings: name the checkpoint and how it runs.
        model_id: `<model>@<revision8>`, put on predictions.

    Raises:
        ModelLoadError: the checkpoint cannot be found or loaded, or no family knows its kind.
    """
    checkpoint = read_checkpoint(settings.model, settings.pinned_revision)
    name = checkpoint.model_type
    if name not in _SIGLIP:
        known = ", ".join(_SIGLIP)
        raise checkpoint.refused(
            f"config.json says model_type {name!r}, and there are families for {known} alone: "
            "set PRELABEL_MODEL to such a checkpoint"
        )
    from .siglip import FAMILY  # torch: the moment it is needed

    return FAMILY.load(checkpoint, settings, model_id)
