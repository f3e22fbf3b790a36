"""From a folder to a manifest that can be trusted: registry, media headers, comparison of counts, Parquet.

`parse_corpus` reports everything that it finds; `load_corpus` is the strict door that the rest of the project
uses: it refuses a corpus that disagrees with its published counts unless told to go on.
"""

import dataclasses
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet

from ser_models import places
from ser_models.corpora import ravdess
from ser_models.corpora.counts import count_table, differences, select
from ser_models.corpora.listing import Listing, list_files
from ser_models.corpora.marker import MARKER_NAME, find_marker
from ser_models.corpora.parser import Corpus, Counts, Problem, Selection
from ser_models.corpora.recordings import Recording, find_identical, read_headers
from ser_models.corpora.utterance import MANIFEST_SCHEMA, Utterance, build_table, shorten
from ser_models.errors import UserError

CORPORA: dict[str, Corpus] = {
    "ravdess": ravdess.CORPUS,
}
"""Every corpus that can be read; a new one is its own file and one line here."""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Everything known of a folder that holds a corpus.

    Attributes:
        name: of the corpus.
        root: absolute URI of the folder.
        table: the manifest.
        problems: files that are not in the manifest, or are in it without a duration because they cannot be
            read; sorted by URI. The manifest carries them too, see `problems_of`.
        notes: remarks for the reader (stereo files, sample rates, identical recordings).
        expected: the published counts, or those of a complete copy of a synthetic corpus.
        selections: parts whose counts are published too; none for a synthetic corpus.
        missing: ids of the official distribution that are not there, where its ids are known.
        synthetic: whether the recordings were generated.
    """

    name: str
    root: str
    table: pa.Table
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    expected: Counts
    selections: tuple[Selection, ...]
    missing: tuple[str, ...]
    synthetic: bool

    @property
    def found(self) -> Counts:
        """The manifest's own counts, by the columns that ``expected`` has."""
        return count_table(self.table, self.expected.columns)

    def found_in(self, selection: Selection) -> Counts:
        """The manifest's own counts of a selection."""
        return count_table(select(self.table, selection), selection.published.columns)

    @property
    def disagreement(self) -> str | None:
        """One line that says how the folder differs from the expected corpus; None where it does not."""
        parts = differences(self.found, self.expected)
        if self.missing:
            parts.append(f"missing utterances ({len(self.missing)}): {shorten(self.missing)}")
        for selection in self.selections:
            if different := differences(self.found_in(selection), selection.published):
                parts.append(f"{selection.title}: {', '.join(different)}")
        if self.problems:
            listed = shorten(f"{places.name(problem.uri)}: {problem.reason}" for problem in self.problems)
            parts.append(f"problems ({len(self.problems)}): {listed}")
        return "; ".join(parts) or None


def parse_corpus(name: str, root: str) -> Parsed:
    """Read a corpus and report all that is found, agreeing or not.

    Args:
        name: a registered corpus, see `CORPORA`.
        root: local folder or ``s3://`` prefix.

    Raises:
        UserError: the name is unknown, the folder is missing or holds nothing of this corpus.
    """
    corpus = _corpus(name)
    files = list_files(root)
    marker = find_marker(files, name)
    files = dataclasses.replace(files, paths=tuple(path for path in files.paths if path != MARKER_NAME))
    findings = corpus.parse(files)
    if not findings.rows:
        raise UserError(_nothing_found(corpus, files, findings.problems))
    media = {uri for row in findings.rows for uri in (row.audio, row.video) if uri}
    headers = read_headers(media)
    problems = sorted(
        findings.problems + [Problem(each.uri, each.fault) for each in headers.values() if each.fault]
    )
    rows = [_with_header(row, headers) for row in findings.rows]
    hidden = [f"{files.hidden} hidden files skipped (macOS ._ files and the like)"] if files.hidden else []
    table = build_table(
        rows,
        corpus=name,
        root=files.root,
        synthetic=marker is not None,
        problems=json.dumps([dataclasses.asdict(problem) for problem in problems]),
    )
    return Parsed(
        name=name,
        root=files.root,
        table=table,
        problems=tuple(problems),
        notes=(*findings.notes, *hidden, *_media_notes(rows, headers)),
        expected=marker.counts if marker else corpus.published,
        selections=() if marker else corpus.selections,
        missing=()
        if marker
        else tuple(sorted(corpus.utterances.difference(row.utterance_id for row in rows))),
        synthetic=marker is not None,
    )


def load_corpus(name: str, root: str, *, allow_partial: bool = False) -> pa.Table:
    """Read a corpus into a manifest, one row per utterance, sorted by utterance id.

    The table's schema metadata holds ``corpus``, ``root``, ``synthetic`` (``true`` or ``false``), the problems
    that `problems_of` returns and, for a corpus that is not whole, what `partial_corpus` says. An utterance
    whose media file cannot be read keeps its row, with a null duration.

    Args:
        name: a registered corpus, see `CORPORA`.
        root: local folder or ``s3://`` prefix.
        allow_partial: accept a folder that differs from the published corpus.

    Raises:
        UserError: the name is unknown, the folder is missing or holds nothing of this corpus, or the folder
            differs from the published corpus and ``allow_partial`` is false.
    """
    parsed = parse_corpus(name, root)
    if parsed.disagreement and not allow_partial:
        command = f"python -m ser_models.corpora {name} {shlex.quote(parsed.root)}"
        raise UserError(
            f"{name} at {parsed.root} is not the {'generated' if parsed.synthetic else 'published'} corpus: "
            f"{parsed.disagreement}. All of it: {command}; to go on with what is there: --allow-partial"
        )
    metadata = dict(parsed.table.schema.metadata or {})
    if parsed.disagreement:
        metadata[b"partial"] = parsed.disagreement.encode()
    return parsed.table.replace_schema_metadata(metadata)


def partial_corpus(table: pa.Table) -> str | None:
    """How a manifest's corpus differs from the published one, in one line; None where it is whole."""
    said = (table.schema.metadata or {}).get(b"partial")
    return said.decode() if said else None


def problems_of(table: pa.Table) -> list[Problem]:
    """The problems that were found when a manifest was made."""
    listed = json.loads((table.schema.metadata or {}).get(b"problems", b"[]"))
    return [Problem(entry["uri"], entry["reason"]) for entry in listed]


def save_manifest(table: pa.Table, uri: str) -> None:
    """Write a manifest as Parquet, at once or not at all."""
    places.write_table(uri, table)


def load_manifest(uri: str) -> pa.Table:
    """Read a manifest that `save_manifest` wrote.

    Raises:
        UserError: there is no such file, or it is not a manifest of this version.
    """
    try:
        table = places.read_table(uri)
    except FileNotFoundError:
        raise UserError(f"{uri}: no such manifest") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{uri} is not a Parquet file: {error}") from error
    if not table.schema.equals(MANIFEST_SCHEMA):
        missing = [name for name in MANIFEST_SCHEMA.names if name not in table.schema.names]
        wrong = f"without {shorten(missing)}" if missing else "with other columns or types"
        raise UserError(
            f"{uri} is not a manifest of this version: a table {wrong}; make it again from the corpus"
        )
    return table.cast(MANIFEST_SCHEMA.with_metadata(table.schema.metadata))


def _corpus(name: str) -> Corpus:
    if name not in CORPORA:
        raise UserError(f"unknown corpus {name!r}; known: {', '.join(CORPORA)}")
    return CORPORA[name]


def _nothing_found(corpus: Corpus, files: Listing, problems: Sequence[Problem]) -> str:
    message = f"no {corpus.name} recordings under {files.root}; looked for {corpus.looks_for}; found "
    if problems:
        message += shorten(f"{places.name(problem.uri)} ({problem.reason})" for problem in problems)
    else:
        message += shorten(files.paths) or "only hidden files"
    return message + (f"; the corpus is requested at {corpus.where}" if corpus.where else "")


def _with_header(row: Utterance, headers: Mapping[str, Recording]) -> Utterance:
    """Fill what the media file says: from the sound, else from the pictures."""
    header = headers.get(row.audio or row.video or "")
    if header is None or header.duration is None:
        return row
    start, end = (row.start, row.end) if row.audio else (row.video_start, row.video_end)
    return dataclasses.replace(
        row,
        duration=(header.duration if end is None else end) - (start or 0.0),
        sample_rate=header.sample_rate,
        channels=header.channels,
    )


def _media_notes(rows: Sequence[Utterance], headers: Mapping[str, Recording]) -> Iterator[str]:
    if rates := Counter(row.sample_rate for row in rows if row.sample_rate):
        yield "sample rates: " + ", ".join(f"{rate} Hz ({rates[rate]})" for rate in sorted(rates))
    for channels in sorted({row.channels for row in rows if row.channels and row.channels > 1}):
        names = sorted(row.utterance_id for row in rows if row.channels == channels)
        kind = "stereo" if channels == 2 else f"{channels} channels"
        yield f"{kind} ({len(names)}): {shorten(names, 5)}"
    for group in find_identical(headers[row.audio] for row in rows if row.audio):
        yield f"identical recordings: {' = '.join(places.name(uri) for uri in group)}"
