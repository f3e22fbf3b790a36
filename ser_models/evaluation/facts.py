"""What every summary needs, whatever was predicted: the run in words, units, and averages over seeds and folds."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ser_models.evaluation.predictions import Tested
from ser_models.evaluation.run import DimensionRun, Fold, Run

GAPS = ("gender", "speaker", "language", "intensity", "scenario")
"""Groups that are reported apart, where the corpus tells them."""

POOLED = "predictions of all folds joined, mean over seeds"
FOLD_MEAN = "one number per fold (mean over seeds), mean and sd over folds"


def facts(run: Run | DimensionRun) -> dict[str, Any]:
    """Everything about a run but its scores, ready for JSON."""
    about = run.description
    return {
        "run": run.name,
        "system": about.system,
        "objective": about.objective,
        "corpus": about.corpus,
        "synthetic": about.synthetic,
        "preset": about.preset,
        "protocol": about.protocol,
        "selection": about.selection,
        "unit": about.unit,
        "classes": list(about.classes),
        "seeds": run.seeds,
        "folds": run.fold_numbers,
        "complete": not run.missing,
        "missing": list(run.missing),
        "notes": list(run.notes),
        "deviations": [str(deviation) for deviation in (run.leaks or {}).get("deviations", [])],
        "test_reads": None if run.test_reads is None else len(run.test_reads),
        "utterances": len(set(run.test.utterance.tolist())),
        "speakers": len(known(run.test.speaker)),
        "sessions": len(known(run.test.session)),
    }


def fold_facts(fold: Fold, rows: Tested) -> dict[str, Any]:
    """One fold without its scores."""
    record = fold.record
    return {
        "seed": fold.seed,
        "fold": fold.fold,
        "utterances": len(rows),
        "test_speakers": record.get("test_speakers") or sorted(known(rows.speaker)),
        "counts": record.get("counts"),
        "epochs": record.get("epochs"),
        "selected_epoch": record.get("selected_epoch"),
        "seconds": record.get("seconds"),
    }


def refit_epochs(run: Run | DimensionRun) -> list[dict[str, Any]]:
    """For how many epochs the models of each fold were trained again."""
    return [
        {"seed": fold.seed, "fold": fold.fold, "epochs": (fold.record.get("refit") or {}).get("epochs")}
        for fold in run.folds
    ]


def units_of(rows: Tested, unit: str) -> list[str] | str:
    """The sorted units of some predictions, or why there can be no interval over them."""
    units = getattr(rows, unit).tolist()
    unknown = sum(each is None for each in units)
    if unknown:
        return f"no interval: the {unit} of {unknown} of {len(rows)} predictions is unknown"
    return sorted(set(units))


def seeds_of(rows: Tested) -> list[int]:
    """The seeds that occur."""
    return sorted(set(rows.seed.tolist()))


def known(values: Iterable[str | None]) -> set[str]:
    """The values that are not null."""
    return {value for value in values if value is not None}


def mean(values: Sequence[float | None]) -> float | None:
    """Mean over the defined values."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def number(value: float) -> float | None:
    """A number for JSON; NaN becomes null."""
    return float(value) if np.isfinite(value) else None


def spread(values: Sequence[float | None], sd: str, each: str) -> dict[str, Any]:
    """Mean and standard deviation of a sample, with the values.

    Args:
        values: one per seed or fold.
        sd: key of the standard deviation, which needs two values.
        each: key of the values.
    """
    defined = [value for value in values if value is not None]
    return {
        "mean": mean(values),
        sd: float(np.std(defined, ddof=1)) if len(defined) > 1 else None,
        each: list(values),
    }
