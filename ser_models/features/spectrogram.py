"""The short-time spectrum in dB below its loudest point: the picture that CA-MSER looks at.

The numbers are those of ``librosa.stft`` and ``librosa.amplitude_to_db(ref=np.max)`` in a fraction of their time:
a transform in single precision over blocks of frames, and logarithms only of the bins that are kept.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.framing import (
    DYNAMIC_RANGE,
    centred_frames,
    centred_window,
    check_positive,
    check_preemphasis,
    check_waveform,
    check_window,
    emphasise,
    power_spectra,
    to_decibels,
)
from ser_models.features.media import LIBRARIES, Waveform


@dataclass(frozen=True, kw_only=True)
class Spectrogram:
    """Short-time spectrum in dB, [frames, bins] float32 in [−80, 0].

    With x the signal after pre-emphasis, padded by n_fft/2 zeros on both sides, and w the periodic window,
    centred in the transform::

        P[t, f] = |Σ_n w[n] x[t · hop + n] exp(−2πi f n / n_fft)|²
        S[t, f] = 10 log10 max(1e-10, P[t, f]) − 10 log10 max(1e-10, max P),  at least −80

    The maximum is over all bins, also those above the lowest ``bins`` that are kept. Frames:
    1 + samples // hop_length (for even n_fft).

    The defaults are CA-MSER's: 40 ms each 10 ms under a Hamming window, 20 Hz per bin up to 4 kHz. Its librosa,
    if older than 0.9, reflected the signal at both ends where this one has zeros. Scaling to an image, padding
    and cutting into segments belong to the system, for its scaler is fitted on the training part.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "spectrogram"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "scipy")
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 16000
    """Hz; recordings are resampled to it."""
    n_fft: int = 800
    """Samples per transform."""
    win_length: int | None = 640
    """Samples under the window, centred in the transform; None is ``n_fft``."""
    hop_length: int = 160
    """Samples between frames."""
    window: str = "hamming"
    """hann, hamming or rectangular."""
    bins: int = 200
    """How many of the lowest bins are kept, of sample_rate / n_fft Hz each."""
    preemphasis: float = 0.97
    """Coefficient a of y[n] = x[n] − a x[n−1]; 0 is none."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        check_positive(
            self.name,
            sample_rate=self.sample_rate,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            bins=self.bins,
        )
        check_window(self.name, self.window, self.win_length, self.n_fft)
        check_preemphasis(self.name, self.preemphasis)
        if self.bins > 1 + self.n_fft // 2:
            raise UserError(
                f"spectrogram: bins must not exceed 1 + n_fft // 2 ({1 + self.n_fft // 2}), got {self.bins}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (self.bins,)

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
        """Compute the spectrogram.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be the view's own.

        Returns:
            [frames, bins] float32, dB.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        check_waveform(self.name, waveform, sample_rate, self.sample_rate)
        frames = centred_frames(emphasise(waveform, self.preemphasis), self.n_fft, self.hop_length)
        window = centred_window(self.window, self.win_length or self.n_fft, self.n_fft)
        levels = np.empty((len(frames), self.bins), dtype=np.float32)
        peak = np.zeros(1, dtype=np.float32)
        for block, power in power_spectra(frames, window, self.n_fft):
            peak = np.maximum(peak, power.max())
            levels[block] = power[:, : self.bins]
        to_decibels(levels)
        levels -= to_decibels(peak)
        return np.maximum(levels, -DYNAMIC_RANGE, out=levels)
