"""Gradient reversal (Ganin and Lempitsky, ICML 2015): a classifier learns what the layers before it unlearn."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

STEEPNESS = 10.0
"""γ of the rise in Ganin and Lempitsky, section 5.2.2."""


class GradientReversal(nn.Module):
    """The identity forwards; backwards the gradient times −λ.

    λ is constant, as in AVDAL's public code, or rises over the first updates of training as Ganin and Lempitsky
    proposed: λ(u) = scale · (2 / (1 + exp(−10 u / rise)) − 1), and ``scale`` from update ``rise`` on. The number of
    updates is part of the state, so that a continued training goes on where it was.

    Args:
        scale: λ; 0 cuts the layers before it off from the classifier's gradient.
        rise: updates over which λ grows from 0; 0 keeps it constant.

    Raises:
        ValueError: a negative or infinite scale, or a negative rise.
    """

    updates: Tensor

    def __init__(self, scale: float = 1.0, rise: int = 0) -> None:
        super().__init__()
        if not 0 <= scale < math.inf:
            raise ValueError(f"reversal = {scale}: must be a number of 0 or more")
        if rise < 0:
            raise ValueError(f"reversal_rise = {rise}: must be 0 (constant) or a number of updates")
        self.scale = scale
        self.rise = rise
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def forward(self, values: Tensor) -> Tensor:
        """The values themselves, of any shape; in training each call counts as one update."""
        reversed_values: Tensor = _Reverse.apply(values, self.factor())  # type: ignore[no-untyped-call]
        if self.training and self.rise:
            self.updates += 1
        return reversed_values

    def factor(self) -> float:
        """λ of the update to come.

        >>> GradientReversal().factor(), GradientReversal(rise=100).factor()
        (1.0, 0.0)
        """
        if not self.rise:
            return self.scale
        progress = int(self.updates) / self.rise
        return self.scale * (2 / (1 + math.exp(-STEEPNESS * progress)) - 1) if progress < 1 else self.scale


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, factor: float) -> Tensor:
        ctx.factor = factor  # type: ignore[attr-defined]
        return values.view_as(values)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradients[0], None  # type: ignore[attr-defined]
