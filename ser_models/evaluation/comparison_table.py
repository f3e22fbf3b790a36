"""A comparison for people and for programs: on the terminal, as a page, as JSON and as CSV."""

import csv
import io
import json
import sys
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ser_models import places
from ser_models.evaluation.comparison import Comparison
from ser_models.evaluation.dimension_comparison import DimensionComparison
from ser_models.evaluation.dimension_table import ccc_cell, dimension_runs_table, fold_cell
from ser_models.evaluation.page import interval, p_value, percent, render
from ser_models.evaluation.pairs import Pair

AnyComparison = Comparison | DimensionComparison

_WIDTH_WITHOUT_TERMINAL = 140


def print_comparison(comparison: AnyComparison, console: Console | None = None) -> None:
    """Print the table and the tests; what all rows share stands in the title."""
    console = console or Console(width=None if sys.stdout.isatty() else _WIDTH_WITHOUT_TERMINAL)
    # Text objects, because Rich would take brackets in a name for its markup.
    if isinstance(comparison, DimensionComparison):
        console.print(dimension_runs_table(comparison))
    else:
        console.print(_runs_table(comparison))
    if comparison.pairs:
        console.print(_pairs_table(comparison))
        console.print(Text(pairs_explanation(comparison)))
    for notice in comparison.notices:
        console.print(Text(f"Note: {notice}."))


def write_comparison(comparison: AnyComparison, output: str) -> str:
    """Write the table into a folder as page, JSON and CSV; returns the page's URI.

    The files are comparison.html, .json and .csv, for dimensions comparison-dimensions.html, .json and .csv.
    """
    stem = "comparison-dimensions" if isinstance(comparison, DimensionComparison) else "comparison"
    # JSON and CSV first: where the page is, all of it is.
    places.write_bytes(places.join(output, f"{stem}.json"), comparison_json(comparison).encode())
    places.write_bytes(places.join(output, f"{stem}.csv"), comparison_csv(comparison).encode())
    page = places.absolute(places.join(output, f"{stem}.html"))
    places.write_bytes(page, comparison_html(comparison).encode())
    return page


def comparison_json(comparison: AnyComparison) -> str:
    """Rows, pairs and notices; UAR and the like as shares from 0 to 1, null where undefined."""
    return json.dumps(asdict(comparison), indent=2, allow_nan=False) + "\n"


def comparison_csv(comparison: AnyComparison) -> str:
    """One line per row, all columns; UAR and the like as shares from 0 to 1, empty where undefined."""
    stream = io.StringIO()
    names = [field.name for field in fields(comparison.rows[0])]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in comparison.rows)
    return stream.getvalue()


def comparison_html(comparison: AnyComparison) -> str:
    """A self-contained page."""
    context: dict[str, Any] = {
        "c": comparison,
        "explanation": pairs_explanation(comparison),
        "score": _score(comparison),
        "difference": lambda pair: _difference(comparison, pair),
    }
    if isinstance(comparison, DimensionComparison):
        return render("dimension_comparison.html.jinja", **context, ccc=ccc_cell, folds=fold_cell)
    return render("comparison.html.jinja", **context, bracket=_bracket, pm=_plus_minus)


def pairs_explanation(comparison: AnyComparison) -> str:
    """How the p values came about and how small they could have been."""
    tested = [pair for pair in comparison.pairs if pair.p is not None]
    if not tested:
        return "No pair could be tested."
    unit = comparison.rows[0].unit
    smallest = min(pair.smallest_p for pair in tested if pair.smallest_p is not None)
    text = (
        f"Paired sign-flip test over {unit}s, two-sided, Holm-corrected for {len(tested)} "
        f"{'pair' if len(tested) == 1 else 'pairs'}. The smallest p that "
        f"{max(pair.units for pair in tested)} {unit}s can reach is {p_value(smallest)}"
    )
    corrected = min(1.0, smallest * len(tested))
    if len(tested) > 1:
        text += f", {p_value(corrected)} after the correction"
    text += "." if all(pair.exact for pair in tested) else " (by random sign patterns)."
    if corrected >= 0.05:
        text += f" No difference could come out below 0.05 here: there are too few {unit}s."
    return text


def _runs_table(comparison: Comparison) -> Table:
    first = comparison.rows[0]
    protocols = {row.protocol for row in comparison.rows}
    title = f"{first.corpus}, {first.preset} preset"
    if len(protocols) == 1:
        title += f", protocol {first.protocol}"
    if first.synthetic:
        title = f"SYNTHETIC corpus: {title}"
    table = Table(title=Text(title), caption=Text("per cent; pooled over folds unless said, mean over seeds"))
    level = f"{100 * comparison.level:g} %"
    table.add_column("run")
    table.add_column("system")
    if len(protocols) > 1:
        table.add_column("protocol")
    for heading in (
        f"UAR [{level}]",
        f"WA [{level}]",
        "UAR folds ± sd",
        "macro F1",
        "folds",
        "seeds",
        "test reads",
    ):
        # A bracket opens Rich's markup, so headings are Text as well.
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for row in comparison.rows:
        baseline = row.kind in {"majority", "chance"}
        cells = [row.name, "" if baseline else row.system]
        if len(protocols) > 1:
            cells.append("" if baseline else row.protocol)
        cells += [
            _bracket(row.uar, row.uar_low, row.uar_high),
            _bracket(row.wa, row.wa_low, row.wa_high),
            "" if baseline else _plus_minus(row.fold_uar, row.fold_uar_sd),
            percent(row.macro_f1),
            *("" if count is None else str(count) for count in (row.folds, row.seeds, row.test_reads)),
        ]
        table.add_row(*(Text(cell) for cell in cells), style="dim" if baseline else None)
    return table


def _score(comparison: AnyComparison) -> str:
    """What the pairs differ in, and in which unit."""
    if isinstance(comparison, DimensionComparison):
        return f"mean CCC inside each {comparison.rows[0].unit}"
    return "UAR"


def _difference(comparison: AnyComparison, pair: Pair) -> str:
    if pair.difference is None:
        return "–"
    if isinstance(comparison, DimensionComparison):
        return f"{pair.difference:+.3f}"
    return f"{100 * pair.difference:+.1f}"


def _pairs_table(comparison: AnyComparison) -> Table:
    points = "" if isinstance(comparison, DimensionComparison) else "points; "
    table = Table(
        title=Text(f"Differences in {_score(comparison)}"),
        caption=Text(f"{points}A minus B on the utterances that both tested"),
    )
    for heading in ("A", "B"):
        table.add_column(heading)
    unit = comparison.rows[0].unit
    for heading in ("A - B", "p", "p (Holm)", "smallest p", f"{unit}s", "utterances"):
        table.add_column(heading, justify="right", no_wrap=True)
    for pair in comparison.pairs:
        table.add_row(*(Text(cell) for cell in (pair.a, pair.b, *_pair_cells(comparison, pair))))
        if pair.note:
            table.add_row(Text(pair.note, style="italic"))
    return table


def _pair_cells(comparison: AnyComparison, pair: Pair) -> list[str]:
    values = ("–" if p is None else p_value(p) for p in (pair.p, pair.p_holm, pair.smallest_p))
    return [_difference(comparison, pair), *values, str(pair.units), str(pair.shared)]


def _bracket(value: float | None, low: float | None, high: float | None) -> str:
    return percent(value) if low is None else f"{percent(value)} {interval({'low': low, 'high': high})}"


def _plus_minus(mean: float | None, sd: float | None) -> str:
    return percent(mean) if sd is None else f"{percent(mean)} ± {percent(sd)}"
