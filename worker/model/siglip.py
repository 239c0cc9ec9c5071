"""The family `siglip`: fixed-resolution SigLIP and SigLIP 2 through transformers.

Preprocessing and text handling follow the checkpoint's own processor to the letter; see the model card
(https://huggingface.co/google/siglip-base-patch16-512) and the paper (https://arxiv.org/abs/2303.15343).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import torch
import transformers
from PIL import Image

from ...schemas.errors import ModelLoadError
from ...schemas.models import ModelCard
from ...schemas.settings import Settings
from .checkpoint import Checkpoint, quiet_transformers
from .devices import forward_threads, memory_by_kind, pick_device, pick_dtype
from .encoder import Encoder
from .resize import Squash
from .text_tower import PaddedTexts
from .tower import Normalisation, TorchImages

TEXT_LENGTH: Final = 64
"""Tokens of every prompt. SigLIP was trained on exactly 64, padded, without an attention mask: padding any other
way silently changes the scores."""


class SiglipFamily:
    """Loads SigLIP checkpoints. See `prelabel.worker.model.registry.Family`."""

    def load(self, checkpoint: Checkpoint, settings: Settings, model_id: str) -> Encoder:
        """Load one, ready to encode.

        Raises:
            ModelLoadError: a file is missing, it is not a fixed-resolution SigLIP, or the device is missing.
        """
        checkpoint.require_files()
        device = pick_device(settings.device)
        threads = forward_threads(settings.cpu_threads)
        processor = _load_processor(checkpoint)
        images, tokenizer = processor.image_processor, processor.tokenizer
        size = _input_size(images, checkpoint.model)
        dtype = pick_dtype(settings.dtype, device)
        model = _load_model(checkpoint, dtype).to(device)
        card = _card(model_id, model, processor, size, settings.preprocessing)
        resample = Image.Resampling(int(images.resample))
        resize = Squash(size, resample, exact=settings.preprocessing == "exact")
        normalise = Normalisation(float(images.rescale_factor), images.image_mean, images.image_std, device)
        return Encoder(
            card=card,
            images=TorchImages(model, resize, normalise, compile_=settings.compile, threads=threads),
            texts=PaddedTexts(model, tokenizer, length=TEXT_LENGTH, lower_case=card.lower_case, threads=threads),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            device_memory=partial(memory_by_kind, device),
        )


FAMILY: Final = SiglipFamily()


_PIXELS: Final = {"exact": "exact", "fast": "fast 2", "scaled": "scaled 2"}
"""What is done to pixels, by setting. Count on when it changes: vectors made otherwise are not answered with."""


def _card(model_id: str, model: Any, processor: Any, size: tuple[int, int], preprocessing: str) -> ModelCard:
    images, tokenizer = processor.image_processor, processor.tokenizer
    # SiglipTokenizer lower-cases and strips punctuation itself; SigLIP 2's Gemma tokenizer expects lower case.
    lower = not isinstance(tokenizer, transformers.SiglipTokenizer)
    height, width = size
    return ModelCard(
        id=model_id,
        family="siglip",
        dim=int(model.config.vision_config.hidden_size),
        logit_scale=model.logit_scale.detach().exp().item(),
        logit_bias=model.logit_bias.detach().item(),
        head="sigmoid",
        input_size=size,
        resize="squash",
        mean=tuple(images.image_mean),
        std=tuple(images.image_std),
        text_length=TEXT_LENGTH,
        lower_case=lower,
        padded=True,
        tokenisation=f"{type(tokenizer).__name__} {TEXT_LENGTH} {'lower' if lower else 'own'}",
        preprocessing=f"{height}x{width} {Image.Resampling(int(images.resample)).name} {_PIXELS[preprocessing]}",
    )


def _load_processor(checkpoint: Checkpoint) -> Any:
    try:
        with quiet_transformers():
            return transformers.AutoProcessor.from_pretrained(checkpoint.source, revision=checkpoint.revision)
    except Exception as error:  # the loader raises a dozen unrelated types
        raise checkpoint.load_error(error) from error


def _load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model in eval mode."""
    try:
        with quiet_transformers():
            loaded = transformers.AutoModel.from_pretrained(
                checkpoint.source, revision=checkpoint.revision, dtype=dtype, use_safetensors=True
            )
    except Exception as error:  # the loader raises a dozen unrelated types
        raise checkpoint.load_error(error) from error
    return loaded.eval()


def _input_size(image_processor: Any, model: str) -> tuple[int, int]:
    size = image_processor.size
    height, width = getattr(size, "height", None), getattr(size, "width", None)
    if isinstance(size, dict):
        height, width = size.get("height"), size.get("width")
    if not height or not width or not image_processor.do_resize or not image_processor.do_normalize:
        raise ModelLoadError(f"{model} is no fixed-resolution SigLIP: its image processor does not squash to one size")
    return int(height), int(width)
