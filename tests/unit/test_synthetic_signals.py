"""The sound of the synthetic corpora: what the settings of voice and delivery do to the samples."""

import io

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from ser_models.corpora import EMOTIONS
from ser_models.corpora.synthetic import LAYOUTS, Settings
from ser_models.corpora.synthetic.performance import Performance, count_samples
from ser_models.corpora.synthetic.performance import speak as perform
from ser_models.corpora.synthetic.prosody import EMOTION_DELIVERY, draw_voice
from ser_models.corpora.synthetic.speech import Delivery, _resonate, random_generator, synthesise
from ser_models.corpora.synthetic.words import syllables_of


def test_resonators_that_stand_still_filter_like_the_recursive_form():
    source = np.random.default_rng(0).standard_normal(16000)
    frequencies = np.array([730.0, 1090.0, 2440.0, 3500.0, 4500.0])
    expected = source
    for frequency, bandwidth in zip(frequencies, (70.0, 100.0, 150.0, 250.0, 350.0), strict=True):
        radius = np.exp(-np.pi * bandwidth / 16000)
        b, c = 2 * radius * np.cos(2 * np.pi * frequency / 16000), -(radius**2)
        expected = lfilter([1 - b - c], [1, -b, -c], expected)
    found = _resonate(source, np.tile(frequencies, (100, 1)), 16000)
    # The response is cut off after 40 ms, where the narrowest resonator (70 Hz) has fallen by 76 dB.
    assert np.max(np.abs(found - expected)) < 1e-2 * np.max(np.abs(expected))


def speak(delivery: Delivery, *, speaker: str = "01", gender: str = "male", rate: int = 16000) -> np.ndarray:
    syllables = (("none", "a"), ("hum", "i"), ("none", "u")) * 2
    voice = draw_voice(0, speaker, gender)
    random = random_generator("test")
    return synthesise(syllables, voice, delivery, seconds=2.0, sample_rate=rate, random=random)


def pitch_of(signal: np.ndarray, rate: int) -> float:
    """Median over voiced frames of the lag with the highest autocorrelation, Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(signal, 1024)[::512]
    loud = frames[np.std(frames, axis=1) > 0.5 * np.std(signal)]
    power = np.abs(np.fft.rfft(loud, 2048, axis=1)) ** 2
    correlation = np.fft.irfft(power, axis=1)
    shortest, longest = rate // 450, rate // 70
    return float(np.median(rate / (shortest + correlation[:, shortest:longest].argmax(axis=1))))


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 48000])
@pytest.mark.parametrize("emotion", ["angry", "sad"])
def test_samples_are_finite_and_within_range_at_any_rate(emotion, rate):
    signal = speak(EMOTION_DELIVERY[emotion], rate=rate)
    assert np.isfinite(signal).all()
    assert 0.01 < np.abs(signal).max() <= 0.98


def test_pitch_follows_the_delivery_and_the_voice():
    flat = Delivery(pitch_range=0.0, slope=0.0)
    high = Delivery(pitch=7.0, pitch_range=0.0, slope=0.0)
    ratio = pitch_of(speak(high), 16000) / pitch_of(speak(flat), 16000)
    assert ratio == pytest.approx(2 ** (7 / 12), rel=0.05)  # one lag at 16 kHz is about 1 %
    assert pitch_of(speak(flat, speaker="02", gender="female"), 16000) > 1.3 * pitch_of(speak(flat), 16000)


def test_rate_level_and_tilt_follow_the_delivery():
    plain = speak(Delivery(pauses=0.0))
    fast = speak(Delivery(pauses=0.0, rate=1.25))
    assert len(fast) / len(plain) == pytest.approx(0.2 + 0.8 / 1.25, rel=0.01)
    loud = speak(Delivery(pauses=0.0, level=-6.0))
    assert np.std(loud) / np.std(plain) == pytest.approx(0.5, rel=0.05)
    above = np.fft.rfftfreq(len(plain), 1 / 16000) > 2000
    bright, dark = (
        np.sum(np.abs(np.fft.rfft(speak(Delivery(pauses=0.0, tilt=tilt)))[above]) ** 2)
        for tilt in (-6.0, 6.0)
    )
    assert bright > 2 * dark


def test_every_canonical_emotion_but_other_can_be_spoken():
    assert set(EMOTION_DELIVERY) == set(EMOTIONS) - {"other"}


@pytest.mark.parametrize("text", ["Hey!", "Wow so the weekend, finally."])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_the_length_of_an_utterance_is_known_before_it_is_spoken(text, rate):
    performance = Performance(
        name="a",
        speaker="01",
        gender="male",
        voice="sad",
        face="sad",
        syllables=syllables_of(text),
        seconds=0.9,
    )
    assert count_samples(performance, 3, rate) == len(perform(performance, 3, rate))


def test_files_are_mono_sixteen_bit_wav_of_the_asked_rate():
    settings = Settings(speakers=1, utterances=1, seconds=0.5, sample_rate=8000)
    content = LAYOUTS["ravdess"].plan(settings).files[0].render()
    with soundfile.SoundFile(io.BytesIO(content)) as sound:
        assert (sound.samplerate, sound.channels, sound.subtype, sound.format) == (8000, 1, "PCM_16", "WAV")
        assert sound.frames / 8000 == pytest.approx(0.5, rel=0.5)


def test_the_recordings_behind_the_published_figures_stay_as_they_are():
    content = LAYOUTS["ravdess"].plan(Settings(speakers=1, utterances=2)).files[1].render()
    samples, _ = soundfile.read(io.BytesIO(content), dtype="int16")
    length, excerpt = 30956, [2948, 1458, -1042, 1525, -198, 191, -3016, 646]
    assert len(samples) == length
    # Other processors may round a sample the other way.
    np.testing.assert_allclose(samples[8000:20000:1500], excerpt, atol=2)
