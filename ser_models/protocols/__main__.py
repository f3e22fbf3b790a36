"""``python -m ser_models.protocols``: list the protocols, or check a division of a corpus for leaks."""

import argparse
import io
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv
from rich.console import Console
from rich.table import Table

from ser_models import places
from ser_models.corpora import EMOTIONS, load_manifest
from ser_models.corpora.command import ArgumentParser, run
from ser_models.errors import UserError
from ser_models.models.labels import get_label_set, hard_targets, unmapped
from ser_models.protocols.folds import Fold, Rows, fold_table, make_folds
from ser_models.protocols.leaks import LEAKS, LeakReport, check_leaks, require_known
from ser_models.protocols.registry import ENDINGS, PROTOCOLS, get_protocol

PROGRAM = "python -m ser_models.protocols"
_FOLDS_SHOWN = 30
_PARTS = {"train": "train", "validation": "validation", "dev": "validation", "test": "test"}


def main(argv: Sequence[str] | None = None) -> int:
    """List protocols (0), or check one: 0 where every leak found is named, else 1."""
    arguments = _arguments(argv)
    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    if arguments.command == "list":
        console.print(_protocols())
        return 0
    manifests = [load_manifest(uri) for uri in arguments.manifests]
    for uri, table in zip(arguments.manifests, manifests, strict=True):
        if (table.schema.metadata or {}).get(b"synthetic") == b"true":
            console.print(f"SYNTHETIC: {uri} describes generated recordings")
    manifest = pa.concat_tables([table.replace_schema_metadata() for table in manifests])
    media = _media(arguments.media)
    if arguments.folds:
        named: tuple[str, ...] = ()
        title = f"division {arguments.folds}"
        folds, selection_on_test = _read_folds(arguments.folds, manifest), False
    else:
        folds, named, title, selection_on_test = _divide(arguments, manifest)
    report = check_leaks(
        manifest,
        folds,
        preset="",
        protocol=title,
        named=(*named, *arguments.leaks),
        media=media,
        selection_on_test=selection_on_test,
        reads_words=arguments.reads_words,
    )
    for line in _shown(report, folds, console):
        console.print(line)
    if arguments.output:
        places.write_table(arguments.output, fold_table(manifest, folds))
        console.print(f"folds: {arguments.output}")
    return 1 if report.unnamed else 0


def _divide(
    arguments: argparse.Namespace, manifest: pa.Table
) -> tuple[list[Fold], tuple[str, ...], str, bool]:
    """The folds of a named protocol, the leaks that it names, its title, and whether it selects on test."""
    protocol = get_protocol(arguments.protocol)
    corpora = set(manifest["corpus"].unique().to_pylist())
    if protocol.corpora and not corpora <= set(protocol.corpora):
        raise UserError(
            f"{protocol.name} divides {' and '.join(protocol.corpora)}, but the manifest holds "
            f"{', '.join(sorted(corpora))}"
        )
    emotions = manifest["emotion"].to_pylist()
    labels = get_label_set(protocol.label_set, emotions, EMOTIONS)
    targets = hard_targets(emotions, labels)
    scenarios = manifest["scenario"].to_pylist()
    fits = np.array([protocol.scenario in (None, scenarios[row]) for row in targets.rows], dtype=bool)
    rows = targets.rows[fits]
    if not len(rows):
        raise UserError(f"no utterance has one of the classes {', '.join(labels.classes)}")
    folds = make_folds(manifest, rows, targets.target[fits].argmax(1).tolist(), protocol, labels.classes)
    left_out = unmapped(emotions, labels)
    classes = ", ".join(labels.classes) + "".join(
        f"; {emotion} counted as {label}" for emotion, label in labels.merged.items()
    )
    title = f"{protocol.name}: {protocol.description}\n{len(rows)} utterances; classes: {classes}"
    if left_out:
        title += "\nwithout one of the classes: " + ", ".join(f"{name} {n}" for name, n in left_out.items())
    return folds, protocol.leaks, title, protocol.validation == "test"


def _media(uris: Sequence[str]) -> pa.Table | None:
    if not uris:
        return None
    try:
        return pa.concat_tables([places.read_table(uri) for uri in uris])
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise UserError(f"--media {', '.join(uris)} cannot be read: {error}") from error


def _read_folds(uri: str, manifest: pa.Table) -> list[Fold]:
    """A division of the user's own: columns ``utterance_id`` and ``part``, and ``fold`` where there are several.

    Raises:
        UserError: the file cannot be read, lacks a column, or names an unknown utterance or part.
    """
    try:
        content = places.read_bytes(uri)
        if uri.lower().endswith(".csv"):
            text = pa.csv.ConvertOptions(column_types={"utterance_id": pa.string(), "part": pa.string()})
            table = pa.csv.read_csv(io.BytesIO(content), convert_options=text)
        else:
            table = places.read_table(uri)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise UserError(f"--folds {uri} cannot be read: {error}") from error
    if lacking := {"utterance_id", "part"} - set(table.column_names):
        raise UserError(
            f"--folds {uri} has no column {', '.join(sorted(lacking))}; needed: utterance_id, part"
        )
    positions = {name: row for row, name in enumerate(manifest["utterance_id"].to_pylist())}
    if len(positions) < len(manifest):
        raise UserError("--folds needs one corpus: several manifests hold an utterance of the same id")
    fold_of = table["fold"].to_pylist() if "fold" in table.column_names else [0] * len(table)
    parts: dict[object, dict[str, list[int]]] = {}
    for name, part, fold in zip(
        table["utterance_id"].to_pylist(), table["part"].to_pylist(), fold_of, strict=True
    ):
        if part in (None, "unused"):
            continue
        if name not in positions:
            raise UserError(f"--folds {uri}: no utterance {name!r} in the manifest")
        if part not in _PARTS:
            raise UserError(f"--folds {uri}: part {part!r} of {name} is none of {', '.join(_PARTS)}, unused")
        parts.setdefault(fold, {}).setdefault(_PARTS[part], []).append(positions[name])

    def rows(found: dict[str, list[int]], name: str) -> Rows:
        return np.unique(np.array(found.get(name, []), dtype=np.int64))

    return [
        Fold(index, (), rows(found, "train"), rows(found, "validation"), rows(found, "test"))
        for index, found in enumerate(parts.values())
    ]


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
    table.add_row("CORPUS-to-CORPUS", "common4", "train on one corpus, test on another", "none")
    return table


def _shown(report: LeakReport, folds: Sequence[Fold], console: Console) -> list[object]:
    sizes = Table(title="folds")
    for column in ("fold", "held out", "training", "validation", "test", "dropped from training"):
        sizes.add_column(column, justify="left" if column == "held out" else "right")
    for fold in folds[:_FOLDS_SHOWN]:
        units = ", ".join(fold.test_units[:4]) + (" …" if len(fold.test_units) > 4 else "")
        counts = [str(len(part)) for part in (fold.train, fold.validation, fold.test)]
        sizes.add_row(str(fold.index), units, *counts, str(sum(fold.dropped.values())))
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
        help="a division of your own: CSV or Parquet with the columns utterance_id, part (train, validation or dev, "
        "test) and, where there are several, fold",
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
    return arguments


if __name__ == "__main__":
    run(main, PROGRAM)
