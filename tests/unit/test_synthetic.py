"""Synthetic corpora: the same bytes for the same settings, never taken for recordings, learnable by ear."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import lfilter

from ser_models.corpora import EMOTIONS, load_corpus, parse_corpus
from ser_models.corpora.marker import MARKER_NAME
from ser_models.corpora.prosody import EMOTION_DELIVERY, draw_voice
from ser_models.corpora.speech import Delivery, _resonate, random_generator, synthesise
from ser_models.corpora.synthetic import LAYOUTS, Settings, generate, main, render
from ser_models.errors import UserError

SMALL = Settings(speakers=2, utterances=8, seconds=0.5, sample_rate=8000)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*.wav")
    }


def test_equal_settings_give_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        generate("ravdess", str(tmp_path / name), SMALL)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert (tmp_path / "a" / MARKER_NAME).read_bytes() == (tmp_path / "b" / MARKER_NAME).read_bytes()


def test_another_seed_gives_other_recordings(tmp_path: Path):
    generate("ravdess", str(tmp_path / "a"), SMALL)
    generate(
        "ravdess",
        str(tmp_path / "b"),
        Settings(speakers=2, utterances=8, seconds=0.5, sample_rate=8000, seed=1),
    )
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())


def test_a_smaller_corpus_is_a_subset_of_a_larger_one(tmp_path: Path):
    smaller = Settings(speakers=1, utterances=3, seconds=0.5, sample_rate=8000)
    generate("ravdess", str(tmp_path / "large"), SMALL)
    generate("ravdess", str(tmp_path / "small"), smaller)
    assert digests(tmp_path / "small").items() <= digests(tmp_path / "large").items()


def test_no_two_recordings_are_equal(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    found = digests(tmp_path)
    assert len(set(found.values())) == len(found) == 16


def test_the_full_layout_has_the_published_proportions():
    items = LAYOUTS["ravdess"](Settings(speakers=24, utterances=60))
    assert len({item.path for item in items}) == 1440
    assert sum(item.emotion == "neutral" for item in items) == 96
    assert {sum(item.emotion == emotion for item in items) for emotion in ("calm", "angry", "sad")} == {192}
    assert {item.gender for item in items if int(item.speaker) % 2} == {"male"}


def test_few_utterances_are_spread_over_all_emotions():
    items = LAYOUTS["ravdess"](Settings(speakers=1, utterances=8))
    assert len({item.emotion for item in items}) == 8


def test_chosen_emotions_only(tmp_path: Path):
    generate(
        "ravdess", str(tmp_path), Settings(speakers=1, utterances=6, emotions=("sad", "angry"), seconds=0.3)
    )
    assert sorted(load_corpus("ravdess", str(tmp_path))["emotion"].to_pylist()) == ["angry"] * 3 + ["sad"] * 3


def test_every_canonical_emotion_but_other_can_be_spoken():
    assert set(EMOTION_DELIVERY) == set(EMOTIONS) - {"other"}


def test_the_manifest_calls_the_corpus_synthetic(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    table = load_corpus("ravdess", str(tmp_path))
    assert table.schema.metadata[b"synthetic"] == b"true"
    assert table.schema.metadata[b"corpus"] == b"ravdess"


def test_a_part_of_a_synthetic_corpus_is_still_synthetic(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    parsed = parse_corpus("ravdess", str(tmp_path / "Actor_01"))
    assert parsed.synthetic
    assert "8 of 16 utterances" in (parsed.disagreement or "")


def test_synthetic_files_never_mix_with_others(tmp_path: Path):
    generate("ravdess", str(tmp_path / "corpus" / "fake"), SMALL)
    with pytest.raises(UserError, match=r"synthetic corpus in fake/"):
        load_corpus("ravdess", str(tmp_path / "corpus"), allow_partial=True)


def test_a_killed_generation_is_flagged_incomplete_and_can_be_continued(tmp_path: Path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ser_models.corpora.synthetic.render", die)
    with pytest.raises(KeyboardInterrupt):
        generate("ravdess", str(tmp_path / "a"), SMALL)
    assert (tmp_path / "a" / MARKER_NAME).exists()
    monkeypatch.undo()
    generate("ravdess", str(tmp_path / "a"), SMALL)
    generate("ravdess", str(tmp_path / "b"), SMALL)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_second_run_writes_nothing(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    generate("ravdess", str(tmp_path), SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_folder_with_other_contents_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        generate("ravdess", str(tmp_path), SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="cannot be used as a folder"):
        generate("ravdess", str(tmp_path / "thesis.txt"), SMALL)


def test_other_settings_need_another_folder(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    with pytest.raises(UserError, match="other settings"):
        generate("ravdess", str(tmp_path), Settings(speakers=1, utterances=8, seconds=0.5, sample_rate=8000))


def test_a_damaged_marker_is_named(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    (tmp_path / MARKER_NAME).write_text("{}")
    with pytest.raises(UserError, match="SYNTHETIC.json is damaged"):
        load_corpus("ravdess", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speakers", "25"], "speakers 25 must lie between 1 and 24"),
        (["--utterances", "61"], "utterances 61 must lie between 1 and 60"),
        (["--utterances", "0"], "utterances 0"),
        (["--emotions", "bored"], "ravdess has no emotion 'bored'"),
        (["--seconds", "nan"], "seconds nan must lie"),
        (["--sample-rate", "10"], "sample_rate 10 must lie"),
        (["--speakers", "many"], "invalid int value"),
        (["--noise", "1"], "unrecognized arguments"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(tmp_path: Path, arguments, message):
    with pytest.raises(UserError, match=message) as caught:
        main(["ravdess", str(tmp_path / "out"), *arguments])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_it_says(tmp_path: Path, capsys):
    arguments = ["--speakers", "1", "--utterances", "2", "--emotions", "happy, sad", "--seconds", "0.3"]
    assert main(["ravdess", str(tmp_path), *arguments]) == 0
    assert "2 synthetic utterances of 1 speakers" in capsys.readouterr().out
    assert load_corpus("ravdess", str(tmp_path)).num_rows == 2


# The signals


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


def test_files_are_mono_sixteen_bit_wav_of_the_asked_rate():
    item = LAYOUTS["ravdess"](SMALL)[0]
    with soundfile.SoundFile(io.BytesIO(render(item, SMALL))) as sound:
        assert (sound.samplerate, sound.channels, sound.subtype, sound.format) == (8000, 1, "PCM_16", "WAV")
        assert sound.frames / 8000 == pytest.approx(0.5, rel=0.5)
