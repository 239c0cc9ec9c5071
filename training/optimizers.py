"""Muon for the layers' matrices, in fp32 and in stacks of equal shape: fast on a CPU."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn


class Muon:
    """Momentum whose step is made orthogonal by Newton-Schulz iterations (Jordan 2024).

    `torch.optim.Muon` does the same one matrix at a time and in bf16, which is slow on a CPU.
    """

    def __init__(self, weights: Iterable[nn.Parameter], *, momentum: float = 0.95, decay: float = 0.02) -> None:
        """Take matrices; `decay` is the weight decay, multiplied by the learning rate."""
        stacks: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
        for weight in weights:
            stacks[weight.shape].append(weight)
        self._stacks = list(stacks.values())
        self._moments = [torch.zeros(len(stack), *stack[0].shape) for stack in self._stacks]
        self._momentum, self._decay = momentum, decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move every matrix by `rate` along its orthogonal direction and forget its gradient."""
        for stack, moment in zip(self._stacks, self._moments, strict=True):
            slope = torch.stack([w.grad if w.grad is not None else torch.zeros_like(w) for w in stack])
            moment.lerp_(slope, 1 - self._momentum)
            direction = _orthogonal(slope.lerp(moment, self._momentum))
            rows, columns = stack[0].shape
            size = max(1.0, rows / columns) ** 0.5
            for weight, move in zip(stack, direction, strict=True):
                weight.mul_(1 - rate * self._decay).sub_(move, alpha=rate * size)
                weight.grad = None


def _orthogonal(matrices: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """The nearest (about) orthogonal matrices of a stack (n, rows, columns)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(rounds):
        square = x @ x.mT
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    nearest: torch.Tensor = x.mT if tall else x
    return nearest
