"""Linear prediction s[n] = Σ_k a_k s[n−k] + e[n], k = 1 … p, and formants from its poles.

Three estimates of a, each over all frames at once. *Covariance* is plain least squares: the error is summed over the
samples whose p predecessors lie in the frame, so no window is needed and an autoregressive process is recovered
without bias, but poles may leave the unit circle. *Autocorrelation* (Levinson and Durbin) windows the frame and is
always stable. *Burg* needs no window and is stable; it serves the formants.
"""

from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray

from ser_models.features import short_time
from ser_models.features.short_time import Array

_NEGLIGIBLE = 1e-12  # relative to the largest eigenvalue: a frame of few sinusoids has no unique solution

_LOWEST_FORMANT = 50.0  # Hz; Praat drops poles within this distance of 0 Hz and of the ceiling
_FORMANT_POLES = 10


def covariance(framed: Array, order: int) -> Array:
    """Least squares by the normal equations (Atal and Hanauer, 1971); of many solutions the shortest.

    Args:
        framed: [frames, samples], samples > 2 · order.
        order: p.

    Returns:
        a_1 … a_p: [frames, order]; zeros for a frame of zeros.
    """
    lagged = np.lib.stride_tricks.sliding_window_view(framed, order + 1, axis=1)  # [frames, n − p, p + 1]
    products = np.matmul(lagged.transpose(0, 2, 1), lagged)[:, ::-1, ::-1]  # Φ(i, k) = Σ s[n−i] s[n−k]
    inverse = np.linalg.pinv(products[:, 1:, 1:], rcond=_NEGLIGIBLE, hermitian=True)
    return np.asarray(np.einsum("tij,tj->ti", inverse, products[:, 1:, 0]))


def autocorrelation(framed: Array, order: int) -> Array:
    """Least squares over the windowed (Hamming) frame with zeros on either side: [frames, order]."""
    samples = framed.shape[1]
    windowed = framed * np.hamming(samples)
    products = [
        np.einsum("ts,ts->t", windowed[:, lag:], windowed[:, : samples - lag]) for lag in range(order + 1)
    ]
    return levinson(np.stack(products, axis=1))[0]


def levinson(r: Array) -> tuple[Array, Array]:
    """Solve Σ_k a_k r(|i−k|) = r(i), i = 1 … p (Levinson, 1947; Durbin, 1960).

    Args:
        r: autocorrelation at lags 0 … p, [frames, order + 1].

    Returns:
        a: [frames, order], and the power of the prediction error: [frames]. Both are zero where r(0) is.
    """
    frames, lags = r.shape
    a = np.zeros((frames, lags - 1))
    error = r[:, 0].copy()
    for i in range(1, lags):
        rest = r[:, i] - np.einsum("tk,tk->t", a[:, : i - 1], r[:, i - 1 : 0 : -1])
        reflection = np.divide(rest, error, out=np.zeros(frames), where=error > 0)
        a[:, : i - 1] -= reflection[:, None] * a[:, : i - 1][:, ::-1]
        a[:, i - 1] = reflection
        error *= 1.0 - reflection**2
    return a, error


def burg(framed: Array, order: int) -> Array:
    """Least forward plus backward error, one reflection coefficient after another (Burg, 1967): [frames, order]."""
    forward, backward = framed[:, 1:].copy(), framed[:, :-1].copy()
    a = np.zeros((len(framed), order))
    for i in range(order):
        power = np.einsum("ts,ts->t", forward, forward) + np.einsum("ts,ts->t", backward, backward)
        cross = 2.0 * np.einsum("ts,ts->t", forward, backward)
        reflection = np.divide(cross, power, out=np.zeros(len(framed)), where=power > 0)
        a[:, :i] -= reflection[:, None] * a[:, :i][:, ::-1]
        a[:, i] = reflection
        k = reflection[:, None]
        forward, backward = (forward - k * backward)[:, 1:], (backward - k * forward)[:, :-1]
    return a


METHODS: dict[str, Callable[[Array, int], Array]] = {
    "covariance": covariance,
    "autocorrelation": autocorrelation,
    "burg": burg,
}


def formants(
    waveform: NDArray[np.floating], sample_rate: int, hop: int, ceiling: float, count: int = 3
) -> Array:
    """Frequencies of the lowest resonances.

    Praat's recipe: resample to twice the ceiling, emphasise by 6 dB per octave from 50 Hz, take 50 ms under a
    Gaussian window (25 ms effective), predict with 10 coefficients by Burg's method; every pole z with positive
    angle is a resonance at angle(z) · rate / 2π, unless it lies within 50 Hz of 0 or of the ceiling.

    Args:
        waveform: [samples].
        sample_rate: Hz.
        hop: samples between frames; frame t is centred on sample t · hop.
        ceiling: Hz below which five formants are expected: 5500 for women, 5000 for men.
        count: formants to return.

    Returns:
        [frames, count] Hz, ascending; 0 for a formant that was not found.
    """
    rate = 2.0 * ceiling
    resampled = soxr.resample(np.asarray(waveform, dtype=np.float64), sample_rate, rate, quality="HQ")
    emphasis = np.exp(-2.0 * np.pi * 50.0 / rate)
    resampled[1:] -= emphasis * resampled[:-1]
    half = round(0.025 * rate)
    centres = np.rint(np.arange(0, len(waveform) + 1, hop) * (rate / sample_rate)).astype(np.intp)
    padded = np.pad(resampled, (half, max(0, int(centres[-1]) + half + 1 - len(resampled))))
    framed = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[centres]
    distance = np.arange(-half, half + 1) / (half + 1.0)
    edge = np.exp(-12.0)
    window = (np.exp(-12.0 * distance**2) - edge) / (1.0 - edge)
    a = short_time.in_blocks(lambda frames: burg(frames * window, _FORMANT_POLES), framed)
    return resonances(a, rate, count)


def resonances(a: Array, rate: float, count: int) -> Array:
    """Frequencies of the lowest poles of 1 / (1 − Σ a_k z^−k).

    Args:
        a: [frames, order].
        rate: sample rate in Hz.
        count: poles to return.

    Returns:
        [frames, count] Hz, ascending; 0 where there are fewer.
    """
    order = a.shape[1]
    companion = np.zeros((len(a), order, order))
    companion[:, 0, :] = a
    companion[:, np.arange(1, order), np.arange(order - 1)] = 1.0
    frequency = np.angle(np.linalg.eigvals(companion)) * rate / (2.0 * np.pi)
    usable = (frequency > _LOWEST_FORMANT) & (frequency < rate / 2.0 - _LOWEST_FORMANT)
    lowest = np.sort(np.where(usable, frequency, np.inf), axis=1)[:, :count]
    return np.where(np.isfinite(lowest), lowest, 0.0)
