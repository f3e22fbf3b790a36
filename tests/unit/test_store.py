"""Shards made in this process: their contract, and the store that reads them back."""

import dataclasses
import json
import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from ser_models.corpora import Utterance, build_table
from ser_models.errors import UserError, WorkError
from ser_models.features import build_view
from ser_models.features.media import decode
from ser_models.shards import layout
from ser_models.shards.preprocess import PreprocessConfig, plan, preprocess
from ser_models.shards.store import ShardStore, find_store

RATE = 8000


@pytest.fixture
def corpus(tmp_path: Path) -> pa.Table:
    """Nine utterances of two speakers: two of one dialogue, one of them damaged, one file missing."""
    root = tmp_path / "corpus"
    root.mkdir()
    generator = np.random.default_rng(0)
    rows = []
    for index in range(9):
        path = root / f"{index}.wav"
        if index == 3:
            path.write_bytes(b"damaged" * 100)
        elif index != 4:
            soundfile.write(path, generator.uniform(-0.5, 0.5, RATE // 4 + 400 * index), RATE)
        rows.append(
            Utterance(
                utterance_id=f"u{index}",
                corpus="small",
                speaker=str(index % 2),
                audio=str(path),
                emotion="happy",
                dialogue="d" if index in (1, 2) else None,
            )
        )
    return build_table(rows, corpus="small", root=str(root))


@pytest.fixture
def config(tmp_path: Path) -> PreprocessConfig:
    """A run in this process that accepts the two unreadable files."""
    return PreprocessConfig(
        corpus="small",
        root=str(tmp_path / "corpus"),
        views="mfcc",
        output=str(tmp_path / "out"),
        shards=4,
        max_error_fraction=0.5,
        local=True,
    )


def files(folder: str | Path) -> dict[str, bytes]:
    """Every file under a folder with its content."""
    paths = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_shards_hold_what_the_view_computes(corpus: pa.Table, config: PreprocessConfig) -> None:
    summary = preprocess(config, corpus)
    folder = Path(summary.views[0].folder)
    rows = []
    for path in sorted(folder.glob("shard-*.parquet")):
        table = pq.read_table(path)
        assert table.schema.names[:3] == ["utterance_id", "values", "frames"]
        assert table.schema.field("values").metadata == {b"shape": b"[39]", b"dtype": b"float32"}
        ids = table["utterance_id"].to_pylist()
        assert ids == sorted(ids)
        rows += table.to_pylist()
    assert sorted(row["utterance_id"] for row in rows) == [f"u{index}" for index in (0, 1, 2, 5, 6, 7, 8)]
    view = build_view("mfcc")
    for row in rows:
        waveform, media = decode(f"{config.root}/{row['utterance_id'][1:]}.wav", target_rate=22050)
        np.testing.assert_array_equal(
            np.array(row["values"], np.float32).reshape(row["frames"], 39), view(waveform, 22050)
        )
        assert {name: row[name] for name in dataclasses.asdict(media)} == dataclasses.asdict(media)


def test_a_dialogue_stays_in_one_shard(corpus: pa.Table, config: PreprocessConfig) -> None:
    for shards in range(2, 30):
        numbers = layout.shard_numbers(corpus, shards)
        assert numbers[1] == numbers[2]
        assert all(0 <= number < shards for number in numbers)


def test_the_books(corpus: pa.Table, config: PreprocessConfig) -> None:
    preprocess(config, corpus)
    store = find_store(config.output, "small", "mfcc")
    info = store.info
    assert (info["rows"], info["errors"], info["shards"], info["complete"]) == (7, 2, 4, True)
    assert info["bytes"] == sum(os.path.getsize(uri) for uri in store.shard_uris)
    assert info["seconds_of_audio"] == pytest.approx(sum(store.media()["duration"].to_pylist()), abs=1e-3)
    assert store.media()["utterance_id"].to_pylist() == ["u0", "u1", "u2", "u5", "u6", "u7", "u8"]
    errors = store.errors().to_pylist()
    assert [row["utterance_id"] for row in errors] == ["u3", "u4"]
    assert "not a sound" in errors[0]["error"] and "does not exist" in errors[1]["error"]
    assert errors[0]["uri"].endswith("3.wav")
    assert store.manifest().equals(corpus, check_metadata=True)
    utterances = pq.ParquetFile(f"{store.uri}/{layout.UTTERANCES}")
    assert utterances.num_row_groups == 4
    numbers = dict(zip(corpus["utterance_id"].to_pylist(), layout.shard_numbers(corpus, 4), strict=True))
    for shard in range(4):
        ids = utterances.read_row_group(shard)["utterance_id"].to_pylist()
        assert ids == sorted(name for name, number in numbers.items() if number == shard)
        assert info["shard_rows"][shard] == len(ids)


def test_a_second_run_writes_nothing(corpus: pa.Table, config: PreprocessConfig) -> None:
    first = preprocess(config, corpus)
    before = {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*")}
    second = preprocess(config, corpus)
    assert {path: path.stat().st_mtime_ns for path in Path(config.output).rglob("*")} == before
    assert (first.utterances, second.utterances) == (9, 0)
    assert "nothing was left to compute" in second.text()


def test_only_missing_shards_are_computed_and_leftovers_go(
    corpus: pa.Table, config: PreprocessConfig
) -> None:
    folder = Path(preprocess(config, corpus).views[0].folder)
    whole = files(folder)
    shards = sorted(folder.glob("shard-*"))
    shards[1].unlink()
    (folder / layout.MANIFEST).unlink()
    (folder / f".{shards[1].name}.0badcafe.partial").write_bytes(b"half")
    before = {path: path.stat().st_mtime_ns for path in shards if path.exists()}
    summary = preprocess(config, corpus)
    assert summary.views[0].computed == 1
    assert files(folder) == whole
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_shard_deleted_from_a_finished_store_is_made_again(
    corpus: pa.Table, config: PreprocessConfig
) -> None:
    folder = Path(preprocess(config, corpus).views[0].folder)
    whole = files(folder)
    sorted(folder.glob("shard-*"))[0].unlink()
    assert preprocess(config, corpus).views[0].computed == 1
    assert files(folder) == whole


def test_views_of_one_pass_equal_views_of_their_own(corpus: pa.Table, config: PreprocessConfig) -> None:
    specs = ["mfcc", "mfcc[samples=4000]", "mfcc[n_mfcc=13,sample_rate=8000]"]
    together = preprocess(dataclasses.replace(config, views=",".join(specs)), corpus)
    for view, spec in zip(together.views, specs, strict=True):
        alone = dataclasses.replace(config, views=spec, output=f"{config.output}-alone")
        assert files(preprocess(alone, corpus).views[0].folder) == files(view.folder)


def test_a_view_joins_an_existing_one(corpus: pa.Table, config: PreprocessConfig) -> None:
    preprocess(config, corpus)
    both = preprocess(dataclasses.replace(config, views="mfcc,mfcc[samples=4000]"), corpus)
    assert [view.computed for view in both.views] == [0, both.views[1].computed]
    assert both.views[1].computed > 0


def test_too_many_errors_fail_at_the_end_and_again(corpus: pa.Table, config: PreprocessConfig) -> None:
    strict = dataclasses.replace(config, max_error_fraction=0.2)
    said: list[str] = []
    for _ in range(2):
        with pytest.raises(WorkError, match="2 of 9 utterances cannot be read.*3.wav.*_errors.parquet"):
            preprocess(strict, corpus, say=said.append)
    assert "7 rows" in said[0] and "2 errors" in said[0] and "unreadable: u3" in said[0]
    assert find_store(config.output, "small", "mfcc").info["rows"] == 7
    assert preprocess(config, corpus).utterances == 0


def mark_of(config: PreprocessConfig, table: pa.Table) -> str:
    """The fingerprint that a run would have."""
    return plan(config, table)[0][0].fingerprint


def test_the_fingerprint_covers_what_decides_the_features(
    corpus: pa.Table, config: PreprocessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(column: str, value: object) -> pa.Table:
        values = corpus[column].to_pylist()
        values[0] = value
        index = corpus.schema.get_field_index(column)
        return corpus.set_column(
            index, corpus.schema.field(index), pa.array(values, corpus.schema.field(index).type)
        )

    marks = [
        mark_of(config, corpus),
        mark_of(dataclasses.replace(config, shards=5), corpus),
        mark_of(dataclasses.replace(config, views="mfcc[n_mfcc=20]"), corpus),
        mark_of(config, changed("start", 0.1)),
        mark_of(config, changed("audio", str(tmp_path / "corpus" / "1.wav"))),
        mark_of(config, changed("utterance_id", "other")),
        mark_of(config, corpus.slice(1)),
    ]
    for column, value in {"emotion": "sad", "text": "words", "speaker": "x", "valence": 1.0}.items():
        assert mark_of(config, changed(column, value)) == marks[0], column
    monkeypatch.setattr("ser_models.features.mfcc.Mfcc.VERSION", 99)
    marks.append(mark_of(config, corpus))
    monkeypatch.undo()
    with open(tmp_path / "corpus" / "0.wav", "ab") as stream:
        stream.write(b"\0")
    marks.append(mark_of(config, corpus))
    assert len(set(marks)) == len(marks)


def test_a_moved_corpus_keeps_its_fingerprint(
    corpus: pa.Table, config: PreprocessConfig, tmp_path: Path
) -> None:
    shutil.copytree(tmp_path / "corpus", tmp_path / "moved")
    rows = corpus.to_pylist()
    moved = build_table(
        [Utterance(**row | {"audio": row["audio"].replace("/corpus/", "/moved/")}) for row in rows],
        corpus="small",
        root=str(tmp_path / "moved"),
    )
    assert mark_of(config, moved) == mark_of(config, corpus)


def test_a_corrected_label_renews_the_manifest_alone(corpus: pa.Table, config: PreprocessConfig) -> None:
    preprocess(config, corpus)
    rows = [Utterance(**row | {"emotion": "sad"}) for row in corpus.to_pylist()]
    corrected = build_table(rows, corpus="small", root=config.root)
    assert preprocess(config, corrected).utterances == 0
    assert set(find_store(config.output, "small", "mfcc").manifest()["emotion"].to_pylist()) == {"sad"}


def test_open_maps_the_features(corpus: pa.Table, config: PreprocessConfig, tmp_path: Path) -> None:
    preprocess(config, corpus)
    store = find_store(config.output, "small", "mfcc")
    allocated = pa.total_allocated_bytes()
    table = store.open(str(tmp_path / "cache"))
    table = store.open(str(tmp_path / "cache"))
    assert pa.total_allocated_bytes() - allocated < 10_000  # mapped, not read
    assert sorted(table.ids) == store.media()["utterance_id"].to_pylist()
    waveform, _ = decode(f"{config.root}/5.wav", target_rate=22050)
    np.testing.assert_array_equal(table.array(table.row("u5")), build_view("mfcc")(waveform, 22050))
    assert [path.name for path in (tmp_path / "cache").glob("*.arrow")] == [f"{store.fingerprint}.arrow"]


def test_the_cache_folder_comes_from_the_environment(
    corpus: pa.Table, config: PreprocessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(config, corpus)
    monkeypatch.setenv("SER_CACHE", str(tmp_path / "there"))
    store = find_store(config.output, "small", "mfcc")
    store.open()
    assert (tmp_path / "there" / f"{store.fingerprint}.arrow").exists()
    with pytest.raises(UserError, match="must be a local folder"):
        store.open("s3://bucket/cache")


@pytest.mark.parametrize("damage", ["garbage", "cut", "empty", "other store"])
def test_a_damaged_cache_is_made_again(
    corpus: pa.Table, config: PreprocessConfig, tmp_path: Path, damage: str
) -> None:
    preprocess(config, corpus)
    store = find_store(config.output, "small", "mfcc")
    expected = store.open(str(tmp_path / "cache")).pad([0, 1]).values
    path = tmp_path / "cache" / f"{store.fingerprint}.arrow"
    content = path.read_bytes()
    if damage == "other store":
        preprocess(dataclasses.replace(config, views="mfcc[n_mfcc=7]"), corpus)
        other = find_store(config.output, "small", "mfcc[n_mfcc=7]")
        other.open(str(tmp_path / "cache"))
        path.unlink()
        (tmp_path / "cache" / f"{other.fingerprint}.arrow").rename(path)
    else:
        path.unlink()  # a mapped file must not be written to
        path.write_bytes({"garbage": b"x" * 5000, "cut": content[:-100], "empty": b""}[damage])
    assert store.open(str(tmp_path / "cache")).pad([0, 1]).values.equal(expected)
    assert path.read_bytes() == content


def test_stream_reads_the_shards_in_the_order_asked_for(corpus: pa.Table, config: PreprocessConfig) -> None:
    preprocess(config, corpus)
    store = find_store(config.output, "small", "mfcc")
    last = len(store.shard_uris) - 1
    order = [last, 0, last]
    for position, table in zip(order, store.stream(order), strict=True):
        expected = pq.read_table(store.shard_uris[position])
        assert table["utterance_id"].equals(expected["utterance_id"])
        assert table["values"].equals(expected["values"])


def test_several_readers_make_the_cache_once(
    corpus: pa.Table, config: PreprocessConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess(config, corpus)
    store = find_store(config.output, "small", "mfcc")
    fills = []
    fill = ShardStore._fill
    monkeypatch.setattr(ShardStore, "_fill", lambda self, path: (fills.append(path), fill(self, path)))
    threads = [threading.Thread(target=store.open, args=[str(tmp_path / "cache")]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fills) == 1


def test_a_missing_store_says_what_is_there_and_how_to_make_it(
    corpus: pa.Table, config: PreprocessConfig
) -> None:
    with pytest.raises(
        UserError, match="there is: nothing finished; .*preprocess.py --corpus small .*'mfcc'"
    ):
        find_store(config.output, "small", "mfcc")
    preprocess(config, corpus)
    fingerprint = find_store(config.output, "small", "mfcc").fingerprint
    with pytest.raises(UserError, match=rf"there is: mfcc \({fingerprint}\).*'mfcc\[n_mfcc=20\]'"):
        find_store(config.output, "small", "mfcc[n_mfcc=20]")
    with pytest.raises(UserError, match="no finished shards"):
        ShardStore.at(config.output)


def test_the_latest_run_wins_and_a_fingerprint_chooses(corpus: pa.Table, config: PreprocessConfig) -> None:
    for shards in (4, 2, 4):
        preprocess(dataclasses.replace(config, shards=shards), corpus)
    assert find_store(config.output, "small", "mfcc").info["shards"] == 4
    folder = Path(config.output, "small", "mfcc")
    marks = {
        json.loads(path.read_text())["shards"]: path.parent.name for path in folder.glob("*/_manifest.json")
    }
    assert find_store(config.output, "small", "mfcc", fingerprint=marks[2]).info["shards"] == 2
    (folder / layout.CURRENT).unlink()
    with pytest.raises(UserError, match="there are several"):
        find_store(config.output, "small", "mfcc")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": "nothing"}, "no view 'nothing'"),
        ({"shards": 0}, "shards must lie between"),
        ({"workers": 0}, "workers must lie between"),
        ({"max_error_fraction": 1.5}, "max_error_fraction must lie between 0 and 1"),
        ({"output": "ftp://somewhere"}, "unknown place 'ftp://'"),
        ({"output": ""}, "output must not be empty"),
    ],
)
def test_impossible_configurations_are_refused(
    config: PreprocessConfig, change: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(config, **change)


def test_an_output_that_cannot_be_written_is_one_line(corpus: pa.Table, config: PreprocessConfig) -> None:
    Path(config.output).write_text("a file where the folder should go")
    with pytest.raises(WorkError, match="storage failed"):
        preprocess(config, corpus)
