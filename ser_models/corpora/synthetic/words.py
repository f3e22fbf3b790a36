"""What is said: English-looking texts of a small vocabulary, and the syllables of each word.

The vocabulary is our own. A text that shows an emotion mixes words of that emotion among fillers that say
nothing; a neutral text has fillers only. Now and then a word of some other emotion slips in.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ser_models.corpora.synthetic.speech import CONSONANTS, VOWELS, Syllable, random_generator

FILLERS = tuple(
    "I you we they it the a that this there then now just so well what when about with from into over "
    "people house table door letter morning street office number paper window weekend kitchen minute "
    "go come take bring see know think said put tell wait open call I'm it's don't that's we'll".split()
)
EMOTION_WORDS: Mapping[str, tuple[str, ...]] = {
    "angry": tuple("damn liar shut stupid furious idiot enough blame hate yell fault rude".split()),
    "happy": tuple("glad lovely smile nice sunny wonderful thanks sweet laugh enjoy cheer fine".split()),
    "excited": tuple("wow amazing finally unbelievable guess party yes awesome incredible won".split()),
    "sad": tuple("miss alone gone lost cry sorry grave tears goodbye lonely hurt empty".split()),
    "frustrated": tuple("again useless stuck wrong ridiculous pointless forms waiting why tired".split()),
    "fearful": tuple("scared dark hide danger afraid careful noise shaking help terrified".split()),
    "disgusted": tuple("gross rotten smell filthy sick nasty slimy ugh mouldy awful".split()),
    "surprised": tuple("really suddenly unexpected surprise seriously impossible strange whoa".split()),
}
"""Words that mark an emotion; neutral has none."""

STOCK_PHRASES = (
    "What?",
    "Yeah.",
    "Okay.",
    "Hey!",
    "Oh my God!",
    "I don't know.",
    "No, no, no!",
    "All right.",
)
"""Short texts that everybody says, whatever they feel."""

_EMOTIONAL, _SLIP, _COMMA = 0.3, 0.05, 0.12  # probabilities per word
_FEWEST, _MOST = 4, 8  # words of a text
_VOWEL_GROUP = re.compile(r"[aeiouy]+")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")


def draw_text(emotion: str, random: np.random.Generator) -> str:
    """A text whose words show an emotion, four to eight words with a full stop, question or exclamation mark."""
    marked = EMOTION_WORDS.get(emotion, ())
    words = []
    for _ in range(int(random.integers(_FEWEST, _MOST + 1))):
        chance = random.random()
        if chance < _SLIP:
            stock: Sequence[str] = EMOTION_WORDS[str(random.choice(sorted(EMOTION_WORDS)))]
        elif marked and chance < _SLIP + _EMOTIONAL:
            stock = marked
        else:
            stock = FILLERS
        words.append(str(random.choice(stock)))
    commas = random.random(len(words) - 1) < _COMMA
    text = "".join(word + (", " if comma else " ") for word, comma in zip(words[:-1], commas, strict=True))
    mark = random.choice(list(".?!"), p=(0.8, 0.1, 0.1))
    return text[:1].upper() + text[1:] + words[-1] + str(mark)


def syllables_of(text: str) -> tuple[Syllable, ...]:
    """The syllables of a text: a word sounds the same wherever it occurs."""
    return tuple(
        syllable
        for word in _WORD.findall(text.lower())
        for syllable in draw_syllables(word, max(1, len(_VOWEL_GROUP.findall(word))))
    )


def draw_syllables(name: str, count: int) -> tuple[Syllable, ...]:
    """So many syllables for a word or sentence, the same for the same name."""
    random = random_generator("syllables", name)
    return tuple(
        (str(random.choice(list(CONSONANTS))), str(random.choice(list(VOWELS)))) for _ in range(count)
    )


def seconds_of(syllables: Sequence[Syllable], typical: float) -> float:
    """The length of a text at habitual rate, seconds; a text of eight syllables has the typical length."""
    return typical * min(1.8, 0.4 + 0.6 * len(syllables) / 8)
