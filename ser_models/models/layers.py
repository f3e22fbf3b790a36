"""Layers that several systems share: normalisation over valid frames, gathered over workers."""

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional


def workers() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class MaskedBatchNorm(nn.Module):
    """Batch normalisation whose statistics come from valid frames only, of all workers together.

    torch's ``SyncBatchNorm`` refuses CPU tensors and cannot leave frames out. With one worker and no mask this
    is exactly ``torch.nn.functional.batch_norm``.

    Args:
        channels: number of channels.
        eps: added to the variance.
        momentum: weight of the new batch in the running statistics (torch's convention; Keras's is 1 − this).
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_variance", torch.ones(channels))
        self.eps = eps
        self.momentum = momentum

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalise [batch, channels, time].

        Args:
            values: [batch, channels, time].
            mask: [batch, time] bool, true where valid; None when every frame is. Frames that are not valid
                are normalised too but influence nothing.
        """
        if not self.training:
            return functional.batch_norm(
                values, self.running_mean, self.running_variance, self.weight, self.bias, False, 0.0, self.eps
            )
        if mask is None and workers() == 1:
            output, mean, inverse_sd = torch.native_batch_norm(
                values, self.weight, self.bias, None, None, True, 0.0, self.eps
            )
            variance = inverse_sd.detach().pow(-2) - self.eps
        else:
            if mask is None:
                mask = values.new_ones(values.shape[0], values.shape[2], dtype=torch.bool)
            normal, mean, variance = _Normalise.apply(values, mask, self.eps)  # type: ignore[no-untyped-call]
            output = normal * self.weight[:, None] + self.bias[:, None]
        self.track(mean.detach(), variance)
        return output

    def track(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of a batch.

        The variance is the biased one, as Keras keeps it for sequences; torch would keep the unbiased one.
        """
        self.running_mean.lerp_(mean, self.momentum)
        self.running_variance.lerp_(variance, self.momentum)


class _Normalise(torch.autograd.Function):
    """Zero mean, unit variance over the valid frames of all workers, with the gradient of exactly that."""

    @staticmethod
    def forward(ctx: FunctionCtx, values: Tensor, mask: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        valid = mask[:, None].to(values.dtype)
        count = valid.sum().double()
        mean = (values * valid).sum((0, 2)).double() / count.clamp(min=1)
        squares = ((values - mean[:, None].to(values.dtype)).square() * valid).sum((0, 2)).double()
        if workers() > 1:
            # One exchange for both moments: squares around each worker's own mean, moved to the joint mean in
            # double precision, in which the difference of large squares loses nothing that matters.
            sums = torch.cat([count[None], count * mean, squares + count * mean.square()])
            dist.all_reduce(sums)
            count, (mean, squares) = sums[0], (sums[1:] / sums[0].clamp(min=1)).chunk(2)
            squares = count * (squares - mean.square()).clamp(min=0)
        mean = mean.to(values.dtype)
        variance = (squares / count.clamp(min=1)).to(values.dtype)
        centred = values - mean[:, None]
        inverse_sd = (variance + eps).rsqrt()
        normal = centred * inverse_sd[:, None]
        ctx.save_for_backward(normal, valid, inverse_sd, count)
        ctx.mark_non_differentiable(mean, variance)
        return normal, mean, variance

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        normal, valid, inverse_sd, count = ctx.saved_tensors  # type: ignore[attr-defined]
        gradient = gradients[0] * valid
        sums = torch.stack([gradient.sum((0, 2)), (gradient * normal).sum((0, 2))]).double()
        if workers() > 1:
            dist.all_reduce(sums)
        mean_gradient, mean_product = (sums / count.clamp(min=1)).to(normal.dtype)
        centred = gradient - mean_gradient[:, None] - normal * mean_product[:, None]
        return centred * inverse_sd[:, None] * valid, None, None


def reverse_time(values: Tensor, lengths: Tensor) -> Tensor:
    """Reverse each sequence within its valid frames, so that padding stays at the end.

    Args:
        values: [batch, time, features].
        lengths: [batch].
    """
    time = torch.arange(values.shape[1], device=values.device)
    source = torch.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
    return values.gather(1, source[..., None].expand_as(values))
