"""MELD: what the annotation files say, which clips belong to them, and the counts of the real annotations."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from ser_models.corpora import load_corpus, parse_corpus, problems_of
from ser_models.corpora.listing import list_files
from ser_models.corpora.meld import CORPUS, FOLDERS, LONG_CLIPS, LOST_CLIPS, SURPLUS_CLIPS, parse
from ser_models.errors import UserError

COLUMNS = (
    "Sr No.",
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
)


def line(dialogue: int, utterance: int, **fields: str) -> dict[str, str]:
    return {
        "Sr No.": "1",
        "Utterance": f"Line {utterance}, spoken.",
        "Speaker": "Phoebe",
        "Emotion": "joy",
        "Sentiment": "positive",
        "Dialogue_ID": str(dialogue),
        "Utterance_ID": str(utterance),
        "Season": "4",
        "Episode": "7",
        "StartTime": "00:20:57,256",
        "EndTime": "0:21:00,049",
        **fields,
    }


def write_lines(
    root: Path, split: str, *lines: dict[str, str], columns=COLUMNS, encoding: str = "utf-8"
) -> Path:
    path = root / f"{split}_sent_emo.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding=encoding) as stream:
        writer = csv.DictWriter(stream, columns, lineterminator="\r\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
    return path


def noise(path: Path) -> np.ndarray:
    return (np.random.default_rng(sum(str(path).encode())).normal(size=16000) * 3000).astype(np.int16)


def write_sound(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(path), 16000)
    return path


def write_clip(path: Path) -> Path:
    """A clip of one second with sound and pictures."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 32
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(10):
            container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(pictures.encode(None))
        samples = noise(path)[None, :]
        for start in range(0, samples.shape[1], 1024):
            part = np.ascontiguousarray(samples[:, start : start + 1024])
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def read(root: Path):
    findings = parse(list_files(str(root)))
    return {row.utterance_id: row for row in findings.rows}, findings


# Rows


def test_every_field_of_a_line_reaches_the_row(tmp_path: Path):
    write_lines(tmp_path, "train", line(0, 3, Speaker=" The Interviewer ", Season="8", Episode="21"))
    clip = write_clip(tmp_path / "train_splits/dia0_utt3.mp4")
    rows, findings = read(tmp_path)
    row = rows["train_dia0_utt3"]
    assert (row.split, row.dialogue, row.turn, row.session) == ("train", "train_dia0", 0, "s08e21")
    assert (row.speaker, row.gender, row.emotion) == ("The Interviewer", None, "happy")
    assert (row.text, row.language, row.scenario) == ("Line 3, spoken.", "en", "scripted")
    assert (row.audio, row.video, row.start, row.end) == (str(clip), str(clip), None, None)
    assert (row.video_start, row.video_end, row.video_region) == (None, None, None)
    assert findings.problems == []
    assert findings.notes == []


@pytest.mark.parametrize(
    ("published", "emotion"),
    [
        ("anger", "angry"),
        ("disgust", "disgusted"),
        ("fear", "fearful"),
        ("joy", "happy"),
        ("neutral", "neutral"),
        ("sadness", "sad"),
        ("surprise", "surprised"),
    ],
)
def test_emotions_become_canonical_names(tmp_path: Path, published, emotion):
    write_lines(tmp_path, "dev", line(0, 0, Emotion=published))
    rows, _ = read(tmp_path)
    assert rows["dev_dia0_utt0"].emotion == emotion


def test_equal_numbers_in_different_splits_are_different_utterances(tmp_path: Path):
    for split in FOLDERS:
        write_lines(tmp_path, split, line(0, 0))
    rows, findings = read(tmp_path)
    assert list(rows) == ["dev_dia0_utt0", "test_dia0_utt0", "train_dia0_utt0"]
    assert {row.dialogue for row in rows.values()} == {"train_dia0", "dev_dia0", "test_dia0"}
    assert findings.problems == []


def test_turns_are_ranks_of_the_utterance_numbers(tmp_path: Path):
    write_lines(tmp_path, "train", line(1, 10), line(1, 9), line(1, 2), line(2, 5))
    rows, _ = read(tmp_path)
    turns = {name.removeprefix("train_"): row.turn for name, row in rows.items()}
    assert turns == {"dia1_utt10": 2, "dia1_utt9": 1, "dia1_utt2": 0, "dia2_utt5": 0}


def test_columns_are_found_by_name(tmp_path: Path):
    columns = [name for name in reversed(COLUMNS) if name not in ("Sr No.", "Sentiment")]
    write_lines(tmp_path, "train", line(7, 8), columns=columns)
    rows, findings = read(tmp_path)
    assert rows["train_dia7_utt8"].emotion == "happy"
    assert findings.problems == []


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("It\x92s over\x85", "It’s over…"),
        ("\x93Hi\x94 \x96 he said", "“Hi” – he said"),
        ("  Café \t", "Café"),
        ("odd \x81", "odd \x81"),
        ("  ", None),
    ],
)
def test_control_characters_get_their_windows_meaning(tmp_path: Path, written, text):
    write_lines(tmp_path, "train", line(0, 0, Utterance=written))
    rows, _ = read(tmp_path)
    assert rows["train_dia0_utt0"].text == text


def test_a_windows_1252_file_is_read_with_a_note(tmp_path: Path):
    write_lines(
        tmp_path, "train", line(0, 0, Utterance="It’s the café", Speaker="Richard’s Date"), encoding="cp1252"
    )
    rows, findings = read(tmp_path)
    assert rows["train_dia0_utt0"].text == "It’s the café"
    assert rows["train_dia0_utt0"].speaker == "Richard’s Date"
    assert any("train_sent_emo.csv is not UTF-8" in note for note in findings.notes)


# Clips


def test_annotations_alone_are_one_note(tmp_path: Path):
    write_lines(tmp_path, "train", line(0, 0), line(0, 1))
    rows, findings = read(tmp_path)
    assert [row.audio for row in rows.values()] == [None, None]
    assert findings.problems == []
    assert findings.notes == ["annotations only: no clip of any utterance is there"]


@pytest.mark.parametrize(
    ("split", "folder"),
    [
        ("train", "train_splits"),
        ("train", "MELD.Raw/train/train_splits"),
        ("dev", "dev/dev_splits_complete"),
        ("test", "output_repeated_splits_test"),
        ("test", "Mé corpus/output_repeated_splits_test/wav"),
    ],
)
def test_clips_are_found_in_the_folder_of_their_split_at_any_depth(tmp_path: Path, split, folder):
    write_lines(tmp_path / "annotations here", split, line(3, 4))
    clip = write_clip(tmp_path / folder / "dia3_utt4.mp4")
    rows, findings = read(tmp_path)
    assert rows[f"{split}_dia3_utt4"].video == str(clip)
    assert findings.problems == []


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_sound_file_is_taken_before_the_sound_of_the_clip(tmp_path: Path, suffix):
    write_lines(tmp_path, "train", line(0, 0), line(0, 1))
    clip = write_clip(tmp_path / "train_splits/dia0_utt0.mp4")
    sounds = [write_sound(tmp_path / f"train_splits/wav/dia0_utt{number}{suffix}") for number in (0, 1)]
    rows, findings = read(tmp_path)
    assert [row.audio for row in rows.values()] == [str(sound) for sound in sounds]
    assert [row.video for row in rows.values()] == [str(clip), None]
    assert findings.problems == []
    assert findings.notes == ["1 utterances have sound but no pictures"]


def test_a_second_clip_of_an_utterance_is_reported(tmp_path: Path):
    write_lines(tmp_path, "train", line(0, 0))
    first = write_sound(tmp_path / "train_splits/dia0_utt0.flac")
    second = write_sound(tmp_path / "train_splits/dia0_utt0.wav")
    rows, findings = read(tmp_path)
    assert rows["train_dia0_utt0"].audio == str(first)
    (problem,) = findings.problems
    assert problem.uri == str(second)
    assert problem.reason == "duplicate of train_dia0_utt0: train_splits/dia0_utt0.flac is taken"


def test_a_missing_clip_is_a_problem_that_names_its_place(tmp_path: Path):
    write_lines(tmp_path, "test", line(0, 0), line(0, 1))
    write_sound(tmp_path / "output_repeated_splits_test/dia0_utt0.wav")
    rows, findings = read(tmp_path)
    assert rows["test_dia0_utt1"].audio is None
    (problem,) = findings.problems
    assert problem.uri == str(tmp_path / "output_repeated_splits_test/dia0_utt1.mp4")
    assert problem.reason == "no clip of test_dia0_utt1"


def test_a_split_without_any_clip_is_one_problem(tmp_path: Path):
    write_lines(tmp_path, "train", *(line(0, number) for number in range(5)))
    write_lines(tmp_path, "dev", line(0, 0))
    write_sound(tmp_path / "dev_splits_complete/dia0_utt0.wav")
    _, findings = read(tmp_path)
    (problem,) = findings.problems
    assert problem.uri == str(tmp_path / "train_splits")
    assert "5 utterances are without sound" in problem.reason


def test_clips_that_the_official_distribution_lacks_are_a_note(tmp_path: Path):
    assert LOST_CLIPS == ("train_dia125_utt3", "dev_dia110_utt7")
    write_lines(tmp_path, "train", line(125, 3), line(125, 4))
    write_sound(tmp_path / "train_splits/dia125_utt4.wav")
    rows, findings = read(tmp_path)
    assert rows["train_dia125_utt3"].audio is None
    assert findings.problems == []
    assert "no clip, as in the official distribution: train_dia125_utt3" in findings.notes


def test_a_damaged_clip_is_a_problem_unless_it_is_damaged_officially(tmp_path: Path):
    write_lines(tmp_path, "train", line(125, 3), line(125, 4), line(125, 5))
    write_clip(tmp_path / "train_splits/dia125_utt5.mp4")
    damaged = [write_clip(tmp_path / f"train_splits/dia125_utt{number}.mp4") for number in (3, 4)]
    for path in damaged:
        path.write_bytes(path.read_bytes()[:500])
    parsed = parse_corpus("meld", str(tmp_path))
    assert [problem.uri for problem in parsed.problems] == [str(damaged[1])]
    assert any(
        note.startswith("damaged, as in the official distribution: dia125_utt3.mp4") for note in parsed.notes
    )
    assert [duration is None for duration in parsed.table["duration"].to_pylist()] == [True, True, False]


def test_clips_without_annotation_are_noted_and_the_known_ones_by_name(tmp_path: Path):
    write_lines(tmp_path, "dev", line(49, 3))
    for name in ("dia49_utt3", "dia49_utt4", "dia49_utt5", "dia66_utt9", "dia66_utt10", "dia99_utt9"):
        write_sound(tmp_path / f"dev_splits_complete/{name}.wav")
    write_sound(tmp_path / "output_repeated_splits_test/final_videos_testdia3_utt4.wav")
    write_sound(tmp_path / "somewhere/dia0_utt0.wav")
    (tmp_path / "README.txt").write_text("x")
    rows, findings = read(tmp_path)
    assert list(rows) == ["dev_dia49_utt3"]
    assert findings.problems == []
    (known,) = [note for note in findings.notes if "as known" in note and "final" not in note]
    assert all(name in known for name in SURPLUS_CLIPS)
    assert "1 clips without annotation left out: dev_dia99_utt9" in findings.notes
    assert any(note.startswith("1 clips final_videos_test* left out") for note in findings.notes)
    assert any(
        note.startswith("1 recordings left out") and "somewhere/dia0_utt0" in note for note in findings.notes
    )
    assert "1 files of other kinds ignored" in findings.notes


def test_clips_that_are_too_long_are_named_and_kept(tmp_path: Path):
    assert LONG_CLIPS == ("train_dia309_utt0", "test_dia38_utt4", "test_dia220_utt0")
    times = {"StartTime": "00:13:31,060", "EndTime": "00:18:36,000"}
    write_lines(tmp_path, "test", line(38, 4, **times), line(38, 5))
    for number in (4, 5):
        write_sound(tmp_path / f"output_repeated_splits_test/dia38_utt{number}.wav")
    rows, findings = read(tmp_path)
    assert rows["test_dia38_utt4"].audio
    assert findings.problems == []
    assert findings.notes[-1] == (
        "clips far longer than what is said, kept as they are: test_dia38_utt4 (annotated with 304.9 s)"
    )


# Faulty annotations


@pytest.mark.parametrize(
    ("fields", "reason", "survives"),
    [
        ({"Emotion": "boredom"}, "line 2: unknown emotion 'boredom' (known: anger, disgust", True),
        ({"Emotion": ""}, "line 2: unknown emotion ''", True),
        ({"Speaker": " "}, "line 2: no speaker", True),
        ({"EndTime": "00:21"}, "line 2: not a time: EndTime '00:21'", True),
        ({"Dialogue_ID": "one"}, "line 2: not a number: Dialogue_ID 'one'", False),
        ({"Utterance_ID": "-1"}, "line 2: not a number: Utterance_ID '-1'", False),
        ({"Season": "", "Episode": "x"}, "line 2: not a number: Season '', Episode 'x'", False),
    ],
)
def test_a_faulty_line_is_reported_and_kept_where_it_is_certain(tmp_path: Path, fields, reason, survives):
    path = write_lines(tmp_path, "train", {**line(0, 0), **fields}, line(0, 1))
    rows, findings = read(tmp_path)
    assert len(rows) == (2 if survives else 1)
    (problem,) = findings.problems
    assert problem.uri == str(path)
    assert problem.reason.startswith(reason)
    table = load_corpus("meld", str(tmp_path), allow_partial=True)
    assert table.num_rows == len(rows)


def test_a_second_line_of_an_utterance_is_reported_and_the_first_is_taken(tmp_path: Path):
    write_lines(tmp_path, "train", line(0, 0, Emotion="anger"), line(0, 1), line(0, 0, Emotion="fear"))
    rows, findings = read(tmp_path)
    assert rows["train_dia0_utt0"].emotion == "angry"
    (problem,) = findings.problems
    assert problem.reason == "line 4: duplicate of train_dia0_utt0: the first line is taken"


def test_a_second_file_of_a_split_is_reported_and_the_first_is_taken(tmp_path: Path):
    write_lines(tmp_path / "a", "train", line(0, 0))
    second = write_lines(tmp_path / "b", "train", line(0, 1))
    rows, findings = read(tmp_path)
    assert list(rows) == ["train_dia0_utt0"]
    (problem,) = findings.problems
    assert problem.uri == str(second)
    assert "a/train_sent_emo.csv is taken" in problem.reason


@pytest.mark.parametrize("offset", [10, -2])
def test_an_annotation_file_cut_in_the_middle_names_the_line(tmp_path: Path, offset):
    path = write_lines(tmp_path, "train", *(line(0, number) for number in range(9)))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"Line 5") + offset])
    rows, findings = read(tmp_path)
    assert len(rows) == 5
    (problem,) = findings.problems
    assert problem.reason.startswith("line 7:")


@pytest.mark.parametrize("removed", range(1, 40, 3))
def test_a_cut_last_line_never_becomes_another_utterance(tmp_path: Path, removed):
    path = write_lines(tmp_path, "train", line(0, 0), line(12, 34))
    path.write_bytes(path.read_bytes()[:-removed])
    rows, _ = read(tmp_path)
    assert set(rows) <= {"train_dia0_utt0", "train_dia12_utt34"}


def test_a_missing_quotation_mark_costs_only_the_lines_around_it(tmp_path: Path):
    path = write_lines(tmp_path, "train", *(line(0, number) for number in range(9)))
    path.write_bytes(path.read_bytes().replace(b'Line 3, spoken."', b"Line 3, spoken."))
    rows, findings = read(tmp_path)
    assert {f"train_dia0_utt{number}" for number in (0, 1, 2, 6, 7, 8)} <= set(rows)
    assert all(row.text == f"Line {name[-1]}, spoken." for name, row in rows.items())
    assert any("line" in problem.reason for problem in findings.problems)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no header: the file is empty"),
        (b"Utterance,Speaker,Emotion\r\nHi,Ross,joy\r\n", "line 1: no column Dialogue_ID, Utterance_ID"),
        (b"\x00\x01\x02 no table", "no column Utterance"),
    ],
)
def test_a_file_that_is_no_annotation_is_reported_and_refused_alone(tmp_path: Path, content, reason):
    (tmp_path / "train_sent_emo.csv").write_bytes(content)
    with pytest.raises(UserError, match=reason):
        load_corpus("meld", str(tmp_path), allow_partial=True)
    write_lines(tmp_path, "dev", line(0, 0))
    table = load_corpus("meld", str(tmp_path), allow_partial=True)
    assert table.num_rows == 1
    (problem,) = problems_of(table)
    assert reason in problem.reason


def test_a_folder_without_annotations_is_refused_with_where_to_get_them(tmp_path: Path):
    write_sound(tmp_path / "train_splits/dia0_utt0.wav")
    with pytest.raises(UserError, match=r"looked for train_sent_emo\.csv.*affective-meld"):
        load_corpus("meld", str(tmp_path), allow_partial=True)


# The whole


def test_a_small_corpus_passes_every_shared_check(tmp_path: Path):
    write_lines(tmp_path, "train", line(0, 0), line(0, 1, Emotion="fear"))
    for number in (0, 1):
        write_clip(tmp_path / f"train_splits/dia0_utt{number}.mp4")
    table = load_corpus("meld", str(tmp_path), allow_partial=True)
    assert problems_of(table) == []
    assert table["duration"].to_pylist() == pytest.approx([1.0, 1.0], abs=0.1)  # AAC adds its padding
    assert table["sample_rate"].to_pylist() == [16000] * 2
    with pytest.raises(UserError, match=r"2 of 13708 utterances.*split missing: dev, test.*--allow-partial"):
        load_corpus("meld", str(tmp_path))


def test_published_counts_agree_with_each_other():
    columns = CORPUS.published.columns
    assert all(sum(values.values()) == CORPUS.published.total == 13708 for values in columns.values())
    assert columns["split"] == {"train": 9989, "dev": 1109, "test": 2610}
    assert columns["emotion"]["neutral"] == 4710 + 470 + 1256
    assert columns["split/emotion"]["dev/disgusted"] == 22


def test_the_real_annotations_have_the_published_counts(real_corpora: Path):
    table = load_corpus("meld", str(real_corpora / "meld"))
    assert table.num_rows == 13708
    rows = table.select(["split", "speaker", "dialogue"]).to_pylist()
    speakers = {split: {row["speaker"] for row in rows if row["split"] == split} for split in FOLDERS}
    assert {split: len(names) for split, names in speakers.items()} == {"train": 260, "dev": 47, "test": 100}
    assert len(speakers["train"] & speakers["test"]) == 69
    assert len({row["dialogue"] for row in rows if row["split"] == "train"}) == 1038
    assert problems_of(table) == []
    assert table["audio"].null_count == 13708


def test_a_line_of_the_real_annotations_is_read_as_it_stands(real_corpora: Path):
    rows, findings = read(real_corpora / "meld")
    row = rows["test_dia38_utt4"]
    assert (row.speaker, row.emotion, row.session) == ("Student", "happy", "s03e07")
    assert row.text == "Oh it’s great, it’s a role on"
    assert findings.notes == ["annotations only: no clip of any utterance is there"]
