"""``python -m ser_models.corpora.synthetic NAME OUT``: generated signals in the layout of a real corpus.

It stands in where the recordings may not be copied: demonstrations, tests, dry runs on a cluster. The signals
come from ``speech.py``, the emotions from ``prosody.py``; here they are laid out as files. Each file depends
only on the seed, the form of the signal (rate, length) and its own name, so a smaller corpus is a subset of a
larger one, byte for byte. A marker file says that nobody spoke these recordings, and every manifest made from
them carries that on.
"""

import argparse
import dataclasses
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import soundfile

from ser_models import places
from ser_models.corpora import ravdess
from ser_models.corpora.command import ArgumentParser, run
from ser_models.corpora.marker import MARKER_NAME, Marker, read_marker, write_marker
from ser_models.corpora.parser import Counts
from ser_models.corpora.prosody import draw_delivery, draw_voice
from ser_models.corpora.speech import Syllable, random_generator, synthesise
from ser_models.errors import UserError

PROGRAM = "python -m ser_models.corpora.synthetic"
VERSION = 1
"""Grows whenever equal settings give other samples."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a synthetic corpus depends on."""

    speakers: int = 12
    """Number of speakers, half of them female where it is even."""
    utterances: int = 60
    """Utterances per speaker, spread evenly over the emotions."""
    emotions: tuple[str, ...] = ()
    """Canonical names; empty: all that the layout has."""
    seed: int = 0
    """Any integer; another seed gives other voices and another chance."""
    sample_rate: int = 16000
    """Hz."""
    seconds: float = 2.0
    """Length of an utterance at habitual rate."""

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        for field, lowest, highest in (("sample_rate", 4000, 96000), ("seconds", 0.3, 60.0)):
            if not lowest <= getattr(self, field) <= highest:
                raise UserError(f"{field} {getattr(self, field)} must lie between {lowest} and {highest}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Item:
    """One file to be generated.

    Attributes:
        path: below the root of the corpus.
        speaker: id, as the parser of the layout will read it.
        gender: ``female`` or ``male``.
        emotion: canonical name.
        intensity: ``normal`` or ``strong``.
        syllables: what is said.
    """

    path: str
    speaker: str
    gender: str
    emotion: str
    intensity: str
    syllables: tuple[Syllable, ...]


def generate(name: str, root: str, settings: Settings | None = None) -> Counts:
    """Write a synthetic corpus; files that are there already from the same settings are kept.

    Args:
        name: a layout, see `LAYOUTS`.
        root: folder to be created, local or remote.
        settings: by default 12 speakers with 60 utterances each.

    Returns:
        The counts of the corpus.

    Raises:
        UserError: the layout is unknown or cannot hold the settings, or the folder holds something else.
    """
    settings = settings or Settings()
    if name not in LAYOUTS:
        raise UserError(f"no synthetic layout {name!r}; known: {', '.join(LAYOUTS)}")
    items = LAYOUTS[name](settings)
    counts = Counts(
        total=len(items),
        columns={
            "emotion": dict(Counter(item.emotion for item in items)),
            "speaker": dict(Counter(item.speaker for item in items)),
        },
    )
    marker = Marker(
        name, VERSION, {**dataclasses.asdict(settings), "emotions": list(settings.emotions)}, counts
    )
    root = places.absolute(root)
    _claim(root, marker)
    for item in items:
        uri = places.join(root, item.path)
        if not places.exists(uri):
            places.write_bytes(uri, render(item, settings))
    return counts


def render(item: Item, settings: Settings) -> bytes:
    """The content of one file: 16-bit WAV, mono."""
    random = random_generator(settings.seed, "utterance", item.path)
    signal = synthesise(
        item.syllables,
        draw_voice(settings.seed, item.speaker, item.gender),
        draw_delivery(settings.seed, item.speaker, item.emotion, item.intensity, random),
        seconds=settings.seconds,
        sample_rate=settings.sample_rate,
        random=random,
    )
    buffer = io.BytesIO()
    soundfile.write(buffer, signal, settings.sample_rate, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


_RAVDESS_SYLLABLES: Mapping[str, tuple[Syllable, ...]] = {
    "01": (
        ("stop", "ɪ"),
        ("hiss", "a"),
        ("stop", "ɔ"),
        ("stop", "ɪ"),
        ("hum", "a"),
        ("hiss", "ʌ"),
        ("stop", "ɔ"),
    ),
    "02": (
        ("stop", "ɔ"),
        ("hiss", "a"),
        ("hiss", "ɪ"),
        ("stop", "ɪ"),
        ("hum", "a"),
        ("hiss", "ʌ"),
        ("stop", "ɔ"),
    ),
}


def _ravdess_items(settings: Settings) -> list[Item]:
    """RAVDESS's files: emotions in turn, so that any number of utterances is spread evenly over them."""
    codes = {emotion: code for code, emotion in ravdess.EMOTION_CODES.items()}
    emotions = settings.emotions or tuple(codes)
    if unknown := [emotion for emotion in emotions if emotion not in codes]:
        raise UserError(f"ravdess has no emotion {', '.join(map(repr, unknown))}; it has {', '.join(codes)}")
    takes = {emotion: list(ravdess.takes(emotion)) for emotion in emotions}
    turns = [
        (emotion, takes[emotion][turn])
        for turn in range(max(map(len, takes.values())))
        for emotion in takes
        if turn < len(takes[emotion])
    ]
    for field, given, highest in (
        ("speakers", settings.speakers, len(ravdess.SPEAKERS)),
        ("utterances", settings.utterances, len(turns)),
    ):
        if not 1 <= given <= highest:
            raise UserError(f"{field} {given} must lie between 1 and {highest} in the layout of ravdess")
    return [
        Item(
            path=f"Actor_{speaker}/{ravdess.utterance_id(codes[emotion], *take, speaker)}.wav",
            speaker=speaker,
            gender="male" if int(speaker) % 2 else "female",
            emotion=emotion,
            intensity=ravdess.INTENSITY_CODES[take[0]],
            syllables=_RAVDESS_SYLLABLES[take[1]],
        )
        for speaker in ravdess.SPEAKERS[: settings.speakers]
        for emotion, take in turns[: settings.utterances]
    ]


LAYOUTS: dict[str, Callable[[Settings], list[Item]]] = {
    "ravdess": _ravdess_items,
}
"""Corpora that can be imitated; a new one is a function from settings to items and one line here."""


def _claim(root: str, marker: Marker) -> None:
    """Put the marker into the folder, unless the folder belongs to something else."""
    try:
        present = read_marker(root)
        if present == marker:
            return
        if present:
            raise UserError(
                f"{root} holds a synthetic corpus with other settings; choose another folder or delete it"
            )
        if any(not name.startswith(".") for name in places.list_names(root)):
            raise UserError(f"{root} holds other files and no {MARKER_NAME}; choose an empty or new folder")
        write_marker(root, marker)
    except OSError as error:
        raise UserError(f"{root} cannot be used as a folder: {error.strerror or error}") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Generate a corpus as the arguments say."""
    arguments = vars(_arguments(argv))
    name, root = arguments.pop("name"), arguments.pop("out")
    emotions = tuple(part.strip() for part in arguments.pop("emotions").split(",") if part.strip())
    counts = generate(name, root, Settings(emotions=emotions, **arguments))
    speakers = len(counts.columns["speaker"])
    print(f"{counts.total} synthetic utterances of {speakers} speakers in the layout of {name}: {root}")
    return 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    default = Settings()
    parser = ArgumentParser(
        prog=PROGRAM,
        description="Generate a corpus of speech-like signals in the layout of a real corpus. Equal settings "
        "give equal files; an interrupted run continues.",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help=f"the layout: {', '.join(LAYOUTS)}")
    parser.add_argument("out", metavar="OUT", help="folder to be created: a local path or s3://bucket/prefix")
    parser.add_argument("--speakers", type=int, default=default.speakers, help="number of speakers")
    parser.add_argument("--utterances", type=int, default=default.utterances, help="utterances per speaker")
    parser.add_argument(
        "--emotions", default="", help="names with commas between them; empty: all of the layout"
    )
    parser.add_argument("--seed", type=int, default=default.seed, help="another seed gives other voices")
    parser.add_argument("--sample-rate", "--sample_rate", type=int, default=default.sample_rate, help="Hz")
    parser.add_argument(
        "--seconds", type=float, default=default.seconds, help="typical length of an utterance"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run(main, PROGRAM)
