"""EMO-DB, SAVEE, CASIA, EMOVO: what their names say, which files become a row, the published counts."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_models.corpora import CORPORA, Findings, load_corpus, parse_corpus
from ser_models.corpora.listing import Listing

ACTED = ("emodb", "savee", "casia", "emovo")


def parse_names(corpus: str, *paths: str) -> Findings:
    return CORPORA[corpus].parse(Listing("/data", tuple(sorted(paths))))


def layout_savee() -> Iterable[str]:
    numbers = {"n": 30} | dict.fromkeys(("a", "d", "f", "h", "sa", "su"), 15)
    for speaker in ("DC", "JE", "JK", "KL"):
        for code, count in numbers.items():
            yield from (f"AudioData/{speaker}/{code}{number:02d}.wav" for number in range(1, count + 1))


def layout_casia() -> Iterable[str]:
    for speaker in ("liuchanhg", "wangzhe", "zhaoquanyin", "ZhaoZuoxiang"):
        for emotion in ("angry", "fear", "happy", "neutral", "sad", "surprise"):
            yield from (f"{speaker}/{emotion}/{number}.wav" for number in range(201, 251))


def layout_emovo() -> Iterable[str]:
    kinds = {"b": 3, "l": 4, "n": 5, "d": 2}
    for speaker in ("f1", "f2", "f3", "m1", "m2", "m3"):
        for emotion in ("dis", "gio", "neu", "pau", "rab", "sor", "tri"):
            for kind, count in kinds.items():
                yield from (
                    f"{speaker}/{emotion}-{speaker}-{kind}{number}.wav" for number in range(1, count + 1)
                )


# What a name says


def test_every_field_of_an_emodb_name_reaches_the_row():
    (row,) = parse_names("emodb", "wav/03a05Fa.wav").rows
    assert (row.utterance_id, row.speaker, row.gender) == ("03a05Fa", "03", "male")
    assert (row.emotion, row.sentence, row.language, row.scenario) == ("happy", "a05", "de", "scripted")
    assert row.text == "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück."
    assert (row.audio, row.video) == ("/data/wav/03a05Fa.wav", None)


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [
        ("W", "angry"),
        ("L", "bored"),
        ("E", "disgusted"),
        ("A", "fearful"),
        ("F", "happy"),
        ("T", "sad"),
        ("N", "neutral"),
    ],
)
def test_the_german_letters_of_emodb_become_canonical_names(letter, emotion):
    (row,) = parse_names("emodb", f"16b10{letter}b.flac").rows
    assert (row.emotion, row.gender) == (emotion, "female")


def test_the_men_of_emodb_are_the_documented_five():
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    rows = parse_names("emodb", *(f"{speaker}a01Wa.wav" for speaker in speakers)).rows
    assert [row.speaker for row in rows if row.gender == "male"] == ["03", "10", "11", "12", "15"]


def test_takes_of_one_sentence_and_emotion_are_different_utterances():
    findings = parse_names("emodb", "wav/08b02Wa.wav", "wav/08b02Wd.wav")
    assert [row.utterance_id for row in findings.rows] == ["08b02Wa", "08b02Wd"]
    assert not findings.problems


@pytest.mark.parametrize("path", ["AudioData/DC/sa07.wav", "ALL/DC_sa07.wav", "DC_sa07.WAV", "dc/sa07.flac"])
def test_savee_is_read_in_folders_of_speakers_and_flat(path):
    (row,) = parse_names("savee", path).rows
    assert (row.utterance_id, row.speaker, row.gender) == ("DC_sa07", "DC", "male")
    assert (row.emotion, row.sentence, row.text) == ("sad", "sa07", None)
    assert (row.language, row.scenario) == ("en", "scripted")


def test_a_clip_with_pictures_is_the_video_of_its_savee_utterance():
    findings = parse_names("savee", "AudioData/JK/su01.wav", "AudioVisualClip/JK/su01.avi")
    (row,) = findings.rows
    assert row.audio == "/data/AudioData/JK/su01.wav"
    assert row.video == "/data/AudioVisualClip/JK/su01.avi"
    assert not findings.problems


def test_a_savee_clip_alone_gives_sound_and_pictures():
    (row,) = parse_names("savee", "AudioVisualClip/JK/su01.avi").rows
    assert row.audio == row.video == "/data/AudioVisualClip/JK/su01.avi"


@pytest.mark.parametrize(
    ("folder", "speaker", "gender"),
    [
        ("liuchanhg", "liuchanhg", "female"),
        ("liuchang", "liuchanhg", "female"),
        ("Chang.Liu", "liuchanhg", "female"),
        ("wangzhe ", "wangzhe", "male"),
        ("ZhaoZuoxiang", "zhaozuoxiang", "male"),
        ("zhaoquanyin", "zhaoquanyin", "female"),
    ],
)
def test_the_spellings_of_casia_folders_are_one_speaker(folder, speaker, gender):
    (row,) = parse_names("casia", f"CASIA database/{folder}/surprise/250.wav").rows
    assert (row.utterance_id, row.speaker) == (f"{speaker}_surprise_250", speaker)
    assert (row.gender, row.emotion, row.sentence) == (gender, "surprised", "250")
    assert (row.language, row.text) == ("zh", None)


def test_the_same_casia_number_under_another_emotion_is_another_utterance():
    findings = parse_names("casia", "wangzhe/angry/201.wav", "wangzhe/sad/201.wav")
    assert [row.utterance_id for row in findings.rows] == ["wangzhe_angry_201", "wangzhe_sad_201"]


@pytest.mark.parametrize(
    ("code", "emotion"),
    [
        ("dis", "disgusted"),
        ("gio", "happy"),
        ("neu", "neutral"),
        ("pau", "fearful"),
        ("rab", "angry"),
        ("sor", "surprised"),
        ("tri", "sad"),
    ],
)
def test_the_italian_codes_of_emovo_become_canonical_names(code, emotion):
    (row,) = parse_names("emovo", f"EMOVO/m2/{code}-m2-d1.wav").rows
    assert (row.utterance_id, row.emotion) == (f"{code}-m2-d1", emotion)
    assert (row.speaker, row.gender, row.language) == ("m2", "male", "it")
    assert (row.sentence, row.text) == ("d1", "Sabato sera cosa farà?")


# Names that cannot be used


@pytest.mark.parametrize(
    ("corpus", "path", "reason"),
    [
        ("emodb", "wav/03a01Xa.wav", "unknown emotion letter X (known: W, L, E, A, F, T, N)"),
        ("emodb", "wav/04a01Wa.wav", "unknown speaker 04 (known: 03, 08"),
        ("emodb", "wav/03a03Wa.wav", "unknown text a03"),
        ("emodb", "wav/03a01Fa (1).wav", "not speaker, text, emotion and version"),
        ("emodb", "wav/03a01Fa.mp3", ".mp3 files are not read; convert it to .wav"),
        ("savee", "AudioData/DC/x01.wav", "unknown emotion code x"),
        ("savee", "AudioData/DC/sa16.wav", "unknown sentence sa16 (sad ends at sa15)"),
        ("savee", "AudioData/DC/n31.wav", "unknown sentence n31 (neutral ends at n30)"),
        ("savee", "AudioData/DC/a00.wav", "unknown sentence a00"),
        ("savee", "AudioData/DC/JE_a01.wav", "speaker JE in its name, but it lies in the folder DC"),
        ("savee", "AudioData/XX/a01.wav", "unknown speaker XX (known: DC, JE, JK, KL)"),
        ("savee", "AudioData/DC/take one.wav", "not emotion and number"),
        ("casia", "wangzhe/angry/101.wav", "sentence 101 is not in the public part (201 to 250)"),
        ("casia", "wangzhe/joy/201.wav", "unknown emotion folder joy (known: angry, fear"),
        ("casia", "wang/angry/201.wav", "unknown speaker folder wang (known: liuchanhg"),
        ("casia", "angry/201.wav", "not speaker/emotion/number"),
        ("casia", "wangzhe/angry/201 copy.wav", "not speaker/emotion/number"),
        ("emovo", "f1/xyz-f1-b1.wav", "unknown emotion code xyz"),
        ("emovo", "f1/dis-f4-b1.wav", "unknown speaker f4"),
        ("emovo", "f1/dis-f1-b4.wav", "unknown sentence b4"),
        ("emovo", "f1/dis-f2-b1.wav", "speaker f2 in its name, but it lies in the folder f1"),
        ("emovo", "f1/dis_f1_b1.wav", "not emotion, speaker and sentence"),
    ],
)
def test_a_name_that_cannot_be_read_is_reported_and_gives_no_row(corpus, path, reason):
    findings = parse_names(corpus, path)
    assert findings.rows == []
    (problem,) = findings.problems
    assert problem.uri == f"/data/{path}"
    assert reason in problem.reason


@pytest.mark.parametrize(
    ("corpus", "identity", "first", "second"),
    [
        ("emodb", "03a01Fa", "wav/03a01Fa.flac", "wav/03a01Fa.wav"),
        ("savee", "DC_a01", "ALL/DC_a01.wav", "AudioData/DC/a01.wav"),
        ("savee", "DC_a01", "AudioData/DC/a01.flac", "AudioData/DC/a01.wav"),
        ("casia", "liuchanhg_angry_201", "liuchang/angry/201.wav", "liuchanhg/angry/201.wav"),
        ("emovo", "dis-f1-b1", "copy/dis-f1-b1.wav", "f1/dis-f1-b1.wav"),
    ],
)
def test_a_second_file_of_one_utterance_is_reported_and_the_first_is_taken(corpus, identity, first, second):
    findings = parse_names(corpus, second, first)
    assert [(row.utterance_id, row.audio) for row in findings.rows] == [(identity, f"/data/{first}")]
    (problem,) = findings.problems
    assert problem.uri == f"/data/{second}"
    assert problem.reason == f"duplicate of {identity}: {first} is taken"


def test_label_files_and_other_kinds_are_counted_in_a_note():
    findings = parse_names(
        "emodb", "wav/03a01Fa.wav", "lablaut/03a01Fa.lablaut", "silb/03a01Fa.silb", "erkennung.txt"
    )
    assert len(findings.rows) == 1
    assert not findings.problems
    assert findings.notes == ["3 files of other kinds ignored: .lablaut (1), .silb (1), .txt (1)"]


# Counts


@pytest.mark.parametrize("corpus", ACTED)
def test_published_counts_add_up(corpus):
    published = CORPORA[corpus].published
    assert published.total == {"emodb": 535, "savee": 480, "casia": 1200, "emovo": 588}[corpus]
    assert set(published.columns) == {"emotion", "speaker"}
    assert all(sum(values.values()) == published.total for values in published.columns.values())


@pytest.mark.parametrize(
    ("corpus", "layout"), [("savee", layout_savee), ("casia", layout_casia), ("emovo", layout_emovo)]
)
def test_the_complete_layout_has_the_published_counts_and_ids(corpus: str, layout: Callable):
    findings = parse_names(corpus, *layout())
    assert not findings.problems
    assert {row.utterance_id for row in findings.rows} == CORPORA[corpus].utterances
    for column, published in CORPORA[corpus].published.columns.items():
        found = [getattr(row, column) for row in findings.rows]
        assert {value: found.count(value) for value in set(found)} == dict(published)


def test_a_missing_file_is_named(tmp_path: Path):
    rng = np.random.default_rng(0)
    paths = [path for path in layout_savee() if path != "AudioData/JK/su09.wav"]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / path, rng.normal(size=80) * 0.1, 8000)
    parsed = parse_corpus("savee", str(tmp_path))
    assert parsed.missing == ("JK_su09",)
    assert parsed.disagreement == (
        "479 of 480 utterances; emotion: surprised 59 of 60; speaker: JK 119 of 120; "
        "missing utterances (1): JK_su09"
    )
    soundfile.write(tmp_path / "AudioData/JK/su09.wav", rng.normal(size=80) * 0.1, 8000)
    assert load_corpus("savee", str(tmp_path)).num_rows == 480


def test_the_second_version_of_emodb_is_recognised_by_its_size():
    names = [
        f"{speaker}{text}{letter}{version}.wav"
        for speaker in ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
        for text in ("a01", "a02", "a04")
        for letter in "WLEAFTN"
        for version in "abcd"
    ][:816]
    findings = parse_names("emodb", *names)
    assert len(findings.rows) == 816
    (note,) = findings.notes
    assert "version 2.0.0 adds 281 ambiguous ones; take version 1.x" in note
    assert not parse_names("emodb", *names[:535]).notes
