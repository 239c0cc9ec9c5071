"""Dual encoders through transformers, loaded alike: a family says what is its own, as data and two functions.

The checkpoint's processor and config are read, and whatever is wrong with them is said, before a weight is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
import transformers

from ...schemas.errors import OutOfMemory
from ...schemas.models import Head, ModelCard, Resize
from ...schemas.settings import Settings
from .checkpoint import Checkpoint, quiet_transformers
from .cost import gflop
from .devices import forward_threads, memory_by_kind, pick_device, pick_dtype
from .encoder import Encoder, ImageTower, TextTower
from .files import brief
from .image_rules import OWN, read_image_rules
from .logit_weights import read_logit_weights
from .text_tower import TextRules, TokenTexts
from .torchvision_ops import make_importable
from .tower import Normalisation, TorchImages


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """The image half of a family, before its weights are there.

    Attributes:
        input_size, resize, preprocessing, mean, std: as the card has them.
        tower: makes the tower of a loaded model.
        example: of a model: inputs of one image's pass, on the device "meta"; what that costs is counted with it.
    """

    input_size: tuple[int, int]
    resize: Resize
    preprocessing: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    tower: Callable[[Any], ImageTower]
    example: Callable[[], dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class DualEncoderFamily:
    """Loads the checkpoints of one family. See `prelabel.worker.model.registry.Family`.

    Attributes:
        name: `ModelCard.family`.
        head: what the logits were trained for.
        text_rules: of a config and a tokenizer.
        dims: of a config: length of an image's and of a text's embedding.
        pictures: reads the image processor.
        processors: what the class names of its image processors and tokenizers may begin with; another family's mean
            that two checkpoints' files lie in one folder.
    """

    name: str
    head: Head
    text_rules: Callable[[Any, Any], TextRules]
    dims: Callable[[Any], tuple[int, int]]
    processors: tuple[str, ...]
    pictures: Callable[[Checkpoint, Any, Any, Settings], Pictures]

    def load(self, checkpoint: Checkpoint, settings: Settings, model_id: str) -> Encoder:
        """Load one, ready to encode.

        Raises:
            ModelLoadError: a file is missing, damaged or not what the family reads, or the device is missing.
        """
        checkpoint.require_files()
        device = pick_device(settings.device)
        threads = forward_threads(settings.cpu_threads)
        config, processor = _load_config(checkpoint), _load_processor(checkpoint)
        image_processor, tokenizer = processor.image_processor, processor.tokenizer
        loaded = (type(image_processor).__name__, type(tokenizer).__name__)
        self._refuse_strangers(checkpoint, *loaded, checkpoint.tokenizer_class)
        with _read(checkpoint, "config.json"):
            dim, text_dim = self.dims(config)
        if dim != text_dim:
            raise checkpoint.refused(
                f"config.json gives images {dim} dimensions and texts {text_dim}, which cannot be compared: copy it "
                "from the checkpoint again"
            )
        with _read(checkpoint, "what config.json and the tokenizer's files say of texts"):
            rules = self.text_rules(config, tokenizer)
            vocabulary = int(config.text_config.vocab_size)
            rules.apply(checkpoint, tokenizer, vocabulary)
        with _read(checkpoint, f"what config.json and {checkpoint.image_processor_file} say of images"):
            pictures = self.pictures(checkpoint, config, image_processor, settings)
        checkpoint.require_whole_weights()
        dtype = pick_dtype(settings.dtype, device)
        model = _load_model(checkpoint, dtype)
        texts = partial(TokenTexts, model, tokenizer, rules, vocabulary=vocabulary, threads=threads)
        # Before it is on the device: what is wrong there may break the device for all that comes.
        _try_out(checkpoint, pictures.tower(model), texts())
        model.to(device)
        scale, bias = read_logit_weights(checkpoint, model)
        card = ModelCard(
            id=model_id,
            revision=checkpoint.revision or model_id.rpartition("@")[2],
            family=self.name,
            dim=dim,
            logit_scale=scale,
            logit_bias=bias,
            head=self.head,
            input_size=pictures.input_size,
            resize=pictures.resize,
            mean=pictures.mean,
            std=pictures.std,
            text_length=rules.length,
            lower_case=rules.lower_case,
            padded=True,
            padding_side=rules.side,
            mask=rules.mask,
            ends_with_eos=rules.ends_with_eos,
            tokenisation=rules.name(tokenizer),
            preprocessing=pictures.preprocessing,
            licence=checkpoint.licence(),
            gflop=gflop(lambda: type(model)(model.config), pictures.example),
        )
        return Encoder(
            card=card,
            images=pictures.tower(model),
            texts=texts(),
            device=str(device),
            dtype=str(dtype).removeprefix("torch."),
            device_memory=partial(memory_by_kind, device),
        )

    def _refuse_strangers(self, checkpoint: Checkpoint, *names: str) -> None:
        """Files of two families in one folder load, and give numbers that mean nothing."""
        for name in names:
            known = next((start for start in _KNOWN if name.startswith(start)), None)
            if known and known not in self.processors:
                raise checkpoint.refused(
                    f"config.json says {checkpoint.model_type}, and its processor's files are those of {name}: two "
                    "checkpoints' files lie in one folder; copy one of them again into an empty one"
                )


_KNOWN: Final = ("Siglip2", "Siglip", "Gemma", "CLIP", "XLMRoberta")
"""What names of classes are told apart by, the longer ones first. Others may be anybody's."""


def fixed_size(checkpoint: Checkpoint, config: Any, processor: Any, settings: Settings) -> Pictures:
    """Images of one size, squashed or cropped: see `DualEncoderFamily.pictures`."""
    rules = read_image_rules(checkpoint, processor)
    side = config.vision_config.image_size
    if rules.size != (tuple(side) if isinstance(side, list | tuple) else (side, side)):
        raise checkpoint.refused(
            f"its image processor ({checkpoint.image_processor_file}) makes images of {rules.size[0]}x{rules.size[1]}, "
            f"and config.json says {side}: {OWN}"
        )

    def tower(model: Any) -> ImageTower:
        return TorchImages(
            model,
            rules.resizer(settings.preprocessing),
            Normalisation(rules.rescale, rules.mean, rules.std, model.device),
            compile_=settings.compile,
            threads=forward_threads(settings.cpu_threads),
        )

    return Pictures(
        input_size=rules.size,
        resize=rules.resize,
        preprocessing=rules.name(settings.preprocessing),
        mean=rules.mean,
        std=rules.std,
        tower=tower,
        example=lambda: {"pixel_values": torch.empty(1, 3, *rules.size, device="meta")},
    )


@contextlib.contextmanager
def _read(checkpoint: Checkpoint, what: str) -> Iterator[None]:
    """What reading values of another type than they should be raises inside, as one line that names the files."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise checkpoint.refused(f"{what} cannot be used, copy it from the checkpoint again: {brief(error)}") from error


def _try_out(checkpoint: Checkpoint, images: ImageTower, texts: TextTower) -> None:
    """One blank image and one text: what no file shows by itself is told before the first job, as its cause is known.

    Raises:
        ModelLoadError: one of the towers does not run.
        OutOfMemory: there is no memory for them, which is no fault of the checkpoint's.
    """
    try:
        images.start([images.prepare(np.zeros((8, 8, 3), dtype=np.uint8))])()
        texts.encode(["a"])
    except OutOfMemory:
        raise
    except Exception as error:  # whatever transformers and torch raise
        raise checkpoint.refused(
            f"the model that config.json describes does not run on a blank image and a short text: {brief(error)} "
            "(copy config.json and the processor's files from the checkpoint again)"
        ) from error


def _load_config(checkpoint: Checkpoint) -> Any:
    try:
        with quiet_transformers():
            return transformers.AutoConfig.from_pretrained(checkpoint.source, revision=checkpoint.revision)
    except Exception as error:  # the loader raises a dozen unrelated types
        raise checkpoint.load_error(error, "config.json") from error


def _load_processor(checkpoint: Checkpoint) -> Any:
    checkpoint.require_image_processor()
    make_importable()
    try:
        with quiet_transformers():
            # With torchvision installed its processors would be taken, whose pixels are not Pillow's.
            processor = transformers.AutoProcessor.from_pretrained(
                checkpoint.source, revision=checkpoint.revision, backend="pil"
            )
    except Exception as error:  # the loader raises a dozen unrelated types
        files = f"its processor ({checkpoint.image_processor_file}, tokenizer_config.json, the tokenizer's vocabulary)"
        raise checkpoint.load_error(error, files) from error
    if getattr(processor, "image_processor", None) is None or getattr(processor, "tokenizer", None) is None:
        raise checkpoint.refused(
            f"it holds the files of a {type(processor).__name__} alone, and it takes an image processor and a "
            "tokenizer: save the checkpoint's processor there, processor.save_pretrained(folder)"
        )
    return processor


def _load_model(checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model in eval mode."""
    try:
        with quiet_transformers():
            loaded, told = transformers.AutoModel.from_pretrained(
                checkpoint.source,
                revision=checkpoint.revision,
                dtype=dtype,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # told below; the loader's own message says nothing of them
                output_loading_info=True,
            )
    except Exception as error:  # the loader raises a dozen unrelated types
        raise checkpoint.load_error(error, "its weights (*.safetensors)") from error
    # What the file lacks is made up of random numbers.
    for name, theirs, asked in sorted(told["mismatched_keys"]):
        raise checkpoint.refused(
            f"its weights (*.safetensors) have {name} of {_shape(theirs)}, and config.json asks for {_shape(asked)}: "
            "one of the two is of another checkpoint; copy both again"
        )
    missing = sorted(told["missing_keys"])
    if missing:
        more = f" and {len(missing) - 1} more" if missing[1:] else ""
        raise checkpoint.refused(
            f"its weights (*.safetensors) lack {missing[0]}{more}, which config.json asks for: one of the two is of "
            "another checkpoint, or of half of one; copy both again"
        )
    return loaded.eval()


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "one number"
