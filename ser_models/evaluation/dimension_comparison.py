"""Several runs on dimensions in one table; what `ser_models.evaluation.comparison` is for emotion."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_models.evaluation.comparability import distinct_names, notices
from ser_models.evaluation.dimension_summary import MEAN, ccc_per_unit
from ser_models.evaluation.pairs import Pair, compare_pairs
from ser_models.evaluation.run import DimensionRun


@dataclass(frozen=True, kw_only=True)
class DimensionRow:
    """One line of the table: one dimension, or their mean, of a run, its refitted models or the baseline."""

    kind: str
    """``run``, ``refit``, or ``mean``: always the training part's mean."""
    name: str
    system: str
    corpus: str
    preset: str
    protocol: str
    synthetic: bool
    dimension: str
    """``valence``, ``arousal``, ``dominance``, or ``mean`` for the mean over the three."""
    ccc: float | None
    ccc_low: float | None
    ccc_high: float | None
    pcc: float | None
    pcc_low: float | None
    pcc_high: float | None
    rmse: float | None
    """On the corpus's own scale."""
    rmse_low: float | None
    rmse_high: float | None
    fold_ccc: float | None
    """CCC per fold (mean over seeds), mean over folds."""
    fold_ccc_sd: float | None
    interval_method: str | None
    units: int | None
    unit: str
    folds: int | None
    seeds: int | None
    utterances: int | None
    test_reads: int | None


@dataclass(frozen=True, kw_only=True)
class DimensionComparison:
    """The table, its tests, and what a reader must know."""

    rows: tuple[DimensionRow, ...]
    pairs: tuple[Pair, ...]
    notices: tuple[str, ...]
    dimensions: tuple[str, ...]
    level: float


def compare_dimensions(
    runs: Sequence[DimensionRun], summaries: Sequence[dict[str, Any]], seed: int
) -> DimensionComparison:
    """Join runs that `check_comparable` accepts in one table, and test each pair.

    Args:
        runs: at least one.
        summaries: what `summarise` made of each.
        seed: of the random sign flips, used where there are too many units to count all.

    Raises:
        UserError: two runs disagree about an utterance's values.
    """
    names = distinct_names(runs)
    rows: list[DimensionRow] = []
    for name, summary in zip(names, summaries, strict=True):
        rows += _rows("run", name, summary, summary)
        if summary["refit"]:
            rows += _rows("refit", f"{name} (refit)", summary, summary["refit"])
    rows += _baselines(names, summaries)
    pairs, told = compare_pairs(runs, names, truth=_truth, shares=_unit_shares, seed=seed)
    return DimensionComparison(
        rows=tuple(rows),
        pairs=tuple(pairs),
        notices=(*told, *notices(names, summaries)),
        dimensions=runs[0].description.classes,
        level=summaries[0]["pooled"]["scores"][MEAN]["ccc"]["interval"]["level"],
    )


def _rows(kind: str, name: str, summary: dict[str, Any], numbers: dict[str, Any]) -> list[DimensionRow]:
    rows = []
    for dimension, scores in numbers["pooled"]["scores"].items():
        values = {
            key: value
            for measure, found in scores.items()
            for key, value in (
                (measure, found["mean"]),
                (f"{measure}_low", found["interval"]["low"]),
                (f"{measure}_high", found["interval"]["high"]),
            )
        }
        over_folds = numbers["fold_mean"]["scores"][dimension]["ccc"]
        rows.append(
            DimensionRow(
                kind=kind,
                name=name,
                system=summary["system"],
                **_shared_facts(summary),
                dimension=dimension,
                **values,
                fold_ccc=over_folds["mean"],
                fold_ccc_sd=over_folds["fold_sd"],
                interval_method=scores["ccc"]["interval"]["method"],
                units=scores["ccc"]["interval"]["units"],
                folds=len(summary["folds"]),
                seeds=len(summary["seeds"]),
                utterances=summary["utterances"],
                test_reads=summary["test_reads"],
            )
        )
    return rows


def _baselines(names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> list[DimensionRow]:
    """The mean predictor once, or once per run where their folds give different ones."""
    alike = all(summary["baselines"] == summaries[0]["baselines"] for summary in summaries)
    nothing: dict[str, Any] = dict.fromkeys(
        (
            *("ccc_low", "ccc_high", "pcc_low", "pcc_high", "rmse_low", "rmse_high"),
            *("fold_ccc", "fold_ccc_sd", "interval_method", "units", "folds", "seeds", "utterances"),
            "test_reads",
        )
    )
    return [
        DimensionRow(
            kind="mean",
            name="mean predictor" if alike else f"mean predictor ({name})",
            system="mean predictor",
            **_shared_facts(summary),
            dimension=dimension,
            **scores,
            **nothing,
        )
        for name, summary in list(zip(names, summaries, strict=True))[: 1 if alike else None]
        for dimension, scores in summary["baselines"]["mean"].items()
    ]


def _shared_facts(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: summary[key] for key in ("corpus", "preset", "protocol", "synthetic", "unit")}


def _truth(run: DimensionRun) -> dict[str, tuple[float, ...]]:
    values = map(tuple, run.test.target.tolist())
    return dict(zip(run.test.utterance.tolist(), values, strict=True))


def _unit_shares(run: DimensionRun, shared: set[str]) -> dict[str, float] | str:
    keep = np.array([name in shared for name in run.test.utterance.tolist()])
    return ccc_per_unit(run, run.test.where(keep))
