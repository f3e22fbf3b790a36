"""Transcripts that say the same thing: equal texts and nearly equal ones, among hundreds of thousands.

A model that reads words, or whose encoder was trained to recognise them, can remember a sentence of the training
part with its emotion. Whether two texts are the same is decided on their tokens alone; case, punctuation, stage
directions and the way in which an apostrophe is written do not count.
"""

import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Rows = NDArray[np.int64]

MIN_WORDS = 4
"""Shorter texts ("Okay.", "I don't know.") are said everywhere: their recurrence is counted apart (our choice)."""

THRESHOLD = 0.9
"""Jaccard similarity from which two texts count as nearly equal: one word in ten may differ (our choice)."""

_APOSTROPHES = dict.fromkeys(map(ord, "'’‘‛ʼ′´`＇"))
_STAGE_DIRECTION = re.compile(r"\[[^\[\]]*\]")
# Thai, Lao, Burmese, Khmer, kana and Han: scripts that put no space between words.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_TOKEN = re.compile(rf"[{_UNSPACED}][^\w\s]*|[^\s{_UNSPACED}]+")
_ROUNDING = 1e-9  # far above the error of one division, far below the step between two ratios of token counts


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
        neighbours: [pairs, 2] distinct texts of at least `MIN_WORDS` words each whose sets of tokens have a Jaccard
            similarity of at least the threshold; the smaller number first, sorted.
    """

    numbers: Rows
    words: Rows
    neighbours: Rows

    def matches(self, first: Rows, second: Rows) -> Matches:
        """Texts of one part that occur in another.

        A row that is in both parts matches, if nothing else, itself.

        Args:
            first: [n] rows whose texts are looked for.
            second: [m] rows among which they are looked for.
        """
        equal = np.full(len(self.words), -1, dtype=np.int64)
        _say_who(equal, self.numbers[second], second)
        near = np.full(len(self.words), -1, dtype=np.int64)
        for text, other in (self.neighbours.T, self.neighbours.T[::-1]):
            _say_who(near, text, equal[other])
        spoken = first[self.numbers[first] >= 0]
        text = self.numbers[spoken]
        long_enough = self.words[text] >= MIN_WORDS
        partners = np.where(equal[text] >= 0, equal[text], near[text])
        found = long_enough & (partners >= 0)
        return Matches(
            rows=spoken[found],
            partners=partners[found],
            near=equal[text[found]] < 0,
            short=int(np.count_nonzero(~long_enough & (equal[text] >= 0))),
        )


def index_texts(texts: Sequence[str | None], threshold: float = THRESHOLD) -> TextIndex:
    """Number the distinct texts and find those that are nearly equal.

    The near ones are found exactly, without comparing all pairs. Sets x and y with a Jaccard similarity of at
    least t and |x| ≤ |y| differ in at most d = (1 − t)/t · |x| tokens. When the vocabulary is dealt into d + 1
    parts, x and y therefore agree completely in at least one part: only texts that share such a part are
    compared (the partition scheme of Arasu, Ganti and Kaushik, VLDB 2006, "Efficient exact set-similarity
    joins", section 4). A part of a long text holds many tokens, so texts that merely share common words never
    meet. Made for thresholds of 0.8 and above; below, parts become small and the search slow, never wrong.

    Args:
        texts: [rows] transcripts; None where there is none.
        threshold: smallest Jaccard similarity of nearly equal texts, in (0, 1].

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
    return TextIndex(numbers, words, _near_pairs(list(as_said), threshold))


def _say_who(who: Rows, texts: Rows, rows: Rows) -> None:
    """Write for each text the first of the rows that say it; -1 is no text or no row."""
    known = (texts >= 0) & (rows >= 0)
    who[texts[known][::-1]] = rows[known][::-1]


def _near_pairs(texts: list[tuple[str, ...]], threshold: float) -> Rows:
    """Pairs of nearly equal texts, [pairs, 2]."""
    chosen = [number for number, text in enumerate(texts) if len(text) >= MIN_WORDS]
    sets = sorted(((set(texts[number]), number) for number in chosen), key=lambda pair: len(pair[0]))
    if not sets:
        return np.empty((0, 2), dtype=np.int64)
    originals = np.array([number for _, number in sets], dtype=np.int64)
    sizes = np.array([len(members) for members, _ in sets], dtype=np.int64)
    incidence = _incidence([members for members, _ in sets], sizes)
    keys = [np.empty(0, dtype=np.int64)]
    smallest = 1
    while smallest <= sizes[-1]:
        # x in this band of sizes; y is at most 1/t times as large.
        largest = math.floor(smallest / threshold + _ROUNDING)
        reach = math.floor(largest / threshold + _ROUNDING)
        first, stop = np.searchsorted(sizes, (smallest, reach + 1))
        parts = math.floor((1.0 - threshold) / threshold * largest + _ROUNDING) + 1
        for one, other in _candidates(incidence[first:stop], parts):
            near = _are_near(incidence, sizes, first + one, first + other, threshold)
            pair = np.sort(originals[first + np.stack((one[near], other[near]))], axis=0)
            keys.append(pair[0] * len(texts) + pair[1])
        smallest = largest + 1
    return np.stack(np.divmod(np.unique(np.concatenate(keys)), len(texts)), axis=1)


def _incidence(sets: list[set[str]], sizes: Rows) -> Any:
    """Sparse matrix [texts, tokens] of ones; tokens numbered from the most frequent on."""
    vocabulary: dict[str, int] = {}
    columns = np.fromiter(
        (vocabulary.setdefault(token, len(vocabulary)) for members in sets for token in members),
        dtype=np.int64,
        count=int(sizes.sum()),
    )
    ranks = np.empty(len(vocabulary), dtype=np.int64)
    ranks[np.argsort(-np.bincount(columns), kind="stable")] = np.arange(len(vocabulary))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    ones = np.ones(len(columns), dtype=np.int32)
    return scipy.sparse.csr_array((ones, ranks[columns], starts), shape=(len(sets), len(vocabulary)))


def _candidates(incidence: Any, parts: int) -> Iterator[tuple[Rows, Rows]]:
    """Pairs of texts with the same tokens in one part of the vocabulary.

    The tokens are dealt round in order of frequency, so that each part has its share of rare ones. The tokens of
    a text in a part are represented by the sum of random numbers; a chance collision is a candidate too many.
    """
    count = incidence.shape[0]
    owners = np.repeat(np.arange(count), np.diff(incidence.indptr))
    values = np.random.default_rng(0).integers(0, 2**64, size=incidence.shape[1], dtype=np.uint64)
    sums = np.zeros((parts, count), dtype=np.uint64)
    np.add.at(sums, (incidence.indices % parts, owners), values[incidence.indices])
    for signatures in sums:
        order = np.argsort(signatures, kind="stable")
        ordered = signatures[order]
        left, distance = np.arange(count), 0
        while len(left):
            distance += 1
            left = left[: np.searchsorted(left, count - distance)]
            left = left[ordered[left] == ordered[left + distance]]
            yield order[left], order[left + distance]


def _are_near(incidence: Any, sizes: Rows, one: Rows, other: Rows, threshold: float) -> NDArray[np.bool_]:
    """Whether the Jaccard similarity of pairs of rows reaches the threshold."""
    shared = np.asarray(incidence[one].multiply(incidence[other]).sum(axis=1))
    union = sizes[one] + sizes[other] - shared
    return np.asarray(shared + _ROUNDING >= threshold * union)
