"""Descriptors: known signals have known pitch, noise and perturbation, and real ones have what Praat finds."""

import pickle
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal

from ser_models.corpora.synthetic.prosody import draw_voice
from ser_models.corpora.synthetic.speech import Delivery, synthesise
from ser_models.errors import UserError
from ser_models.features import build_view, media, perturbation, pitch, short_time
from ser_models.features.descriptors import Descriptors
from ser_models.features.speaking_rate import syllable_nuclei

RATE, HOP = 16000, 160

GOLDEN_FRAME = [
    130.516,
    1,
    0,
    0,
    -15.6456,
    0.0150376,
    0.0017733,
    432.174,
    1221.62,
    1974.84,
    20.3875,
    0.00173143,
    0.0872084,
]
GOLDEN_WHOLE = [
    142.346,
    8.55788,
    -25.8896,
    -15.1566,
    461.016,
    2.80793,
    0.00145568,
    2,
    2,
    2,
    0.263682,
    0.00146166,
    0.132274,
]


def pulses(periods: np.ndarray, amplitudes: np.ndarray) -> np.ndarray:
    """A voice with these glottal periods, in seconds: pulses between the samples, through a resonance at 700 Hz."""
    wave = np.zeros(int(RATE * periods.sum()) + 1)
    samples = np.arange(len(wave))
    for time, amplitude in zip(np.cumsum(periods) - periods[0], amplitudes, strict=True):
        wave += amplitude * np.sinc(samples - time * RATE) * (np.abs(samples - time * RATE) < 400)
    pole = np.exp(-np.pi * 150 / RATE + 2j * np.pi * 700 / RATE)
    wave = scipy.signal.lfilter([1.0], np.poly([pole, pole.conj()]).real, wave)
    return 0.5 * wave / np.abs(wave).max()


def voice(f0: float, seconds: float = 1.0) -> np.ndarray:
    """A steady voice."""
    count = int(seconds * f0)
    return pulses(np.full(count, 1.0 / f0), np.ones(count))


def sentence(seconds: float = 2.0) -> np.ndarray:
    """Silence, four syllables of a rising buzz, hiss, silence; the same everywhere."""
    time = np.arange(int(seconds * RATE)) / RATE
    buzz = sum(np.sin(2 * np.pi * k * (120 * time + 15 * time**2)) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * 4 * (time - 0.3)), 0.0, None) * ((time > 0.3) & (time < 1.3))
    hiss = np.sin(1e5 * np.sin(np.arange(len(time)) ** 2.0)) * ((time > 1.4) & (time < 1.6))
    return (0.2 * buzz * syllables + 0.02 * hiss).astype(np.float32)


@pytest.fixture(scope="module")
def recordings(real_corpora: Path) -> list[np.ndarray]:
    """Ten recordings, a sample longer than whole centiseconds: Praat, which centres its frames, then has our grid."""
    paths = sorted((real_corpora / "ravdess").rglob("*.flac"))[::72]
    waves = [media.read(str(path)).at(RATE) for path in paths]
    return [wave[: (len(wave) - 1) // HOP * HOP + 1] for wave in waves]


@pytest.fixture
def parselmouth() -> object:
    return pytest.importorskip("parselmouth", reason="pip install 'ser_models[test]'")


def test_golden_values() -> None:
    """Change these only together with Descriptors.VERSION: shards made before would pass for new ones."""
    assert Descriptors.VERSION == 1
    frames = build_view("descriptors")(sentence(), RATE)
    assert frames.shape == (201, 13)
    np.testing.assert_allclose(frames[35], GOLDEN_FRAME, rtol=1e-3, atol=1e-3)
    whole = build_view("descriptors", functionals=True)(sentence(), RATE)
    np.testing.assert_allclose(
        whole[0, [0, 1, 5, 9, 20, 37, 40, 50, -7, -6, -5, -2, -1]], GOLDEN_WHOLE, rtol=1e-3
    )


# Energy, zero crossings, Teager ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("amplitude", "frequency"), [(1.0, 0.1), (0.3, 0.7), (2.0, 2.5)])
def test_teager_energy_of_a_sinusoid(amplitude: float, frequency: float) -> None:
    wave = amplitude * np.sin(frequency * np.arange(400) + 0.4)
    expected = amplitude**2 * np.sin(frequency) ** 2
    assert short_time.teager_energy(wave[None])[0] == pytest.approx(expected, rel=1e-9)


def test_energy_is_in_decibels_of_full_scale() -> None:
    square = np.tile([1.0, -1.0], 200)
    np.testing.assert_allclose(
        short_time.energy_db(np.stack([square, 0.1 * square, 0 * square])), [0.0, -20.0, -100.0]
    )


def test_zero_crossing_rate_equals_librosa() -> None:
    wave = np.random.default_rng(0).standard_normal(4000)
    framed = np.lib.stride_tricks.sliding_window_view(wave, 400)[::160]
    expected = librosa.feature.zero_crossing_rate(wave, frame_length=400, hop_length=160, center=False)[0]
    # librosa counts over 400 samples and has the sign of the first one for a crossing where it is negative.
    np.testing.assert_allclose(short_time.zero_crossing_rate(framed) * 399 / 400, expected, atol=1 / 399)


def test_frames_are_centred() -> None:
    wave = np.arange(1.0, 11.0)
    framed = short_time.frames(wave, 4, 3)
    np.testing.assert_array_equal(framed, [[0, 0, 1, 2], [2, 3, 4, 5], [5, 6, 7, 8], [8, 9, 10, 0]])


def test_blocks_do_not_change_a_descriptor() -> None:
    framed = np.random.default_rng(0).standard_normal((10, 50))
    found = short_time.in_blocks(short_time.energy_db, framed, frames=3)
    np.testing.assert_array_equal(found, short_time.energy_db(framed))


@pytest.mark.parametrize("gain", [1.0, 0.01])
def test_silence_is_relative_to_the_utterance(gain: float) -> None:
    view = build_view("descriptors", groups="pitch")
    found = view(sentence() * np.float32(gain), RATE)
    voiced, unvoiced, silent = found[:, 1:].T.astype(bool)
    assert (found[:, 1:].sum(axis=1) == 1).all()
    assert silent[:25].all() and silent[170:].all()
    assert voiced[36] and unvoiced[150]


def test_a_steady_sound_has_no_silence_and_silence_nothing_else() -> None:
    assert not short_time.is_silent(np.full(50, -30.0)).any()
    assert short_time.is_silent(np.full(50, -100.0)).all()


# Pitch and harmonics-to-noise ratio --------------------------------------------------------------------------------


@pytest.mark.parametrize("f0", [80.0, 100.3, 151.7, 220.0, 333.3, 480.0])
@pytest.mark.parametrize("kind", ["tone", "voice"])
def test_pitch_of_steady_sounds(f0: float, kind: str) -> None:
    wave = np.sin(2 * np.pi * f0 * np.arange(RATE) / RATE) if kind == "tone" else voice(f0)
    track = pitch.track(wave, RATE, HOP, 75.0, 600.0)
    np.testing.assert_allclose(track.f0[5:-5], f0, rtol=1e-3)


def test_pitch_of_a_glide() -> None:
    time = np.arange(RATE) / RATE
    wave = sum(np.sin(2 * np.pi * k * (100 * time + 75 * time**2)) / k for k in range(1, 15))
    track = pitch.track(wave, RATE, HOP, 75.0, 600.0)
    np.testing.assert_allclose(track.f0[5:-5], (100 + 150 * np.arange(101) * 0.01)[5:-5], rtol=0.01)


@pytest.mark.parametrize("gain", [1.0, 1e-4])
def test_noise_and_silence_are_unvoiced(gain: float) -> None:
    noise = gain * np.random.default_rng(0).standard_normal(RATE)
    assert pitch.track(noise, RATE, HOP, 75.0, 600.0).voiced.mean() < 0.05
    assert not pitch.track(np.zeros(RATE), RATE, HOP, 75.0, 600.0).voiced.any()


@pytest.mark.parametrize("snr", [0.0, 5.0, 10.0, 20.0, 30.0])
@pytest.mark.parametrize("kind", ["tone", "voice"])
def test_hnr_is_the_ratio_that_was_mixed(snr: float, kind: str) -> None:
    wave = np.sin(2 * np.pi * 200 * np.arange(4 * RATE) / RATE) if kind == "tone" else voice(200.0, 4.0)
    noise = np.random.default_rng(1).standard_normal(len(wave))
    noise *= np.sqrt(np.mean(wave**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    track = pitch.track(wave + noise, RATE, HOP, 75.0, 600.0)
    assert track.voiced.mean() > 0.9
    # The highest of several noisy peaks is a little too high: at 0 dB by some tenths.
    assert np.median(track.hnr[track.voiced]) == pytest.approx(snr, abs=1.0)


def test_pitch_equals_praat_on_real_speech(recordings: list[np.ndarray], parselmouth: object) -> None:
    for wave in recordings:
        track = pitch.track(wave.astype(np.float64), RATE, HOP, 75.0, 600.0)
        praat = parselmouth.Sound(wave.astype(np.float64), RATE).to_pitch_ac(0.01, 75.0, pitch_ceiling=600.0)
        frames = np.rint(praat.xs() / 0.01).astype(int)
        assert np.abs(praat.xs() - frames * 0.01).max() < 1e-4
        expected = praat.selected_array["frequency"]
        found = track.f0[frames]
        both = (expected > 0) & (found > 0)
        assert np.mean((expected > 0) == (found > 0)) > 0.95
        octaves = np.abs(np.log2(found[both] / expected[both]))
        assert np.median(octaves) < 0.001
        assert np.mean(octaves > 0.1) < 0.05  # another octave where the path is a close call
        strength = np.clip(praat.selected_array["strength"][both], 0.01, 0.999)
        hnr = 10 * np.log10(strength / (1 - strength))
        assert np.median(np.abs(track.hnr[frames][both] - hnr)) < 0.2
        assert np.corrcoef(track.hnr[frames][both], hnr)[0, 1] > 0.95


@pytest.mark.parametrize("gender", ["female", "male"])
def test_pitch_formants_and_syllables_of_generated_speech(gender: str) -> None:
    """A sentence on one note, from glottal source, formants, hisses and breath."""
    words = (
        ("stop", "a"),
        ("hum", "i"),
        ("hiss", "u"),
        ("stop", "ɛ"),
        ("hiss", "a"),
        ("hum", "ɔ"),
        ("stop", "i"),
    )
    manner = Delivery(pitch_range=0.0, slope=0.0, pauses=0.0)
    view = build_view("descriptors", formant_ceiling=5500.0 if gender == "female" else 5000.0)
    counted = []
    for speaker in range(4):
        speaker_voice = draw_voice(0, str(speaker), gender)
        random = np.random.default_rng(speaker)
        wave = synthesise(words, speaker_voice, manner, seconds=2.0, sample_rate=RATE, random=random)
        found = dict(zip(view.columns, view(wave.astype(np.float32), RATE).T, strict=True))
        f0 = found["f0"][found["f0"] > 0]
        assert len(f0) > 80
        assert np.median(f0) == pytest.approx(speaker_voice.pitch, rel=0.01)
        assert np.mean(np.abs(f0 / speaker_voice.pitch - 1) < 0.05) > 0.95
        first = found["formant_1"][found["f0"] > 0]
        lowest, highest = np.array([270.0, 730.0]) * speaker_voice.formant_scale
        assert np.mean((first > 0.7 * lowest) & (first < 1.4 * highest)) > 0.9
        whole = build_view("descriptors", functionals=True)
        numbers = dict(zip(whole.columns, whole(wave.astype(np.float32), RATE)[0], strict=True))
        counted.append(numbers["speaking_rate"] * numbers["duration"])
    assert np.mean(counted) == pytest.approx(len(words), abs=1.5)


# Jitter and shimmer ------------------------------------------------------------------------------------------------


def test_a_steady_voice_has_neither_jitter_nor_shimmer() -> None:
    wave = voice(120.0)
    found = perturbation.find_pulses(wave, RATE, pitch.track(wave, RATE, HOP, 75.0, 600.0).f0, HOP)
    assert len(found.times) == pytest.approx(120, abs=4)
    assert perturbation.jitter(found).local() < 2e-4  # a hundredth of a sample
    assert perturbation.shimmer(wave, RATE, found).local() < 0.01


@pytest.mark.parametrize("amount", [0.005, 0.01, 0.03])
def test_jitter_is_what_was_put_in(amount: float) -> None:
    periods = (1.0 + amount * np.random.default_rng(0).standard_normal(240)) / 120
    wave = pulses(periods, np.ones(240))
    found = perturbation.find_pulses(wave, RATE, pitch.track(wave, RATE, HOP, 75.0, 600.0).f0, HOP)
    expected = np.abs(np.diff(periods)).mean() / periods.mean()
    # The ringing of one cycle reaches into the next and shifts where they match best.
    assert perturbation.jitter(found).local() == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("amount", [0.03, 0.1])
def test_shimmer_is_what_was_put_in(amount: float) -> None:
    amplitudes = 1.0 + amount * np.random.default_rng(0).standard_normal(240)
    wave = pulses(np.full(240, 1 / 120), amplitudes)
    found = perturbation.find_pulses(wave, RATE, pitch.track(wave, RATE, HOP, 75.0, 600.0).f0, HOP)
    expected = np.abs(np.diff(amplitudes)).mean() / amplitudes.mean()
    assert perturbation.shimmer(wave, RATE, found).local() == pytest.approx(expected, rel=0.15)


def test_jitter_and_shimmer_equal_praat_on_the_same_pulses(
    recordings: list[np.ndarray], parselmouth: object
) -> None:
    for wave in recordings:
        sound = parselmouth.Sound(wave.astype(np.float64), RATE)
        points = parselmouth.praat.call([sound, sound.to_pitch_ac()], "To PointProcess (cc)")
        count = parselmouth.praat.call(points, "Get number of points")
        times = [parselmouth.praat.call(points, "Get time from index", i + 1) for i in range(count)]
        same = perturbation.Pulses(np.array(times), np.zeros(count, dtype=np.intp))
        jitter = parselmouth.praat.call(points, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3)
        shimmer = parselmouth.praat.call([sound, points], "Get shimmer (local)", 0, 0, 0.0001, 0.02, 1.3, 1.6)
        assert perturbation.jitter(same).local() == pytest.approx(jitter, abs=0.003)
        assert perturbation.shimmer(wave, RATE, same).local() == pytest.approx(shimmer, abs=0.01)


def test_jitter_and_shimmer_follow_praat_over_speakers(
    recordings: list[np.ndarray], parselmouth: object
) -> None:
    """The pulses of the two differ here and there, the ranking of the voices does not."""
    ours, praats = [], []
    view = build_view("descriptors", groups="quality", functionals=True)
    for wave in recordings:
        ours.append(view(wave, RATE)[0, -2:])
        sound = parselmouth.Sound(wave.astype(np.float64), RATE)
        points = parselmouth.praat.call([sound, sound.to_pitch_ac()], "To PointProcess (cc)")
        jitter = parselmouth.praat.call(points, "Get jitter (local)", 0, 0, 0.0001, 0.02, 1.3)
        shimmer = parselmouth.praat.call([sound, points], "Get shimmer (local)", 0, 0, 0.0001, 0.02, 1.3, 1.6)
        praats.append([jitter, shimmer])
    for found, expected in zip(np.transpose(ours), np.transpose(praats), strict=True):
        assert np.corrcoef(found, expected)[0, 1] > 0.8
        assert np.median(np.abs(found / expected - 1)) < 0.2


# Speaking rate -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [2.0, 4.0, 6.0])
def test_syllables_are_counted(rate: float) -> None:
    time = np.arange(3 * RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * k * 120 * time) / k for k in range(1, 20))
    wave = buzz * (0.55 - 0.45 * np.cos(2 * np.pi * rate * time))
    nuclei = syllable_nuclei(wave, RATE, HOP, np.ones(301, dtype=bool))
    assert len(nuclei) == 3 * rate
    np.testing.assert_allclose(nuclei / 100, (np.arange(3 * rate) + 0.5) / rate, atol=0.03)
    assert len(syllable_nuclei(wave, RATE, HOP, np.zeros(301, dtype=bool))) == 0


# The view ----------------------------------------------------------------------------------------------------------


def test_columns_follow_the_groups() -> None:
    view = build_view("descriptors", groups="quality+lpc+pitch", lpc_order=2)
    assert view.columns == (
        "hnr",
        "jitter",
        "shimmer",
        "lpc_1",
        "lpc_2",
        "f0",
        "voiced",
        "unvoiced",
        "silent",
    )
    whole = build_view("descriptors", groups="energy", functionals=True)
    statistics = [f"energy_{name}" for name in ("mean", "std", "p5", "p50", "p95")]
    assert list(whole.columns[:5]) == statistics
    assert whole.columns[-5:] == ("duration", "speaking_rate", "voiced", "unvoiced", "silent")
    assert whole.shape == (20,)


def test_functionals_are_statistics_of_the_frames() -> None:
    frames = build_view("descriptors", groups="pitch+energy")
    whole = build_view("descriptors", groups="pitch+energy", functionals=True)
    values = dict(zip(frames.columns, frames(sentence(), RATE).T, strict=True))
    found = dict(zip(whole.columns, whole(sentence(), RATE)[0], strict=True))
    f0 = values["f0"][values["f0"] > 0]
    assert found["f0_mean"] == pytest.approx(f0.mean(), rel=1e-5)
    assert found["f0_p95"] == pytest.approx(np.percentile(f0, 95), rel=1e-5)
    energy = values["energy"][values["silent"] == 0]
    assert found["energy_std"] == pytest.approx(energy.std(), rel=1e-5)
    assert found["voiced"] == pytest.approx(values["voiced"].mean(), rel=1e-5)
    assert found["voiced"] + found["unvoiced"] + found["silent"] == pytest.approx(1.0)
    assert found["duration"] == 2.0
    assert found["speaking_rate"] == 2.0  # four syllables


def test_a_group_has_the_same_values_whatever_stands_beside_it() -> None:
    every = build_view("descriptors", groups="pitch+energy+formants+quality+lpc+plp")
    together = dict(zip(every.columns, every(sentence(), RATE).T, strict=True))
    for group in every.groups.split("+"):
        alone = build_view("descriptors", groups=group)
        for column, values in zip(alone.columns, alone(sentence(), RATE).T, strict=True):
            np.testing.assert_array_equal(values, together[column])


@pytest.mark.parametrize("functionals", [False, True])
@pytest.mark.parametrize("samples", [1, 2, 100, 401, 3000])
def test_silent_and_short_signals_are_finite(functionals: bool, samples: int) -> None:
    view = build_view("descriptors", groups="pitch+energy+formants+quality+lpc+plp", functionals=functionals)
    for wave in (np.zeros(samples), np.sin(0.1 * np.arange(samples)), np.ones(samples)):
        found = view(wave.astype(np.float32), RATE)
        assert found.shape == (1 if functionals else 1 + samples // HOP, *view.shape)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()


def test_picklable() -> None:
    view = build_view("descriptors", groups="plp")
    assert pickle.loads(pickle.dumps(view)) == view


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="16000 Hz, got 8000"):
        build_view("descriptors")(sentence(), 8000)
    with pytest.raises(ValueError, match="shape"):
        build_view("descriptors")(np.zeros(0, np.float32), RATE)


@pytest.mark.parametrize(
    "settings",
    [
        {"groups": "pitch+loudness"},
        {"groups": "pitch+pitch"},
        {"groups": ""},
        {"sample_rate": 4000},
        {"step": 0.05},
        {"window": 2.0},
        {"min_pitch": 10.0},
        {"max_pitch": 5000.0},
        {"formant_ceiling": 9000.0},
        {"lpc_order": 0},
        {"lpc_order": 200},
        {"lpc_method": "lattice"},
        {"plp_order": 40},
        {"plp_bands": "mel"},
        {"plp_compression": "none"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"descriptors: .*{next(iter(settings))}"):
        build_view("descriptors", **settings)
