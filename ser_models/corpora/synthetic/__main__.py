"""The command ``python -m ser_models.corpora.synthetic NAME OUT``."""

import argparse
import dataclasses
from collections.abc import Sequence

from ser_models.corpora.command import ArgumentParser, run
from ser_models.corpora.synthetic.generate import LAYOUTS, generate, layout_of

PROGRAM = "python -m ser_models.corpora.synthetic"


def main(argv: Sequence[str] | None = None) -> int:
    """Generate a corpus as the arguments say."""
    given = vars(_arguments(argv))
    name, root = given.pop("name"), given.pop("out")
    if "emotions" in given:
        given["emotions"] = tuple(part.strip() for part in given["emotions"].split(",") if part.strip())
    counts = generate(name, root, dataclasses.replace(layout_of(name).defaults, **given))
    speakers = len(counts.columns["speaker"])
    print(f"{counts.total} synthetic utterances of {speakers} speakers in the layout of {name}: {root}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Generate a corpus of speech-like signals, and for some corpora talking faces and texts,\n"
        "in the layout of a real corpus. Equal settings give equal files; an interrupted run continues.",
        epilog="Without further arguments:\n" + "\n".join(_default_lines()),
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("name", metavar="NAME", help=f"the layout: {', '.join(LAYOUTS)}")
    parser.add_argument("out", metavar="OUT", help="folder to be created: a local path or s3://bucket/prefix")
    parser.add_argument("--speakers", type=int, help="number of speakers; iemocap: two per session")
    parser.add_argument("--utterances", type=int, help="utterances per speaker; meld: on average")
    parser.add_argument("--emotions", help="names with commas between them; by default all of the layout")
    parser.add_argument("--seed", type=int, help="another seed gives other voices; by default 0")
    parser.add_argument("--sample-rate", "--sample_rate", type=int, help="Hz; by default 16000")
    parser.add_argument("--seconds", type=float, help="typical length of an utterance")
    parser.add_argument(
        "--video", action=argparse.BooleanOptionalAction, help="whether to draw talking faces"
    )
    return parser.parse_args(argv)


def _default_lines() -> list[str]:
    pictures = {True: "with faces", False: "faces on request", None: "sound only"}
    return [
        f"  {name:<8} {layout.defaults.speakers:>2} speakers, {layout.defaults.utterances} utterances each, "
        f"{layout.defaults.seconds:g} s, {pictures[layout.video]}"
        for name, layout in LAYOUTS.items()
    ]


if __name__ == "__main__":
    run(main, PROGRAM)
