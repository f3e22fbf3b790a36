"""A table in a file (``.csv``, ``.tsv`` or ``.parquet``) as records of text, whatever program wrote it."""

import csv
import io
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ser_models import places
from ser_models.errors import UserError

SUFFIXES = (".csv", ".tsv", ".parquet")
"""What the name of a table ends in."""

Record = tuple[str, dict[str, str] | str]
"""Where a record stands (``line 7``, ``row 7``), and its cells by column, or why it has none."""


def read_records(uri: str) -> tuple[list[str], list[Record]]:
    """Read a table.

    Text is UTF-8, with or without a byte order mark, its line ends of any kind; blank lines are skipped.

    Returns:
        The names of the columns in lower case, and the records; a cell without a value is ``""``.

    Raises:
        UserError: nothing is there, or it is empty, not UTF-8 or no table.
    """
    columns, records = _read_parquet(uri) if uri.lower().endswith(".parquet") else _read_text(uri)
    return columns, list(records)


def _read_text(uri: str) -> tuple[list[str], Iterator[Record]]:
    content = _content(uri)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        encoding = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise UserError(
            f"{uri} is not UTF-8: byte {error.start} (line {line}) is 0x{content[error.start]:02x}; convert it, "
            f"if it is {encoding} with: iconv -f {encoding} -t UTF-8 {places.name(uri)} > utf8.csv"
        ) from None
    comma = "\t" if uri.lower().endswith(".tsv") else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    try:
        records = list(_number(lines))
    except csv.Error as error:
        raise UserError(f"{uri} is no table: line {lines.line_num}: {error}") from None
    if not records:
        raise UserError(f"{uri} is empty")
    (_, header), *rest = records
    columns = [column.strip().lower() for column in header]
    return columns, (_record(columns, line, cells) for line, cells in rest)


def _number(lines: Any) -> Iterator[tuple[int, list[str]]]:
    """Lines that are not blank, each with the number of its first line in the file."""
    last = 0
    for cells in lines:
        if any(cell.strip() for cell in cells):
            yield last + 1, cells
        last = lines.line_num


def _record(columns: list[str], line: int, cells: list[str]) -> Record:
    where = f"line {line}"
    if len(cells) != len(columns):
        return where, f"{len(cells)} cells under {len(columns)} column names"
    return where, {column: cell.strip() for column, cell in zip(columns, cells, strict=True)}


def _read_parquet(uri: str) -> tuple[list[str], Iterator[Record]]:
    _content(uri)
    try:
        table = places.read_table(uri)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{uri} is not a Parquet file: {' '.join(str(error).split())}") from None
    columns = [column.strip().lower() for column in table.column_names]
    values = [[_cell(value) for value in column.to_pylist()] for column in table.columns]
    return columns, (
        (f"row {number}", dict(zip(columns, row, strict=True)))
        for number, row in enumerate(zip(*values, strict=True), 1)
    )


def _cell(value: Any) -> str:
    """A typed value as the text that a CSV file would hold."""
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if missing else str(value).strip()


def _content(uri: str) -> bytes:
    try:
        content = places.read_bytes(uri)
    except FileNotFoundError:
        raise UserError(f"{uri}: no such table") from None
    except IsADirectoryError:
        raise UserError(f"{uri} is a folder, not a table") from None
    except UserError:
        raise
    except Exception as error:  # each cloud library has its own kinds for "no credentials" and "no route"
        raise UserError(f"{uri} cannot be read: {type(error).__name__}: {error}") from error
    if not content:
        raise UserError(f"{uri} is empty")
    return content
