"""Preparation of a waveform before a view sees it: noise reduction, removal of silence, common loudness.

Each step is a pure function ``step(waveform, sample_rate, **settings) -> waveform`` of one utterance alone, so that
nothing of other utterances leaks into it. None of them is part of a published system here; they are for studies of
noise and of recording conditions.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
import scipy.fft
import scipy.signal
import scipy.special

from ser_models.errors import UserError
from ser_models.features import short_time
from ser_models.features.media import Waveform
from ser_models.features.short_time import Array

VERSION = 1
"""Of all steps together; raised whenever the output of one changes."""

_DENOISE_WINDOW = 0.032  # seconds; shifted by half of it
_VAD_WINDOW, _VAD_STEP = 0.025, 0.01  # seconds
_FADE = 0.005  # seconds of crossfade where a pause was cut

_BLOCK, _BLOCK_STEP = 0.4, 0.1  # seconds (ITU-R BS.1770-4)
_HIGH_PASS_GAIN = 1.0049949  # of the standard's high-pass at high frequencies, kept at every rate
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0  # LUFS, LU


def denoise(
    waveform: Waveform,
    sample_rate: int,
    *,
    noise_share: float = 0.1,
    smoothing: float = 0.98,
    least_snr: float = -25.0,
) -> Waveform:
    """Reduce stationary noise: minimum mean square error of the log spectral amplitude.

    Ephraim and Malah (1985, IEEE Trans. ASSP 33(2)). For each bin, with the noise power λ, γ = |X|² / λ and the
    decision-directed ξ = α |previous clean amplitude|² / λ + (1 − α) max(γ − 1, 0)::

        v = ξ γ / (1 + ξ),  gain = ξ / (1 + ξ) · exp(½ E₁(v)),  not above 1

    The noise power is the mean spectrum of the quietest frames that are not digital silence: this needs pauses and
    noise that stays the same. That estimate, the bound of the gain and the windows (32 ms, square root of Hann,
    half overlapped) are our choice; α and the least ξ are usual values. The result is as loud as the input is: a
    factor before equals a factor after.

    Args:
        waveform: [samples].
        sample_rate: Hz.
        noise_share: share of the frames, the quietest, that hold noise alone.
        smoothing: α.
        least_snr: dB, lower bound of ξ: how much of the noise stays.

    Returns:
        [samples] float32.

    Raises:
        UserError: an impossible setting.
    """
    if not 0.0 < noise_share <= 1.0 or not 0.0 <= smoothing < 1.0:
        raise UserError(
            f"denoise: noise_share must lie in (0, 1] and smoothing in [0, 1), got {noise_share} and {smoothing}"
        )
    hop = max(1, round(_DENOISE_WINDOW * sample_rate / 2.0))
    window = np.sqrt(scipy.signal.windows.hann(2 * hop, sym=False))
    framed = short_time.frames(np.pad(waveform, (0, hop)), 2 * hop, hop)
    spectrum = scipy.fft.rfft(framed * window)
    power = spectrum.real**2 + spectrum.imag**2
    energy = power.sum(axis=1)
    audible = np.flatnonzero(energy > 1e-10 * energy.max(initial=0.0))
    if not len(audible):
        return waveform.astype(np.float32)
    quietest = audible[np.argsort(energy[audible], kind="stable")]
    noise = power[quietest[: max(1, round(noise_share * len(quietest)))]].mean(axis=0)
    snr = power / np.maximum(noise, 1e-12 * noise.max())
    clean = spectrum * _lsa_gain(snr, smoothing, 10.0 ** (least_snr / 10.0))

    parts = scipy.fft.irfft(clean, 2 * hop) * window
    result = np.zeros((len(parts) + 1) * hop)
    result[:-hop] += parts[:, :hop].ravel()
    result[hop:] += parts[:, hop:].ravel()
    return result[hop : hop + len(waveform)].astype(np.float32)


def _lsa_gain(snr: Array, smoothing: float, least: float) -> Array:
    """Gain of each bin from its a-posteriori signal-to-noise ratio γ: [frames, bins] → [frames, bins]."""
    gain = np.empty_like(snr)
    before = np.ones(snr.shape[1])  # amplitude² of the last clean frame over the noise
    for t, gamma in enumerate(snr):
        xi = np.maximum(smoothing * before + (1.0 - smoothing) * np.maximum(gamma - 1.0, 0.0), least)
        wiener = xi / (1.0 + xi)
        v = np.maximum(wiener * gamma, 1e-10)  # E₁ is infinite at 0
        gain[t] = np.minimum(wiener * np.exp(0.5 * scipy.special.exp1(v)), 1.0)
        before = gain[t] ** 2 * gamma
    return gain


def vad(
    waveform: Waveform, sample_rate: int, *, longest_pause: float = 0.3, margin: float = 0.05
) -> Waveform:
    """Cut silence off both ends and shorten long pauses.

    A frame (25 ms every 10 ms) is silent by its energy relative to the utterance (`short_time.is_silent`); what
    lies within ``margin`` of a frame that is not silent is kept. A pause longer than ``longest_pause`` keeps half of
    that at either side, joined by a crossfade of 5 ms. An utterance that is silent throughout stays as it is.

    Args:
        waveform: [samples].
        sample_rate: Hz.
        longest_pause: seconds.
        margin: seconds kept before the first and after the last sound.

    Returns:
        [samples or fewer] float32.

    Raises:
        UserError: an impossible setting.
    """
    if not longest_pause >= 2.0 * margin >= 0.0:
        raise UserError(
            f"vad: margin ({margin}) must be at least 0 and at most half of longest_pause ({longest_pause})"
        )
    hop = max(1, round(_VAD_STEP * sample_rate))
    framed = short_time.frames(waveform, round(_VAD_WINDOW * sample_rate), hop)
    sounding = np.flatnonzero(~short_time.is_silent(short_time.energy_db(framed)))
    if not len(sounding):
        return waveform.astype(np.float32)
    gaps = np.flatnonzero((np.diff(sounding) - 1) * hop > longest_pause * sample_rate)
    half_frame, half_pause = hop // 2, round(longest_pause / 2.0 * sample_rate)
    edge = round(margin * sample_rate)
    begins = [sounding[0] * hop - half_frame - edge, *(sounding[gaps + 1] * hop - half_frame - half_pause)]
    ends = [*(sounding[gaps] * hop + half_frame + half_pause), sounding[-1] * hop + half_frame + edge]
    parts = [waveform[max(0, int(begin)) : int(end)] for begin, end in zip(begins, ends, strict=True)]
    return _joined(parts, round(_FADE * sample_rate))


def _joined(parts: list[Waveform], fade: int) -> Waveform:
    """Parts one after another, overlapping by ``fade`` samples in a linear crossfade."""
    rise = np.linspace(0.0, 1.0, fade + 2, dtype=np.float32)[1:-1]
    result = parts[0].astype(np.float32)
    for part in parts[1:]:
        length = min(fade, len(result), len(part))
        ramp = rise if length == fade else np.linspace(0.0, 1.0, length + 2, dtype=np.float32)[1:-1]
        overlap = result[len(result) - length :] * (1.0 - ramp) + part[:length] * ramp
        result = np.concatenate([result[: len(result) - length], overlap, part[length:]])
    return result


def loudness(
    waveform: Waveform, sample_rate: int, *, measure: str = "lufs", target: float = -23.0, peak: float = 1.0
) -> Waveform:
    """Bring an utterance to a common level.

    ``lufs`` is the gated loudness of ITU-R BS.1770-4, whose target of −23 is EBU R 128's; an utterance shorter than
    one block of 0.4 s is one block. ``rms`` is the level of the frames that are not silent (`short_time.is_silent`),
    in dB of full scale. One factor is applied to all samples, smaller than the target asks where the largest
    sample would exceed ``peak``. Silence stays silence.

    Args:
        waveform: [samples].
        sample_rate: Hz.
        measure: lufs or rms.
        target: LUFS or dB.
        peak: largest absolute sample allowed.

    Returns:
        [samples] float32.

    Raises:
        UserError: an impossible setting.
    """
    if measure not in MEASURES:
        raise UserError(f"loudness: measure {measure!r} is not one of {', '.join(MEASURES)}")
    if not peak > 0.0:
        raise UserError(f"loudness: peak must be above 0, got {peak}")
    largest = float(np.abs(waveform).max())
    if largest == 0.0:
        return waveform.astype(np.float32)
    level = MEASURES[measure](np.asarray(waveform, dtype=np.float64) / largest, sample_rate)
    # Measured at full scale, so that the absolute gate and the floors do not depend on the input's level.
    factor = min(10.0 ** ((target - level) / 20.0), peak)
    return (waveform * np.float32(factor / largest)).astype(np.float32)


def lufs(waveform: Array, sample_rate: int) -> float:
    """Integrated loudness of a mono signal (ITU-R BS.1770-4): −0.691 + 10 log₁₀ of the gated mean square.

    The signal passes the K-weighting; blocks of 0.4 s, a quarter apart, count if they are above −70 LUFS and above
    the mean of those less 10 LU. −70 where no block counts.
    """
    weighted = waveform
    for numerator, denominator in _k_weighting(sample_rate):
        weighted = scipy.signal.lfilter(numerator, denominator, weighted)
    length = min(len(weighted), round(_BLOCK * sample_rate))
    squares = np.concatenate([[0.0], np.cumsum(weighted**2)])
    starts = np.arange(0, len(weighted) - length + 1, max(1, round(_BLOCK_STEP * sample_rate)))
    power = np.maximum((squares[starts + length] - squares[starts]) / length, 1e-30)
    loud = power[_lufs_of(power) > _ABSOLUTE_GATE]
    if not len(loud):
        return _ABSOLUTE_GATE
    gated = loud[_lufs_of(loud) > _lufs_of(loud.mean()) + _RELATIVE_GATE]
    return float(_lufs_of(gated.mean()))


def rms(waveform: Array, sample_rate: int) -> float:
    """Root mean square in dB of the frames (25 ms every 10 ms) that are not silent."""
    hop = max(1, round(_VAD_STEP * sample_rate))
    energy = short_time.energy_db(short_time.frames(waveform, round(_VAD_WINDOW * sample_rate), hop))
    sounding = energy[~short_time.is_silent(energy)]
    chosen = sounding if len(sounding) else energy
    return float(10.0 * np.log10(np.mean(10.0 ** (chosen / 10.0))))


MEASURES: dict[str, Callable[[Array, int], float]] = {"lufs": lufs, "rms": rms}


def _lufs_of(power: Array | float) -> Array:
    return np.asarray(-0.691 + 10.0 * np.log10(power))


@functools.lru_cache(maxsize=8)
def _k_weighting(sample_rate: int) -> tuple[tuple[Array, Array], ...]:
    """The two filters of the standard, given there for 48 kHz, at another rate: numerator and denominator each.

    The analogue prototypes behind the standard's coefficients are a shelf of +4 dB (1681.97 Hz, Q 0.7072) and a
    high-pass (38.14 Hz, Q 0.5003); the bilinear transform brings them to any rate.
    """
    k = math.tan(math.pi * 1681.974450955533 / sample_rate)
    q = 0.7071752369554196
    high = 10.0 ** (3.999843853973347 / 20.0)
    band = high**0.4996667741545416
    norm = 1.0 + k / q + k * k
    shelf = (
        np.array([high + band * k / q + k * k, 2.0 * (k * k - high), high - band * k / q + k * k]) / norm,
        np.array([norm, 2.0 * (k * k - 1.0), 1.0 - k / q + k * k]) / norm,
    )
    k = math.tan(math.pi * 38.13547087602444 / sample_rate)
    q = 0.5003270373238773
    norm = 1.0 + k / q + k * k
    high_pass = (
        np.array([1.0, -2.0, 1.0]) * (_HIGH_PASS_GAIN / norm),
        np.array([norm, 2.0 * (k * k - 1.0), 1.0 - k / q + k * k]) / norm,
    )
    return shelf, high_pass


STEPS: dict[str, Callable[..., Waveform]] = {"denoise": denoise, "vad": vad, "loudness": loudness}
"""Name → step; its keyword-only arguments are its settings."""
