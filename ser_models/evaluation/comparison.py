"""Several runs in one table, and whether their differences could be chance.

Only what is alike is joined: one corpus, one set of classes, one preset. The difference between two runs is
tested over units (speakers or sessions) with paired sign flips, corrected for the number of pairs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ser_models.errors import UserError
from ser_models.evaluation.intervals import holm, sign_flip, uar_shares
from ser_models.evaluation.predictions import Predictions
from ser_models.evaluation.run import Run
from ser_models.evaluation.summary import counts_per_unit


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What to evaluate, and how."""

    runs: list[str]
    """Run directories, local or s3://; several are joined in one table."""
    output: str | None = None
    """Folder for comparison.html, comparison.json and comparison.csv."""
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
class Pair:
    """The paired comparison of two runs on the utterances that both tested."""

    a: str
    b: str
    shared: int
    """Test utterances of both."""
    units: int
    exact: bool
    """Whether the test counted all sign patterns, or a random sample of them."""
    difference: float | None
    """Pooled UAR of A minus that of B, on the shared utterances."""
    p: float | None
    """Two-sided; None where the runs cannot be compared."""
    p_holm: float | None
    """Corrected for all pairs of the table."""
    smallest_p: float | None
    """The smallest p that this number of units can reach."""
    smallest_p_holm: float | None
    """The same after the correction, were this pair the strongest."""
    note: str | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The table, its tests, and what a reader must know."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
    notices: tuple[str, ...]
    classes: tuple[str, ...]
    level: float


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse to put unlike runs in one table.

    Raises:
        UserError: presets, corpora, classes or units differ, or a run is given twice.
    """
    if len({run.uri for run in runs}) < len(runs):
        raise UserError("the same run is given twice")
    first = runs[0]
    for run in runs[1:]:
        here, there = run.description, first.description
        if here.preset != there.preset:
            raise UserError(
                f"{first.uri} is of the preset {there.preset!r}, {run.uri} of {here.preset!r}: numbers "
                "with and without the original leaks do not belong in one table; evaluate them apart"
            )
        for field, meaning in (
            ("corpus", "corpus"),
            ("synthetic", "synthetic"),
            ("unit", "independent unit"),
        ):
            if getattr(here, field) != getattr(there, field):
                raise UserError(
                    f"the runs differ in {meaning}: {getattr(there, field)!r} in {first.uri}, "
                    f"{getattr(here, field)!r} in {run.uri}; evaluate them apart"
                )
        if here.classes != there.classes:
            raise UserError(
                f"the runs differ in classes: {', '.join(there.classes)} in {first.uri}, "
                f"{', '.join(here.classes)} in {run.uri}; evaluate them apart"
            )


def compare(runs: Sequence[Run], summaries: Sequence[dict[str, Any]], *, seed: int = 0) -> Comparison:
    """Join runs in one table and test each pair.

    Args:
        runs: at least one.
        summaries: what `summarise` made of each.
        seed: of the random sign flips, used where there are too many units to count all.

    Raises:
        UserError: as `check_comparable`, or two runs disagree about an utterance's label.
    """
    check_comparable(runs)
    names = _distinct_names(runs)
    rows = []
    for name, summary in zip(names, summaries, strict=True):
        rows.append(_row("run", name, summary, summary))
        if summary["refit"]:
            rows.append(_row("refit", f"{name} (refit)", summary, summary["refit"]))
    rows += _baseline_rows(names, summaries)
    pairs, notices = _pairs(runs, names, seed)
    for name, summary in zip(names, summaries, strict=True):
        if summary["missing"]:
            notices.append(f"{name} is unfinished: {', '.join(summary['missing'])} missing")
        if summary["deviations"]:
            notices.append(f"{name} departs from its preset ({'; '.join(summary['deviations'])})")
        notices += [f"{name}: {note}" for note in summary["notes"]]
        if note := summary["pooled"]["uar"]["interval"]["note"]:
            notices.append(f"{name}: {note}")
    if len({run.description.protocol for run in runs}) > 1:
        notices.append(
            "the runs follow different protocols; differences between them are not the systems' alone"
        )
    return Comparison(
        rows=tuple(rows),
        pairs=tuple(pairs),
        notices=tuple(notices),
        classes=runs[0].description.classes,
        level=summaries[0]["pooled"]["uar"]["interval"]["level"],
    )


def _distinct_names(runs: Sequence[Run]) -> list[str]:
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.uri for run in runs]


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


def _pairs(runs: Sequence[Run], names: Sequence[str], seed: int) -> tuple[list[Pair], list[str]]:
    notices: list[str] = []
    pairs = [
        _pair(one, other, seed, notices)
        for one, other in combinations(list(zip(names, runs, strict=True)), 2)
    ]
    tested = [index for index, pair in enumerate(pairs) if pair["p"] is not None]
    for index, corrected in zip(tested, holm([pairs[index]["p"] for index in tested]), strict=True):
        pairs[index]["p_holm"] = corrected
        pairs[index]["smallest_p_holm"] = min(1.0, pairs[index]["smallest_p"] * len(tested))
    return [Pair(**pair) for pair in pairs], notices


def _pair(one: tuple[str, Run], other: tuple[str, Run], seed: int, notices: list[str]) -> dict[str, Any]:
    (name_a, run_a), (name_b, run_b) = one, other
    nothing = dict.fromkeys(("difference", "p", "p_holm", "smallest_p", "smallest_p_holm", "note"))
    pair: dict[str, Any] = {"a": name_a, "b": name_b, "shared": 0, "units": 0, "exact": True, **nothing}
    shared = _shared(run_a, run_b)
    pair["shared"] = len(shared)
    totals = [len(set(run.test.utterance.tolist())) for run in (run_a, run_b)]
    if not shared:
        pair["note"] = "no test utterance in common under all seeds, not compared"
        return pair
    if [len(shared)] * 2 != totals:
        notices.append(
            f"{name_a} and {name_b} share {len(shared)} of {totals[0]} and {totals[1]} test utterances; "
            "their difference is that on the shared ones"
        )
    found_a, found_b = (_unit_shares(run, shared) for run in (run_a, run_b))
    if isinstance(found_a, str) or isinstance(found_b, str):
        pair["note"] = found_a if isinstance(found_a, str) else str(found_b)
        return pair
    if list(found_a) != list(found_b):
        raise UserError(
            f"{run_a.uri} and {run_b.uri} disagree about the {run_a.description.unit}s of shared utterances: "
            "they come from different versions of the corpus"
        )
    units = list(found_a)
    result = sign_flip([found_a[unit] - found_b[unit] for unit in units], seed=seed)
    return {
        **pair,
        "units": result.units,
        "exact": result.exact,
        "difference": result.difference,
        "p": result.p,
        "smallest_p": result.smallest_p,
    }


def _shared(run_a: Run, run_b: Run) -> set[str]:
    """Utterances that every seed of both runs tested; their labels must agree."""
    labels_a, labels_b = (
        dict(zip(run.test.utterance.tolist(), run.test.label.tolist(), strict=True)) for run in (run_a, run_b)
    )
    tested = [
        set(run.test.utterance[run.test.seed == seed].tolist())
        for run in (run_a, run_b)
        for seed in run.seeds
    ]
    shared = set.intersection(*tested)
    differing = [utterance for utterance in sorted(shared) if labels_a[utterance] != labels_b[utterance]]
    if differing:
        raise UserError(
            f"{run_a.uri} and {run_b.uri} give {len(differing)} shared utterances different labels, first "
            f"{differing[0]!r}; they come from different versions of the corpus"
        )
    return shared


def _unit_shares(run: Run, shared: set[str]) -> dict[str, float] | str:
    """What each unit adds to pooled UAR on the shared utterances, mean over seeds, or why that is unknown."""
    rows: Predictions = run.test.where(np.array([name in shared for name in run.test.utterance.tolist()]))
    found = counts_per_unit(run, rows)
    if isinstance(found, str):
        return found.replace("no interval", "not compared")
    units, counts = found
    shares = np.mean([uar_shares(counts[:, column]) for column in range(counts.shape[1])], axis=0)
    return dict(zip(units, shares.tolist(), strict=True))
