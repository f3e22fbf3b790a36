"""The report page of a run on dimensions: one table, one figure, and the protocol in words."""

from typing import Any

from ser_models.evaluation import figures
from ser_models.evaluation.dimension_summary import MEAN
from ser_models.evaluation.page import count_of, decimal, how_made, render, run_context
from ser_models.evaluation.run import DimensionRun


def render_dimension_report(run: DimensionRun, summary: dict[str, Any]) -> str:
    """The page of a run.

    Args:
        run: what `read_run` returned.
        summary: what `summarise` made of it.
    """
    return render(
        "dimension_report.html.jinja",
        **run_context(run, summary),
        headline=_headline(summary),
        interval_notes=_interval_notes(summary),
        curves=figures.learning_curves([fold.record for fold in run.folds], "CCC"),
        agreement=figures.agreement(run.test.target, run.test.predicted, summary["classes"]),
    )


def _headline(summary: dict[str, Any]) -> list[str]:
    """What the number means, how it was made, and what it must be compared with."""
    found = summary["pooled"]["scores"][MEAN]["ccc"]
    return [
        f"CCC (concordance, Lin 1989) is 1 where predictions equal the annotated values and 0 where they do not "
        f"follow them; this is its mean over {', '.join(summary['classes'])}, of {summary['utterances']} test "
        f"utterances of {count_of(summary['speakers'], 'speaker')}. Always answering the training part's mean "
        f"gives CCC 0 and an RMSE as large as the values' own spread, "
        f"{decimal(summary['baselines']['mean'][MEAN]['rmse'])} on the corpus's scale.",
        how_made(summary, found["interval"], f"sd of CCC over seeds {decimal(found['seed_sd'])}"),
    ]


def _interval_notes(summary: dict[str, Any]) -> list[str]:
    blocks = {"": summary, "after refit, ": summary["refit"] or {}}
    found: dict[str, list[str]] = {}
    for prefix, block in blocks.items():
        for name, measures in block.get("pooled", {}).get("scores", {}).items():
            for measure, entry in measures.items():
                if note := entry["interval"]["note"]:
                    found.setdefault(note, []).append(f"{prefix}{name} {measure.upper()}")
    return [f"{', '.join(names)}: {note}." for note, names in found.items()]
