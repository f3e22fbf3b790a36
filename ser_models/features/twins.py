"""Recordings that sound the same although their samples differ: another codec, sample rate, level or lead-in.

The audio track of an audio-visual clip beside the audio-only file, an MP3 beside the WAV: equal hashes cannot
find them. Each recording gets an envelope, a short vector that survives such changes; twins are recordings of
equal length whose envelopes are nearly parallel. The representation and its constants are our choice, set on
RAVDESS, where an actor says each sentence twice in each emotion: of 720 recordings the closest two takes of equal
length reach a similarity of 0.90; of 120 copies the worst reach 0.99 as MP3 at 12 kbit/s, 0.97 as Vorbis at
22 kbit/s, 0.95 as Opus at 13 kbit/s, and 0.99 after resampling or another gain.
"""

import functools
import math

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ser_models.features.media import Waveform

VERSION = 1
"""Raised whenever envelopes change: they are comparable only within a version."""

SLICES = 24
BANDS = 16
WIDTH = SLICES * BANDS
"""Numbers per envelope."""

THRESHOLD = 0.95
"""Similarity (cosine) of envelopes from which two recordings are twins."""

TOLERANCE = 0.1
"""Seconds by which twins may differ in length: codecs add their delay and fill their last frame."""

SHORTEST = 0.5
"""Seconds: in shorter recordings too little happens to tell twins from two similar exclamations."""

_HOP = 0.01  # seconds; four hops are the window: then the sum of squared Hann windows is constant
_LOWEST, _HIGHEST = 100.0, 3600.0  # Hz; what every codec and a sample rate of 8 kHz keep
_ENOUGH = 16000  # Hz; higher rates are averaged down towards it
_REACH = 1.8  # the slices span this many standard deviations to either side of the centre
_QUIET = 0.01  # relative to the loudest frame; quieter frames, where copies differ, hardly move the centre
_FRAMES_AT_ONCE = 256
_ROWS_AT_ONCE = 1024
_COLUMNS_AT_ONCE = 8192


def envelope(samples: Waveform, sample_rate: int) -> NDArray[np.float32]:
    """Fingerprint of a recording.

    With e[t, b] the energy in band b (16 bands of equal width in mel from 100 to 3600 Hz) of the frame at
    t · 10 ms, and w[t] = log(1 + e[t] / (0.01 · max e)) with e[t] its sum over the bands: the centre is the mean
    of t under w and σ its standard deviation. The interval of ±1.8 σ around the centre is cut into 24 slices, and
    the envelope is the square root of the energy per slice and band, less each band's mean, scaled to norm 1.
    Silence in front or behind, gain and a constant tilt of the spectrum therefore hardly change it.

    Args:
        samples: [samples] float32, mono.
        sample_rate: Hz; below 7200 Hz the highest bands are empty, and twins of a higher rate are not found.

    Returns:
        [WIDTH] float32, of norm 1; zeros for silence.
    """
    factor = max(1, sample_rate // _ENOUGH)
    if factor > 1:
        whole = len(samples) // factor * factor
        samples = samples[:whole].reshape(-1, factor).mean(axis=1, dtype=np.float32)
    energies = _band_energies(samples, sample_rate / factor)
    loudness = energies.sum(axis=1)
    if not loudness.any():
        return np.zeros(WIDTH, dtype=np.float32)
    weights = np.log1p(loudness / (_QUIET * loudness.max()))
    frames = np.arange(len(weights))
    centre = np.average(frames, weights=weights)
    deviation = math.sqrt(np.average((frames - centre) ** 2, weights=weights))
    edges = centre + 0.5 + np.linspace(-_REACH, _REACH, SLICES + 1) * deviation
    slices = np.sqrt(np.maximum(np.diff(_cumulative(energies, edges), axis=0), 0.0))
    slices -= slices.mean(axis=0)
    norm = float(np.linalg.norm(slices))
    return np.asarray(slices / norm if norm else slices, dtype=np.float32).ravel()


def find_twins(
    envelopes: NDArray[np.float32],
    durations: NDArray[np.float64],
    *,
    threshold: float = THRESHOLD,
    tolerance: float = TOLERANCE,
    shortest: float = SHORTEST,
) -> list[tuple[int, int]]:
    """Pairs of recordings that sound the same.

    Only recordings of nearly equal length are compared, so the work grows with how many share a length.

    Args:
        envelopes: [recordings, WIDTH] from `envelope`; rows of zeros (silence) have no twin.
        durations: [recordings] seconds.
        threshold: smallest similarity of twins.
        tolerance: seconds by which their lengths may differ.
        shortest: seconds; shorter recordings are not compared.

    Returns:
        Rows (i, j) with i < j, sorted.

    Raises:
        ValueError: the shapes do not agree.
    """
    if len(durations) == 0:
        return []
    if envelopes.shape != (len(durations), WIDTH):
        raise ValueError(f"{len(durations)} durations need envelopes of {WIDTH}, got {envelopes.shape}")
    order = np.flatnonzero(envelopes.any(axis=1) & (durations >= shortest))
    order = order[np.argsort(durations[order], kind="stable")]
    lengths = durations[order]
    twins = []
    for start in range(0, len(order), _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, len(order))
        block = envelopes[order[start:stop]]
        end = int(np.searchsorted(lengths, lengths[stop - 1] + tolerance, side="right"))
        for column in range(start, end, _COLUMNS_AT_ONCE):
            others = order[column : min(column + _COLUMNS_AT_ONCE, end)]
            row, other = np.nonzero(block @ envelopes[others].T >= threshold)
            row, other = row + start, other + column
            close = (row < other) & (lengths[other] - lengths[row] <= tolerance)
            twins.append(np.stack((order[row[close]], order[other[close]]), axis=1))
    pairs = np.sort(np.concatenate(twins), axis=1) if twins else np.empty((0, 2), dtype=np.int64)
    return sorted((int(one), int(other)) for one, other in pairs)


def _band_energies(samples: Waveform, rate: float) -> NDArray[np.float64]:
    """Energy per frame and band, [frames, BANDS]; the recording is padded by one window on both sides."""
    hop = max(1, round(rate * _HOP))
    size = 4 * hop
    padded = np.zeros(len(samples) + 2 * size + hop, dtype=np.float32)
    padded[size : size + len(samples)] = samples
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    window, bins, bands = _tables(rate, size)
    energies = np.empty((len(frames), BANDS), dtype=np.float64)
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        block = slice(start, start + _FRAMES_AT_ONCE)
        spectrum = scipy.fft.rfft(frames[block] * window)[:, bins]
        energies[block] = (spectrum.real**2 + spectrum.imag**2) @ bands
    return energies


@functools.lru_cache(maxsize=16)
def _tables(rate: float, size: int) -> tuple[NDArray[np.float32], slice, NDArray[np.float32]]:
    """Hann window [size], the bins that the bands use, and which bin is in which band [bins, BANDS]."""
    window = 0.5 - 0.5 * np.cos(2 * math.pi * np.arange(size) / size)
    lowest, highest = (2595.0 * math.log10(1.0 + edge / 700.0) for edge in (_LOWEST, _HIGHEST))
    mels = np.linspace(lowest, highest, BANDS + 1)
    edges = np.rint(700.0 * (10.0 ** (mels / 2595.0) - 1.0) * size / rate).astype(int)
    used = slice(int(edges[0]), min(int(edges[-1]), size // 2 + 1))
    numbers = np.arange(used.start, used.stop)[:, None]
    bands = (edges[:-1] <= numbers) & (numbers < edges[1:])
    return window.astype(np.float32), used, bands.astype(np.float32)


def _cumulative(energies: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Energy from the start to each edge, in frames, [edges, BANDS]; within a frame it grows evenly."""
    sums = np.concatenate((np.zeros((1, BANDS)), np.cumsum(energies, axis=0)))
    edges = np.clip(edges, 0.0, len(energies))
    before = np.minimum(edges.astype(int), len(energies) - 1)
    return np.asarray(sums[before] + (edges - before)[:, None] * energies[before])
