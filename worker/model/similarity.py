"""From vectors to logits: normalise, average prompts, and the pairs' logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def normalise(vectors: Floats) -> Floats:
    """Rows scaled to length 1; a zero row stays zero. `(n, dim)` float32 -> the same."""
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    result: Floats = (wide / np.maximum(lengths, 1e-12)).astype(np.float32)
    return result


def average_prompts(vectors: Floats, counts: list[int]) -> Floats:
    """One vector per label from the vectors of its prompts: normalise, average, normalise again.

    Args:
        vectors: `(sum(counts), dim)`, un-normalised.
        counts: prompts of each label, in order.

    Returns:
        `(len(counts), dim)`, rows of length 1.
    """
    unit = normalise(vectors)
    starts = np.cumsum([0, *counts[:-1]])
    sums: Floats = np.add.reduceat(unit, starts, axis=0)
    return normalise(sums)  # the length of a mean or a sum makes no difference


def sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """`1 / (1 + exp(-x))` of each, without overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def pair_logits(images: Floats, texts: Floats, logit_scale: float, logit_bias: float | None) -> Floats:
    """`logit_scale * <image, text> + logit_bias` on normalised vectors.

    Args:
        images: `(n_images, dim)`, un-normalised.
        texts: `(n_labels, dim)`, rows of length 1.
        logit_scale: exp of the checkpoint's parameter.
        logit_bias: the checkpoint's parameter; None where it has none.

    Returns:
        `(n_images, n_labels)` float32.
    """
    squares = np.einsum("ij,ij->i", images, images)
    if not ((squares > _LEAST_SQUARE) & (squares < _MOST_SQUARE)).all():
        images, squares = normalise(images), np.ones_like(squares)
    logits: Floats = images @ texts.T
    # Not the images but their products are brought to length: of these there are fewer.
    logits *= (np.float32(logit_scale) / np.sqrt(squares))[:, np.newaxis]
    if logit_bias is not None:
        logits += np.float32(logit_bias)
    return logits


_LEAST_SQUARE, _MOST_SQUARE = np.float32(1e-20), np.float32(1e20)
"""Between these a sum of float32 squares is as good as its terms."""
