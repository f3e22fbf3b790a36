"""Perceptual linear prediction (Hermansky, 1990, J. Acoust. Soc. Am. 87(4)), on the Bark or on the ERB scale.

The power spectrum of a frame is integrated over auditory bands, weighted by equal loudness and compressed; the
result is taken for the power spectrum of an all-pole model, whose cepstrum is returned.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import scipy.fft

from ser_models.features.linear_prediction import levinson
from ser_models.features.short_time import Array

_FLOOR = 1e-10  # of the power spectrum: −100 dB relative to full scale
_LOG_THRESHOLD = 1e-6  # power that log compression takes for the threshold of hearing: −60 dB


def _hz_to_bark(frequency: Array) -> Array:
    """Bark of Hz (Schroeder, 1977; equation 3 of the paper)."""
    return np.asarray(6.0 * np.arcsinh(frequency / 600.0))


def _bark_to_hz(bark: Array) -> Array:
    return np.asarray(600.0 * np.sinh(bark / 6.0))


def _critical_bands(centres: Array, frequency: Array) -> Array:
    """Masking curves [bands, bins] (equation 4): 1 within half a Bark, +25 dB per Bark below, −10 above."""
    # A curve is mirrored when it becomes a filter: a component below the centre masks upwards, gently.
    distance = centres[:, None] - _hz_to_bark(frequency)[None, :]
    steep = np.where(distance < -0.5, 10.0 ** (2.5 * (distance + 0.5)), 1.0)
    curve = np.where(distance > 0.5, 10.0 ** (0.5 - distance), steep)
    return np.where((distance >= -1.3) & (distance <= 2.5), curve, 0.0)


def _hz_to_erb(frequency: Array) -> Array:
    """ERB number of Hz (Glasberg and Moore, 1990, Hear. Res. 47)."""
    return np.asarray(21.4 * np.log10(1.0 + 0.00437 * frequency))


def _erb_to_hz(erb: Array) -> Array:
    return np.asarray((10.0 ** (erb / 21.4) - 1.0) / 0.00437)


def _gammatones(centres: Array, frequency: Array) -> Array:
    """Power responses [bands, bins] of gammatone filters of order 4 and bandwidth 1.019 ERB (Patterson, 1992)."""
    centre = _erb_to_hz(centres)[:, None]
    bandwidth = 1.019 * 24.7 * (1.0 + 0.00437 * centre)
    return np.asarray((1.0 + ((frequency[None, :] - centre) / bandwidth) ** 2) ** -4.0)


BANDS: dict[
    str, tuple[Callable[[Array], Array], Callable[[Array], Array], Callable[[Array, Array], Array]]
] = {
    "bark": (_hz_to_bark, _bark_to_hz, _critical_bands),
    "erb": (_hz_to_erb, _erb_to_hz, _gammatones),
}
"""Scale → Hz to it, it to Hz, and the filters around equidistant centres."""

COMPRESSIONS: dict[str, Callable[[Array], Array]] = {
    "cube_root": np.cbrt,
    "sqrt": np.sqrt,
    "log": lambda power: np.log1p(power / _LOG_THRESHOLD),
}
"""Intensity → loudness. Hermansky takes the cube root; ``log`` is ln(1 + x / 1e-6), which stays positive."""


def plp(framed: Array, sample_rate: int, order: int, bands: str, compression: str) -> Array:
    """Cepstrum of the perceptual all-pole model.

    With P the power spectrum of the Hamming-windowed frame (white noise of mean square σ² has P = σ²), F the
    filters and E equal loudness::

        Φ_b = compression(E_b Σ_f F_bf P_f),  the outermost bands copied from their neighbours
        r = inverse DFT of Φ,  a and the error g from the Levinson recursion on r
        c_0 = ln g,  c_n = a_n + Σ_{k<n} (k / n) c_k a_(n−k)

    The spacing of the bands, about 1 Bark or ERB from 0 Hz to half the sample rate, is our choice where the paper
    allows it; so is the gammatone for ERB.

    Args:
        framed: [frames, samples].
        sample_rate: Hz.
        order: of the model.
        bands: bark or erb.
        compression: cube_root, log or sqrt.

    Returns:
        c_0 … c_order: [frames, order + 1].
    """
    samples = framed.shape[1]
    n_fft = 1 << (samples - 1).bit_length()
    window = np.hamming(samples)
    spectrum = scipy.fft.rfft(framed * window, n_fft)
    power = np.maximum((spectrum.real**2 + spectrum.imag**2) / (window @ window), _FLOOR)
    loudness = COMPRESSIONS[compression](power @ _filters(sample_rate, n_fft, bands).T)
    loudness[:, 0], loudness[:, -1] = loudness[:, 1], loudness[:, -2]
    a, error = levinson(scipy.fft.irfft(loudness, axis=1)[:, : order + 1])
    return cepstrum(a, error)


def cepstrum(a: Array, error: Array) -> Array:
    """Cepstrum of the all-pole model √g / (1 − Σ a_k z^−k).

    Args:
        a: [frames, order].
        error: g > 0, [frames].

    Returns:
        c_0 … c_order with c_0 = ln g: [frames, order + 1].
    """
    order = a.shape[1]
    c = np.empty((len(a), order + 1))
    c[:, 0] = np.log(error)
    for n in range(1, order + 1):
        k = np.arange(1, n)
        c[:, n] = a[:, n - 1] + (c[:, k] * a[:, n - k - 1]) @ (k / n)
    return c


def count_bands(sample_rate: int, bands: str) -> int:
    """Number of bands between 0 Hz and half the sample rate."""
    return 1 + math.ceil(float(BANDS[bands][0](np.array(sample_rate / 2.0))))


def equal_loudness(frequency: Array) -> Array:
    """Sensitivity of the ear at 40 phon, relative (equations 7 and 8 of the paper): Hz → factor of power."""
    w2 = (2.0 * np.pi * frequency) ** 2
    below_5_khz = w2**2 * (w2 + 56.8e6) / ((w2 + 6.3e6) ** 2 * (w2 + 0.38e9))
    return np.asarray(below_5_khz * (9.58e26 / (w2**3 + 9.58e26)))


@functools.lru_cache(maxsize=16)
def _filters(sample_rate: int, n_fft: int, bands: str) -> Array:
    """Filters times equal loudness at their centres, [bands, bins]."""
    to_scale, to_hz, response = BANDS[bands]
    centres = np.linspace(0.0, float(to_scale(np.array(sample_rate / 2.0))), count_bands(sample_rate, bands))
    frequency = np.arange(n_fft // 2 + 1) * sample_rate / n_fft
    return np.asarray(equal_loudness(to_hz(centres))[:, None] * response(centres, frequency))
