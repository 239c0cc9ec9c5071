"""The checkpoint and the device it would run on, on this machine."""

from __future__ import annotations

import importlib.util
import os
from importlib.metadata import version
from pathlib import Path

from ....schemas.settings import Settings
from ..console import card_lines
from . import Check, Checks

_NO_CUDA = "install the torch build for your CUDA (README, GPU hosts)"


def check_model(settings: Settings, load: bool, devices: Path = Path("/dev")) -> Checks:
    """Whether a worker here could load the model.

    Args:
        settings: name it.
        load: really load it, and say on which device.
        devices: where the NVIDIA driver's device files are.
    """
    if importlib.util.find_spec("torch") is None:
        yield Check(
            "model", "warn", "torch is not installed here", "only workers need it: pip install prelabel[worker]"
        )
        return
    gpu = (devices / "nvidia0").exists()
    if gpu and "+cpu" in version("torch"):
        yield Check("device", "warn", f"there is an NVIDIA GPU, and torch {version('torch')} cannot use it", _NO_CUDA)
    if load:
        from ....integrations.client.checkpoint import settings_model_id
        from ...model.registry import load_encoder

        encoder = load_encoder(settings, settings_model_id(settings))
        yield Check("model", "ok", f"{encoder.card.id} loads on {encoder.device} ({encoder.dtype})")
        for name, value in card_lines(encoder.card):
            yield Check(f"model's {name}", "ok", value)
        if gpu and encoder.device == "cpu" and settings.device == "auto" and "+cpu" not in version("torch"):
            yield Check("device", "warn", "torch does not see the NVIDIA GPU", "nvidia-smi; " + _NO_CUDA)
        return
    yield from _found(settings)


def _found(settings: Settings) -> Checks:
    from ...model.checkpoint import CONFIG, OPEN_CLIP_CONFIG

    of = {"auto": (CONFIG, OPEN_CLIP_CONFIG), "transformers": (CONFIG,), "openclip": (OPEN_CLIP_CONFIG,)}
    configs = of[settings.format]
    directory = Path(settings.model)
    if settings.model.startswith((".", "/", "~")) and not directory.is_dir():
        yield Check("model", "fail", f"{settings.model}: no such directory", "set PRELABEL_MODEL to a checkpoint")
        return
    if directory.is_dir():
        there = any((directory / name).is_file() for name in configs)
        detail = f"{settings.model} is a directory" + ("" if there else f" without {configs[0]}")
        yield Check("model", "ok" if there else "fail", detail, "" if there else "set PRELABEL_MODEL to a checkpoint")
        return
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(settings.model, name, revision=settings.pinned_revision) for name in configs]
    if any(isinstance(path, str) for path in cached):
        yield Check("model", "ok", f"{settings.model} is in the cache")
    elif os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        yield Check(
            "model", "fail", f"{settings.model} is not in the cache, HF_HUB_OFFLINE is set", "copy it to HF_HOME"
        )
    else:
        yield Check(
            "model", "warn", f"{settings.model} is not in the cache: the first worker downloads it", "wait for it"
        )
    if settings.pinned_revision is None:
        yield Check("revision", "warn", "not pinned: an upload on the hub changes scores", "set PRELABEL_REVISION")
