"""Fundamental frequency and harmonics-to-noise ratio from the autocorrelation.

The method is that of Boersma (1993, Proc. Inst. Phonetic Sciences Amsterdam 17), which Praat uses too: it is robust,
gives both from one transform, and runs over all frames at once.
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ser_models.features import short_time
from ser_models.features.short_time import Array

# Boersma's constants, as Praat sets them.
_PERIODS_PER_WINDOW = 3
_CANDIDATES = 14
_SILENCE = 0.03
_VOICING = 0.45
_OCTAVE_COST = 0.01
_OCTAVE_JUMP_COST = 0.35
_VOICING_CHANGE_COST = 0.14

_LAGS_PER_SAMPLE = 4  # on this grid a parabola finds the height of a peak to a millionth
_FRAMES_AT_ONCE = 16  # their interpolated autocorrelations stay in a core's cache
_LARGEST_CORRELATION = 1.0 - 1e-6  # 60 dB; a window of three periods tells no more


@dataclass(frozen=True)
class PitchTrack:
    """F0 and periodicity per frame.

    Attributes:
        f0: [frames] Hz, 0 where unvoiced.
        hnr: [frames] dB, 10 log₁₀ (P_harmonic / P_noise), at most 60; 0 where unvoiced.
    """

    f0: Array
    hnr: Array

    @property
    def voiced(self) -> NDArray[np.bool_]:
        """[frames]."""
        return np.asarray(self.f0 > 0)


def track(
    waveform: NDArray[np.floating], sample_rate: int, hop: int, min_pitch: float, max_pitch: float
) -> PitchTrack:
    """Follow F0 through an utterance.

    With x a frame of three periods of ``min_pitch`` less its mean and w the Hann window, the candidates of a frame
    are the highest peaks of::

        r(τ) = r_xw(τ) / r_xw(0) · r_w(0) / r_w(τ)

    and "unvoiced". The cheapest path through the candidates weighs height, loudness, octave jumps and changes of
    voicing. At the chosen lag, r = P_harmonic / (P_harmonic + P_noise), hence HNR = 10 log₁₀ (r / (1 − r)).

    Args:
        waveform: [samples].
        sample_rate: Hz.
        hop: samples between frames; frame t is centred on sample t · hop.
        min_pitch: Hz.
        max_pitch: Hz.
    """
    length = round(_PERIODS_PER_WINDOW * sample_rate / min_pitch)
    framed = short_time.frames(waveform, length, hop)
    periods, heights = (
        np.concatenate(parts)
        for parts in zip(
            *(
                _candidates(framed[start : start + _FRAMES_AT_ONCE], sample_rate, min_pitch, max_pitch)
                for start in range(0, len(framed), _FRAMES_AT_ONCE)
            ),
            strict=True,
        )
    )
    loudest = np.abs(waveform - waveform.mean()).max()
    peaks = short_time.in_blocks(lambda frames: np.abs(frames).max(axis=1), framed)
    loudness = peaks / max(loudest, 1e-30)
    chosen = _best_path(periods, heights, loudness, min_pitch, 0.01 * sample_rate / hop)
    rows = np.arange(len(chosen))
    voiced = chosen >= 0
    period = np.where(voiced, periods[rows, chosen], np.inf)
    height = np.clip(heights[rows, chosen], 1e-6, _LARGEST_CORRELATION)
    hnr = np.where(voiced, 10.0 * np.log10(height / (1.0 - height)), 0.0)
    return PitchTrack(1.0 / period, hnr)


def _candidates(framed: Array, sample_rate: int, min_pitch: float, max_pitch: float) -> tuple[Array, Array]:
    """Periods in seconds (infinite where there are fewer) and heights of the highest peaks of the autocorrelation.

    Both are [frames, candidates].
    """
    length = framed.shape[1]
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * (np.arange(length) + 0.5) / length)
    windowed = (framed - framed.mean(axis=1, keepdims=True)) * window
    n_fft = scipy.fft.next_fast_len(2 * length, real=True)
    spectrum = scipy.fft.rfft(windowed, n_fft)
    power = spectrum.real**2 + spectrum.imag**2
    # A longer inverse transform is the ideal interpolation between the lags.
    grid = scipy.fft.irfft(power, n_fft * _LAGS_PER_SAMPLE)
    step = 1.0 / (sample_rate * _LAGS_PER_SAMPLE)
    first = max(1, int(np.floor(1.0 / max_pitch / step)))
    last = min(int(np.ceil(1.0 / min_pitch / step)) + 1, length * _LAGS_PER_SAMPLE - 1)
    lags = np.arange(first - 1, last + 1) * step
    energy = np.maximum(grid[:, :1], 1e-30)
    r = grid[:, first - 1 : last + 1] / energy / _hann_autocorrelation(lags * sample_rate / length)

    left, centre, right = r[:, :-2], r[:, 1:-1], r[:, 2:]
    is_peak = (centre > left) & (centre >= right) & (centre > 0.5 * _VOICING)
    bend = np.where(is_peak, left - 2.0 * centre + right, -1.0)
    offset = 0.5 * (left - right) / bend
    height = centre - 0.25 * (left - right) * offset
    height = np.where(
        height > 1.0, 1.0 / np.maximum(height, 1.0), height
    )  # the division overshoots at long lags
    period = lags[1:-1] + offset * step
    is_peak &= (period >= 1.0 / max_pitch) & (period <= 1.0 / min_pitch)
    rank = np.where(is_peak, height - _OCTAVE_COST * np.log2(min_pitch * lags[1:-1]), -np.inf)
    count = min(_CANDIDATES, rank.shape[1])
    best = np.argpartition(rank, -count, axis=1)[:, -count:]
    best.sort(axis=1)  # an order that does not depend on how the partition went
    found = np.take_along_axis(is_peak, best, axis=1)
    return (
        np.where(found, np.take_along_axis(period, best, axis=1), np.inf),
        np.where(found, np.take_along_axis(height, best, axis=1), 0.0),
    )


def _hann_autocorrelation(lag: Array) -> Array:
    """Normalised autocorrelation of a Hann window of length 1 (Boersma, 1993, equation 8)."""
    angle = 2.0 * np.pi * lag
    return np.asarray((1.0 - lag) * (2.0 / 3.0 + np.cos(angle) / 3.0) + np.sin(angle) / (2.0 * np.pi))


def _best_path(
    periods: Array, heights: Array, loudness: Array, min_pitch: float, time_correction: float
) -> NDArray[np.intp]:
    """Candidate of each frame on the cheapest path, −1 where unvoiced: [frames] (Viterbi)."""
    exists = np.isfinite(periods)
    octaves = -np.log2(np.where(exists, periods, 1.0))
    voiced = np.where(exists, heights + _OCTAVE_COST * (octaves - np.log2(min_pitch)), -np.inf)
    unvoiced = _VOICING + np.maximum(0.0, 2.0 - loudness / (_SILENCE / (1.0 + _VOICING)))
    score = np.column_stack([unvoiced, voiced])

    jump_cost = _OCTAVE_JUMP_COST * time_correction
    change = np.full((score.shape[1], score.shape[1]), _VOICING_CHANGE_COST * time_correction)
    change[0, 0] = 0.0
    total = score[0]
    back = np.zeros(score.shape, dtype=np.intp)
    for t in range(1, len(score)):
        change[1:, 1:] = jump_cost * np.abs(octaves[t - 1, :, None] - octaves[t])
        reached = total[:, None] - change
        back[t] = reached.argmax(axis=0)
        total = reached.max(axis=0) + score[t]
    path = np.empty(len(score), dtype=np.intp)
    path[-1] = total.argmax()
    for t in range(len(score) - 1, 0, -1):
        path[t - 1] = back[t, path[t]]
    return path - 1
