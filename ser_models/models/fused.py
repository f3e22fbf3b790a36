"""The inner loop of TIM-Net's training on a CPU, with memory passed over as few times as it can be.

An eager step spends more than half of its time outside the convolutions: each small operation reads and writes
the whole activation. Here normalisation, ReLU and channel dropout are one pass forward and two passes back (their
sums, then the gradient), the gate and the mean over time are another, and each writes its result already padded
for the convolution that follows. Activations lie as [batch, time, channels], the layout in which oneDNN convolves
without reordering. The loops are compiled by numba at first use (seconds; cached on disk afterwards).

Statistics count valid frames only and are joined over workers, exactly as in
`ser_models.models.layers.MaskedBatchNorm`, which is the reference in the tests and the way on a GPU.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from ser_models.models.layers import workers

Array = np.ndarray[Any, np.dtype[np.float32]]
Lengths = np.ndarray[Any, np.dtype[np.int64]]

# No fast mathematics: with it, code compiled just now and code from the cache round differently. Channels are the
# inner loop, so nothing has to be reordered to be vectorised.
_compiled = numba.njit(parallel=True, cache=True)


def convolve(padded: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
    """Causal convolution of [batch, reach + time, channels], padded in front, to [batch, time, channels]."""
    image = padded.transpose(1, 2)[:, :, None]
    kernel = weight[:, :, None].contiguous(memory_format=torch.channels_last)
    result = functional.conv2d(image, kernel, bias, dilation=(1, dilation))
    # Not result[:, :, 0]: the gradient of an index is a copy in another layout.
    return result.squeeze(2).transpose(1, 2)


def normalise_relu_dropout(
    values: Tensor, weight: Tensor, bias: Tensor, lengths: Tensor, keep: Tensor, eps: float, pad: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation over valid frames, ReLU, and dropout of whole channels, padded in front.

    Args:
        values: [batch, time, channels].
        weight: [channels] of the normalisation.
        bias: [channels] of the normalisation.
        lengths: [batch] valid frames.
        keep: [batch, channels], 0 where dropped, else 1 / (1 − p).
        eps: added to the variance.
        pad: zero frames to put in front of the result.

    Returns:
        [batch, pad + time, channels] with zeros wherever nothing is valid, and the mean and the biased variance
        [channels] of the valid frames of all workers.
    """
    return _NormaliseReluDropout.apply(values, weight, bias, lengths, keep, eps, pad)  # type: ignore


def gate(hidden: Tensor, padded: Tensor, lengths: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """Multiply the block's input by the sigmoid of what it computed, and sum the result over time.

    Args:
        hidden: [batch, time, channels].
        padded: [batch, reach + time, channels], the block's input.
        lengths: [batch] valid frames.
        pad: zero frames to put in front of the result.

    Returns:
        [batch, pad + time, channels], and its sum over valid frames [batch, channels].
    """
    return _Gate.apply(hidden, padded, lengths, pad)  # type: ignore


class _NormaliseReluDropout(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        values: Tensor,
        weight: Tensor,
        bias: Tensor,
        lengths: Tensor,
        keep: Tensor,
        eps: float,
        pad: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        _use_torch_threads()
        values = values.contiguous()
        batch, time, channels = values.shape
        x, valid = values.numpy(), lengths.numpy()
        partial = np.empty((batch, 2, channels), np.float32)
        _moments(x, valid, partial)
        counts = valid.astype(np.float64)
        # Each row's sums are around its own mean; joined in double precision, nothing that matters is lost.
        row_mean = partial[:, 0].astype(np.float64)
        # Sums and not matrix products: BLAS rounds differently with another number of threads.
        weighted = counts[:, None] * row_mean
        total = weighted.sum(0)
        squares = partial[:, 1].sum(0, dtype=np.float64) + (weighted * row_mean).sum(0)
        sums = _over_workers(np.concatenate([[counts.sum()], total, squares]))
        count = max(sums[0], 1.0)
        mean, second = sums[1:].reshape(2, channels) / count
        variance = np.maximum(second - mean * mean, 0)
        inverse_sd = 1 / np.sqrt(variance + eps)
        scale = (weight.detach().numpy() * inverse_sd).astype(np.float32)
        shift = (bias.detach().numpy() - mean * scale).astype(np.float32)
        output = torch.empty(batch, pad + time, channels)
        _apply(x, valid, scale, shift, keep.numpy(), pad, output.numpy())
        ctx.save_for_backward(values, lengths, keep, weight)
        ctx.facts = (scale, shift, mean, inverse_sd, count, pad)  # type: ignore[attr-defined]
        statistics = [torch.from_numpy(array.astype(np.float32)) for array in (mean, variance)]
        ctx.mark_non_differentiable(*statistics)
        return output, statistics[0], statistics[1]

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _use_torch_threads()
        values, lengths, keep, weight = ctx.saved_tensors  # type: ignore[attr-defined]
        scale, shift, mean, inverse_sd, count, pad = ctx.facts  # type: ignore[attr-defined]
        x, valid, g = values.numpy(), lengths.numpy(), gradients[0].contiguous().numpy()
        partial = np.empty((len(x), 2, x.shape[2]), np.float32)
        _gradient_sums(g, x, valid, scale, shift, keep.numpy(), pad, mean.astype(np.float32), partial)
        own = partial.sum(0, dtype=np.float64)
        own[1] *= inverse_sd
        joined = _over_workers(own)
        # dL/dx = γ/σ · (g − mean(g) − x̂ · mean(g x̂)), written as an affine map of g and x.
        slope = -scale * joined[1] * inverse_sd / count
        offset = -scale * joined[0] / count - slope * mean
        result = torch.empty_like(values)
        _gradient(
            g,
            x,
            valid,
            scale,
            shift,
            keep.numpy(),
            pad,
            offset.astype(np.float32),
            slope.astype(np.float32),
            result.numpy(),
        )
        own_gradients = [torch.from_numpy(row.astype(np.float32)) for row in (own[1], own[0])]
        return result, own_gradients[0], own_gradients[1], None, None, None, None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: Tensor, padded: Tensor, lengths: Tensor, pad: int
    ) -> tuple[Tensor, Tensor]:
        _use_torch_threads()
        padded = padded.contiguous()
        share = torch.sigmoid(hidden).contiguous()
        batch, time, channels = share.shape
        output = torch.empty(batch, pad + time, channels)
        sums = torch.empty(batch, channels)
        _gated(share.numpy(), padded.numpy(), lengths.numpy(), pad, output.numpy(), sums.numpy())
        ctx.save_for_backward(share, padded, lengths)
        ctx.pad = pad  # type: ignore[attr-defined]
        return output, sums

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        _use_torch_threads()
        share, padded, lengths = ctx.saved_tensors  # type: ignore[attr-defined]
        to_hidden, to_input = torch.empty_like(share), torch.empty_like(padded)
        _gate_gradient(
            gradients[0].contiguous().numpy(),
            gradients[1].contiguous().numpy(),
            share.numpy(),
            padded.numpy(),
            lengths.numpy(),
            ctx.pad,  # type: ignore[attr-defined]
            to_hidden.numpy(),
            to_input.numpy(),
        )
        return to_hidden, to_input, None, None


def _use_torch_threads() -> None:
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:
        # Starting numba's threads sets the default of the OpenMP library, which is torch's too.
        torch.set_num_threads(threads)


def _over_workers(sums: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    if workers() > 1:
        dist.all_reduce(torch.from_numpy(sums := sums.copy()))
    return sums


@_compiled
def _moments(x: Array, lengths: Lengths, result: Array) -> None:
    """Per row and channel the mean of valid frames, and the sum of squares around it."""
    batch, _, channels = x.shape
    for b in numba.prange(batch):
        total = np.zeros(channels, np.float32)
        squares = np.zeros(channels, np.float32)
        count = np.float32(max(lengths[b], 1))
        for t in range(lengths[b]):
            row = x[b, t]
            for c in range(channels):
                total[c] += row[c]
        for c in range(channels):
            total[c] /= count
        for t in range(lengths[b]):
            row = x[b, t]
            for c in range(channels):
                difference = row[c] - total[c]
                squares[c] += difference * difference
        result[b, 0] = total
        result[b, 1] = squares


@_compiled
def _apply(
    x: Array, lengths: Lengths, scale: Array, shift: Array, keep: Array, pad: int, result: Array
) -> None:
    batch, time, channels = x.shape
    for b in numba.prange(batch):
        factor = keep[b]
        result[b, :pad] = 0
        for t in range(lengths[b]):
            row = x[b, t]
            out = result[b, pad + t]
            for c in range(channels):
                out[c] = max(row[c] * scale[c] + shift[c], np.float32(0)) * factor[c]
        result[b, pad + lengths[b] :] = 0


@_compiled
def _gradient_sums(
    g: Array,
    x: Array,
    lengths: Lengths,
    scale: Array,
    shift: Array,
    keep: Array,
    pad: int,
    mean: Array,
    result: Array,
) -> None:
    """Per row and channel the sums over valid frames of g and of g · (x − mean), g behind dropout and ReLU."""
    batch, _, channels = x.shape
    for b in numba.prange(batch):
        total = np.zeros(channels, np.float32)
        product = np.zeros(channels, np.float32)
        for t in range(lengths[b]):
            row = x[b, t]
            upper = g[b, pad + t]
            for c in range(channels):
                passed = upper[c] if row[c] * scale[c] + shift[c] > 0 else np.float32(0)
                total[c] += passed
                product[c] += passed * (row[c] - mean[c])
        result[b, 0] = total * keep[b]
        result[b, 1] = product * keep[b]


@_compiled
def _gradient(
    g: Array,
    x: Array,
    lengths: Lengths,
    scale: Array,
    shift: Array,
    keep: Array,
    pad: int,
    offset: Array,
    slope: Array,
    result: Array,
) -> None:
    batch, _, channels = x.shape
    for b in numba.prange(batch):
        factor = keep[b] * scale
        for t in range(lengths[b]):
            row = x[b, t]
            upper = g[b, pad + t]
            out = result[b, t]
            for c in range(channels):
                passed = upper[c] * factor[c] if row[c] * scale[c] + shift[c] > 0 else np.float32(0)
                out[c] = passed + offset[c] + slope[c] * row[c]
        result[b, lengths[b] :] = 0


@_compiled
def _gated(share: Array, padded: Array, lengths: Lengths, pad: int, result: Array, sums: Array) -> None:
    batch, time, channels = share.shape
    reach = padded.shape[1] - time
    for b in numba.prange(batch):
        total = np.zeros(channels, np.float32)
        result[b, :pad] = 0
        for t in range(lengths[b]):
            row = padded[b, reach + t]
            part = share[b, t]
            out = result[b, pad + t]
            for c in range(channels):
                value = row[c] * part[c]
                out[c] = value
                total[c] += value
        result[b, pad + lengths[b] :] = 0
        sums[b] = total


@_compiled
def _gate_gradient(
    g: Array,
    g_sums: Array,
    share: Array,
    padded: Array,
    lengths: Lengths,
    pad: int,
    to_hidden: Array,
    to_input: Array,
) -> None:
    batch, time, channels = share.shape
    reach = padded.shape[1] - time
    for b in numba.prange(batch):
        from_sums = g_sums[b]
        to_input[b, :reach] = 0
        for t in range(lengths[b]):
            row = padded[b, reach + t]
            part = share[b, t]
            upper = g[b, pad + t]
            hidden = to_hidden[b, t]
            passed = to_input[b, reach + t]
            for c in range(channels):
                gradient = upper[c] + from_sums[c]
                passed[c] = gradient * part[c]
                hidden[c] = gradient * row[c] * part[c] * (1 - part[c])
        to_hidden[b, lengths[b] :] = 0
        to_input[b, reach + lengths[b] :] = 0
