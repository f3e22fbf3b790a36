"""A corpus of one's own: a table of utterances (``.csv``, ``.tsv`` or ``.parquet``) beside its recordings.

The table has the columns ``audio``, ``emotion`` and ``speaker``; every other column of `OPTIONAL` may be there
under its name, in any order, capitals or not. An empty cell means unknown. For example::

    audio,emotion,speaker,gender,start,end
    day1/anna.wav,happy,anna,female,0.0,2.4
    day1/anna.wav,angry,anna,female,2.4,5.1

- ``audio`` and ``video`` are paths relative to the table's folder, absolute paths or URIs.
- ``emotion`` is a canonical name or one of `EMOTION_ALIASES`, capitals or not. It may be empty only where the
  row has ``votes`` or a number for valence, arousal or dominance.
- ``votes`` are emotions with ``;`` between them, one for each annotator: ``happy;sad;happy``. Annotators are
  numbered from 1; an empty place is an annotator who said nothing.
- ``utterance_id`` is by default the audio path relative to the table, without its suffix, and ``#start`` behind it
  where several rows use one file.
- ``split`` is ``train``, ``dev`` or ``test``, or one of `SPLIT_ALIASES`, capitals or not.
- ``parent`` is the id of the utterance that a row is an altered copy of. The parent of a copy of a copy becomes the
  original, so that a manifest never names a copy as a parent.

A row with any fault is a problem that names its line, and never an utterance: what it says of itself cannot be
trusted. These rules, the aliases and the default id are our own choice.
"""

import dataclasses
import math
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from ser_models import places
from ser_models.corpora.marker import read_marker
from ser_models.corpora.parser import Findings, Problem
from ser_models.corpora.table_file import SUFFIXES, read_records
from ser_models.corpora.utterance import (
    DIMENSIONS,
    EMOTIONS,
    GENDERS,
    REGIONS,
    SCENARIOS,
    Utterance,
    Votes,
    shorten,
)
from ser_models.errors import UserError

REQUIRED = ("audio", "emotion", "speaker")
"""Columns without which there is no corpus."""

EMOTION_ALIASES = {
    "anger": "angry",
    "ang": "angry",
    "happiness": "happy",
    "hap": "happy",
    "joy": "happy",
    "joyful": "happy",
    "excitement": "excited",
    "exc": "excited",
    "sadness": "sad",
    "neu": "neutral",
    "fear": "fearful",
    "fea": "fearful",
    "afraid": "fearful",
    "disgust": "disgusted",
    "dis": "disgusted",
    "surprise": "surprised",
    "sur": "surprised",
    "calmness": "calm",
    "frustration": "frustrated",
    "fru": "frustrated",
    "boredom": "bored",
    "oth": "other",
}
"""Other names of the canonical emotions, in lower case."""

GENDER_ALIASES = {"f": "female", "w": "female", "woman": "female", "m": "male", "man": "male"}

SPLIT_ALIASES = {"training": "train", **dict.fromkeys(("development", "val", "valid", "validation"), "dev")}
"""Other names of the parts of a published division, in lower case."""

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LEVELS_ABOVE = 2  # as for the folder of a registered corpus


def is_table(root: str) -> bool:
    """Whether a root names a table of utterances and not the folder of a registered corpus."""
    return root.lower().endswith(SUFFIXES)


def check_name(name: str) -> None:
    """Make sure that a corpus may have this name, which becomes a folder of the shards.

    Raises:
        UserError: it has other characters than letters, digits, ``-`` and ``_``.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"the name of a corpus has letters, digits, - and _ only; got {name!r}")


def folder_of(table: str) -> str:
    """URI of the folder that holds a table."""
    return posixpath.dirname(places.absolute(table))


def parse(name: str, table: str) -> Findings:
    """Read a table of utterances.

    Args:
        name: the corpus's name.
        table: local path or URI.

    Raises:
        UserError: there is no such table, it cannot be understood as one, a required column is not there, or
            it has no row.
    """
    uri = places.absolute(table)
    columns, records = read_records(uri)
    _check_columns(uri, columns)
    notes = []
    if unknown := [column for column in columns if column not in (*REQUIRED, *OPTIONAL)]:
        notes.append(f"columns not used: {shorten(unknown, 12)}")
    folder = folder_of(uri)
    faults: dict[str, list[str]] = {}
    read: dict[str, Utterance] = {}  # where it stands → row, its id still to be checked
    for where, cells in records:
        if isinstance(cells, str):
            faults[where] = [cells]
        else:
            faults[where] = []
            read[where] = _row(name, cells, folder, faults[where])
    if not faults:
        raise UserError(f"{uri} has no row below its column names")
    rows = _with_ids({where: row for where, row in read.items() if not faults[where]}, folder, faults)
    problems = [Problem(uri, f"{where}: {'; '.join(wrong)}") for where, wrong in faults.items() if wrong]
    return Findings(rows, problems, notes)


def is_synthetic(folder: str, findings: Findings) -> bool:
    """Whether the table or a recording that it names lies in a folder of generated recordings."""
    media = {uri for row in findings.rows for uri in (row.audio, row.video) if uri}
    return any(_is_marked(each) for each in _with_parents({folder, *map(posixpath.dirname, media)}))


def _with_parents(folders: set[str]) -> set[str]:
    every = set(folders)
    for _ in range(_LEVELS_ABOVE):
        folders = {posixpath.dirname(folder) for folder in folders}
        every |= folders
    return {folder for folder in every if folder not in ("", "/") and not folder.endswith(":/")}


def _is_marked(folder: str) -> bool:
    try:
        return read_marker(folder) is not None
    except (PermissionError, NotADirectoryError):
        return False


def _check_columns(uri: str, columns: list[str]) -> None:
    if twice := [column for column, count in Counter(columns).items() if count > 1]:
        raise UserError(f"{uri}: column given more than once: {shorten(map(repr, twice))}")
    if missing := [column for column in REQUIRED if column not in columns]:
        comma = "tabs" if uri.lower().endswith(".tsv") else "commas"
        hint = "" if uri.lower().endswith(".parquet") else f" (columns are separated by {comma})"
        raise UserError(
            f"{uri} has no column {', '.join(missing)}; required are {', '.join(REQUIRED)}, found "
            f"{shorten(map(repr, columns), 5)}{hint}"
        )


# A reader turns the text of one cell into a value and raises ValueError with what is wrong.


def _number_of(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{text!r} is not a number")
    return number


def _seconds(text: str) -> float:
    if (number := _number_of(text)) < 0:
        raise ValueError(f"{text!r} is before the beginning of the file")
    return number


def _position(text: str) -> int:
    number = _number_of(text)
    if number < 0 or number != int(number):
        raise ValueError(f"{text!r} is not a position counted from 0")
    return int(number)


def _emotion(text: str) -> str:
    return _one_of(EMOTIONS, EMOTION_ALIASES)(text)


def _votes(text: str) -> Votes:
    votes = {
        str(annotator): [_emotion(vote.strip())]
        for annotator, vote in enumerate(text.split(";"), 1)
        if vote.strip()
    }
    if not votes:
        raise ValueError(f"{text!r} names no emotion")
    return votes


def _one_of(allowed: tuple[str, ...], aliases: Mapping[str, str] | None = None) -> Callable[[str], str]:
    def read(text: str) -> str:
        word = text.lower()
        value = (aliases or {}).get(word, word)
        if value not in allowed:
            raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
        return value

    return read


OPTIONAL: dict[str, Callable[[str], Any]] = {
    "utterance_id": str,
    "gender": _one_of(GENDERS, GENDER_ALIASES),
    "session": str,
    "dialogue": str,
    "turn": _position,
    "scenario": _one_of(SCENARIOS),
    "script": str,
    "sentence": str,
    "start": _seconds,
    "end": _seconds,
    "video": str,
    "video_start": _seconds,
    "video_end": _seconds,
    "video_region": _one_of(REGIONS),
    "text": str,
    "language": str,
    "accent": str,
    "intensity": str,
    "votes": _votes,
    **dict.fromkeys(DIMENSIONS, _number_of),
    "split": _one_of(("train", "dev", "test"), SPLIT_ALIASES),
    "parent": str,
}
"""The other columns that a table may have, and how a cell is read; see `Utterance` for what they mean."""

_READERS: dict[str, Callable[[str], Any]] = {"audio": str, "emotion": _emotion, "speaker": str, **OPTIONAL}


def _row(name: str, cells: dict[str, str], folder: str, faults: list[str]) -> Utterance:
    """The row of one record; what is wrong with it is appended to ``faults``."""
    values: dict[str, Any] = {}
    for column, read in _READERS.items():
        if text := cells.get(column):
            try:
                values[column] = read(text)
            except ValueError as error:
                faults.append(f"{column} {error}")
    for column in ("audio", "video"):
        if column in values:
            try:
                values[column] = _media_uri(values[column], folder)
            except UserError as error:
                faults.append(f"{column} {error}")
    faults += [f"no {column}" for column in ("audio", "speaker") if not cells.get(column)]
    if not cells.get("emotion") and not any(cells.get(column) for column in ("votes", *DIMENSIONS)):
        faults.append(f"no emotion (allowed: {', '.join(EMOTIONS)})")
    for prefix in ("", "video_"):
        start, end = values.get(f"{prefix}start", 0.0), values.get(f"{prefix}end")
        if end is not None and end <= start:
            faults.append(f"{prefix}end {end:g} does not come after {prefix}start {start:g}")
    return Utterance(**{"utterance_id": "", **values, "corpus": name})


def _media_uri(path: str, folder: str) -> str:
    places.filesystem(path)  # refuses places that nothing can read
    if places.is_remote(path) or path.startswith(("/", "file://")):
        return places.absolute(path)
    if places.is_remote(folder):
        scheme, _, inside = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(inside, path))}"
    return places.absolute(places.join(folder, path))


def _with_ids(rows: Mapping[str, Utterance], folder: str, faults: dict[str, list[str]]) -> list[Utterance]:
    """Give each row its id; leave out those whose id is taken or whose original is not there."""
    uses = Counter(row.audio for row in rows.values())
    named: dict[str, tuple[str, Utterance]] = {}  # utterance id → where it stands, row
    for where, row in rows.items():
        identity = row.utterance_id or _default_id(row, folder, alone=uses[row.audio] == 1)
        if identity in named:
            faults[where].append(f"utterance_id {identity!r} was given in {named[identity][0]}")
        else:
            named[identity] = where, dataclasses.replace(row, utterance_id=identity)
    parents = {identity: row.parent for identity, (_, row) in named.items()}
    kept = []
    for identity, (where, row) in named.items():
        try:
            original = _original(identity, parents)
        except ValueError as error:
            faults[where].append(str(error))
        else:
            kept.append(dataclasses.replace(row, parent=original))
    return kept


def _original(identity: str, parents: Mapping[str, str | None]) -> str | None:
    """The utterance at the end of the chain of parents; None for one that is no copy.

    Raises:
        ValueError: the chain leads out of the table or has no end.
    """
    chain = {identity: None}  # a dictionary keeps the order
    last = identity
    while (parent := parents[last]) is not None:
        if parent not in parents:
            whose = "" if last == identity else f" of {last!r}"
            raise ValueError(f"parent {parent!r}{whose} is not an utterance of this table")
        if parent in chain:
            raise ValueError(f"parent has no original: {' → '.join((*chain, parent))}")
        chain[parent] = None
        last = parent
    return None if last == identity else last


def _default_id(row: Utterance, folder: str, *, alone: bool) -> str:
    path, _ = posixpath.splitext((row.audio or "").removeprefix(f"{folder.rstrip('/')}/"))
    return path if alone else f"{path}#{row.start or 0.0:.9g}"
