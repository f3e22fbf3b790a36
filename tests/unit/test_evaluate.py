"""Run directories, their numbers, and the command that joins them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import sklearn.metrics
from run_directories import CLASSES, rewrite_metadata, rewrite_predictions, write_run

from ser_models.errors import UserError
from ser_models.evaluation import check_comparable, compare, read_run, save_metrics, summarise, write_report
from ser_models.evaluation.comparison import EvaluateConfig
from ser_models.evaluation.comparison_table import comparison_csv, comparison_html, comparison_json

ROOT = Path(__file__).resolve().parents[2]
FIRST = Path("seed-0", "fold-0", "predictions.parquet")


def summary_of(folder: Path, **settings: Any) -> dict[str, Any]:
    return summarise(read_run(str(folder), **settings))


def compare_folders(*folders: Path) -> Any:
    runs = [read_run(str(folder)) for folder in folders]
    return compare(runs, [summarise(run) for run in runs])


def evaluate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The real command in its own process."""
    return subprocess.run(
        [sys.executable, "workflows/evaluate.py", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_pooled_numbers_are_those_of_all_test_predictions(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rows = [
        row
        for path in folder.glob("seed-0/fold-*/predictions.parquet")
        for row in pq.read_table(path).to_pylist()
        if row["part"] == "test"
    ]
    truth, prediction = ([row[name] for row in rows] for name in ("label", "prediction"))
    summary = summary_of(folder)
    expected = {
        "uar": sklearn.metrics.balanced_accuracy_score(truth, prediction),
        "wa": sklearn.metrics.accuracy_score(truth, prediction),
        "macro_f1": sklearn.metrics.f1_score(truth, prediction, average="macro"),
        "weighted_f1": sklearn.metrics.f1_score(truth, prediction, average="weighted"),
    }
    scores = np.array([row["probabilities"] for row in rows])
    areas = [sklearn.metrics.roc_auc_score(np.array(truth) == label, scores[:, label]) for label in range(3)]
    expected["auc"] = np.mean(areas)
    for name, value in expected.items():
        assert summary["pooled"][name]["mean"] == pytest.approx(value), name
    assert summary["confusion"] == sklearn.metrics.confusion_matrix(truth, prediction).tolist()
    assert summary["utterances"] == len(rows) == 72


def test_fold_spread_and_seed_spread_are_apart(tmp_path: Path) -> None:
    summary = summary_of(write_run(tmp_path / "run", seeds=(3, 5)))
    per_fold = [[row["uar"] for row in summary["per_fold"] if row["fold"] == fold] for fold in range(3)]
    assert summary["fold_mean"]["uar"]["fold_sd"] == pytest.approx(np.std(np.mean(per_fold, axis=1), ddof=1))
    per_seed = summary["pooled"]["uar"]["per_seed"]
    assert len(per_seed) == 2
    assert summary["pooled"]["uar"]["seed_sd"] == pytest.approx(np.std(per_seed, ddof=1))
    assert summary["pooled"]["uar"]["mean"] == pytest.approx(np.mean(per_seed))
    # A second seed is no second set of speakers.
    assert summary["pooled"]["uar"]["interval"]["units"] == 6
    assert summary["utterances"] == 72


def test_one_seed_has_no_spread_over_seeds(tmp_path: Path) -> None:
    assert summary_of(write_run(tmp_path / "run"))["pooled"]["uar"]["seed_sd"] is None


def test_a_class_absent_from_a_fold_is_named_and_leaves_the_pooled_uar_whole(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rewrite_predictions(folder / FIRST, label=[0, 1] * 24, prediction=[0, 1] * 24)
    summary = summary_of(folder)
    rows = {row["fold"]: row for row in summary["per_fold"]}
    assert rows[0]["absent_classes"] == ["sad"] and rows[0]["uar"] == 1
    assert rows[1]["absent_classes"] == []
    assert summary["absent_classes"] == []


def test_baselines_follow_the_training_parts(tmp_path: Path) -> None:
    """The fixture's most frequent training class is the last one, a third of every test part."""
    baselines = summary_of(write_run(tmp_path / "run"))["baselines"]
    assert baselines["majority"]["uar"] == pytest.approx(1 / 3)
    assert baselines["majority"]["wa"] == pytest.approx(1 / 3)
    assert baselines["majority"]["macro_f1"] == pytest.approx(0.5 / 3)
    assert baselines["chance"]["uar"] == baselines["chance"]["wa"] == pytest.approx(1 / 3)


def test_groups_are_told_apart_and_unknown_ones_skipped(tmp_path: Path) -> None:
    groups = summary_of(write_run(tmp_path / "run"))["groups"]
    assert set(groups) == {"gender", "speaker", "language", "intensity"}
    assert [row["group"] for row in groups["intensity"]] == ["normal", "strong"]
    assert [row["utterances"] for row in groups["gender"]] == [36, 36]
    assert len(groups["speaker"]) == 6


def test_refitted_models_are_summarised_beside(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", refit=True)
    path = folder / "seed-0" / "fold-0" / "predictions-refit.parquet"
    rewrite_predictions(path, prediction=pq.read_table(path)["label"].to_pylist())
    summary = summary_of(folder)
    assert summary["refit"]["pooled"]["uar"]["mean"] > summary["pooled"]["uar"]["mean"]
    assert summary["refit"]["epochs"][0] == {"seed": 0, "fold": 0, "epochs": 3}
    names = [row.name for row in compare_folders(folder).rows]
    assert names == ["run", "run (refit)", "majority", "chance"]


def test_metrics_json_is_strict_json(tmp_path: Path) -> None:
    run = read_run(str(write_run(tmp_path / "run", speakers=3, utterances=2)))
    path = save_metrics(run, summarise(run))
    content = json.loads(Path(path).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert content["test_reads"] == 3
    assert content["synthetic"] is False


def test_unknown_speakers_leave_no_interval_but_a_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    rewrite_predictions(folder / FIRST, speaker=[None] * 48)
    interval = summary_of(folder)["pooled"]["uar"]["interval"]
    assert interval["low"] is None
    assert "speaker of 24 of 72 predictions is unknown" in interval["note"]


def test_unfinished_runs_are_refused_and_evaluated_on_request(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", seeds=(0, 1))
    (folder / "seed-0" / "fold-1" / "fold.json").unlink()
    shutil.rmtree(folder / "seed-1" / "fold-2")
    with pytest.raises(UserError, match="seed-0/fold-1, seed-1/fold-2 missing.*--allow-incomplete"):
        read_run(str(folder))
    summary = summary_of(folder, allow_incomplete=True)
    assert summary["missing"] == ["seed-0/fold-1", "seed-1/fold-2"]
    assert not summary["complete"]
    assert len(summary["per_fold"]) == 4


@pytest.mark.parametrize("seeds", ["[0, 1]", "2\nseed: 0"])
def test_a_seed_that_never_started_is_missing(tmp_path: Path, seeds: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "config.yaml").write_text(f"name: run\nseeds: {seeds}\n")
    with pytest.raises(UserError, match="seed-1/fold-0, seed-1/fold-1, seed-1/fold-2 missing"):
        read_run(str(folder))


def test_test_utterances_without_prediction_are_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    table = pq.read_table(folder / FIRST)
    keep = [
        row["part"] == "validation" or not row["utterance_id"].endswith("005") for row in table.to_pylist()
    ]
    pq.write_table(table.filter(keep), folder / FIRST)
    assert summary_of(folder)["notes"] == [
        "seed-0/fold-0: no prediction for speaker-00-005, speaker-03-005 of the test part"
    ]


def break_run(folder: Path, fault: str) -> None:
    path = folder / FIRST
    content = path.read_bytes()
    probabilities = pq.read_table(path)["probabilities"].to_pylist()
    if fault == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif fault == "nan":
        rewrite_predictions(path, probabilities=[[float("nan")] * 3, *probabilities[1:]])
    elif fault == "few probabilities":
        rewrite_predictions(path, probabilities=[[0.5, 0.5], *probabilities[1:]])
    elif fault == "beyond one":
        rewrite_predictions(path, probabilities=[[2.0, -1.0, 0.0], *probabilities[1:]])
    elif fault == "prediction":
        rewrite_predictions(path, prediction=[7] * 48)
    elif fault == "other fold":
        shutil.copy(folder / "seed-0" / "fold-1" / "predictions.parquet", path)
    elif fault == "classes":
        rewrite_metadata(path, classes=["angry", "happy", "bored"])
    elif fault == "preset":
        rewrite_metadata(path, preset="faithful")
    elif fault == "unit":
        rewrite_metadata(path, unit="sentence")
    elif fault == "column":
        pq.write_table(pq.read_table(path).drop_columns(["gender", "label"]), path)
    elif fault == "metadata":
        pq.write_table(pq.read_table(path).replace_schema_metadata({}), path)
    elif fault == "not test":
        ids = pq.read_table(path)["utterance_id"].to_pylist()
        rewrite_predictions(path, utterance_id=["stranger", *ids[1:]])
    elif fault == "no test":
        rewrite_predictions(path, part=["validation"] * 48)
    elif fault == "fold.json":
        (path.parent / "fold.json").write_text('{"fold": 0,')
    elif fault == "folds.parquet":
        (folder / "folds.parquet").write_bytes(b"PAR1")
    elif fault == "config.yaml":
        (folder / "config.yaml").write_text("name: [")
    elif fault == "no run":
        (folder / "config.yaml").unlink()
    elif fault == "duplicate":
        table = pq.read_table(path)
        pq.write_table(table.take([*range(48), 0]), path)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("truncated", "predictions.parquet is damaged"),
        ("nan", "1 of 48 predictions have a probability that is not a number, first 'speaker-00-000'"),
        ("few probabilities", "each row must hold 3 probabilities"),
        ("beyond one", "probabilities must lie in 0 to 1"),
        ("prediction", "column prediction must lie in 0 to 2, found 7 to 7"),
        ("other fold", "rows of another fold or seed"),
        ("classes", "classes are angry, happy, sad.*angry, happy, bored"),
        ("preset", "preset is 'clean'.*'faithful'"),
        ("unit", "allowed are 'speaker' and 'session'"),
        ("column", "lacks the columns gender, label"),
        ("metadata", "does not say its 'classes'"),
        ("not test", "stranger predicted as test"),
        ("no test", "holds no prediction of a test part"),
        ("fold.json", "fold.json cannot be read as JSON"),
        ("folds.parquet", "folds.parquet cannot be read"),
        ("config.yaml", "config.yaml cannot be read as YAML"),
        ("no run", "is not a run: config.yaml missing"),
        ("duplicate", "'speaker-00-000' is tested twice under seed 0"),
    ],
)
def test_damaged_runs_are_refused_with_the_reason(tmp_path: Path, fault: str, message: str) -> None:
    folder = write_run(tmp_path / "run")
    break_run(folder, fault)
    with pytest.raises(UserError, match=message):
        read_run(str(folder))


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        read_run(str(tmp_path / "nothing"))


def test_numbers_after_refit_are_of_all_folds_or_none(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", refit=True)
    (folder / "seed-0" / "fold-1" / "predictions-refit.parquet").unlink()
    summary = summary_of(folder)
    assert summary["refit"] is None
    assert summary["notes"] == ["numbers after refit left out, because seed-0/fold-1 has none"]


def test_departures_from_the_preset_are_told(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    leaks = json.loads((folder / "leaks.json").read_text()) | {"deviations": ["epochs: 500 → 20"]}
    (folder / "leaks.json").write_text(json.dumps(leaks))
    assert "run departs from its preset (epochs: 500 → 20)" in compare_folders(folder).notices
    assert "epochs: 500 → 20" in Path(write_report(str(folder))).read_text()


def test_a_ledger_of_one_file_per_read_is_counted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    lines = (folder / "ledger.jsonl").read_text().splitlines()
    (folder / "ledger.jsonl").unlink()
    (folder / "ledger").mkdir()
    for number, line in enumerate(lines):
        (folder / "ledger" / f"{number}.json").write_text(line)
    assert summary_of(folder)["test_reads"] == 3


def test_a_ledger_line_cut_off_by_a_kill_still_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    with (folder / "ledger.jsonl").open("a") as ledger:
        ledger.write('{"time": "2025')
    assert summary_of(folder)["test_reads"] == 4


@pytest.mark.parametrize(
    ("difference", "message"),
    [
        ({"preset": "faithful"}, "preset 'clean'.*'faithful'"),
        ({"corpus": "emodb"}, "differ in corpus: 'ravdess'.*'emodb'"),
        ({"synthetic": True}, "differ in synthetic: False .*True"),
        ({"classes": (*CLASSES, "bored")}, "differ in classes: angry, happy, sad in .*, bored in"),
        ({"unit": "session"}, "differ in independent unit"),
    ],
)
def test_unlike_runs_share_no_table(tmp_path: Path, difference: dict[str, Any], message: str) -> None:
    runs = [
        read_run(str(write_run(tmp_path / "one"))),
        read_run(str(write_run(tmp_path / "other", **difference))),
    ]
    with pytest.raises(UserError, match=message):
        check_comparable(runs)


def test_a_clearly_better_system_reaches_the_smallest_p(tmp_path: Path) -> None:
    comparison = compare_folders(
        write_run(tmp_path / "good", skill=1.0), write_run(tmp_path / "poor", skill=0.0, random_seed=1)
    )
    (pair,) = comparison.pairs
    rows = {row.name: row for row in comparison.rows}
    assert pair.difference == pytest.approx(rows["good"].uar - rows["poor"].uar)
    assert pair.p == pair.smallest_p == 2 / 2**6
    assert pair.units == 6 and pair.shared == 72


def test_several_pairs_are_corrected(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"run-{seed}", random_seed=seed, seeds=(0, 1)[: seed + 1]) for seed in range(3)
    ]
    comparison = compare_folders(*folders)
    assert [(pair.a, pair.b) for pair in comparison.pairs] == [
        ("run-0", "run-1"),
        ("run-0", "run-2"),
        ("run-1", "run-2"),
    ]
    for pair in comparison.pairs:
        assert pair.p_holm >= pair.p
        assert pair.smallest_p_holm == pytest.approx(3 * pair.smallest_p)
    assert "0.0312" in comparison_html(comparison) and "0.0938 after the correction" in comparison_html(
        comparison
    )
    assert "too few speakers" in comparison_html(comparison)


def test_runs_with_other_utterances_are_compared_on_the_shared_ones(tmp_path: Path) -> None:
    comparison = compare_folders(
        write_run(tmp_path / "all", speakers=9), write_run(tmp_path / "some", speakers=6, random_seed=1)
    )
    assert comparison.pairs[0].shared == 72
    assert comparison.notices[0].startswith("all and some share 72 of 108 and 72 test utterances")


def test_runs_without_shared_utterances_are_not_compared(tmp_path: Path) -> None:
    comparison = compare_folders(
        write_run(tmp_path / "one"), write_run(tmp_path / "other", speaker_name="somebody")
    )
    (pair,) = comparison.pairs
    assert pair.p is None and pair.p_holm is None
    assert "no test utterance in common" in (pair.note or "")
    assert "no test utterance in common" in comparison_html(comparison)


def test_runs_that_disagree_about_labels_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "other")
    labels = pq.read_table(folder / FIRST)["label"].to_pylist()
    rewrite_predictions(folder / FIRST, label=[(label + 1) % 3 for label in labels])
    with pytest.raises(UserError, match="give 24 shared utterances different labels"):
        compare_folders(write_run(tmp_path / "one"), folder)


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    rows = compare_folders(
        write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run", random_seed=1)
    ).rows
    assert rows[0].name != rows[1].name


def test_baselines_stand_in_every_table(tmp_path: Path) -> None:
    comparison = compare_folders(write_run(tmp_path / "run"))
    assert [row.kind for row in comparison.rows] == ["run", "majority", "chance"]
    lines = comparison_csv(comparison).splitlines()
    assert len(lines) == 4
    assert json.loads(comparison_json(comparison))["rows"][2]["uar"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"level": 95.0}, "between 0 and 1"), ({"resamples": 5}, "at least 100"), ({"seed": -1}, "negative")],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        EvaluateConfig(runs=["run"], **settings)


def test_the_command_writes_reports_and_prints_the_path_last(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "[bold]run", synthetic=True)
    done = evaluate(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(folder / "report.html")
    assert (folder / "report.html").is_file() and (folder / "metrics.json").is_file()
    assert "SYNTHETIC" in done.stdout and "[bold]run" in done.stdout and "majority" in done.stdout


def test_the_command_joins_runs(tmp_path: Path) -> None:
    one, other = write_run(tmp_path / "one"), write_run(tmp_path / "other", random_seed=1)
    done = evaluate(one, other, "--output", tmp_path / "joined")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(tmp_path / "joined" / "comparison.html")
    assert sorted(path.name for path in (tmp_path / "joined").iterdir()) == [
        "comparison.csv",
        "comparison.html",
        "comparison.json",
    ]
    assert "The smallest p that 6 speakers can reach is 0.0312" in " ".join(done.stdout.split())


def test_the_command_refuses_to_mix_presets_and_writes_nothing(tmp_path: Path) -> None:
    clean, faithful = write_run(tmp_path / "clean"), write_run(tmp_path / "faithful", preset="faithful")
    done = evaluate(clean, faithful, "--output", tmp_path / "joined")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "'clean'" in done.stderr and "'faithful'" in done.stderr
    assert not (tmp_path / "joined").exists() and not (clean / "report.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "no such folder"),
        ((), "runs"),
        (("run", "--level", "95"), "between 0 and 1"),
        (("run", "--resampels", "500"), "resampels"),
        (("run", "--seed", "x"), "seed"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(arguments: tuple[str, ...], message: str) -> None:
    done = evaluate(*arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr


def test_the_command_evaluates_unfinished_runs_on_request(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "seed-0" / "fold-2" / "fold.json").unlink()
    refused = evaluate(folder)
    assert refused.returncode == 2 and "seed-0/fold-2" in refused.stderr
    done = evaluate(folder, "--allow-incomplete")
    assert done.returncode == 0, done.stderr
    assert "Unfinished run" in (folder / "report.html").read_text()
    assert "run is unfinished" in " ".join(done.stdout.split())
