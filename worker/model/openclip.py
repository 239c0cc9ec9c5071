"""The family `open_clip`: checkpoints in OpenCLIP's format (EVA, MobileCLIP, BioCLIP, PE, DFN, SigLIP, …).

open_clip (https://github.com/mlfoundations/open_clip) builds the towers from the checkpoint's config, without weights
and without the network; the weights are the checkpoint's safetensors, and all that the towers have must be among them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
import transformers

from ...schemas.models import ModelCard, PaddingSide
from ...schemas.settings import Settings
from .checkpoint import CONFIG, OPEN_CLIP, Checkpoint, quiet_transformers
from .cost import gflop
from .devices import forward_threads, memory_by_kind, pick_device, pick_dtype
from .encoder import Encoder
from .files import brief
from .openclip_config import OpenClipConfig, open_clip_image_rules, read_open_clip_config
from .openclip_tokens import OpenClipTokens, load_tokens
from .openclip_weights import load_weights, weights_file
from .text_tower import TextRules, TokenTexts
from .torchvision_ops import make_importable
from .tower import Normalisation, TorchImages


class Towers(torch.nn.Module):
    """A model of open_clip's with the names that transformers' have.

    Args:
        model: a `CLIP` or a `CustomTextCLIP`.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        device: torch.device = self.model.logit_scale.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        dtype: torch.dtype = self.model.logit_scale.dtype
        return dtype

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """`(n, 3, height, width)` -> `(n, dim)`, not normalised."""
        features: torch.Tensor = self.model.encode_image(pixel_values)
        return features

    def get_text_features(self, input_ids: torch.Tensor) -> torch.Tensor:
        """`(n, length)` -> `(n, dim)`, not normalised."""
        features: torch.Tensor = self.model.encode_text(input_ids)
        return features


class OpenClipFamily:
    """Loads checkpoints in OpenCLIP's format. See `prelabel.worker.model.registry.Family`."""

    def load(self, checkpoint: Checkpoint, settings: Settings, model_id: str) -> Encoder:
        """Load one, ready to encode.

        Raises:
            ModelLoadError: open_clip is not installed, a file is missing, damaged or not what open_clip reads, or the
                device is missing.
        """
        config = read_open_clip_config(checkpoint)
        library = _library(checkpoint)
        device = pick_device(settings.device)
        threads = forward_threads(settings.cpu_threads)
        weights = weights_file(checkpoint)
        tokens = load_tokens(checkpoint, config, library)
        build = _builder(checkpoint, config, library)
        model = build()
        rules = open_clip_image_rules(checkpoint, config.preprocess, model.visual.image_size)
        if tokens.places > model.vocab_size:
            raise checkpoint.refused(
                f"its tokenizer has {tokens.places:,} tokens and {checkpoint.config_file} {model.vocab_size:,}: one of "
                "the two is of another checkpoint; copy both again"
            )
        load_weights(checkpoint, model, weights, library)
        towers = Towers(model)
        dim = _dim(checkpoint, towers, tokens, rules.size)
        scale = model.logit_scale.detach().exp().item()
        bias = None if model.logit_bias is None else model.logit_bias.detach().item()
        dtype = pick_dtype(settings.dtype, device)
        towers.to(device=device, dtype=dtype)
        side: PaddingSide = "left" if tokens.padding_side == "left" else "right"
        card = ModelCard(
            id=model_id,
            revision=checkpoint.revision or model_id.rpartition("@")[2],
            family=OPEN_CLIP,
            dim=dim,
            logit_scale=scale,
            logit_bias=bias,
            head="softmax" if bias is None else "sigmoid",
            input_size=rules.size,
            resize=rules.resize,
            mean=rules.mean,
            std=rules.std,
            text_length=config.context_length,
            lower_case=False,
            padded=True,
            padding_side=side,
            mask=config.text_tower is not None,  # open_clip makes one from the tokens
            ends_with_eos=tokens.ends_with_eos(),
            tokenisation=tokens.name,
            # Another implementation than that of transformers: a folder may hold two checkpoints, one in each format.
            preprocessing=f"{OPEN_CLIP} {rules.name(settings.preprocessing)}",
            licence=checkpoint.licence(),
            gflop=gflop(
                lambda: Towers(build()), lambda: {"pixel_values": torch.empty(1, 3, *rules.size, device="meta")}
            ),
        )
        return Encoder(
            card=card,
            images=TorchImages(
                towers,
                rules.resizer(settings.preprocessing),
                Normalisation(rules.rescale, rules.mean, rules.std, device),
                compile_=settings.compile,
                threads=threads,
            ),
            texts=TokenTexts(
                towers,
                tokens,
                TextRules(length=config.context_length, side=side, ends_with_eos=card.ends_with_eos),
                vocabulary=model.vocab_size,
                threads=threads,
            ),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            device_memory=partial(memory_by_kind, device),
        )


FAMILY: Final = OpenClipFamily()


def _library(checkpoint: Checkpoint) -> Any:
    """open_clip, which need not be there."""
    make_importable()
    try:
        return importlib.import_module("open_clip")
    except ImportError as error:
        if error.name == "open_clip":
            raise checkpoint.refused(
                "its format is OpenCLIP's, and open_clip is not installed: pip install 'prelabel[openclip]'"
            ) from error
        reason: Exception = error
    except Exception as error:  # whatever its own imports raise
        reason = error
    raise checkpoint.refused(
        f"open_clip is installed and cannot be imported ({brief(reason)}): install torch and torchvision of one "
        "build, then pip install 'prelabel[openclip]'"
    ) from reason


def _builder(checkpoint: Checkpoint, config: OpenClipConfig, library: Any) -> Callable[[], Any]:
    """What makes the model a config describes, with random weights, in eval mode, from this machine's files alone."""
    if config.image_tower and not importlib.import_module("timm").is_model(config.image_tower):
        raise checkpoint.refused(
            f"{checkpoint.config_file} names the image tower {config.image_tower}, which timm {version('timm')} does "
            "not have, and nothing is fetched for a config: pip install -U timm"
        )
    model = dict(config.model)
    if config.text_tower:
        model["text_cfg"] = {**model["text_cfg"], "hf_model_name": str(_cached_tower(checkpoint, config.text_tower))}

    def build() -> Any:
        try:
            with quiet_transformers():
                return (library.CustomTextCLIP if config.custom_text else library.CLIP)(**model).eval()
        except Exception as error:  # whatever open_clip, timm and torch raise
            raise checkpoint.refused(
                f"open_clip {version('open-clip-torch')} cannot build what {checkpoint.config_file} describes: "
                f"{brief(error)} (pip install -U open-clip-torch timm, or copy it from the checkpoint again)"
            ) from error

    return build


def _cached_tower(checkpoint: Checkpoint, name: str) -> Path:
    """The folder of a transformers model's config.json in the hub's cache: a text tower's geometry, not its weights."""
    try:
        with quiet_transformers():
            path = Path(str(transformers.utils.cached_file(name, CONFIG, local_files_only=True)))
            # Whether it is one of transformers' own kinds: no code is taken from a repository.
            transformers.AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
    except Exception as error:  # the loader raises a dozen unrelated types
        raise checkpoint.refused(
            f"{checkpoint.config_file} names the text tower {name} of transformers, whose config.json is not in the "
            f"cache (HF_HOME), and nothing is fetched for a config: hf download {name} {CONFIG}"
        ) from error
    return path.parent


def _dim(checkpoint: Checkpoint, towers: Towers, tokens: OpenClipTokens, size: tuple[int, int]) -> int:
    """Length of an embedding, as the two towers give it for a blank image and a text."""
    try:
        with torch.inference_mode():
            image = towers.get_image_features(torch.zeros(1, 3, *size))
            text = towers.get_text_features(**tokens(["a"], return_tensors="pt"))
            shapes = tuple(image.shape), tuple(text.shape)
    except Exception as error:  # whatever open_clip, timm and torch raise
        raise checkpoint.refused(
            f"the model {checkpoint.config_file} describes does not run on its own image_size and context_length: "
            f"{brief(error)} (copy it from the checkpoint again)"
        ) from error
    if shapes[0] != shapes[1] or len(shapes[0]) != 2:
        raise checkpoint.refused(
            f"{checkpoint.config_file} gives images embeddings of {shapes[0][1:]} and texts {shapes[1][1:]}, which "
            "cannot be compared: copy it from the checkpoint again"
        )
    return shapes[0][1]
