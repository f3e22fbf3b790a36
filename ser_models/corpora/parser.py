"""What a corpus must bring: the contract between one corpus's file and everything above it.

To add a corpus, write one file that defines a `Corpus` and add one line to the registry in ``manifest.py``.
The parser only has to understand names and labels: walking the folder, reading headers, spotting identical
recordings, checking ids and comparing the counts is done for all corpora in one place.
"""

import dataclasses
from collections.abc import Callable, Mapping

from ser_models.corpora.listing import Listing
from ser_models.corpora.utterance import Utterance


@dataclasses.dataclass(frozen=True)
class Counts:
    """How many utterances there are, in all and by the values of some columns.

    Attributes:
        total: number of utterances.
        columns: manifest column to value to number of utterances, values in the order of printing; two columns
            joined by ``/`` are crossed: ``split/emotion`` to ``train/angry`` to a number.
    """

    total: int
    columns: Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """A part of a corpus that papers use and whose counts are known, such as IEMOCAP's 5531 utterances.

    Attributes:
        title: for people.
        classes: canonical emotion to the class it is counted as; utterances of other emotions are left out.
        scenario: only utterances of this scenario, or None for all.
        published: the counts, ``emotion`` meaning the class.
    """

    title: str
    classes: Mapping[str, str]
    scenario: str | None = None
    published: Counts


@dataclasses.dataclass(frozen=True, order=True)
class Problem:
    """Something in the corpus that could not be used as it is.

    Attributes:
        uri: the file, or the file that holds the faulty line.
        reason: what is wrong, for a person.
    """

    uri: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a parser makes of a folder.

    Attributes:
        rows: one per utterance whose identity is certain; ``duration``, ``sample_rate`` and ``channels`` may
            be left None, they are filled from the media files.
        problems: what could not become a row (a name that does not follow the pattern, an unknown label, a
            second file with the same id); never dropped in silence.
        notes: remarks that do not make the corpus wrong, such as files of another kind that were left out.
    """

    rows: list[Utterance]
    problems: list[Problem]
    notes: list[str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corpus:
    """One corpus: its name, how to read it and how large it is known to be.

    Attributes:
        name: what users type.
        parse: from the files of a folder to rows, problems and notes. It may read files (labels, transcripts)
            through ``places``, but leaves the headers of media files alone.
        published: the counts of the official distribution.
        looks_for: the files that the parser takes, for the message when a folder holds none of them.
        selections: parts of the corpus whose counts are published too.
        utterances: the ids of the official distribution, where they follow from its design; so missing ones
            can be named.
        damaged: ids whose recording is damaged in the official distribution: remarked on, no problem.
        where: where the corpus is requested, for the message when it is not there.
    """

    name: str
    parse: Callable[[Listing], Findings]
    published: Counts
    looks_for: str
    selections: tuple[Selection, ...] = ()
    utterances: frozenset[str] = frozenset()
    damaged: frozenset[str] = frozenset()
    where: str = ""
