"""``python -m ser_models.protocols``: list the protocols, or check a division of a corpus for leaks."""

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from ser_models import places
from ser_models.corpora import EMOTIONS, load_manifest, partial_corpus
from ser_models.corpora.command import ArgumentParser, run
from ser_models.corpora.table_file import SUFFIXES, read_records
from ser_models.errors import UserError
from ser_models.models.labels import get_label_set, hard_targets, unmapped
from ser_models.protocols.folds import Fold, Rows, fold_table, make_folds, missing_classes, one_class_speakers
from ser_models.protocols.leaks import LEAKS, LeakReport, check_leaks, require_known
from ser_models.protocols.registry import ENDINGS, PROTOCOLS, Protocol, get_protocol, require_corpus

PROGRAM = "python -m ser_models.protocols"
_FOLDS_SHOWN = 30
_PARTS = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}


def main(argv: Sequence[str] | None = None) -> int:
    """List protocols (0), or check one: 0 where every leak found is named, else 1."""
    arguments = _arguments(argv)
    # Transcripts and specs hold brackets and colons, which are no markup.
    width = None if sys.stdout.isatty() else 140
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    if arguments.command == "list":
        console.print(_protocols())
        return 0
    manifests = [load_manifest(uri) for uri in arguments.manifests]
    for uri, table in zip(arguments.manifests, manifests, strict=True):
        if (table.schema.metadata or {}).get(b"synthetic") == b"true":
            console.print(f"SYNTHETIC: {uri} describes generated recordings")
        if difference := partial_corpus(table):
            console.print(f"not the whole corpus: {uri}: {difference}")
    manifest = pa.concat_tables([table.replace_schema_metadata() for table in manifests])
    media = _media(arguments.media, manifests)
    leaks: tuple[str, ...] = tuple(arguments.leaks)
    if arguments.folds:
        title = f"division {arguments.folds}"
        named_folds = _read_folds(arguments.folds, manifest)
        folds = list(named_folds.values())
    else:
        protocol = get_protocol(arguments.protocol)
        leaks += protocol.leaks
        folds, title = _divide(protocol, manifest)
        named_folds = {str(fold.index): fold for fold in folds}
    report = check_leaks(
        manifest,
        folds,
        preset="",
        protocol=title,
        named=leaks,
        media=media,
        reads_words=arguments.reads_words,
    )
    for line in _shown(report, named_folds):
        console.print(line)
    if arguments.output:
        places.write_table(arguments.output, fold_table(manifest, folds))
        console.print(f"folds: {arguments.output}")
    return 1 if report.unnamed else 0


def _divide(protocol: Protocol, manifest: pa.Table) -> tuple[list[Fold], str]:
    """The folds of a named protocol, and its title."""
    require_corpus(protocol, manifest["corpus"].unique().to_pylist())
    emotions = manifest["emotion"].to_pylist()
    labels = get_label_set(protocol.label_set, emotions, EMOTIONS)
    targets = hard_targets(emotions, labels)
    scenarios = manifest["scenario"].to_pylist()
    fits = np.array([protocol.scenario in (None, scenarios[row]) for row in targets.rows], dtype=bool)
    rows = targets.rows[fits]
    if not len(rows):
        limit = ""
        if protocol.scenario:
            limit = (
                f" in {protocol.scenario} speech, to which {protocol.name} is limited; {len(fits)} utterances "
                "have one in another scenario or an unknown one"
            )
        raise UserError(f"no utterance has one of the classes {', '.join(labels.classes)}{limit}")
    folds = make_folds(manifest, rows, targets.target[fits].argmax(1).tolist(), protocol, labels.classes)
    left_out = unmapped(emotions, labels)
    classes = ", ".join(labels.classes) + "".join(
        f"; {emotion} counted as {label}" for emotion, label in labels.merged.items()
    )
    title = f"{protocol.name}: {protocol.description}\n{len(rows)} utterances; classes: {classes}"
    if left_out:
        title += "\nwithout one of the classes: " + ", ".join(f"{name} {n}" for name, n in left_out.items())
    return folds, title


def _media(uris: Sequence[str], manifests: Sequence[pa.Table]) -> pa.Table | None:
    """What decoding found, one file per manifest in the same order, so that equal ids of two corpora stay apart."""
    if not uris:
        return None
    if len(uris) != len(manifests):
        raise UserError(
            f"--media needs one file per manifest, in the same order: {len(manifests)}, not {len(uris)}"
        )
    try:
        tables = [places.read_table(uri) for uri in uris]
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"--media {', '.join(uris)} cannot be read: {error}") from error
    return pa.concat_tables(
        table.append_column("corpus", pa.array([manifest["corpus"][0].as_py()] * len(table), pa.string()))
        for table, manifest in zip(tables, manifests, strict=True)
    )


def _read_folds(uri: str, manifest: pa.Table) -> dict[str, Fold]:
    """A division of the user's own: columns ``utterance_id`` and ``part``, and ``fold`` where there are several.

    Returns:
        The folds under their names, in the order in which the file names them.

    Raises:
        UserError: the file cannot be read, lacks a column, or names an unknown utterance or part; or a fold trains
            on nothing or tests nothing.
    """
    if not uri.lower().endswith(SUFFIXES):
        raise UserError(f"--folds {uri}: give a table, whose name ends in {', '.join(SUFFIXES)}")
    try:
        columns, records = read_records(uri)
    except UserError as error:
        raise UserError(f"--folds {error}") from None
    if lacking := {"utterance_id", "part"} - set(columns):
        raise UserError(
            f"--folds {uri} has no column {', '.join(sorted(lacking))}; needed: utterance_id, part"
        )
    positions = {name: row for row, name in enumerate(manifest["utterance_id"].to_pylist())}
    if len(positions) < len(manifest):
        raise UserError("--folds needs one corpus: several manifests hold an utterance of the same id")
    parts: dict[str, dict[str, list[int]]] = {}
    for where, cells in records:
        if isinstance(cells, str):
            raise UserError(f"--folds {uri}, {where}: {cells}")
        name, part = cells["utterance_id"], cells["part"]
        found = parts.setdefault(cells.get("fold", "0"), {"train": [], "validation": [], "test": []})
        if part in ("", "unused"):
            continue
        if name not in positions:
            raise UserError(f"--folds {uri}, {where}: no utterance {name!r} in the manifest")
        if part not in _PARTS:
            raise UserError(
                f"--folds {uri}, {where}: part {part!r} of {name} is none of {', '.join(_PARTS)}, unused"
            )
        found[_PARTS[part]].append(positions[name])
    if not parts:
        raise UserError(f"--folds {uri} has no row below its column names")
    for fold, found in parts.items():
        if empty := [part for part in ("train", "test") if not found[part]]:
            raise UserError(
                f"--folds {uri}: fold {fold} has no utterance in its part {' and '.join(empty)}; a fold needs both "
                "train and test"
            )
    folds = {}
    for index, (fold, found) in enumerate(parts.items()):
        train, validation, test = (np.unique(np.array(rows, dtype=np.int64)) for rows in found.values())
        folds[fold] = Fold(index, (), train, validation, test)
    return _with_remarks(folds, manifest)


def _with_remarks(folds: dict[str, Fold], manifest: pa.Table) -> dict[str, Fold]:
    """Say what a division of the user's own lacks, and what it selects on."""
    emotions = manifest["emotion"].to_pylist()
    taking_part = {
        name: np.unique(np.concatenate([fold.train, fold.validation, fold.test]))
        for name, fold in folds.items()
    }
    used = np.unique(np.concatenate(list(taking_part.values())))
    there = {emotions[row] for row in used}
    classes = [emotion for emotion in EMOTIONS if emotion in there]
    labels: Rows = np.array(
        [classes.index(each) if each in classes else -1 for each in emotions], dtype=np.int64
    )
    labelled = used[labels[used] >= 0]
    general = one_class_speakers(manifest.take(pa.array(labelled)), labels[labelled], classes)
    remarked = {}
    for name, fold in folds.items():
        remarks = missing_classes(fold.train, fold.validation, fold.test, labels, classes)
        if shared := len(np.intersect1d(fold.validation, fold.test)):
            remarks.append(f"{shared} of {len(fold.test)} test utterances are in the validation part too")
        if unused := len(manifest) - len(taking_part[name]):
            remarks.append(f"{unused} of {len(manifest)} utterances of the manifest are in no part")
        warnings = (*(f"fold {name}: {remark}" for remark in remarks), *general)
        remarked[name] = replace(fold, warnings=warnings)
    return remarked


def _protocols() -> Table:
    table = Table(
        title="protocols", caption="endings: " + "; ".join(f"-{e}: {m}" for e, (m, _) in ENDINGS.items())
    )
    for column in ("name", "classes", "what it does", "leaks it names"):
        table.add_column(column, overflow="fold")
    for protocol in PROTOCOLS.values():
        table.add_row(
            protocol.name, protocol.label_set, protocol.description, ", ".join(protocol.leaks) or "none"
        )
    table.add_row(
        "CORPUS-to-CORPUS",
        "common4",
        "train on one corpus, test on another; train.py cannot run it yet: it reads one corpus",
        "none",
    )
    return table


def _shown(report: LeakReport, folds: Mapping[str, Fold]) -> list[object]:
    sizes = Table(title="folds")
    for column in ("fold", "held out", "training", "validation", "test", "dropped from training"):
        sizes.add_column(column, justify="left" if column == "held out" else "right")
    for name, fold in list(folds.items())[:_FOLDS_SHOWN]:
        units = ", ".join(fold.test_units[:4]) + (" …" if len(fold.test_units) > 4 else "")
        counts = [str(len(part)) for part in (fold.train, fold.validation, fold.test)]
        sizes.add_row(name, units, *counts, str(sum(fold.dropped.values())))
    if len(folds) > _FOLDS_SHOWN:
        sizes.caption = f"and {len(folds) - _FOLDS_SHOWN} more"
    lines: list[object] = [report.protocol, sizes]
    if report.findings:
        leaks = Table(title="leaks")
        for column in ("leak", "shared", "folds", "test utterances", "named", "examples"):
            leaks.add_column(column, overflow="fold")
        for finding in report.findings:
            where = "\n".join(f"{parts}: {count}" for parts, count in finding.parts.items())
            touched = f"{finding.tested} ({finding.share:.1%})"
            named = "yes" if finding.allowed else "NO"
            leaks.add_row(
                finding.leak, where, str(finding.folds), touched, named, "\n".join(finding.examples)
            )
        lines.append(leaks)
    lines += [f"note: {note}" for note in report.notes]
    unnamed = Counter(finding.leak for finding in report.unnamed)
    verdict = "no leak" if not report.findings else "every leak found is named by the protocol"
    if unnamed:
        verdict = f"NOT named by the protocol: {'; '.join(f'{leak} ({LEAKS[leak]})' for leak in unnamed)}"
    return [*lines, verdict]


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="List the protocols, or divide a corpus by one and check what its parts share.",
        epilog="Exit status: 0 no leak, or all are named; 1 a leak that is not named; 2 the command is wrong.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", parser_class=ArgumentParser
    )
    commands.add_parser("list", help="every protocol with its classes and the leaks that it names")
    check = commands.add_parser("check", help="divide and compare the parts", allow_abbrev=False)
    check.add_argument(
        "manifests",
        nargs="+",
        metavar="MANIFEST",
        help="Parquet file of python -m ser_models.corpora … --output; two for CORPUS-to-CORPUS",
    )
    division = check.add_mutually_exclusive_group(required=True)
    division.add_argument("--protocol", metavar="NAME", help="a protocol, see the command list")
    division.add_argument(
        "--folds",
        metavar="FILE",
        help="a division of your own: a table (.csv, .tsv, .parquet) with the columns utterance_id, part (train, "
        "validation or dev, test) and, where there are several, fold; an utterance of two parts has two rows",
    )
    check.add_argument(
        "--media",
        nargs="+",
        default=[],
        metavar="PARQUET",
        help="_media.parquet of preprocessed shards; without it audio is not compared",
    )
    check.add_argument(
        "--reads-words",
        "--reads_words",
        action="store_true",
        help="the system reads transcripts, or audio through an encoder trained to recognise speech",
    )
    check.add_argument(
        "--leaks", nargs="+", default=[], metavar="LEAK", help=f"accept these too: {', '.join(LEAKS)}"
    )
    check.add_argument("--output", metavar="URI", help="write the folds to this Parquet file")
    arguments = parser.parse_args(argv)
    if arguments.command == "check":
        require_known(arguments.leaks)
        if arguments.protocol:
            get_protocol(arguments.protocol)
    return arguments


if __name__ == "__main__":
    run(main, PROGRAM)
