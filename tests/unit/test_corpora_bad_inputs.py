"""Folders as people really have them, for every corpus and for a table of one's own.

Each corpus is two utterances in its layout, with real sound; then one thing is wrong. Whatever it is, the file is
an utterance, a problem or a note, and the exit status says that something is wrong.
"""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from ser_models.corpora import CORPORA, Parsed, load_corpus, load_manifest, parse_corpus, problems_of
from ser_models.corpora.__main__ import PROGRAM, main
from ser_models.corpora.command import run
from ser_models.errors import UserError, WorkError
from ser_models.shards.preprocess import PreprocessConfig, preprocess

Change = Callable[[Path], None]
MEDIA = (".wav", ".flac", ".mp4", ".avi")


def write_sound(path: Path, *, seconds: float = 0.5, rate: int = 16000, channels: int = 1) -> None:
    generator = np.random.default_rng(sum(path.as_posix().encode()))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, generator.normal(size=(int(seconds * rate), channels)) * 0.1, rate)


def write_samples(path: Path, samples: np.ndarray) -> None:
    soundfile.write(path, samples, 16000, subtype="FLOAT")


def sound_at(path: str) -> Change:
    """Another recording, at this path."""
    return lambda folder: write_sound(folder / path)


def text_in(path: str, old: str, new: str) -> Change:
    """A label file in which something else stands."""

    def change(folder: Path) -> None:
        before = (folder / path).read_bytes()
        assert old.encode() in before
        (folder / path).write_bytes(before.replace(old.encode(), new.encode("cp1252"), 1))

    return change


@dataclasses.dataclass(frozen=True)
class Layout:
    """Two utterances in the layout of a corpus, and how to spoil them."""

    name: str
    sounds: tuple[str, str]
    """The recordings; the second one is spoilt."""
    ids: tuple[str, str]
    unknown_label: Change
    label_reason: str
    duplicate: Change
    duplicate_reason: str
    texts: tuple[tuple[str, str], ...] = ()
    """Files of labels and words, and their content."""
    not_utf8: Change | None = None
    table: str = ""
    """The table, for a corpus that is given as one."""

    def build(self, folder: Path) -> str:
        """Write the two utterances; returns the root to be given."""
        for sound in self.sounds:
            write_sound(folder / sound)
        for path, content in self.texts:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content.encode())
        return self.root(folder)

    def root(self, folder: Path) -> str:
        return str(folder / self.table) if self.table else str(folder)


EVALUATION = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
TRANSCRIPT = "Session1/dialog/transcriptions/Ses01F_impro01.txt"
TURNS = "Session1/sentences/wav/Ses01F_impro01"
MELD_HEADER = (
    "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\r\n"
)
MELD_LINES = (
    '1,"Well, no.",Monica,neutral,neutral,0,0,8,21,"00:16:16,059","00:16:21,731"\r\n'
    '2,Yes!,Ross,joy,positive,0,1,8,21,"00:16:21,940","00:16:23,442"\r\n'
)

LAYOUTS = [
    Layout(
        name="iemocap",
        sounds=(f"{TURNS}/Ses01F_impro01_F000.wav", f"{TURNS}/Ses01F_impro01_M000.wav"),
        ids=("Ses01F_impro01_F000", "Ses01F_impro01_M000"),
        texts=(
            (
                EVALUATION,
                "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
                "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
                "C-E2:\tNeutral;\t()\nA-E3:\tval 2; act 2; dom  2;\t()\nA-E4:\tval 3; act 3; dom  3;\t()\n\n"
                "[10.0100 - 11.3925]\tSes01F_impro01_M000\tang\t[2.0000, 4.0000, 3.0000]\n"
                "C-E2:\tAnger;\t()\nA-E3:\tval 2; act 4; dom  3;\t()\n",
            ),
            (
                TRANSCRIPT,
                "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"
                "Ses01F_impro01_M000 [010.0100-011.3925]: Do you have your forms?\n",
            ),
        ),
        unknown_label=text_in(EVALUATION, "\tang\t", "\tqqq\t"),
        label_reason="unknown emotion code 'qqq'",
        duplicate=sound_at(f"{TURNS}/Ses01F_impro01_M000.flac"),
        duplicate_reason="duplicate of Ses01F_impro01_M000: Ses01F_impro01_M000.flac is taken",
        not_utf8=text_in(TRANSCRIPT, "Excuse me", "Café"),
    ),
    Layout(
        name="meld",
        sounds=("train_splits/dia0_utt0.wav", "train_splits/dia0_utt1.wav"),
        ids=("train_dia0_utt0", "train_dia0_utt1"),
        texts=(("train_sent_emo.csv", MELD_HEADER + MELD_LINES),),
        unknown_label=text_in("train_sent_emo.csv", ",joy,", ",glee,"),
        label_reason="unknown emotion 'glee'",
        duplicate=text_in("train_sent_emo.csv", "2,Yes!", f"{MELD_LINES.splitlines()[0]}\r\n2,Yes!"),
        duplicate_reason="duplicate of train_dia0_utt0",
        not_utf8=text_in("train_sent_emo.csv", "Yes!", "Café"),
    ),
    Layout(
        name="ravdess",
        sounds=("Actor_01/03-01-03-01-01-01-01.wav", "Actor_02/03-01-04-01-01-01-02.wav"),
        ids=("03-01-03-01-01-01-01", "03-01-04-01-01-01-02"),
        unknown_label=sound_at("Actor_02/03-01-09-01-01-01-02.wav"),
        label_reason="unknown emotion code 09",
        duplicate=sound_at("copy/03-01-04-01-01-01-02.flac"),
        duplicate_reason="duplicate of 03-01-04-01-01-01-02",
    ),
    Layout(
        name="emodb",
        sounds=("wav/03a01Fa.wav", "wav/08b10Wa.wav"),
        ids=("03a01Fa", "08b10Wa"),
        unknown_label=sound_at("wav/08b10Xa.wav"),
        label_reason="unknown emotion letter X",
        duplicate=sound_at("wav/08b10Wa.flac"),
        duplicate_reason="duplicate of 08b10Wa",
    ),
    Layout(
        name="savee",
        sounds=("AudioData/DC/a01.wav", "AudioData/JE/sa02.wav"),
        ids=("DC_a01", "JE_sa02"),
        unknown_label=sound_at("AudioData/JE/q02.wav"),
        label_reason="unknown emotion code q",
        duplicate=sound_at("ALL/JE_sa02.wav"),
        duplicate_reason="duplicate of JE_sa02",
    ),
    Layout(
        name="casia",
        sounds=("liuchanhg/angry/201.wav", "ZhaoZuoxiang/sad/202.wav"),
        ids=("liuchanhg_angry_201", "zhaozuoxiang_sad_202"),
        unknown_label=sound_at("ZhaoZuoxiang/bored/202.wav"),
        label_reason="unknown emotion folder bored",
        duplicate=sound_at("ZhaoZuoxiang/sad/202.flac"),
        duplicate_reason="duplicate of zhaozuoxiang_sad_202",
    ),
    Layout(
        name="emovo",
        sounds=("f1/dis-f1-b1.wav", "m1/tri-m1-n5.wav"),
        ids=("dis-f1-b1", "tri-m1-n5"),
        unknown_label=sound_at("m1/xyz-m1-n5.wav"),
        label_reason="unknown emotion code xyz",
        duplicate=sound_at("copies/tri-m1-n5.wav"),
        duplicate_reason="duplicate of tri-m1-n5",
    ),
    Layout(
        name="mine",
        sounds=("one.wav", "two.wav"),
        ids=("one", "two"),
        texts=(("table.csv", "audio,emotion,speaker\none.wav,happy,anna\ntwo.wav,sad,bert\n"),),
        unknown_label=text_in("table.csv", "two.wav,sad,bert", "two.wav,sad,bert\nthree.wav,mad,bert"),
        label_reason="line 4: emotion 'mad' is not one of",
        duplicate=text_in("table.csv", "two.wav,sad,bert", "two.wav,sad,bert\none.flac,sad,bert"),
        duplicate_reason="line 4: utterance_id 'one' was given in line 2",
        table="table.csv",
    ),
]
WITH_WORDS = [layout for layout in LAYOUTS if layout.not_utf8]


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest) -> Iterator[Layout]:
    yield request.param


def status(*arguments: str) -> int:
    """The exit status of the command."""
    with pytest.raises(SystemExit) as left:
        run(lambda: main(arguments), PROGRAM)
    return int(left.value.code or 0)


def lost(parsed: Parsed, folder: Path) -> list[str]:
    """Recordings in the folder that are neither of an utterance nor a problem."""
    there = {str(path) for path in folder.rglob("*") if path.suffix in MEDIA}
    used = {uri for column in ("audio", "video") for uri in parsed.table[column].to_pylist() if uri}
    return sorted(there - used - {problem.uri for problem in parsed.problems})


def reasons(parsed: Parsed) -> str:
    return "\n".join(f"{problem.uri}: {problem.reason}" for problem in parsed.problems)


def test_every_registered_corpus_is_tried():
    assert {layout.name for layout in LAYOUTS} == {*CORPORA, "mine"}


def test_the_two_utterances_are_read_without_a_problem(layout: Layout, tmp_path: Path):
    root = layout.build(tmp_path)
    parsed = parse_corpus(layout.name, root)
    assert parsed.table["utterance_id"].to_pylist() == sorted(layout.ids)
    assert parsed.table["duration"].to_pylist() == [0.5, 0.5]
    assert parsed.problems == ()
    assert parsed.table["emotion"].null_count == parsed.table["speaker"].null_count == 0
    assert not lost(parsed, tmp_path)
    # A part of a published corpus differs from it; with a table of one's own nothing can be compared.
    assert status(layout.name, root) == (0 if layout.table else 1)
    assert status(layout.name, root, "--allow-partial") == 0


# Nothing there


@pytest.mark.parametrize("there", [False, True], ids=["missing", "empty"])
def test_a_missing_or_empty_folder_is_refused_in_one_line(layout: Layout, tmp_path: Path, there, capsys):
    folder = tmp_path / "corpus"
    if there:
        folder.mkdir()
    root = layout.root(folder)
    with pytest.raises(
        UserError, match="no such table" if layout.table else "no such folder|folder is empty"
    ):
        load_corpus(layout.name, root, allow_partial=True)
    assert status(layout.name, root, "--allow-partial") == 2
    complaint = capsys.readouterr().err
    assert str(folder) in complaint
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    "layout", [each for each in LAYOUTS if not each.table], ids=lambda layout: layout.name
)
def test_a_folder_without_anything_of_the_corpus_says_what_was_looked_for(layout: Layout, tmp_path: Path):
    write_sound(tmp_path / "somewhere" / "holiday.wav")
    with pytest.raises(UserError, match=rf"no {layout.name} recordings under .*looked for .*holiday\.wav"):
        load_corpus(layout.name, str(tmp_path), allow_partial=True)
    assert status(layout.name, str(tmp_path)) == 2


# Recordings that cannot be used


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def no_sound(path: Path) -> None:
    path.write_bytes(b"this is no sound")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [(cut_short, "truncated: "), (empty, "empty file (0 bytes)"), (no_sound, "unreadable: ")],
)
def test_a_damaged_recording_is_a_problem_and_its_row_has_no_duration(
    layout: Layout, tmp_path: Path, damage, reason
):
    root = layout.build(tmp_path)
    spoilt = tmp_path / layout.sounds[1]
    damage(spoilt)
    with pytest.raises(UserError, match=spoilt.name):
        load_corpus(layout.name, root)
    table = load_corpus(layout.name, root, allow_partial=True)
    assert dict(zip(table["utterance_id"].to_pylist(), table["duration"].to_pylist(), strict=True)) == {
        layout.ids[0]: 0.5,
        layout.ids[1]: None,
    }
    (problem,) = problems_of(table)
    assert problem.uri == str(spoilt)
    assert problem.reason.startswith(reason)
    assert status(layout.name, root) == 1
    manifest = tmp_path / "manifest.parquet"
    assert status(layout.name, root, "--allow-partial", "--output", str(manifest)) == 0
    assert problems_of(load_manifest(str(manifest))) == [problem]


@pytest.mark.parametrize("value", [np.nan, 0.0], ids=["not numbers", "zeros"])
def test_samples_are_not_judged_before_they_are_decoded(layout: Layout, tmp_path: Path, value):
    root = layout.build(tmp_path)
    write_samples(tmp_path / layout.sounds[1], np.full(8000, value))
    parsed = parse_corpus(layout.name, root)
    assert parsed.table["duration"].to_pylist() == [0.5, 0.5]
    assert parsed.problems == ()


@pytest.mark.parametrize(
    ("form", "found", "note"),
    [({"rate": 8000}, (8000, 1), "8000 Hz (1), 16000 Hz (1)"), ({"channels": 2}, (16000, 2), "stereo (1): ")],
)
def test_another_rate_or_stereo_is_listed_as_it_is_and_noted(
    layout: Layout, tmp_path: Path, form, found, note
):
    root = layout.build(tmp_path)
    write_sound(tmp_path / layout.sounds[1], **form)
    parsed = parse_corpus(layout.name, root)
    row = next(row for row in parsed.table.to_pylist() if row["utterance_id"] == layout.ids[1])
    assert (row["sample_rate"], row["channels"]) == found
    assert row["duration"] == 0.5
    assert parsed.problems == ()
    assert any(note in each for each in parsed.notes)


# Labels


def test_an_unknown_label_is_a_problem_and_never_another_emotion(layout: Layout, tmp_path: Path):
    root = layout.build(tmp_path)
    before = parse_corpus(layout.name, root).table["emotion"].to_pylist()
    layout.unknown_label(tmp_path)
    parsed = parse_corpus(layout.name, root)
    (problem,) = parsed.problems
    assert layout.label_reason in problem.reason
    after = parsed.table["emotion"].to_pylist()
    assert len(after) == 2
    assert all(emotion in (old, None) for emotion, old in zip(after, before, strict=True))
    assert not lost(parsed, tmp_path)
    assert status(layout.name, root) == 1


def test_a_second_utterance_of_one_id_is_a_problem(layout: Layout, tmp_path: Path):
    root = layout.build(tmp_path)
    layout.duplicate(tmp_path)
    parsed = parse_corpus(layout.name, root)
    assert parsed.table["utterance_id"].to_pylist() == sorted(layout.ids)
    (problem,) = parsed.problems
    assert layout.duplicate_reason in problem.reason
    assert not lost(parsed, tmp_path)
    assert status(layout.name, root) == 1


# Text


@pytest.mark.parametrize("layout", WITH_WORDS, ids=lambda layout: layout.name)
def test_words_that_are_not_utf8_are_read_and_noted(layout: Layout, tmp_path: Path):
    root = layout.build(tmp_path)
    assert layout.not_utf8
    layout.not_utf8(tmp_path)
    parsed = parse_corpus(layout.name, root)
    assert any("Café" in text for text in parsed.table["text"].to_pylist())
    assert any("is not UTF-8" in note and "Windows-1252" in note for note in parsed.notes)
    assert parsed.problems == ()


def test_a_table_that_is_not_utf8_is_refused_with_the_byte(tmp_path: Path):
    root = LAYOUTS[-1].build(tmp_path)
    text_in("table.csv", "anna", "änna")(tmp_path)
    with pytest.raises(UserError, match=r"byte 36 \(line 2\) is 0xe4; convert it"):
        load_corpus("mine", root)
    assert status("mine", root) == 2


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each.texts], ids=lambda layout: layout.name)
@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_label_file_that_ends_too_early_is_never_a_whole_corpus(layout: Layout, tmp_path: Path, share):
    root = layout.build(tmp_path)
    path, content = layout.texts[0]
    (tmp_path / path).write_bytes(content.encode()[: int(share * len(content))])
    try:
        parsed = parse_corpus(layout.name, root)
    except UserError as error:
        assert status(layout.name, root) == 2
        assert path.rsplit("/", 1)[-1] in str(error) or root in str(error)
    else:
        assert parsed.problems, parsed.notes
        assert status(layout.name, root) == 1


# Names


def test_spaces_and_letters_of_all_languages_in_the_path_are_fine(layout: Layout, tmp_path: Path):
    root = layout.build(tmp_path / "Mé corpus 語 (1)" / "ä ö")
    table = load_corpus(layout.name, root, allow_partial=True)
    assert problems_of(table) == []
    assert [Path(uri).is_file() for uri in table["audio"].to_pylist()] == [True, True]


def test_hidden_files_of_other_systems_are_no_problem(layout: Layout, tmp_path: Path):
    root = layout.build(tmp_path)
    sound = tmp_path / layout.sounds[1]
    sound.with_name(f"._{sound.name}").write_bytes(b"\x00\x05\x16\x07")
    parsed = parse_corpus(layout.name, root)
    assert parsed.table.num_rows == 2
    assert parsed.problems == ()


# What only decoding finds


def test_preprocessing_names_every_recording_that_it_cannot_use(tmp_path: Path):
    codes = ("03", "04", "05", "06", "07")
    paths = [tmp_path / "corpus" / "Actor_01" / f"03-01-{code}-01-01-01-01.wav" for code in codes]
    for path in paths:
        write_sound(path)
    cut_short(paths[1])
    empty(paths[2])
    write_samples(paths[3], np.full(8000, np.nan))
    write_samples(paths[4], np.zeros(8000))
    config = PreprocessConfig(
        corpus="ravdess",
        root=str(tmp_path / "corpus"),
        views="mfcc",
        output=str(tmp_path / "shards"),
        allow_partial=True,
        local=True,
    )
    with pytest.raises(WorkError, match=r"4 of 5 utterances cannot be read.*_errors\.parquet"):
        preprocess(config)
    (view,) = preprocess(dataclasses.replace(config, max_error_fraction=1.0)).views
    found = pq.read_table(Path(view.folder) / "_errors.parquet").to_pylist()
    assert [(row["utterance_id"], row["uri"]) for row in found] == [
        (path.stem, str(path)) for path in paths[1:]
    ]
    for row, reason in zip(
        found, ("cut short", "empty", "not finite numbers", "all samples are zero"), strict=True
    ):
        assert reason in row["error"]
