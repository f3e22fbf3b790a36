"""``report.html``: one self-contained page with a run's number, its interval and its protocol in words.

The page holds its style and figures, loads nothing from anywhere, and escapes every text that comes from a
corpus or a file (the templates escape by default).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ser_models import places
from ser_models.evaluation import figures
from ser_models.evaluation.run import Run, read_run
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


def save_report(run: Run, summary: dict[str, Any]) -> str:
    """Write ``report.html`` into the run; returns its URI."""
    path = places.join(run.uri, REPORT_FILE)
    places.write_bytes(path, render_report(run, summary).encode())
    return path


def render_report(run: Run, summary: dict[str, Any]) -> str:
    """The page of a run.

    Args:
        run: what `read_run` returned.
        summary: what `summarise` made of it.
    """
    return render(
        "report.html.jinja",
        m=summary,
        leaks=run.leaks
        and {"protocol": summary["protocol"], "named": [], "findings": [], "notes": [], **run.leaks},
        headline=_headline(summary),
        interval_notes=_interval_notes(summary),
        reads=_reads(run),
        curves=figures.learning_curves([fold.record for fold in run.folds]),
        confusion=figures.confusion(summary["confusion"], summary["classes"]),
        speakers=figures.speaker_recalls(
            summary["groups"].get("speaker", []),
            summary["pooled"]["uar"]["mean"],
            summary["baselines"]["chance"]["uar"],
        ),
        configuration=run.configuration,
        environment=json.dumps(run.environment, indent=2, ensure_ascii=False),
    )


def render(template: str, **context: Any) -> str:
    """Fill one of the package's templates; every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "bounds": _bounds,
        "gap": _gap,
        "known": lambda value: "–" if value is None else value,
        "minutes": lambda seconds: "–" if seconds is None else f"{seconds / 60:.1f}",
        "whole": lambda share: f"{100 * share:g}",
        "p_value": p_value,
    }
    return environment.get_template(template).render(**context)


def percent(share: float | None) -> str:
    """A share as per cent with one decimal, a dash where it is undefined."""
    return "–" if share is None else f"{100 * share:.1f}"


def interval(found: dict[str, Any]) -> str:
    """An interval's bounds in per cent, a dash where there is none."""
    return "–" if found["low"] is None else f"[{percent(found['low'])}, {percent(found['high'])}]"


def p_value(p: float) -> str:
    """A p value with three significant digits."""
    return f"{p:.3g}"


def _bounds(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return "(no interval)"
    return f"({100 * found['level']:g} % interval {percent(found['low'])} to {percent(found['high'])} %)"


def _gap(rows: list[dict[str, Any]]) -> str | None:
    """Largest less smallest UAR; None where groups differ in their classes or there is one only."""
    if len(rows) < 2 or any(row["absent_classes"] != rows[0]["absent_classes"] for row in rows):
        return None
    values = [row["uar"] for row in rows]
    return percent(max(values) - min(values))


def _headline(summary: dict[str, Any]) -> list[str]:
    """What the number means, how it was made, and what it must be compared with."""
    classes, unit = len(summary["classes"]), summary["unit"]
    chance, majority = summary["baselines"]["chance"], summary["baselines"]["majority"]
    found = summary["pooled"]["uar"]["interval"]
    sentences = [
        f"UAR is the mean over the {classes} classes of the share of each class's utterances that were "
        f"recognised; WA is the share of all {summary['utterances']} test utterances of "
        f"{_count(summary['speakers'], 'speaker')}. "
        f"Guessing gives UAR {percent(chance['uar'])} %; always answering the most frequent class "
        f"gives UAR {percent(majority['uar'])} % and WA {percent(majority['wa'])} %."
    ]
    made = f"Predictions of {_count(len(summary['folds']), 'test fold')} pooled"
    if len(summary["seeds"]) > 1:
        sd = percent(summary["pooled"]["uar"]["seed_sd"])
        made += f", mean of {len(summary['seeds'])} seeds (sd of UAR over seeds {sd} points)"
    if found["method"] == "none":
        sentences.append(f"{made}. {_sentence(found['note'])}")
    else:
        how = "percentile bootstrap" if found["method"] == "bootstrap" else f"delete-one-{unit} jackknife"
        sentences.append(
            f"{made}. The interval is a {how} over {_count(found['units'], unit)}: it tells what other "
            f"{unit}s would change, not what another training would."
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


def _reads(run: Run) -> str:
    """How often the test parts were looked at, in words."""
    if run.test_reads is None:
        return "No ledger of test reads was kept, so how often the test parts were looked at is unknown."
    total, parts = len(run.test_reads), len(run.folds)
    times = Counter((read.get("seed"), read.get("fold")) for read in run.test_reads)
    most = max(times.values(), default=0)
    text = f"The ledger holds {_count(total, 'read')} of a test part, for {_count(parts, 'finished fold')}"
    if len(run.seeds) > 1:
        text += " (each seed's folds counted)"
    why = Counter(str(read.get("why", "unknown")) for read in run.test_reads)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in why.most_common(5))
    ending = (
        f"; at most {_count(most, 'read')} of the same fold under one seed. Reasons: {reasons}."
        if total
        else "."
    )
    return text + ending


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
