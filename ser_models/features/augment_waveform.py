"""Augmentation of waveforms in batches on torch, before a front end in torch or an encoder that is trained.

Every augmentation draws its random numbers per example, so that an example sounds the same whatever shares its batch
(to float32's rounding: 1e-5 of the largest sample) and on whatever device. Each is applied to an example with its
``probability``; lengths are respected: padding stays 0 and neither adds to a level nor rings into anything.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio import functional as audio  # type: ignore[import-untyped]

from ser_models.errors import UserError
from ser_models.features.media import Waveform

_FINEST = 100  # denominator of a change of rate: within 0.1 % of any factor, with a small resampling filter


@dataclass(frozen=True)
class Voices:
    """Utterances of the training part from which babble is made.

    Attributes:
        waveforms: [samples] float32 each, at the batch's sample rate; any sequence, for example over a shard.
        speakers: of each waveform.
    """

    waveforms: Sequence[Waveform]
    speakers: Sequence[str]


@dataclass(frozen=True)
class Sound:
    """A padded batch of waveforms with what augmentations need to know of it.

    Attributes:
        samples: [batch, samples] float32, 0 at and past each length.
        lengths: [batch] int64, on the same device.
        sample_rate: Hz.
        generators: random numbers, one generator per example (`ser_models.features.augment.generator`).
        speakers: of each example; only babble asks.
        voices: where babble comes from.
    """

    samples: Tensor
    lengths: Tensor
    sample_rate: int
    generators: Sequence[np.random.Generator]
    speakers: Sequence[str] = ()
    voices: Voices | None = None

    def mask(self) -> Tensor:
        """[batch, samples] true where there is sound."""
        return torch.arange(self.samples.shape[1], device=self.samples.device) < self.lengths[:, None]

    def power(self, samples: Tensor) -> Tensor:
        """Mean square of other [batch, samples] over each example's length, [batch, 1]; 0 where the length is 0."""
        return samples.square().sum(1, keepdim=True) / self.lengths.clamp(min=1)[:, None]

    def uniform(self, low: float, high: float) -> Tensor:
        """One number per example, [batch, 1]."""
        return self.tensor([[rng.uniform(low, high)] for rng in self.generators])

    def tensor(self, values: Any) -> Tensor:
        """Values as float32 on the samples' device."""
        return torch.as_tensor(values, dtype=torch.float32).to(self.samples.device)

    def drawn(self, probability: float) -> Tensor:
        """[batch, 1] true for the examples that an augmentation is applied to."""
        chosen = [[rng.random() < probability] for rng in self.generators]
        return torch.tensor(chosen, device=self.samples.device)


def augment_waveforms(chain: Sequence[Any], sound: Sound) -> Sound:
    """Apply augmentations of the kind ``waveform`` in order.

    Raises:
        UserError: babble without another speaker's utterances.
    """
    with torch.no_grad():
        for augmentation in chain:
            sound = augmentation(sound)
    return sound


@dataclass(frozen=True, kw_only=True)
class _Sometimes:
    """What all have in common."""

    kind: ClassVar[str] = "waveform"
    name: ClassVar[str]

    probability: float = 0.5
    """Share of the examples that it is applied to."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        if not 0.0 <= self.probability <= 1.0:
            raise UserError(f"{self.name}: probability must lie in [0, 1], got {self.probability}")

    def _check_range(self, low: str, high: str, least: float = -math.inf) -> None:
        smallest, largest = getattr(self, low), getattr(self, high)
        if not least <= smallest <= largest < math.inf:
            bound = "" if least == -math.inf else f"{least:g} <= "
            raise UserError(f"{self.name}: {bound}{low} <= {high} is needed, got {smallest} and {largest}")


@dataclass(frozen=True, kw_only=True)
class Gain(_Sometimes):
    """Multiply by a factor that is uniform in dB."""

    name: ClassVar[str] = "gain"

    low: float = -6.0
    """dB."""
    high: float = 6.0
    """dB."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        self._check_range("low", "high")

    def __call__(self, sound: Sound) -> Sound:
        """The louder or softer batch."""
        chosen, level = sound.drawn(self.probability), sound.uniform(self.low, self.high)
        return replace(sound, samples=torch.where(chosen, sound.samples * 10 ** (level / 20), sound.samples))


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(_Sometimes):
    """Add white noise at a signal-to-noise ratio that is uniform in dB, measured over the example's length."""

    name: ClassVar[str] = "noise"

    snr_low: float = 10.0
    """dB."""
    snr_high: float = 30.0
    """dB."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        self._check_range("snr_low", "snr_high")

    def __call__(self, sound: Sound) -> Sound:
        """The noisier batch."""
        chosen, ratio = sound.drawn(self.probability), sound.uniform(self.snr_low, self.snr_high)
        noise = np.zeros(tuple(sound.samples.shape), np.float32)
        for row, (length, rng) in enumerate(zip(sound.lengths.tolist(), sound.generators, strict=True)):
            noise[row, :length] = rng.standard_normal(length, dtype=np.float32)
        return _mixed(sound, sound.tensor(noise), ratio, chosen)


@dataclass(frozen=True, kw_only=True)
class Babble(_Sometimes):
    """Add the voices of other speakers of the training part, equally loud, at a signal-to-noise ratio in dB.

    Each of the ``talkers`` is an utterance drawn from `Voices`, never of the example's own speaker, that begins at
    a random place and is repeated until the example ends.
    """

    name: ClassVar[str] = "babble"

    snr_low: float = 5.0
    """dB."""
    snr_high: float = 20.0
    """dB."""
    talkers: int = 4
    """Voices at once."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        self._check_range("snr_low", "snr_high")
        if self.talkers < 1:
            raise UserError(f"babble: talkers must be at least 1, got {self.talkers}")

    def __call__(self, sound: Sound) -> Sound:
        """The batch among other voices.

        Raises:
            UserError: no utterance of another speaker is there.
        """
        chosen, ratio = sound.drawn(self.probability), sound.uniform(self.snr_low, self.snr_high)
        noise = np.zeros(tuple(sound.samples.shape), np.float32)
        lengths, applied = sound.lengths.tolist(), chosen[:, 0].tolist()
        for row, rng in enumerate(sound.generators):
            if applied[row] and lengths[row]:
                noise[row, : lengths[row]] = self._crowd(sound, row, lengths[row], rng)
        return _mixed(sound, sound.tensor(noise), ratio, chosen)

    def _crowd(self, sound: Sound, row: int, length: int, rng: np.random.Generator) -> Waveform:
        if sound.voices is None or len(sound.speakers) != len(sound.generators):
            raise ValueError("babble needs the speakers of the batch, and voices")
        others = np.flatnonzero(np.asarray(sound.voices.speakers) != sound.speakers[row])
        if not len(others):
            raise UserError("babble: the training part has no utterance of another speaker; leave babble out")
        crowd = np.zeros(length, np.float32)
        for pick in rng.choice(others, self.talkers, replace=len(others) < self.talkers):
            voice: NDArray[np.float32] = np.asarray(sound.voices.waveforms[int(pick)], np.float32)
            loudness = math.sqrt(float(np.square(voice).mean())) if len(voice) else 0.0
            if loudness:
                begin = int(rng.integers(len(voice)))
                crowd += np.take(voice, np.arange(begin, begin + length), mode="wrap") / loudness
        return crowd


@dataclass(frozen=True, kw_only=True)
class Reverberation(_Sometimes):
    """A synthetic room: the sound itself, and a tail of white noise that falls by 60 dB in ``rt60`` seconds.

    With e[n] white noise and S the sample rate the impulse response is h[0] = 1, h[n] = g e[n] 10^(−3 n / (rt60 S)),
    cut at rt60, g such that the direct sound is ``direct`` dB above the tail. What rings past the end is cut; the
    energy over the example's length is what it was.
    """

    name: ClassVar[str] = "reverberation"

    rt60_low: float = 0.2
    """Seconds."""
    rt60_high: float = 0.8
    """Seconds."""
    direct_low: float = 0.0
    """dB of the direct sound over the tail."""
    direct_high: float = 10.0
    """dB of the direct sound over the tail."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        self._check_range("rt60_low", "rt60_high", least=0.01)
        self._check_range("direct_low", "direct_high")

    def __call__(self, sound: Sound) -> Sound:
        """The batch in rooms, each its own."""
        chosen = sound.drawn(self.probability)
        responses = [self._impulse_response(sound.sample_rate, rng) for rng in sound.generators]
        room = np.zeros((len(responses), max(map(len, responses))), np.float32)
        for row, response in enumerate(responses):
            room[row, : len(response)] = response
        wet = audio.fftconvolve(sound.samples, sound.tensor(room))[:, : sound.samples.shape[1]] * sound.mask()
        wet = _as_loud(sound, wet)
        return replace(sound, samples=torch.where(chosen, wet, sound.samples))

    def _impulse_response(self, sample_rate: int, rng: np.random.Generator) -> Waveform:
        """[samples] float32."""
        rt60, direct = (
            rng.uniform(self.rt60_low, self.rt60_high),
            rng.uniform(self.direct_low, self.direct_high),
        )
        count = max(2, round(rt60 * sample_rate))
        tail = rng.standard_normal(count) * 10 ** (-3 * np.arange(count) / (rt60 * sample_rate))
        tail[0] = 0
        tail *= 10 ** (-direct / 20) / np.linalg.norm(tail)
        tail[0] = 1
        return tail.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class SpeedPerturbation(_Sometimes):
    """Play faster or slower, which moves the pitch too (Ko et al., Interspeech 2015): 1 − change or 1 + change."""

    name: ClassVar[str] = "speed"

    change: float = 0.1
    """0.1 is 0.9 or 1.1 times the speed; lengths change by the inverse."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if not 0.01 <= self.change <= 0.5:
            raise UserError(f"speed: change must lie in [0.01, 0.5], got {self.change}")

    def __call__(self, sound: Sound) -> Sound:
        """The batch at new speeds, with new lengths."""
        chosen = sound.drawn(self.probability)[:, 0].tolist()
        signs = [
            int(rng.choice([-1, 1])) if applied else 0
            for applied, rng in zip(chosen, sound.generators, strict=True)
        ]
        rates = [_fraction(1 + sign * self.change) for sign in signs]
        numerators, denominators = (
            torch.tensor(parts, device=sound.lengths.device)
            for parts in ([rate.numerator for rate in rates], [rate.denominator for rate in rates])
        )
        lengths = -(-sound.lengths * denominators // numerators)
        result = sound.samples.new_zeros(len(rates), int(lengths.max()))
        for rate in sorted(set(rates)):
            rows = [row for row, each in enumerate(rates) if each == rate]
            part = _resampled(sound.samples[rows], rate)[:, : result.shape[1]]
            result[rows, : part.shape[1]] = part
        played = replace(sound, samples=result, lengths=lengths)
        return replace(played, samples=played.samples * played.mask())


@dataclass(frozen=True, kw_only=True)
class PitchShift(_Sometimes):
    """Move the pitch by whole semitones, the duration kept: phase vocoder, then resampling.

    The step is uniform in −semitones … semitones without 0. Frames of 64 ms, a hop of a quarter of them; what a phase
    vocoder takes from the level is given back.
    """

    name: ClassVar[str] = "pitch"

    semitones: int = 2
    """Largest step, up and down."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if not 1 <= self.semitones <= 12:
            raise UserError(f"pitch: semitones must lie in 1 … 12, got {self.semitones}")

    def __call__(self, sound: Sound) -> Sound:
        """The batch at new pitches."""
        chosen = sound.drawn(self.probability)[:, 0].tolist()
        sizes = [int(rng.integers(1, self.semitones, endpoint=True)) for rng in sound.generators]
        signs = [int(rng.choice([-1, 1])) for rng in sound.generators]
        steps = [size * sign if on else 0 for size, sign, on in zip(sizes, signs, chosen, strict=True)]
        result = sound.samples.clone()
        for step in sorted(set(steps) - {0}):
            rows = [row for row, each in enumerate(steps) if each == step]
            result[rows] = shift_pitch(sound.samples[rows], sound.sample_rate, step)
        return replace(sound, samples=_as_loud(sound, result * sound.mask()))


def shift_pitch(samples: Tensor, sample_rate: int, semitones: float) -> Tensor:
    """Move the pitch of [batch, samples] by semitones, the duration kept."""
    rate = _fraction(2 ** (semitones / 12))
    n_fft = 2 ** round(math.log2(0.064 * sample_rate))
    hop = n_fft // 4
    window = torch.hann_window(n_fft, device=samples.device)
    # The zeros keep what is mirrored at the end of the batch away from the longest example.
    padded = torch.nn.functional.pad(samples, (0, n_fft))
    spectrum = torch.stft(padded, n_fft, hop, window=window, return_complex=True)
    advance = torch.linspace(0, math.pi * hop, n_fft // 2 + 1, device=samples.device)[:, None]
    stretched = torch.istft(
        audio.phase_vocoder(spectrum, float(1 / rate), advance),
        n_fft,
        hop,
        window=window,
        length=math.ceil(padded.shape[1] * rate),
    )
    return _resampled(stretched, rate)[:, : samples.shape[1]]


def _mixed(sound: Sound, noise: Tensor, ratio: Tensor, chosen: Tensor) -> Sound:
    """Add noise at a ratio in dB, [batch, 1], to the chosen examples; silence stays silent."""
    signal, disturbance = sound.power(sound.samples), sound.power(noise)
    scale = (signal / disturbance.clamp(min=1e-30)).sqrt() * 10 ** (-ratio / 20)
    scale = torch.where(chosen & (disturbance > 0), scale, 0)
    return replace(sound, samples=sound.samples + scale * noise)


def _as_loud(sound: Sound, changed: Tensor) -> Tensor:
    """Other samples, scaled to the power that each example had."""
    before, after = sound.power(sound.samples), sound.power(changed)
    return changed * torch.where(after > 0, (before / after.clamp(min=1e-30)).sqrt(), 0)


def _fraction(factor: float) -> Fraction:
    return Fraction(factor).limit_denominator(_FINEST)


def _resampled(samples: Tensor, rate: Fraction) -> Tensor:
    """[batch, samples] played ``rate`` times as fast, at the same sample rate."""
    result: Tensor = audio.resample(samples, rate.numerator, rate.denominator)
    return result
