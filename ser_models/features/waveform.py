"""The samples themselves as 16-bit integers: what encoders, augmentation and segments of raw sound start from."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.features.framing import check_positive, check_waveform
from ser_models.features.media import LIBRARIES, Waveform

FULL_SCALE = 32768
"""Integer that stands for an amplitude of 1."""


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Samples of a waveform, [samples] int16; divided by 32768 they are the waveform again.

    s[n] = x[n] · 32768 rounded to the nearest integer, halves to the even one, and clipped to −32768 … 32767.
    A 16-bit file at the view's own sample rate comes back bit for bit. Clipped is what lies beyond full scale, in
    floating-point files or where resampling overshoots.
    """

    name: ClassVar[str] = "waveform"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = LIBRARIES
    dtype: ClassVar[str] = "int16"

    sample_rate: int = 16000
    """Hz; recordings are resampled to it."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        check_positive(self.name, sample_rate=self.sample_rate)

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result: none."""
        return ()

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.int16]:
        """Round the samples.

        Args:
            waveform: [samples] float32, 1 is full scale.
            sample_rate: Hz; must be the view's own.

        Returns:
            [samples] int16.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        check_waveform(self.name, waveform, sample_rate, self.sample_rate)
        return to_int16(waveform)


def to_int16(waveform: Waveform) -> NDArray[np.int16]:
    """16-bit samples of a waveform.

    >>> to_int16(np.array([0.5, -1, 1, 1.5 / 32768, 2.5 / 32768], dtype=np.float32)).tolist()
    [16384, -32768, 32767, 2, 2]
    """
    scaled = waveform * np.float32(FULL_SCALE)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -FULL_SCALE, FULL_SCALE - 1, out=scaled)
    return scaled.astype(np.int16)
