"""What wav2vec2, HuBERT, WavLM, data2vec and Whisper have in common: how they are fed, and where their frames lie.

A network is fed utterances in batches that never change its results: where normalisation over time or a chain of
convolutions would let padding reach the speech, a batch holds only equal lengths; elsewhere the padding is masked.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError, WorkError
from ser_models.features import pretrained, windows
from ser_models.features.media import MediaError, Waveform

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

SAMPLE_RATE = 16000
"""Hz; all of these networks were trained at it."""

WHISPER_INPUT = 30 * SAMPLE_RATE
"""Samples up to which Whisper fills every input."""

LIKENESS = 0.9
"""Least length of the shortest in a padded batch, in parts of the longest: a tenth of the work, at most, is padding."""

KINDS = ("wav2vec2", "hubert", "wavlm", "data2vec-audio", "whisper")
"""transformers' ``model_type`` of the networks that are known here."""

WHISPER_STRIDE = 320
"""Samples per frame of a Whisper encoder: 10 ms of the spectrogram, then a convolution of stride 2."""


@dataclass(frozen=True)
class Geometry:
    """How a network turns samples into frames, and how utterances of different lengths share a batch.

    Attributes:
        stride: samples between frames.
        shortest: samples that one frame needs.
        kernels: (width, stride) of each convolution over the waveform; empty for Whisper.
        padding: ``never`` (equal lengths only), ``masked``, or ``fixed`` (each input is filled up to 30 s).
    """

    stride: int
    shortest: int
    kernels: tuple[tuple[int, int], ...]
    padding: Literal["never", "masked", "fixed"]

    def frames(self, samples: int) -> int:
        """Number of frames that lie in the speech itself."""
        if not self.kernels:
            return -(-samples // self.stride)
        for width, stride in self.kernels:
            samples = (samples - width) // stride + 1
        return max(samples, 0)


def geometry(model: str) -> Geometry:
    """The geometry of a model, from its configuration.

    Raises:
        UserError: the folder is no model, or of a kind that is not known here.
    """
    config = pretrained.config(model)
    if config.model_type not in KINDS:
        raise UserError(
            f"model {model!r} is of the kind {config.model_type!r}, which is no supported speech network; "
            f"supported are {', '.join(KINDS)}"
        )
    if config.model_type == "whisper":
        return Geometry(WHISPER_STRIDE, 1, (), "fixed")
    if getattr(config, "add_adapter", False):
        raise UserError(
            f"model {model!r} has an adapter that shortens its output; save it with add_adapter=false"
        )
    kernels = tuple(zip(config.conv_kernel, config.conv_stride, strict=True))
    shortest = stride = 1
    for width, step in kernels:
        shortest += (width - 1) * stride
        stride *= step
    # Group norm runs over time; data2vec's five position convolutions carry padding into the speech.
    alone = config.model_type == "data2vec-audio" or config.feat_extract_norm == "group"
    return Geometry(stride, shortest, kernels, "never" if alone else "masked")


def prepare(name: str, model: str, waveform: Waveform, sample_rate: int) -> Waveform:
    """What travels to the network: the waveform, normalised as the model's own feature extractor does.

    Args:
        name: the view's, for messages.
        model: folder or name.
        waveform: [samples] float32.
        sample_rate: Hz.

    Returns:
        [samples] float32. Whisper's is unchanged: its spectrogram is made beside the network, window by window.

    Raises:
        ValueError: another sample rate, or not a one-dimensional signal.
        MediaError: the recording is shorter than one frame.
    """
    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"{name} needs a waveform at {SAMPLE_RATE} Hz, got {sample_rate} Hz")
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"{name} needs a waveform [samples], got the shape {waveform.shape}")
    shape = geometry(model)
    if len(waveform) < shape.shortest:
        raise MediaError(
            f"{len(waveform)} samples at {SAMPLE_RATE} Hz are too short for the encoder, "
            f"which needs {shape.shortest}"
        )
    if shape.padding == "fixed":
        return waveform.astype(np.float32, copy=False)
    prepared = extractor(model)(waveform, sampling_rate=SAMPLE_RATE, return_tensors="np")
    result: Waveform = prepared["input_values"][0].astype(np.float32, copy=False)
    return result


def extractor(model: str) -> Any:
    """The model's feature extractor, after a look at its sample rate.

    Raises:
        UserError: there is none, or it wants another rate.
    """
    found = pretrained.feature_extractor(model)
    if found.sampling_rate != SAMPLE_RATE:
        raise UserError(
            f"model {model!r} was trained at {found.sampling_rate} Hz; only {SAMPLE_RATE} Hz is supported"
        )
    return found


def inputs(model: str, shape: Geometry, batch: Sequence[Waveform], device: "torch.device") -> dict[str, Any]:
    """The tensors that a network is called with, for one batch of prepared waveforms."""
    import torch

    if shape.padding == "fixed":
        mel = extractor(model)(
            list(batch), sampling_rate=SAMPLE_RATE, return_tensors="pt", device=str(device)
        )
        return {"input_features": mel["input_features"].to(device)}
    values = np.zeros((len(batch), max(map(len, batch))), dtype=np.float32)
    mask = np.zeros(values.shape, dtype=np.int64)
    for row, waveform in enumerate(batch):
        values[row, : len(waveform)] = waveform
        mask[row, : len(waveform)] = 1
    tensors = {"input_values": torch.from_numpy(values).to(device)}
    if not mask.all():
        tensors["attention_mask"] = torch.from_numpy(mask).to(device)
    return tensors


def encode_all(
    waveforms: Sequence[Waveform],
    shape: Geometry,
    forward: Callable[[Sequence[Waveform]], NDArray[Any]],
    *,
    window: int,
    overlap: int,
    budget: int,
    pad: bool,
) -> list[NDArray[Any]]:
    """Frames of every waveform; long ones in overlapping windows, all of them in batches.

    Args:
        waveforms: prepared, [samples] each.
        shape: of the network.
        forward: one batch → [batch, frames, …], padding included.
        window: samples in one piece, at most.
        overlap: samples that neighbouring windows of a recording share.
        budget: samples in a batch, padding included.
        pad: whether lengths may differ in a batch, where the network allows it; on a CPU that only costs time.

    Returns:
        [frames, …] for each waveform, in their order.

    Raises:
        WorkError: not even one window fits into the device's memory.
    """
    pieces = [
        (row, part)
        for row, waveform in enumerate(waveforms)
        for part in windows.overlapping(len(waveform), window, overlap, shape.stride, shape.frames)
    ]
    lengths = [part.stop - part.start for _, part in pieces]
    costs = [WHISPER_INPUT] * len(pieces) if shape.padding == "fixed" else lengths
    results: list[NDArray[Any] | None] = [None] * len(waveforms)
    likeness = LIKENESS if pad and shape.padding != "never" else 1.0
    for batch in windows.batches(costs, budget, likeness):
        parts = [pieces[index] for index in batch]
        frames = in_memory(forward, [waveforms[row][part.start : part.stop] for row, part in parts])
        for values, (row, part) in zip(frames, parts, strict=True):
            whole = results[row]
            if whole is None:
                whole = np.empty((shape.frames(len(waveforms[row])), *values.shape[1:]), values.dtype)
                results[row] = whole
            begin = part.start // shape.stride
            whole[begin + part.first : begin + part.last] = values[part.first : part.last]
    return [result for result in results if result is not None]


def in_memory(forward: Callable[[Sequence[Item]], Iterable[Result]], batch: Sequence[Item]) -> list[Result]:
    """Run a batch; where the device's memory does not hold it, its halves one after the other.

    Raises:
        WorkError: a single item does not fit.
    """
    import torch

    try:
        return list(forward(batch))
    except torch.OutOfMemoryError as error:
        if len(batch) == 1:
            raise WorkError(
                "one input alone exceeds the memory of the GPU: give the view a smaller window, or run it without a GPU"
            ) from error
    # Outside the handler: while it runs, the traceback keeps the tensors of the failed attempt alive.
    torch.cuda.empty_cache()
    half = len(batch) // 2
    return [*in_memory(forward, batch[:half]), *in_memory(forward, batch[half:])]
