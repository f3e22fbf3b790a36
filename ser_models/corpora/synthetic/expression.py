"""What a speaker feels in a dialogue, and which of voice, face and words let it be known.

Each of the three shows the emotion with a probability of its own, independently of the others; else it looks
like any emotion of the corpus. So none of them alone tells all, and together they tell more.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

CLEAR = {"voice": 0.8, "face": 0.7, "words": 0.6}
"""Probability that each of them shows the emotion, chosen so that linear classifiers overlap (our choice)."""

_LASTING = 0.35  # probability that a speaker still feels what they felt in their turn before


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expression:
    """An emotion and what can be noticed of it; canonical names.

    Attributes:
        emotion: what the speaker feels.
        voice: what the voice sounds like.
        face: what the face looks like.
        words: what the words say.
    """

    emotion: str
    voice: str
    face: str
    words: str

    @property
    def clarity(self) -> float:
        """Share of the three that show the emotion, 0 to 1."""
        return sum(shown == self.emotion for shown in (self.voice, self.face, self.words)) / 3


def draw_emotion(shares: Mapping[str, float], before: str | None, random: np.random.Generator) -> str:
    """What a speaker feels in a turn, given what they felt in their turn before.

    Args:
        shares: how frequent each emotion is; need not sum to 1.
        before: None in the first turn.
        random: source of chance.
    """
    lasts = random.random() < _LASTING
    drawn = _draw(shares, random)
    return before if before and lasts else drawn


def draw_expression(
    emotion: str, shares: Mapping[str, float], random: np.random.Generator, words: str | None = None
) -> Expression:
    """Decide for voice, face and words whether they show the emotion.

    Args:
        emotion: what the speaker feels.
        shares: how frequent each emotion is.
        random: source of chance.
        words: what the words say where a script has decided that.
    """
    shown = {
        where: emotion if random.random() < clear else _draw(shares, random) for where, clear in CLEAR.items()
    }
    if words:
        shown["words"] = words
    return Expression(emotion=emotion, **shown)


def _draw(shares: Mapping[str, float], random: np.random.Generator) -> str:
    weights = np.array(list(shares.values()))
    return str(random.choice(list(shares), p=weights / weights.sum()))
