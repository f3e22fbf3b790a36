"""Acoustic descriptors of prosody, voice quality and spectrum, without any package beyond NumPy and SciPy.

Each descriptor has its own module with formula and source: `short_time` (energy, zero crossings, Teager), `pitch`
(F0, HNR), `perturbation` (jitter, shimmer), `linear_prediction` (coefficients, formants), `perceptual` (PLP) and
`speaking_rate`. Here they are brought to one time grid.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features import linear_prediction, perceptual, perturbation, pitch, short_time, speaking_rate
from ser_models.features.framing import check_waveform
from ser_models.features.media import LIBRARIES, Waveform
from ser_models.features.short_time import Array

GROUPS = ("pitch", "energy", "formants", "quality", "lpc", "plp")
STATISTICS = ("mean", "std", "p5", "p50", "p95")
"""What ``functionals`` takes of each column; percentiles are interpolated linearly."""

FORMANTS = 3
_PERTURBATION_RADIUS = 0.025  # seconds around a frame: five cycles at 100 Hz
_VOICED_ONLY = {"f0", "hnr", "jitter", "shimmer", *(f"formant_{i + 1}" for i in range(FORMANTS))}
_DECISIONS = ("voiced", "unvoiced", "silent")


@dataclass(frozen=True, kw_only=True)
class Descriptors:
    """Descriptors of each frame, [frames, n], or their statistics, [1, n], float32.

    Frame t is centred on sample t · step; there are 1 + samples // step of them. Columns by group, in the order in
    which the groups are named (`columns` lists them):

    - ``pitch``: f0 (Hz, 0 where unvoiced); voiced, unvoiced, silent (one of them 1). Silent is decided by energy
      (`short_time.is_silent`), voiced by the F0 track, unvoiced is the rest.
    - ``energy``: energy (dB of full scale), zero_crossing_rate (share of neighbouring samples), teager (mean of
      x²[n] − x[n−1] x[n+1]).
    - ``formants``: formant_1 … formant_3 (Hz, 0 where silent or not found).
    - ``quality``: hnr (dB), jitter and shimmer (relative, local, of the cycles within 25 ms); 0 where unvoiced.
    - ``lpc``: lpc_1 … lpc_p of s[n] = Σ a_k s[n−k] + e[n]; 0 where silent.
    - ``plp``: plp_0 … plp_p, the cepstrum of perceptual linear prediction.

    With ``functionals`` the columns but the three decisions become mean, standard deviation and 5th, 50th and 95th
    percentile, over the voiced frames (f0, formants, quality) or the frames that are not silent; 0 where there is no
    such frame. Then follow duration (s), speaking_rate (syllable nuclei per second), voiced, unvoiced and silent
    (shares of the frames) and, with ``quality``, jitter_local and shimmer_local of the whole utterance.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "descriptors"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "audio"
    libraries: ClassVar[tuple[str, ...]] = (*LIBRARIES, "scipy")
    dtype: ClassVar[str] = "float32"

    sample_rate: int = 16000
    """Hz; recordings are resampled to it."""
    groups: str = "pitch+energy+formants+quality"
    """Groups joined by +: pitch, energy, formants, quality, lpc, plp."""
    functionals: bool = False
    """Statistics of the utterance in place of frames."""
    window: float = 0.025
    """Seconds per frame; pitch takes three periods of min_pitch, formants 0.05."""
    step: float = 0.01
    """Seconds between frames."""
    min_pitch: float = 75.0
    """Hz."""
    max_pitch: float = 600.0
    """Hz; excited voices reach it."""
    formant_ceiling: float = 5500.0
    """Hz below which five formants are expected; 5000 fits men better."""
    lpc_order: int = 16
    """Coefficients p of group lpc."""
    lpc_method: str = "covariance"
    """covariance (least squares), autocorrelation or burg."""
    plp_order: int = 12
    """Order of the model of group plp."""
    plp_bands: str = "bark"
    """bark or erb."""
    plp_compression: str = "cube_root"
    """cube_root, log or sqrt."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        unknown = [group for group in self._groups if group not in GROUPS]
        if unknown or len(set(self._groups)) < len(self._groups):
            raise UserError(
                f"descriptors: groups {self.groups!r} must be different ones of {', '.join(GROUPS)}, joined by +"
            )
        choices = {
            "lpc_method": tuple(linear_prediction.METHODS),
            "plp_bands": tuple(perceptual.BANDS),
            "plp_compression": tuple(perceptual.COMPRESSIONS),
        }
        for setting, allowed in choices.items():
            if getattr(self, setting) not in allowed:
                raise UserError(
                    f"descriptors: {setting} {getattr(self, setting)!r} is not one of {', '.join(allowed)}"
                )
        if self.sample_rate < 8000:
            raise UserError(f"descriptors: sample_rate must be at least 8000, got {self.sample_rate}")
        if not 0.001 <= self.step <= self.window <= 1.0:
            raise UserError(
                f"descriptors: step ({self.step}) must be at least 0.001 and at most window ({self.window}), "
                "which is at most 1 second"
            )
        if not 20.0 <= self.min_pitch < self.max_pitch <= self.sample_rate / 4:
            raise UserError(
                f"descriptors: min_pitch ({self.min_pitch}) must be at least 20 and less than max_pitch "
                f"({self.max_pitch}), which is at most a quarter of sample_rate ({self.sample_rate})"
            )
        if not 1000.0 <= self.formant_ceiling <= self.sample_rate / 2:
            raise UserError(
                "descriptors: formant_ceiling must lie between 1000 and half of sample_rate "
                f"({self.sample_rate}), got {self.formant_ceiling}"
            )
        if not 1 <= self.lpc_order < self._length / 2:
            raise UserError(
                f"descriptors: lpc_order must be at least 1 and less than half of the {self._length} samples of a "
                f"window, got {self.lpc_order}"
            )
        most = perceptual.count_bands(self.sample_rate, self.plp_bands) - 1
        if not 1 <= self.plp_order <= most:
            raise UserError(
                f"descriptors: plp_order must lie between 1 and {most} with {self.plp_bands} bands, "
                f"got {self.plp_order}"
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        by_group = {
            "pitch": ("f0", *_DECISIONS),
            "energy": ("energy", "zero_crossing_rate", "teager"),
            "formants": tuple(f"formant_{i + 1}" for i in range(FORMANTS)),
            "quality": ("hnr", "jitter", "shimmer"),
            "lpc": tuple(f"lpc_{i + 1}" for i in range(self.lpc_order)),
            "plp": tuple(f"plp_{i}" for i in range(self.plp_order + 1)),
        }
        frame = tuple(column for group in self._groups for column in by_group[group])
        if not self.functionals:
            return frame
        described = [f"{column}_{s}" for column in frame if column not in _DECISIONS for s in STATISTICS]
        whole = ("jitter_local", "shimmer_local") if "quality" in self._groups else ()
        return (*described, "duration", "speaking_rate", *_DECISIONS, *whole)

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result."""
        return (len(self.columns),)

    def __call__(self, waveform: Waveform, sample_rate: int) -> NDArray[np.float32]:
        """Compute the descriptors.

        Args:
            waveform: [samples] float32.
            sample_rate: Hz; must be the view's own.

        Returns:
            [frames, n], or [1, n] with ``functionals``, float32.

        Raises:
            ValueError: another sample rate, or not a one-dimensional signal.
        """
        check_waveform(self.name, waveform, sample_rate, self.sample_rate)
        signal = waveform.astype(np.float64)
        framed = short_time.frames(signal, self._length, self._hop)
        energy = short_time.energy_db(framed)
        silent = short_time.is_silent(energy)
        track = pitch.track(signal, sample_rate, self._hop, self.min_pitch, self.max_pitch)
        f0 = np.where(silent, 0.0, track.f0)
        voiced = f0 > 0

        values: dict[str, Array] = {"f0": f0, "energy": energy}
        decisions = {"voiced": voiced, "unvoiced": ~(voiced | silent), "silent": silent}
        values |= {name: chosen.astype(np.float64) for name, chosen in decisions.items()}
        if "energy" in self._groups:
            values["zero_crossing_rate"] = short_time.in_blocks(short_time.zero_crossing_rate, framed)
            values["teager"] = short_time.in_blocks(short_time.teager_energy, framed)
        if "formants" in self._groups:
            found = linear_prediction.formants(signal, sample_rate, self._hop, self.formant_ceiling, FORMANTS)
            values |= _numbered("formant", 1, np.where(silent[:, None], 0.0, found))
        if "lpc" in self._groups:
            values |= _numbered("lpc", 1, np.where(silent[:, None], 0.0, self._prediction(framed)))
        if "plp" in self._groups:
            values |= _numbered("plp", 0, self._perceptual_cepstrum(framed))
        measures: dict[str, perturbation.Perturbation] = {}
        if "quality" in self._groups:
            pulses = perturbation.find_pulses(signal, sample_rate, f0, self._hop)
            measures["jitter"] = perturbation.jitter(pulses)
            measures["shimmer"] = perturbation.shimmer(signal, sample_rate, pulses)
            times = np.arange(len(framed), dtype=np.float64) * (self._hop / sample_rate)
            values["hnr"] = np.where(voiced, track.hnr, 0.0)
            for name, measure in measures.items():
                values[name] = np.where(voiced, measure.around(times, _PERTURBATION_RADIUS), 0.0)

        if not self.functionals:
            return np.stack([values[column] for column in self.columns], axis=1).astype(np.float32)
        duration = len(signal) / sample_rate
        nuclei = speaking_rate.syllable_nuclei(signal, sample_rate, self._hop, voiced)
        numbers = [
            *self._statistics(values, voiced, ~silent),
            duration,
            len(nuclei) / duration,
            *(values[name].mean() for name in _DECISIONS),
            *(measure.local() for measure in measures.values()),
        ]
        return np.array([numbers], dtype=np.float32)

    @property
    def _groups(self) -> tuple[str, ...]:
        return tuple(self.groups.split("+"))

    @property
    def _length(self) -> int:
        return round(self.window * self.sample_rate)

    @property
    def _hop(self) -> int:
        return round(self.step * self.sample_rate)

    def _prediction(self, framed: Array) -> Array:
        """Coefficients of each frame, [frames, lpc_order]."""
        predict = linear_prediction.METHODS[self.lpc_method]
        return short_time.in_blocks(lambda block: predict(block, self.lpc_order), framed)

    def _perceptual_cepstrum(self, framed: Array) -> Array:
        """Cepstrum of each frame, [frames, plp_order + 1]."""
        return short_time.in_blocks(
            lambda block: perceptual.plp(
                block, self.sample_rate, self.plp_order, self.plp_bands, self.plp_compression
            ),
            framed,
        )

    def _statistics(
        self, values: dict[str, Array], voiced: NDArray[np.bool_], sounding: NDArray[np.bool_]
    ) -> list[float]:
        """`STATISTICS` of each column that is not a decision, in the order of `columns`."""
        numbers: list[float] = []
        frame_columns = (column.removesuffix("_mean") for column in self.columns if column.endswith("_mean"))
        for column in frame_columns:
            chosen = values[column][voiced if column in _VOICED_ONLY else sounding]
            if len(chosen):
                numbers += [chosen.mean(), chosen.std(), *np.percentile(chosen, [5.0, 50.0, 95.0])]
            else:
                numbers += [0.0] * len(STATISTICS)
        return numbers


def _numbered(name: str, first: int, columns: Array) -> dict[str, Array]:
    """Name_first, name_(first + 1) and so on → column, from [frames, n]."""
    return {f"{name}_{first + i}": column for i, column in enumerate(columns.T)}
