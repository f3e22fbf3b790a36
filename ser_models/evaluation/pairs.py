"""The paired comparison of runs: is the difference between two more than chance between speakers or sessions?"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

from ser_models.errors import UserError
from ser_models.evaluation.intervals import holm, sign_flip
from ser_models.evaluation.run import DimensionRun, Run

AnyKind = TypeVar("AnyKind", Run, DimensionRun)

Truth = Mapping[str, Hashable]
"""Utterance to what is true of it."""

Shares = Mapping[str, float] | str
"""Unit to what it adds to a run's score, or why that is unknown."""


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
    """Score of A minus that of B, on the shared utterances: pooled UAR, or for dimensions the mean over units of
    the CCC inside each."""
    p: float | None
    """Two-sided; None where the runs cannot be compared."""
    p_holm: float | None
    """Corrected for all pairs of the table."""
    smallest_p: float | None
    """The smallest p that this number of units can reach."""
    smallest_p_holm: float | None
    """The same after the correction, were this pair the strongest."""
    note: str | None


def compare_pairs(
    runs: Sequence[AnyKind],
    names: Sequence[str],
    *,
    truth: Callable[[AnyKind], Truth],
    shares: Callable[[AnyKind, set[str]], Shares],
    seed: int,
) -> tuple[list[Pair], list[str]]:
    """Test every pair of runs with paired sign flips over units, Holm-corrected.

    Args:
        runs: of one kind, comparable.
        names: of the runs, all different.
        truth: what is true of the test utterances of a run.
        shares: what each unit adds to the score of a run on some utterances.
        seed: of the random sign flips, used where there are too many units to count all.

    Returns:
        The pairs, and notices for the reader.

    Raises:
        UserError: two runs disagree about what is true of an utterance, or about its unit.
    """
    notices: list[str] = []
    pairs = [
        _pair(one, other, truth, shares, seed, notices)
        for one, other in combinations(list(zip(names, runs, strict=True)), 2)
    ]
    tested = [index for index, pair in enumerate(pairs) if pair["p"] is not None]
    for index, corrected in zip(tested, holm([pairs[index]["p"] for index in tested]), strict=True):
        pairs[index]["p_holm"] = corrected
        pairs[index]["smallest_p_holm"] = min(1.0, pairs[index]["smallest_p"] * len(tested))
    return [Pair(**pair) for pair in pairs], notices


def _pair(
    one: tuple[str, AnyKind],
    other: tuple[str, AnyKind],
    truth: Callable[[AnyKind], Truth],
    shares: Callable[[AnyKind, set[str]], Shares],
    seed: int,
    notices: list[str],
) -> dict[str, Any]:
    (name_a, run_a), (name_b, run_b) = one, other
    nothing = dict.fromkeys(("difference", "p", "p_holm", "smallest_p", "smallest_p_holm", "note"))
    pair: dict[str, Any] = {"a": name_a, "b": name_b, "shared": 0, "units": 0, "exact": True, **nothing}
    shared = _shared(run_a, run_b, truth)
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
    found_a, found_b = (shares(run, shared) for run in (run_a, run_b))
    if isinstance(found_a, str) or isinstance(found_b, str):
        reason = found_a if isinstance(found_a, str) else str(found_b)
        pair["note"] = reason.replace("no interval", "not compared")
        return pair
    if list(found_a) != list(found_b):
        raise UserError(
            f"{run_a.uri} and {run_b.uri} disagree about the {run_a.description.unit}s of shared utterances: "
            "they come from different versions of the corpus"
        )
    result = sign_flip([found_a[unit] - found_b[unit] for unit in found_a], seed=seed)
    return {
        **pair,
        "units": result.units,
        "exact": result.exact,
        "difference": result.difference,
        "p": result.p,
        "smallest_p": result.smallest_p,
    }


def _shared(run_a: AnyKind, run_b: AnyKind, truth: Callable[[AnyKind], Truth]) -> set[str]:
    """Utterances that every seed of both runs tested; what is true of them must agree."""
    truth_a, truth_b = truth(run_a), truth(run_b)
    tested = [
        set(run.test.utterance[run.test.seed == seed].tolist())
        for run in (run_a, run_b)
        for seed in run.seeds
    ]
    shared = set.intersection(*tested)
    differing = [utterance for utterance in sorted(shared) if truth_a[utterance] != truth_b[utterance]]
    if differing:
        raise UserError(
            f"{run_a.uri} and {run_b.uri} give {len(differing)} shared utterances different labels, first "
            f"{differing[0]!r}; they come from different versions of the corpus"
        )
    return shared
