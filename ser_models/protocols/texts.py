"""Transcripts that say the same thing: equal texts and nearly equal ones, among hundreds of thousands.

A model that reads words, or whose encoder was trained to recognise them, can remember a sentence of the training
part with its emotion. Whether two texts are the same is decided on their tokens alone; case, punctuation, stage
directions and the way in which an apostrophe is written do not count.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_models.protocols.near_sets import MAX_PAIRS, NearSets, find_near_sets

Rows = NDArray[np.int64]

MIN_WORDS = 4
"""Shorter texts ("Okay.", "I don't know.") are said everywhere: their recurrence is counted apart (our choice)."""

THRESHOLD = 0.9
"""Jaccard similarity from which two texts count as nearly equal (our choice).

Of ten different words one may be missing (9/10), but none replaced (9/11): that takes nineteen (18/20).
"""

_APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛ʼ′´`＇"))
_STAGE_DIRECTION = re.compile(r"\[[^\[\]]*\]")
# Thai, Lao, Burmese, Khmer, kana and Han: scripts that put no space between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")


class _Cleaner(dict[int, int | str | None]):
    """Table for ``str.translate``, filled as characters turn up."""

    def __missing__(self, code: int) -> int | str | None:
        category = unicodedata.category(chr(code))
        kept: int | str | None = " "
        if category[0] in "LMN":
            kept = code
        elif category == "Cf":  # soft hyphens, joiners, byte order marks: invisible
            kept = None
        self[code] = kept
        return kept


_CLEANER = _Cleaner()


def tokens(text: str) -> list[str]:
    """What counts of a text.

    Unicode NFKC and case folding; apostrophes of every shape vanish (``don't``, ``don’t`` and ``dont`` are one
    word); stage directions in square brackets vanish; any other mark separates. In scripts without spaces
    between words (Han, kana, Thai, Lao, Khmer, Burmese) each letter with its marks is a token.

    >>> tokens("[LAUGHTER] Don’t — you DARE!")
    ['dont', 'you', 'dare']
    >>> tokens("你好，world")
    ['你', '好', 'world']
    """
    folded = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()
    return _TOKEN.findall(_STAGE_DIRECTION.sub(" ", folded).translate(_CLEANER))


@dataclass(frozen=True)
class Matches:
    """What of one part's texts occurs in another part.

    Attributes:
        rows: [matches] rows of the first part, in their order, whose text of at least `MIN_WORDS` words occurs in
            the second part, equal or nearly so.
        partners: [matches] for each, a row of the second part that says it.
        near: [matches] bool: the second part says it only nearly.
        short: rows of the first part whose text is shorter and occurs, equal, in the second part.
    """

    rows: Rows
    partners: Rows
    near: NDArray[np.bool_]
    short: int


@dataclass(frozen=True)
class TextIndex:
    """The distinct texts of a corpus and which of them are nearly equal.

    Attributes:
        numbers: [rows] number of each row's text; rows that say the same share it; -1 where there is no text or
            nothing is left of it (``[LAUGHTER]``).
        words: [texts] tokens of each distinct text, repetitions included.
        near: which of the distinct texts are nearly equal: those of at least `MIN_WORDS` words each whose sets of
            tokens have a Jaccard similarity of at least the threshold.
    """

    numbers: Rows
    words: Rows
    near: NearSets

    def matches(self, first: Rows, second: Rows) -> Matches:
        """Texts of one part that occur in another.

        A row that is in both parts matches, if nothing else, itself.

        Args:
            first: [n] rows whose texts are looked for.
            second: [m] rows among which they are looked for.
        """
        equal = np.full(len(self.words), -1, dtype=np.int64)
        there = second[self.numbers[second] >= 0][::-1]  # reversed, so that the first row is written last
        equal[self.numbers[there]] = there
        partners = self.near.partners(equal >= 0)
        near = np.where(partners >= 0, equal[partners], -1)
        spoken = first[self.numbers[first] >= 0]
        text = self.numbers[spoken]
        long_enough = self.words[text] >= MIN_WORDS
        saying = np.where(equal[text] >= 0, equal[text], near[text])
        found = long_enough & (saying >= 0)
        return Matches(
            rows=spoken[found],
            partners=saying[found],
            near=equal[text[found]] < 0,
            short=int(np.count_nonzero(~long_enough & (equal[text] >= 0))),
        )


def index_texts(
    texts: Sequence[str | None], threshold: float = THRESHOLD, max_pairs: int = MAX_PAIRS
) -> TextIndex:
    """Number the distinct texts and find those that are nearly equal.

    Args:
        texts: [rows] transcripts; None where there is none.
        threshold: smallest Jaccard similarity of nearly equal texts, in (0, 1].
        max_pairs: as for `find_near_sets`.

    Raises:
        ValueError: the threshold is outside (0, 1].
    """
    if not 0.0 < threshold <= 1.0:
        raise ValueError(f"threshold must lie in (0, 1], got {threshold}")
    numbers = np.full(len(texts), -1, dtype=np.int64)
    as_written: dict[str | None, int] = {None: -1}
    as_said: dict[tuple[str, ...], int] = {(): -1}
    for row, text in enumerate(texts):
        if text not in as_written:
            assert text is not None
            as_written[text] = as_said.setdefault(tuple(tokens(text)), len(as_said) - 1)
        numbers[row] = as_written[text]
    del as_said[()]
    words = np.fromiter(map(len, as_said), dtype=np.int64, count=len(as_said))
    # Sets of no token stand for texts that are too short to be near any other.
    sets = [frozenset(text) if len(text) >= MIN_WORDS else frozenset() for text in as_said]
    return TextIndex(numbers, words, find_near_sets(sets, threshold, max_pairs))
