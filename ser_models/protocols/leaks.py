"""The leak check: what the parts of a division share although a fair test forbids it.

It runs before every training. A leak that the protocol names is printed beside the number; any other one stops
the run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ser_models.errors import UserError
from ser_models.features.transforms import ids_hash
from ser_models.protocols.common import Common, Shared
from ser_models.protocols.folds import Fold, Rows
from ser_models.protocols.texts import MIN_WORDS

_FITTED = "fitted-outside-training"

LEAKS = {
    "utterance": "the same utterance is in two parts of a fold",
    "speaker": "the parts of a fold share speakers",
    "session": "the parts of a fold share sessions",
    "dialogue": "the parts of a fold share dialogues",
    "identical-audio": "recordings with identical samples are in two parts of a fold",
    "audio-twin": "recordings that sound the same, in another coding, are in two parts of a fold",
    "parent": "a copy derived from a recording is in another part than the recording",
    "script": "the parts of a fold share scripts, and what the system reads knows words",
    "sentence": "prescribed sentences are in two parts, and what the system reads knows words",
    "text": f"transcripts of {MIN_WORDS} words or more occur in two parts, equal or nearly so, and what the system "
    "reads knows words",
    "pretrained-on-corpus": "an encoder was trained on the corpus that it is tested on",
    "selection-on-test": "the test part selects the epoch or the model",
    _FITTED: "a scaler or vocabulary was fitted on more than the training part",
}
"""Every leak that can be found or named, with its meaning in words."""

LEXICAL = ("script", "sentence", "text")
"""Leaks for those who read words: from transcripts, or through an encoder that was trained to recognise speech."""

EXAMPLES = 5
"""Examples kept per finding."""

_GROUPS = ("speaker", "session", "dialogue")
# What an utterance lacks that is not compared.
_COMPARED = {group: group for group in _GROUPS} | {
    "identical-audio": "hash of the decoded samples",
    "text": "transcript",
}


@dataclass(frozen=True)
class Finding:
    """One kind of leak, over all folds.

    Attributes:
        leak: a key of `LEAKS`.
        parts: which parts share them, and how many things, summed over folds.
        folds: in how many folds.
        tested: how many test utterances are concerned by what they share with training or validation.
        share: the same as a share of all test utterances.
        examples: a few of what is shared.
        allowed: whether the protocol names this leak.
    """

    leak: str
    parts: Mapping[str, int]
    folds: int
    tested: int
    share: float
    examples: tuple[str, ...]
    allowed: bool

    @property
    def count(self) -> int:
        """How many things are shared, summed over folds and pairs of parts."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        state = "named by the protocol" if self.allowed else "NOT named by the protocol"
        where = ", ".join(f"{parts} {count}" for parts, count in self.parts.items())
        folds = "1 fold" if self.folds == 1 else f"{self.folds} folds"
        return (
            f"{self.leak}: {LEAKS[self.leak]} ({where}; in {folds}; {self.share:.1%} of the test utterances; e.g. "
            f"{', '.join(self.examples)}; {state})"
        )


@dataclass(frozen=True)
class LeakReport:
    """What the check found and what it could not look at."""

    preset: str
    protocol: str
    named: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def unnamed(self) -> tuple[Finding, ...]:
        """The findings that the protocol does not name."""
        return tuple(finding for finding in self.findings if not finding.allowed)

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types; ``found`` are the names of the leaks in ``findings``."""
        return {
            "preset": self.preset,
            "protocol": self.protocol,
            "named": [{"leak": leak, "why": LEAKS[leak]} for leak in self.named],
            "found": [finding.leak for finding in self.findings],
            "findings": [
                asdict(finding) | {"examples": list(finding.examples), "count": finding.count}
                for finding in self.findings
            ],
            "notes": list(self.notes),
        }

    def require_named(self) -> None:
        """Stop unless every finding is a leak that the protocol names.

        Raises:
            UserError: with the leaks that are not named.
        """
        if self.unnamed:
            raise UserError(
                f"the leak check stops this run: {'; '.join(map(str, self.unnamed))}. Choose a protocol without it, "
                "drop the training utterances concerned with --protocol.disjoint, or name the leak in "
                "--protocol.leaks so that every result says it"
            )


def check_leaks(
    manifest: pa.Table,
    folds: Sequence[Fold],
    *,
    preset: str,
    protocol: str,
    named: Iterable[str],
    media: pa.Table | None,
    reads_words: bool = False,
    pretrained: Sequence[str] = (),
) -> LeakReport:
    """Compare the parts of every fold.

    Args:
        manifest: the corpus, or several one after the other.
        folds: divisions of its rows.
        preset: name of the preset, for the report.
        protocol: description of the protocol, for the report.
        named: leaks that the protocol is known to have.
        media: ``utterance_id`` and ``sha256`` of the decoded samples, with ``envelope`` and ``duration`` where
            preprocessing recorded them; None when audio was not decoded. For several corpora it has the column
            ``corpus`` too, since they may use the same ids.
        reads_words: whether the system reads transcripts, or audio through an encoder trained to recognise speech.
            Where it does not, repeated texts are told in a note.
        pretrained: views whose encoder is known to have been trained on this corpus.

    Raises:
        UserError: ``named`` holds an unknown leak, or the media of several corpora has no column ``corpus``.
    """
    named = tuple(named)
    require_known(named)
    common = Common(manifest, media)
    notes = [warning for fold in folds for warning in fold.warnings]
    findings = []
    parts = [part for fold in folds for part in (fold.train, fold.validation, fold.test)]
    used = np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)
    for leak in ("utterance", *_GROUPS, "parent", "identical-audio", "audio-twin", *LEXICAL):
        known = common.known(leak, used)
        notes += _not_compared(leak, known, len(used), media)
        if not known:
            continue
        if leak == "text" and not common.texts.near.complete:
            notes.append("too many transcripts are nearly equal: every equal one was found, not every other")
        finding, short = _find(leak, common, folds, named)
        if short:
            notes.append(
                f"{short} test utterances repeat a transcript of fewer than {MIN_WORDS} words: only counted"
            )
        if finding and leak in LEXICAL and not reads_words:
            notes.append(
                f"{finding.tested} test utterances ({finding.share:.1%}) share a {leak} with training or validation: "
                "no leak for systems that do not read words"
            )
        elif finding:
            findings.append(finding)
    tested = sum(len(fold.test) for fold in folds)
    if pretrained:
        leak = "pretrained-on-corpus"
        shared = {"pre-training and test": len(folds)}
        findings.append(Finding(leak, shared, len(folds), tested, 1.0, tuple(pretrained), leak in named))
    selecting = [len(np.intersect1d(fold.validation, fold.test)) for fold in folds]
    if any(selecting):
        leak = "selection-on-test"
        where = {"validation and test": sum(selecting)}
        concerned = [f"fold {fold.index}" for fold, count in zip(folds, selecting, strict=True) if count]
        share = sum(selecting) / tested
        examples = tuple(concerned[:EXAMPLES])
        findings.append(Finding(leak, where, len(concerned), sum(selecting), share, examples, leak in named))
    return LeakReport(preset, protocol, named, tuple(findings), tuple(dict.fromkeys(notes)))


def require_known(leaks: Iterable[str]) -> None:
    """Refuse names that are not leaks.

    Raises:
        UserError: with the first of them.
    """
    for leak in leaks:
        if leak not in LEAKS:
            raise UserError(f"unknown leak {leak!r}; known: {', '.join(LEAKS)}")


def check_fitted(fitted_on: str, train_ids: Iterable[str], name: str, named: Collection[str] = ()) -> None:
    """Stop unless a fitted object was fitted on exactly the training part.

    Args:
        fitted_on: hash of the ids that it was fitted on.
        train_ids: ids of the training part.
        name: what was fitted, for the message.
        named: leaks that the protocol is known to have; with ``fitted-outside-training`` anything passes.

    Raises:
        UserError: it was fitted on something else.
    """
    if _FITTED not in named and fitted_on != ids_hash(train_ids):
        raise UserError(f"{_FITTED}: {name} was not fitted on this fold's training part")


def _not_compared(leak: str, known: int, used: int, media: pa.Table | None) -> list[str]:
    """What to say where a kind is unknown of some utterances, or of all.

    No script, sentence or parent is nothing unknown: spontaneous speech has none, and an original has no parent.
    """
    if leak == "audio-twin":
        if media is not None and "envelope" not in media.column_names:
            return ["recordings that sound the same were not looked for: the shards carry no envelopes"]
        return []
    if leak not in _COMPARED or known == used:
        return []
    if known:
        return [f"{used - known} of {used} utterances have no {_COMPARED[leak]}: not compared"]
    if leak == "identical-audio":
        return ["audio was not compared: the shards carry no hashes of the decoded samples"]
    if leak == "text":
        return ["no transcripts: texts were not compared"]
    return [f"{leak} is unknown in this corpus, so it was not compared"]


def _find(
    leak: str, common: Common, folds: Sequence[Fold], named: tuple[str, ...]
) -> tuple[Finding | None, int]:
    """Compare all folds for one leak; the second value counts test utterances with a short repeated transcript."""
    counts: dict[str, int] = {}
    examples: dict[str, None] = {}
    touched = tested = short = 0
    for fold in folds:
        concerned = np.zeros(0, dtype=np.int64)
        found: list[tuple[Rows, Rows]] = []
        for name, first, second in _pairs(fold):
            shared: Shared = common.shared(leak, first, second)
            if name == "training and test":
                short += shared.short
            if not shared.count:
                continue
            counts[name] = counts.get(name, 0) + shared.count
            found.append((first, second))
            if second is fold.test:
                concerned = np.union1d(concerned, shared.second)
        touched += bool(found)
        tested += len(concerned)
        for first, second in found:
            if len(examples) < EXAMPLES:
                examples |= dict.fromkeys(common.examples(leak, first, second, EXAMPLES))
    if not counts:
        return None, short
    share = tested / max(1, sum(len(fold.test) for fold in folds))
    shown = tuple(examples)[:EXAMPLES]
    return Finding(leak, counts, touched, tested, share, shown, leak in named), short


def _pairs(fold: Fold) -> list[tuple[str, Rows, Rows]]:
    pairs = [("training and test", fold.train, fold.test)]
    if np.array_equal(fold.validation, fold.test):
        return pairs
    return [
        *pairs,
        ("validation and test", fold.validation, fold.test),
        ("training and validation", fold.train, fold.validation),
    ]
