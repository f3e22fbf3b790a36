"""What the views of short frames share: pre-emphasis, windows, frames, power spectra, banks of filters, decibels.

Everything is in single precision and in blocks of frames that stay in a core's cache; windows and filters are
kept per process. An hour of sound therefore needs a few times the memory of its samples, never that of all its
frames side by side.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.media import Waveform

FLOOR = 1e-10
"""Smallest power before the logarithm (``amin`` of ``librosa.power_to_db``)."""

DYNAMIC_RANGE = 80.0
"""dB kept below the loudest value of the utterance (librosa's ``top_db``)."""

WINDOWS = {"hann": (0.5, 0.5), "hamming": (0.54, 0.46), "rectangular": (1.0, 0.0)}
"""Windows a − b cos(2πn / length): the name, a and b."""

Bank = list[tuple[slice, slice, NDArray[np.float32]]]
"""A filter bank in parts: some neighbouring bands, the frequency bins that they touch, weights [bins, bands]."""

FRAMES_AT_ONCE = 64
"""Frames in a block: with 2048 float32 samples each they are 512 KiB and stay in a core's cache."""

_BANDS_AT_ONCE = 16  # neighbouring triangles share their bins: an eighth of the full matrix product


def check_waveform(view: str, waveform: Waveform, sample_rate: int, expected: int) -> None:
    """Refuse what no view of sound can read.

    Raises:
        ValueError: another sample rate (Hz) than expected, or not a one-dimensional signal.
    """
    if sample_rate != expected:
        raise ValueError(f"{view} needs a waveform at {expected} Hz, got {sample_rate} Hz")
    if waveform.ndim != 1 or not len(waveform):
        raise ValueError(f"{view} needs a waveform [samples], got the shape {waveform.shape}")


def check_positive(view: str, **settings: int) -> None:
    """Refuse settings below 1.

    Raises:
        UserError: names the view and the setting.
    """
    for name, value in settings.items():
        if value < 1:
            raise UserError(f"{view}: {name} must be at least 1, got {value}")


def check_window(view: str, window: str, win_length: int | None, n_fft: int) -> None:
    """Refuse an unknown window and one that does not fit into the transform.

    Raises:
        UserError: names the view and the setting.
    """
    if win_length is not None and not 1 <= win_length <= n_fft:
        raise UserError(f"{view}: win_length must lie between 1 and n_fft ({n_fft}), got {win_length}")
    if window not in WINDOWS:
        raise UserError(f"{view}: window {window!r} is not one of {', '.join(WINDOWS)}")


def check_preemphasis(view: str, preemphasis: float) -> None:
    """Refuse a coefficient outside [0, 1).

    Raises:
        UserError: names the view.
    """
    if not 0.0 <= preemphasis < 1.0:
        raise UserError(f"{view}: preemphasis must lie in [0, 1), got {preemphasis}")


def emphasise(waveform: Waveform, coefficient: float) -> Waveform:
    """y[n] = x[n] − a x[n−1] from rest: y[0] = x[0] (``librosa.effects.preemphasis`` with ``zi=[0]``)."""
    if not coefficient:
        return waveform
    return np.concatenate([waveform[:1], waveform[1:] - np.float32(coefficient) * waveform[:-1]])


def centred_frames(waveform: Waveform, n_fft: int, hop_length: int) -> NDArray[np.float32]:
    """Frames around every ``hop_length``-th sample, with zeros beyond both ends (librosa's ``center``).

    Returns:
        [frames, n_fft], a view of one padded copy; 1 + samples // hop_length frames for even n_fft.
    """
    half = n_fft // 2
    padded = np.zeros(max(len(waveform) + 2 * half, n_fft), dtype=np.float32)
    padded[half : half + len(waveform)] = waveform
    return np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]


@functools.lru_cache(maxsize=16)
def centred_window(kind: str, length: int, n_fft: int) -> NDArray[np.float32]:
    """Periodic window of ``length`` samples, centred among n_fft."""
    offset, swing = WINDOWS[kind]
    values = offset - swing * np.cos(2 * math.pi * np.arange(length) / length)
    before = (n_fft - length) // 2
    return np.pad(values, (before, n_fft - length - before)).astype(np.float32)


def power_spectra(
    frames: NDArray[np.float32], window: NDArray[np.float32] | None, n_fft: int
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """|DFT|² of windowed frames, a block of frames at a time.

    Args:
        frames: [frames, samples]; zeros fill up shorter ones to n_fft.
        window: [samples]; None is none.
        n_fft: samples per transform.

    Yields:
        Which frames, and their power [frames of the block, 1 + n_fft // 2].
    """
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        block = slice(start, start + FRAMES_AT_ONCE)
        windowed = frames[block] if window is None else frames[block] * window
        spectrum = scipy.fft.rfft(windowed, n_fft, overwrite_x=window is not None)
        parts = spectrum.view(np.float32)
        np.multiply(parts, parts, out=parts)
        yield block, parts[:, 0::2] + parts[:, 1::2]


def filter_bank(filters: NDArray[np.float32]) -> Bank:
    """A filter matrix [bands, bins] in parts without most of its zeros."""
    bank = []
    for first in range(0, len(filters), _BANDS_AT_ONCE):
        weights = filters[first : first + _BANDS_AT_ONCE]
        used = np.flatnonzero(weights.any(axis=0))
        bins = slice(used[0], used[-1] + 1) if len(used) else slice(0, 0)
        bank.append((slice(first, first + len(weights)), bins, np.ascontiguousarray(weights[:, bins].T)))
    return bank


def filtered(
    frames: NDArray[np.float32], window: NDArray[np.float32] | None, n_fft: int, bank: Bank, bands: int
) -> NDArray[np.float32]:
    """Power of windowed frames in the bands of a filter bank, [frames, bands]."""
    result = np.empty((len(frames), bands), dtype=np.float32)
    for block, power in power_spectra(frames, window, n_fft):
        for part, bins, weights in bank:
            np.matmul(power[:, bins], weights, out=result[block, part])
    return result


def to_decibels(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """10 log10 of a power of at least 1e-10, in place."""
    np.maximum(power, FLOOR, out=power)
    np.log10(power, out=power)
    power *= 10
    return power
