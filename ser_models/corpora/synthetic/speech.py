"""Speech-like signals from a source and a filter, made with NumPy and SciPy.

A glottal pulse train (Klatt and Klatt, 1990, J. Acoust. Soc. Am. 87(2)) and breath noise pass through a
cascade of formant resonators that steps through syllables; consonants are closures, hisses and hums. The
result has what front ends for speech look at (harmonics, formants, pauses, level, tilt) and means nothing.
"""

import dataclasses
import hashlib

import numpy as np
import numpy.typing as npt
from scipy.signal import butter, lfilter, sosfilt
from scipy.signal.windows import hann

Signal = npt.NDArray[np.float64]

# F1, F2, F3 in Hz of a male voice (Peterson and Barney, 1952).
VOWELS = {
    "i": (270.0, 2290.0, 3010.0),
    "ɪ": (390.0, 1990.0, 2550.0),
    "ɛ": (530.0, 1840.0, 2480.0),
    "a": (730.0, 1090.0, 2440.0),
    "ɔ": (570.0, 840.0, 2410.0),
    "u": (300.0, 870.0, 2240.0),
    "ʌ": (640.0, 1190.0, 2390.0),
}
CONSONANTS = {"stop": (0.0, 0.5), "hiss": (0.05, 1.0), "hum": (0.35, 0.0), "none": (1.0, 0.0)}
"""Consonant → (share of the voice that stays, strength of the hiss)."""

_HIGH_FORMANTS = (3500.0, 4500.0)
_BANDWIDTHS = (70.0, 100.0, 150.0, 250.0, 350.0)
_STEP = 0.01  # seconds between two settings of the resonators
_WINDOW, _RESPONSE = 2, 6  # steps under a window; steps until the response has died away
_OPEN_QUOTIENT = 0.6
_TILT_FREQUENCY = 3000.0
_CONSONANT_SHARE = 0.3  # of a syllable
_MARGIN = 0.1  # silence at either end, as a share of the length

Syllable = tuple[str, str]
"""(consonant, vowel), names of `CONSONANTS` and `VOWELS`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Voice:
    """What stays the same in everything a speaker says.

    Attributes:
        pitch: habitual fundamental frequency, Hz.
        formant_scale: formants relative to the table; above 1 for shorter vocal tracts.
        formant_offsets: factors of the five formants, near 1.
        tilt: attenuation of the source at 3 kHz, dB.
        breath: level of the noise in the source relative to the pulses.
        level: dB, relative to the common level.
        jitter: relative deviation of a period.
        shimmer: relative deviation of the strength of a pulse.
        room: level of the background noise, dB relative to full scale.
    """

    pitch: float
    formant_scale: float
    formant_offsets: tuple[float, float, float, float, float]
    tilt: float
    breath: float
    level: float
    jitter: float
    shimmer: float
    room: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Delivery:
    """How one utterance is spoken, relative to the voice.

    Attributes:
        pitch: semitones above the habitual pitch.
        pitch_range: standard deviation of the accents, semitones.
        slope: change of pitch from beginning to end, semitones.
        rate: speed; 1 is habitual.
        level: dB.
        tilt: dB at 3 kHz; positive is darker.
        breath: added to the voice's breath.
        formants: factor of the first two formants (spread lips raise them).
        tremor: depth of a 6 Hz modulation of the pitch, semitones.
        pauses: probability of a pause after a syllable.
    """

    pitch: float = 0.0
    pitch_range: float = 2.0
    slope: float = -2.0
    rate: float = 1.0
    level: float = 0.0
    tilt: float = 0.0
    breath: float = 0.0
    formants: float = 1.0
    tremor: float = 0.0
    pauses: float = 0.05


def random_generator(*parts: object) -> np.random.Generator:
    """A generator that depends on the parts alone, so that each utterance can be made without the others."""
    digest = hashlib.sha256("\n".join(map(str, parts)).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def synthesise(
    syllables: tuple[Syllable, ...],
    voice: Voice,
    delivery: Delivery,
    *,
    seconds: float,
    sample_rate: int,
    random: np.random.Generator,
) -> Signal:
    """Speak syllables with a voice in a manner.

    Args:
        syllables: what is said.
        voice: who says it.
        delivery: how it is said.
        seconds: length at habitual rate, silence at both ends included.
        sample_rate: Hz.
        random: source of all chance.

    Returns:
        Samples ``[samples]`` within ±1.
    """
    margin = _MARGIN * seconds
    spans = _spans(len(syllables), seconds - 2 * margin, delivery, random)
    time = np.arange(_count(spans, margin, sample_rate)) / sample_rate - margin
    voiced, hiss, tracks = _articulate(syllables, spans, time, random)
    source = _source(_pitch(spans, time, voice, delivery, random), voice, delivery, sample_rate, random)
    shift = np.array(voice.formant_offsets) * voice.formant_scale
    shift[:2] *= delivery.formants
    speech = _resonate(source * voiced, tracks * shift, sample_rate)
    speech /= np.sqrt(np.mean(speech[voiced > 0.1] ** 2)) + 1e-9
    speech += 0.3 * hiss * _hiss(len(time), sample_rate, random)
    speech *= 10 ** ((-26.0 + voice.level + delivery.level) / 20)
    speech += 10 ** (voice.room / 20) * random.standard_normal(len(time))
    limited: Signal = speech * min(1.0, 0.98 / np.max(np.abs(speech)))
    return limited


def count_samples(
    syllables: tuple[Syllable, ...],
    delivery: Delivery,
    *,
    seconds: float,
    sample_rate: int,
    random: np.random.Generator,
) -> int:
    """How many samples `synthesise` returns for the same arguments, without making them."""
    margin = _MARGIN * seconds
    spans = _spans(len(syllables), seconds - 2 * margin, delivery, random)
    return _count(spans, margin, sample_rate)


def _count(spans: Signal, margin: float, sample_rate: int) -> int:
    return int((spans[-1, 1] + 2 * margin) * sample_rate)


def _spans(count: int, seconds: float, delivery: Delivery, random: np.random.Generator) -> Signal:
    """Begin and end of each syllable in seconds ``[syllables, 2]``; pauses lie between them."""
    shares = random.gamma(12.0, size=count)
    shares[-1] *= 1.5  # the last syllable of a phrase is drawn out
    lengths = shares / shares.sum() * seconds / delivery.rate
    pauses = np.where(random.random(count) < delivery.pauses, random.uniform(0.08, 0.25, count), 0.0)
    pauses[-1] = 0.0
    begins = np.cumsum(lengths + pauses) - lengths - pauses
    return np.stack([begins, begins + lengths], axis=1)


def _articulate(
    syllables: tuple[Syllable, ...], spans: Signal, time: Signal, random: np.random.Generator
) -> tuple[Signal, Signal, Signal]:
    """Envelopes of voice and hiss ``[samples]``, and the formants of the syllables in Hz ``[steps, 5]``."""
    knots, voiced, hissing = [time[0]], [0.0], [0.0]
    for (consonant, _), (begin, end) in zip(syllables, spans, strict=True):
        stays, hiss = CONSONANTS[consonant]
        vowel = begin + _CONSONANT_SHARE * (end - begin)
        length = end - vowel
        strength = random.uniform(0.7, 1.0)
        knots += [
            begin,
            0.5 * (begin + vowel),
            vowel,
            vowel + 0.2 * length,
            end - 0.5 * length,
            end - 0.1 * length,
        ]
        voiced += [stays * 0.6, stays * 0.6, 0.5, strength, strength, 0.4]
        hissing += [0.0, hiss, hiss * 0.5, 0.0, 0.0, 0.0]
        knots.append(end)
        voiced.append(0.0)
        hissing.append(0.0)
    targets = np.array([VOWELS[vowel] + _HIGH_FORMANTS for _, vowel in syllables])
    targets = targets * random.normal(1.0, 0.03, targets.shape)
    steps = np.arange(time[0], time[-1] + _STEP, _STEP)
    centres = spans.mean(axis=1)
    tracks = np.stack([np.interp(steps, centres, target) for target in targets.T], axis=1)
    return np.interp(time, knots, voiced), np.interp(time, knots, hissing), tracks


def _pitch(
    spans: Signal, time: Signal, voice: Voice, delivery: Delivery, random: np.random.Generator
) -> Signal:
    """Fundamental frequency in Hz ``[samples]``: level, slope, one accent per syllable, tremor."""
    accents = delivery.pitch_range * random.standard_normal(len(spans))
    spoken = np.clip(time / spans[-1, 1], 0.0, 1.0)
    semitones = (
        delivery.pitch + delivery.slope * (spoken - 0.5) + np.interp(time, spans.mean(axis=1), accents)
    )
    semitones = semitones + delivery.tremor * np.sin(2 * np.pi * 6.0 * time + random.uniform(0, 2 * np.pi))
    frequency: Signal = np.clip(voice.pitch * 2 ** (semitones / 12), 50.0, 600.0)
    return frequency


def _source(
    pitch: Signal, voice: Voice, delivery: Delivery, sample_rate: int, random: np.random.Generator
) -> Signal:
    r"""Derivative of the glottal flow with breath noise ``[samples]``.

    In the open part of a period, at phase :math:`x = t / (0.6 T)`, the flow is :math:`x^2 - x^3` and its
    derivative :math:`x (2 - 3 x)`; in the closed part both are 0.
    """
    cycle = np.cumsum(pitch / sample_rate).astype(np.int64)
    period = 1.0 + voice.jitter * random.standard_normal(cycle[-1] + 1)
    phase = np.cumsum(pitch * period[cycle] / sample_rate)
    strength = np.maximum(0.0, 1.0 + voice.shimmer * random.standard_normal(int(phase[-1]) + 1))
    place = (phase % 1.0) / _OPEN_QUOTIENT
    open_part = place < 1.0
    pulses = np.where(open_part, place * (2.0 - 3.0 * place), 0.0) * strength[phase.astype(np.int64)]
    breath = max(0.0, voice.breath + delivery.breath)
    noise = random.standard_normal(len(pitch)) * np.where(open_part, 1.0, 0.4)
    return _tilt(pulses, voice.tilt + delivery.tilt, sample_rate) + 0.03 * breath * noise


def _tilt(signal: Signal, attenuation: float, sample_rate: int) -> Signal:
    r"""Low-pass of one pole that attenuates 3 kHz by so many dB and leaves 0 Hz alone.

    :math:`y_t = (1 - a) x_t + a y_{t-1}`, where :math:`a` solves
    :math:`(1 - a)^2 / (1 - 2 a \cos\omega + a^2) = 10^{-A / 10}`.
    """
    if attenuation <= 0.1:
        return signal
    gain = 10 ** (-attenuation / 10)
    half = (1 - gain * np.cos(2 * np.pi * _TILT_FREQUENCY / sample_rate)) / (1 - gain)
    pole = half - np.sqrt(half**2 - 1)
    filtered: Signal = lfilter([1 - pole], [1.0, -pole], signal)
    return filtered


def _resonate(source: Signal, tracks: Signal, sample_rate: int) -> Signal:
    r"""Pass the source through a cascade of resonators whose frequencies ``[steps, 5]`` move.

    Each is Klatt's resonator (1980) with unit gain at 0 Hz,
    :math:`(1 - b - c) / (1 - b z^{-1} - c z^{-2})` with
    :math:`b = 2 e^{-\pi B / f_s} \cos(2 \pi F / f_s)` and :math:`c = -e^{-2 \pi B / f_s}`;
    those near the Nyquist frequency are left out. Overlapping windows of 20 ms are filtered in the frequency
    domain, because switching the coefficients of a recursive filter clicks.
    """
    hop = int(_STEP * sample_rate)
    size = _RESPONSE * hop
    padded = np.pad(source, (_WINDOW - 1) * hop)
    pieces = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW * hop)[::hop]
    spectrum = np.fft.rfft(pieces * hann(_WINDOW * hop, sym=False) / (_WINDOW / 2), size)
    nearest = np.clip(np.arange(len(spectrum)) - _WINDOW // 2 + 1, 0, len(tracks) - 1)
    delay = np.exp(-2j * np.pi * np.arange(size // 2 + 1) / size)
    for track, bandwidth in zip(tracks.T, _BANDWIDTHS, strict=True):
        if track.max() < 0.45 * sample_rate:
            radius = np.exp(-np.pi * bandwidth / sample_rate)
            b = 2 * radius * np.cos(2 * np.pi * track[nearest, None] / sample_rate)
            c = -(radius**2)
            spectrum *= (1 - b - c) / (1 - b * delay - c * delay**2)
    blocks = np.fft.irfft(spectrum, size).reshape(-1, _RESPONSE, hop)
    result = np.zeros((len(blocks) + _RESPONSE, hop))
    for offset in range(_RESPONSE):
        result[offset : offset + len(blocks)] += blocks[:, offset]
    return result.ravel()[(_WINDOW - 1) * hop :][: len(source)]


def _hiss(count: int, sample_rate: int, random: np.random.Generator) -> Signal:
    """Noise above 2.5 kHz, or above half the Nyquist frequency at low rates ``[samples]``."""
    corner = min(2500.0, sample_rate / 4)
    sections = butter(2, corner, "highpass", fs=sample_rate, output="sos")
    filtered: Signal = sosfilt(sections, random.standard_normal(count))
    return filtered
