"""IEMOCAP: who speaks, what the evaluation files and transcripts say, and what becomes of faulty ones."""

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from ser_models.corpora import load_corpus, parse_corpus, problems_of
from ser_models.corpora.iemocap import CORPUS, parse
from ser_models.corpora.iemocap_evaluation import read_evaluation, read_transcript
from ser_models.corpora.listing import list_files
from ser_models.errors import UserError

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n"
DIALOGUE = "Ses01F_impro01"
WOMAN = f"{DIALOGUE}_F000"
MAN = f"{DIALOGUE}_M000"
WOMAN_BLOCK = f"""
[6.2901 - 8.2357]\t{WOMAN}\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral state;\t()
C-E4:\tFrustration; Anger;\t(tense; guarded)
C-F1:\tNeutral;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-E4:\tval 2; act 3; dom  3;\t(mildly aggravated but staying polite, attitude)
A-F1:\tval 3; act 2; dom  1;\t()
"""
MAN_BLOCK = f"""
[8.5000 - 10.0000]\t{MAN}\txxx\t[2.0000, 4.0000, 3.0000]
C-E2:\tAnger;\t()
C-M1:\tHappiness; Excited;\t()
A-E3:\tval 2; act 4; dom  3;\t()
A-M1:\tval ; act 5; dom  ;\t()
"""


def write_sound(path: Path) -> None:
    samples = np.random.default_rng(sum(path.name.encode())).normal(size=1600) * 0.1
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, 16000)


def write_video(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode(None))


def write_dialogue(
    root: Path,
    name: str = DIALOGUE,
    blocks: str = WOMAN_BLOCK + MAN_BLOCK,
    *,
    transcript: str | bytes | None = "",
    sound: bool = True,
    video: bool = True,
) -> Path:
    """Write one dialogue in the corpus's layout and return its evaluation file."""
    session = root / f"Session{int(name[3:5])}"
    evaluation = session / "dialog/EmoEvaluation" / f"{name}.txt"
    evaluation.parent.mkdir(parents=True, exist_ok=True)
    evaluation.write_text(HEADER + blocks)
    turns = [line.split("\t")[1] for line in blocks.splitlines() if line.startswith("[") and "\t" in line]
    if transcript is not None:
        lines = "".join(f"{turn} [006.2901-008.2357]: Words of {turn}.\n" for turn in turns)
        content = lines.encode() + (transcript if isinstance(transcript, bytes) else transcript.encode())
        path = session / "dialog/transcriptions" / f"{name}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    for turn in turns if sound else ():
        write_sound(session / "sentences/wav" / name / f"{turn}.wav")
    if video:
        write_video(session / "dialog/avi/DivX" / f"{name}.avi")
    return evaluation


def block(name: str, start: float = 1.0, end: float = 2.0, code: str = "neu") -> str:
    return f"\n[{start} - {end}]\t{name}\t{code}\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n"


def read(root: Path):
    findings = parse(list_files(str(root)))
    return {row.utterance_id: row for row in findings.rows}, findings


def evaluate(lines: str, dialogue: str = DIALOGUE):
    return read_evaluation(HEADER + lines, dialogue)


# Rows


def test_every_field_of_a_turn_reaches_the_row(tmp_path: Path):
    write_dialogue(tmp_path)
    rows, findings = read(tmp_path)
    row = rows[WOMAN]
    base = tmp_path / "Session1"
    assert (row.speaker, row.gender, row.session, row.dialogue, row.turn) == (
        "01F",
        "female",
        "01",
        DIALOGUE,
        0,
    )
    assert (row.scenario, row.script, row.language, row.emotion) == ("improvised", None, "en", "neutral")
    assert row.audio == str(base / "sentences/wav" / DIALOGUE / f"{WOMAN}.wav")
    assert (row.start, row.end) == (None, None)
    assert row.video == str(base / "dialog/avi/DivX" / f"{DIALOGUE}.avi")
    assert (row.video_start, row.video_end) == (6.2901, 8.2357)
    assert row.text == f"Words of {WOMAN}."
    assert row.votes == {"E2": ["neutral"], "E3": ["neutral"], "E4": ["frustrated", "angry"]}
    assert row.self_votes == {"F1": ["neutral"]}
    assert (row.valence, row.arousal, row.dominance) == (2.5, 2.5, 2.5)
    assert row.ratings == {
        "E3": {"valence": 3.0, "arousal": 2.0, "dominance": 2.0},
        "E4": {"valence": 2.0, "arousal": 3.0, "dominance": 3.0},
    }
    assert row.self_ratings == {"F1": {"valence": 3.0, "arousal": 2.0, "dominance": 1.0}}
    assert findings.problems == []
    assert findings.notes == []


@pytest.mark.parametrize(
    ("turn", "speaker", "gender", "region"),
    [
        ("Ses01F_impro01_F000", "01F", "female", "left"),
        ("Ses01F_impro01_M000", "01M", "male", "right"),
        ("Ses01M_impro01_F000", "01F", "female", "right"),
        ("Ses01M_impro01_M000", "01M", "male", "left"),
        ("Ses04F_script01_1_M012", "04M", "male", "right"),
    ],
)
def test_the_speaker_is_the_letter_of_the_last_part_and_never_of_the_prefix(
    tmp_path, turn, speaker, gender, region
):
    write_dialogue(tmp_path, turn.rpartition("_")[0], block(turn))
    rows, _ = read(tmp_path)
    assert (rows[turn].speaker, rows[turn].gender, rows[turn].video_region) == (speaker, gender, region)


@pytest.mark.parametrize(
    ("dialogue", "scenario", "script"),
    [
        ("Ses05M_script01_1", "scripted", "script01_1"),
        ("Ses05M_script01_1b", "scripted", "script01_1"),
        ("Ses05M_script03_2", "scripted", "script03_2"),
        ("Ses03M_impro05a", "improvised", None),
        ("Ses03M_impro08b", "improvised", None),
    ],
)
def test_variants_of_dialogues_are_read_and_share_their_script(tmp_path, dialogue, scenario, script):
    write_dialogue(tmp_path, dialogue, block(f"{dialogue}_F001"))
    rows, findings = read(tmp_path)
    row = rows[f"{dialogue}_F001"]
    assert (row.scenario, row.script, row.dialogue) == (scenario, script, dialogue)
    assert findings.problems == []


@pytest.mark.parametrize(
    ("code", "emotion"),
    [
        ("ang", "angry"),
        ("hap", "happy"),
        ("sad", "sad"),
        ("neu", "neutral"),
        ("exc", "excited"),
        ("fru", "frustrated"),
        ("fea", "fearful"),
        ("sur", "surprised"),
        ("dis", "disgusted"),
        ("oth", "other"),
        ("xxx", None),
    ],
)
def test_emotion_codes_become_canonical_names(code, emotion):
    evaluation = evaluate(block(WOMAN, code=code))
    assert evaluation.turns[WOMAN].emotion == emotion
    assert evaluation.faults == []


def test_turns_are_counted_by_time_and_ties_by_name(tmp_path: Path):
    names = [f"{DIALOGUE}_{part}" for part in ("M001", "F001", "F000", "M000")]
    blocks = [block(name, start, 9) for name, start in zip(names, (3, 3, 0.5, 10.5), strict=True)]
    write_dialogue(tmp_path, blocks="".join(blocks).replace("10.5 - 9", "10.5 - 11"))
    rows, _ = read(tmp_path)
    assert {name: row.turn for name, row in rows.items()} == dict(zip(names, (2, 1, 0, 3), strict=True))


def test_a_turn_without_majority_keeps_its_votes_and_what_was_not_rated_stays_out(tmp_path: Path):
    write_dialogue(tmp_path)
    rows, _ = read(tmp_path)
    row = rows[MAN]
    assert (row.emotion, row.turn) == (None, 1)
    assert row.votes == {"E2": ["angry"]}
    assert row.self_votes == {"M1": ["happy", "excited"]}
    assert row.self_ratings == {"M1": {"arousal": 5.0}}


def test_an_annotator_with_two_lines_in_one_block_said_both(tmp_path: Path):
    lines = "C-E2:\tAnger;\t()\nC-E2:\tNeutral; Sadness;\t()\nA-E2:\tval 2; act 2;\t()\nA-E2:\tval 3;\t()\n"
    write_dialogue(tmp_path, blocks=block(WOMAN) + lines)
    rows, findings = read(tmp_path)
    assert rows[WOMAN].votes == {"E2": ["neutral", "angry", "sad"]}
    assert rows[WOMAN].ratings == {"E2": {"valence": 2.5, "arousal": 2.0}}
    assert findings.problems == []


def test_the_printed_averages_are_kept_and_those_that_differ_are_noted(tmp_path: Path):
    thirds = "[2.6667, 2.5000, 2.5000]"
    blocks = f"\n[1.0 - 2.0]\t{WOMAN}\tneu\t{thirds}\n" + "".join(
        f"A-E{number}:\tval {value};\t()\n" for number, value in enumerate((3, 3, 2), 1)
    )
    write_dialogue(tmp_path, blocks=blocks + MAN_BLOCK.replace("[2.0000, 4.0", "[2.0000, 3.0"))
    rows, findings = read(tmp_path)
    assert rows[MAN].arousal == 3.0
    assert not any(WOMAN in note for note in findings.notes)
    assert any(note.startswith("1 turns whose printed valence") and MAN in note for note in findings.notes)
    assert findings.problems == []


def test_without_ratings_the_printed_averages_are_the_values(tmp_path: Path):
    write_dialogue(tmp_path, blocks=block(WOMAN))
    rows, findings = read(tmp_path)
    assert (rows[WOMAN].valence, rows[WOMAN].ratings) == (2.5, None)
    assert findings.notes == []


# Places


@pytest.mark.parametrize("below", ["", "IEMOCAP_full_release", "data sets ä/IEMOCAP_full_release"])
def test_the_root_may_be_the_release_or_a_folder_above_it(tmp_path: Path, below):
    write_dialogue(tmp_path / below)
    rows, findings = read(tmp_path)
    assert len(rows) == 2
    assert Path(rows[WOMAN].audio).is_file()
    assert findings.problems == []


def test_the_root_may_be_one_session(tmp_path: Path):
    write_dialogue(tmp_path)
    rows, findings = read(tmp_path / "Session1")
    assert len(rows) == 2
    assert Path(rows[WOMAN].video).is_file()
    assert findings.problems == []


def test_other_files_are_counted_and_no_evaluation(tmp_path: Path):
    evaluation = write_dialogue(tmp_path)
    for other in (
        "Categorical/Ses01F_impro01_e2_cat.txt",
        "Attribute/Ses01F_impro01_e2_atr.txt",
        "notes.txt",
    ):
        (evaluation.parent / other).parent.mkdir(exist_ok=True)
        (evaluation.parent / other).write_text(f"{WOMAN} :Neutral state; ()\n")
    (evaluation.parent / f"._{evaluation.name}").write_bytes(b"\x00\x05")
    rows, findings = read(tmp_path)
    assert len(rows) == 2
    assert findings.problems == []
    assert findings.notes == ["3 files of other kinds ignored"]


def test_flac_is_taken_for_wav(tmp_path: Path):
    write_dialogue(tmp_path)
    sound = tmp_path / "Session1/sentences/wav" / DIALOGUE / f"{WOMAN}.wav"
    soundfile.write(sound.with_suffix(".flac"), soundfile.read(sound)[0], 16000)
    sound.unlink()
    rows, findings = read(tmp_path)
    assert rows[WOMAN].audio == str(sound.with_suffix(".flac"))
    assert findings.problems == []


def test_a_second_file_of_one_recording_is_reported(tmp_path: Path):
    write_dialogue(tmp_path)
    sound = tmp_path / "Session1/sentences/wav" / DIALOGUE / f"{WOMAN}.wav"
    soundfile.write(sound.with_suffix(".flac"), soundfile.read(sound)[0], 16000)
    rows, findings = read(tmp_path)
    (problem,) = findings.problems
    assert (problem.uri, problem.reason) == (str(sound), f"duplicate of {WOMAN}: {WOMAN}.flac is taken")
    assert rows[WOMAN].audio == str(sound.with_suffix(".flac"))


def test_a_missing_recording_is_a_problem_that_names_its_place(tmp_path: Path):
    write_dialogue(tmp_path)
    sound = tmp_path / "Session1/sentences/wav" / DIALOGUE / f"{MAN}.wav"
    sound.unlink()
    rows, findings = read(tmp_path)
    assert rows[MAN].audio is None
    assert rows[WOMAN].audio
    (problem,) = findings.problems
    assert (problem.uri, problem.reason) == (str(sound), "no recording of this evaluated turn")


def test_recordings_without_evaluation_are_counted(tmp_path: Path):
    write_dialogue(tmp_path, blocks=WOMAN_BLOCK)
    write_sound(tmp_path / "Session1/sentences/wav" / DIALOGUE / f"{DIALOGUE}_MXX0.wav")
    write_sound(tmp_path / "Session1/sentences/wav/Ses01F_impro02/Ses01F_impro02_F000.wav")
    rows, findings = read(tmp_path)
    assert list(rows) == [WOMAN]
    assert findings.notes == [
        "2 recordings of turns without evaluation left out: Ses01F_impro01_MXX0, Ses01F_impro02_F000"
    ]


@pytest.mark.parametrize(
    ("absent", "folder", "suffix"),
    [("transcript", "transcriptions", ".txt"), ("video", "avi/DivX", ".avi")],
)
def test_what_some_dialogues_lack_is_a_problem_and_what_all_lack_a_note(tmp_path, absent, folder, suffix):
    names = ("Ses01F_impro01", "Ses01F_impro02", "Ses02M_impro01")
    for name in names:
        write_dialogue(tmp_path, name, block(f"{name}_F000"))
    files = [tmp_path / f"Session{int(name[3:5])}/dialog" / folder / f"{name}{suffix}" for name in names]
    for file in files[1:]:
        file.unlink()
    rows, findings = read(tmp_path)
    assert [problem.uri for problem in findings.problems] == [str(file) for file in files[1:]]
    assert {problem.reason for problem in findings.problems} == {f"no {absent} of this dialogue"}
    field = "text" if absent == "transcript" else "video"
    assert [getattr(row, field) is None for row in rows.values()] == [False, True, True]
    files[0].unlink()
    rows, findings = read(tmp_path)
    assert findings.problems == []
    assert findings.notes == [f"no {absent} of any dialogue is there"]
    assert len(rows) == 3


# Faulty evaluations


@pytest.mark.parametrize(
    ("good", "bad", "reason", "survives"),
    [
        ("\tneu\t", "\tzzz\t", "line 3: unknown emotion code 'zzz'", True),
        ("[6.2901 - 8.2357]", "[6.2901 - 6.2901]", "line 3: [6.2901 - 6.2901] is not the time", True),
        ("[6.2901 - 8.2357]", "[nan - inf]", "line 3: [nan - inf] is not the time", True),
        ("[2.5000, 2.5000, 2.5000]", "[2.5000, 2.50", "line 3: [2.5000, 2.50 is not the valence", True),
        ("\tneu\t[2.5000, 2.5000, 2.5000]", "", "line 3: not of the form [start - end]", False),
        (WOMAN, "Ses01F_impro01_X000", "line 3: 'Ses01F_impro01_X000' is not the name of a turn", False),
        (WOMAN, "Ses01F_impro02_F000", "turn Ses01F_impro02_F000 in the evaluation of Ses01F_impro01", False),
        (WOMAN, "Ses02F_impro01_F000", "turn Ses02F_impro01_F000 in the evaluation of Ses01F_impro01", False),
    ],
)
def test_a_faulty_line_is_reported_and_its_turn_kept_where_it_is_certain(good, bad, reason, survives):
    assert WOMAN_BLOCK.count(good) == 1
    evaluation = evaluate(WOMAN_BLOCK.replace(good, bad) + MAN_BLOCK)
    (fault,) = evaluation.faults
    assert reason in fault
    assert list(evaluation.turns) == ([WOMAN, MAN] if survives else [MAN])
    assert evaluation.turns[MAN].votes == {"E2": ["angry"], "M1": ["happy", "excited"]}


@pytest.mark.parametrize(
    ("good", "bad", "remark"),
    [
        ("C-E2:\tNeutral;", "C-E2:\tBoredom;", "line 4: unknown vote 'Boredom' of E2"),
        ("A-E3:\tval 3;", "A-E3:\tvel 3;", "line 8: unknown rating 'vel 3' of E3"),
        ("A-E3:\tval 3;", "A-E3:\tval three;", "line 8: unknown rating 'val three' of E3"),
        ("C-E2:\tNeutral;\t()", "some words", "line 4: not understood: 'some words'"),
    ],
)
def test_an_odd_annotation_is_left_out_with_a_note_and_stops_nothing(good, bad, remark, tmp_path: Path):
    blocks = WOMAN_BLOCK.replace(good, bad) + MAN_BLOCK
    evaluation = evaluate(blocks)
    assert evaluation.faults == []
    assert list(evaluation.turns) == [WOMAN, MAN]
    (said,) = evaluation.remarks
    assert said.startswith(remark)
    write_dialogue(tmp_path, blocks=blocks)
    parsed = parse_corpus("iemocap", str(tmp_path))
    assert any(
        note.startswith(f"1 parts of annotations left out: Ses01F_impro01.txt {remark}")
        for note in parsed.notes
    )


def test_a_turn_without_known_times_has_no_position(tmp_path: Path):
    write_dialogue(tmp_path, blocks=WOMAN_BLOCK.replace("6.2901 - 8.2357", "?") + MAN_BLOCK)
    table = load_corpus("iemocap", str(tmp_path), allow_partial=True)
    assert table["utterance_id"].to_pylist() == [WOMAN, MAN]
    assert table["turn"].to_pylist() == [None, 0]
    assert table["video_start"].to_pylist() == [None, 8.5]


@pytest.mark.parametrize("kept", range(1, len(WOMAN_BLOCK + MAN_BLOCK), 7))
def test_an_evaluation_cut_anywhere_never_invents_a_turn(kept):
    evaluation = evaluate((WOMAN_BLOCK + MAN_BLOCK)[:kept])
    whole = evaluate(WOMAN_BLOCK + MAN_BLOCK).turns
    assert set(evaluation.turns) <= set(whole)
    for name, turn in evaluation.turns.items():
        assert turn.emotion == whole[name].emotion
        assert turn.times == whole[name].times


@pytest.mark.parametrize(
    ("end", "fault"),
    [
        ("[2.5000, 2.50", "line 3: [2.5000, 2.50 is not the valence"),
        ("Ses01F_impro01_F0", "line 3: not of the form"),
        ("C-E4:\tFrust", "line 6: unknown vote 'Frust' of E4"),
        ("C-E4:\tFrustration; Anger;\t(tense", "line 6: the file ends in the middle of this line"),
        ("A-E3:\tval 3; ac", "line 8: unknown rating 'ac' of E3"),
        ("A-E3:\tval 3;", "line 8: the file ends in the middle of this line"),
    ],
)
def test_a_cut_evaluation_says_where_it_ends(end, fault):
    evaluation = evaluate(WOMAN_BLOCK[: WOMAN_BLOCK.index(end) + len(end)])
    assert any(each.startswith(fault) for each in evaluation.faults)


def test_a_second_block_of_a_turn_is_reported_and_the_first_is_taken():
    evaluation = evaluate(WOMAN_BLOCK + MAN_BLOCK + block(WOMAN, 20, 21, "ang"))
    assert evaluation.faults == [f"line 18: duplicate of {WOMAN}: the first is taken"]
    assert evaluation.turns[WOMAN].emotion == "neutral"
    assert evaluation.turns[WOMAN].votes["E2"] == ["neutral"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "no evaluated turns in it"),
        (HEADER, "no evaluated turns in it"),
        ("C-E2:\tAnger;\t()", "before the"),
    ],
)
def test_an_evaluation_without_turns_is_a_problem(tmp_path: Path, content, fault):
    write_dialogue(tmp_path)
    empty = write_dialogue(tmp_path, "Ses01M_impro01", "")
    empty.write_text(content)
    rows, findings = read(tmp_path)
    assert len(rows) == 2
    assert {problem.uri for problem in findings.problems} == {str(empty)}
    assert any(fault in problem.reason for problem in findings.problems)


def test_a_dialogue_in_the_folder_of_another_session_is_reported_and_gives_no_row(tmp_path: Path):
    write_dialogue(tmp_path)
    other = write_dialogue(tmp_path, "Ses02F_impro01", block("Ses02F_impro01_F000"))
    wrong = other.rename(tmp_path / "Session1/dialog/EmoEvaluation" / other.name)
    rows, findings = read(tmp_path)
    assert list(rows) == [WOMAN, MAN]
    (problem,) = findings.problems
    assert (problem.uri, problem.reason) == (str(wrong), "a dialogue of session 2 in the folder Session1")


def test_an_evaluation_with_an_unknown_name_is_reported(tmp_path: Path):
    evaluation = write_dialogue(tmp_path)
    copy = evaluation.with_name("Ses01F_impro01 (1).txt")
    copy.write_text(evaluation.read_text())
    rows, findings = read(tmp_path)
    assert len(rows) == 2
    (problem,) = findings.problems
    assert problem.uri == str(copy)
    assert "not that of a dialogue" in problem.reason


def test_a_second_copy_of_a_dialogue_is_reported(tmp_path: Path):
    write_dialogue(tmp_path / "a")
    second = write_dialogue(tmp_path / "b")
    rows, findings = read(tmp_path)
    assert rows[WOMAN].audio.startswith(str(tmp_path / "a"))
    (problem,) = findings.problems
    assert problem.uri == str(second)
    assert problem.reason.startswith(f"duplicate of {DIALOGUE}: a/Session1/dialog/")


# Transcripts


def test_lines_of_no_evaluated_turn_are_counted_and_turns_without_line_too(tmp_path: Path):
    write_dialogue(
        tmp_path, transcript=f"{DIALOGUE}_MXX0 [011.0000-012.0000]: Mm.\nM: I see.\n\nF: [LAUGHTER]\n"
    )
    path = tmp_path / "Session1/dialog/transcriptions" / f"{DIALOGUE}.txt"
    path.write_text(path.read_text().replace(MAN, f"{DIALOGUE}_MXX1"))
    rows, findings = read(tmp_path)
    assert rows[MAN].text is None
    assert findings.problems == []
    assert findings.notes == [
        f"1 turns are not in their transcript: {MAN}",
        "4 transcript lines belong to no evaluated turn",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (f"{MAN} [008.5", "line 2: not of the form turn [start-end]: words"),
        ("Ses01F_imp", "line 2: not of the form"),
        (f"{WOMAN} [006.2901-008.2357]: Other.", f"line 2: other words of {WOMAN} than above"),
    ],
)
def test_a_faulty_transcript_line_is_reported(line, fault):
    transcript = read_transcript(f"{WOMAN} [006.2901-008.2357]: One: two.\n{line}", {WOMAN, MAN})
    assert transcript.words == {WOMAN: "One: two."}
    (found,) = transcript.faults
    assert found.startswith(fault)


def test_the_same_line_twice_is_no_fault():
    line = f"{WOMAN} [006.2901-008.2357]: Excuse me.\n"
    assert read_transcript(line * 2, {WOMAN}).faults == []


def test_a_transcript_that_is_not_utf8_is_read_with_a_note(tmp_path: Path):
    write_dialogue(tmp_path, blocks=WOMAN_BLOCK, transcript=None)
    path = tmp_path / "Session1/dialog/transcriptions" / f"{DIALOGUE}.txt"
    path.parent.mkdir()
    path.write_bytes(f"{WOMAN} [006.2901-008.2357]: It\x92s a clich\xe9.\r\n".encode("latin-1"))
    parsed = parse_corpus("iemocap", str(tmp_path))
    assert parsed.table["text"].to_pylist() == ["It’s a cliché."]
    assert any("is not UTF-8" in note and DIALOGUE in note for note in parsed.notes)
    assert parsed.problems == ()


# The whole


def test_a_small_corpus_passes_every_shared_check(tmp_path: Path):
    write_dialogue(tmp_path)
    write_dialogue(tmp_path, "Ses02M_script01_1", block("Ses02M_script01_1_F000", 0.1, 0.4))
    table = load_corpus("iemocap", str(tmp_path), allow_partial=True)
    assert problems_of(table) == []
    assert table["duration"].to_pylist() == [0.1] * 3
    assert table["sample_rate"].to_pylist() == [16000] * 3
    assert dict(table["votes"][0].as_py())["E4"] == ["frustrated", "angry"]


def test_a_truncated_video_is_a_problem(tmp_path: Path):
    write_dialogue(tmp_path)
    path = tmp_path / "Session1/dialog/avi/DivX" / f"{DIALOGUE}.avi"
    path.write_bytes(path.read_bytes()[:100])
    (problem,) = parse_corpus("iemocap", str(tmp_path)).problems
    assert problem.uri == str(path)


def test_a_part_of_the_corpus_is_refused_with_what_is_missing(tmp_path: Path):
    write_dialogue(tmp_path)
    with pytest.raises(UserError, match=r"2 of 10039 utterances.*4 classes.*--allow-partial"):
        load_corpus("iemocap", str(tmp_path))


def test_a_folder_without_evaluations_is_refused_with_where_to_ask_for_them(tmp_path: Path):
    write_sound(tmp_path / "Session1/sentences/wav" / DIALOGUE / f"{WOMAN}.wav")
    with pytest.raises(UserError, match=r"looked for .*EmoEvaluation.*sail\.usc\.edu"):
        load_corpus("iemocap", str(tmp_path), allow_partial=True)


def test_published_counts_agree_with_each_other():
    for counts in (CORPUS.published, *(selection.published for selection in CORPUS.selections)):
        assert all(sum(values.values()) == counts.total for values in counts.columns.values())
    four, improvised, scripted, seven = CORPUS.selections
    assert [each.published.total for each in CORPUS.selections] == [5531, 2943, 2588, 7487]
    for emotion, count in improvised.published.columns["emotion"].items():
        both = count + scripted.published.columns["emotion"][emotion]
        assert both == CORPUS.published.columns["emotion"][emotion]
    assert four.classes["excited"] == "happy"
    assert seven.classes["excited"] == "excited"


def test_published_counts_of_the_four_classes_are_those_of_the_true_speakers():
    columns = CORPUS.selections[0].published.columns
    assert list(columns["session"].values()) == [1085, 1023, 1151, 1031, 1241]
    assert (columns["speaker"]["01F"], columns["speaker"]["05M"]) == (528, 651)
    assert columns["session/emotion"]["03/sad"] == 305
    assert columns["speaker/emotion"]["04F/angry"] == 205
    for emotion, total in columns["emotion"].items():
        for crossed in ("session/emotion", "speaker/emotion"):
            by_group = [count for key, count in columns[crossed].items() if key.endswith(f"/{emotion}")]
            assert sum(by_group) == total
