"""IEMOCAP's two kinds of text: the evaluation of a dialogue and its transcript, from lines to turns.

An evaluation file has a block for each turn, such as (``<TAB>`` is a tab)::

    [6.2901 - 8.2357]<TAB>Ses01F_impro01_F000<TAB>neu<TAB>[2.5000, 2.5000, 2.5000]
    C-E2:<TAB>Neutral;<TAB>()                       emotions that annotator E2 ticked, and a comment
    C-F1:<TAB>Neutral; Anger;<TAB>(curious)         emotions that actor F1 reports
    A-E3:<TAB>val 3; act 2; dom  2;<TAB>()          valence, activation, dominance
    A-F1:<TAB>val 3; act 2; dom  1;<TAB>()

The first line gives the time in seconds, the name, the emotion of the majority and the mean valence, activation
and dominance over the annotators. Faults are returned, with the number of their line, and never raised. What one
annotator's line says oddly changes neither the turn nor its emotion: it is left out and remarked on, unless it is the
last line of the file, which then is cut.
"""

import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from statistics import fmean

from ser_models.corpora.utterance import DIMENSIONS

EMOTION_CODES: Mapping[str, str | None] = {
    "ang": "angry",
    "hap": "happy",
    "sad": "sad",
    "neu": "neutral",
    "exc": "excited",
    "fru": "frustrated",
    "fea": "fearful",
    "sur": "surprised",
    "dis": "disgusted",
    "oth": "other",
    "xxx": None,
}
"""Code to canonical emotion; ``xxx``, no majority among the annotators, is an unknown emotion."""

VOTES = {
    "anger": "angry",
    "happiness": "happy",
    "sadness": "sad",
    "neutral": "neutral",
    "neutral state": "neutral",
    "excited": "excited",
    "frustration": "frustrated",
    "fear": "fearful",
    "surprise": "surprised",
    "disgust": "disgusted",
    "other": "other",
}
"""The annotators' words in lower case, to canonical emotions."""

RATED = dict(zip(("val", "act", "dom"), DIMENSIONS, strict=True))
"""The annotators' names of the dimensions."""

DIALOGUE_NAME = re.compile(r"Ses(?P<session>\d\d)(?P<recorded>[FM])_(?P<scene>impro\d\d|script\d\d_\d)[a-z]?")
TURN_NAME = re.compile(rf"(?P<dialogue>{DIALOGUE_NAME.pattern})_(?P<speaker>[FM])[\dX]+")

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_TURN = re.compile(r"\[([^\]]*)\]\s+(\S+)\s+(\S+)\s+(\[.*)")
_TIMES = re.compile(rf"\s*{_NUMBER}\s*-\s*{_NUMBER}\s*")
_AVERAGES = re.compile(rf"\[\s*{_NUMBER},\s*{_NUMBER},\s*{_NUMBER}\s*\]")
_ANNOTATION = re.compile(r"(?P<kind>[CA])-(?P<annotator>[EFM]\d+):(?P<said>[^(]*)(?P<comment>.*)")
_RATING = re.compile(rf"(\w+)\s*{_NUMBER}?")
_TRANSCRIPT = re.compile(r"(\S+)\s+\[[^\]]*\]\s*:(.*)")

_ROUNDING = 0.01
_SHOWN = 60

Report = Callable[[str], None]


@dataclasses.dataclass
class Turn:
    """One evaluated turn, as its block says.

    Attributes:
        name: such as ``Ses01F_impro01_F000``.
        emotion: canonical; None where no majority agreed or the code is unknown.
        times: start and end in seconds; None where they cannot be read.
        averages: the printed valence, arousal and dominance; empty where they cannot be read.
        votes: annotator to canonical emotions, without repetition.
        ratings: annotator to each line of ratings, which may lack dimensions.
    """

    name: str
    emotion: str | None
    times: tuple[float, float] | None
    averages: Mapping[str, float]
    votes: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    ratings: dict[str, list[dict[str, float]]] = dataclasses.field(default_factory=dict)

    def disagrees(self) -> bool:
        """Whether the printed averages differ from the means of the ratings, the actors' own left out."""
        means = mean_ratings(
            [line for by, lines in self.ratings.items() if not is_actor(by) for line in lines]
        )
        return any(abs(means[name] - self.averages.get(name, means[name])) > _ROUNDING for name in means)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What an evaluation file says.

    Attributes:
        turns: by name, in the order of the file.
        faults: what could not be used, each with the number of its line.
        remarks: parts of annotations that were left out, likewise.
    """

    turns: Mapping[str, Turn]
    faults: Sequence[str]
    remarks: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Transcript:
    """What a transcript says.

    Attributes:
        words: of each turn.
        surplus: number of lines that belong to no evaluated turn.
        faults: what could not be used, each with the number of its line.
    """

    words: Mapping[str, str]
    surplus: int
    faults: Sequence[str]


def read_evaluation(text: str, dialogue: str) -> Evaluation:
    """Read the text of the evaluation file of a dialogue."""
    turns: dict[str, Turn] = {}
    faults: list[str] = []
    remarks: list[str] = []
    current: Turn | None = None
    first_seen = False
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in lines:
        report = _reporter(faults, number)
        is_last = number == lines[-1][0]
        remark = report if is_last else _reporter(remarks, number)
        if line.startswith("%"):
            continue
        if line.startswith("["):
            # After a turn that cannot be identified this is None, and its annotations belong to nobody.
            current, first_seen = _read_turn(line, dialogue, report), True
            if current and turns.setdefault(current.name, current) is not current:
                report(f"duplicate of {current.name}: the first is taken")
        elif not (annotation := _ANNOTATION.fullmatch(line)):
            remark(f"not understood: {line[:_SHOWN]!r}")
        elif not first_seen:
            report("an annotation before the first turn")
        elif current:
            _annotate(current, annotation, remark)
            if is_last and not annotation["comment"].endswith(")"):
                report("the file ends in the middle of this line")
    if not first_seen:
        faults.append("no evaluated turns in it")
    return Evaluation(turns, faults, remarks)


def read_transcript(text: str, turns: Collection[str]) -> Transcript:
    """Read the text of the transcript of a dialogue, as far as it belongs to the named turns."""
    words: dict[str, str] = {}
    faults: list[str] = []
    surplus = 0
    for number, line in enumerate(map(str.strip, text.split("\n")), 1):
        report = _reporter(faults, number)
        spoken = _TRANSCRIPT.fullmatch(line)
        if spoken and spoken[1] in turns:
            said = spoken[2].strip()
            if words.setdefault(spoken[1], said) != said:
                report(f"other words of {spoken[1]} than above, which are taken")
        elif not spoken and line.startswith("Ses"):
            report(f"not of the form turn [start-end]: words: {line[:_SHOWN]!r}")
        elif line:
            surplus += 1
    return Transcript(words, surplus, faults)


def is_actor(annotator: str) -> bool:
    """Whether an annotator is one of the actors, who judge their own turns."""
    return annotator.startswith(("F", "M"))


def mean_ratings(ratings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each dimension over the ratings that have it.

    >>> mean_ratings([{"valence": 2.0, "arousal": 3.0}, {"valence": 3.0}])
    {'valence': 2.5, 'arousal': 3.0}
    """
    values = {name: [rating[name] for rating in ratings if name in rating] for name in DIMENSIONS}
    return {name: fmean(given) for name, given in values.items() if given}


def _reporter(faults: list[str], number: int) -> Report:
    return lambda reason: faults.append(f"line {number}: {reason}")


def _read_turn(line: str, dialogue: str, report: Report) -> Turn | None:
    """The first line of a block; None where it cannot be told which turn it is."""
    fields = _TURN.fullmatch(line)
    if not fields:
        report(f"not of the form [start - end] turn emotion [V, A, D]: {line[:_SHOWN]!r}")
        return None
    times, name, code, averages = fields.groups()
    parts = TURN_NAME.fullmatch(name)
    if not parts:
        report(f"{name!r} is not the name of a turn, such as Ses01F_impro01_F000")
        return None
    if parts["dialogue"] != dialogue:
        report(f"turn {name} in the evaluation of {dialogue}")
        return None
    if code not in EMOTION_CODES:
        report(f"unknown emotion code {code!r} of {name} (known: {', '.join(EMOTION_CODES)})")
    interval = _TIMES.fullmatch(times)
    start, end = (float(interval[1]), float(interval[2])) if interval else (0.0, 0.0)
    if not 0 <= start < end:
        report(f"[{times}] is not the time of {name}, a start and a later end in seconds")
    numbers = _AVERAGES.fullmatch(averages)
    if not numbers:
        report(f"{averages} is not the valence, activation and dominance of {name}")
    return Turn(
        name=name,
        emotion=EMOTION_CODES.get(code),
        times=(start, end) if 0 <= start < end else None,
        averages=dict(zip(DIMENSIONS, map(float, numbers.groups()), strict=True)) if numbers else {},
    )


def _annotate(turn: Turn, annotation: re.Match[str], report: Report) -> None:
    """Add what a line says; an annotator with several lines in a block said all of them."""
    annotator = annotation["annotator"]
    said = [part.strip() for part in annotation["said"].split(";") if part.strip()]
    if annotation["kind"] == "C":
        for word in said:
            emotion = VOTES.get(word.lower())
            if emotion is None:
                report(f"unknown vote {word!r} of {annotator} (known: {', '.join(VOTES)})")
            elif emotion not in (ticked := turn.votes.setdefault(annotator, [])):
                ticked.append(emotion)
        return
    values = {}
    for part in said:
        rating = _RATING.fullmatch(part)
        if not rating or rating[1] not in RATED:
            report(f"unknown rating {part!r} of {annotator} (known: {', '.join(RATED)}, each with a number)")
        elif rating[2]:
            values[RATED[rating[1]]] = float(rating[2])
    if values:
        turn.ratings.setdefault(annotator, []).append(values)
