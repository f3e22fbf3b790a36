"""Annotators who disagree: votes for emotions, ratings of valence, arousal and dominance, and their consensus.

An annotator recognises an emotion the more surely, the more of voice, face and words show it. Else they take
the emotion for what one of the three shows, or for a similar one.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from ser_models.corpora.synthetic.expression import Expression
from ser_models.corpora.utterance import DIMENSIONS

SIMILAR: Mapping[str, tuple[str, ...]] = {
    "angry": ("frustrated", "disgusted"),
    "frustrated": ("angry", "sad", "neutral"),
    "happy": ("excited", "neutral"),
    "excited": ("happy", "surprised"),
    "sad": ("frustrated", "neutral"),
    "neutral": ("frustrated", "sad", "happy"),
    "fearful": ("sad", "surprised"),
    "disgusted": ("angry", "frustrated"),
    "surprised": ("excited", "neutral"),
}
"""What each emotion is taken for when it is not recognised (our choice)."""

TYPICAL_RATINGS: Mapping[str, tuple[float, float, float]] = {
    "angry": (1.8, 3.7, 3.9),
    "frustrated": (2.3, 3.1, 3.2),
    "happy": (4.0, 3.2, 3.1),
    "excited": (4.2, 3.8, 3.5),
    "sad": (2.1, 2.3, 2.6),
    "neutral": (3.0, 2.7, 2.9),
    "fearful": (2.2, 3.6, 2.3),
    "disgusted": (2.1, 3.0, 3.4),
    "surprised": (3.2, 3.7, 2.9),
}
"""Typical valence, arousal and dominance of each emotion, 1 to 5 (our choice)."""

_UNCLEAR, _CLEAR = 0.2, 0.85  # probability of recognising what nothing shows, what everything shows
_SECOND_VOTE = 0.12
_RATING_SPREAD = 0.6


def draw_votes(
    expression: Expression, known: Sequence[str], random: np.random.Generator, clarity: float | None = None
) -> list[str]:
    """The emotions that one annotator ticks: one, seldom two.

    Args:
        expression: what there is to notice.
        known: the emotions of the corpus.
        random: source of chance.
        clarity: 0 to 1; by default that of the expression. Actors judge themselves by what they felt.
    """
    clarity = expression.clarity if clarity is None else clarity
    similar = [name for name in SIMILAR[expression.emotion] if name in known]
    shown = (expression.voice, expression.face, expression.words)
    others = similar + [name for name in shown if name != expression.emotion]
    first = expression.emotion
    if others and random.random() > _UNCLEAR + clarity * (_CLEAR - _UNCLEAR):
        first = str(random.choice(others))
    votes = [first]
    if similar and random.random() < _SECOND_VOTE:
        second = str(random.choice(similar))
        votes += [second] if second != first else []
    return votes


def consensus(votes: Mapping[str, Sequence[str]]) -> str | None:
    """The one emotion that more than half of the annotators ticked; None where there is none or several.

    >>> consensus({"E1": ["sad"], "E2": ["sad", "angry"], "E3": ["neutral"]})
    'sad'
    >>> consensus({"E1": ["sad"], "E2": ["angry"], "E3": ["neutral"]}) is None
    True
    """
    ticked = Counter(emotion for given in votes.values() for emotion in given)
    agreed = [emotion for emotion, count in ticked.items() if count > len(votes) / 2]
    return agreed[0] if len(agreed) == 1 else None


def draw_rating(emotion: str, random: np.random.Generator) -> dict[str, float]:
    """One annotator's valence, arousal and dominance, whole numbers from 1 to 5."""
    noisy = np.array(TYPICAL_RATINGS[emotion]) + _RATING_SPREAD * random.standard_normal(3)
    return dict(zip(DIMENSIONS, np.clip(np.rint(noisy), 1, 5).tolist(), strict=True))


def mean_rating(ratings: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each dimension over the annotators, with the four digits that are printed."""
    return {
        name: round(float(np.mean([given[name] for given in ratings.values()])), 4) for name in DIMENSIONS
    }
