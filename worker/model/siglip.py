"""SigLIP through transformers. With `siglip_tower.py`, where the image tower runs, the only module that imports torch.

Preprocessing and text handling follow the checkpoint's own processor to the letter; see the model card
(https://huggingface.co/google/siglip-base-patch16-512) and the paper (https://arxiv.org/abs/2303.15343).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from ...schemas.errors import ModelLoadError
from ...schemas.settings import Settings
from ..arrays import Pixels, Vectors
from ..machine.host import usable_cpus
from .encoder import Memory
from .tower import Compile, ImageTower, Normalisation, device_errors, use_threads

log = logging.getLogger(__name__)

TEXT_LENGTH = 64
"""Tokens of every prompt. SigLIP was trained on exactly 64, padded, without an attention mask: padding any other
way silently changes the scores."""

_TEXT_BATCH = 64

_TORCH_MODES = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}
"""Filters torch has an antialiased uint8 kernel for; the one torchvision calls."""


class SiglipEncoder:
    """A SigLIP checkpoint, ready to encode. See `prelabel.worker.model.encoder.Encoder` for the meaning of the members.

    Args:
        model: hub id or local directory.
        revision: hub commit; None is the repository's main branch.
        model_id: `<model>@<revision8>` put on predictions.
        device: "auto", "cpu", "cuda" or "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        exact: resize with Pillow, to the bit as the processor does; else with torch's kernel, several times faster and
            within 2 of 255 of it.
        scaled: the decoder before it scales large JPEGs down (see `decode_pixels`): other vectors.
        compile_: whether `tune` tries `torch.compile`; "auto" does on CUDA and keeps it where it is faster.
        threads: CPU threads of a forward pass; 0 is as many as torch would take, if the process may use them.

    Raises:
        ModelLoadError: the checkpoint cannot be found or is not a fixed-resolution SigLIP, or the device is missing.
    """

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        model_id: str,
        device: str = "auto",
        dtype: str = "auto",
        exact: bool = False,
        scaled: bool = False,
        compile_: Compile = "auto",
        threads: int = 0,
    ) -> None:
        self._exact = exact
        self.model_id = model_id
        self._threads = threads or min(torch.get_num_threads(), usable_cpus())
        self._device = pick_device(device)
        self._dtype = _pick_dtype(dtype, self._device)
        self.device = str(self._device)
        self.dtype = str(self._dtype).removeprefix("torch.")
        self._model, processor = _load(model, revision, self._dtype)
        self._model.to(self._device)
        self._tokenizer = processor.tokenizer
        # SiglipTokenizer lower-cases and strips punctuation itself; SigLIP 2's Gemma tokenizer expects lower case.
        self._lower = not isinstance(self._tokenizer, transformers.SiglipTokenizer)
        self.tokenisation = f"{type(self._tokenizer).__name__} {TEXT_LENGTH} {'lower' if self._lower else 'own'}"
        image_processor = processor.image_processor
        self._size = _input_size(image_processor, model)
        self._resample = Image.Resampling(int(image_processor.resample))
        steps = "exact" if exact else "scaled" if scaled else "fast"
        self.preprocessing = f"{self._size[0]}x{self._size[1]} {self._resample.name} {steps}"
        normalise = Normalisation(
            float(image_processor.rescale_factor), image_processor.image_mean, image_processor.image_std, self._device
        )
        self._tower = ImageTower(self._model, normalise, compile_=compile_, threads=self._threads)
        self.logit_scale = self._model.logit_scale.detach().exp().item()
        self.logit_bias = self._model.logit_bias.detach().item()
        self.dim = int(self._model.config.vision_config.hidden_size)

    @classmethod
    def from_settings(cls, settings: Settings, model_id: str) -> SiglipEncoder:
        """The encoder the settings ask for.

        Raises:
            ModelLoadError: see the class.
        """
        return cls(
            settings.model,
            revision=settings.pinned_revision,
            model_id=model_id,
            device=settings.device,
            dtype=settings.dtype,
            exact=settings.preprocessing == "exact",
            scaled=settings.preprocessing == "scaled",
            compile_=settings.compile,
            threads=settings.cpu_threads,
        )

    def prepare(self, image: Pixels) -> Pixels:
        """Squash to the input size with the processor's own filter.

        Args:
            image: `(h, w, 3)` uint8, upright, RGB.

        Returns:
            `(height, width, 3)` uint8. Rescaling and normalising happen on the device, on a quarter of the bytes.
        """
        height, width = self._size
        mode = None if self._exact else _TORCH_MODES.get(self._resample)
        if mode is None:
            return np.array(Image.fromarray(image).resize((width, height), resample=self._resample))
        use_threads(1)  # there is a thread for each image
        # Such strides torch takes for pixels that lie together, which it resizes as they are; else it makes planes of
        # them and back, byte by byte. And numpy's views: each of torch's lets another thread in first.
        pixels = image.reshape(1, *image.shape).transpose(0, 3, 1, 2)
        squashed = torch.nn.functional.interpolate(torch.from_numpy(pixels), (height, width), mode=mode, antialias=True)
        prepared: Pixels = np.ascontiguousarray(squashed.numpy()[0].transpose(1, 2, 0))
        return prepared

    def encode_images(self, batch: Pixels) -> Vectors:
        """`(n, height, width, 3)` uint8 -> `(n, dim)` float32, un-normalised.

        Raises:
            OutOfMemory: the batch does not fit on the device.
        """
        return self._tower.embed(batch)

    def start_images(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """See `Encoder.start_images`."""
        if self._device.type == "cuda":
            return self._tower.start(images)
        vectors = self.encode_images(np.stack(images))
        return lambda: vectors

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """See `Encoder.memory_of`."""
        return self._tower.memory_of(work)

    def tune(self, batch_size: int) -> None:
        """See `Encoder.tune`."""
        self._tower.tune(self.prepare(np.full((8, 8, 3), 127, dtype=np.uint8)), batch_size)

    def encode_texts(self, texts: Sequence[str]) -> Vectors:
        """`n` texts -> `(n, dim)` float32, un-normalised. A text of more than 64 tokens is cut, with a warning."""
        use_threads(self._threads)
        rows = []
        for start in range(0, len(texts), _TEXT_BATCH):
            batch = [text.lower() if self._lower else text for text in texts[start : start + _TEXT_BATCH]]
            self._warn_of_truncation(batch)
            encoded = self._tokenizer(
                batch, padding="max_length", max_length=TEXT_LENGTH, truncation=True, return_tensors="pt"
            )
            with torch.inference_mode(), device_errors(len(batch)):
                # input_ids only: with an attention mask the embedding is another one.
                rows.append(_to_numpy(self._model.get_text_features(input_ids=encoded["input_ids"].to(self._device))))
        return np.concatenate(rows)

    def device_memory(self) -> dict[str, int]:
        """Bytes by kind: allocated, reserved, used, total; empty where the device has no memory of its own."""
        if self._device.type != "cuda":
            return {}
        free, total = torch.cuda.mem_get_info(self._device)
        return {
            "allocated": torch.cuda.memory_allocated(self._device),
            "reserved": torch.cuda.memory_reserved(self._device),
            "used": total - free,
            "total": total,
        }

    def _warn_of_truncation(self, texts: Sequence[str]) -> None:
        with _quiet_tokenizer():
            lengths = [len(ids) for ids in self._tokenizer(list(texts))["input_ids"]]
        for text, length in zip(texts, lengths, strict=True):
            if length > TEXT_LENGTH:
                log.warning("prompt of %d tokens cut to %d, its end is not scored: %.80s…", length, TEXT_LENGTH, text)


def pick_device(name: str) -> torch.device:
    """The device a setting names; "auto" takes cuda, then mps, then cpu.

    Raises:
        ModelLoadError: the device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, there in available.items() if there)
    if not available[name]:
        raise ModelLoadError(
            f"PRELABEL_DEVICE={name}, but torch {torch.__version__} sees no such device: "
            "install a torch build for it (see README, GPU hosts) or set PRELABEL_DEVICE=cpu"
        )
    return torch.device(name)


def _pick_dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def _load(model: str, revision: str | None, dtype: torch.dtype) -> tuple[Any, Any]:
    """The model in eval mode and its processor; warnings and bars of the loader do not reach the terminal."""
    local = Path(model).expanduser()
    name = str(local) if local.is_dir() else model
    if not local.is_dir() and model.startswith((".", "/", "~")):
        raise ModelLoadError(f"PRELABEL_MODEL={model}: no such directory")
    try:
        with _quiet_transformers():
            processor = transformers.AutoProcessor.from_pretrained(name, revision=revision)
            loaded = transformers.AutoModel.from_pretrained(name, revision=revision, dtype=dtype, use_safetensors=True)
    except Exception as error:  # the loader raises a dozen unrelated types
        raise ModelLoadError(_load_message(model, error)) from error
    if loaded.config.model_type not in ("siglip", "siglip2") or not hasattr(loaded, "logit_bias"):
        raise ModelLoadError(f"{model} is a {loaded.config.model_type!r} checkpoint; prelabel scores with SigLIP")
    return loaded.eval(), processor


def _load_message(model: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if Path(model).expanduser().is_dir():
        return f"cannot load the checkpoint in {model}: {reason}"
    offline = os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on")
    fix = (
        "HF_HUB_OFFLINE is set and it is not in the cache (HF_HOME): copy it there"
        if offline
        else "is the hub reachable from here? Otherwise download it elsewhere"
    )
    return f"cannot load {model}: {reason} ({fix}, or set PRELABEL_MODEL to a local directory)"


def _input_size(image_processor: Any, model: str) -> tuple[int, int]:
    size = image_processor.size
    height, width = getattr(size, "height", None), getattr(size, "width", None)
    if isinstance(size, dict):
        height, width = size.get("height"), size.get("width")
    if not height or not width or not image_processor.do_resize or not image_processor.do_normalize:
        raise ModelLoadError(f"{model} is no fixed-resolution SigLIP: its image processor does not squash to one size")
    return int(height), int(width)


def _to_numpy(features: Any) -> Vectors:
    # transformers 5 returns an output object, 4 returned the tensor.
    tensor = getattr(features, "pooler_output", features)
    result: Vectors = tensor.to(torch.float32).cpu().numpy()
    return result


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    verbosity = transformers.logging.get_verbosity()
    bars = transformers.logging.is_progress_bar_enabled()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)
        if bars:
            transformers.logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_tokenizer() -> Iterator[None]:
    """The tokenizer warns of long input without naming it; our own warning does."""
    logger = logging.getLogger("transformers.tokenization_utils_base")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
