"""A corpus of one's own: a table of utterances becomes a manifest, and every faulty row is named."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from ser_models import places
from ser_models.corpora import load_corpus, parse_corpus, partial_corpus, problems_of
from ser_models.corpora.__main__ import main
from ser_models.corpora.synthetic import Settings, generate
from ser_models.errors import UserError
from ser_models.shards.preprocess import PreprocessConfig, preprocess

HEADER = "audio,emotion,speaker"


def write_sound(path: Path, *, seconds: float = 0.5, rate: int = 16000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(sum(path.name.encode()))
    soundfile.write(path, generator.normal(size=int(seconds * rate)) * 0.1, rate)


def write_table(folder: Path, *lines: str, name: str = "table.csv") -> str:
    (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with three recordings of half a second."""
    for name in ("a.wav", "b.wav", "day 1/ö.wav"):
        write_sound(tmp_path / name)
    return tmp_path


# Rows


def test_a_table_with_the_three_columns_is_a_corpus(folder: Path):
    table = load_corpus(
        "mine", write_table(folder, HEADER, "a.wav,happy,anna", "day 1/ö.wav,Anger,bert", "b.wav,other,anna")
    )
    assert table["utterance_id"].to_pylist() == ["a", "b", "day 1/ö"]
    assert table["emotion"].to_pylist() == ["happy", "other", "angry"]
    assert table["speaker"].to_pylist() == ["anna", "anna", "bert"]
    assert table["audio"].to_pylist() == [str(folder / name) for name in ("a.wav", "b.wav", "day 1/ö.wav")]
    assert table["duration"].to_pylist() == [0.5] * 3
    assert table["gender"].null_count == 3
    assert table.schema.metadata[b"corpus"] == b"mine"
    assert table.schema.metadata[b"root"] == str(folder).encode()
    assert table.schema.metadata[b"synthetic"] == b"false"
    assert partial_corpus(table) is None


def test_every_optional_column_reaches_the_manifest(folder: Path):
    cells = {
        "utterance_id": "one",
        "gender": "F",
        "session": "s1",
        "dialogue": "d1",
        "turn": "3",
        "scenario": "Improvised",
        "script": "x",
        "sentence": "y",
        "start": "0.1",
        "end": "0.4",
        "video": "a.wav",
        "video_start": "1",
        "video_end": "2.5",
        "video_region": "left",
        "text": '"Well, ""no""."',
        "language": "de",
        "accent": "Berlin",
        "intensity": "strong",
        "votes": "happy;Sadness;;happy",
        "valence": "2.5",
        "arousal": "-1",
        "dominance": "1e-1",
        "split": "train",
    }
    path = write_table(folder, f"{HEADER},{','.join(cells)}", f"a.wav,joy,anna,{','.join(cells.values())}")
    (row,) = load_corpus("mine", path).to_pylist()
    given = {name: row[name] for name in cells}
    assert given == cells | {
        "gender": "female",
        "turn": 3,
        "scenario": "improvised",
        "start": 0.1,
        "end": 0.4,
        "video": str(folder / "a.wav"),
        "video_start": 1.0,
        "video_end": 2.5,
        "text": 'Well, "no".',
        "votes": [("1", ["happy"]), ("2", ["sad"]), ("4", ["happy"])],
        "valence": 2.5,
        "arousal": -1.0,
        "dominance": 0.1,
    }
    assert row["duration"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("ANG", "angry"),
        ("Happiness", "happy"),
        ("fear", "fearful"),
        ("neu", "neutral"),
        ("fru", "frustrated"),
    ],
)
def test_other_names_of_an_emotion_become_the_canonical_one(folder: Path, given, canonical):
    (row,) = load_corpus("mine", write_table(folder, HEADER, f"a.wav,{given},anna")).to_pylist()
    assert row["emotion"] == canonical


def test_several_rows_of_one_file_get_ids_with_their_starts(folder: Path):
    path = write_table(
        folder, f"{HEADER},start,end", "a.wav,sad,x,,0.2", "a.wav,sad,x,0.2,0.45", "b.wav,sad,x,,"
    )
    parsed = parse_corpus("mine", path)
    assert parsed.table["utterance_id"].to_pylist() == ["a#0", "a#0.2", "b"]
    assert parsed.table["duration"].to_pylist() == pytest.approx([0.2, 0.25, 0.5])
    assert not [note for note in parsed.notes if note.startswith("identical")]


def test_paths_may_be_absolute_or_lead_upwards(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "c.wav"
    write_sound(elsewhere)
    (folder / "tables").mkdir()
    path = write_table(
        folder / "tables", HEADER, "../a.wav,sad,x", f"{elsewhere},sad,x", f"file://{folder}/b.wav,sad,x"
    )
    found = load_corpus("mine", path)
    assert sorted(found["audio"].to_pylist()) == sorted(
        map(str, (folder / "a.wav", elsewhere, folder / "b.wav"))
    )
    assert str(elsewhere.with_suffix("")) in found["utterance_id"].to_pylist()


def test_an_emotion_may_be_unknown_where_votes_or_ratings_are_there(folder: Path):
    path = write_table(folder, f"{HEADER},votes,valence", "a.wav,,x,sad;happy,", "b.wav,,x,,3")
    assert load_corpus("mine", path)["emotion"].to_pylist() == [None, None]


def test_a_copy_names_its_parent(folder: Path):
    path = write_table(folder, f"{HEADER},parent", "a.wav,sad,x,", "b.wav,sad,x,a")
    assert load_corpus("mine", path)["parent"].to_pylist() == [None, "a"]


def test_a_copy_of_a_copy_names_the_original(folder: Path):
    write_sound(folder / "c.wav")
    write_sound(folder / "d.wav")
    path = write_table(
        folder, f"{HEADER},parent", "d.wav,sad,x,c", "c.wav,sad,x,b", "b.wav,sad,x,a", "a.wav,sad,x,"
    )
    table = load_corpus("mine", path)
    assert dict(zip(*(table[name].to_pylist() for name in ("utterance_id", "parent")), strict=True)) == {
        "a": None,
        "b": "a",
        "c": "a",
        "d": "a",
    }


@pytest.mark.parametrize(
    ("parents", "reasons"),
    [
        ({"a": "", "b": "b"}, {"b": "parent has no original: b → b"}),
        (
            {"a": "c", "b": "a", "c": "b"},
            {
                "a": "parent has no original: a → c → b → a",
                "b": "parent has no original: b → a → c → b",
                "c": "parent has no original: c → b → a → c",
            },
        ),
        (
            {"a": "", "b": "c", "c": "gone"},
            {
                "b": "parent 'gone' of 'c' is not an utterance of this table",
                "c": "parent 'gone' is not an utterance of this table",
            },
        ),
    ],
)
def test_a_copy_without_an_original_is_a_problem(folder: Path, parents, reasons):
    lines = [f"{name}.wav,sad,x,{parent}" for name, parent in parents.items()]
    for name in parents:
        write_sound(folder / f"{name}.wav")
    parsed = parse_corpus("mine", write_table(folder, f"{HEADER},parent", "day 1/ö.wav,sad,x,", *lines))
    found = {problem.reason.partition(": ")[2] for problem in parsed.problems}
    assert found == set(reasons.values())
    assert set(parsed.table["utterance_id"].to_pylist()) == {"day 1/ö", *parents} - set(reasons)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ("Train", "train"),
        ("TRAINING", "train"),
        ("dev", "dev"),
        ("valid", "dev"),
        ("val", "dev"),
        ("Validation", "dev"),
        ("development", "dev"),
        ("test", "test"),
    ],
)
def test_other_names_of_a_part_become_its_own(folder: Path, given, part):
    (row,) = load_corpus("mine", write_table(folder, f"{HEADER},split", f"a.wav,sad,x,{given}")).to_pylist()
    assert row["split"] == part


# Files of every kind


@pytest.mark.parametrize("kind", ["bom", "crlf", "tsv", "parquet", "capitals", "blank lines", "order"])
def test_a_table_written_by_any_program_gives_the_same_manifest(folder: Path, kind):
    lines = [f"{HEADER},turn,text", "a.wav,happy,anna,0,grün", "b.wav,sad,bert,,"]
    text = "".join(f"{line}\n" for line in lines)
    expected = load_corpus("mine", write_table(folder, *lines, name="plain.csv"))
    path = folder / f"table.{kind if kind in ('tsv', 'parquet') else 'csv'}"
    frame = pandas.DataFrame(
        {"audio": ["a.wav", "b.wav"], "emotion": ["happy", "sad"], "speaker": ["anna", "bert"]}
    ).assign(turn=[0.0, None], text=["grün", None])
    if kind == "bom":
        path.write_bytes(text.encode("utf-8-sig"))
    elif kind == "crlf":
        path.write_bytes(text.replace("\n", "\r\n").encode())
    elif kind == "tsv":
        path.write_text(text.replace(",", "\t"), encoding="utf-8")
    elif kind == "parquet":
        frame.to_parquet(path)
    elif kind == "capitals":
        path.write_text(text.replace(HEADER, "Audio, EMOTION ,Speaker"), encoding="utf-8")
    elif kind == "blank lines":
        path.write_text(f"\n{text}\n,,,,\n".replace("\nb", "\n\nb"), encoding="utf-8")
    else:
        frame[["text", "speaker", "turn", "audio", "emotion"]].to_csv(path, index=False)
    assert load_corpus("mine", str(path)).equals(expected)


def test_columns_that_are_not_used_are_a_note(folder: Path):
    path = write_table(folder, f"{HEADER},age,mood", "a.wav,sad,x,31,fine")
    assert "columns not used: age, mood" in parse_corpus("mine", path).notes


# Faulty rows


@pytest.mark.parametrize(
    ("columns", "line", "reason"),
    [
        ("", "a.wav,mad,anna", "emotion 'mad' is not one of angry, happy, excited"),
        ("", "a.wav,,anna", "no emotion (allowed: angry, happy"),
        ("", "a.wav,sad,", "no speaker"),
        ("", ",sad,anna", "no audio"),
        ("", "http://x/a.wav,sad,anna", "audio 'http://x/a.wav': unknown place 'http://'"),
        ("", "a.wav,sad", "2 cells under 3 column names"),
        ("", "a.wav,sad,anna,extra", "4 cells under 3 column names"),
        (",valence", "a.wav,sad,anna,high", "valence 'high' is not a number"),
        (",valence", "a.wav,sad,anna,inf", "valence 'inf' is not a number"),
        (",start,end", "a.wav,sad,anna,0.4,0.2", "end 0.2 does not come after start 0.4"),
        (",end", "a.wav,sad,anna,0", "end 0 does not come after start 0"),
        (",start", "a.wav,sad,anna,-1", "start '-1' is before the beginning"),
        (",video_start,video_end", "a.wav,sad,anna,3,2", "video_end 2 does not come after video_start 3"),
        (",turn", "a.wav,sad,anna,1.5", "turn '1.5' is not a position counted from 0"),
        (",gender", "a.wav,sad,anna,x", "gender 'x' is not one of female, male"),
        (",scenario", "a.wav,sad,anna,acted", "scenario 'acted' is not one of improvised, scripted"),
        (",split", "a.wav,sad,anna,fold1", "split 'fold1' is not one of train, dev, test"),
        (",video_region", "a.wav,sad,anna,top", "video_region 'top' is not one of left, right"),
        (",votes", "a.wav,sad,anna,sad;mad", "votes 'mad' is not one of angry"),
        (",votes", "a.wav,sad,anna,;", "votes ';' names no emotion"),
        (",utterance_id", "a.wav,sad,anna,good", "utterance_id 'good' was given in line 2"),
        ("", "good.wav,sad,anna", "utterance_id 'good' was given in line 2"),
        (",parent", "a.wav,sad,anna,nobody", "parent 'nobody' is not an utterance of this table"),
    ],
)
def test_a_faulty_row_is_a_problem_with_its_line_and_no_utterance(folder: Path, columns, line, reason):
    commas = "," * columns.count(",")
    good = f"good.wav,happy,anna{commas}"
    write_sound(folder / "good.wav")
    (folder / "good.flac").touch()
    if line.startswith("good.wav"):
        line = line.replace(".wav", ".flac")  # the same path but for its suffix
    path = write_table(folder, HEADER + columns, good, line)
    with pytest.raises(
        UserError, match=r"mine at .* cannot all be used: problems \(1\): table\.csv: line 3: "
    ):
        load_corpus("mine", path)
    table = load_corpus("mine", path, allow_partial=True)
    assert table["utterance_id"].to_pylist() == ["good"]
    (problem,) = problems_of(table)
    assert problem.uri == path
    assert problem.reason.startswith("line 3: ")
    assert reason in problem.reason
    assert "problems (1)" in (partial_corpus(table) or "")


def test_all_faults_of_a_row_are_told_at_once(folder: Path):
    path = write_table(folder, f"{HEADER},turn", "b.wav,sad,x,", "a.wav,mad,,no")
    (problem,) = parse_corpus("mine", path).problems
    assert all(part in problem.reason for part in ("'mad'", "no speaker", "turn 'no'"))


def test_a_line_is_counted_as_an_editor_counts_it(folder: Path):
    path = write_table(folder, f"{HEADER},text", 'a.wav,sad,x,"two', 'lines"', "", "b.wav,mad,x,one")
    (problem,) = parse_corpus("mine", path).problems
    assert problem.reason.startswith("line 5: ")


def test_a_row_of_a_parquet_table_is_named_by_its_number(folder: Path):
    pq.write_table(
        pa.table({"audio": ["a.wav", "b.wav"], "emotion": ["sad", "mad"], "speaker": ["x", "x"]}),
        folder / "t.parquet",
    )
    (problem,) = parse_corpus("mine", str(folder / "t.parquet")).problems
    assert problem.reason.startswith("row 2: emotion 'mad'")


@pytest.mark.parametrize(
    ("cells", "uri", "reason"),
    [
        ("gone.wav,sad,x,,", "gone.wav", "No such file"),
        ("day 1,sad,x,,", "day 1", "Is a directory"),
        ("broken.wav,sad,x,,", "broken.wav", "empty file"),
        (
            "b.wav,sad,x,0.2,0.9",
            "b.wav",
            "b: the part from 0.2 s to 0.9 s lies outside the 0.500 s of the file",
        ),
        ("b.wav,sad,x,0.5,", "b.wav", "b: the part from 0.5 s to its end lies outside the 0.500 s"),
    ],
)
def test_a_recording_that_cannot_be_used_keeps_its_row_without_a_duration(folder: Path, cells, uri, reason):
    (folder / "broken.wav").touch()
    path = write_table(folder, f"{HEADER},start,end", "a.wav,sad,x,,", cells)
    with pytest.raises(UserError, match="cannot all be used"):
        load_corpus("mine", path)
    table = load_corpus("mine", path, allow_partial=True)
    assert sorted(table["duration"].to_pylist(), key=str) == [0.5, None]
    (problem,) = problems_of(table)
    assert problem.uri == str(folder / uri)
    assert reason in problem.reason


# Tables that are none


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", None, "no such table"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"\xef\xbb\xbf \n,,\n", "is empty"),
        ("t.csv", b"audio,emotion,speaker\n", "has no row below its column names"),
        (
            "t.csv",
            b"audio,emotion\na.wav,sad\n",
            "has no column speaker; required are audio, emotion, speaker",
        ),
        (
            "t.csv",
            b"audio;emotion;speaker\na;b;c\n",
            r"found 'audio;emotion;speaker' \(columns are separated by com",
        ),
        ("t.csv", b"audio,audio,emotion,speaker\n", "column given more than once: 'audio'"),
        ("t.csv", b'{"audio": "a.wav"}', "has no column"),
        ("t.csv", b"PK\x03\x04\xff\xfe", "is not UTF-8"),
        (
            "t.csv",
            "audio,emotion,speaker\na,sad,Jörg\n".encode("cp1252"),
            r"byte 29 \(line 2\) is 0xf6.*iconv -f W",
        ),
        ("t.csv", "audio,emotion,speaker".encode("utf-16"), r"byte 0 \(line 1\) is 0xff.*iconv -f UTF-16 "),
        ("t.csv", b'audio,emotion,speaker\na.wav,sad,"anna\n', "is no table: line 2: unexpected end of data"),
        ("t.csv", b"audio,emotion,speaker\na.wav,mad,x\n", "no row of .* can be used: line 2: emotion 'mad'"),
        ("t.parquet", b"audio,emotion,speaker\n", "is not a Parquet file"),
        ("t.parquet", b"", "is empty"),
    ],
)
def test_a_file_that_is_no_table_is_refused_even_as_partial(folder: Path, name, content, message):
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_corpus("mine", str(folder / name), allow_partial=True)
    assert "\n" not in str(caught.value)


def test_a_folder_with_the_name_of_a_table_is_refused(folder: Path):
    (folder / "t.csv").mkdir()
    with pytest.raises(UserError, match="is a folder, not a table"):
        load_corpus("mine", str(folder / "t.csv"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ravdess", "is a registered corpus, read from its folder; .* give it its own name"),
        ("my corpus", r"letters, digits, - and _ only; got 'my corpus'"),
        ("../x", "letters, digits"),
        ("", "letters, digits"),
    ],
)
def test_a_corpus_of_ones_own_has_its_own_plain_name(folder: Path, name, message):
    with pytest.raises(UserError, match=message):
        load_corpus(name, write_table(folder, HEADER, "a.wav,sad,x"))


def test_an_unknown_name_with_a_folder_points_to_tables(folder: Path):
    with pytest.raises(UserError, match="unknown corpus 'mine'.*a corpus of your own is given as a table"):
        load_corpus("mine", str(folder))


# Synthetic recordings


@pytest.mark.parametrize("place", ["corpus", "corpus/Actor_01", "."])
def test_generated_recordings_stay_marked_behind_a_table(tmp_path: Path, place):
    generate("ravdess", str(tmp_path / "corpus"), Settings(speakers=1, utterances=2, seconds=0.3))
    folder = tmp_path / place
    paths = sorted((tmp_path / "corpus").rglob("*.wav"))
    lines = [f"{path},sad,x" for path in paths]
    table = load_corpus("mine", write_table(folder, HEADER, *lines))
    assert table.schema.metadata[b"synthetic"] == b"true"


# Object store


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a bucket of a simulated S3 on loopback, whose state all servers of one process share."""
    import s3fs
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("recordings")
    yield "s3://recordings"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_table_on_s3_names_recordings_on_s3(bucket: str, folder: Path):
    places.write_bytes(f"{bucket}/my data/a.wav", (folder / "a.wav").read_bytes())
    lines = [f"{HEADER},utterance_id", "../a.wav,sad,x,", f"{bucket}/my data/a.wav,sad,x,uri"]
    lines += [f"{folder}/b.wav,sad,x,local", "gone.wav,sad,x,"]
    table = f"{bucket}/my data/tables/table.csv"
    places.write_bytes(table, "\n".join(lines).encode())
    parsed = parse_corpus("mine", table)
    uri = "s3://recordings/my data/a.wav"
    assert parsed.root == "s3://recordings/my data/tables"
    rows = {row["utterance_id"]: (row["audio"], row["duration"]) for row in parsed.table.to_pylist()}
    assert rows == {
        "s3://recordings/my data/a#0": (uri, 0.5),
        "uri": (uri, 0.5),
        "local": (str(folder / "b.wav"), 0.5),
        "gone": ("s3://recordings/my data/tables/gone.wav", None),
    }
    (problem,) = parsed.problems
    assert problem.uri.endswith("gone.wav")
    with pytest.raises(UserError, match="no such table"):
        load_corpus("mine", f"{bucket}/nothing.csv")


# Commands


def test_the_command_counts_what_is_there_and_compares_with_nothing(folder: Path, capsys):
    path = write_table(folder, f"{HEADER},split", "a.wav,joy,anna,train", "b.wav,sad,bert,test")
    assert main(["mine", path, "--output", str(folder / "m.parquet")]) == 0
    printed = capsys.readouterr().out
    for words in (["emotion", "found"], ["happy", "1"], ["bert", "1"], ["train", "1"], ["total", "2"]):
        assert any(line.split() == words for line in printed.splitlines())
    assert "published" not in printed
    assert "every row can be used" in printed
    assert pq.read_metadata(folder / "m.parquet").num_rows == 2


def test_the_command_names_the_faulty_lines_and_takes_the_rest_only_when_told(folder: Path, capsys):
    path = write_table(folder, HEADER, "a.wav,joy,anna", "b.wav,mad,bert")
    output = folder / "m.parquet"
    assert main(["mine", path, "--output", str(output)]) == 1
    printed = capsys.readouterr().out
    assert f"{path}: line 3: emotion 'mad' is not one of" in printed
    assert "not every row can be used: problems (1): table.csv: line 3" in printed
    assert not output.exists()
    assert main(["mine", path, "--output", str(output), "--allow-partial"]) == 0
    assert output.exists()


def test_a_table_is_preprocessed_to_shards_that_follow_its_recordings(folder: Path):
    path = write_table(
        folder, f"{HEADER},start,end", "a.wav,joy,anna,,", "day 1/ö.wav,sad,bert,0.1,0.4", "b.wav,sad,x,,"
    )

    def run(table: str) -> Path:
        output = Path(table).parent / "shards"
        config = PreprocessConfig(corpus="mine", root=table, views="mfcc", output=str(output), local=True)
        (view,) = preprocess(config).views
        assert (view.info["corpus"], view.info["rows"], view.info["errors"]) == ("mine", 3, 0)
        media = pq.read_table(Path(view.folder) / "_media.parquet").to_pydict()
        assert media["utterance_id"] == ["a", "b", "day 1/ö"]
        assert media["duration"] == pytest.approx([0.5, 0.5, 0.3])
        return Path(view.folder)

    first = run(path)
    assert first.parent.parent == folder / "shards" / "mine"
    shutil.copytree(folder, folder / "moved", ignore=shutil.ignore_patterns("moved", "shards"))
    assert run(str(folder / "moved" / "table.csv")).name == first.name
