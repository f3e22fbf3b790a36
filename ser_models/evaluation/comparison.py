"""Several runs in one table, and whether their differences could be chance.

Only what is alike is joined: one objective, one corpus, one set of classes, one preset. The difference between two
runs is tested over units (speakers or sessions) with paired sign flips, corrected for the number of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from ser_models.errors import UserError
from ser_models.evaluation.comparability import by_objective, check_comparable, distinct_names, notices
from ser_models.evaluation.dimension_comparison import DimensionComparison, compare_dimensions
from ser_models.evaluation.intervals import uar_shares
from ser_models.evaluation.pairs import Pair, compare_pairs
from ser_models.evaluation.run import DimensionRun, Run
from ser_models.evaluation.summary import counts_per_unit


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and how."""

    runs: list[str]
    """Run directories, local or s3://; several are joined in one table, those on dimensions in one of their own."""
    output: str | None = None
    """Folder for comparison.html, comparison.json and comparison.csv; for runs on dimensions
    comparison-dimensions.html and so on."""
    allow_incomplete: bool = False
    """Evaluate the finished folds of an unfinished run; the report says so."""
    level: float = 0.95
    """Coverage of the intervals."""
    resamples: int = 10_000
    """Bootstrap samples, used from 20 speakers or sessions up."""
    seed: int = 0
    """Seed of the bootstrap and of the random sign flips."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise UserError("no run given; name at least one run directory")
        if not 0 < self.level < 1:
            raise UserError(f"level must lie between 0 and 1, such as 0.95, not {self.level}")
        if self.resamples < 100:
            raise UserError(f"resamples must be at least 100, not {self.resamples}; 10000 is usual")
        if self.seed < 0:
            raise UserError(f"seed must not be negative, it is {self.seed}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: a run, a run's refitted models, or a baseline."""

    kind: str
    """``run``, ``refit``, ``majority`` or ``chance``."""
    name: str
    system: str
    corpus: str
    preset: str
    protocol: str
    synthetic: bool
    uar: float | None
    uar_low: float | None
    uar_high: float | None
    wa: float | None
    wa_low: float | None
    wa_high: float | None
    fold_uar: float | None
    """UAR per fold (mean over seeds), mean over folds."""
    fold_uar_sd: float | None
    fold_wa: float | None
    fold_wa_sd: float | None
    macro_f1: float | None
    interval_method: str | None
    units: int | None
    unit: str
    folds: int | None
    seeds: int | None
    utterances: int | None
    test_reads: int | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table, its tests, and what a reader must know."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    notices: tuple[str, ...]
    classes: tuple[str, ...]
    level: float


@overload
def compare(runs: Sequence[Run], summaries: Sequence[dict[str, Any]], *, seed: int = 0) -> Comparison: ...


@overload
def compare(
    runs: Sequence[DimensionRun], summaries: Sequence[dict[str, Any]], *, seed: int = 0
) -> DimensionComparison: ...


def compare(
    runs: Any, summaries: Sequence[dict[str, Any]], *, seed: int = 0
) -> Comparison | DimensionComparison:
    """Join runs in one table and test each pair.

    Args:
        runs: at least one, all of one objective.
        summaries: what `summarise` made of each.
        seed: of the random sign flips, used where there are too many units to count all.

    Raises:
        UserError: as `check_comparable`, or the objectives differ, or two runs disagree about an utterance's label.
    """
    if len(by_objective(runs)) > 1:
        raise UserError("runs on emotion and runs on dimensions cannot share a table; evaluate them apart")
    check_comparable(runs)
    if isinstance(runs[0], DimensionRun):
        return compare_dimensions(runs, summaries, seed)
    names = distinct_names(runs)
    rows = []
    for name, summary in zip(names, summaries, strict=True):
        rows.append(_row("run", name, summary, summary))
        if summary["refit"]:
            rows.append(_row("refit", f"{name} (refit)", summary, summary["refit"]))
    rows += _baseline_rows(names, summaries)
    pairs, told = compare_pairs(runs, names, truth=_truth, shares=_unit_shares, seed=seed)
    told += notices(names, summaries)
    return Comparison(
        rows=tuple(rows),
        pairs=tuple(pairs),
        notices=tuple(told),
        classes=runs[0].description.classes,
        level=summaries[0]["pooled"]["uar"]["interval"]["level"],
    )


def _row(kind: str, name: str, summary: dict[str, Any], numbers: dict[str, Any]) -> Row:
    pooled, fold_mean = numbers["pooled"], numbers["fold_mean"]
    uar, wa = pooled["uar"], pooled["wa"]
    return Row(
        kind=kind,
        name=name,
        system=summary["system"],
        corpus=summary["corpus"],
        preset=summary["preset"],
        protocol=summary["protocol"],
        synthetic=summary["synthetic"],
        uar=uar["mean"],
        uar_low=uar["interval"]["low"],
        uar_high=uar["interval"]["high"],
        wa=wa["mean"],
        wa_low=wa["interval"]["low"],
        wa_high=wa["interval"]["high"],
        fold_uar=fold_mean["uar"]["mean"],
        fold_uar_sd=fold_mean["uar"]["fold_sd"],
        fold_wa=fold_mean["wa"]["mean"],
        fold_wa_sd=fold_mean["wa"]["fold_sd"],
        macro_f1=pooled["macro_f1"]["mean"],
        interval_method=uar["interval"]["method"],
        units=uar["interval"]["units"],
        unit=summary["unit"],
        folds=len(summary["folds"]),
        seeds=len(summary["seeds"]),
        utterances=summary["utterances"],
        test_reads=summary["test_reads"],
    )


def _baseline_rows(names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> list[Row]:
    """Chance once; majority once, or once per run where their folds give different ones."""
    majorities = [summary["baselines"]["majority"] for summary in summaries]
    alike = all(majority == majorities[0] for majority in majorities)
    rows = [
        _baseline_row("majority", "majority" if alike else f"majority ({name})", summary)
        for name, summary in list(zip(names, summaries, strict=True))[: 1 if alike else None]
    ]
    return [*rows, _baseline_row("chance", "chance", summaries[0])]


def _baseline_row(kind: str, name: str, summary: dict[str, Any]) -> Row:
    scores = summary["baselines"][kind]
    nothing: dict[str, Any] = dict.fromkeys(
        (
            *("uar_low", "uar_high", "wa_low", "wa_high", "fold_uar", "fold_uar_sd", "fold_wa", "fold_wa_sd"),
            *("interval_method", "units", "folds", "seeds", "utterances", "test_reads"),
        )
    )
    return Row(
        kind=kind,
        name=name,
        system=kind,
        **{key: summary[key] for key in ("corpus", "preset", "protocol", "synthetic", "unit")},
        **{key: scores[key] for key in ("uar", "wa", "macro_f1")},
        **nothing,
    )


def _truth(run: Run) -> dict[str, int]:
    return dict(zip(run.test.utterance.tolist(), run.test.label.tolist(), strict=True))


def _unit_shares(run: Run, shared: set[str]) -> dict[str, float] | str:
    """What each unit adds to pooled UAR on the shared utterances, mean over seeds, or why that is unknown."""
    rows = run.test.where(np.array([name in shared for name in run.test.utterance.tolist()]))
    found = counts_per_unit(run, rows)
    if isinstance(found, str):
        return found
    units, counts = found
    shares = np.mean([uar_shares(counts[:, column]) for column in range(counts.shape[1])], axis=0)
    return dict(zip(units, shares.tolist(), strict=True))
