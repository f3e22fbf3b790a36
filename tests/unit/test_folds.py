"""Folds: nothing leaks between parts, the published random folds come out, and what is missing is said."""

import numpy as np
import pyarrow as pa
import pytest

from ser_models.corpora.utterance import MANIFEST_SCHEMA
from ser_models.errors import UserError
from ser_models.protocols.folds import (
    SCHEMES,
    Fold,
    fold_table,
    group_kfold,
    leave_one_group_out,
    make_folds,
    natural_key,
    random_kfold,
)
from ser_models.protocols.registry import Protocol

CLASSES = ("angry", "calm", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")
CODES = {
    "neutral": 1,
    "calm": 2,
    "happy": 3,
    "sad": 4,
    "angry": 5,
    "fearful": 6,
    "disgusted": 7,
    "surprised": 8,
}


def manifest_of(rows: list[dict[str, object]]) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in MANIFEST_SCHEMA.names}
    return pa.table(columns, schema=MANIFEST_SCHEMA)


def ravdess(speakers: int = 24) -> pa.Table:
    """The rows of the whole published corpus: 60 utterances for each actor."""
    rows = []
    for actor in range(1, speakers + 1):
        for emotion, code in CODES.items():
            for intensity in (1,) if emotion == "neutral" else (1, 2):
                for statement in (1, 2):
                    for repetition in (1, 2):
                        name = f"03-01-{code:02}-{intensity:02}-{statement:02}-{repetition:02}-{actor:02}"
                        rows.append(
                            {
                                "utterance_id": name,
                                "corpus": "ravdess",
                                "speaker": f"{actor:02}",
                                "session": f"{(actor + 1) // 2}",
                                "gender": "male" if actor % 2 else "female",
                                "emotion": emotion,
                            }
                        )
    return manifest_of(sorted(rows, key=lambda row: str(row["utterance_id"])))


def folds_of(manifest: pa.Table, scheme: str, **changes: object) -> list[Fold]:
    labels = [CLASSES.index(emotion) for emotion in manifest["emotion"].to_pylist()]
    own = scheme in ("amh-random", "balanced-speaker-parts", "official")
    validation = "none" if scheme in ("random-kfold", "avdal-draws") else "part" if own else "speakers"
    if scheme == "leave-one-session-out":
        validation = "session"
    options = {"name": "p", "description": "d", "label_set": "ravdess8", "validation": validation} | changes
    return make_folds(
        manifest,
        np.arange(len(manifest)),
        labels,
        Protocol(scheme=scheme, **options),  # type: ignore[arg-type]
        CLASSES,
    )


PARTITIONS = [
    name for name in SCHEMES if name not in ("avdal-draws", "amh-random", "official", "cross-corpus")
]
"""Schemes under which every utterance is tested once."""


@pytest.mark.parametrize("scheme", PARTITIONS)
def test_parts_are_disjoint_and_every_utterance_is_tested_once(scheme: str) -> None:
    manifest = ravdess(8)
    folds = folds_of(manifest, scheme)
    tested = np.concatenate([fold.test for fold in folds])
    assert sorted(tested) == list(range(len(manifest)))
    for fold in folds:
        joined = np.concatenate([fold.train, fold.validation, fold.test])
        assert len(joined) == len(set(joined)) == len(manifest)


@pytest.mark.parametrize("scheme", [name for name in PARTITIONS if name != "random-kfold"])
def test_no_group_is_in_two_parts(scheme: str) -> None:
    manifest = ravdess(8)
    column = "session" if "session" in scheme else "speaker"
    groups = np.array(manifest[column].to_pylist())
    for fold in folds_of(manifest, scheme):
        train, validation, test = (set(groups[part]) for part in (fold.train, fold.validation, fold.test))
        assert train and validation and test
        assert not train & validation and not train & test and not validation & test
        assert set(fold.test_units) == test


def test_validation_has_both_genders_and_every_class_and_goes_round() -> None:
    manifest = ravdess(8)
    speakers = np.array(manifest["speaker"].to_pylist())
    genders = np.array(manifest["gender"].to_pylist())
    emotions = np.array(manifest["emotion"].to_pylist())
    times_held_out: dict[str, int] = {}
    for fold in folds_of(manifest, "leave-one-speaker-out"):
        assert set(genders[fold.validation]) == {"female", "male"}
        assert set(emotions[fold.validation]) == set(CLASSES)
        assert not fold.warnings
        for speaker in set(speakers[fold.validation]):
            times_held_out[speaker] = times_held_out.get(speaker, 0) + 1
    assert set(times_held_out.values()) == {2}


def test_a_missing_gender_or_class_in_validation_is_said() -> None:
    rows = ravdess(8).to_pylist()
    for row in rows:
        row["gender"] = "male"
    kept = [row for row in rows if not (row["emotion"] == "calm" and row["speaker"] in ("02", "03"))]
    folds = folds_of(manifest_of(kept), "leave-one-speaker-out", validation_speakers=2)
    assert "fold 0: no female speaker in the validation part" in folds[0].warnings
    assert "fold 0: no calm in the validation part" in folds[0].warnings


def test_a_class_missing_from_a_test_part_is_said() -> None:
    kept = [row for row in ravdess(8).to_pylist() if not (row["emotion"] == "sad" and row["speaker"] == "03")]
    folds = folds_of(manifest_of(kept), "leave-one-speaker-out")
    assert "fold 2: no sad in the test part" in folds[2].warnings


def test_timnets_random_folds_of_ravdess_come_out() -> None:
    """1440 utterances in class folders, KFold(10, shuffle=True, random_state=46) over that order."""
    manifest = ravdess()
    folds = folds_of(manifest, "random-kfold", n_folds=10, seed=46)
    assert [len(fold.test) for fold in folds] == [144] * 10
    # The original's array: class folders in index order, then file names, whose last field is the actor.
    ids = manifest["utterance_id"].to_pylist()
    emotions = manifest["emotion"].to_pylist()
    stored = [
        name
        for emotion in CLASSES
        for name, label in sorted(zip(ids, emotions, strict=True))
        if label == emotion
    ]
    assert stored[0] == "03-01-05-01-01-01-01" and stored[192] == "03-01-02-01-01-01-01"
    # NumPy's legacy generator, whose stream is frozen, is what KFold shuffles with.
    shuffled = np.random.RandomState(46).permutation(1440)
    for number, fold in enumerate(folds):
        expected = {stored[row] for row in shuffled[number * 144 : (number + 1) * 144]}
        assert {ids[row] for row in fold.test} == expected
        assert len(fold.validation) == 0 and len(fold.train) == 1296


def test_random_folds_do_not_depend_on_the_order_of_the_manifest() -> None:
    manifest = ravdess(4)
    other = manifest.take(pa.array(np.random.default_rng(0).permutation(len(manifest))))
    for first, second in zip(
        folds_of(manifest, "random-kfold"), folds_of(other, "random-kfold"), strict=True
    ):
        names = [
            set(table["utterance_id"].take(pa.array(fold.test)).to_pylist())
            for table, fold in ((manifest, first), (other, second))
        ]
        assert names[0] == names[1]


def test_digits_sort_as_numbers() -> None:
    assert sorted(["a10", "a2", "b1", "a02x"], key=natural_key) == ["a2", "a02x", "a10", "b1"]


def test_impossible_divisions_say_why() -> None:
    manifest = ravdess(2)
    with pytest.raises(UserError, match="unknown fold scheme 'loso'; allowed: leave-one-speaker-out"):
        folds_of(manifest, "loso")
    with pytest.raises(UserError, match="n_folds = 5: allowed are 2 to 2"):
        folds_of(manifest, "speaker-kfold", n_folds=5)
    with pytest.raises(
        UserError,
        match="needs at least 3 speakers outside the test part, found 1: use --protocol.validation none",
    ):
        folds_of(manifest, "leave-one-speaker-out")
    with pytest.raises(UserError, match="at least 2 groups, found 1: a"):
        leave_one_group_out(["a", "a"])
    with pytest.raises(UserError, match="2 utterances have no group"):
        group_kfold(["a", None, None], 2, 0)
    with pytest.raises(UserError, match="n_folds = 9: allowed are 2 to 3"):
        random_kfold(["a", "b", "c"], [0, 1, 2], 9, 0)


def test_the_fold_table_names_the_part_of_every_utterance() -> None:
    manifest = ravdess(4)
    folds = folds_of(manifest, "leave-one-speaker-out")
    table = fold_table(manifest, folds[:1])
    counts = table.group_by("part").aggregate([("utterance_id", "count")]).to_pylist()
    found = {row["part"]: row["utterance_id_count"] for row in counts}
    assert found == {"train": 60, "validation": 120, "test": 60}
