"""Views computed by openSMILE (Eyben et al., 2010, ACM Multimedia), which is installed apart.

openSMILE's licence allows research and private use only. It reads 16-bit samples: a waveform is limited to what
these can hold and then cut to them by the package.
"""

import functools
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features.framing import check_waveform
from ser_models.features.media import LIBRARIES, MediaError, Waveform

CONFIGURATION = Path(__file__).with_name("low_level_descriptors.conf")
"""What openSMILE is told for `LowLevelDescriptors`."""

FUNCTIONALS = {"egemaps": ("eGeMAPSv02", 88), "compare": ("ComParE_2016", 6373)}
"""Set → its name in openSMILE and the number of its functionals."""

_LARGEST = np.float32(32767 / 32768)  # 1.0 itself would wrap round to the most negative 16-bit sample


@dataclass(frozen=True, kw_only=True)
class LowLevelDescriptors:
    """The 45 low-level descriptors of MAEC and of the system it builds on, [frames, 45] float32.

    A frame every 10 ms; columns are named by `columns`::

        16  F0 (Hz, 0 where unvoiced), probability of voicing, zero crossings, loudness, MFCC 1-12
        16  their first differences (regression over 2 frames on either side)
        13  second differences of loudness and MFCC 1-12

    Everything is smoothed over 3 frames before it is differentiated. Windows are Hamming of 25 ms, for pitch Gaussian
    of 60 ms (subharmonic summation, 52 to 620 Hz); 26 mel bands lie between 0 and 8000 Hz.

    Source: Fu et al. name 45 values and openSMILE's emobase2010, no more. Which descriptors, the frames and the
    bands are those of Yeh et al. (2019, Interaction-aware attention network), on which they build. Yeh et al. take
    emobase's autocorrelation for pitch; ours is emobase2010's: on 24 RAVDESS recordings 37 % of the frames that emobase
    finds voiced are more than a fifth of an octave off Boersma's F0, and 5 % of those of emobase2010. The order of
    the columns and openSMILE 3 in place of 2.3 are ours too. Per-speaker standardisation is a transform, not part of
    the view.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "low_level_descriptors"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "opensmile")
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 16000
    """Hz; at least 16000, because the mel bands reach 8000 Hz."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if self.sample_rate < 16000:
            raise UserError(f"{self.name}: sample_rate must be at least 16000, got {self.sample_rate}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (45,)

    @property
    def columns(self) -> list[str]:
        """Names of the 45 columns, as openSMILE gives them."""
        return list(self._extractor().feature_names)

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
        """Compute the descriptors.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be the view's own.

        Returns:
            [frames, 45] float32.

        Raises:
            MediaError: the waveform is too short for a frame.
            UserError: the package ``opensmile`` is not installed.
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        return _extract(self._extractor(), self.name, waveform, sample_rate, self.sample_rate)

    def _extractor(self) -> Any:
        return _extractor(str(CONFIGURATION), "descriptors", self.sample_rate)


@dataclass(frozen=True, kw_only=True)
class Functionals:
    """Statistics of a whole utterance as openSMILE ships them, [1, n] float32.

    ``egemaps``: 88 values of eGeMAPSv02 (Eyben et al., 2016, IEEE Trans. Affective Computing 7(2));
    ``compare``: 6373 of ComParE 2016 (Schuller et al., 2016, Interspeech). They are the usual input of a
    support vector machine.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "functionals"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "opensmile")
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 16000
    """Hz; recordings are resampled to it."""
    set: str = "egemaps"
    """egemaps or compare."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if self.set not in FUNCTIONALS:
            raise UserError(f"{self.name}: set {self.set!r} is not one of {', '.join(FUNCTIONALS)}")
        if self.sample_rate < 16000:
            raise UserError(f"{self.name}: sample_rate must be at least 16000, got {self.sample_rate}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (FUNCTIONALS[self.set][1],)

    @property
    def columns(self) -> list[str]:
        """Names of the columns, as openSMILE gives them."""
        return list(self._extractor().feature_names)

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
        """Compute the functionals.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be the view's own.

        Returns:
            [1, n] float32.

        Raises:
            MediaError: the waveform is too short for a frame.
            UserError: the package ``opensmile`` is not installed.
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        return _extract(self._extractor(), self.name, waveform, sample_rate, self.sample_rate)

    def _extractor(self) -> Any:
        return _extractor(FUNCTIONALS[self.set][0], "func", self.sample_rate)


@functools.lru_cache(maxsize=8)
def _extractor(features: str, level: str, sample_rate: int) -> Any:
    """An ``opensmile.Smile``, made once per process because it can be neither pickled nor shared."""
    try:
        import opensmile
    except ImportError as error:
        raise UserError(
            "this view needs the package opensmile, whose licence is non-commercial; "
            "if that suits you: pip install 'ser_models[opensmile]'"
        ) from error
    return opensmile.Smile(
        getattr(opensmile.FeatureSet, features, features), level, sampling_rate=sample_rate, loglevel=0
    )


def _extract(
    extractor: Any, name: str, waveform: Waveform, sample_rate: int, expected_rate: int
) -> NDArray[np.float32]:
    check_waveform(name, waveform, sample_rate, expected_rate)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Segment too short", UserWarning)  # said by the MediaError below
        table = extractor.process_signal(np.clip(waveform, -1.0, _LARGEST), sample_rate)
    values: NDArray[np.float32] = table.to_numpy(dtype=np.float32)
    if not np.isfinite(values).all():
        raise MediaError(f"{len(waveform) / sample_rate:.3f} s are too short for openSMILE")
    return values
