"""From a run to its numbers: the content of ``metrics.json``; here for emotion, in `dimension_summary` for dimensions.

Two ways of averaging exist in the field and give different numbers, so each is named wherever it appears.
*Pooled*: the predictions of all test folds joined, one number per seed, then the mean over seeds.
*Fold mean*: one number per fold (its mean over seeds), then mean and sd over folds.
The headline is pooled UAR, because a fold may lack a class. Shares are from 0 to 1; the undefined is null.
"""

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from ser_models import places
from ser_models.evaluation import metrics
from ser_models.evaluation.dimension_summary import summarise_dimensions
from ser_models.evaluation.facts import (
    FOLD_MEAN,
    GAPS,
    POOLED,
    facts,
    fold_facts,
    known,
    mean,
    number,
    refit_epochs,
    seeds_of,
    spread,
    units_of,
)
from ser_models.evaluation.intervals import Counts, Interval, accuracy_interval, counts_by_unit, uar_interval
from ser_models.evaluation.predictions import Predictions
from ser_models.evaluation.run import DimensionRun, Fold, Run

METRICS_FILE = "metrics.json"

SCORES = ("uar", "wa", "macro_f1", "weighted_f1", "macro_precision", "auc", "ece")
"""Names of the scores that are given pooled, per fold and as fold mean."""

Scores = dict[str, float | None]


def summarise(
    run: Run | DimensionRun, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> dict[str, Any]:
    """All numbers of a run, ready for JSON.

    Args:
        run: what `read_run` returned.
        level: coverage of the intervals.
        resamples: bootstrap samples, where the bootstrap is used.
        seed: of the bootstrap.
    """
    settings: dict[str, Any] = {"level": level, "resamples": resamples, "seed": seed}
    if isinstance(run, DimensionRun):
        return summarise_dimensions(run, settings)
    refit = None
    if run.refit_test is not None:
        refit = {**_numbers(run, run.refit_test, settings), "epochs": refit_epochs(run)}
    return {
        **facts(run),
        "absent_classes": _absent(run, run.test),
        **_numbers(run, run.test, settings),
        "per_fold": [_fold_row(run, fold) for fold in run.folds],
        "groups": {name: _groups(run, name) for name in GAPS if known(getattr(run.test, name))},
        "baselines": {"majority": _majority(run), "chance": _chance(run)},
        "refit": refit,
    }


def save_metrics(run: Run | DimensionRun, summary: dict[str, Any]) -> str:
    """Write ``metrics.json`` into the run; returns its URI."""
    path = places.join(run.uri, METRICS_FILE)
    places.write_bytes(path, (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode())
    return path


def counts_per_unit(run: Run, rows: Predictions) -> tuple[list[str], Counts] | str:
    """Confusion matrices per independent unit and seed, ``[units, seeds, C, C]``, or why there are none."""
    names = units_of(rows, run.description.unit)
    if isinstance(names, str):
        return names
    num_classes = len(run.description.classes)
    counts = np.zeros((len(names), len(run.seeds), num_classes, num_classes), dtype=np.int64)
    for column, seed in enumerate(run.seeds):
        of_seed = rows.where(rows.seed == seed)
        there, matrices = counts_by_unit(
            of_seed.label, of_seed.prediction, getattr(of_seed, run.description.unit).tolist(), num_classes
        )
        counts[np.searchsorted(names, there), column] = matrices
    return names, counts


def _numbers(run: Run, rows: Predictions, settings: dict[str, Any]) -> dict[str, Any]:
    classes = run.description.classes
    confusion = metrics.confusion_matrix(rows.label, rows.prediction, len(classes))
    per_seed = [_scores(rows.where(rows.seed == seed), len(classes)) for seed in run.seeds]
    per_fold = [
        _mean_scores(
            [
                _scores(each, len(classes))
                for seed in run.seeds
                if len(each := rows.where((rows.fold == fold) & (rows.seed == seed)))
            ]
        )
        for fold in run.fold_numbers
    ]
    pooled = {name: spread([scores[name] for scores in per_seed], "seed_sd", "per_seed") for name in SCORES}
    for name, found in _intervals(run, rows, settings).items():
        pooled[name]["interval"] = asdict(found)
    return {
        "pooled": {
            "label": POOLED,
            **pooled,
        },
        "fold_mean": {
            "label": FOLD_MEAN,
            **{name: spread([scores[name] for scores in per_fold], "fold_sd", "per_fold") for name in SCORES},
        },
        "per_class": _per_class(run, rows),
        "confusion": confusion.tolist(),
    }


def _intervals(run: Run, rows: Predictions, settings: dict[str, Any]) -> dict[str, Interval]:
    found = counts_per_unit(run, rows)
    if isinstance(found, str):
        none = Interval(low=None, high=None, level=settings["level"], method="none", units=0, note=found)
        return {"uar": none, "wa": none}
    settings = {**settings, "unit": run.description.unit}
    return {"uar": uar_interval(found[1], **settings), "wa": accuracy_interval(found[1], **settings)}


def _scores(rows: Predictions, num_classes: int) -> Scores:
    with warnings.catch_warnings():
        # Absent classes are told by `absent_classes` beside the numbers.
        warnings.simplefilter("ignore", metrics.AbsentClassWarning)
        values = {
            "uar": metrics.uar(rows.label, rows.prediction, num_classes),
            "wa": metrics.accuracy(rows.label, rows.prediction),
            "macro_f1": metrics.macro_f1(rows.label, rows.prediction, num_classes),
            "weighted_f1": metrics.weighted_f1(rows.label, rows.prediction),
            "macro_precision": metrics.macro_precision(rows.label, rows.prediction, num_classes),
            "auc": metrics.macro_auc(rows.label, rows.probabilities),
            "ece": metrics.ece(rows.label, rows.probabilities),
        }
    return {name: number(value) for name, value in values.items()}


def _mean_scores(several: list[Scores]) -> Scores:
    return {name: mean([scores[name] for scores in several]) for name in SCORES}


def _per_class(run: Run, rows: Predictions) -> list[dict[str, Any]]:
    classes = run.description.classes
    measures: dict[str, Callable[[Predictions], npt.NDArray[np.float64]]] = {
        "recall": lambda part: metrics.recall_per_class(part.label, part.prediction, len(classes)),
        "precision": lambda part: metrics.precision_per_class(part.label, part.prediction, len(classes)),
        "f1": lambda part: metrics.f1_per_class(part.label, part.prediction, len(classes)),
        "auc": lambda part: metrics.auc_per_class(part.label, part.probabilities),
    }
    parts = [rows.where(rows.seed == seed) for seed in run.seeds]
    values = {name: np.array([measure(part) for part in parts]) for name, measure in measures.items()}
    support = np.bincount(rows.label, minlength=len(classes))
    return [
        {
            "class": name,
            # An utterance counts once, however many seeds tested it.
            "utterances": len(set(rows.utterance[rows.label == index].tolist())) if support[index] else 0,
            **{
                measure: mean([number(value) for value in found[:, index]])
                for measure, found in values.items()
            },
        }
        for index, name in enumerate(classes)
    ]


def _fold_row(run: Run, fold: Fold) -> dict[str, Any]:
    rows = run.test.where((run.test.fold == fold.fold) & (run.test.seed == fold.seed))
    return {
        **fold_facts(fold, rows),
        **_scores(rows, len(run.description.classes)),
        "absent_classes": _absent(run, rows),
    }


def _groups(run: Run, column: str) -> list[dict[str, Any]]:
    """One row per known value of a column; rows where it is unknown are in none."""
    values = getattr(run.test, column)
    rows = []
    for value in sorted(known(values)):
        part = run.test.where(values == value)
        per_seed = [
            _scores(part.where(part.seed == seed), len(run.description.classes)) for seed in seeds_of(part)
        ]
        recall = metrics.recall_per_class(part.label, part.prediction, len(run.description.classes))
        scores = _mean_scores(per_seed)
        rows.append(
            {
                "group": value,
                "utterances": len(set(part.utterance.tolist())),
                "uar": scores["uar"],
                "wa": scores["wa"],
                "recall": {
                    name: number(one) for name, one in zip(run.description.classes, recall, strict=True)
                },
                "absent_classes": _absent(run, part),
            }
        )
    return rows


def _majority(run: Run) -> Scores:
    """What always answering the training part's most frequent class would give, per fold, pooled."""
    classes = run.description.classes
    answers = np.full(len(run.test), -1, dtype=np.int64)
    for fold in run.folds:
        counts = fold.record.get("train_class_counts") or {}
        known = [int(counts.get(name, 0)) for name in classes]
        if any(known):
            answers[(run.test.fold == fold.fold) & (run.test.seed == fold.seed)] = int(np.argmax(known))
    if (answers < 0).any():
        return {"uar": None, "wa": None, "macro_f1": None}
    per_seed = []
    for seed in run.seeds:
        mask = run.test.seed == seed
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", metrics.AbsentClassWarning)
            per_seed.append(
                (
                    metrics.uar(run.test.label[mask], answers[mask], len(classes)),
                    metrics.accuracy(run.test.label[mask], answers[mask]),
                    metrics.macro_f1(run.test.label[mask], answers[mask], len(classes)),
                )
            )
    uar, wa, macro_f1 = np.mean(per_seed, axis=0).tolist()
    return {"uar": uar, "wa": wa, "macro_f1": macro_f1}


def _chance(run: Run) -> Scores:
    """What uniform guessing is expected to give: each class is then right one time in C."""
    share = 1 / len(run.description.classes)
    return {"uar": share, "wa": share, "macro_f1": None}


def _absent(run: Run, rows: Predictions) -> list[str]:
    present = set(rows.label.tolist())
    return [name for index, name in enumerate(run.description.classes) if index not in present]
