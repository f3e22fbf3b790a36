"""The leak check: what the parts of a division share although a fair test forbids it.

It runs before every training. A leak that the protocol names is printed beside the number; any other one stops
the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ser_models.errors import UserError
from ser_models.features.transforms import ids_hash
from ser_models.protocols.folds import Fold, Rows

LEAKS = {
    "utterance": "the same utterance is in two parts of a fold",
    "speaker": "the parts of a fold share speakers",
    "session": "the parts of a fold share sessions",
    "dialogue": "the parts of a fold share dialogues",
    "identical-audio": "recordings with identical samples are in two parts of a fold",
    "parent": "a copy derived from a recording is in another part than the recording",
    "selection-on-test": "the test part selects the epoch or the model",
    "fitted-outside-training": "a scaler or vocabulary was fitted on more than the training part",
}
"""Every leak that can be found or named, with its meaning in words."""

EXAMPLES = 5
"""Examples kept per finding."""


@dataclass(frozen=True)
class Finding:
    """One kind of leak, over all folds.

    Attributes:
        leak: a key of `LEAKS`.
        count: how many things are shared, summed over folds.
        folds: in how many folds.
        where: which parts share them.
        examples: a few of what is shared.
        allowed: whether the protocol names this leak.
    """

    leak: str
    count: int
    folds: int
    where: str
    examples: tuple[str, ...]
    allowed: bool

    def __str__(self) -> str:
        state = "named by the protocol" if self.allowed else "NOT named by the protocol"
        shown = ", ".join(self.examples)
        return f"{self.leak}: {LEAKS[self.leak]} ({self.count} in {self.folds} folds, e.g. {shown}; {state})"


@dataclass(frozen=True)
class LeakReport:
    """What the check found and what it could not look at."""

    preset: str
    protocol: str
    named: tuple[str, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON types."""
        return {
            "preset": self.preset,
            "protocol": self.protocol,
            "named": [{"leak": leak, "why": LEAKS[leak]} for leak in self.named],
            "findings": [asdict(finding) | {"examples": list(finding.examples)} for finding in self.findings],
            "notes": list(self.notes),
        }

    def require_named(self) -> None:
        """Stop unless every finding is a leak that the protocol names.

        Raises:
            UserError: with the leaks that are not named.
        """
        unnamed = [str(finding) for finding in self.findings if not finding.allowed]
        if unnamed:
            raise UserError(
                f"the leak check stops this run: {'; '.join(unnamed)}. Choose a fold scheme without it, or name "
                "it in --protocol.leaks so that every result says it"
            )


def check_leaks(
    manifest: pa.Table,
    folds: Sequence[Fold],
    *,
    preset: str,
    protocol: str,
    named: Iterable[str],
    media: pa.Table | None,
    selection_on_test: bool = False,
) -> LeakReport:
    """Compare the parts of every fold.

    Args:
        manifest: the corpus.
        folds: divisions of its rows.
        preset: name of the preset, for the report.
        protocol: description of the protocol, for the report.
        named: leaks that the protocol is known to have.
        media: ``utterance_id`` and ``sha256`` of the decoded samples; None when audio was not decoded.
        selection_on_test: whether the protocol selects on the test part.

    Raises:
        UserError: ``named`` holds an unknown leak.
    """
    named = tuple(named)
    unknown = [leak for leak in named if leak not in LEAKS]
    if unknown:
        raise UserError(f"unknown leak {unknown[0]!r}; known: {', '.join(LEAKS)}")
    notes = [warning for fold in folds for warning in fold.warnings]
    findings = [_shared_rows(manifest, folds, named)]
    for leak, column in (("speaker", "speaker"), ("session", "session"), ("dialogue", "dialogue")):
        values = np.array(manifest[column].to_pylist(), dtype=object)
        if all(value is None for value in values):
            notes.append(f"{column} is unknown in this corpus, so it was not compared")
        else:
            findings.append(_shared_values(leak, values, folds, named))
    if media is None:
        notes.append("audio was not compared: the shards carry no hashes of the decoded samples")
    else:
        hashes = dict(zip(media["utterance_id"].to_pylist(), media["sha256"].to_pylist(), strict=True))
        ids = manifest["utterance_id"].to_pylist()
        values = np.array([hashes.get(utterance) for utterance in ids], dtype=object)
        findings.append(_shared_values("identical-audio", values, folds, named, label=ids))
    parents = manifest["parent"].to_pylist()
    if any(parents):
        own = manifest["utterance_id"].to_pylist()
        origin = np.array([parent or name for parent, name in zip(parents, own, strict=True)], dtype=object)
        findings.append(_shared_values("parent", origin, folds, named))
    if selection_on_test:
        allowed = "selection-on-test" in named
        findings.append(
            Finding(
                "selection-on-test", len(folds), len(folds), "validation = test", ("every fold",), allowed
            )
        )
    found = tuple(finding for finding in findings if finding is not None)
    return LeakReport(preset, protocol, named, found, tuple(dict.fromkeys(notes)))


def check_fitted(fitted_on: str, train_ids: Iterable[str], name: str) -> None:
    """Stop unless a fitted object was fitted on exactly the training part.

    Raises:
        UserError: it was not.
    """
    if fitted_on != ids_hash(train_ids):
        raise UserError(f"fitted-outside-training: {name} was not fitted on this fold's training part")


def _shared_rows(manifest: pa.Table, folds: Sequence[Fold], named: tuple[str, ...]) -> Finding | None:
    values = np.array(manifest["utterance_id"].to_pylist(), dtype=object)
    return _shared_values("utterance", values, folds, named)


def _shared_values(
    leak: str,
    values: np.ndarray[Any, Any],
    folds: Sequence[Fold],
    named: tuple[str, ...],
    label: Sequence[str] | None = None,
) -> Finding | None:
    count, touched, examples, where = 0, 0, dict[str, None](), set[str]()
    # Integers compare far faster than Python objects, and folds are many.
    known = np.array([value is not None for value in values])
    codes = np.unique(values[known].astype(str), return_inverse=True)[1]
    numbers = np.full(len(values), -1, dtype=np.int64)
    numbers[known] = codes
    for fold in folds:
        pairs: list[tuple[str, Rows, Rows]] = [("training and test", fold.train, fold.test)]
        if not np.array_equal(fold.validation, fold.test):
            pairs.append(("validation and test", fold.validation, fold.test))
        pairs.append(("training and validation", fold.train, fold.validation))
        shared_here = 0
        for parts, first, second in pairs:
            both = np.intersect1d(numbers[first], numbers[second])
            both = both[both >= 0]
            if len(both) == 0:
                continue
            shared_here += len(both)
            where.add(parts)
            for number in both[:EXAMPLES]:
                rows = np.flatnonzero(numbers == number)
                names = [label[row] for row in rows[:2]] if label else [str(values[rows[0]])]
                examples[" = ".join(names)] = None
        count += shared_here
        touched += shared_here > 0
    if not count:
        return None
    return Finding(leak, count, touched, "; ".join(sorted(where)), tuple(examples)[:EXAMPLES], leak in named)
