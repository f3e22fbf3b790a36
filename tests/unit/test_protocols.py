"""Named protocols: their folds are the published ones or keep strangers apart, and their leaks are named."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ser_models.corpora import EMOTIONS, load_corpus, save_manifest
from ser_models.corpora.utterance import MANIFEST_SCHEMA
from ser_models.errors import UserError
from ser_models.models.labels import get_label_set, hard_targets
from ser_models.protocols.__main__ import main
from ser_models.protocols.folds import AVDAL_SEEDS, SCHEMES, Fold, balanced_group_parts, make_folds
from ser_models.protocols.leaks import LEAKS, LeakReport, check_leaks
from ser_models.protocols.registry import PROTOCOLS, get_protocol

SENTENCES = [f"this is what the page says number {number}" for number in range(10)]


def manifest_of(rows: list[dict[str, object]]) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in MANIFEST_SCHEMA.names}
    return pa.table(columns, schema=MANIFEST_SCHEMA)


def iemocap(utterances: int = 800) -> pa.Table:
    """Five sessions of two speakers; improvised dialogues, and one script that every session repeats."""
    emotions = ("angry", "happy", "excited", "sad", "neutral", "frustrated", "surprised")
    rows = []
    for number in range(utterances):
        session, turn = number % 5 + 1, number // 5
        scripted = turn % 4 == 0
        gender = "FM"[turn % 2]
        dialogue = f"Ses0{session}F_{'script01' if scripted else f'impro0{turn % 3}'}"
        rows.append(
            {
                "utterance_id": f"{dialogue}_{gender}{turn:04}",
                "corpus": "iemocap",
                "speaker": f"0{session}{gender}",
                "gender": "female" if gender == "F" else "male",
                "session": f"0{session}",
                "dialogue": dialogue,
                "turn": turn,
                "scenario": "scripted" if scripted else "improvised",
                "script": "script01" if scripted else None,
                "text": SENTENCES[turn // 4 % 10]
                if scripted
                else f"improvised words {number} said by {session}",
                "emotion": emotions[turn % len(emotions)],
            }
        )
    return manifest_of(sorted(rows, key=lambda row: str(row["utterance_id"])))


def divide(manifest: pa.Table, name: str) -> list[Fold]:
    protocol = get_protocol(name)
    emotions = manifest["emotion"].to_pylist()
    labels = get_label_set(protocol.label_set, emotions, EMOTIONS)
    targets = hard_targets(emotions, labels)
    scenario = manifest["scenario"].to_pylist()
    fits = np.array([protocol.scenario in (None, scenario[row]) for row in targets.rows])
    return make_folds(
        manifest, targets.rows[fits], targets.target[fits].argmax(1).tolist(), protocol, labels.classes
    )


def check(manifest: pa.Table, name: str, **options: object) -> LeakReport:
    protocol = get_protocol(name)
    return check_leaks(
        manifest,
        divide(manifest, name),
        preset="",
        protocol=name,
        named=protocol.leaks,
        media=None,
        **options,  # type: ignore[arg-type]
    )


def column(manifest: pa.Table, name: str, rows: np.ndarray) -> set[str]:
    return set(manifest[name].take(pa.array(rows)).to_pylist())


def test_every_protocol_names_a_scheme_a_label_set_and_leaks_that_exist() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and protocol.scheme in SCHEMES
        get_label_set(protocol.label_set, EMOTIONS, EMOTIONS)
        assert set(protocol.leaks) <= set(LEAKS)
        assert ("selection-on-test" in protocol.leaks) == (protocol.validation == "test")


def test_our_protocols_name_no_leak_of_speakers_and_never_select_on_test() -> None:
    for name, protocol in PROTOCOLS.items():
        if not name.endswith(("-published", "-official")):
            assert not {"speaker", "utterance", "selection-on-test"} & set(protocol.leaks)


@pytest.mark.parametrize(
    ("utterances", "sizes"),
    [
        # AMH's 7 classes: the shapes printed in the original's notebook and those regenerated from its seeds.
        (
            7487,
            [(6058, 404, 1025), (5934, 497, 1056), (5975, 483, 1029), (5962, 474, 1051), (6019, 428, 1040)],
        ),
        # The sibling notebook's 4 classes, as printed there.
        (5531, [(4445, 313, 773), (4374, 386, 771), (4399, 353, 779), (4432, 343, 756), (4474, 307, 750)]),
    ],
)
def test_amhs_folds_have_the_published_sizes(utterances: int, sizes: list[tuple[int, int, int]]) -> None:
    manifest = manifest_of(
        [
            {
                "utterance_id": f"u{n:05}",
                "corpus": "iemocap",
                "speaker": f"{n % 10}",
                "emotion": EMOTIONS[n % 4],
            }
            for n in range(utterances)
        ]
    )
    labels = [0] * utterances
    folds = make_folds(manifest, np.arange(utterances), labels, get_protocol("amh-published"), ("angry",))
    assert [(len(fold.train), len(fold.validation), len(fold.test)) for fold in folds] == sizes
    tested = np.concatenate([np.concatenate([fold.test, fold.validation]) for fold in folds])
    assert sorted(tested) == list(range(utterances))


def test_avdals_draws_are_the_originals_and_select_on_test() -> None:
    manifest = manifest_of(
        [{"utterance_id": f"u{n:05}", "corpus": "iemocap", "emotion": "sad"} for n in range(5531)]
    )
    folds = divide(manifest, "avdal-published")
    for fold, seed in zip(folds, AVDAL_SEEDS, strict=True):
        random.seed(seed)
        assert fold.test.tolist() == sorted(random.sample(range(5531), 1106))
        assert np.array_equal(fold.validation, fold.test) and len(fold.train) == 4425


@pytest.mark.parametrize("name", ["iemocap4-session", "iemocap7-session", "iemocap4-session-improvised"])
def test_session_folds_validate_on_the_next_session(name: str) -> None:
    manifest = iemocap()
    for number, fold in enumerate(divide(manifest, name), start=1):
        assert column(manifest, "session", fold.test) == {f"0{number}"}
        assert column(manifest, "session", fold.validation) == {f"0{number % 5 + 1}"}
        assert len(column(manifest, "session", fold.train)) == 3
    assert not check(manifest, name).findings


def test_speaker_folds_leave_the_partner_out_of_every_part() -> None:
    manifest = iemocap()
    folds = divide(manifest, "iemocap4-speaker")
    assert [fold.test_units for fold in folds[:3]] == [("01F",), ("01M",), ("02F",)]
    for fold in folds:
        (session,) = column(manifest, "session", fold.test)
        used = np.concatenate([fold.train, fold.validation])
        assert session not in column(manifest, "session", used)
        assert len(column(manifest, "speaker", fold.validation)) == 2
        assert len(column(manifest, "session", fold.validation)) == 1
        speakers = manifest["speaker"].to_pylist()
        emotions = manifest["emotion"].to_pylist()
        partner = session + ("M" if fold.test_units[0].endswith("F") else "F")
        theirs = [emotion for speaker, emotion in zip(speakers, emotions, strict=True) if speaker == partner]
        assert fold.dropped == {
            "session": sum(emotion not in ("frustrated", "surprised") for emotion in theirs)
        }
    assert not check(manifest, "iemocap4-speaker").findings


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("camser-session-published", {"selection-on-test"}),
        ("camser-speaker-published", {"selection-on-test", "session", "dialogue"}),
        ("amrwc-published", {"session", "dialogue"}),
        ("amh-published", {"speaker", "session", "dialogue"}),
        ("avdal-published", {"speaker", "session", "dialogue", "selection-on-test"}),
        ("timnet-iemocap-published", {"speaker", "session", "dialogue"}),
    ],
)
def test_the_papers_protocols_have_the_leaks_that_they_name(name: str, found: set[str]) -> None:
    report = check(iemocap(), name)
    assert {finding.leak for finding in report.findings} == found
    report.require_named()


def test_endings_narrow_a_protocol_down() -> None:
    manifest = iemocap()
    improvised = divide(manifest, "iemocap4-session-improvised-no-excited")
    rows = np.concatenate([improvised[0].train, improvised[0].validation, improvised[0].test])
    assert column(manifest, "scenario", rows) == {"improvised"}
    assert "excited" not in column(manifest, "emotion", rows)
    with pytest.raises(UserError, match="does not count excited as happy"):
        get_protocol("iemocap7-session-no-excited")
    with pytest.raises(
        UserError, match=r"unknown protocol 'loso'; known: iemocap4-session, .*-lexically-disjoint"
    ):
        get_protocol("loso")


def test_repeated_scripts_are_a_leak_for_those_who_read_words_only() -> None:
    manifest = iemocap()
    report = check(manifest, "iemocap4-session", reads_words=True)
    assert {finding.leak for finding in report.findings} == {"script", "text"}
    with pytest.raises(UserError, match="the leak check stops this run: script"):
        report.require_named()
    silent = check(manifest, "iemocap4-session")
    assert not silent.findings
    assert any("share a text with training or validation: no leak" in note for note in silent.notes)


def test_a_lexically_disjoint_protocol_drops_what_is_repeated_and_counts_it() -> None:
    manifest = iemocap()
    report = check(manifest, "iemocap4-session-lexically-disjoint", reads_words=True)
    assert not report.findings
    for fold in divide(manifest, "iemocap4-session-lexically-disjoint"):
        assert fold.dropped["text"] > 50
        assert column(manifest, "scenario", fold.train) == {"improvised"}
        assert any("training utterances dropped, which share text" in warning for warning in fold.warnings)


def test_utterances_that_may_only_be_trained_on_are_never_tested() -> None:
    manifest = iemocap()
    rows = np.arange(len(manifest))
    only = rows % 3 == 0
    labels = [0] * len(rows)
    for fold in make_folds(
        manifest, rows, labels, get_protocol("iemocap4-session"), ("angry",), train_only=only
    ):
        assert not only[fold.test].any() and not only[fold.validation].any()
        assert only[fold.train].any()


def test_copies_are_trained_on_where_their_parent_is_and_never_tested() -> None:
    originals = iemocap().to_pylist()
    copies = [
        row | {"utterance_id": f"{row['utterance_id']}@vtlp-1", "parent": row["utterance_id"]}
        for row in originals
    ]
    manifest = manifest_of(sorted(originals + copies, key=lambda row: row["utterance_id"]))
    plain = divide(iemocap(), "amh-published")
    for fold, without in zip(divide(manifest, "amh-published"), plain, strict=True):
        assert len(fold.train) == 2 * len(without.train)
        assert column(manifest, "parent", fold.test) == column(manifest, "parent", fold.validation) == {None}
        assert len(fold.test) == len(without.test)
    assert "parent" not in {finding.leak for finding in check(manifest, "amh-published").findings}


def test_a_validation_part_that_is_not_asked_for_is_trained_on() -> None:
    manifest = iemocap()
    protocol = replace(get_protocol("amh-published"), validation="none", selection="last")
    rows = np.arange(len(manifest))
    for fold in make_folds(manifest, rows, [0] * len(rows), protocol, ("angry",)):
        assert len(fold.validation) == 0
        assert len(fold.train) + len(fold.test) == len(manifest)


def own_split(*splits: str | None) -> pa.Table:
    return manifest_of(
        [
            {"utterance_id": f"u{n}", "corpus": "own", "speaker": f"s{n}", "emotion": "sad", "split": split}
            for n, split in enumerate(splits)
        ]
    )


def test_a_published_split_needs_no_second_test_speaker_and_counts_what_it_leaves_out() -> None:
    (fold,) = divide(own_split("train", "train", "dev", "test", "extra", None), "official")
    assert [len(part) for part in (fold.train, fold.validation, fold.test)] == [2, 1, 1]
    assert any("2 utterances are in no part: their split is none of" in note for note in fold.warnings)


def test_a_published_split_without_a_dev_part_asks_how_to_select() -> None:
    with pytest.raises(
        UserError, match="official gives no validation part of its own here: protocol.validation"
    ):
        divide(own_split("train", "train", "test"), "official")


def test_what_dev_loses_is_not_counted_as_training() -> None:
    rows = own_split("train", "train", "dev", "dev", "test").to_pylist()
    for row, session in zip(rows, ("a", "b", "a", "c", "a"), strict=True):
        row["session"] = session
    protocol = replace(get_protocol("official"), disjoint=("session",))
    (fold,) = make_folds(manifest_of(rows), np.arange(5), [0] * 5, protocol, ("sad",))
    assert [part.tolist() for part in (fold.train, fold.validation, fold.test)] == [[1], [3], [4]]
    assert fold.dropped == {"session": 1}


def test_speakers_with_one_class_are_said() -> None:
    rows = iemocap().to_pylist()
    for row in rows:
        if row["speaker"] == "03M":
            row["emotion"] = "sad"
    folds = divide(manifest_of(rows), "iemocap4-session")
    assert any(
        warning.startswith("1 speakers have one class only: 03M (80 sad)") for warning in folds[0].warnings
    )


def test_parts_of_whole_groups_are_balanced() -> None:
    groups = ["a"] * 50 + ["b"] * 40 + ["c"] * 30 + ["d"] * 20 + ["e"] * 10
    parts = balanced_group_parts(groups, 3)
    assert sorted(len(rows) for _, rows in parts) == [50, 50, 50]
    assert [units for units, _ in parts] == [("a",), ("b", "e"), ("c", "d")]


def test_one_corpus_trains_and_another_one_tests() -> None:
    target = [
        {
            "utterance_id": f"{split}{n}",
            "corpus": "meld",
            "speaker": f"s{n % 7}",
            "split": split,
            "emotion": ("angry", "happy", "sad", "neutral", "disgusted")[n % 5],
        }
        for split in ("train", "dev", "test")
        for n in range(40)
    ]
    source = iemocap()
    manifest = pa.concat_tables([source, manifest_of(target)])
    (fold,) = divide(manifest, "iemocap-to-meld")
    assert column(manifest, "corpus", fold.test) == {"meld"} and column(manifest, "split", fold.test) == {
        "test"
    }
    assert column(manifest, "corpus", np.concatenate([fold.train, fold.validation])) == {"iemocap"}
    assert column(manifest, "session", fold.validation) == {"05"}
    assert "disgusted" not in column(manifest, "emotion", fold.test)
    # Speaker names of two corpora are not the same people.
    assert not check(manifest, "iemocap-to-meld").findings
    with pytest.raises(UserError, match="iemocap-to-meld needs meld"):
        divide(source, "iemocap-to-meld")


def test_melds_official_split_shares_69_speakers(real_corpora: Path) -> None:
    manifest = load_corpus("meld", str(real_corpora / "meld"))
    (fold,) = divide(manifest, "meld-official")
    assert (len(fold.train), len(fold.validation), len(fold.test)) == (9989, 1109, 2610)
    report = check(manifest, "meld-official", reads_words=True)
    findings = {finding.leak: finding for finding in report.findings}
    assert findings["speaker"].parts["training and test"] == 69
    assert findings["speaker"].share == pytest.approx(0.958, abs=0.001)  # and a few through dev
    assert findings["session"].parts["training and test"] == 142
    assert set(findings) == {"speaker", "session", "text"}
    report.require_named()


def test_melds_speaker_parts_are_disjoint_and_say_what_they_share(real_corpora: Path) -> None:
    manifest = load_corpus("meld", str(real_corpora / "meld"))
    folds = divide(manifest, "meld-speaker")
    for fold in folds:
        parts = [column(manifest, "speaker", part) for part in (fold.train, fold.validation, fold.test)]
        assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    sizes = [len(fold.test) for fold in folds]
    # 80 lines are said by several at once, or by one speaker in another role: they could be anybody's.
    assert sum(sizes) == 13708 - 80 and max(sizes) - min(sizes) < 10
    assert any(
        "80 utterances are in no part: they name several speakers" in note for note in folds[0].warnings
    )
    tested = [column(manifest, "speaker", fold.test) for fold in folds]
    assert any({"Phoebe Sr", "Phoebe Sr."} <= names for names in tested)
    report = check(manifest, "meld-speaker")
    assert {finding.leak for finding in report.findings} == {"dialogue", "session"}
    report.require_named()


# The command


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = str(tmp_path / "iemocap.parquet")
    save_manifest(iemocap().replace_schema_metadata({"corpus": "iemocap"}), path)
    return path


def test_the_command_lists_every_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PROTOCOLS)
    assert "train.py cannot" in printed


def test_the_command_passes_what_is_clean_or_named(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = str(tmp_path / "folds.parquet")
    assert main(["check", saved, "--protocol", "iemocap4-session", "--output", folds]) == 0
    assert "no leak" in capsys.readouterr().out
    assert main(["check", saved, "--folds", folds]) == 0
    assert main(["check", saved, "--protocol", "amh-published"]) == 0
    assert "every leak found is named by the protocol" in capsys.readouterr().out


def test_the_command_fails_on_a_leak_that_is_not_named(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["check", saved, "--protocol", "iemocap4-session", "--reads-words"]
    assert main(arguments) == 1
    assert "NOT named by the protocol: script" in capsys.readouterr().out
    assert main([*arguments, "--leaks", "script", "text"]) == 0
    assert main([*arguments[:3], "iemocap4-session-lexically-disjoint", "--reads-words"]) == 0


def test_a_division_of_ones_own_is_checked(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = iemocap()["utterance_id"].to_pylist()
    lines = [f"{name},{('train', 'dev', 'test')[row % 3]}" for row, name in enumerate(ids)]
    path = tmp_path / "own.csv"
    path.write_text("\n".join(["utterance_id,part", *lines]))
    assert main(["check", saved, "--folds", str(path)]) == 1
    assert "speaker" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("utterance_id,fold\na,0", "has no column part"),
        ("utterance_id,part\nnobody,train", "no utterance 'nobody'"),
        (
            "utterance_id,part\nSes01F_impro00_F0006,training",
            "part 'training' of Ses01F_impro00_F0006 is none of",
        ),
        ("utterance_id,part\nSes01F_impro00_F0006", "line 2: 1 cells under 2 column names"),
        ("utterance_id,part,fold\nSes01F_impro00_F0006,train,a", "fold a has no utterance in its part test;"),
        (
            "utterance_id,part\nSes01F_impro00_F0006,dev",
            "fold 0 has no utterance in its part train and test;",
        ),
        ("utterance_id,part\n", "has no row below its column names"),
        ("", "is empty"),
    ],
)
def test_a_damaged_division_is_refused(saved: str, tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        main(["check", saved, "--folds", str(path)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--protocol", "nope"], "unknown protocol 'nope'"),
        (
            ["--protocol", "ravdess-speaker"],
            "protocol ravdess-speaker divides ravdess, not iemocap",
        ),
        (["--protocol", "official"], "publishes no split"),
        (["--protocol", "speaker", "--leaks", "voices"], "unknown leak 'voices'"),
        (["--protocol", "speaker", "--media", "/nowhere.parquet"], "--media /nowhere.parquet cannot be read"),
        (["--protocol", "speaker", "--media", "/"], "--media / cannot be read"),
        (["--folds", "/nowhere.csv"], "--folds /nowhere.csv: no such table"),
        (["--folds", "/"], r"--folds /: give a table, whose name ends in \.csv"),
        ([], "required"),
    ],
)
def test_a_wrong_command_is_refused_in_one_line(saved: str, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        main(["check", saved, *arguments])
    assert "\n" not in str(caught.value)


def write_division(path: Path, parts: dict[str, list[tuple[str, str]]]) -> str:
    """A division whose folds are pairs of utterance and part."""
    lines = [f"{name},{part},{fold}" for fold, pairs in parts.items() for name, part in pairs]
    path.write_text("\n".join(["utterance_id,part,fold", *lines]))
    return str(path)


def by_session(test: str, validation: str) -> list[tuple[str, str]]:
    """Two sessions held out; both parts where they are one session."""
    pairs = []
    for row in iemocap().to_pylist():
        parts = [part for part, held in (("test", test), ("dev", validation)) if row["session"] == held]
        pairs += [(row["utterance_id"], part) for part in parts or ["train"]]
    return pairs


def shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    status = main(arguments)
    return status, " ".join(capsys.readouterr().out.split())


def test_a_division_that_selects_on_its_test_part_is_found(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = write_division(tmp_path / "own.csv", {"0": by_session("01", "01")})
    status, printed = shown(["check", saved, "--folds", folds], capsys)
    assert status == 1 and "NOT named by the protocol: selection-on-test" in printed
    assert "fold 0: 160 of 160 test utterances are in the validation part too" in printed
    assert main(["check", saved, "--folds", folds, "--leaks", "selection-on-test"]) == 0


def test_a_validation_part_that_overlaps_the_test_part_is_found(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = by_session("01", "02")
    pairs.append((next(name for name, part in pairs if part == "test"), "dev"))
    folds = write_division(tmp_path / "own.csv", {"clean": by_session("01", "02"), "mixed": pairs})
    status, printed = shown(["check", saved, "--folds", folds], capsys)
    assert status == 1 and "selection-on-test" in printed and "utterance (the same utterance" in printed
    assert "fold mixed: 1 of 160 test utterances" in printed and "fold clean: " not in printed


@pytest.mark.parametrize("name", ["avdal-published", "camser-session-published"])
def test_a_protocol_that_selects_on_test_still_does_when_its_division_is_read_back(
    saved: str, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = str(tmp_path / "folds.parquet")
    assert shown(["check", saved, "--protocol", name, "--output", folds], capsys)[0] == 0
    status, printed = shown(["check", saved, "--folds", folds], capsys)
    assert status == 1 and "selection-on-test" in printed


def test_a_division_of_ones_own_keeps_its_names_and_says_what_it_lacks(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    emotions = dict(zip(*(iemocap()[name].to_pylist() for name in ("utterance_id", "emotion")), strict=True))
    emotions |= {name: "sad" for name in emotions if "F_impro" not in name and name.startswith("Ses02")}
    kept = [
        (name, part) for name, part in by_session("01", "02") if part != "test" or emotions[name] == "sad"
    ]
    folds = write_division(tmp_path / "own.csv", {"monday": by_session("03", "04"), "tuesday": kept})
    status, printed = shown(["check", saved, "--folds", folds], capsys)
    assert status == 0 and "│ monday │" in printed and "│ tuesday │" in printed
    missing = "no angry, happy, excited, neutral, surprised, frustrated in the test part"
    assert f"note: fold tuesday: {missing}" in printed and "fold monday" not in printed
    assert f"fold tuesday: {800 - len(kept)} of 800 utterances of the manifest are in no part" in printed


def test_a_division_of_ones_own_says_which_speakers_have_one_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = iemocap().to_pylist()
    for row in rows:
        row["emotion"] = "sad" if row["speaker"] == "03M" else row["emotion"]
        row["emotion"] = None if row["speaker"] == "04F" else row["emotion"]
    save_manifest(manifest_of(rows), str(tmp_path / "m.parquet"))
    folds = write_division(tmp_path / "own.csv", {"0": by_session("01", "02")})
    _, printed = shown(["check", str(tmp_path / "m.parquet"), "--folds", folds], capsys)
    assert "note: 1 speakers have one class only: 03M (80 sad)" in printed


def test_a_scenario_that_leaves_nothing_is_named(tmp_path: Path) -> None:
    rows = [row | {"scenario": "scripted"} for row in iemocap().to_pylist()]
    save_manifest(manifest_of(rows), str(tmp_path / "m.parquet"))
    with pytest.raises(
        UserError, match=r"neutral, sad in improvised speech, to which .*; 5\d\d utterances have"
    ):
        main(["check", str(tmp_path / "m.parquet"), "--protocol", "iemocap4-session-improvised"])


def test_a_partial_corpus_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "m.parquet")
    save_manifest(iemocap().replace_schema_metadata({"partial": "800 of 10039 utterances"}), path)
    _, printed = shown(["check", path, "--protocol", "iemocap4-session"], capsys)
    assert "not the whole corpus: " in printed and "800 of 10039 utterances" in printed


def test_brackets_in_a_transcript_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"text": "[laughter] I never said that"} for row in iemocap().to_pylist()]
    save_manifest(manifest_of(rows), str(tmp_path / "m.parquet"))
    arguments = ["check", str(tmp_path / "m.parquet"), "--protocol", "iemocap4-session", "--reads-words"]
    assert "[laughter]" in shown(arguments, capsys)[1]


@pytest.mark.parametrize("content", ["folder", "audio,emotion,speaker\n"])
def test_what_is_no_manifest_is_refused_with_the_command_that_makes_one(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.csv"
    path.mkdir() if content == "folder" else path.write_text(content)
    with pytest.raises(UserError, match="python -m ser_models.corpora NAME ROOT --output"):
        main(["check", str(path), "--protocol", "speaker"])


def test_a_wrong_protocol_is_refused_before_anything_is_read() -> None:
    with pytest.raises(UserError, match="unknown protocol 'nope'"):
        main(["check", "/nowhere.parquet", "--protocol", "nope"])
