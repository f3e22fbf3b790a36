"""The manifest: its rows, its door `load_corpus`, and folders as people really have them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from ser_models.corpora import (
    MANIFEST_SCHEMA,
    Utterance,
    build_table,
    load_corpus,
    load_manifest,
    parse_corpus,
    partial_corpus,
    problems_of,
    save_manifest,
)
from ser_models.corpora.__main__ import main
from ser_models.corpora.synthetic import Settings, generate
from ser_models.errors import UserError

GOOD = "03-01-03-01-01-01-01"
BAD = "03-01-04-01-01-01-01"


def write_sound(
    path: Path, *, seconds: float = 0.1, rate: int = 16000, channels: int = 1, level: float = 0.1
):
    samples = (
        np.random.default_rng(sum(path.name.encode())).normal(size=(int(seconds * rate), channels)) * level
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one sound recording of actor 01."""
    write_sound(tmp_path / "Actor_01" / f"{GOOD}.wav")
    return tmp_path


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete (synthetic) corpus of two speakers."""
    root = tmp_path_factory.mktemp("complete")
    generate("ravdess", str(root), Settings(speakers=2, utterances=8, seconds=0.3, sample_rate=8000))
    return root


# Rows


def row(**fields) -> Utterance:
    return Utterance(**{"utterance_id": "a", "corpus": "demo", **fields})


def test_the_schema_is_the_declared_one_with_its_metadata():
    table = build_table([row(utterance_id="b"), row(utterance_id="a", turn=3)], corpus="demo", root="/d")
    assert table.schema.equals(MANIFEST_SCHEMA)
    assert table["utterance_id"].to_pylist() == ["a", "b"]
    assert table["turn"].to_pylist() == [3, None]
    assert table.schema.metadata == {b"corpus": b"demo", b"root": b"/d", b"synthetic": b"false"}


def test_a_manifest_survives_parquet(tmp_path: Path):
    votes = {"C-E2": ["angry", "frustrated"], "C-E1": ["sad"]}
    table = build_table([row(votes=votes, valence=2.5)], corpus="demo", root="/d", synthetic=True)
    save_manifest(table, str(tmp_path / "m.parquet"))
    again = load_manifest(str(tmp_path / "m.parquet"))
    assert again.equals(table)
    assert again.schema.equals(table.schema, check_metadata=True)
    assert dict(again["votes"][0].as_py()) == votes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row()], "more than once: a"),
        ([row(emotion="joyful")], "a: emotion 'joyful' is not one of angry"),
        ([row(gender="f")], "a: gender 'f'"),
        ([row(scenario="acted")], "a: scenario 'acted'"),
        ([row(utterance_id="")], r"\(no id\): utterance_id is empty"),
        ([row(corpus="other")], "a: corpus is 'other', expected 'demo'"),
        ([row(votes={"A": ["mad"]})], "a: votes: 'mad' not among"),
        ([row(start=2.0, end=1.0)], "a: end .* after start"),
        ([row(utterance_id="z"), row(turn="first")], "a: turn 'first' is not of type int32"),
        ([row(utterance_id=f"u{i}", emotion="x") for i in range(9)], "u0: .*u1: .*u2: .* and 6 more"),
    ],
)
def test_impossible_rows_are_refused_by_name(rows, message):
    with pytest.raises(UserError, match=message):
        build_table(rows, corpus="demo", root="/d")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such manifest"),
        (lambda path: path.write_text("audio,emotion,speaker\n"), "is not a Parquet file"),
        (lambda path: path.mkdir(), "is a folder, not a manifest"),
        (lambda path: save_manifest(pa.table({"x": [1]}), str(path)), "not a manifest of this version"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_with_the_command_that_makes_one(tmp_path: Path, make, message):
    path = tmp_path / "m"
    make(path)
    with pytest.raises(UserError, match=f"{path}.* {message}|{path}: {message}") as caught:
        load_manifest(str(path))
    assert "python -m ser_models.corpora NAME ROOT --output" in str(caught.value)


# Places that are no corpus


def test_an_unknown_corpus_is_refused_with_the_known_ones(folder: Path):
    with pytest.raises(UserError, match="unknown corpus 'ravdes'; known: .*ravdess"):
        load_corpus("ravdes", str(folder))


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such folder"),
        (lambda path: path.mkdir(), "the folder is empty"),
        (lambda path: path.write_bytes(b"PK"), "is a file; give the folder"),
        (
            lambda path: write_sound(path / "speech.wav"),
            r"looked for files like Actor_12/.*found speech\.wav",
        ),
        (
            lambda path: (path.mkdir(), (path / "a.txt").write_text("")),
            r"no ravdess recordings.*found a\.txt",
        ),
        (lambda path: (path.mkdir(), (path / "._a.wav").write_text("")), "only hidden files"),
        (lambda path: write_sound(path / "03-01-09-01-01-01-01.wav"), "unknown emotion code 09"),
    ],
)
def test_a_place_without_the_corpus_is_refused_even_as_partial(tmp_path: Path, make, message, partial):
    make(tmp_path / "corpus")
    with pytest.raises(UserError, match=message) as caught:
        load_corpus("ravdess", str(tmp_path / "corpus"), allow_partial=partial)
    assert "\n" not in str(caught.value)


# Counts


def test_a_complete_corpus_is_loaded_without_permission(complete: Path):
    table = load_corpus("ravdess", str(complete))
    assert table.num_rows == 16
    assert problems_of(table) == []


def test_a_missing_file_is_refused_and_counted(complete: Path, tmp_path: Path):
    for path in complete.rglob("*.*"):
        if "Actor_02/03-01-05" not in path.as_posix():
            (tmp_path / path.relative_to(complete)).parent.mkdir(exist_ok=True)
            (tmp_path / path.relative_to(complete)).write_bytes(path.read_bytes())
    with pytest.raises(UserError, match=r"15 of 16 utterances; emotion: angry 1 of 2; speaker: 02 7 of 8"):
        load_corpus("ravdess", str(tmp_path))
    assert load_corpus("ravdess", str(tmp_path), allow_partial=True).num_rows == 15


# Files as they really are


def damage_truncate(path: Path) -> None:
    write_sound(path, seconds=1.0)
    path.write_bytes(path.read_bytes()[:5000])


def damage_truncate_flac(path: Path) -> None:
    write_sound(path, seconds=1.0)
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("suffix", "damage", "reason"),
    [
        (".wav", damage_truncate, "truncated: 4956 of 32000 bytes"),
        (".flac", damage_truncate_flac, "truncated: the last sample"),
        (".wav", lambda path: path.write_bytes(b""), "empty file"),
        (".wav", lambda path: path.write_bytes(b"no sound at all"), "unreadable: Format not recognised"),
        (".wav", lambda path: write_sound(path, seconds=0), "no samples"),
    ],
)
def test_an_unusable_file_keeps_its_row_without_a_duration_and_is_a_problem(folder, suffix, damage, reason):
    path = folder / "Actor_01" / f"{BAD}{suffix}"
    damage(path)
    with pytest.raises(UserError, match=reason):
        load_corpus("ravdess", str(folder))
    table = load_corpus("ravdess", str(folder), allow_partial=True)
    assert table["utterance_id"].to_pylist() == [GOOD, BAD]
    assert table["duration"].to_pylist() == [0.1, None]
    (problem,) = problems_of(table)
    assert problem.uri == str(path)
    assert problem.reason.startswith(reason)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"rate": 44100}, (44100, 1)),
        ({"channels": 2}, (16000, 2)),
        ({"level": 0.0}, (16000, 1)),
        ({"level": 9.0}, (16000, 1)),
    ],
)
def test_unusual_sound_is_listed_as_it_is(folder: Path, form, expected):
    write_sound(folder / "Actor_01" / f"{BAD}.wav", **form)
    parsed = parse_corpus("ravdess", str(folder))
    assert parsed.problems == ()
    assert (parsed.table["sample_rate"][1].as_py(), parsed.table["channels"][1].as_py()) == expected
    assert any(f"{expected[0]} Hz" in note for note in parsed.notes)
    assert any(note.startswith("stereo (1)") for note in parsed.notes) == (expected[1] == 2)


def test_samples_that_are_no_numbers_are_listed(folder: Path):
    path = folder / "Actor_01" / f"{BAD}.wav"
    soundfile.write(path, np.full(1600, np.nan), 16000, subtype="FLOAT")
    parsed = parse_corpus("ravdess", str(folder))
    assert parsed.table["duration"].to_pylist() == [0.1, 0.1]


def test_a_length_unknown_to_the_writer_is_no_truncation(folder: Path):
    path = folder / "Actor_01" / f"{BAD}.wav"
    write_sound(path)
    content = path.read_bytes()
    streamed = content[:4] + b"\xff" * 4 + content[8:40] + b"\xff" * 4 + content[44:]
    path.write_bytes(streamed)
    assert parse_corpus("ravdess", str(folder)).problems == ()


def test_spaces_and_non_ascii_letters_in_the_path_are_fine(tmp_path: Path):
    root = tmp_path / "Mé corpus 語"
    write_sound(root / "Sprecher ä" / f"{GOOD}.wav")
    (audio,) = load_corpus("ravdess", str(root), allow_partial=True)["audio"].to_pylist()
    assert audio == str(root / "Sprecher ä" / f"{GOOD}.wav")
    assert Path(audio).is_file()


def test_a_relative_root_gives_absolute_uris(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    table = load_corpus("ravdess", ".", allow_partial=True)
    assert table["audio"].to_pylist() == [str(folder / "Actor_01" / f"{GOOD}.wav")]
    assert table.schema.metadata[b"root"] == str(folder).encode()


def test_a_name_that_is_not_utf8_is_refused_by_name(folder: Path):
    try:
        (folder / "Actor_01" / "caf\udce9.wav").write_bytes(b"x")
    except OSError:
        pytest.skip("this filesystem allows UTF-8 names only")
    with pytest.raises(UserError, match=r"caf\\xe9\.wav.* not valid UTF-8"):
        load_corpus("ravdess", str(folder), allow_partial=True)


def test_macos_files_are_skipped_and_counted(folder: Path):
    (folder / "Actor_01" / f"._{GOOD}.wav").write_bytes(b"\x00\x05")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / f"{GOOD}.wav").write_bytes(b"\x00\x05")
    parsed = parse_corpus("ravdess", str(folder))
    assert parsed.problems == ()
    assert any(note.startswith("2 hidden files") for note in parsed.notes)


def test_linked_folders_are_followed_but_never_in_a_circle(tmp_path: Path):
    write_sound(tmp_path / "store" / f"{GOOD}.wav")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "Actor_01").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "corpus")
    assert load_corpus("ravdess", str(tmp_path / "corpus"), allow_partial=True).num_rows == 1


# The command


def test_the_command_prints_both_counts_and_accepts_a_complete_corpus(complete: Path, capsys, tmp_path: Path):
    assert main(["ravdess", str(complete), "--output", str(tmp_path / "m.parquet")]) == 0
    printed = capsys.readouterr().out
    assert "(synthetic: generated signals)" in printed
    assert "agrees with the generated counts" in printed
    assert load_manifest(str(tmp_path / "m.parquet")).num_rows == 16


def test_the_command_reports_a_partial_corpus_and_takes_it_only_when_told(folder: Path, capsys):
    output = folder.parent / f"{folder.name}.parquet"
    (folder / "Actor_01" / f"{BAD}.wav").write_bytes(b"")
    assert main(["ravdess", str(folder), "--output", str(output)]) == 1
    printed = capsys.readouterr().out
    assert "-1438" in printed
    assert f"{BAD}.wav: empty file (0 bytes)" in printed
    assert not output.exists()
    assert main(["ravdess", str(folder), "--output", str(output), "--allow-partial"]) == 0
    written = load_manifest(str(output))
    assert problems_of(written)
    assert "2 of 1440 utterances" in (partial_corpus(written) or "")


@pytest.mark.parametrize(
    "arguments", [["ravdess"], ["ravdess", "x", "--nonsense"], ["nope", "x"], ["ravdess", "/no"]]
)
def test_a_wrong_command_is_one_line(arguments):
    with pytest.raises(UserError) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)


# Object store


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of an empty bucket of a simulated S3 on loopback."""
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
    s3fs.S3FileSystem().mkdir("corpora")
    yield "s3://corpora"
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_corpus_on_s3_gives_the_same_manifest(bucket: str, tmp_path: Path):
    settings = Settings(speakers=1, utterances=4, seconds=0.3, sample_rate=8000)
    generate("ravdess", f"{bucket}/små data/ravdess", settings)
    generate("ravdess", str(tmp_path / "ravdess"), settings)
    remote = load_corpus("ravdess", f"{bucket}/små data/ravdess")
    local = load_corpus("ravdess", str(tmp_path / "ravdess"))
    assert remote["audio"][0].as_py().startswith("s3://corpora/små data/ravdess/Actor_01/")
    assert remote.drop_columns("audio").equals(local.drop_columns("audio"))
    assert remote.schema.metadata[b"synthetic"] == b"true"
    with pytest.raises(UserError, match="no such folder"):
        load_corpus("ravdess", f"{bucket}/nothing")


def test_a_partial_corpus_says_so_as_long_as_its_manifest_lives(tmp_path: Path) -> None:
    generate("ravdess", str(tmp_path / "corpus"), Settings(speakers=2, utterances=4))
    assert partial_corpus(load_corpus("ravdess", str(tmp_path / "corpus"))) is None
    next((tmp_path / "corpus").rglob("*.wav")).unlink()
    table = load_corpus("ravdess", str(tmp_path / "corpus"), allow_partial=True)
    save_manifest(table, str(tmp_path / "manifest.parquet"))
    said = partial_corpus(load_manifest(str(tmp_path / "manifest.parquet")))
    assert said is not None and "7 of 8 utterances" in said
