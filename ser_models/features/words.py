"""A transcript as words: the Penn Treebank's way of splitting, written for conversational transcripts."""

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u0092": "'", "\u02bc": "'"})

_ABBREVIATIONS = "mr mrs ms dr prof st jr sr vs etc inc ltd a.m p.m e.g i.e u.s u.k".split()

_HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_SIGNS = "".join(chr(code) for code in range(0x300, 0xFFFF) if unicodedata.category(chr(code))[0] == "M")
_LETTER = rf"(?:[^\W_{_HAN}]|[{_SIGNS}])"  # with the signs that combine with it, such as vowels in Devanagari

_TOKEN = re.compile(
    rf"""
      (?P<number>\d+(?:[.,:/]\d+)*(?:st|nd|rd|th|s)?(?!\w))
    | (?P<han>[{_HAN}])
    | (?P<word>{_LETTER}+(?:[.'_@&-]{_LETTER}+)*)
    | (?P<clitic>'(?:(?:s|m|d|ll|re|ve|em|til|cause)(?!\w)|t(?=(?:is|was)\b)))
    | (?P<dots>\.{{2,}}|…)
    | (?P<dashes>-{{2,}})
    | (?P<mark>\S)
    """,
    re.VERBOSE | re.IGNORECASE,
)

_PARTS = re.compile(
    r"(?P<not>.+)(?=n't$)|(?P<clitic>.+)(?='(?:s|m|d|ll|re|ve)$)"
    r"|(?P<fused>can(?=not$)|gon(?=na$)|wan(?=na$)|got(?=ta$)|gim(?=me$)|lem(?=me$))",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Words:
    """The tokens of a text as strings, [tokens].

    AMH read nltk's ``word_tokenize``, which follows the Penn Treebank. So do these rules, written anew:
    punctuation marks are tokens of their own; a run of dots or dashes is one; ``don't`` becomes ``do n't``,
    ``I'm`` becomes ``I 'm``, ``cannot``, ``gonna``, ``wanna``, ``gotta``, ``gimme`` and ``lemme`` become two;
    hyphenated words, numbers with their separators, abbreviations written with inner full stops (``U.S.``) and a
    few frequent others (``Mr.``) stay whole.

    Our choices, where nltk differs or transcripts of speech ask for more: quotation marks stay as they are written
    (nltk writes backquotes for opening ones); curly apostrophes count as straight ones; each Han character is a
    token, for want of a dictionary. The text is taken in Unicode's composed form (NFC), without a language. An
    empty text gives no tokens.
    """

    name: ClassVar[str] = "words"
    VERSION: ClassVar[int] = 1
    source: ClassVar[str] = "text"
    libraries: ClassVar[tuple[str, ...]] = ()
    dtype: ClassVar[str] = "str"

    lower: bool = True
    """Whether the tokens are put into lower case."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Trailing dimensions of the result: none."""
        return ()

    def __call__(self, text: str) -> NDArray[np.str_]:
        """Split a text, [tokens]."""
        return np.array([token.lower() if self.lower else token for token in tokenize(text)], dtype=np.str_)


def tokenize(text: str) -> list[str]:
    """The tokens of a text.

    >>> tokenize("I'm sorry, you can't -- you won't...")
    ['I', "'m", 'sorry', ',', 'you', 'ca', "n't", '--', 'you', 'wo', "n't", '...']
    >>> tokenize("Mr. O'Brien's gonna pay $1,000.50 at 10:30.")
    ['Mr.', "O'Brien", "'s", 'gon', 'na', 'pay', '$', '1,000.50', 'at', '10:30', '.']
    """
    text = unicodedata.normalize("NFC", text).translate(_APOSTROPHES)
    tokens: list[str] = []
    end = -1
    for match in _TOKEN.finditer(text):
        token, kind = match.group(), match.lastgroup
        if (
            kind == "mark"
            and token == "."
            and tokens
            and match.start() == end
            and _keeps_stop(tokens[-1], text[match.end() :])
        ):
            tokens[-1] += token
        elif kind == "word":
            tokens += _split(token)
        else:
            tokens.append(token)
        end = match.end()
    return tokens


def _split(word: str) -> list[str]:
    """A word and what has grown onto its end."""
    match = _PARTS.match(word)
    if match is None:
        return [word]
    return [*_split(match.group()), word[match.end() :]]


def _keeps_stop(word: str, rest: str) -> bool:
    """Whether a full stop belongs to the word before it: an abbreviation, or an initial before a name."""
    lower = word.lower()
    if lower in _ABBREVIATIONS or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", lower):
        return bool(rest.strip()) or "." in lower
    return (
        re.fullmatch(r"[^\W\d_]", word) is not None
        and word.isupper()
        and word != "I"
        and rest[:2].strip()[:1].isupper()
    )
