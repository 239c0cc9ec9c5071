"""The family `siglip2`: SigLIP 2 NaFlex, whose images keep their proportions (https://arxiv.org/abs/2502.14786).

An image is brought to as many patches as the checkpoint allows (256 as a rule) without changing its proportions by more
than a patch, so prepared images differ in size, and a batch of them is filled up to its longest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from ...schemas.settings import Settings
from ..arrays import Pixels, Vectors
from .checkpoint import Checkpoint
from .devices import device_errors, forward_threads, memory_of
from .dual_encoder import DualEncoderFamily, Pictures
from .encoder import ImageTower, Memory
from .image_rules import OWN, PixelRules, read_pixel_rules
from .resize import Squash
from .siglip import siglip_dims, siglip_texts
from .transfers import Transfers, pooled


@dataclass(frozen=True, kw_only=True)
class PatchRules(PixelRules):
    """An image's way from decoded pixels to the image tower's input.

    Attributes:
        patch: side of a patch, pixels.
        most: patches of an image at most.
    """

    patch: int
    most: int

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of a prepared image, pixels: whole patches, `most` of them at most."""
        # Not before a checkpoint is loaded: it imports a torchvision that is there, see `torchvision_ops`.
        from transformers.models.siglip2 import image_processing_pil_siglip2 as theirs

        tall, wide = theirs.get_image_size_for_max_num_patches(height, width, self.patch, self.most)
        return int(tall), int(wide)

    def name(self, preprocessing: str) -> str:
        """`ModelCard.preprocessing`: other pixels, another name."""
        return f"{self.most} patches of {self.patch} {self.pixels_name(preprocessing)}"


class PatchImages:
    """The image half of a loaded NaFlex model.

    An image has `rules.most` patches at most, so a batch of n images has n times as many at most: that is its budget,
    for which `tune` is told n. Nothing is compiled: a compiler wants one shape.

    Args:
        model: a model with `get_image_features`, in eval mode, on its device.
        rules: the checkpoint's.
        exact: resize with Pillow, see `Squash`.
        threads: CPU threads of a forward pass.
    """

    def __init__(self, model: Any, rules: PatchRules, *, exact: bool, threads: int) -> None:
        self._model = model
        self._rules = rules
        self._exact = exact
        self._device: torch.device = model.device
        self._dtype: torch.dtype = model.dtype
        self._transfers = Transfers(self._device, threads=threads)
        self._budget: int | None = None
        self._mean, self._std = (
            torch.tensor(values, dtype=torch.float32, device=self._device).repeat(rules.patch**2)
            for values in (rules.mean, rules.std)
        )

    def prepare(self, image: Pixels) -> Pixels:
        """`(h, w, 3)` uint8 -> uint8 of `PatchRules.size`; see `encoder.ImageTower.prepare`."""
        size = self._rules.size(*image.shape[:2])
        return Squash(size, self._rules.resample, exact=self._exact)(image)

    def encode(self, batch: Pixels | Sequence[Pixels]) -> Vectors:
        """Prepared images, of any sizes or stacked -> `(n, dim)` float32, not normalised.

        Raises:
            OutOfMemory: a part of the batch does not fit on the device.
            ScorerError: the forward pass failed.
        """
        return self.start(list(batch))()

    def start(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        """Begin to embed; see `encoder.ImageTower.start`. What is beyond the budget goes in several passes.

        Raises:
            OutOfMemory, ScorerError: as for `encode`; the second may come from the wait as well.
        """
        waits = [self._launch(part) for part in self._parts(images)]
        return waits[0] if len(waits) == 1 else lambda: np.concatenate([wait() for wait in waits])

    def _parts(self, images: Sequence[Pixels]) -> Iterator[Sequence[Pixels]]:
        """The images in their order, in parts that fill the budget at most once they are filled up."""
        start, longest = 0, 0
        for end, image in enumerate(images):
            longest = max(longest, self._patches(image))
            if self._budget is not None and end > start and (end + 1 - start) * longest > self._budget:
                yield images[start:end]
                start, longest = end, self._patches(image)
        yield images[start:]

    def _patches(self, image: Pixels) -> int:
        return int(image.shape[0] * image.shape[1]) // self._rules.patch**2

    def _launch(self, images: Sequence[Pixels]) -> Callable[[], Vectors]:
        with device_errors(len(images)):
            flat = self._transfers.buffer((sum(image.size for image in images),))
            np.concatenate([image.reshape(-1) for image in images], out=flat.numpy())
        patch = self._rules.patch
        grids = [(image.shape[0] // patch, image.shape[1] // patch) for image in images]
        return self._transfers.launch(flat, len(images), lambda sent: self._features(sent, grids))

    def _features(self, flat: torch.Tensor, grids: Sequence[tuple[int, int]]) -> torch.Tensor:
        """Of images one behind the other, each of so many patches down and across."""
        counts = [down * across for down, across in grids]
        patches = self._cut(flat, grids, max(counts)).to(torch.float32)
        normal = (patches * self._rules.rescale - self._mean) / self._std
        mask = None
        if min(counts) < max(counts):
            places = torch.arange(max(counts), device=self._device)
            mask = places < torch.tensor(counts, device=self._device)[:, None]
        return pooled(
            self._model.get_image_features(
                pixel_values=normal.to(self._dtype),
                pixel_attention_mask=mask,
                # On the host: the model reads them one by one, and would wait for the device each time.
                spatial_shapes=torch.tensor(grids, device="cpu"),
            )
        )

    def _cut(self, flat: torch.Tensor, grids: Sequence[tuple[int, int]], longest: int) -> torch.Tensor:
        """`(n, longest, patch * patch * 3)` uint8: a row is a patch, line by line; then zeros."""
        side = self._rules.patch
        row = side * side * 3
        patches = flat.new_zeros((len(grids), longest, row))
        begin = 0
        for filled, (down, across) in zip(patches, grids, strict=True):
            end = begin + down * across * row
            image = flat[begin:end].view(down, side, across, side, 3).transpose(1, 2)
            filled[: down * across].view(down, across, side, side, 3).copy_(image)
            begin = end
        return patches

    def tune(self, batch_size: int) -> None:
        """Take so many images' patches in a pass at most."""
        self._budget = batch_size * self._rules.most

    def memory_of(self, work: Callable[[], object]) -> Memory | None:
        """See `encoder.ImageTower.memory_of`."""
        return memory_of(self._device, work)


def read_patch_rules(checkpoint: Checkpoint, config: Any, processor: Any) -> PatchRules:
    """The rules of a transformers image processor for a model of this config.

    Raises:
        ModelLoadError: it cuts no patches, cuts others than the model takes, or leaves a step out.
    """
    pixels = read_pixel_rules(checkpoint, processor)
    file = checkpoint.image_processor_file
    patch, most = (getattr(processor, name, None) for name in ("patch_size", "max_num_patches"))
    if not isinstance(patch, int) or not isinstance(most, int) or patch < 1 or most < 1:
        raise checkpoint.refused(f"its image processor ({file}) has no patch_size or no max_num_patches: {OWN}")
    if patch != config.vision_config.patch_size:
        raise checkpoint.refused(
            f"its image processor ({file}) cuts patches of {patch}, and config.json says "
            f"{config.vision_config.patch_size}: {OWN}"
        )
    return PatchRules(patch=patch, most=most, **pixels)


def flexible_size(checkpoint: Checkpoint, config: Any, processor: Any, settings: Settings) -> Pictures:
    """Images of so many patches at most: see `DualEncoderFamily.pictures`."""
    rules = read_patch_rules(checkpoint, config, processor)
    across = math.isqrt(rules.most)

    def tower(model: Any) -> ImageTower:
        return PatchImages(
            model,
            rules,
            exact=settings.preprocessing == "exact",
            threads=forward_threads(settings.cpu_threads),
        )

    def example() -> dict[str, Any]:
        return {
            "pixel_values": torch.empty(1, across**2, rules.patch**2 * 3, device="meta"),
            "spatial_shapes": torch.tensor([(across, across)], device="cpu"),
        }

    return Pictures(
        input_size=(across * rules.patch, across * rules.patch),
        resize="patches",
        preprocessing=rules.name(settings.preprocessing),
        mean=rules.mean,
        std=rules.std,
        tower=tower,
        example=example,
    )


FAMILY: Final = DualEncoderFamily(
    name="siglip2",
    head="sigmoid",
    text_rules=siglip_texts,
    dims=siglip_dims,
    processors=("Siglip2", "Gemma"),
    pictures=flexible_size,
)
