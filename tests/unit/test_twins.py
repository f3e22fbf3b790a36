"""Audio twins: copies of one recording are found, other takes of the same sentence are not."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_models.features import media
from ser_models.features.twins import (
    SHORTEST,
    THRESHOLD,
    TOLERANCE,
    VERSION,
    WIDTH,
    envelope,
    find_twins,
)

GOLDEN = [0.055261, -0.003733, -0.015084, 0.025312, 0.005900]


def babble(seed: int, seconds: float = 2.0, rate: int = 16000) -> np.ndarray:
    """Harmonics of a wandering pitch under a syllabic rhythm, with 0.2 s of silence on both sides."""
    rng = np.random.default_rng(seed)
    samples = int(seconds * rate)
    knots = np.linspace(0, samples, max(2, int(seconds * 5)))

    def curve(low, high):
        return np.interp(np.arange(samples), knots, rng.uniform(low, high, len(knots)))

    phase = 2 * np.pi * np.cumsum(curve(90, 300)) / rate
    wave = sum(curve(0, 1) ** 2 * np.sin(k * phase) for k in range(1, 11)) * curve(0, 0.05)
    return np.pad(wave, int(0.2 * rate)).astype(np.float32)


def recoded(samples: np.ndarray, rate: int, kind: str, subtype: str) -> tuple[np.ndarray, int]:
    """The lowest quality that libsndfile offers, 12 to 22 kbit/s for speech at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype, compression_level=0.99)
    file.seek(0)
    return soundfile.read(file, dtype="float32")


def similarity(one: tuple[np.ndarray, int], other: tuple[np.ndarray, int]) -> float:
    return float(envelope(*one) @ envelope(*other))


@pytest.fixture(scope="module")
def ravdess(real_corpora: Path):
    """Names, recordings [(samples, rate)], envelopes and durations of 12 actors."""
    files = sorted((real_corpora / "ravdess").glob("Actor_*/*.flac"))
    read = [media.read(str(file)) for file in files]
    recordings = [(recording.samples, recording.media.sample_rate) for recording in read]
    envelopes = np.stack([envelope(*recording) for recording in recordings])
    durations = np.array([recording.media.duration for recording in read])
    return [file.stem for file in files], recordings, envelopes, durations


def test_golden_values() -> None:
    """Change these only together with VERSION: envelopes in shards made before would be compared with new ones."""
    time = np.arange(16000) / 16000
    wave = np.sin(2 * np.pi * (200 + 1200 * time) * time) * (1 + 0.8 * np.cos(2 * np.pi * 3 * time))
    values = envelope(wave.astype(np.float32), 16000)
    assert VERSION == 1
    assert (values.shape, values.dtype) == ((WIDTH,), np.float32)
    # float32 transforms differ by about 1e-6 between CPU types
    np.testing.assert_allclose(values[[0, 100, 200, 300, 383]], GOLDEN, atol=2e-5)


def test_only_the_duplicate_pair_of_720_real_recordings_is_found(ravdess):
    names, _, envelopes, durations = ravdess
    found = [(names[one], names[other]) for one, other in find_twins(envelopes, durations)]
    assert found == [("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")]


def test_other_takes_of_a_sentence_stay_well_below_the_threshold(ravdess):
    names, _, envelopes, durations = ravdess
    similar = np.triu(envelopes @ envelopes.T, 1)
    similar[names.index("03-01-03-01-02-01-07"), names.index("03-01-03-01-02-02-07")] = 0
    assert similar.max() < THRESHOLD - 0.02
    assert similar[np.abs(durations[:, None] - durations) <= TOLERANCE].max() < THRESHOLD - 0.05


@pytest.mark.parametrize(
    ("change", "lowest"),
    [
        (lambda x, rate: (x * np.float32(0.25), rate), 0.9999),
        (lambda x, rate: (np.pad(x, (int(0.03 * rate), 0)), rate), 0.998),
        (lambda x, rate: (media.resample(x, rate, 48000), 48000), 0.99),
        (lambda x, rate: (media.resample(x, rate, 44100), 44100), 0.99),
        (lambda x, rate: (media.resample(x, rate, 8000), 8000), 0.99),
        (lambda x, rate: recoded(x, rate, "MP3", "MPEG_LAYER_III"), 0.98),
        (lambda x, rate: recoded(x, rate, "OGG", "VORBIS"), 0.965),
        (lambda x, rate: recoded(np.pad(media.resample(x, rate, 8000), 240), 8000, "OGG", "VORBIS"), 0.965),
    ],
    ids=["-12 dB", "30 ms lead", "48 kHz", "44.1 kHz", "8 kHz", "mp3", "vorbis", "8 kHz lead vorbis"],
)
def test_an_altered_copy_of_a_real_recording_stays_its_twin(ravdess, change, lowest):
    """The bounds are a little below the worst of the 60 recordings; the threshold is 0.95."""
    _, recordings, envelopes, _ = ravdess
    scores = [float(envelopes[row] @ envelope(*change(*recordings[row]))) for row in range(0, 720, 12)]
    assert min(scores) > lowest


def test_the_audio_visual_clip_the_original_and_its_16_khz_copy_are_twins(real_corpora: Path):
    read = [
        media.read(str(real_corpora / path))
        for path in (
            "ravdess_av/Actor_01/01-01-01-01-01-01-01.mp4",
            "ravdess_originals/Actor_01/03-01-01-01-01-01-01.wav",
            "ravdess/Actor_01/03-01-01-01-01-01-01.flac",
            "ravdess/Actor_01/03-01-01-01-01-02-01.flac",
        )
    ]
    envelopes = np.stack([envelope(recording.samples, recording.media.sample_rate) for recording in read])
    durations = np.array([recording.media.duration for recording in read])
    assert find_twins(envelopes, durations) == [(0, 1), (0, 2), (1, 2)]
    assert (envelopes[:3] @ envelopes[:3].T).min() > 0.999


def test_gain_lead_and_sample_rate_leave_the_envelope_as_it_is():
    samples = babble(0)
    padded = np.pad(samples, (int(0.03 * 16000), 0)) * np.float32(0.25)
    assert similarity((samples, 16000), (padded, 16000)) > 0.998
    assert similarity((samples, 16000), (media.resample(samples, 16000, 48000), 48000)) > 0.995
    assert similarity((samples, 16000), (media.resample(samples, 16000, 8000), 8000)) > 0.995


def test_different_sounds_of_equal_length_are_no_twins():
    envelopes = np.stack([envelope(babble(seed), 16000) for seed in range(200)])
    assert find_twins(envelopes, np.full(200, 2.4)) == []


def test_envelopes_have_norm_one_and_no_mean_in_any_band():
    values = envelope(babble(1), 16000)
    assert np.linalg.norm(values) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(values.reshape(-1, 16).mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("samples", [0, 1, 7, 400, 30000])
def test_silence_of_any_length_is_zeros(samples):
    assert not envelope(np.zeros(samples, dtype=np.float32), 16000).any()


@pytest.mark.parametrize("samples", [1, 7, 400])
@pytest.mark.parametrize("rate", [4000, 16000, 48000])
def test_a_click_of_few_samples_gives_finite_numbers(samples, rate):
    assert np.isfinite(envelope(np.full(samples, 0.5, dtype=np.float32), rate)).all()


def test_silent_recordings_are_nobody_s_twins():
    envelopes = np.zeros((3, WIDTH), dtype=np.float32)
    assert find_twins(envelopes, np.full(3, 2.0)) == []


def test_twins_differ_in_length_by_no_more_than_the_tolerance():
    envelopes = np.stack([envelope(babble(0), 16000)] * 3)
    assert find_twins(envelopes, np.array([2.0, 2.15, 2.08])) == [(0, 2), (1, 2)]
    assert find_twins(envelopes, np.array([2.0, 2.15, 2.08]), tolerance=0.01) == []


def test_very_short_recordings_are_not_compared():
    envelopes = np.stack([envelope(babble(0), 16000)] * 2)
    assert find_twins(envelopes, np.full(2, SHORTEST - 0.01)) == []
    assert find_twins(envelopes, np.full(2, SHORTEST)) == [(0, 1)]


def test_twins_are_found_wherever_they_stand_among_many():
    """Equals the comparison of all pairs, across the blocks in which the search goes."""
    rng = np.random.default_rng(0)
    envelopes = rng.normal(size=(9000, WIDTH)).astype(np.float32)
    durations = rng.uniform(1.0, 1.5, 9000)
    originals, copies = rng.permutation(9000)[:600].reshape(2, 300)
    envelopes[copies] = envelopes[originals] + 0.1 * rng.normal(size=(300, WIDTH))
    durations[copies] = durations[originals] + rng.uniform(-0.15, 0.15, 300)
    envelopes /= np.linalg.norm(envelopes, axis=1, keepdims=True)
    close = np.abs(durations[copies] - durations[originals]) <= TOLERANCE
    expected = np.sort(np.stack((originals, copies), axis=1)[close], axis=1)
    assert 100 < len(expected) < 300
    assert find_twins(envelopes, durations) == sorted(map(tuple, expected.tolist()))


def test_no_recordings_have_no_twins():
    assert find_twins(np.empty((0, WIDTH), dtype=np.float32), np.empty(0)) == []


def test_envelopes_of_another_width_are_refused():
    with pytest.raises(ValueError, match=f"2 durations need envelopes of {WIDTH}"):
        find_twins(np.zeros((2, 5), dtype=np.float32), np.ones(2))
