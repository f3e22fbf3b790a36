"""``python -m ser_models.corpora NAME ROOT``: count a corpus and compare it with the published one.

``ROOT`` may also be a table of one's own utterances; then there is nothing to compare with.
"""

import argparse
from collections.abc import Iterator, Sequence

from ser_models.corpora import CORPORA, parse_corpus, save_manifest
from ser_models.corpora.command import ArgumentParser, run
from ser_models.corpora.counts import format_counts
from ser_models.corpora.manifest import Parsed
from ser_models.corpora.parser import Counts
from ser_models.corpora.utterance import shorten

PROGRAM = "python -m ser_models.corpora"
_PROBLEMS_SHOWN = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Print the count table of a corpus; 0 where it agrees or may differ, else 1."""
    arguments = _arguments(argv)
    parsed = parse_corpus(arguments.name, arguments.root)
    print("\n".join(describe(parsed)))
    accepted = arguments.allow_partial or not parsed.disagreement
    if accepted and arguments.output:
        save_manifest(parsed.table, arguments.output)
        print(f"\nmanifest: {arguments.output}")
    elif arguments.output:
        print("\nno manifest written: accept the differences with --allow-partial")
    return 0 if accepted else 1


def describe(parsed: Parsed) -> list[str]:
    """The lines that the command prints."""
    origin = "generated" if parsed.synthetic else "published"
    title = f"{parsed.name} at {parsed.root}" + (
        " (synthetic: generated signals)" if parsed.synthetic else ""
    )
    if parsed.expected:
        lines = [title, "", *format_counts(parsed.found, parsed.expected, origin)]
        agreement, disagreement = f"agrees with the {origin} counts", "differs"
    else:
        lines = [title, "", *_format_found(parsed.found)]
        agreement, disagreement = "every row can be used", "not every row can be used"
    for selection in parsed.selections:
        lines += ["", f"{selection.title}"]
        lines += format_counts(parsed.found_in(selection), selection.published, origin)
    if parsed.missing:
        lines += ["", f"missing utterances ({len(parsed.missing)})"]
        lines += [f"  {shorten(parsed.missing, _PROBLEMS_SHOWN)}"]
    if parsed.notes:
        lines += ["", "notes", *(f"  {note}" for note in parsed.notes)]
    if parsed.problems:
        lines += ["", f"problems ({len(parsed.problems)})"]
        lines += [f"  {problem.uri}: {problem.reason}" for problem in parsed.problems[:_PROBLEMS_SHOWN]]
        if (hidden := len(parsed.problems) - _PROBLEMS_SHOWN) > 0:
            lines.append(f"  and {hidden} more; the manifest written by --output keeps them all")
    return [*lines, "", f"{disagreement}: {parsed.disagreement}" if parsed.disagreement else agreement]


def _format_found(found: Counts) -> Iterator[str]:
    """Counts with which nothing can be compared, as aligned lines."""
    width = max(
        map(len, ["total", *found.columns, *(each for values in found.columns.values() for each in values)])
    )
    for column, values in found.columns.items():
        yield f"{column:<{width}}  {'found':>9}"
        yield from (f"{value:<{width}}  {count:>9}" for value, count in values.items())
        yield ""
    yield f"{'total':<{width}}  {found.total:>9}"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Count the utterances of a corpus by class and speaker beside the published counts, and "
        "list the files that are missing, damaged or cannot be identified.",
        epilog="Exit status: 0 the corpus agrees (or --allow-partial was given); 1 it differs; "
        "2 no such folder or table, or nothing of this corpus in it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "name", metavar="NAME", help=f"the corpus: {', '.join(CORPORA)}; or a name for a corpus of your own"
    )
    parser.add_argument(
        "root",
        metavar="ROOT",
        help="its folder: a local path or s3://bucket/prefix; of a corpus of your own a table (.csv, .tsv, "
        ".parquet) with the columns audio, emotion and speaker",
    )
    parser.add_argument(
        "--allow-partial", "--allow_partial", action="store_true", help="accept a corpus that differs"
    )
    parser.add_argument("--output", metavar="URI", help="write the manifest to this Parquet file")
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main, PROGRAM)
