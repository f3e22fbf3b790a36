"""``report.html``: one self-contained page with a run's number, its interval and its protocol in words.

The page holds its style and figures, loads nothing from anywhere, and escapes every text that comes from a
corpus or a file (the templates escape by default).
"""

from typing import Any

from ser_models import places
from ser_models.evaluation import figures
from ser_models.evaluation.dimension_report import render_dimension_report
from ser_models.evaluation.page import count_of, how_made, percent, render, run_context
from ser_models.evaluation.run import DimensionRun, Run, read_run
from ser_models.evaluation.summary import save_metrics, summarise

REPORT_FILE = "report.html"


def write_report(run_uri: str, *, allow_incomplete: bool = False) -> str:
    """Evaluate a run directory and write ``metrics.json`` and ``report.html`` into it.

    Args:
        run_uri: the folder that a training wrote, local or remote.
        allow_incomplete: evaluate the finished folds of an unfinished run.

    Returns:
        The URI of the report.

    Raises:
        UserError: as `read_run`.
    """
    run = read_run(run_uri, allow_incomplete=allow_incomplete)
    summary = summarise(run)
    save_metrics(run, summary)
    return save_report(run, summary)


def save_report(run: Run | DimensionRun, summary: dict[str, Any]) -> str:
    """Write ``report.html`` into the run; returns its URI."""
    path = places.join(run.uri, REPORT_FILE)
    places.write_bytes(path, render_report(run, summary).encode())
    return path


def render_report(run: Run | DimensionRun, summary: dict[str, Any]) -> str:
    """The page of a run.

    Args:
        run: what `read_run` returned.
        summary: what `summarise` made of it.
    """
    if isinstance(run, DimensionRun):
        return render_dimension_report(run, summary)
    return render(
        "report.html.jinja",
        **run_context(run, summary),
        headline=_headline(summary),
        interval_notes=_interval_notes(summary),
        curves=figures.learning_curves([fold.record for fold in run.folds]),
        confusion=figures.confusion(summary["confusion"], summary["classes"]),
        speakers=figures.speaker_recalls(
            summary["groups"].get("speaker", []),
            summary["pooled"]["uar"]["mean"],
            summary["baselines"]["chance"]["uar"],
        ),
    )


def _headline(summary: dict[str, Any]) -> list[str]:
    """What the number means, how it was made, and what it must be compared with."""
    classes = len(summary["classes"])
    chance, majority = summary["baselines"]["chance"], summary["baselines"]["majority"]
    sentences = [
        f"UAR is the mean over the {classes} classes of the share of each class's utterances that were "
        f"recognised; WA is the share of all {summary['utterances']} test utterances of "
        f"{count_of(summary['speakers'], 'speaker')}. "
        f"Guessing gives UAR {percent(chance['uar'])} %; always answering the most frequent class "
        f"gives UAR {percent(majority['uar'])} % and WA {percent(majority['wa'])} %."
    ]
    sd = percent(summary["pooled"]["uar"]["seed_sd"])
    sentences.append(
        how_made(summary, summary["pooled"]["uar"]["interval"], f"sd of UAR over seeds {sd} points")
    )
    return sentences


def _interval_notes(summary: dict[str, Any]) -> list[str]:
    blocks = {"": summary["pooled"], "after refit, ": (summary["refit"] or {}).get("pooled", {})}
    notes = []
    for prefix, pooled in blocks.items():
        for name, title in (("uar", "UAR"), ("wa", "WA")):
            note = pooled.get(name, {}).get("interval", {}).get("note")
            if note:
                notes.append(f"{prefix}{title}: {note}.")
    return notes
