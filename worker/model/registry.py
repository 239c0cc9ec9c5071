"""Which family loads a checkpoint: told by its config, before a weight is read. Torch comes with the family.

A family of another package is an entry point of the group `prelabel.models`, named as the `model_type` it loads. Ours
come first.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Final, Protocol, runtime_checkable

from ...integrations.plugins import Plugin, Plugins
from ...schemas.settings import Settings
from .checkpoint import OPEN_CLIP, Checkpoint, read_checkpoint
from .encoder import Encoder

GROUP: Final = "prelabel.models"

_FAMILIES: Final = {
    "siglip": ("siglip", "FAMILY"),
    "siglip2": ("naflex", "FAMILY"),
    "clip": ("clip", "FAMILY"),
    "metaclip_2": ("clip", "METACLIP_2"),
    "altclip": ("altclip", "FAMILY"),
    OPEN_CLIP: ("openclip", "FAMILY"),
}
"""`model_type` -> the module beside this one, and the object in it, that loads it."""

_HALVES: Final = re.compile(
    r"(siglip2?|clip|metaclip_2|altclip|chinese_clip)_(text|vision)_model|(vit|dinov2|dinov3_vit|bert|roberta|xlm-roberta)"
)
"""Kinds of model that embed images or texts alone."""


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
    checkpoint = read_checkpoint(settings.model, settings.pinned_revision, settings.format)
    if checkpoint.model_type in _FAMILIES:
        return _ours(checkpoint.model_type).load(checkpoint, settings, model_id)
    plugin = _plugin(checkpoint)
    family = plugin.load()
    if isinstance(family, type) or not isinstance(family, Family):
        raise plugin.broken(f"{plugin.entry.value} is no object with load(checkpoint, settings, model_id)")
    encoder = plugin.run(lambda: family.load(checkpoint, settings, model_id), f"it failed to load {checkpoint.model}")
    if not isinstance(encoder, Encoder):
        raise plugin.broken(f"its load() returned {type(encoder).__name__}, not an Encoder")
    return encoder


def _ours(model_type: str) -> Family:
    module, name = _FAMILIES[model_type]
    family: Family = getattr(import_module(f".{module}", __package__), name)
    return family


def _plugin(checkpoint: Checkpoint) -> Plugin:
    plugins = Plugins(GROUP, "model family")
    plugin = plugins.find(checkpoint.model_type)
    if plugin is None:
        if _HALVES.fullmatch(checkpoint.model_type):
            raise checkpoint.refused(
                f"config.json says model_type {checkpoint.model_type!r}, which embeds images alone or texts alone: set "
                "PRELABEL_MODEL to a dual encoder, the whole checkpoint this is a half of"
            )
        known = ", ".join(sorted({*_FAMILIES, *plugins.names}))
        raise checkpoint.refused(
            f"config.json says model_type {checkpoint.model_type!r}, and there are families for {known} alone: "
            "set PRELABEL_MODEL to such a checkpoint, or install a package that brings the family"
        )
    return plugin
