"""The constant-Q transform in dB below its loudest point, as ``librosa.cqt`` computes it, several times as fast."""

import functools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.framing import FRAMES_AT_ONCE, centred_frames, check_positive, check_waveform
from ser_models.features.media import LIBRARIES, Waveform

_HANN_BANDWIDTH = 1.50018578  # as librosa has it, in bins of a transform as long as the window
_DISCARDED = 0.01  # share of a filter's magnitude that librosa leaves out for the sake of sparse matrices


@dataclass(frozen=True, kw_only=True)
class Cqt:
    """Magnitude of the constant-Q transform in dB, [frames, bins] float32 in [−80, 0].

    Bin k lies at f_k = fmin · 2^(k / b) Hz with b bins per octave. With x the signal, zero beyond both ends, w_k
    the Hann window of N_k = Q · sample_rate / f_k samples around the frame's centre, scaled to unit area, and
    Q = (r² + 1) / (r² − 1), r = 2^(1 / b)::

        X[t, k] = √N_k Σ_n w_k[n] x[t · hop + n] exp(−2πi f_k n / sample_rate)
        C[t, k] = 20 log10 max(1e-5, |X[t, k]|) − 20 log10 max(1e-5, max |X|),  at least −80

    This is ``librosa.amplitude_to_db(abs(librosa.cqt(…)), ref=np.max)`` (Brown 1991; Schörkhuber and Klapuri
    2010), 1 + samples // hop_length frames. The defaults are librosa's; none of the six papers fixes settings.

    As in librosa, the highest octave is computed first and the signal then halved in rate, with the filters'
    spectra (without the least hundredth of their magnitude) applied to the spectra of frames. Unlike librosa, the
    filters are made once per process instead of for every utterance, and frames are transformed in blocks.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "cqt"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "librosa", "scipy")
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 22050
    """Hz; recordings are resampled to it."""
    hop_length: int = 512
    """Samples between frames."""
    bins: int = 84
    """Number of frequency bins."""
    bins_per_octave: int = 12
    """Bins to the octave."""
    fmin: float = 32.70319566257483
    """Hz of the lowest bin; by default the note C1."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        check_positive(
            self.name,
            sample_rate=self.sample_rate,
            hop_length=self.hop_length,
            bins=self.bins,
            bins_per_octave=self.bins_per_octave,
        )
        if not self.fmin > 0:
            raise UserError(f"cqt: fmin must be above 0 Hz, got {self.fmin:g}")
        if self._edge >= self.sample_rate / 2:
            raise UserError(
                f"cqt: bins={self.bins} from {self.fmin:g} Hz reach {self._edge:.0f} Hz; below half the sample rate "
                f"({self.sample_rate / 2:g} Hz) is allowed: take fewer bins, a lower fmin or a higher sample_rate"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (self.bins,)

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
        """Compute the transform.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be the view's own.

        Returns:
            [frames, bins] float32, dB.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        import librosa

        check_waveform(self.name, waveform, sample_rate, self.sample_rate)
        magnitude = np.empty((1 + len(waveform) // self.hop_length, self.bins), dtype=np.float32)
        octaves = _octaves(self)
        # librosa refuses a signal that its first decimation would leave without a sample.
        signal = np.pad(waveform, (0, max(0, octaves[0].decimation - len(waveform))))
        for octave in octaves:
            if octave.decimation > 1:
                signal = librosa.resample(
                    signal, orig_sr=octave.decimation, target_sr=1, res_type="soxr_hq", scale=True
                )
            frames = centred_frames(signal, octave.n_fft, octave.hop_length)
            for start in range(0, len(magnitude), FRAMES_AT_ONCE):
                block = slice(start, min(start + FRAMES_AT_ONCE, len(magnitude)))
                spectrum = scipy.fft.rfft(frames[block])[:, octave.used]
                magnitude[block, octave.bands] = np.abs(spectrum @ octave.filters)
        levels: NDArray[np.float32] = librosa.amplitude_to_db(magnitude, ref=np.max)
        return levels

    @property
    def _quality(self) -> float:
        """Centre frequency over bandwidth."""
        ratio = math.pow(4.0, 1.0 / self.bins_per_octave)
        return (ratio + 1) / (ratio - 1)

    @property
    def _edge(self) -> float:
        """Hz up to which the highest bin's filter reaches."""
        highest = self.fmin * math.pow(2.0, (self.bins - 1) / self.bins_per_octave)
        return highest * (1 + _HANN_BANDWIDTH / 2 / self._quality)


@dataclass(frozen=True)
class _Octave:
    """Filters of up to an octave, for a signal that has been decimated as far as they allow.

    Attributes:
        decimation: by what the signal of the octave above (for the first: the recording) is divided in rate.
        hop_length: samples between frames at the octave's own rate.
        n_fft: samples per frame.
        bands: the bins of the result.
        used: the frequencies that the filters touch.
        filters: [frequencies, bins] complex64.
    """

    decimation: int
    hop_length: int
    n_fft: int
    bands: slice
    used: slice
    filters: NDArray[np.complex64]


@functools.lru_cache(maxsize=4)
def _octaves(view: Cqt) -> list[_Octave]:
    """Filters from the highest octave downwards."""
    import librosa

    count = math.ceil(view.bins / view.bins_per_octave)
    # The recording itself is decimated while the filters leave room above and the hop stays whole to the end.
    room = math.ceil(math.log2(view.sample_rate / 2 / view._edge)) - 2
    twos = (view.hop_length & -view.hop_length).bit_length() - 1
    decimation = 2 ** max(0, min(room, twos - count + 1))
    first_rate = rate = view.sample_rate / decimation
    hop_length = view.hop_length // decimation
    frequencies = view.fmin * 2.0 ** (np.arange(view.bins) / view.bins_per_octave)
    octaves = []
    for stop in range(view.bins, 0, -view.bins_per_octave):
        bands = slice(max(0, stop - view.bins_per_octave), stop)
        kernels, lengths = librosa.filters.wavelet(
            freqs=frequencies[bands], sr=rate, alpha=1 / view._quality, window="hann", norm=1, pad_fft=True
        )
        n_fft = kernels.shape[1]
        spectra = np.fft.fft(kernels * lengths[:, None] / n_fft)[:, : 1 + n_fft // 2]
        filters = librosa.util.sparsify_rows(spectra, quantile=_DISCARDED).toarray()
        filters *= np.sqrt(first_rate / rate) / np.sqrt(lengths * first_rate / rate)[:, None]
        touched = np.flatnonzero(filters.any(axis=0))
        used = slice(int(touched[0]), int(touched[-1]) + 1)
        table = np.ascontiguousarray(filters[:, used].T, dtype=np.complex64)
        octaves.append(_Octave(decimation, hop_length, n_fft, bands, used, table))
        decimation = 2 if hop_length % 2 == 0 else 1
        rate, hop_length = rate / decimation, hop_length // decimation
    return octaves
