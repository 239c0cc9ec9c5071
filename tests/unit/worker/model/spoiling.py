"""Ways to spoil a checkpoint's folder, each a function of it."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tests.checkpoints import edit_json

TOKENIZER = ("spiece.model", "tokenizer.json", "tokenizer_config.json")
WEIGHTS = "model.safetensors"

Spoil = Callable[[Path], None]


def without(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink(missing_ok=True)

    return spoil


def written(name: str, content: str) -> Spoil:
    return lambda folder: (folder / name).write_text(content) and None


def cut(name: str, length: int) -> Spoil:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:length]) and None


def config(**changes: Any) -> Spoil:
    return lambda folder: edit_json(folder / "config.json", **changes)


def tower(name: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "config.json").read_text())
        edit_json(folder / "config.json", **{name: {**told[name], **changes}})

    return spoil


def nulled(*path: str) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "config.json").read_text())
        inner = told
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = None
        (folder / "config.json").write_text(json.dumps(told))

    return spoil


def tokenizer(**changes: Any) -> Spoil:
    """Also where None means that it is said."""

    def spoil(folder: Path) -> None:
        told = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**told, **changes}))

    return spoil


def half(name: str) -> Spoil:
    """The folder says that it is one tower alone."""

    def spoil(folder: Path) -> None:
        told = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(told[name]))

    return spoil


def images(**changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / "processor_config.json").read_text())
        edit_json(folder / "processor_config.json", image_processor={**told["image_processor"], **changes})

    return spoil


def as_transformers_4_wrote_it(folder: Path) -> None:
    told = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").unlink()
    (folder / "preprocessor_config.json").write_text(json.dumps({**told["image_processor"], "do_rescale": False}))


def an_adapter(folder: Path) -> None:
    without(WEIGHTS)(folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "/secret"}')
    (folder / "adapter_model.safetensors").write_bytes(b"")


def pickled(folder: Path) -> None:
    without(WEIGHTS)(folder)
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))


def a_shard_missing(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
    names = {"logit_scale": "model-00001-of-00002.safetensors", "more": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def weights(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Spoil:
    def spoil(folder: Path) -> None:
        changed = change(load_file(folder / WEIGHTS))
        save_file(changed, folder / WEIGHTS, metadata={"format": "pt"})

    return spoil


def without_texts(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in tensors.items() if not name.startswith("text_model.")}


def of_another_width(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    (first,) = (name for name in tensors if "vision" in name and name.endswith(".0.mlp.fc1.weight"))
    return {**tensors, first: torch.zeros(9, 7)}
