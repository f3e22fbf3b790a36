"""What every page and table is made with: templates, the forms of numbers, and sentences about a run."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ser_models.evaluation.run import DimensionRun, Run


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
        "decimal": decimal,
        "interval": interval,
        "bounds": _bounds,
        "decimals": decimals,
        "decimal_bounds": _decimal_bounds,
        "gap": _gap,
        "known": lambda value: "–" if value is None else value,
        "minutes": lambda seconds: "–" if seconds is None else f"{seconds / 60:.1f}",
        "whole": lambda share: f"{100 * share:g}",
        "p_value": p_value,
    }
    return environment.get_template(template).render(**context)


def run_context(run: Run | DimensionRun, summary: dict[str, Any]) -> dict[str, Any]:
    """What the template of every run's report reads."""
    protocol = {"protocol": summary["protocol"], "named": [], "findings": [], "notes": []}
    return {
        "m": summary,
        "leaks": run.leaks and {**protocol, **run.leaks},
        "reads": reads(run),
        "configuration": run.configuration,
        "environment": json.dumps(run.environment, indent=2, ensure_ascii=False),
    }


def how_made(summary: dict[str, Any], found: dict[str, Any], seed_sd: str) -> str:
    """How the headline and its interval came about, in words.

    Args:
        summary: of the run.
        found: the headline's interval.
        seed_sd: its spread over seeds in words, told where there are several.
    """
    unit = summary["unit"]
    made = f"Predictions of {count_of(len(summary['folds']), 'test fold')} pooled"
    if len(summary["seeds"]) > 1:
        made += f", mean of {len(summary['seeds'])} seeds ({seed_sd})"
    if found["method"] == "none":
        return f"{made}. {_sentence(found['note'])}"
    how = "percentile bootstrap" if found["method"] == "bootstrap" else f"delete-one-{unit} jackknife"
    return (
        f"{made}. The interval is a {how} over {count_of(found['units'], unit)}: it tells what other "
        f"{unit}s would change, not what another training would."
    )


def percent(share: float | None) -> str:
    """A share as per cent with one decimal, a dash where it is undefined."""
    return "–" if share is None else f"{100 * share:.1f}"


def decimal(value: float | None) -> str:
    """A number with three decimals, a dash where it is undefined."""
    return "–" if value is None else f"{value:.3f}"


def interval(found: dict[str, Any]) -> str:
    """An interval's bounds in per cent, a dash where there is none."""
    return "–" if found["low"] is None else f"[{percent(found['low'])}, {percent(found['high'])}]"


def decimals(found: dict[str, Any]) -> str:
    """An interval's bounds with three decimals, a dash where there is none."""
    return "–" if found["low"] is None else f"[{decimal(found['low'])}, {decimal(found['high'])}]"


def p_value(p: float) -> str:
    """A p value with three significant digits."""
    return f"{p:.3g}"


def _bounds(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return "(no interval)"
    return f"({100 * found['level']:g} % interval {percent(found['low'])} to {percent(found['high'])} %)"


def _decimal_bounds(found: dict[str, Any]) -> str:
    if found["low"] is None:
        return "(no interval)"
    return f"({100 * found['level']:g} % interval {decimal(found['low'])} to {decimal(found['high'])})"


def _gap(rows: list[dict[str, Any]]) -> str | None:
    """Largest less smallest UAR; None where groups differ in their classes or there is one only."""
    if len(rows) < 2 or any(row["absent_classes"] != rows[0]["absent_classes"] for row in rows):
        return None
    values = [row["uar"] for row in rows]
    return percent(max(values) - min(values))


def reads(run: Run | DimensionRun) -> str:
    """How often the test parts were looked at, in words."""
    if run.test_reads is None:
        return "No ledger of test reads was kept, so how often the test parts were looked at is unknown."
    total, parts = len(run.test_reads), len(run.folds)
    times = Counter((read.get("seed"), read.get("fold")) for read in run.test_reads)
    most = max(times.values(), default=0)
    text = (
        f"The ledger holds {count_of(total, 'read')} of a test part, for {count_of(parts, 'finished fold')}"
    )
    if len(run.seeds) > 1:
        text += " (each seed's folds counted)"
    why = Counter(str(read.get("why", "unknown")) for read in run.test_reads)
    reasons = ", ".join(f"{reason} ({count})" for reason, count in why.most_common(5))
    ending = (
        f"; at most {count_of(most, 'read')} of the same fold under one seed. Reasons: {reasons}."
        if total
        else "."
    )
    return text + ending


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def count_of(number: int, noun: str) -> str:
    """A number of things, in the singular for one.

    >>> count_of(1, "fold"), count_of(2, "fold")
    ('1 fold', '2 folds')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
