"""Label sets: which emotions a protocol tells apart, in which order, and what becomes the target of training.

A label set names its classes by the manifest's canonical emotions. A system may order them differently, as its
paper did (`ORDERS`); the set itself, and so what counts as the same task, stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ser_models.errors import UserError

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LabelSet:
    """Classes in index order and the emotions that are counted as one of them.

    Attributes:
        name: as registered.
        classes: canonical emotions; their position is the class index.
        merged: emotion to the class that it is counted as.
    """

    name: str
    classes: tuple[str, ...]
    merged: Mapping[str, str] = field(default_factory=dict)

    def label(self, emotion: str | None) -> str | None:
        """The class of an emotion; None where it has none.

        >>> LABEL_SETS["iemocap4"].label("excited"), LABEL_SETS["iemocap4"].label("frustrated")
        ('happy', None)
        """
        counted = self.merged.get(emotion, emotion) if emotion else None
        return counted if counted in self.classes else None

    def of_system(self, system: str) -> LabelSet:
        """The same set in the order of a system's public code.

        >>> LABEL_SETS["iemocap4"].of_system("camser").classes
        ('angry', 'sad', 'happy', 'neutral')
        """
        return self.ordered(ORDERS.get(system, {}).get(self.name, self.classes))

    def ordered(self, classes: tuple[str, ...]) -> LabelSet:
        """The same set with another order of its classes.

        Raises:
            ValueError: it is not the same set.
        """
        if sorted(classes) != sorted(self.classes):
            raise ValueError(f"{self.name}: {classes} is no order of {self.classes}")
        return replace(self, classes=classes)


_FOUR = ("angry", "happy", "neutral", "sad")
_EXCITED = {"excited": "happy"}

LABEL_SETS: dict[str, LabelSet] = {
    labels.name: labels
    for labels in (
        LabelSet("iemocap4", _FOUR, _EXCITED),
        LabelSet("iemocap4-no-excited", _FOUR),
        LabelSet("iemocap7", ("angry", "excited", "happy", "sad", "frustrated", "surprised", "neutral")),
        LabelSet("meld7", ("neutral", "surprised", "fearful", "sad", "happy", "disgusted", "angry")),
        LabelSet(
            "ravdess8",
            ("angry", "calm", "disgusted", "fearful", "happy", "neutral", "sad", "surprised"),
        ),
        LabelSet("emodb7", ("angry", "bored", "disgusted", "fearful", "happy", "neutral", "sad")),
        LabelSet("savee7", ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")),
        LabelSet("emovo7", ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")),
        LabelSet("casia6", ("angry", "fearful", "happy", "neutral", "sad", "surprised")),
        # Between corpora only these four mean the same everywhere. RAVDESS's calm is not counted as neutral: its
        # actors were asked for both (our choice; some papers merge them).
        LabelSet("common4", _FOUR, _EXCITED),
    )
}
"""Every registered label set; the order is that of the papers' public code where all agree (iemocap4: TIM-Net and
AVDAL; iemocap7: AMH), for MELD that of the corpus's baseline."""

ORDERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "camser": {"iemocap4": ("angry", "sad", "happy", "neutral")},
}
"""System to label set to the order of the classes in its public code, where it is not the registered one. TIM-Net,
AVDAL and its MDSCM, AMH and its baselines follow the registered orders; AMRWC's and MAEC's are not published."""

OWN = "own"
"""Name of the label set of a corpus of one's own: every emotion that occurs in it, in the canonical order."""

DIMENSIONS = ("valence", "arousal", "dominance")


def get_label_set(name: str, emotions: Iterable[str | None], canonical: Sequence[str]) -> LabelSet:
    """A registered label set, or the one that the emotions of a corpus make.

    Args:
        name: as registered, or `OWN`.
        emotions: of the corpus; read for `OWN` only.
        canonical: all canonical emotions in order; read for `OWN` only.

    Raises:
        UserError: there is no such label set, or the corpus has no emotion at all.
    """
    if name == OWN:
        there = set(emotions)
        if not (classes := tuple(emotion for emotion in canonical if emotion in there)):
            raise UserError("no utterance of this corpus has an emotion")
        return LabelSet(OWN, classes)
    if name not in LABEL_SETS:
        raise UserError(f"unknown label set {name!r}; known: {', '.join((*LABEL_SETS, OWN))}")
    return LABEL_SETS[name]


def unmapped(emotions: Iterable[str | None], labels: LabelSet) -> dict[str, int]:
    """Count the emotions that have no class; utterances without a label are ``(none)``.

    >>> unmapped(["calm", "happy", None, "calm"], LABEL_SETS["common4"])
    {'(none)': 1, 'calm': 2}
    """
    left = Counter(emotion or "(none)" for emotion in emotions if labels.label(emotion) is None)
    return dict(sorted(left.items()))


@dataclass(frozen=True)
class Targets:
    """What training aims at, for the utterances that have a target.

    Attributes:
        rows: [utterances] rows of the manifest, ascending.
        target: [utterances, classes] rows summing to 1.
        clear: [utterances] whether one emotion holds the majority; the others may only be trained on.
    """

    rows: Array
    target: Array
    clear: Array


def hard_targets(emotions: Sequence[str | None], labels: LabelSet) -> Targets:
    """One-hot targets from the corpus's own label."""
    found = [(row, labels.label(emotion)) for row, emotion in enumerate(emotions)]
    kept = [(row, labels.classes.index(label)) for row, label in found if label is not None]
    rows = np.array([row for row, _ in kept], dtype=np.int64)
    target = np.eye(len(labels.classes), dtype=np.float32)[
        np.array([index for _, index in kept], dtype=np.int64)
    ]
    return Targets(rows, target, np.ones(len(rows), dtype=bool))


def vote_targets(manifest: pa.Table, labels: LabelSet) -> Targets:
    """Soft targets: the proportions of the annotators' votes over the classes (AMRWC, after Ando et al., 2018).

    An utterance is *clear* where one emotion is ticked by more than half of the annotators and by more of them
    than any other; it takes part where that emotion is one of the classes. It is *ambiguous* where none is, and
    takes part where at least one vote is for a class. An annotator who ticks two emotions of one class votes for
    it once. Without votes the corpus's label is the target, one-hot. The paper gives no exact form: counting ticks
    and renormalising them to the classes are our choice.

    Args:
        manifest: columns ``emotion`` and ``votes``.
        labels: the classes.
    """
    rows: list[int] = []
    targets: list[Array] = []
    clear: list[bool] = []
    identity = np.eye(len(labels.classes), dtype=np.float32)
    columns = zip(manifest["emotion"].to_pylist(), manifest["votes"].to_pylist(), strict=True)
    for row, (emotion, votes) in enumerate(columns):
        if not votes:
            if (label := labels.label(emotion)) is not None:
                rows.append(row)
                targets.append(identity[labels.classes.index(label)])
                clear.append(True)
            continue
        # Merged emotions are one before the majority is looked for.
        ballots = [{labels.merged.get(each, each) for each in ticked} for _, ticked in votes]
        ticks = Counter(each for ballot in ballots for each in sorted(ballot))
        counts = np.array([ticks[name] for name in labels.classes], dtype=np.float32)
        winner = majority(ticks, len(ballots))
        if counts.sum() == 0 or (winner is not None and winner not in labels.classes):
            continue
        rows.append(row)
        targets.append(counts / counts.sum())
        clear.append(winner is not None)
    empty = np.zeros((0, len(labels.classes)), dtype=np.float32)
    return Targets(
        np.array(rows, dtype=np.int64), np.stack(targets) if targets else empty, np.array(clear, dtype=bool)
    )


def majority(ticks: Mapping[str, int], annotators: int) -> str | None:
    """The emotion that more than half of the annotators ticked, and more than ticked any other.

    >>> majority({"happy": 2, "sad": 1}, 3), majority({"happy": 2, "sad": 2}, 3), majority({"happy": 1}, 2)
    ('happy', None, None)
    """
    ranked = sorted(ticks.items(), key=lambda item: -item[1])
    if not ranked or 2 * ranked[0][1] <= annotators:
        return None
    alone = len(ranked) == 1 or ranked[1][1] < ranked[0][1]
    return ranked[0][0] if alone else None
