"""What an open_clip_config.json says, read as data: nothing in it is run, and nothing that it names is fetched.

The file holds `model_cfg`, the arguments of open_clip's `CLIP` and `CustomTextCLIP`, and `preprocess_cfg`, those of its
image transform; see `create_model` and `get_tokenizer` in open_clip's factory.py, which this follows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from .checkpoint import Checkpoint
from .image_rules import BYTES, ImageRules, channels, divisors

_AGAIN: Final = "copy it from the checkpoint again"

_FILTERS: Final = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "random": Image.Resampling.BICUBIC,  # in training alone
}

_SIMPLE: Final = frozenset({"clean", "additional_special_tokens"})
_HUGGING_FACE: Final = frozenset({"clean", "strip_sep_token", "language"})
"""Arguments a config may give its tokenizer. Others would fetch files, run code, or cut texts by chance."""

_CLEANINGS: Final = ("lower", "whitespace", "canonicalize")

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)
"""Of a config that names none: CLIP's own."""


@dataclass(frozen=True, kw_only=True)
class OpenClipConfig:
    """The part of it that open_clip does not read itself.

    Attributes:
        model: arguments of the model's class; none of them makes it load weights.
        custom_text: the class is `CustomTextCLIP`, whose text tower is a module of its own.
        image_tower: a name of timm's; None is a tower of open_clip's.
        text_tower: a transformers model by its name on the hub; None is a tower of open_clip's.
        own_tokenizer: texts go through a tokenizer in the checkpoint, not through the one that comes with open_clip.
        tokenizer_mode: how its tokens are put together; None is as it does so itself.
        tokenizer: further arguments of the tokenizer.
        context_length: tokens of a text.
        ends_with_eos: the text tower reads a text at its end, so it must have one.
        preprocess: `preprocess_cfg`.
    """

    model: Mapping[str, Any]
    custom_text: bool
    image_tower: str | None
    text_tower: str | None
    own_tokenizer: bool
    tokenizer_mode: str | None
    tokenizer: Mapping[str, Any]
    context_length: int
    ends_with_eos: bool
    preprocess: Mapping[str, Any]


def read_open_clip_config(checkpoint: Checkpoint) -> OpenClipConfig:
    """Look through a checkpoint's config.

    Raises:
        ModelLoadError: something that is needed is not there, or it asks for what is not done.
    """
    model = checkpoint.config.get("model_cfg")
    vision, text = ((model.get(name) if isinstance(model, dict) else None) for name in ("vision_cfg", "text_cfg"))
    if not isinstance(model, dict) or not isinstance(vision, dict) or not isinstance(text, dict):
        raise checkpoint.refused(f"{checkpoint.config_file} names no model_cfg with vision_cfg and text_cfg: {_AGAIN}")
    if "multimodal_cfg" in model:
        raise checkpoint.refused(
            f"{checkpoint.config_file} has a multimodal_cfg: it is a CoCa, which writes captions, and no dual encoder; "
            "set PRELABEL_MODEL to one"
        )
    preprocess = checkpoint.config.get("preprocess_cfg") or {}
    if not isinstance(preprocess, dict):
        raise checkpoint.refused(f"{checkpoint.config_file} has a preprocess_cfg that is no object: {_AGAIN}")
    return OpenClipConfig(
        model={
            **{name: value for name, value in model.items() if name != "custom_text"},
            "vision_cfg": {**vision, "timm_model_pretrained": False},
            "text_cfg": {**text, "hf_model_pretrained": False},
        },
        custom_text=bool(model.get("custom_text")) or bool(text.get("hf_model_name")),
        image_tower=_name(checkpoint, vision, "timm_model_name"),
        text_tower=_name(checkpoint, text, "hf_model_name"),
        own_tokenizer=_name(checkpoint, text, "hf_tokenizer_name") is not None,
        tokenizer_mode=text.get("tokenizer_mode"),
        tokenizer=_tokenizer_arguments(checkpoint, text),
        context_length=_whole(checkpoint, "context_length", text.get("context_length", 77)),
        ends_with_eos=text.get("pool_type") in ("last", "eos") and not text.get("hf_model_name"),
        preprocess=preprocess,
    )


def _tokenizer_arguments(checkpoint: Checkpoint, text: Mapping[str, Any]) -> Mapping[str, Any]:
    given = text.get("tokenizer_kwargs") or {}
    if not isinstance(given, dict):
        raise checkpoint.refused(f"{checkpoint.config_file} has tokenizer_kwargs that are no object: {_AGAIN}")
    known = _HUGGING_FACE if text.get("hf_tokenizer_name") else _SIMPLE
    for name in given:
        if name not in known:
            raise checkpoint.refused(
                f"{checkpoint.config_file} has {name} among its tokenizer_kwargs, and {', '.join(sorted(known))} alone "
                "are passed on: take it out, or export the checkpoint without it"
            )
    if given.get("clean", "lower") not in _CLEANINGS:
        raise checkpoint.refused(
            f"{checkpoint.config_file} says that texts are cleaned by {given['clean']!r}, and open_clip knows "
            f"{', '.join(_CLEANINGS)} alone: {_AGAIN}"
        )
    return dict(given)


def open_clip_image_rules(checkpoint: Checkpoint, given: Mapping[str, Any], size: Any) -> ImageRules:
    """The rules of open_clip's own transform, which resizes Pillow images with torchvision.

    Args:
        checkpoint: whose they are.
        given: `preprocess_cfg`.
        size: the image tower's, one number or two; what the config says beside it does not count.

    Raises:
        ModelLoadError: images are fitted in a way that is not done.
    """
    said = {name: value for name, value in given.items() if value is not None}
    pair = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    sides = (_whole(checkpoint, "image_size", pair[0]), _whole(checkpoint, "image_size", pair[-1]))
    way, resample = said.get("resize_mode", "shortest"), _FILTERS.get(said.get("interpolation", "bicubic"))
    if way not in ("shortest", "squash") or (way == "shortest" and sides[0] != sides[1]):
        raise checkpoint.refused(
            f"{checkpoint.config_file} fits images into {sides[0]}x{sides[1]} by resize_mode {way!r}, and there is "
            "shortest for squares and squash alone: set PRELABEL_MODEL to a checkpoint with one of them"
        )
    if resample is None or said.get("mode", "RGB") != "RGB":
        raise checkpoint.refused(
            f"{checkpoint.config_file} has an interpolation or a mode of images that open_clip does not know: {_AGAIN}"
        )
    try:
        mean, std = (
            read(value if isinstance(value, (tuple, list)) else [value] * 3)
            for read, value in ((channels, said.get("mean", _MEAN)), (divisors, said.get("std", _STD)))
        )
    except (TypeError, ValueError):
        raise checkpoint.refused(f"{checkpoint.config_file} has a mean or a std that is no color's: {_AGAIN}") from None
    return ImageRules(
        size=sides,
        shortest=sides[0] if way == "shortest" else None,
        resample=resample,
        rescale=BYTES,
        mean=mean,
        std=std,
        corner="even",
    )


def _name(checkpoint: Checkpoint, told: Mapping[str, Any], entry: str) -> str | None:
    value = told.get(entry) or None
    if value is None or isinstance(value, str):
        return value
    raise checkpoint.refused(f"{checkpoint.config_file} has {value!r} as {entry}, which is no name: {_AGAIN}")


def _whole(checkpoint: Checkpoint, name: str, value: Any) -> int:
    if isinstance(value, int) and value > 0:
        return value
    raise checkpoint.refused(f"{checkpoint.config_file} has {value!r} as {name}: {_AGAIN}")
