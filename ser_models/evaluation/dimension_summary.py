"""From a run on dimensions to its numbers: CCC, PCC and RMSE of each, and their means over the dimensions.

Ways of averaging are those of `ser_models.evaluation.summary`. The headline is the pooled mean CCC, which is also
what selected the epochs. RMSE is in units of the corpus's scale.
"""

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ser_models.evaluation.dimensions import ccc, pcc, rmse
from ser_models.evaluation.facts import (
    FOLD_MEAN,
    GAPS,
    POOLED,
    facts,
    fold_facts,
    known,
    number,
    refit_epochs,
    seeds_of,
    spread,
    units_of,
)
from ser_models.evaluation.intervals import Interval, interval, no_interval
from ser_models.evaluation.predictions import DimensionPredictions
from ser_models.evaluation.run import DimensionRun

Floats = npt.NDArray[np.float64]

MEASURES = ("ccc", "pcc", "rmse")
MEAN = "mean"
"""Where a dimension's name is expected: the mean over the dimensions."""

_BOUNDS = {"ccc": (-1.0, 1.0), "pcc": (-1.0, 1.0), "rmse": (0.0, float("inf"))}
# Variances below this share of the squared range are rounding, left by sums that differ in their last bits.
_ROUNDING = 1e-12


def summarise_dimensions(run: DimensionRun, settings: dict[str, Any]) -> dict[str, Any]:
    """All numbers of a run on dimensions, ready for JSON.

    Args:
        run: what `read_run` returned.
        settings: ``level``, ``resamples`` and ``seed`` of the intervals.
    """
    refit = None
    if run.refit_test is not None:
        refit = {**_numbers(run, run.refit_test, settings), "epochs": refit_epochs(run)}
    return {
        **facts(run),
        **_numbers(run, run.test, settings),
        "per_fold": [
            {**fold_facts(fold, rows), "scores": _named(run, _scores(rows))}
            for fold in run.folds
            if len(rows := run.test.where((run.test.fold == fold.fold) & (run.test.seed == fold.seed)))
        ],
        "groups": {name: _groups(run, name) for name in GAPS if known(getattr(run.test, name))},
        "baselines": {"mean": _mean_predictor(run)},
        "refit": refit,
    }


def ccc_per_unit(run: DimensionRun, rows: DimensionPredictions) -> dict[str, float] | str:
    """The CCC inside each unit, mean over dimensions and seeds, divided by the number of units; or why not.

    A constant unit counts 0. Exchanging the predictions of two systems for one unit changes the sign of that
    unit's difference and nothing else, so that a sign flip is exact. (Of the pooled CCC it would not be: that is
    no sum over units.)
    """
    found = _sums_per_unit(run, rows)
    if isinstance(found, str):
        return found
    units, sums = found
    inside = np.nan_to_num(_from_sums(sums, "ccc")).mean(axis=(1, 2)) / len(units)
    return dict(zip(units, inside.tolist(), strict=True))


def _numbers(run: DimensionRun, rows: DimensionPredictions, settings: dict[str, Any]) -> dict[str, Any]:
    per_seed = np.array([_scores(rows.where(rows.seed == seed)) for seed in run.seeds])
    per_fold = np.array([_fold_scores(run, rows, fold) for fold in run.fold_numbers])
    intervals = _intervals(run, rows, settings)
    pooled = _named(run, per_seed, "seed_sd", "per_seed")
    for name, measures in pooled.items():
        for measure, entry in measures.items():
            entry["interval"] = asdict(intervals[name, measure])
    return {
        "pooled": {"label": POOLED, "scores": pooled},
        "fold_mean": {"label": FOLD_MEAN, "scores": _named(run, per_fold, "fold_sd", "per_fold")},
    }


def _scores(rows: DimensionPredictions) -> Floats:
    """[dimensions + 1, measures], the last row the means over the dimensions; NaN where undefined."""
    each = np.array(
        [
            [measure(rows.target[:, index], rows.predicted[:, index]) for measure in (ccc, pcc, rmse)]
            for index in range(rows.target.shape[1])
        ]
    )
    return np.concatenate([each, each.mean(0, keepdims=True)])


def _fold_scores(run: DimensionRun, rows: DimensionPredictions, fold: int) -> Floats:
    of_fold = rows.where(rows.fold == fold)
    several = [_scores(of_fold.where(of_fold.seed == seed)) for seed in seeds_of(of_fold)]
    return np.asarray(np.mean(several, axis=0))


def _named(run: DimensionRun, scores: Floats, sd: str | None = None, each: str = "") -> dict[str, Any]:
    """Scores [(several,) dimensions + 1, measures] by dimension and measure, several with their spread."""

    def entry(row: int, column: int) -> Any:
        if sd is None:
            return number(scores[row, column])
        return spread([number(value) for value in scores[:, row, column]], sd, each)

    return {
        name: {measure: entry(row, column) for column, measure in enumerate(MEASURES)}
        for row, name in enumerate((*run.description.classes, MEAN))
    }


def _intervals(
    run: DimensionRun, rows: DimensionPredictions, settings: dict[str, Any]
) -> dict[tuple[str, str], Interval]:
    dimensions = run.description.classes
    wanted = [(name, measure) for name in (*dimensions, MEAN) for measure in MEASURES]
    found = _sums_per_unit(run, rows)
    if isinstance(found, str):
        return dict.fromkeys(wanted, no_interval(found, level=settings["level"], units=0))
    sums = found[1]
    intervals = {}
    for name, measure in wanted:
        picked = list(range(len(dimensions))) if name == MEAN else [dimensions.index(name)]
        intervals[name, measure] = interval(
            sums[:, :, picked],
            partial(_mean_measure, measure=measure),
            **settings,
            unit=run.description.unit,
            bounds=_BOUNDS[measure],
            needs="a spread of values",
        )
    return intervals


def _sums_per_unit(run: DimensionRun, rows: DimensionPredictions) -> tuple[list[str], Floats] | str:
    """Sums of 1, x, y, x², y² and xy, truth x and prediction y, ``[units, seeds, dimensions, 6]``; or why not."""
    units = units_of(rows, run.description.unit)
    if isinstance(units, str):
        return units
    # About a common centre squares stay small, so that their differences keep their digits.
    centre = rows.target.mean(0)
    x, y = rows.target - centre, rows.predicted - centre
    terms = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    sums = np.zeros((len(units), len(run.seeds), *terms.shape[1:]))
    place = np.searchsorted(units, getattr(rows, run.description.unit).astype(str))
    np.add.at(sums, (place, np.searchsorted(run.seeds, rows.seed)), terms)
    return units, sums


def _from_sums(sums: Floats, measure: str) -> Floats:
    """A measure from sums ``[…, 6]``; NaN where it is undefined."""
    count = sums[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_x, mean_y, mean_xx, mean_yy, mean_xy = (sums[..., index] / count for index in range(1, 6))
        if measure == "rmse":
            return np.asarray(np.sqrt(np.maximum(mean_xx + mean_yy - 2 * mean_xy, 0)))
        smallest = _ROUNDING * (mean_xx + mean_yy)
        variance_x, variance_y = mean_xx - mean_x**2, mean_yy - mean_y**2
        covariance = mean_xy - mean_x * mean_y
        if measure == "pcc":
            varies = (variance_x > smallest) & (variance_y > smallest)
            return np.asarray(np.where(varies, covariance / np.sqrt(variance_x * variance_y), np.nan))
        apart = variance_x + variance_y + (mean_x - mean_y) ** 2
        return np.asarray(np.where(apart > smallest, 2 * covariance / apart, np.nan))


def _mean_measure(summed: Floats, measure: str) -> Floats:
    """Mean over dimensions and seeds, ``[replicates, seeds, dimensions, 6]`` to ``[replicates]``."""
    return np.asarray(_from_sums(summed, measure).mean(axis=(-2, -1)))


def _groups(run: DimensionRun, column: str) -> list[dict[str, Any]]:
    """One row per known value of a column; rows where it is unknown are in none."""
    values = getattr(run.test, column)
    groups = []
    for value in sorted(known(values)):
        part = run.test.where(values == value)
        scores = np.mean([_scores(part.where(part.seed == seed)) for seed in seeds_of(part)], axis=0)
        groups.append(
            {
                "group": value,
                "utterances": len(set(part.utterance.tolist())),
                "scores": _named(run, np.asarray(scores)),
            }
        )
    return groups


def _mean_predictor(run: DimensionRun) -> dict[str, Any]:
    """What always answering the training part's mean would give.

    Within a fold it is a constant, whose CCC is 0 and whose PCC is undefined. (Over all folds joined its CCC falls
    a little below 0, only because a training mean is high where the test part left out is low.) RMSE is pooled.
    """
    dimensions = run.description.classes
    answers = np.full(run.test.target.shape, np.nan)
    for fold in run.folds:
        known_means = fold.record.get("train_dimensions") or {}
        mask = (run.test.fold == fold.fold) & (run.test.seed == fold.seed)
        answers[mask] = [(known_means.get(name) or {}).get("mean", np.nan) for name in dimensions]
    errors = np.square(run.test.target - answers)
    per_seed = [np.sqrt(errors[run.test.seed == seed].mean(0)) for seed in run.seeds]
    each = np.mean(per_seed, axis=0)
    return {
        name: {"ccc": 0.0, "pcc": None, "rmse": number(value)}
        for name, value in zip((*dimensions, MEAN), (*each, each.mean()), strict=True)
    }
