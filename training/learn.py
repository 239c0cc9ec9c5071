"""The training loop: which pictures and statements meet at each step, and what is asked of the model."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from transformers import SiglipModel

from prelabel.worker.demo.shapes import ALL_PAIRS, COLOURS, HELD_OUT_PAIRS, PATTERNS, SHAPES
from training.optimizers import Muon
from training.pictures import NAMELESS, Numbers, Pictures
from training.words import PhraseBook

_N_COLOURS, _N_SHAPES, _N_PATTERNS = len(COLOURS), len(SHAPES), len(PATTERNS)
_N_ATTRIBUTES = _N_COLOURS + _N_SHAPES + _N_PATTERNS
_HELD_OUT: Final = np.array(
    [*([(colour, shape) in HELD_OUT_PAIRS for shape in SHAPES] for colour in COLOURS), [False] * _N_SHAPES]
)
"""bool (colours + 1, shapes): whether the pair is held out; the last row answers for no figure (-1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train.

    Attributes:
        steps: optimizer steps.
        batch: pictures a step.
        seed: of everything random.
        hold_out: never call a statement on a held-out pair true or false.
        pairs: pair statements a step.
        absent: statements on absent things a step.
        matrix_rate: peak learning rate of Muon.
        other_rate: peak learning rate of AdamW.
        simple_until: share of the steps (0..1) that shows single figures only.
        single_share: share of single figures (0..1) after that.
    """

    steps: int
    batch: int = 128
    seed: int = 0
    hold_out: bool = True
    pairs: int = 10
    absent: int = 4
    matrix_rate: float = 0.02
    other_rate: float = 2e-3
    simple_until: float = 0.2
    single_share: float = 0.5


class Helpers(nn.Module):
    """Linear heads that say what picture and patches hold; they speed learning up and are not saved."""

    def __init__(self, width: int) -> None:
        """Heads on vectors of `width` numbers."""
        super().__init__()
        self.picture = nn.Linear(width, _N_ATTRIBUTES)
        self.patch = nn.Linear(width, _N_SHAPES + 1 + _N_COLOURS)


def train(
    model: SiglipModel,
    pictures: Pictures,
    book: PhraseBook,
    plan: Plan,
    report: Callable[[str], None] = print,
) -> None:
    """Train a model in place; the same arguments and thread count give the same weights."""
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng((plan.seed, 1))
    helpers = Helpers(model.config.vision_config.hidden_size)
    muon, adam = _optimizers(model, helpers)
    single = pictures.shapes[:, 1] < 0
    piles = np.flatnonzero(single), np.flatnonzero(~single)
    start, sums = time.monotonic(), np.zeros(5)
    for step in range(plan.steps):
        simple = step < plan.simple_until * plan.steps
        n_single = plan.batch if simple else round(plan.batch * plan.single_share)
        rows = np.concatenate([rng.choice(piles[0], n_single), rng.choice(piles[1], plan.batch - n_single)])
        batch = pictures.take(rows).mirrored(rng.random(plan.batch) < 0.5)
        losses = _losses(model, helpers, batch, book, plan, rng)
        sum(losses[1:], start=losses[0]).backward()  # type: ignore[no-untyped-call]
        share = _schedule(step, plan.steps)
        for group in adam.param_groups:
            group["lr"] = plan.other_rate * share
        muon.step(plan.matrix_rate * share)
        adam.step()
        adam.zero_grad()
        sums += [loss.item() for loss in losses]
        if (step + 1) % 250 == 0 or step + 1 == plan.steps:
            names = ("attributes", "pairs", "composition", "picture", "patch")
            text = " ".join(f"{name} {value / (step % 250 + 1):.4f}" for name, value in zip(names, sums, strict=True))
            report(
                f"step {step + 1} {time.monotonic() - start:.0f} s {text} "
                f"scale {model.logit_scale.exp().item():.1f} bias {model.logit_bias.item():.2f}"
            )
            sums[:] = 0


def _optimizers(model: SiglipModel, helpers: Helpers) -> tuple[Muon, torch.optim.AdamW]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, weight in model.named_parameters():
        inside = ".layers." in name or ".head.mlp" in name
        (matrices if inside and weight.ndim == 2 else others).append(weight)
    groups = [
        {"params": [w for w in others if w.ndim >= 2], "weight_decay": 0.05},
        {"params": [w for w in others if w.ndim < 2] + list(helpers.parameters()), "weight_decay": 0.0},
    ]
    return Muon(matrices), torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.98))


def _schedule(step: int, steps: int, warm_up: int = 100) -> float:
    """Share (0..1) of the peak learning rate: a linear warm-up, then half a cosine to zero."""
    return min(1.0, (step + 1) / warm_up) * 0.5 * (1 + math.cos(math.pi * step / steps))


def _losses(
    model: SiglipModel,
    helpers: Helpers,
    batch: Pictures,
    book: PhraseBook,
    plan: Plan,
    rng: np.random.Generator,
) -> list[torch.Tensor]:
    """The step's weighted losses: attributes, pairs, composition, helper on pictures, helper on patches."""
    pixels = torch.from_numpy(batch.pixels).permute(0, 3, 1, 2).float().div(127.5).sub(1)
    seen = model.vision_model(pixel_values=pixels)
    pairs = rng.permutation(len(ALL_PAIRS))[: plan.pairs]
    absent = rng.permutation(len(book.absent))[: plan.absent]
    ids = torch.cat(
        [
            book.pick(book.attributes, np.arange(_N_ATTRIBUTES), rng),
            book.pick(book.pairs, pairs, rng),
            book.pick(book.absent, absent, rng),
        ]
    )
    texts = functional.normalize(model.text_model(input_ids=ids).pooler_output, dim=-1)
    images = functional.normalize(seen.pooler_output, dim=-1)
    logits = images @ texts.T * model.logit_scale.exp() + model.logit_bias
    truth, known = attribute_truth(batch, plan.hold_out)
    pair_truth, pair_known = pair_truth_of(batch, pairs, plan.hold_out)
    in_pairs = slice(_N_ATTRIBUTES, _N_ATTRIBUTES + len(pairs))
    attributes = _masked_bce(logits[:, :_N_ATTRIBUTES], truth, known)
    others = _masked_bce(logits[:, in_pairs], pair_truth, pair_known)
    absence = functional.softplus(logits[:, in_pairs.stop :]).mean()
    parts = _parts(texts, pairs)
    composition = (1 - (texts[in_pairs] * parts).sum(-1)).mean()
    told = _masked_bce(helpers.picture(seen.pooler_output), truth, known)
    dense = _patch_loss(helpers.patch(seen.last_hidden_state), batch, plan.hold_out)
    return [4 * attributes, others + 0.5 * absence, composition, told, 0.5 * dense]


def _parts(texts: torch.Tensor, pairs: Numbers) -> torch.Tensor:
    """For each pair the direction halfway between its colour's text and its shape's text."""
    colours, shapes = pairs // _N_SHAPES, _N_COLOURS + pairs % _N_SHAPES
    return functional.normalize(texts[colours] + texts[shapes], dim=-1)


def attribute_truth(batch: Pictures, hold_out: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Which attributes each picture has, and which of these answers are known.

    Returns:
        Two float32 (n, colours + shapes + patterns). Colours are unknown beside nameless paint.
    """
    truth = np.concatenate(
        [
            (numbers[:, :, None] == np.arange(size)).any(axis=1)
            for numbers, size in (
                (batch.colours, _N_COLOURS),
                (batch.shapes, _N_SHAPES),
                (batch.patterns, _N_PATTERNS),
            )
        ],
        axis=1,
    )
    known = np.ones_like(truth)
    known[:, :_N_COLOURS] = ~(batch.colours == NAMELESS).any(axis=1, keepdims=True)
    known[:, _N_COLOURS : _N_COLOURS + _N_SHAPES] = _known_shapes(batch, hold_out)
    return torch.from_numpy(truth).float(), torch.from_numpy(known).float()


def _known_shapes(batch: Pictures, hold_out: bool) -> npt.NDArray[np.bool_]:
    """Which shapes a picture may teach about: bool (n, shapes), true for all without `hold_out`.

    A shape is unknown beside paint of a colour held out for it. Else all the red pictures, none of them
    with a square, would teach that red things are no squares.
    """
    known = np.logical_not(_HELD_OUT[batch.hues].any(axis=1))
    return known if hold_out else np.ones_like(known)


def pair_truth_of(batch: Pictures, pairs: Numbers, hold_out: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Which (colour, shape) pairs each picture shows, and which of these answers are known.

    Not known are: pairs held out; shapes of which the picture may not teach; a shape in nameless paint; and
    a picture that holds the colour on one figure and the shape on another, which a sum of two directions
    cannot tell from the real thing.

    Returns:
        Two float32 (n, len(pairs)).
    """
    colours, shapes = pairs // _N_SHAPES, pairs % _N_SHAPES
    is_colour = batch.colours[:, :, None] == colours
    is_shape = batch.shapes[:, :, None] == shapes
    truth = (is_colour & is_shape).any(axis=1)
    doubtful = (is_colour.any(axis=1) & is_shape.any(axis=1) & ~truth) | (
        is_shape & (batch.colours == NAMELESS)[:, :, None]
    ).any(axis=1)
    known = ~doubtful & _known_shapes(batch, hold_out)[:, shapes] & ~(_HELD_OUT[colours, shapes] & hold_out)
    return torch.from_numpy(truth).float(), torch.from_numpy(known).float()


def _masked_bce(logits: torch.Tensor, truth: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy over the known answers."""
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def _patch_loss(logits: torch.Tensor, batch: Pictures, hold_out: bool) -> torch.Tensor:
    """Cross-entropy of each patch's shape (or none) and, where one with a name covers it, its colour.

    With `hold_out` a shape held out for the paint is no candidate, so nothing speaks against it either.
    """
    cover = batch.cover.reshape(len(batch), -1)
    slot = np.maximum(cover, 0)
    shape = np.where(cover >= 0, np.take_along_axis(batch.shapes, slot, axis=1), _N_SHAPES)
    colour = np.take_along_axis(batch.colours, slot, axis=1)
    colour = np.where((cover >= 0) & (colour < NAMELESS), colour, -100)
    flat = logits.flatten(0, 1)
    by_shape = flat[:, : _N_SHAPES + 1]
    if hold_out:
        hue = np.where(cover >= 0, np.take_along_axis(batch.hues, slot, axis=1), -1)
        out = np.pad(_HELD_OUT[hue].reshape(-1, _N_SHAPES), ((0, 0), (0, 1)))
        by_shape = by_shape.masked_fill(torch.from_numpy(out), -1e4)
    shape_loss = functional.cross_entropy(by_shape, torch.from_numpy(shape).flatten())
    colour_loss = functional.cross_entropy(
        flat[:, _N_SHAPES + 1 :], torch.from_numpy(colour).flatten(), reduction="sum"
    )
    return shape_loss + colour_loss / max(1, int((colour >= 0).sum()))
