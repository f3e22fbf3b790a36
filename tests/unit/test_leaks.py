"""The leak check finds what the parts share, and only a leak that the protocol names lets a run pass."""

import functools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ser_models.corpora.utterance import MANIFEST_SCHEMA
from ser_models.errors import UserError
from ser_models.features.transforms import Standardise
from ser_models.features.twins import WIDTH
from ser_models.protocols import common, ledger
from ser_models.protocols.folds import Fold
from ser_models.protocols.leaks import LEAKS, LeakReport, check_fitted, check_leaks
from ser_models.protocols.texts import index_texts
from ser_models.shards.preprocess import PreprocessConfig, preprocess
from ser_models.shards.store import find_store


def manifest_of(**columns: list[object]) -> pa.Table:
    count = len(next(iter(columns.values())))
    defaults: dict[str, list[object]] = {
        "utterance_id": [f"u{row}" for row in range(count)],
        "corpus": ["c"] * count,
        "speaker": [f"s{row}" for row in range(count)],
    }
    filled = {name: [None] * count for name in MANIFEST_SCHEMA.names} | defaults | columns
    return pa.table(filled, schema=MANIFEST_SCHEMA)


def fold_of(train: list[int], validation: list[int], test: list[int], index: int = 0) -> Fold:
    return Fold(index, (), *(np.array(part, dtype=np.int64) for part in (train, validation, test)))


def check(manifest: pa.Table, fold: Fold, **changes: object) -> LeakReport:
    options = {"preset": "clean", "protocol": "p", "named": (), "media": None} | changes
    return check_leaks(manifest, [fold], **options)  # type: ignore[arg-type]


def test_a_clean_division_passes() -> None:
    report = check(manifest_of(speaker=["a", "a", "b", "c"]), fold_of([0, 1], [2], [3]))
    assert report.findings == ()
    report.require_named()
    assert "audio was not compared: the shards carry no hashes of the decoded samples" in report.notes
    assert "session is unknown in this corpus, so it was not compared" in report.notes


@pytest.mark.parametrize("column", ["speaker", "session", "dialogue"])
@pytest.mark.parametrize("parts", [([0], [2], [1]), ([2], [0], [1]), ([0], [1], [2])])
def test_a_shared_group_between_any_two_parts_is_found(column: str, parts: tuple[list[int], ...]) -> None:
    manifest = manifest_of(**{column: ["x", "x", "y"]})
    report = check(manifest, fold_of(*parts))
    assert [finding.leak for finding in report.findings] == [column]
    with pytest.raises(UserError, match=f"leak check stops this run: {column}: .*e.g. x; NOT named"):
        report.require_named()


def test_an_utterance_in_two_parts_is_found() -> None:
    report = check(manifest_of(speaker=["a", "b", "c"]), fold_of([0, 2], [1], [2]))
    assert {finding.leak for finding in report.findings} == {"utterance", "speaker"}


def test_kinds_that_are_known_of_some_utterances_only_say_of_how_many_not() -> None:
    media = pa.table({"utterance_id": ["u0", "u2"], "sha256": ["f", "g"], "corpus": ["c", "c"]})
    manifest = manifest_of(
        session=[None, "1", None, "2", "3"],
        text=["you are so kind", None, "[LAUGHTER]", "else", None],
        script=["x", None, None, None, None],
    )
    notes = check(manifest, fold_of([0, 1], [2], [3]), media=media).notes  # the last row is in no part
    assert "2 of 4 utterances have no session: not compared" in notes
    assert "2 of 4 utterances have no hash of the decoded samples: not compared" in notes
    assert "2 of 4 utterances have no transcript: not compared" in notes
    assert "dialogue is unknown in this corpus, so it was not compared" in notes
    assert not [note for note in notes if "speaker" in note or "script" in note.split()]


def test_a_kind_that_is_known_outside_the_folds_only_was_not_compared() -> None:
    notes = check(manifest_of(session=[None, None, None, "1"]), fold_of([0], [1], [2])).notes
    assert "session is unknown in this corpus, so it was not compared" in notes


def test_shards_without_envelopes_say_that_twins_were_not_looked_for() -> None:
    media = pa.table({"utterance_id": ["u0", "u1"], "sha256": ["f", "g"]})
    notes = check(manifest_of(speaker=["a", "b"]), fold_of([0], [], [1]), media=media).notes
    assert "recordings that sound the same were not looked for: the shards carry no envelopes" in notes


def test_a_prescribed_sentence_without_its_words_is_found() -> None:
    """CASIA and EMO-DB: every speaker says the same sentences, of which the corpus gives a code alone."""
    manifest = manifest_of(sentence=["a01", "b02", "a01"])
    report = check(manifest, fold_of([0], [1], [2]), reads_words=True)
    (finding,) = report.findings
    assert (finding.leak, finding.examples, finding.share) == ("sentence", ("a01",), 1.0)
    with pytest.raises(UserError, match="sentence: prescribed sentences are in two parts"):
        report.require_named()
    silent = check(manifest, fold_of([0], [1], [2]))
    assert silent.findings == ()
    assert (
        "1 test utterances (100.0%) share a sentence with training or validation: no leak for systems that do "
        "not read words" in silent.notes
    )


def test_a_sentence_with_its_words_is_found_as_both() -> None:
    words = "Kids are talking by the door."
    manifest = manifest_of(sentence=["1", "2", "1"], text=[words, "Dogs are sitting by the door.", words])
    found = check(manifest, fold_of([0], [1], [2]), reads_words=True).findings
    assert [finding.leak for finding in found] == ["sentence", "text"]


def test_sentences_of_two_corpora_are_different_ones_and_unknown_ones_are_not_compared() -> None:
    fold = fold_of([0], [1], [2])
    other = manifest_of(corpus=["a", "b", "b"], sentence=["1", "2", "1"])
    assert check(other, fold, reads_words=True).findings == ()
    unknown = check(manifest_of(sentence=[None, "2", None]), fold, reads_words=True)
    assert unknown.findings == ()


def test_media_of_two_corpora_with_the_same_ids_is_told_apart_by_corpus() -> None:
    manifest = manifest_of(corpus=["a", "a", "b", "b"], utterance_id=["u0", "u1", "u0", "u1"])
    media = pa.table(
        {
            "corpus": ["b", "b", "a", "a"],
            "utterance_id": ["u0", "u1", "u0", "u1"],
            "sha256": ["same", "other", "more", "same"],
        }
    )
    report = check(manifest, fold_of([1], [0], [2]), media=media)
    assert [(finding.leak, finding.examples) for finding in report.findings] == [
        ("identical-audio", ("u1 = u0",))
    ]
    assert check(manifest, fold_of([0], [1], [3]), media=media).findings == ()
    with pytest.raises(UserError, match="holds a, b, and its media does not say of which corpus"):
        check(manifest, fold_of([0], [1], [2]), media=media.drop_columns("corpus"))


def test_twins_of_two_corpora_with_the_same_ids_are_told_apart_by_corpus() -> None:
    wave = np.random.default_rng(0).standard_normal((3, WIDTH)).astype(np.float32)
    wave /= np.linalg.norm(wave, axis=1, keepdims=True)
    envelopes = [wave[0], wave[1], wave[2], wave[0]]
    manifest = manifest_of(corpus=["a", "a", "b", "b"], utterance_id=["u0", "u1", "u0", "u1"])
    media = pa.table(
        {
            "corpus": ["a", "a", "b", "b"],
            "utterance_id": ["u0", "u1", "u0", "u1"],
            "sha256": list("wxyz"),
            "duration": [2.0] * 4,
            "envelope": pa.array([list(map(float, each)) for each in envelopes], pa.list_(pa.float32())),
        }
    )
    (finding,) = check(manifest, fold_of([0], [1], [3]), media=media).findings
    assert (finding.leak, finding.examples) == ("audio-twin", ("u0 = u1",))
    assert check(manifest, fold_of([1], [0], [2]), media=media).findings == ()


def test_identical_audio_is_found_by_its_samples() -> None:
    media = pa.table({"utterance_id": ["u0", "u1", "u2"], "sha256": ["f", "g", "f"]})
    report = check(manifest_of(speaker=["a", "b", "c"]), fold_of([0], [1], [2]), media=media)
    assert [(finding.leak, finding.examples) for finding in report.findings] == [
        ("identical-audio", ("u0 = u2",))
    ]


def test_a_clip_and_its_sound_alone_are_twins(real_corpora: Path, tmp_path: Path) -> None:
    clip = real_corpora / "ravdess_av/Actor_01/01-01-01-01-01-01-01.mp4"
    sound = real_corpora / "ravdess_originals/Actor_01/03-01-01-01-01-01-01.wav"
    other = real_corpora / "ravdess/Actor_01/03-01-01-01-01-02-01.flac"
    table = tmp_path / "table.csv"
    lines = [f"{path},neutral,{speaker}" for speaker, path in enumerate((clip, sound, other))]
    table.write_text("\n".join(["audio,emotion,speaker", *lines]))
    shards = str(tmp_path / "shards")
    preprocess(PreprocessConfig(corpus="mixed", root=str(table), views="mfcc", output=shards, local=True))
    store = find_store(shards, "mixed", "mfcc")
    manifest = store.manifest()
    rows = {Path(audio).name[:2] + audio[-3:]: row for row, audio in enumerate(manifest["audio"].to_pylist())}
    fold = fold_of([rows["01mp4"]], [rows["03lac"]], [rows["03wav"]])
    report = check(manifest, fold, media=store.media())
    (finding,) = report.findings
    assert finding.leak == "audio-twin" and finding.parts == {"training and test": 1}
    assert finding.examples == (
        " = ".join(manifest["utterance_id"][fold_part[0]].as_py() for fold_part in (fold.train, fold.test)),
    )
    with pytest.raises(UserError, match="audio-twin: recordings that sound the same"):
        report.require_named()


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("I never said that.", "I NEVER said that!"), {"text"}),
        (
            (
                "one two three four five six seven eight nine ten",
                "one two three four five six seven eight nine ten eleven",
            ),
            {"text"},
        ),
        (("one two three four five", "one two three four six"), set()),
        (("Oh my God!", "Oh my god"), set()),
        ((None, None), set()),
    ],
)
def test_transcripts_of_four_words_that_are_nearly_equal_are_found(
    texts: tuple[str | None, ...], found: set[str]
) -> None:
    manifest = manifest_of(speaker=["a", "b", "c"], text=[texts[0], "something else is said here", texts[1]])
    report = check(manifest, fold_of([0], [1], [2]), reads_words=True)
    assert {finding.leak for finding in report.findings} == found
    assert not check(manifest, fold_of([0], [1], [2])).findings
    if texts[0] == "Oh my God!":
        assert "1 test utterances repeat a transcript of fewer than 4 words: only counted" in report.notes


def test_a_search_for_near_texts_that_ended_early_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ten = "one two three four five six seven eight nine ten"
    manifest = manifest_of(text=[ten, "something else is said here", f"{ten} eleven"])
    fold = fold_of([0], [1], [2])
    note = "too many transcripts are nearly equal: every equal one was found, not every other"
    assert note not in check(manifest, fold, reads_words=True).notes
    monkeypatch.setattr(common, "index_texts", functools.partial(index_texts, max_pairs=0))
    report = check(manifest, fold, reads_words=True)
    assert note in report.notes and report.findings == ()


def test_a_copy_in_another_part_than_its_parent_is_found() -> None:
    manifest = manifest_of(speaker=["a", "b", "c"], parent=[None, None, "u0"])
    assert [finding.leak for finding in check(manifest, fold_of([0], [1], [2])).findings] == ["parent"]
    assert check(manifest, fold_of([0, 2], [1], [])).findings == ()


def test_a_named_leak_passes_and_is_still_reported() -> None:
    report = check(manifest_of(speaker=["x", "y", "x"]), fold_of([0], [1], [2]), named=("speaker",))
    report.require_named()
    (finding,) = report.as_dict()["findings"]
    assert finding["leak"] == "speaker" and finding["allowed"] and finding["examples"] == ["x"]
    assert report.as_dict()["named"] == [{"leak": "speaker", "why": LEAKS["speaker"]}]
    assert report.as_dict()["found"] == ["speaker"]


def test_leaks_that_are_named_but_not_found_are_not_among_those_found() -> None:
    report = check(manifest_of(speaker=["x", "y", "z"]), fold_of([0], [1], [2]), named=("speaker",)).as_dict()
    assert (report["named"][0]["leak"], report["found"]) == ("speaker", [])


def test_selection_on_test_is_a_leak_of_the_folds_that_do_it() -> None:
    manifest = manifest_of(speaker=["a", "b", "c", "d"])
    folds = [fold_of([0], [1, 2], [1, 3]), fold_of([1], [2], [3], index=1)]
    options = {"preset": "clean", "protocol": "p", "named": (), "media": None}
    report = check_leaks(manifest, folds, **options)  # type: ignore[arg-type]
    finding = next(finding for finding in report.findings if finding.leak == "selection-on-test")
    assert (finding.folds, finding.tested, finding.share) == (1, 1, pytest.approx(1 / 3))
    assert finding.examples == ("fold 0",)


def test_an_encoder_that_saw_the_corpus_is_a_leak() -> None:
    report = check(manifest_of(speaker=["a", "b"]), fold_of([0], [], [1]), pretrained=["ssl[model=x]"])
    (finding,) = report.findings
    assert (finding.leak, finding.share, finding.examples) == ("pretrained-on-corpus", 1.0, ("ssl[model=x]",))
    with pytest.raises(UserError, match="an encoder was trained on the corpus"):
        report.require_named()


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UserError, match="unknown leak 'speakers'; known: utterance, speaker"):
        check(manifest_of(speaker=["a", "b"]), fold_of([0], [], [1]), named=("speakers",))


def test_a_scaler_fitted_on_more_than_the_training_part_is_refused() -> None:
    sequences = [("a", np.ones((3, 2))), ("b", np.zeros((1, 2)))]
    check_fitted(Standardise.fit(sequences).fitted_on, ["b", "a"], "scaler")
    with pytest.raises(UserError, match="fitted-outside-training: scaler"):
        check_fitted(Standardise.fit(sequences).fitted_on, ["a"], "scaler")
    with pytest.raises(UserError, match="fitted-outside-training: scaler"):
        check_fitted(Standardise.fit(sequences).fitted_on, ["a"], "scaler", named=("speaker",))


def test_a_protocol_that_names_it_may_fit_outside_the_training_part() -> None:
    fitted_on = Standardise.fit([("a", np.ones((3, 2))), ("b", np.zeros((1, 2)))]).fitted_on
    check_fitted(fitted_on, ["a"], "scaler", named=("speaker", "fitted-outside-training"))


def test_the_scaler_standardises_what_it_was_fitted_on_and_silences_constants() -> None:
    generator = np.random.default_rng(0)
    sequences = [generator.normal([3, -200, 7], [2, 50, 0], (length, 3)) for length in (50, 1, 400)]
    fitted = Standardise.fit(zip("abc", sequences, strict=True))
    result = np.concatenate([Standardise.apply(fitted, sequence) for sequence in sequences])
    np.testing.assert_allclose(result.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(0), [1, 1, 0], atol=1e-4)
    with pytest.raises(ValueError, match="no frames"):
        Standardise.fit([("a", np.zeros((0, 3)))])


def test_the_ledger_counts_every_read(tmp_path: Path) -> None:
    run = str(tmp_path)
    assert ledger.read(run) == []
    ledger.record(run, seed=0, fold=1, rows=60, why="scored")
    ledger.record(run, seed=0, fold=2, rows=60, why="scored")
    ledger.record(run, seed=1, fold=2, rows=60, why="selected on", times=3)
    assert [(entry["fold"], entry["rows"]) for entry in ledger.read(run)] == [(1, 60)] + [(2, 60)] * 4
