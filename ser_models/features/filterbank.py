"""Logarithmic mel energies as ``python_speech_features.logfbank`` computes them: AVDAL's front end.

python_speech_features 0.6 builds its filters and the indices of its frames anew for every utterance, in loops and
in double precision; here filters are kept per process and the transform is in single precision.
"""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.framing import (
    Bank,
    check_positive,
    check_preemphasis,
    check_waveform,
    emphasise,
    filter_bank,
    filtered,
)
from ser_models.features.media import LIBRARIES, Waveform
from ser_models.features.waveform import to_int16

SILENCE = float(np.finfo(np.float64).eps)
"""Energy in place of exactly 0, whose logarithm is −36.04."""


@dataclass(frozen=True, kw_only=True)
class LogFilterbank:
    """Natural logarithm of mel-band energies, [frames, n_filters] float32.

    With s the waveform as 16-bit integers (see `ser_models.features.waveform`), zero beyond its end::

        y[0] = s[0],  y[n] = s[n] − preemphasis · s[n − 1]
        P[t, f] = |Σ_{n < win_length} y[t · hop + n] exp(−2πi f n / n_fft)|² / n_fft      (rectangular window)
        F[t, m] = ln Σ_f H[m, f] P[t, f],  with 2.2e-16 in place of a sum of 0

    H are triangles of height 1 between neighbouring bins b_j = ⌊(n_fft + 1) hz(j) / sample_rate⌋, where hz(j) are
    n_filters + 2 points equally spaced on HTK's mel scale from 0 Hz to half the sample rate. Frames:
    1 + ⌈(samples − win_length) / hop_length⌉, and 1 for anything shorter than a frame; the last one is filled up
    with zeros.

    The defaults are AVDAL's (AV4SER): 40 filters, 25 ms each 10 ms at 16 kHz, no normalisation. Recordings at
    another rate are rounded to 16 bits after resampling, as if they had been stored at 16 kHz: our choice.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "log_filterbank"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "scipy")
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 16000
    """Hz; recordings are resampled to it."""
    n_filters: int = 40
    """Number of mel bands."""
    n_fft: int = 512
    """Samples per transform."""
    win_length: int = 400
    """Samples per frame."""
    hop_length: int = 160
    """Samples between frames."""
    preemphasis: float = 0.97
    """Coefficient a of y[n] = s[n] − a s[n−1]; 0 is none."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        check_positive(
            self.name,
            sample_rate=self.sample_rate,
            n_filters=self.n_filters,
            n_fft=self.n_fft,
            win_length=self.win_length,
            hop_length=self.hop_length,
        )
        check_preemphasis(self.name, self.preemphasis)
        if self.win_length > self.n_fft:
            raise UserError(
                f"log_filterbank: win_length ({self.win_length}) must not exceed n_fft ({self.n_fft})"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (self.n_filters,)

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
        """Compute the energies.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be the view's own.

        Returns:
            [frames, n_filters] float32.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        check_waveform(self.name, waveform, sample_rate, self.sample_rate)
        samples = emphasise(to_int16(waveform).astype(np.float32), self.preemphasis)
        steps = max(0, math.ceil((len(samples) - self.win_length) / self.hop_length))
        padded = np.pad(samples, (0, steps * self.hop_length + self.win_length - len(samples)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.win_length)[:: self.hop_length]
        bank = _mel_filters(self.sample_rate, self.n_fft, self.n_filters)
        energy = filtered(frames, None, self.n_fft, bank, self.n_filters)
        energy[energy == 0] = SILENCE
        return np.log(energy, out=energy)


@functools.lru_cache(maxsize=16)
def _mel_filters(sample_rate: int, n_fft: int, n_filters: int) -> Bank:
    """Triangles between whole bins, divided by n_fft to take in the power spectrum's own factor."""
    mels = np.linspace(0.0, 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0), n_filters + 2)
    edges = np.floor((n_fft + 1) * 700.0 * (10.0 ** (mels / 2595.0) - 1.0) / sample_rate)
    bins = np.arange(n_fft // 2 + 1)
    filters = np.zeros((n_filters, len(bins)))
    for band, (low, centre, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        # An edge between two equal bins has no width and therefore no bins to divide.
        rising, falling = (low <= bins) & (bins < centre), (centre <= bins) & (bins < high)
        filters[band, rising] = (bins[rising] - low) / max(centre - low, 1)
        filters[band, falling] = (high - bins[falling]) / max(high - centre, 1)
    return filter_bank((filters / n_fft).astype(np.float32))
