"""The weights of a checkpoint in OpenCLIP's format: which file they are in, and into the model, all of them."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, Final

import safetensors.torch

from .checkpoint import Checkpoint
from .files import brief, weights_problem

_WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "model.safetensors")
"""In the order open_clip looks for them."""


def weights_file(checkpoint: Checkpoint) -> Path:
    """The one file with a checkpoint's weights, whole as far as its head tells.

    Raises:
        ModelLoadError: there is none or more than one, it is a pickle, or it is damaged.
    """
    path = checkpoint.first_of(_WEIGHTS)
    if path is None and checkpoint.folder:
        others = sorted(path.name for path in checkpoint.folder.glob("*.safetensors"))
        if others[1:]:
            raise checkpoint.refused(
                f"it holds {others[0]} and {others[1]}, and no {_WEIGHTS[0]}: rename the one with the whole model to it"
            )
        path = checkpoint.folder / others[0] if others else None
    if path is None:
        pickled = checkpoint.pickles() if checkpoint.folder else ["open_clip_pytorch_model.bin"]
        if pickled:
            raise checkpoint.refused(_converted(checkpoint, pickled[0]))
        raise checkpoint.refused(f"it holds no {_WEIGHTS[0]}: copy it from the checkpoint")
    if problem := weights_problem(path):
        raise checkpoint.refused(f"{path.name} is damaged or cut short, copy it again: {problem}")
    return path


def _converted(checkpoint: Checkpoint, name: str) -> str:
    """Why pickled weights are not opened, and what makes others of them."""
    # JSON's strings are Python's, and their double quotes need no escapes between the shell's single ones.
    source = json.dumps(str(checkpoint.folder / name) if checkpoint.folder else name)
    target = json.dumps(str(checkpoint.folder / _WEIGHTS[0]) if checkpoint.folder else _WEIGHTS[0])
    code = (
        "import torch, safetensors.torch as s; "
        f'w = torch.load({source}, map_location="cpu", weights_only=True); w = w.get("state_dict", w); '
        f's.save_file({{n.removeprefix("module."): t.clone().contiguous() for n, t in w.items()}}, {target})'
    )
    there = "" if checkpoint.folder else ", in a folder with the repository's other files, and set PRELABEL_MODEL to it"
    return (
        f"it holds no {_WEIGHTS[0]}, and pickled weights ({name}) are never opened, for they can run code: convert "
        f"them once, python -c {shlex.quote(code)}{there}"
    )


def load_weights(checkpoint: Checkpoint, model: Any, path: Path, library: Any) -> None:
    """Put a checkpoint's weights into a model.

    Args:
        checkpoint: whose they are.
        model: made from its config.
        path: the file.
        library: open_clip, which knows how older checkpoints and Apple's MobileCLIP named them.

    Raises:
        ModelLoadError: the file lacks what the model has, or has what the model lacks.
    """
    try:
        given = library.factory.convert_state_dict(model, safetensors.torch.load_file(path))
        if "positional_embedding" in given and not hasattr(model, "positional_embedding"):
            given = library.model.convert_to_custom_text_state_dict(given)
    except Exception as error:  # whatever safetensors raises, and KeyError of a file that looks like MobileCLIP's alone
        raise checkpoint.refused(f"{path.name} cannot be read, copy it again: {brief(error)}") from error
    own = model.state_dict()
    given.pop("text.transformer.embeddings.position_ids", None)  # older transformers kept these with the weights
    for name in {"logit_scale", "logit_bias"} & given.keys() & own.keys():
        given[name] = given[name].reshape(own[name].shape) if given[name].numel() == 1 else given[name]
    missing = sorted(name for name in own if name not in given or given[name].shape != own[name].shape)
    for wrong, does in ((missing, "lacks"), (sorted(given.keys() - own.keys()), "has")):
        if wrong:
            more = f" and {len(wrong) - 1} more" if wrong[1:] else ""
            asked = "asks for" if wrong is missing else "does not ask for"
            raise checkpoint.refused(
                f"{path.name} {does} {wrong[0]}{more}, which {checkpoint.config_file} {asked}: one of the two is of "
                "another checkpoint, or of half of one; copy both again"
            )
    model.load_state_dict(given)
