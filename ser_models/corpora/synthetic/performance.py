"""One utterance as it is performed: who says which syllables in what manner, as samples and as a sound file."""

import dataclasses
import functools
import io

import numpy as np
import soundfile

from ser_models.corpora.synthetic import speech
from ser_models.corpora.synthetic.plan import Settings
from ser_models.corpora.synthetic.prosody import draw_delivery, draw_voice
from ser_models.corpora.synthetic.speech import Delivery, Signal, Syllable, random_generator

_KEPT = 64  # signals in memory: those of one dialogue, whose turns and video are made one after the other


@dataclasses.dataclass(frozen=True, kw_only=True)
class Performance:
    """Everything that the sound and the pictures of one utterance depend on, besides the seed.

    Attributes:
        name: unique in the corpus; the source of the utterance's own chance.
        speaker: id, as the parser of the layout will read it.
        gender: ``female`` or ``male``.
        voice: the emotion that can be heard, a canonical name.
        face: the emotion that can be seen.
        intensity: ``normal`` or ``strong``.
        syllables: what is said.
        seconds: length at habitual rate.
    """

    name: str
    speaker: str
    gender: str
    voice: str
    face: str
    intensity: str = "normal"
    syllables: tuple[Syllable, ...]
    seconds: float


@functools.lru_cache(maxsize=_KEPT)
def speak(performance: Performance, seed: int, sample_rate: int) -> Signal:
    """The sound of a performance, read-only samples ``[samples]`` within ±1."""
    delivery, random = _delivery(performance, seed)
    signal = speech.synthesise(
        performance.syllables,
        draw_voice(seed, performance.speaker, performance.gender),
        delivery,
        seconds=performance.seconds,
        sample_rate=sample_rate,
        random=random,
    )
    signal.setflags(write=False)
    return signal


def count_samples(performance: Performance, seed: int, sample_rate: int) -> int:
    """The length of what `speak` returns, without making it."""
    delivery, random = _delivery(performance, seed)
    return speech.count_samples(
        performance.syllables,
        delivery,
        seconds=performance.seconds,
        sample_rate=sample_rate,
        random=random,
    )


def render_wav(performance: Performance, settings: Settings) -> bytes:
    """The sound of a performance as a file: 16-bit WAV, mono."""
    buffer = io.BytesIO()
    signal = speak(performance, settings.seed, settings.sample_rate)
    soundfile.write(buffer, signal, settings.sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _delivery(performance: Performance, seed: int) -> tuple[Delivery, np.random.Generator]:
    """The manner of a performance, and its source of chance as the manner leaves it."""
    random = random_generator(seed, "utterance", performance.name)
    manner = draw_delivery(seed, performance.speaker, performance.voice, performance.intensity, random)
    return manner, random
