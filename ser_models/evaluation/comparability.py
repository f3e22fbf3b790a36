"""Which runs belong in one table: one objective, one corpus, one set of classes, one preset."""

from collections.abc import Sequence
from typing import Any

from ser_models.errors import UserError
from ser_models.evaluation.run import DimensionRun, Run


def by_objective(runs: Sequence[Run | DimensionRun]) -> list[list[Run] | list[DimensionRun]]:
    """Runs on emotion and runs on dimensions apart; their numbers have nothing to do with each other."""
    emotion = [run for run in runs if isinstance(run, Run)]
    dimensions = [run for run in runs if isinstance(run, DimensionRun)]
    groups: list[list[Run] | list[DimensionRun]] = [emotion, dimensions]
    return [group for group in groups if group]


def check_comparable(runs: Sequence[Run | DimensionRun]) -> None:
    """Refuse to put unlike runs of one objective in one table.

    Raises:
        UserError: presets, corpora, classes or units differ, or a run is given twice.
    """
    if len({run.uri for run in runs}) < len(runs):
        raise UserError("the same run is given twice")
    for group in by_objective(runs):
        for run in group[1:]:
            _check_alike(group[0], run)


def distinct_names(runs: Sequence[Run | DimensionRun]) -> list[str]:
    """The runs' names where they differ, else their URIs."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [run.uri for run in runs]


def notices(names: Sequence[str], summaries: Sequence[dict[str, Any]]) -> list[str]:
    """What a reader of the table must know of each run."""
    found = []
    for name, summary in zip(names, summaries, strict=True):
        if summary["missing"]:
            found.append(f"{name} is unfinished: {', '.join(summary['missing'])} missing")
        if summary["deviations"]:
            found.append(f"{name} departs from its preset ({'; '.join(summary['deviations'])})")
        found += [f"{name}: {note}" for note in summary["notes"]]
        pooled = summary["pooled"]
        headline = pooled["scores"]["mean"]["ccc"] if "scores" in pooled else pooled["uar"]
        if note := headline["interval"]["note"]:
            found.append(f"{name}: {note}")
    if len({summary["protocol"] for summary in summaries}) > 1:
        found.append(
            "the runs follow different protocols; differences between them are not the systems' alone"
        )
    return found


def _check_alike(first: Run | DimensionRun, run: Run | DimensionRun) -> None:
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
