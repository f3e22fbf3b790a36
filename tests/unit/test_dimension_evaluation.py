"""Runs on valence, arousal and dominance: their numbers, table, page, and that they stay apart from emotion."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from run_directories import DIMENSIONS, rewrite_metadata, rewrite_predictions, write_dimension_run, write_run
from test_report import Page

from ser_models.errors import UserError
from ser_models.evaluation import compare, read_run, save_metrics, summarise, write_report
from ser_models.evaluation.comparison_table import comparison_csv, comparison_html, comparison_json
from ser_models.evaluation.dimensions import ccc, pcc, rmse

ROOT = Path(__file__).resolve().parents[2]
FIRST = Path("seed-0", "fold-0", "predictions.parquet")


def summary_of(folder: Path, **settings: Any) -> dict[str, Any]:
    return summarise(read_run(str(folder), **settings))


def compare_folders(*folders: Path) -> Any:
    runs = [read_run(str(folder)) for folder in folders]
    return compare(runs, [summarise(run) for run in runs])


def rows_of(folder: Path, seed: int = 0) -> dict[str, list[Any]]:
    rows = [
        row
        for path in sorted(folder.glob(f"seed-{seed}/fold-*/predictions.parquet"))
        for row in pq.read_table(path).to_pylist()
        if row["part"] == "test"
    ]
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_pooled_numbers_are_those_of_all_test_predictions(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run")
    summary = summary_of(folder)
    target, predicted = (np.array(rows_of(folder)[name]) for name in ("target", "predicted"))
    for index, name in enumerate(DIMENSIONS):
        for measure in (ccc, pcc, rmse):
            found = summary["pooled"]["scores"][name][measure.__name__]
            assert found["mean"] == pytest.approx(measure(target[:, index], predicted[:, index]))
    mean = summary["pooled"]["scores"]["mean"]["ccc"]["mean"]
    assert mean == pytest.approx(
        np.mean([summary["pooled"]["scores"][name]["ccc"]["mean"] for name in DIMENSIONS])
    )
    assert summary["objective"] == "dimensions" and summary["utterances"] == 72


def test_intervals_leave_one_speaker_out_of_the_predictions(tmp_path: Path) -> None:
    """The jackknife by its definition, on the predictions and not on sums."""
    folder = write_dimension_run(tmp_path / "run")
    rows = rows_of(folder)
    target, predicted = (np.array(rows[name]) for name in ("target", "predicted"))
    speakers = np.array(rows["speaker"])
    without = np.array(
        [
            ccc(target[speakers != speaker, 1], predicted[speakers != speaker, 1])
            for speaker in sorted(set(speakers))
        ]
    )
    error = np.sqrt(5 / 6 * np.sum((without - without.mean()) ** 2))
    found = summary_of(folder)["pooled"]["scores"]["arousal"]["ccc"]
    # 2.5706 is Student's t of 5 degrees of freedom at 97.5 %.
    assert found["interval"]["high"] - found["mean"] == pytest.approx(2.5706 * error, rel=1e-4)
    assert found["interval"]["method"] == "jackknife" and found["interval"]["units"] == 6


def test_many_speakers_are_resampled(tmp_path: Path) -> None:
    scores = summary_of(write_dimension_run(tmp_path / "run", speakers=24, utterances=4))["pooled"]["scores"]
    for measures in scores.values():
        for entry in measures.values():
            assert entry["interval"]["method"] == "bootstrap" and entry["interval"]["units"] == 24
            assert entry["interval"]["low"] < entry["mean"] < entry["interval"]["high"]


def test_an_rmse_above_one_keeps_its_interval_and_a_ccc_below_zero_too(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run")
    for path in folder.glob("seed-*/fold-*/predictions.parquet"):
        target = np.array(pq.read_table(path)["target"].to_pylist())
        rewrite_predictions(path, predicted=(6 - target).tolist())
    scores = summary_of(folder)["pooled"]["scores"]["valence"]
    assert scores["ccc"]["interval"]["low"] <= scores["ccc"]["mean"] < -0.9
    assert 1 < scores["rmse"]["mean"] < scores["rmse"]["interval"]["high"]


def test_constant_predictions_have_no_correlation_and_no_concordance(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run")
    for path in folder.glob("seed-*/fold-*/predictions.parquet"):
        rewrite_predictions(path, predicted=[[3.1, 3.1, 3.1]] * pq.read_metadata(path).num_rows)
    summary = summary_of(folder)
    scores = summary["pooled"]["scores"]["dominance"]
    assert scores["ccc"]["mean"] == pytest.approx(0, abs=1e-9) and scores["pcc"]["mean"] is None
    assert "a spread of values" in scores["pcc"]["interval"]["note"]
    write_report(str(folder))


def test_fold_spread_and_seed_spread_are_apart(tmp_path: Path) -> None:
    summary = summary_of(write_dimension_run(tmp_path / "run", seeds=(3, 5)))
    rows = summary["per_fold"]
    per_fold = [[row["scores"]["valence"]["ccc"] for row in rows if row["fold"] == fold] for fold in range(3)]
    found = summary["fold_mean"]["scores"]["valence"]["ccc"]
    assert found["mean"] == pytest.approx(np.mean(per_fold))
    assert found["fold_sd"] == pytest.approx(np.std(np.mean(per_fold, axis=1), ddof=1))
    pooled = summary["pooled"]["scores"]["valence"]["ccc"]
    assert pooled["seed_sd"] == pytest.approx(np.std(pooled["per_seed"], ddof=1))
    # A second seed is no second set of speakers.
    assert pooled["interval"]["units"] == 6


def test_the_mean_predictor_has_no_concordance_and_the_spread_as_error(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run")
    target = np.array(rows_of(folder)["target"])
    baseline = summary_of(folder)["baselines"]["mean"]
    for index, name in enumerate(DIMENSIONS):
        assert baseline[name]["ccc"] == 0 and baseline[name]["pcc"] is None
        assert baseline[name]["rmse"] == pytest.approx(np.sqrt(np.mean((target[:, index] - 3.0) ** 2)))


def test_groups_are_told_apart_and_unknown_ones_skipped(tmp_path: Path) -> None:
    groups = summary_of(write_dimension_run(tmp_path / "run"))["groups"]
    assert set(groups) == {"gender", "speaker", "language", "intensity"}
    assert len(groups["speaker"]) == 6 and [row["utterances"] for row in groups["gender"]] == [36, 36]
    assert groups["gender"][0]["scores"]["arousal"]["ccc"] > 0.5


def test_metrics_json_is_strict_json(tmp_path: Path) -> None:
    run = read_run(str(write_dimension_run(tmp_path / "run", speakers=3, utterances=1, refit=True)))
    path = save_metrics(run, summarise(run))
    content = json.loads(Path(path).read_text(), parse_constant=lambda name: pytest.fail(name))
    assert content["refit"]["pooled"]["scores"]["mean"]["ccc"]["mean"] is not None


def test_unknown_speakers_leave_no_interval_but_a_reason(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run")
    rewrite_predictions(folder / FIRST, speaker=[None] * 48)
    interval = summary_of(folder)["pooled"]["scores"]["mean"]["ccc"]["interval"]
    assert interval["low"] is None
    assert "speaker of 24 of 72 predictions is unknown" in interval["note"]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"predicted": [[1.0, 2.0, float("nan")]] * 48}, "48 of 48 predictions have a value that is not"),
        ({"predicted": [[1.0, 2.0]] * 48}, "each row must hold 3 values, one per dimension"),
        ({"target": [[1.0, 2.0, float("inf")]] * 48}, "have a target that is not a number"),
    ],
)
def test_damaged_predictions_are_refused(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    folder = write_dimension_run(tmp_path / "run")
    rewrite_predictions(folder / FIRST, **columns)
    with pytest.raises(UserError, match=message):
        read_run(str(folder))


def test_folds_of_two_objectives_are_no_run(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run")
    emotion = write_run(tmp_path / "emotion")
    (folder / FIRST).write_bytes((emotion / FIRST).read_bytes())
    with pytest.raises(UserError, match="objective is 'dimensions', in the fold before it is 'emotion'"):
        read_run(str(folder))
    rewrite_metadata(folder / FIRST, objective="mood")
    with pytest.raises(UserError, match="its objective is 'mood'; allowed: emotion, dimensions"):
        read_run(str(folder))


def test_a_run_written_before_there_were_dimensions_is_on_emotion(tmp_path: Path) -> None:
    assert summary_of(write_run(tmp_path / "run"))["objective"] == "emotion"


def test_the_table_has_each_dimension_their_mean_and_the_mean_predictor(tmp_path: Path) -> None:
    comparison = compare_folders(write_dimension_run(tmp_path / "run", refit=True))
    kinds = [(row.kind, row.dimension) for row in comparison.rows]
    each = [*DIMENSIONS, "mean"]
    assert kinds == [(kind, name) for kind in ("run", "refit", "mean") for name in each]
    lines = list(csv.DictReader(comparison_csv(comparison).splitlines()))
    assert len(lines) == 12 and float(lines[0]["ccc"]) == pytest.approx(comparison.rows[0].ccc)
    assert json.loads(comparison_json(comparison))["rows"][8]["ccc"] == 0


def test_a_clearly_better_system_reaches_the_smallest_p(tmp_path: Path) -> None:
    comparison = compare_folders(
        write_dimension_run(tmp_path / "good", skill=0.9),
        write_dimension_run(tmp_path / "poor", skill=0.1, random_seed=1),
    )
    (pair,) = comparison.pairs
    assert pair.p == pair.smallest_p == 2 / 2**6 and pair.units == 6 and pair.shared == 72
    # The mean over speakers of the CCC inside each.
    means = []
    for name in ("good", "poor"):
        rows = rows_of(tmp_path / name)
        speakers = np.array(rows["speaker"])
        target, predicted = (np.array(rows[column]) for column in ("target", "predicted"))
        means.append(
            np.mean(
                [
                    ccc(target[speakers == speaker, index], predicted[speakers == speaker, index])
                    for speaker in set(speakers)
                    for index in range(3)
                ]
            )
        )
    assert pair.difference == pytest.approx(means[0] - means[1])
    page = comparison_html(comparison)
    assert "Differences in mean CCC inside each speaker" in page and f"{pair.difference:+.3f}" in page


def test_runs_that_disagree_about_values_are_refused(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "other")
    target = np.array(pq.read_table(folder / FIRST)["target"].to_pylist())
    rewrite_predictions(folder / FIRST, target=(target + 1).tolist())
    with pytest.raises(UserError, match="give 24 shared utterances different labels"):
        compare_folders(write_dimension_run(tmp_path / "one"), folder)


def test_emotion_and_dimensions_share_no_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot share a table"):
        compare_folders(write_run(tmp_path / "emotion"), write_dimension_run(tmp_path / "dimensions"))


def test_the_page_is_well_formed_and_says_what_it_shows(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run", refit=True, seeds=(0, 1), synthetic=True)
    source = Path(write_report(str(folder))).read_text()
    page = Page(source)
    summary = summary_of(folder)
    overall = summary["pooled"]["scores"]["mean"]["ccc"]
    assert "SYNTHETIC corpus" in page.text[:300]
    assert page.text.index(f"CCC {overall['mean']:.3f}") < page.text.index("Protocol and leaks")
    assert f"{overall['interval']['low']:.3f} to {overall['interval']['high']:.3f}" in page.text
    assert "delete-one-speaker jackknife over 6 speakers" in page.text
    assert page.tags.count("svg") == 2 and "UAR" not in page.text and "mean predictor" in page.text
    for name in DIMENSIONS:
        assert f"predicted {name}</text>" in source and f"true {name}</text>" in source
    assert "validation CCC</text>" in source
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert len(set(page.ids)) == len(page.ids), "figures share ids"
    assert source == Path(write_report(str(folder))).read_text()


def test_text_of_a_corpus_is_escaped(tmp_path: Path) -> None:
    folder = write_dimension_run(tmp_path / "run", speaker_name="<script>speaker", corpus="<b>corpus")
    page = Page(Path(write_report(str(folder))).read_text())
    assert not {"script", "b"} & set(page.tags)
    comparison = Page(comparison_html(compare_folders(folder)))
    assert "b" not in comparison.tags


def test_the_command_prints_a_table_for_each_objective(tmp_path: Path) -> None:
    emotion = write_run(tmp_path / "emotion", synthetic=True)
    dimensions = write_dimension_run(tmp_path / "[bold]dimensions", synthetic=True)
    done = subprocess.run(
        [
            *(sys.executable, "workflows/evaluate.py", str(emotion), str(dimensions)),
            *("--output", str(tmp_path / "joined")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("SYNTHETIC corpus") == 2
    first, second = done.stdout.index("UAR ["), done.stdout.index("CCC [")
    assert first < second and "majority" in done.stdout and "mean predictor" in done.stdout
    assert "[bold]dimensions" in done.stdout and "Differences" not in done.stdout
    written = sorted(path.name for path in (tmp_path / "joined").iterdir())
    assert written == [
        f"comparison{part}.{kind}" for part in ("-dimensions", "") for kind in ("csv", "html", "json")
    ]
    for folder in (emotion, dimensions):
        assert (folder / "report.html").is_file() and (folder / "metrics.json").is_file()
