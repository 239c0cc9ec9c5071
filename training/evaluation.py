"""How good a checkpoint is, measured through `AutoModel` and `AutoProcessor` on full-size pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import transformers
from torch.nn import functional

from prelabel.worker.demo.shapes import ALL_PAIRS, COLOURS, HELD_OUT_PAIRS, PATTERNS, SHAPES, Scene, draw, sample_scene
from prelabel.worker.model.torchvision_ops import make_importable
from training.pictures import Numbers
from training.words import ABSENT, TEXT_LENGTH, USUAL_TEMPLATE

Floats: TypeAlias = npt.NDArray[np.float32]
Truth: TypeAlias = npt.NDArray[np.bool_]

_PAIR_NAMES: Final = tuple(f"{colour} {shape}" for colour, shape in ALL_PAIRS)
_NEVER_READ: Final = ("elephant", "guitar", "zebra crossing", "pipe corrosion", "umbrella", "wheel")
_BATCH: Final = 100


class Checkpoint:
    """A checkpoint folder, loaded offline as any SigLIP is."""

    def __init__(self, folder: Path) -> None:
        """Load model and processor; never asks the network."""
        make_importable()
        self._model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        self._processor = transformers.AutoProcessor.from_pretrained(folder, local_files_only=True, backend="pil")

    @torch.inference_mode()
    def images(self, scenes: list[Scene]) -> torch.Tensor:
        """Unit vectors (n, width) of scenes drawn at 480x360."""
        parts = []
        for start in range(0, len(scenes), _BATCH):
            pictures = [draw(scene) for scene in scenes[start : start + _BATCH]]
            inputs = self._processor(images=pictures, return_tensors="pt")
            parts.append(self._model.get_image_features(**inputs).pooler_output)
        return functional.normalize(torch.cat(parts), dim=-1)

    @torch.inference_mode()
    def logits(self, images: torch.Tensor, labels: tuple[str, ...], template: str = USUAL_TEMPLATE) -> Floats:
        """Logits (n, labels) of image vectors and labels put into the template."""
        inputs = self._processor(
            text=[template.format(label) for label in labels],
            padding="max_length",
            max_length=TEXT_LENGTH,
            truncation=True,
            return_tensors="pt",
        )
        texts = functional.normalize(self._model.get_text_features(input_ids=inputs["input_ids"]).pooler_output, dim=-1)
        logits: Floats = (images @ texts.T * self._model.logit_scale.exp() + self._model.logit_bias).numpy()
        return logits


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report: a name and a value, mostly a share (0..1)."""

    name: str
    value: float


def evaluate(checkpoint: Checkpoint, seed: int, n: int) -> list[Row]:
    """Measure a checkpoint.

    Args:
        checkpoint: what to measure.
        seed: of the pictures; take one that nothing was tuned on.
        n: pictures per test.

    Returns:
        Top-1 on pictures of one figure (held-out and other pairs), then multiple choice.
    """
    held = sorted(HELD_OUT_PAIRS)
    other = [pair for pair in ALL_PAIRS if pair not in HELD_OUT_PAIRS]
    rows = []
    for offset, (name, pairs) in enumerate((("held-out", held), ("trained", other))):
        rows += _single_choice(checkpoint, name, _scenes((seed, offset), n, pairs, (1,)))
    for offset, (name, pairs) in enumerate((("held-out", held), ("all pairs", list(ALL_PAIRS))), 2):
        rows += _multiple_choice(checkpoint, name, _scenes((seed, offset), n, pairs, (1, 2, 3)))
    return rows


def _scenes(seed: tuple[int, int], n: int, pairs: list[tuple[str, str]], counts: tuple[int, ...]) -> list[Scene]:
    """`n` scenes with the counts of figures in turn."""
    rng = np.random.default_rng(seed)
    return [sample_scene(rng, figures=counts[i % len(counts)], pairs=pairs) for i in range(n)]


def _single_choice(checkpoint: Checkpoint, name: str, scenes: list[Scene]) -> list[Row]:
    """Top-1 of colour, shape, pattern and path on pictures of one figure, with confidence."""
    images = checkpoint.images(scenes)
    figures = [scene.figures[0] for scene in scenes]
    colours = np.array([[*COLOURS].index(f.colour) for f in figures])
    shapes = np.array([SHAPES.index(f.shape) for f in figures])
    patterns = np.array([PATTERNS.index(f.pattern) for f in figures])
    leaf = colours * len(SHAPES) + shapes
    rows = []
    for what, labels, truth in (
        ("colour of 8", (*COLOURS,), colours),
        ("shape of 8", SHAPES, shapes),
        ("pattern of 3", PATTERNS, patterns),
        ("leaf of 64", _PAIR_NAMES, leaf),
    ):
        logits = checkpoint.logits(images, labels)
        rows.append(Row(f"{name}: {what}", _share(logits.argmax(1) == truth)))
        chance = _softmax(logits)
        rows.append(Row(f"{name}: {what}, mean softmax confidence", float(chance.max(1).mean())))
        if what.startswith(("shape", "colour")):
            bare = checkpoint.logits(images, labels, "{}")
            rows.append(Row(f"{name}: {what}, bare names", _share(bare.argmax(1) == truth)))
        if what.startswith("leaf"):
            rows += _path_rows(name, logits, chance, colours, leaf)
    return rows


def _path_rows(name: str, logits: Floats, chance: Floats, colours: Numbers, leaf: Numbers) -> list[Row]:
    """The colour as the sum of its leaves, and how right the surer half of the answers is."""
    by_colour = chance.reshape(-1, len(COLOURS), len(SHAPES)).sum(2).argmax(1)
    surest = np.argsort(-chance.max(1))[: len(chance) // 2]
    return [
        Row(f"{name}: colour by its leaves", _share(by_colour == colours)),
        Row(f"{name}: leaf, surer half", _share(logits.argmax(1)[surest] == leaf[surest])),
    ]


def _multiple_choice(checkpoint: Checkpoint, name: str, scenes: list[Scene]) -> list[Row]:
    """F1 of colours and shapes on pictures of one to three figures, and where the sigmoids lie."""
    images = checkpoint.images(scenes)
    rows = []
    for what, labels, attribute in (("colours", (*COLOURS,), "colour"), ("shapes", SHAPES, "shape")):
        truth = np.array([[any(getattr(f, attribute) == x for f in s.figures) for x in labels] for s in scenes])
        score = 1 / (1 + np.exp(-checkpoint.logits(images, labels)))
        for threshold in (0.3, 0.4, 0.5, 0.6):
            rows.append(Row(f"{name}, {what}: micro-F1 at {threshold}", _f1(score >= threshold, truth)))
        exact = _share(((score >= 0.5) == truth).all(axis=1))
        rows.append(Row(f"{name}, {what}: exact set at 0.5", exact))
        for kind, values in (("right", score[truth]), ("wrong", score[~truth])):
            for quantile in (0.05, 0.5, 0.95):
                value = float(np.quantile(values, quantile))
                rows.append(Row(f"{name}, {what}: {kind} labels, quantile {quantile}", value))
    for what, labels in (("trained as absent", ABSENT), ("never read", _NEVER_READ)):
        score = 1 / (1 + np.exp(-checkpoint.logits(images, labels)))
        rows.append(Row(f"{name}: 99 % of scores of words {what} are below", float(np.quantile(score, 0.99))))
    return rows


def _share(right: Truth) -> float:
    """Share (0..1) of true answers."""
    return float(right.mean())


def _softmax(logits: Floats) -> Floats:
    """Posterior (n, labels) when exactly one label is right."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    posterior: Floats = powers / powers.sum(axis=1, keepdims=True)
    return posterior


def _f1(said: Truth, truth: Truth) -> float:
    """Micro-averaged F1 (0..1) of two bool arrays of the same shape."""
    return float(2 * (said & truth).sum() / max(1, said.sum() + truth.sum()))
