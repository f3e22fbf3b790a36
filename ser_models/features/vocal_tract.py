"""Vocal tract length perturbation (Jaitly and Hinton, 2013): the same words from a longer or shorter vocal tract.

Frequencies up to a cutoff are multiplied by a factor, those above are squeezed or stretched so that half the
sample rate stays where it is. With F the cutoff and S the sample rate::

    G(f) = α f                                                     for f ≤ F min(α, 1) / α
    G(f) = S/2 − (S/2 − F min(α, 1)) / (S/2 − F min(α, 1) / α) · (S/2 − f)      above
"""

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import scipy.signal
import scipy.sparse
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.media import Waveform

RULES = ("jaitly", "nlpaug")

_NLPAUG_FRAME = 2048  # librosa's default; the hop is a quarter of it


def warp_knots(factor: float, cutoff: float, top: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The three points between which G is linear: frequencies, and where they go.

    Args:
        factor: α.
        cutoff: F, in the unit of ``top``.
        top: the highest frequency, which stays.

    >>> [knots.tolist() for knots in warp_knots(1.2, 4800, 8000)]
    [[0.0, 4000.0, 8000.0], [0.0, 4800.0, 8000.0]]

    Raises:
        ValueError: the factor is not positive, or the cutoff does not lie between 0 and ``top``.
    """
    if factor <= 0 or not 0 < cutoff < top:
        raise ValueError(
            f"a factor above 0 and a cutoff between 0 and {top:g} are needed, got {factor:g} and {cutoff:g}"
        )
    bend = cutoff * min(factor, 1.0)
    return np.array([0.0, bend / factor, top]), np.array([0.0, bend, top])


def vtlp(
    waveform: Waveform, sample_rate: int, factor: float, cutoff: float = 4800.0, rule: str = "jaitly"
) -> Waveform:
    """Warp the frequencies of a waveform; its length stays.

    Args:
        waveform: [samples] float32.
        sample_rate: Hz.
        factor: α; above 1 is a shorter vocal tract, with higher formants.
        cutoff: Hz.
        rule: ``jaitly`` is G as above, by a phase vocoder whose result is as loud as the waveform (frames of about
            64 ms, a hop of a quarter): the paper warps filter banks, so that moving a waveform's frequencies, pitch
            included, is our reading. ``nlpaug`` repeats what that library (1.1) does: it pours the complex bins
            of librosa's default spectrum into one another, lays them over 0 … S in place of 0 … S/2 and scales the
            result back, so that at 16 kHz the factor 1.2 moves low frequencies by 1.333, and 0.8 by 0.696; and it
            does not advance phases, so that tones land on the nearest multiple of S / 512 from where they
            were, with their level reduced.

    Returns:
        [samples] float32.

    Raises:
        ValueError: an unknown rule, or as `warp_knots`.
    """
    if rule == "jaitly":
        return _moved_by_phase_vocoder(waveform, sample_rate, factor, cutoff)
    if rule == "nlpaug":
        mover = _nlpaug_mover(sample_rate, float(factor), float(cutoff))
        spectrum = _spectrum(waveform, _NLPAUG_FRAME)
        return _waveform(mover @ spectrum, _NLPAUG_FRAME, len(waveform))
    raise ValueError(f"rule must be one of {', '.join(RULES)}, got {rule!r}")


def _moved_by_phase_vocoder(waveform: Waveform, sample_rate: int, factor: float, cutoff: float) -> Waveform:
    """Each new bin takes magnitude and instantaneous frequency from where G brings it from."""
    origins, targets = warp_knots(factor, cutoff, sample_rate / 2)
    frame = int(2 ** round(np.log2(0.064 * sample_rate)))
    hop, bins = frame // 4, frame // 2 + 1
    spectrum = _spectrum(waveform, frame)
    place = np.interp(np.linspace(0, sample_rate / 2, bins), targets, origins) / sample_rate * frame
    lower = np.minimum(place.astype(int), bins - 2)
    rise = (place - lower)[:, None]
    magnitude = np.abs(spectrum)
    magnitude = magnitude[lower] * (1 - rise) + magnitude[lower + 1] * rise
    phase = np.angle(spectrum)
    centre = 2 * np.pi * np.arange(bins)[:, None] / frame  # radians per sample
    deviation = np.diff(phase, axis=1) - centre * hop
    deviation -= 2 * np.pi * np.round(deviation / (2 * np.pi))
    frequency = (centre + deviation / hop) * sample_rate / (2 * np.pi)
    source = np.minimum(np.round(place).astype(int), bins - 1)
    found = frequency[source]
    beyond = found - np.clip(found, 0, sample_rate / 2)  # in noise the lowest bin may run backwards
    advance = (np.interp(found, origins, targets) + beyond) / sample_rate * 2 * np.pi * hop
    # Neighbouring bins of one tone alternate in sign, because a frame's phases refer to its start.
    first = phase[source, :1] + np.pi * (np.arange(bins) - source)[:, None]
    angle = np.concatenate([first, first + np.cumsum(advance, axis=1)], axis=1)
    moved = _waveform(magnitude * np.exp(1j * angle), frame, len(waveform))
    power = float(np.square(moved, dtype=np.float64).sum())
    loudness = np.sqrt(np.square(waveform, dtype=np.float64).sum() / power) if power else 0.0
    return moved * np.float32(loudness)


@functools.lru_cache(maxsize=64)
def _nlpaug_mover(sample_rate: int, factor: float, cutoff: float) -> Any:
    """Sparse [bins, bins]: each bin is poured into two, the first and the last stay."""
    half, bins = sample_rate / 2, _NLPAUG_FRAME // 2 + 1
    origins, targets = warp_knots(factor, cutoff, half)
    every = np.arange(bins)
    axis = every / (bins - 1) * sample_rate
    slope = (targets[2] - targets[1]) / (origins[2] - origins[1])
    place = np.where(axis <= origins[1], axis * factor, half - slope * (half - axis))
    place *= (bins - 1) / place.max()
    place[[0, -1]] = 0, bins - 1
    lower = np.minimum(place.astype(int), bins - 2)
    rise = place - lower
    entries = (np.concatenate([1 - rise, rise]), (np.concatenate([lower, lower + 1]), np.tile(every, 2)))
    return scipy.sparse.csr_array(entries, shape=(bins, bins))


def _spectrum(waveform: Waveform, frame: int) -> NDArray[np.complexfloating[Any, Any]]:
    """[bins, frames] with a Hann window, a hop of a quarter of it, and zeros around the waveform."""
    padded = np.pad(waveform, (0, max(0, frame - len(waveform))))
    spectrum: NDArray[np.complexfloating[Any, Any]] = scipy.signal.stft(
        padded, nperseg=frame, noverlap=frame - frame // 4
    )[2]
    return spectrum


def _waveform(spectrum: NDArray[np.complexfloating[Any, Any]], frame: int, length: int) -> Waveform:
    samples = scipy.signal.istft(spectrum, nperseg=frame, noverlap=frame - frame // 4)[1][:length]
    return np.ascontiguousarray(samples, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Vtlp:
    """Offline copies by vocal tract length perturbation: each has its own factor, uniform between two limits.

    The defaults are AVDAL's settings (Wei et al. 2022, authors' code: nlpaug at 16 kHz, cutoff 4800 Hz, factors 0.8 to
    1.2, seven copies) under the rule of the paper that the method comes from; ``rule=nlpaug`` is what AVDAL ran.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "vtlp"
    VERSION: ClassVar[int] = 1
    """Raised whenever copies change: it is part of their shards' fingerprint."""
    kind: ClassVar[str] = "copy"

    low: float = 0.8
    """Smallest factor."""
    high: float = 1.2
    """Largest factor."""
    cutoff: float = 4800.0
    """Hz, below which frequencies are multiplied by the factor."""
    rule: str = "jaitly"
    """jaitly or nlpaug."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if not 0 < self.low <= self.high:
            raise UserError(f"vtlp: low and high must be 0 < low <= high, got {self.low} and {self.high}")
        if self.cutoff <= 0:
            raise UserError(f"vtlp: cutoff must be positive, got {self.cutoff}")
        if self.rule not in RULES:
            raise UserError(f"vtlp: rule must be one of {', '.join(RULES)}, got {self.rule!r}")

    def __call__(self, waveform: Waveform, sample_rate: int, rng: np.random.Generator) -> Waveform:
        """A copy of a waveform, as long as it.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz.
            rng: decides the factor; `ser_models.features.augment.copy_generator` gives one per utterance and copy.

        Raises:
            UserError: the cutoff does not lie below half the sample rate.
        """
        if self.cutoff >= sample_rate / 2:
            raise UserError(
                f"vtlp: cutoff ({self.cutoff:g} Hz) must lie below half the sample rate, {sample_rate / 2:g} Hz"
            )
        return vtlp(waveform, sample_rate, rng.uniform(self.low, self.high), self.cutoff, self.rule)
