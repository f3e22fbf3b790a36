"""The table of runs on dimensions for the terminal."""

from rich.table import Table
from rich.text import Text

from ser_models.evaluation.dimension_comparison import DimensionComparison, DimensionRow
from ser_models.evaluation.page import decimal, decimals


def dimension_runs_table(comparison: DimensionComparison) -> Table:
    """One line per run and dimension; what all rows share stands in the title."""
    first = comparison.rows[0]
    protocols = {row.protocol for row in comparison.rows}
    title = f"{first.corpus}, dimensions, {first.preset} preset"
    if len(protocols) == 1:
        title += f", protocol {first.protocol}"
    if first.synthetic:
        title = f"SYNTHETIC corpus: {title}"
    caption = "pooled over folds unless said, mean over seeds; RMSE on the corpus's scale"
    table = Table(title=Text(title), caption=Text(caption))
    for heading in ("run", "system", *(["protocol"] if len(protocols) > 1 else []), "dimension"):
        table.add_column(heading)
    level = f"{100 * comparison.level:g} %"
    for heading in (f"CCC [{level}]", "PCC", "RMSE", "CCC folds ± sd", "folds", "seeds", "test reads"):
        # A bracket opens Rich's markup, so headings are Text as well.
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for position, row in enumerate(comparison.rows):
        cells = _cells(row, with_protocol=len(protocols) > 1)
        following = comparison.rows[position + 1 : position + 2]
        table.add_row(
            *(Text(cell) for cell in cells),
            style="dim" if row.kind == "mean" else None,
            end_section=any(other.name != row.name for other in following),
        )
    return table


def ccc_cell(row: DimensionRow) -> str:
    """CCC and its interval."""
    if row.ccc_low is None:
        return decimal(row.ccc)
    return f"{decimal(row.ccc)} {decimals({'low': row.ccc_low, 'high': row.ccc_high})}"


def fold_cell(row: DimensionRow) -> str:
    """CCC over folds, empty for the baseline."""
    if row.kind == "mean":
        return ""
    spread = "" if row.fold_ccc_sd is None else f" ± {decimal(row.fold_ccc_sd)}"
    return f"{decimal(row.fold_ccc)}{spread}"


def _cells(row: DimensionRow, *, with_protocol: bool) -> list[str]:
    baseline = row.kind == "mean"
    cells = [row.name, "" if baseline else row.system]
    if with_protocol:
        cells.append("" if baseline else row.protocol)
    counts = ("" if count is None else str(count) for count in (row.folds, row.seeds, row.test_reads))
    return [
        *cells,
        row.dimension,
        ccc_cell(row),
        decimal(row.pcc),
        decimal(row.rmse),
        fold_cell(row),
        *counts,
    ]
