"""From a folder or a table to a manifest that can be trusted: registry, media headers, counts, Parquet.

`parse_corpus` reports everything that it finds; `load_corpus` is the strict door that the rest of the project
uses: it refuses a corpus that disagrees with its published counts, or a table of one's own with faulty rows,
unless told to go on.
"""

import dataclasses
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet

from ser_models import places
from ser_models.corpora import casia, emodb, emovo, iemocap, meld, own, ravdess, savee
from ser_models.corpora.counts import count_table, differences, select
from ser_models.corpora.listing import Listing, list_files
from ser_models.corpora.marker import MARKER_NAME, find_marker
from ser_models.corpora.parser import Corpus, Counts, Findings, Problem, Selection
from ser_models.corpora.recordings import Recording, find_identical, read_headers
from ser_models.corpora.utterance import MANIFEST_SCHEMA, Utterance, build_table, shorten
from ser_models.errors import UserError

CORPORA: dict[str, Corpus] = {
    "iemocap": iemocap.CORPUS,
    "meld": meld.CORPUS,
    "ravdess": ravdess.CORPUS,
    "emodb": emodb.CORPUS,
    "savee": savee.CORPUS,
    "casia": casia.CORPUS,
    "emovo": emovo.CORPUS,
}
"""Every corpus that can be read from its folder; a new one is its own file and one line here."""

_OWN_COLUMNS = ("emotion", "speaker", "split")
_MADE_BY = "a manifest is made by: python -m ser_models.corpora NAME ROOT --output m.parquet"
_END_TOLERANCE = 0.1  # seconds by which an annotated end may exceed the recording, as in decoding


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Everything known of a folder, or a table of one's own, that holds a corpus.

    Attributes:
        name: of the corpus.
        root: absolute URI of the folder.
        table: the manifest.
        problems: files that are not in the manifest, or are in it without a duration because they cannot be
            read; sorted by URI. The manifest carries them too, see `problems_of`.
        notes: remarks for the reader (stereo files, sample rates, identical recordings).
        expected: the published counts, or those of a complete copy of a synthetic corpus; None for a corpus
            of one's own.
        selections: parts whose counts are published too; none for a synthetic corpus.
        missing: ids of the official distribution that are not there, where its ids are known.
        synthetic: whether the recordings were generated.
    """

    name: str
    root: str
    table: pa.Table
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    expected: Counts | None
    selections: tuple[Selection, ...]
    missing: tuple[str, ...]
    synthetic: bool

    @property
    def found(self) -> Counts:
        """The manifest's own counts, by the columns that ``expected`` has; else emotion, speaker and split."""
        if self.expected:
            return count_table(self.table, self.expected.columns)
        return count_table(
            self.table, [name for name in _OWN_COLUMNS if self.table[name].null_count < len(self.table)]
        )

    def found_in(self, selection: Selection) -> Counts:
        """The manifest's own counts of a selection."""
        return count_table(select(self.table, selection), selection.published.columns)

    @property
    def disagreement(self) -> str | None:
        """One line that says how the folder differs from the expected corpus; None where it does not."""
        parts = differences(self.found, self.expected) if self.expected else []
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
        name: a registered corpus, see `CORPORA`; or the name of a corpus of one's own.
        root: local folder or ``s3://`` prefix; or a table of utterances (``.csv``, ``.tsv``, ``.parquet``), see
            `ser_models.corpora.own`.

    Raises:
        UserError: the name is unknown, the folder is missing or holds nothing of this corpus, or the table
            cannot be read.
    """
    return _parse_table(name, root) if own.is_table(root) else _parse_folder(name, root)


def load_corpus(name: str, root: str, *, allow_partial: bool = False) -> pa.Table:
    """Read a corpus into a manifest, one row per utterance, sorted by utterance id.

    The table's schema metadata holds ``corpus``, ``root``, ``synthetic`` (``true`` or ``false``), the problems
    that `problems_of` returns and, for a corpus that is not whole, what `partial_corpus` says. An utterance
    whose media file cannot be read keeps its row, with a null duration.

    Args:
        name: as for `parse_corpus`.
        root: as for `parse_corpus`.
        allow_partial: accept a folder that differs from the published corpus, a table with faulty rows.

    Raises:
        UserError: as `parse_corpus`; or the folder differs from the published corpus, or rows or recordings
            of the table cannot be used, and ``allow_partial`` is false.
    """
    parsed = parse_corpus(name, root)
    if parsed.disagreement and not allow_partial:
        command = f"python -m ser_models.corpora {name} {shlex.quote(places.absolute(root))}"
        origin = "generated" if parsed.synthetic else "published"
        verdict = f"is not the {origin} corpus" if parsed.expected else "cannot all be used"
        raise UserError(
            f"{name} at {parsed.root} {verdict}: {parsed.disagreement}. "
            f"All of it: {command}; to go on with what is there: --allow-partial"
        )
    return parsed.table


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
        raise UserError(f"{uri}: no such manifest; {_MADE_BY}") from None
    except IsADirectoryError:
        raise UserError(f"{uri} is a folder, not a manifest; {_MADE_BY}") from None
    except pa.ArrowInvalid as error:
        raise UserError(f"{uri} is not a Parquet file ({error}), so no manifest; {_MADE_BY}") from error
    if not table.schema.equals(MANIFEST_SCHEMA):
        missing = [name for name in MANIFEST_SCHEMA.names if name not in table.schema.names]
        wrong = f"without {shorten(missing)}" if missing else "with other columns or types"
        raise UserError(f"{uri} is not a manifest of this version: a table {wrong}; {_MADE_BY}")
    return table.cast(MANIFEST_SCHEMA.with_metadata(table.schema.metadata))


def _parse_folder(name: str, root: str) -> Parsed:
    corpus = _corpus(name)
    files = list_files(root)
    marker = find_marker(files, name)
    files = dataclasses.replace(files, paths=tuple(path for path in files.paths if path != MARKER_NAME))
    findings = corpus.parse(files)
    if not findings.rows:
        raise UserError(_nothing_found(corpus, files, findings.problems))
    if files.hidden:
        findings.notes.append(f"{files.hidden} hidden files skipped (macOS ._ files and the like)")
    if marker:
        return _parsed(name, files.root, findings, expected=marker.counts, synthetic=True)
    return _parsed(
        name,
        files.root,
        findings,
        expected=corpus.published,
        selections=corpus.selections,
        utterances=corpus.utterances,
        damaged=corpus.damaged,
    )


def _parse_table(name: str, table: str) -> Parsed:
    if name in CORPORA:
        raise UserError(
            f"{name} is a registered corpus, read from its folder; {table} is a table: give it its own name"
        )
    own.check_name(name)
    findings = own.parse(name, table)
    if not findings.rows:
        reasons = shorten(problem.reason for problem in findings.problems)
        raise UserError(f"no row of {places.absolute(table)} can be used: {reasons}")
    folder = own.folder_of(table)
    return _parsed(name, folder, findings, synthetic=own.is_synthetic(folder, findings))


def _parsed(
    name: str,
    root: str,
    findings: Findings,
    *,
    expected: Counts | None = None,
    selections: tuple[Selection, ...] = (),
    utterances: frozenset[str] = frozenset(),
    damaged: frozenset[str] = frozenset(),
    synthetic: bool = False,
) -> Parsed:
    """Complete what a parser found by what the media files themselves say."""
    headers = read_headers({uri for row in findings.rows for uri in (row.audio, row.video) if uri})
    excused = {uri for row in findings.rows if row.utterance_id in damaged for uri in (row.audio, row.video)}
    faulty = [Problem(each.uri, each.fault) for each in headers.values() if each.fault]
    problems = findings.problems + [fault for fault in faulty if fault.uri not in excused]
    known = [
        f"damaged, as in the official distribution: {places.name(fault.uri)} ({fault.reason})"
        for fault in faulty
        if fault.uri in excused
    ]
    rows = [_with_header(row, headers, problems) for row in findings.rows]
    problems.sort()
    table = build_table(
        rows,
        corpus=name,
        root=root,
        synthetic=synthetic,
        problems=json.dumps([dataclasses.asdict(problem) for problem in problems]),
    )
    parsed = Parsed(
        name=name,
        root=root,
        table=table,
        problems=tuple(problems),
        notes=(*findings.notes, *known, *_media_notes(rows, headers)),
        expected=expected,
        selections=selections,
        missing=tuple(sorted(utterances.difference(row.utterance_id for row in rows))),
        synthetic=synthetic,
    )
    if not parsed.disagreement:
        return parsed
    metadata = {**table.schema.metadata, b"partial": parsed.disagreement.encode()}
    return dataclasses.replace(parsed, table=table.replace_schema_metadata(metadata))


def _corpus(name: str) -> Corpus:
    if name not in CORPORA:
        raise UserError(
            f"unknown corpus {name!r}; known: {', '.join(CORPORA)}; a corpus of your own is given as a table of "
            "utterances (.csv, .tsv or .parquet)"
        )
    return CORPORA[name]


def _nothing_found(corpus: Corpus, files: Listing, problems: Sequence[Problem]) -> str:
    message = f"no {corpus.name} recordings under {files.root}; looked for {corpus.looks_for}; found "
    if problems:
        message += shorten(f"{places.name(problem.uri)} ({problem.reason})" for problem in problems)
    else:
        message += shorten(files.paths) or "only hidden files"
    return message + (f"; the corpus is requested at {corpus.where}" if corpus.where else "")


def _with_header(row: Utterance, headers: Mapping[str, Recording], problems: list[Problem]) -> Utterance:
    """Fill what the media file says: from the sound, else from the pictures.

    A part that lies outside its file is appended to ``problems`` and left without a duration.
    """
    header = headers.get(row.audio or row.video or "")
    if header is None or header.duration is None:
        return row
    start, end = (row.start, row.end) if row.audio else (row.video_start, row.video_end)
    duration: float | None = (header.duration if end is None else end) - (start or 0.0)
    if (start or 0.0) >= header.duration or (end or 0.0) > header.duration + _END_TOLERANCE:
        part = f"{start or 0.0:g} s to {'its end' if end is None else f'{end:g} s'}"
        problems.append(
            Problem(
                header.uri,
                f"{row.utterance_id}: the part from {part} lies outside the {header.duration:.3f} s of the file",
            )
        )
        duration = None
    return dataclasses.replace(
        row,
        duration=duration,
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
    for group in find_identical(headers[uri] for uri in sorted({row.audio for row in rows if row.audio})):
        yield f"identical recordings: {' = '.join(places.name(uri) for uri in group)}"
