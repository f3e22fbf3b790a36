"""Learning valence, arousal and dominance: the concordance of a batch, its loss, and the scale of the targets.

The concordance correlation coefficient (Lin 1989) is no mean over examples: it follows from the moments of all
examples together. So that the step of several workers is the step of one on the joined batch, the workers add
their sums, forward and backward.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

from ser_models.models.layers import workers

EPS = 1e-8
"""Added to the denominator, so that a batch whose numbers are all equal has a concordance (0) and a gradient."""


def concordance(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    r"""Concordance of the examples of all workers, per dimension.

    .. math:: \frac{2 \sigma_{y \hat y}}{\sigma_y^2 + \sigma_{\hat y}^2 + (\mu_y - \mu_{\hat y})^2 + \epsilon}

    with weighted moments of the population, in double precision.

    Args:
        prediction: [batch, dimensions], this worker's part.
        target: [batch, dimensions].
        weight: [batch]; 0 for padding examples.

    Returns:
        [dimensions], float64, the same on every worker; 0 where nothing varies.
    """
    x, y, w = prediction.double(), target.double(), weight.double()[:, None]
    sums = torch.stack([(w * each).sum(0) for each in (torch.ones_like(x), x, y, x * x, y * y, x * y)])
    count, *means = _JoinedSum.apply(sums)  # type: ignore[no-untyped-call]
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = (mean / count.clamp(min=1e-12) for mean in means)
    covariance = mean_xy - mean_x * mean_y
    variances = mean_xx - mean_x.square() + mean_yy - mean_y.square()
    ccc: Tensor = 2 * covariance / (variances.clamp(min=0) + (mean_x - mean_y).square() + EPS)
    return ccc


def concordance_loss(prediction: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """This worker's share of the loss: its weight × mean over dimensions of (1 − concordance of the joined batch).

    The loop divides by the weight of the joined batch and adds the workers' gradients. Their shares sum to that
    weight × the loss of the joined batch; and as the backward pass of the joined sums adds what every worker's
    share asks of them, each worker's gradient is the whole weight × its own examples' part of that loss's
    gradient. So the step is the one of a single worker, whoever holds which examples.

    Args:
        prediction: [batch, dimensions].
        target: [batch, dimensions].
        weight: [batch]; 0 for padding examples.
    """
    return weight.sum().double() * (1 - concordance(prediction, target, weight)).mean()


class TargetScale(nn.Module):
    """Puts outputs around 0 on the scale of the targets, which the network then need not learn.

    Args:
        dimensions: number of targets per example.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(dimensions))
        self.register_buffer("spread", torch.ones(dimensions))

    def forward(self, values: Tensor) -> Tensor:
        """[batch, dimensions] around 0 with spread 1 to the scale of the targets."""
        return values * self.spread + self.centre

    @torch.no_grad()
    def fit(self, target: Tensor) -> None:
        """Take mean and standard deviation (of the population) from the targets [examples, dimensions]."""
        self.centre.copy_(target.mean(0))
        self.spread.copy_(target.std(0, correction=0))


class _JoinedSum(torch.autograd.Function):
    """The sum over all workers; its gradient is the sum of what all workers ask of it."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor) -> Tensor:
        return _added(values)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> Tensor:
        return _added(gradients[0])


def _added(values: Tensor) -> Tensor:
    values = values.clone()
    if workers() > 1:
        dist.all_reduce(values)
    return values
