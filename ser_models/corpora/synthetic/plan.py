"""What a layout makes of the settings: the utterances that its parser should read, and the files to write."""

import dataclasses
from collections.abc import Callable, Collection

from ser_models.corpora.counts import count_table
from ser_models.corpora.parser import Counts
from ser_models.corpora.utterance import Utterance, build_table
from ser_models.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that a synthetic corpus depends on."""

    speakers: int = 12
    """Number of speakers, half of them female where it is even and the corpus has both."""
    utterances: int = 60
    """Utterances per speaker; in meld on average."""
    emotions: tuple[str, ...] = ()
    """Canonical names; empty: all that the layout has."""
    seed: int = 0
    """Any integer; another seed gives other voices and another chance."""
    sample_rate: int = 16000
    """Hz."""
    seconds: float = 2.0
    """Length of an utterance at habitual rate."""
    video: bool | None = None
    """Whether to draw talking faces; None: as the layout says, which is yes in iemocap and meld."""

    def __post_init__(self) -> None:
        """Refuse what cannot be generated."""
        for field, lowest, highest in (("sample_rate", 4000, 96000), ("seconds", 0.3, 60.0)):
            if not lowest <= getattr(self, field) <= highest:
                raise UserError(f"{field} {getattr(self, field)} must lie between {lowest} and {highest}")


@dataclasses.dataclass(frozen=True)
class File:
    """One file to be generated.

    Attributes:
        path: below the root of the corpus.
        render: makes its content, which depends on nothing but the settings and the path.
    """

    path: str
    render: Callable[[], bytes]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A synthetic corpus before its files are made.

    Attributes:
        rows: the utterances as the parser should read them; what only the files tell (URIs, durations,
            sample rates, channels) is left out.
        files: in the order of writing.
        counted: columns by which the marker counts the utterances; ``a/b`` crosses two.
    """

    rows: tuple[Utterance, ...]
    files: tuple[File, ...]
    counted: tuple[str, ...] = ("emotion", "speaker")

    @property
    def counts(self) -> Counts:
        """How many utterances there are, in all and by the values of some columns."""
        return count_table(build_table(self.rows, corpus=self.rows[0].corpus, root=""), self.counted)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """A corpus that can be imitated.

    Attributes:
        plan: from settings to what is to be written.
        defaults: settings for a corpus of some megabytes.
        video: whether pictures are drawn unless the settings say otherwise; None: the corpus has none.
    """

    plan: Callable[[Settings], Plan]
    defaults: Settings
    video: bool | None = None


def check_range(layout: str, field: str, given: int, lowest: int, highest: int) -> None:
    """Make sure that a layout can hold a number of speakers or utterances.

    Raises:
        UserError: it cannot; the message names the range.
    """
    if not lowest <= given <= highest:
        raise UserError(f"{field} {given} must lie between {lowest} and {highest} in the layout of {layout}")


def choose_emotions(layout: str, settings: Settings, known: Collection[str]) -> tuple[str, ...]:
    """The emotions of the settings, or all that the layout has.

    Raises:
        UserError: one of them is not among those of the layout, or is given twice.
    """
    if unknown := [emotion for emotion in settings.emotions if emotion not in known]:
        raise UserError(f"{layout} has no emotion {', '.join(map(repr, unknown))}; it has {', '.join(known)}")
    if len(set(settings.emotions)) < len(settings.emotions):
        raise UserError(f"emotions {', '.join(settings.emotions)}: each may be given once")
    return settings.emotions or tuple(known)
