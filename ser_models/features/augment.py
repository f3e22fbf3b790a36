"""Augmentation for training: the registry of all kinds, their random numbers, and those that change features.

Three kinds, each named in the notation of views (``spec_augment[time_masks=1]``), several joined by commas:

- ``features``: change an array [frames, features] while batches are assembled (this file).
- ``waveform``: change a padded batch of waveforms before a front end in torch (`augment_waveform`).
- ``copy``: make altered copies of a corpus before features are computed (`vocal_tract`).

Random numbers are drawn per example from (seed, epoch, example), per copy from (seed, utterance, copy): a run gives
the same examples whatever the number of workers and whatever shares a batch.
"""

import dataclasses
import hashlib
import importlib
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ser_models.errors import UserError
from ser_models.features import views
from ser_models.features.vocal_tract import warp_knots

AUGMENTATIONS: dict[str, str] = {
    "spec_augment": "ser_models.features.augment:SpecAugment",
    "frequency_warp": "ser_models.features.augment:FrequencyWarp",
    "noise": "ser_models.features.augment_waveform:GaussianNoise",
    "babble": "ser_models.features.augment_waveform:Babble",
    "reverberation": "ser_models.features.augment_waveform:Reverberation",
    "speed": "ser_models.features.augment_waveform:SpeedPerturbation",
    "pitch": "ser_models.features.augment_waveform:PitchShift",
    "gain": "ser_models.features.augment_waveform:Gain",
    "vtlp": "ser_models.features.vocal_tract:Vtlp",
}
"""Name → module and class, imported on first use. A new augmentation is one line here."""


def parse_augmentations(text: str, kinds: Sequence[str]) -> list[Any]:
    """Build what a comma-separated list names, in its order; an empty text is an empty list.

    >>> parse_augmentations("spec_augment[time_masks=1,frequency_masks=0]", ["features"])[0].time_masks
    1

    Raises:
        UserError: the text is malformed, a name or setting is unknown, or one is of another kind.
    """
    built = [_parse(part) for part in views.split_list(text)] if text.strip() else []
    for each in built:
        if each.kind not in kinds:
            wanted = " or ".join(map(repr, kinds))
            raise UserError(
                f"augmentation {each.name!r} is of the kind {each.kind!r}; here {wanted} is needed"
            )
    return built


def generator(seed: int, epoch: int, example: int) -> np.random.Generator:
    """The random numbers of one training example in one epoch; all three are at least 0."""
    return np.random.default_rng([seed, epoch, example])


def copy_generator(utterance: str, copy: int, seed: int = 0) -> np.random.Generator:
    """The random numbers of one altered copy of an utterance, the same on every machine."""
    digest = hashlib.sha256(f"{seed}:{copy}:{utterance}".encode()).digest()
    return np.random.default_rng(list(digest))


@dataclass(frozen=True, kw_only=True)
class SpecAugment:
    """Masks over time and over features (Park et al., Interspeech 2019), without its time warp.

    Each of ``time_masks`` covers t frames from t0 on: t uniform in 0 … min(time_width, ⌊time_share · frames⌋), t0
    uniform where the mask fits; likewise over features. What is masked becomes 0, which is the mean of standardised
    features: standardise first. The widths are our choice for utterances of a few seconds.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "spec_augment"
    kind: ClassVar[str] = "features"

    time_masks: int = 2
    """Number of masks over time."""
    time_width: int = 40
    """Most frames under one mask."""
    time_share: float = 0.2
    """Most of an utterance under one mask."""
    frequency_masks: int = 2
    """Number of masks over features."""
    frequency_width: int = 8
    """Most features under one mask."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        for setting in ("time_masks", "time_width", "frequency_masks", "frequency_width"):
            if getattr(self, setting) < 0:
                raise UserError(f"spec_augment: {setting} must be at least 0, got {getattr(self, setting)}")
        if not 0.0 <= self.time_share <= 1.0:
            raise UserError(f"spec_augment: time_share must lie in [0, 1], got {self.time_share}")

    def __call__(self, features: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """A masked copy of [frames, features]."""
        masked = _checked(self.name, features).copy()
        frames, bands = features.shape
        longest = min(self.time_width, int(self.time_share * frames))
        for _ in range(self.time_masks):
            masked[_mask(frames, longest, rng)] = 0
        for _ in range(self.frequency_masks):
            masked[:, _mask(bands, min(self.frequency_width, bands), rng)] = 0
        return masked


@dataclass(frozen=True, kw_only=True)
class FrequencyWarp:
    """Move the bands of a spectrogram up or down, as another vocal tract length would.

    The warp G of `ser_models.features.vocal_tract` acts on band numbers, with a factor that is drawn once per example,
    uniform between ``low`` and ``high``: y[:, G(k)] = x[:, k], read between two bands by linear interpolation. Made
    for bands in their natural order (spectrogram, mel); cepstral coefficients have no frequency axis to warp. On a
    mel axis a factor on band numbers is not a factor in Hz; the range is our choice.

    Raises:
        UserError: an impossible setting.
    """

    name: ClassVar[str] = "frequency_warp"
    kind: ClassVar[str] = "features"

    low: float = 0.9
    """Smallest factor."""
    high: float = 1.1
    """Largest factor."""
    cutoff: float = 0.6
    """Part of the axis below which band numbers are multiplied by the factor (4800 of 8000 Hz)."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if not 0 < self.low <= self.high:
            raise UserError(
                f"frequency_warp: low and high must be 0 < low <= high, got {self.low} and {self.high}"
            )
        if not 0.0 < self.cutoff < 1.0:
            raise UserError(f"frequency_warp: cutoff must lie between 0 and 1, got {self.cutoff}")

    def __call__(self, features: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """A warped copy of [frames, features]."""
        return self.warp(_checked(self.name, features), rng.uniform(self.low, self.high))

    def warp(self, features: NDArray[Any], factor: float) -> NDArray[Any]:
        """The same with a given factor."""
        top = features.shape[1] - 1
        if top < 1:
            return features.copy()
        origins, targets = warp_knots(factor, self.cutoff * top, top)
        place = np.interp(np.arange(top + 1), targets, origins)
        lower = np.minimum(place.astype(int), top - 1)
        rise = (place - lower).astype(features.dtype)
        result: NDArray[Any] = features[:, lower] * (1 - rise) + features[:, lower + 1] * rise
        return result


def augment_features(
    chain: Sequence[Any], values: Any, lengths: Any, generators: Sequence[np.random.Generator]
) -> Any:
    """Apply augmentations of features to a padded batch, each to the valid frames of its own example.

    Args:
        chain: of the kind ``features``, in order.
        values: torch tensor [batch, time, features] in main memory; it is not changed.
        lengths: [batch] valid frames; an example of none stays as it is.
        generators: one per example.

    Returns:
        A new tensor [batch, time, features]; padding as it was.
    """
    import torch

    arrays = values.numpy().copy()
    for row, (length, rng) in enumerate(zip(lengths.tolist(), generators, strict=True)):
        if length:
            for augmentation in chain:
                arrays[row, :length] = augmentation(arrays[row, :length], rng)
    return torch.from_numpy(arrays)


def _mask(size: int, widest: int, rng: np.random.Generator) -> slice:
    width = int(rng.integers(0, widest, endpoint=True))
    start = int(rng.integers(0, size - width, endpoint=True))
    return slice(start, start + width)


def _checked(name: str, features: NDArray[Any]) -> NDArray[Any]:
    if features.ndim != 2 or not np.issubdtype(features.dtype, np.floating):
        raise ValueError(
            f"{name} needs features [frames, features] of a float type, got {features.dtype} {features.shape}"
        )
    return features


def _parse(text: str) -> Any:
    name, bracket, rest = text.partition("[")
    name = name.strip()
    if name not in AUGMENTATIONS:
        raise UserError(f"there is no augmentation {name!r}; there are {', '.join(AUGMENTATIONS)}")
    module, _, attribute = AUGMENTATIONS[name].partition(":")
    made = getattr(importlib.import_module(module), attribute)
    if bracket and not rest.endswith("]"):
        raise UserError(f"augmentation {text!r}: nothing may follow the closing bracket")
    hints = typing.get_type_hints(made)
    kinds = {field.name: (hints[field.name],) for field in dataclasses.fields(made)}
    settings: dict[str, Any] = {}
    for assignment in rest[:-1].split(",") if bracket else []:
        key, equals, value = (part.strip() for part in assignment.partition("="))
        if not equals or key not in kinds or key in settings:
            raise UserError(
                f"augmentation {text!r}: settings are written name=value, each once; "
                f"got {assignment.strip()!r}, the names are {', '.join(kinds)}"
            )
        settings[key] = views.read_value(value, kinds[key])
        if not views.is_of(settings[key], kinds[key]):
            raise UserError(
                f"augmentation {name!r}: {key} must be {views.described(kinds[key])}, got {value!r}"
            )
    return made(**settings)
