"""RAVDESS: what its names say, which files become a row, and the counts of the real recordings."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_models.corpora import load_corpus, parse_corpus
from ser_models.corpora.listing import Listing
from ser_models.corpora.ravdess import CORPUS, parse
from ser_models.errors import UserError


def parse_names(*paths: str):
    return parse(Listing("/data", tuple(sorted(paths))))


def test_every_field_of_a_name_reaches_the_row():
    (row,) = parse_names("Actor_12/03-01-06-02-02-01-12.wav").rows
    assert row.utterance_id == "03-01-06-02-02-01-12"
    assert (row.speaker, row.gender) == ("12", "female")
    assert (row.emotion, row.intensity) == ("fearful", "strong")
    assert (row.sentence, row.text) == ("2", "Dogs are sitting by the door")
    assert (row.scenario, row.language, row.accent) == ("scripted", "en", "North American")
    assert (row.audio, row.video) == ("/data/Actor_12/03-01-06-02-02-01-12.wav", None)


@pytest.mark.parametrize(
    ("code", "emotion"),
    [
        ("01", "neutral"),
        ("02", "calm"),
        ("03", "happy"),
        ("04", "sad"),
        ("05", "angry"),
        ("06", "fearful"),
        ("07", "disgusted"),
        ("08", "surprised"),
    ],
)
def test_emotion_codes_become_canonical_names(code, emotion):
    (row,) = parse_names(f"03-01-{code}-01-01-01-01.wav").rows
    assert (row.emotion, row.gender) == (emotion, "male")


@pytest.mark.parametrize(
    ("paths", "audio", "video"),
    [
        (["03-01-03-01-01-01-01.flac"], "03-01-03-01-01-01-01.flac", None),
        (["01-01-03-01-01-01-01.mp4"], "01-01-03-01-01-01-01.mp4", "01-01-03-01-01-01-01.mp4"),
        (
            ["03-01-03-01-01-01-01.wav", "01-01-03-01-01-01-01.mp4", "02-01-03-01-01-01-01.mp4"],
            "03-01-03-01-01-01-01.wav",
            "01-01-03-01-01-01-01.mp4",
        ),
        (
            ["03-01-03-01-01-01-01.wav", "02-01-03-01-01-01-01.mp4"],
            "03-01-03-01-01-01-01.wav",
            "02-01-03-01-01-01-01.mp4",
        ),
        (["02-01-03-01-01-01-01.mp4"], None, "02-01-03-01-01-01-01.mp4"),
    ],
)
def test_files_that_show_one_performance_are_one_utterance_with_one_id(paths, audio, video):
    findings = parse_names(*paths)
    (row,) = findings.rows
    assert row.utterance_id == "03-01-03-01-01-01-01"
    assert (row.audio, row.video) == (audio and f"/data/{audio}", video and f"/data/{video}")
    assert not findings.problems


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("03-01-09-01-01-01-01.wav", "unknown emotion code 09"),
        ("03-01-03-03-01-01-01.wav", "unknown intensity code 03"),
        ("03-01-03-01-01-01-25.wav", "unknown actor code 25"),
        ("04-01-03-01-01-01-01.wav", "unknown modality code 04"),
        ("03-01-01-02-01-01-01.wav", "neutral speech has no strong intensity"),
        ("Actor_03/03-01-03-01-01-01-07.wav", "lies in the folder Actor_03"),
        ("Actor_01/recording 1.wav", "not seven pairs of digits"),
        ("Actor_01/03-01-03-01-01-01-01 (1).wav", "not seven pairs of digits"),
        ("Actor_01/03-01-03-01-01-01-01.mp3", "ends in .wav or .flac, this one in .mp3"),
        ("Actor_01/01-01-03-01-01-01-01.wav", "ends in .mp4, this one in .wav"),
    ],
)
def test_a_file_that_cannot_be_identified_is_reported_and_gives_no_row(path, reason):
    findings = parse_names(path)
    assert findings.rows == []
    (problem,) = findings.problems
    assert problem.uri == f"/data/{path}"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Actor_01/03-01-03-01-01-01-01.flac", "Actor_01/03-01-03-01-01-01-01.wav"),
        ("Actor_01/03-01-03-01-01-01-01.wav", "audio_speech_actors_01-24/Actor_01/03-01-03-01-01-01-01.wav"),
    ],
)
def test_a_second_file_of_one_recording_is_reported_and_the_first_is_taken(first, second):
    findings = parse_names(second, first)
    assert [row.audio for row in findings.rows] == [f"/data/{first}"]
    assert [problem.uri for problem in findings.problems] == [f"/data/{second}"]
    assert f"duplicate of 03-01-03-01-01-01-01: {first} is taken" in findings.problems[0].reason


def test_songs_and_other_files_are_left_out_with_a_note():
    findings = parse_names(
        "03-01-03-01-01-01-01.wav", "03-02-03-01-01-01-01.wav", "03-02-04-01-01-01-01.wav", "README.txt"
    )
    assert len(findings.rows) == 1
    assert not findings.problems
    assert any("2 songs" in note for note in findings.notes)
    assert "1 files of other kinds ignored" in findings.notes


def test_published_counts_are_those_of_the_paper():
    published = CORPUS.published
    assert published.total == 1440
    assert published.columns["emotion"].pop("neutral") == 96
    published.columns["emotion"]["neutral"] = 96
    assert sorted(published.columns["emotion"].values()) == [96] + [192] * 7
    assert list(published.columns["speaker"].values()) == [60] * 24
    assert all(sum(values.values()) == 1440 for values in published.columns.values())


def test_the_real_recordings_of_twelve_actors_have_the_published_counts(real_corpora: Path):
    parsed = parse_corpus("ravdess", str(real_corpora / "ravdess"))
    assert parsed.table.num_rows == 720
    emotions = dict(parsed.found.columns["emotion"])
    assert emotions.pop("neutral") == 48
    assert list(emotions.values()) == [96] * 7
    assert list(parsed.found.columns["speaker"].values()) == [60] * 12
    assert parsed.problems == ()
    assert not parsed.synthetic
    assert parsed.table["duration"].null_count == 0
    assert any("03-01-03-01-02-01-07.flac = 03-01-03-01-02-02-07.flac" in note for note in parsed.notes)


def test_half_of_the_real_corpus_is_refused_with_what_is_missing(real_corpora: Path):
    with pytest.raises(UserError, match=r"720 of 1440 utterances.*speaker missing: 13, .*--allow-partial"):
        load_corpus("ravdess", str(real_corpora / "ravdess"))


def test_the_originals_show_their_stereo_files_and_their_duplicate_pair(real_corpora: Path):
    parsed = parse_corpus("ravdess", str(real_corpora / "ravdess_originals"))
    assert parsed.table["sample_rate"].unique().to_pylist() == [48000]
    assert sum(channels == 2 for channels in parsed.table["channels"].to_pylist()) == 3
    assert any(note.startswith("stereo (3): 03-01-02-01-01-02-01") for note in parsed.notes)
    identical = [note for note in parsed.notes if note.startswith("identical")]
    assert identical == ["identical recordings: 03-01-03-01-02-01-07.wav = 03-01-03-01-02-02-07.wav"]


def test_the_audio_visual_clip_has_the_id_and_length_of_its_sound(real_corpora: Path):
    clip = load_corpus("ravdess", str(real_corpora / "ravdess_av"), allow_partial=True).to_pylist()[0]
    sound = load_corpus("ravdess", str(real_corpora / "ravdess_originals"), allow_partial=True).to_pylist()[0]
    assert clip["utterance_id"] == sound["utterance_id"] == "03-01-01-01-01-01-01"
    assert clip["audio"] == clip["video"]
    assert clip["audio"].endswith("Actor_01/01-01-01-01-01-01-01.mp4")
    assert clip["duration"] == pytest.approx(sound["duration"], abs=1e-6)
    assert (clip["sample_rate"], clip["channels"]) == (48000, 2)


def test_a_truncated_clip_is_a_problem(real_corpora: Path, tmp_path: Path):
    whole = (real_corpora / "ravdess_av/Actor_01/01-01-01-01-01-01-01.mp4").read_bytes()
    (tmp_path / "01-01-01-01-01-01-01.mp4").write_bytes(whole[: len(whole) // 2])
    parsed = parse_corpus("ravdess", str(tmp_path))
    assert parsed.table["duration"].to_pylist() == [None]
    assert parsed.problems[0].reason.startswith("truncated")


def test_identical_recordings_are_found_across_formats(tmp_path: Path):
    samples = (np.random.default_rng(0).normal(size=8000) * 3000).astype(np.int16)
    soundfile.write(tmp_path / "03-01-03-01-01-01-01.wav", samples, 16000)
    soundfile.write(tmp_path / "03-01-03-01-01-02-01.flac", samples, 16000)
    samples[7999] ^= 1
    soundfile.write(tmp_path / "03-01-03-02-01-01-01.wav", samples, 16000)
    notes = parse_corpus("ravdess", str(tmp_path)).notes
    identical = [note for note in notes if note.startswith("identical")]
    assert identical == ["identical recordings: 03-01-03-01-01-01-01.wav = 03-01-03-01-01-02-01.flac"]
