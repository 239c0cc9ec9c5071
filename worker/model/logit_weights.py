"""The two weights that turn a cosine into a logit, as the checkpoint's file has them.

A model that computes in bfloat16 has them rounded to three digits, and every logit with them.
"""

from __future__ import annotations

import json
from typing import Any, Final

import safetensors
import torch

from .checkpoint import Checkpoint

_WEIGHTS: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_NAMES: Final = ("logit_scale", "logit_bias")


def read_logit_weights(checkpoint: Checkpoint, model: Any) -> tuple[float, float | None]:
    """A loaded model's `logit_scale`, as the factor it stands for, and its `logit_bias`; None where it has none.

    Args:
        checkpoint: one in transformers' format, whose weights the model has.
        model: has them in the type it computes in. These count where the file has them by other names.

    Raises:
        ModelLoadError: the hub does not say which file has them.
    """
    written = _written(checkpoint)
    scale, bias = (
        written.get(name, None if own is None else own.detach().float())
        for name, own in ((name, getattr(model, name, None)) for name in _NAMES)
    )
    if scale is None:
        raise checkpoint.refused(f"its weights (*.safetensors) lack {_NAMES[0]}: copy them again")
    return scale.exp().item(), None if bias is None else bias.item()


def _written(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    """Those of them that the file has, by name: one number each, in float32."""
    path = checkpoint.first_of((_WEIGHTS, _INDEX))
    if path is None:
        return {}
    files = [path]
    if path.name == _INDEX:
        places = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        names = sorted({file for name, file in places.items() if _own_name(name) in _NAMES})
        files = [file for file in (checkpoint.first_of((name,)) for name in names) if file]
    read: dict[str, torch.Tensor] = {}
    for file in files:
        with safetensors.safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # it is no mapping
                if _own_name(name) in _NAMES:
                    read[_own_name(name)] = weights.get_tensor(name).float()
    return read


def _own_name(name: str) -> str:
    return name.rpartition(".")[2]
