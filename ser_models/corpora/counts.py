"""Counting a manifest and setting the counts beside the expected ones, in words and as aligned text."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ser_models.corpora.parser import Counts, Selection
from ser_models.corpora.utterance import shorten

_UNKNOWN = "(unknown)"


def count_table(table: pa.Table, columns: Iterable[str]) -> Counts:
    """Count the rows of a manifest, in all and by the values of some columns; null is ``(unknown)``.

    Args:
        table: the manifest.
        columns: names of columns; ``a/b`` crosses two.
    """

    def values(column: str) -> Iterator[str]:
        parts = [table[name].to_pylist() for name in column.split("/")]
        return ("/".join(value or _UNKNOWN for value in row) for row in zip(*parts, strict=True))

    return Counts(
        total=table.num_rows,
        columns={column: dict(sorted(Counter(values(column)).items())) for column in columns},
    )


def select(table: pa.Table, selection: Selection) -> pa.Table:
    """The utterances of a selection, their emotion replaced by its class."""
    classes = pa.array(
        [selection.classes.get(emotion) for emotion in table["emotion"].to_pylist()], pa.string()
    )
    keep = pc.is_valid(classes)
    if selection.scenario:
        keep = pc.and_(
            keep, pc.fill_null(pc.equal(table["scenario"].combine_chunks(), selection.scenario), False)
        )
    position = table.schema.get_field_index("emotion")
    return table.set_column(position, table.schema.field("emotion"), classes).filter(keep)


def differences(found: Counts, expected: Counts) -> list[str]:
    """Say in a few words each how the counts differ; an empty list where they agree."""
    parts = []
    if found.total != expected.total:
        parts.append(f"{found.total} of {expected.total} utterances")
    for column, values in expected.columns.items():
        here = found.columns.get(column, {})
        if absent := [value for value in values if value not in here]:
            parts.append(f"{column} missing: {shorten(absent, 12)}")
        if uneven := [
            f"{value} {here[value]} of {values[value]}" for value in values if _uneven(value, here, values)
        ]:
            parts.append(f"{column}: {shorten(uneven, 8)}")
        if added := [f"{value} ({here[value]})" for value in here if value not in values]:
            parts.append(f"{column} not expected: {shorten(added)}")
    return parts


def format_counts(found: Counts, expected: Counts, expected_name: str) -> Iterator[str]:
    """Format the counts as aligned lines: value, found, expected, and the difference where there is one."""
    values = [value for column in expected.columns.values() for value in column]
    values += [value for column in found.columns.values() for value in column]
    width = max(map(len, [*values, *expected.columns, "total"]))
    for column, published in expected.columns.items():
        here = found.columns.get(column, {})
        yield f"{column:<{width}}  {'found':>9}  {expected_name:>9}"
        for value in [*published, *(value for value in here if value not in published)]:
            yield _line(value, here.get(value, 0), published.get(value, 0), width)
        yield ""
    yield _line("total", found.total, expected.total, width)


def _uneven(value: str, here: Mapping[str, int], values: Mapping[str, int]) -> bool:
    return value in here and here[value] != values[value]


def _line(value: str, found: int, expected: int, width: int) -> str:
    difference = f"  {found - expected:+d}" if found != expected else ""
    return f"{value:<{width}}  {found:>9}  {expected:>9}{difference}"
