"""Fold schemes: which utterances train, select and test a model.

A scheme works on examples' utterances only, through the columns of the manifest, and is a pure function of them
and a seed. What a scheme cannot give (a class missing from validation, a gender missing) is said in a warning, and
what a protocol drops from training is counted.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.model_selection import KFold

from ser_models.errors import UserError
from ser_models.protocols.common import Common
from ser_models.protocols.registry import Protocol

Rows = np.ndarray[Any, np.dtype[np.int64]]
_JOINT = re.compile(r" and |[/&]|^(all|both|everyone|everybody|the guys)$", re.IGNORECASE)
"""Names of speakers in MELD that are not one person, or one person in two roles."""

Part = tuple[tuple[str, ...], Rows]
"""The names of the held-out groups and their rows."""

AMH_SEEDS = (337, 3372)
"""Seeds of AMH's original folds: of the fold of each utterance, and of its place in dev or test."""

AVDAL_SEEDS = (6990, 0, 4259, 1156, 6364)
"""Seeds of AVDAL's original five draws."""


@dataclass(frozen=True)
class Fold:
    """One train/validation/test division; rows index the manifest.

    Attributes:
        index: number of the fold, from 0.
        test_units: names of the held-out speakers or sessions; empty for random folds.
        train, validation, test: rows of the manifest, ascending; no row is in two of them unless the protocol
            names that leak.
        warnings: what this fold lacks.
        dropped: what training utterances shared with the other parts, and how many were left out for it.
    """

    index: int
    test_units: tuple[str, ...]
    train: Rows
    validation: Rows
    test: Rows
    warnings: tuple[str, ...] = field(default=())
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Division:
    """What a scheme gives for one fold, as positions among the utterances that take part.

    Attributes:
        units: names of the held-out groups.
        test: the test part.
        validation: the scheme's own validation part; None where it has none.
        outside: neither trained on nor tested.
        why_outside: for a person.
    """

    units: tuple[str, ...]
    test: Rows
    validation: Rows | None = None
    outside: Rows = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    why_outside: str = ""


def leave_one_group_out(groups: Sequence[str | None]) -> list[Part]:
    """One test part per group, groups in natural order.

    Args:
        groups: the group (speaker, session, …) of each row; None is an error.

    Returns:
        Per fold the held-out group and its rows.

    Raises:
        UserError: a row has no group, or there are fewer than two groups.
    """
    names = _known(groups)
    return [
        ((name,), rows)
        for name, rows in zip(names, _members(groups, [[name] for name in names]), strict=True)
    ]


def group_kfold(groups: Sequence[str | None], n_folds: int, seed: int) -> list[Part]:
    """Deal whole groups over ``n_folds`` test parts, shuffled by the seed.

    Raises:
        UserError: as `leave_one_group_out`, or there are fewer groups than folds.
    """
    names = _known(groups)
    if not 2 <= n_folds <= len(names):
        raise UserError(f"n_folds = {n_folds}: allowed are 2 to {len(names)}, the number of groups")
    shuffled = np.random.default_rng(seed).permutation(np.array(names, dtype=object))
    return _named_parts(groups, [shuffled[start::n_folds].tolist() for start in range(n_folds)])


def random_kfold(utterances: Sequence[str], classes: Sequence[int], n_folds: int, seed: int) -> list[Part]:
    """TIM-Net's folds: shuffled ``KFold`` over class folders, files in natural order inside each.

    The original stored features class folder by class folder, in the order of the class indices, with files
    naturally sorted by name; ``KFold(n_folds, shuffle=True, random_state=seed)`` then ran over that order.

    Args:
        utterances: id per row.
        classes: class index per row.
        n_folds: number of folds.
        seed: ``random_state``.

    Raises:
        UserError: there are fewer rows than folds.
    """
    if not 2 <= n_folds <= len(utterances):
        raise UserError(f"n_folds = {n_folds}: allowed are 2 to {len(utterances)}, the number of utterances")
    order = sorted(range(len(utterances)), key=lambda row: (classes[row], natural_key(utterances[row])))
    stored = np.array(order, dtype=np.int64)
    splitter = KFold(n_folds, shuffle=True, random_state=seed)
    return [((), np.sort(stored[test])) for _, test in splitter.split(stored)]


def balanced_group_parts(groups: Sequence[str | None], n_folds: int) -> list[Part]:
    """Deal whole groups over parts of nearly equal size: the largest first, each to the smallest part so far.

    Raises:
        UserError: as `group_kfold`.
    """
    names = _known(groups)
    if not 2 <= n_folds <= len(names):
        raise UserError(f"n_folds = {n_folds}: allowed are 2 to {len(names)}, the number of groups")
    sizes = Counter(groups)
    parts: list[list[str]] = [[] for _ in range(n_folds)]
    filled = [0] * n_folds
    for name in sorted(names, key=lambda name: (-sizes[name], natural_key(name))):
        smallest = filled.index(min(filled))
        parts[smallest].append(name)
        filled[smallest] += sizes[name]
    return _named_parts(groups, parts)


def amh_folds(utterances: Sequence[str]) -> list[Division]:
    """AMH's five random folds with their dev parts, from Python's own generator as in the sibling notebook.

    Over the utterances sorted by id (the original sorted pairs of id and label) one number per utterance decides its
    fold; per fold, one more per utterance of the whole corpus sends 30 % of the fold to dev.

    >>> [(7487 - len(f.test) - len(f.validation), len(f.validation), len(f.test)) for f in amh_folds(["u"] * 7487)]
    [(6058, 404, 1025), (5934, 497, 1056), (5975, 483, 1029), (5962, 474, 1051), (6019, 428, 1040)]
    """
    order = sorted(range(len(utterances)), key=lambda row: utterances[row])
    generator = random.Random(AMH_SEEDS[0])
    draws = [generator.random() for _ in order]
    fold_of = [0 if u > 0.8 else 1 if u > 0.6 else 2 if u > 0.4 else 3 if u > 0.2 else 4 for u in draws]
    divisions = []
    for fold in range(5):
        generator = random.Random(AMH_SEEDS[1])
        held = [(row, generator.random() > 0.7) for row in order]
        inside = [(row, dev) for (row, dev), own in zip(held, fold_of, strict=True) if own == fold]
        test, dev = ([row for row, is_dev in inside if is_dev == wanted] for wanted in (False, True))
        divisions.append(Division((), _ascending(test), _ascending(dev)))
    return divisions


def avdal_draws(utterances: Sequence[str]) -> list[Part]:
    """AVDAL's five test parts: ``random.sample`` of a fifth of the utterances, one seed each.

    The order of the original's utterances is unknown; here they are sorted by id (our choice).

    >>> [len(test) for _, test in avdal_draws(["u"] * 5531)]
    [1106, 1106, 1106, 1106, 1106]
    """
    order = sorted(range(len(utterances)), key=lambda row: utterances[row])
    size = len(order) // 5
    drawn = [random.Random(seed).sample(range(len(order)), size) for seed in AVDAL_SEEDS]
    return [((), _ascending([order[position] for position in positions])) for positions in drawn]


def make_folds(
    manifest: pa.Table,
    rows: Rows,
    labels: Sequence[int],
    protocol: Protocol,
    class_names: Sequence[str],
    *,
    train_only: np.ndarray[Any, np.dtype[np.bool_]] | None = None,
) -> list[Fold]:
    """Divide the usable rows of a manifest as a protocol says.

    Args:
        manifest: the corpus, or two corpora one after the other for ``cross-corpus``.
        rows: the rows that take part, ascending (those whose emotion is in the label set and whose features exist).
            Altered copies of utterances are never tested; they are trained on where their parent is.
        labels: class index of each of ``rows``.
        protocol: the division.
        class_names: for warnings.
        train_only: whether each of ``rows`` may only be trained on, such as ambiguous utterances; where such a row
            falls into a test or validation part, it is in no part.

    Raises:
        UserError: the scheme is unknown or the corpus cannot be divided by it.
    """
    if protocol.scheme not in SCHEMES:
        raise UserError(f"unknown fold scheme {protocol.scheme!r}; allowed: {', '.join(SCHEMES)}")
    taken = manifest.take(pa.array(rows))
    label_array = np.asarray(labels)
    original = taken["parent"].is_null().to_numpy()
    if not original.all():
        kept = None if train_only is None else train_only[original]
        folds = make_folds(
            manifest, rows[original], label_array[original].tolist(), protocol, class_names, train_only=kept
        )
        return [_with_copies(fold, manifest, rows[~original]) for fold in folds]
    common = Common(taken)
    general = one_class_speakers(taken, label_array, class_names)
    folds = []
    for index, division in enumerate(SCHEMES[protocol.scheme](taken, label_array, protocol)):
        test, outside = division.test, division.outside
        rest = np.setdiff1d(np.arange(len(rows), dtype=np.int64), np.union1d(test, outside))
        kept, dropped = _without_shared(rest, test, protocol.disjoint, common)
        validation, warnings = _validation(taken, kept, division, protocol)
        train = kept
        if protocol.validation != "test":
            train = np.setdiff1d(kept, validation)
            if protocol.validation == "part" and division.validation is not None:
                # What the scheme's own validation part lost is no loss of the training part.
                dropped = {leak: np.setdiff1d(lost, division.validation) for leak, lost in dropped.items()}
            train, also = _without_shared(train, validation, protocol.disjoint, common)
            dropped = {leak: np.union1d(lost, also[leak]) for leak, lost in dropped.items()}
        lost = {leak: len(those) for leak, those in dropped.items()}
        if not len(train):
            raise UserError(
                f"fold {index} of {protocol.name} has no training utterance left"
                + (f" after dropping {_counted(lost)}" if any(lost.values()) else "")
            )
        if protocol.selection == "best" and protocol.validation != "none" and not len(validation):
            raise UserError(
                f"fold {index} of {protocol.name} has no validation utterance to select the epoch on: choose another "
                "protocol.validation, or fold.selection = last"
            )
        if train_only is not None:
            validation, test = (part[~train_only[part]] for part in (validation, test))
        warnings += [
            f"{count} training utterances dropped, which share {leak} with another part"
            for leak, count in lost.items()
            if count
        ]
        if len(outside):
            warnings.append(f"{len(outside)} utterances are in no part: {division.why_outside}")
        warnings += missing_classes(train, validation, test, label_array, class_names)
        folds.append(
            Fold(
                index,
                division.units,
                rows[train],
                rows[validation],
                rows[test],
                (*(f"fold {index}: {warning}" for warning in warnings), *general),
                lost,
            )
        )
    return folds


def fold_table(manifest: pa.Table, folds: Sequence[Fold]) -> pa.Table:
    """The folds as a table: utterance_id, fold, part (train, validation, test or unused).

    In each fold an utterance has one row for each part that it is in: two where the test part also validates.
    """
    ids = manifest["utterance_id"].combine_chunks()
    schema = pa.schema([("utterance_id", pa.string()), ("fold", pa.int32()), ("part", pa.string())])
    tables = []
    for fold in folds:
        parts = {"train": fold.train, "validation": fold.validation, "test": fold.test}
        parts["unused"] = np.setdiff1d(np.arange(len(ids)), np.concatenate(list(parts.values())))
        rows = np.concatenate(list(parts.values()))
        names = np.repeat(list(parts), [len(part) for part in parts.values()])
        order = np.argsort(rows, kind="stable")
        columns = [ids.take(pa.array(rows[order])), np.full(len(rows), fold.index), names[order]]
        tables.append(pa.table([pa.array(column) for column in columns], names=schema.names).cast(schema))
    return pa.concat_tables(tables)


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which digits count as numbers: a2 before a10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _column(taken: pa.Table, name: str) -> list[str]:
    """A column by which a corpus is divided, which must be known of every utterance."""
    values: list[str | None] = taken[name].to_pylist()
    if unknown := [row for row, value in enumerate(values) if value is None]:
        shown = ", ".join(taken["utterance_id"][row].as_py() for row in unknown[:3])
        raise UserError(
            f"{len(unknown)} utterances have no {name} ({shown}, …): this corpus cannot be divided by {name}"
        )
    return [value for value in values if value is not None]


def _by_speaker(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    return [Division(*part) for part in leave_one_group_out(_column(taken, "speaker"))]


def _by_session(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    return [Division(*part) for part in leave_one_group_out(_column(taken, "session"))]


def _speaker_kfold(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    parts = group_kfold(_column(taken, "speaker"), protocol.n_folds or 5, protocol.seed)
    return [Division(*part) for part in parts]


def _balanced_speaker_parts(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    """Each part is tested once and validates the part before it; lines of several speakers at once are in no part."""
    names = taken["speaker"].to_pylist()
    joint = np.array([name is not None and bool(_JOINT.search(name)) for name in names], dtype=bool)
    alone = np.flatnonzero(~joint)
    # "Phoebe Sr" and "Phoebe Sr." are one person.
    people = [re.sub(r"[^\w ]", "", names[row]) if names[row] is not None else None for row in alone]
    parts = [(units, alone[rows]) for units, rows in balanced_group_parts(people, protocol.n_folds or 3)]
    following = [*parts[1:], parts[0]]
    return [
        Division(
            units,
            test,
            other,
            np.flatnonzero(joint),
            "they name several speakers or a role beside the speaker",
        )
        for (units, test), (_, other) in zip(parts, following, strict=True)
    ]


def _random_kfold(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    utterances = taken["utterance_id"].to_pylist()
    parts = random_kfold(utterances, labels.tolist(), protocol.n_folds or 10, protocol.seed)
    return [Division(*part) for part in parts]


def _amh(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    return amh_folds(taken["utterance_id"].to_pylist())


def _avdal(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    return [Division(*part) for part in avdal_draws(taken["utterance_id"].to_pylist())]


def _official(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    split = np.array(taken["split"].to_pylist(), dtype=object)
    parts = {name: np.flatnonzero(split == name) for name in ("train", "dev", "test")}
    if empty := [name for name, rows in parts.items() if not len(rows) and name != "dev"]:
        raise UserError(f"the manifest's column split has no {_list(empty)}: this corpus publishes no split")
    speakers = set(taken["speaker"].take(pa.array(parts["test"])).to_pylist()) - {None}
    units = tuple(sorted(speakers, key=natural_key))
    outside = np.setdiff1d(np.arange(len(split)), np.concatenate(list(parts.values())))
    validation = parts["dev"] if len(parts["dev"]) else None
    return [Division(units, parts["test"], validation, outside, "their split is none of train, dev and test")]


def _cross_corpus(taken: pa.Table, labels: Rows, protocol: Protocol) -> list[Division]:
    """Train on the first corpus, test on the second: its test split where it has one, else all of it."""
    if len(protocol.corpora) != 2:
        raise UserError(f"{protocol.name}: cross-corpus needs a corpus to train on and one to test on")
    corpus = np.array(taken["corpus"].to_pylist(), dtype=object)
    own, other = (np.flatnonzero(corpus == name) for name in protocol.corpora)
    for name, rows in zip(protocol.corpora, (own, other), strict=True):
        if not len(rows):
            raise UserError(f"{protocol.name} needs {name}, of which no utterance takes part")
    split = np.array(taken["split"].to_pylist(), dtype=object)
    test = other[split[other] == "test"]
    test = test if len(test) else other
    source = taken.take(pa.array(own))
    if source["session"].null_count == 0 and protocol.corpora[0] == "iemocap":
        *_, (_, last) = leave_one_group_out(source["session"].to_pylist())
    else:
        speakers = _known(source["speaker"].to_pylist())
        last = np.flatnonzero(np.isin(np.array(source["speaker"].to_pylist(), dtype=object), speakers[-2:]))
    unused = np.setdiff1d(other, test)
    return [
        Division(
            (protocol.corpora[1],), test, own[last], unused, f"{protocol.corpora[1]} outside its test split"
        )
    ]


SCHEMES: Mapping[str, Callable[[pa.Table, Rows, Protocol], list[Division]]] = {
    "leave-one-speaker-out": _by_speaker,
    "leave-one-session-out": _by_session,
    "speaker-kfold": _speaker_kfold,
    "balanced-speaker-parts": _balanced_speaker_parts,
    "random-kfold": _random_kfold,
    "amh-random": _amh,
    "avdal-draws": _avdal,
    "official": _official,
    "cross-corpus": _cross_corpus,
}
"""Every way to make test parts: from the utterances that take part, their classes and the protocol."""


def _validation(
    taken: pa.Table, rest: Rows, division: Division, protocol: Protocol
) -> tuple[Rows, list[str]]:
    """The validation part, and what it lacks."""
    if protocol.validation == "part":
        if division.validation is None:
            raise UserError(
                f"{protocol.scheme} gives no validation part of its own here: protocol.validation must be speakers, "
                "session, none or test"
            )
        return np.intersect1d(division.validation, rest), []
    if protocol.validation == "test":
        return division.test, []
    if protocol.validation == "none":
        return rest[:0], []
    return _inner_validation(taken, rest, division.test, protocol)


def _without_shared(
    rows: Rows, others: Rows, leaks: Sequence[str], common: Common
) -> tuple[Rows, dict[str, Rows]]:
    """Leave out the rows that share something with other rows; and which those were, per leak in turn."""
    dropped = {}
    for leak in leaks:
        shared = common.rows_sharing(leak, rows, others)
        dropped[leak] = shared
        rows = np.setdiff1d(rows, shared)
    return rows, dropped


def _inner_validation(taken: pa.Table, rest: Rows, test: Rows, protocol: Protocol) -> tuple[Rows, list[str]]:
    """Hold out whole groups of the training part: the next ones after the test group, where possible both genders.

    Going round cyclically from the test group spreads the validation over the groups.
    """
    column = "session" if protocol.validation == "session" else "speaker"
    count = 1 if column == "session" else protocol.validation_speakers
    groups = np.array(taken[column].to_pylist(), dtype=object)
    genders = dict(zip(groups, taken["gender"].to_pylist(), strict=True))
    names = sorted(set(groups) - {None}, key=natural_key)
    held_out = [names.index(name) for name in set(groups[test]) - {None}]
    start = (max(held_out) + 1) if held_out else 0
    inside = set(groups[rest]) - set(groups[test])
    candidates = [name for name in names[start:] + names[:start] if name in inside]
    if len(candidates) <= count:
        mend = "--protocol.validation none with --fold.selection last"
        if column == "speaker" and len(candidates) > 1:
            mend = f"--protocol.validation_speakers {len(candidates) - 1}, or {mend}"
        raise UserError(
            f"validation on other {column}s needs at least {count + 1} {column}s outside the test part, found "
            f"{len(candidates)}: use {mend}"
        )
    chosen: list[str] = []
    if column == "speaker":
        for gender in ("female", "male"):
            matching = [name for name in candidates if genders[name] == gender]
            chosen += matching[: count // 2]
    chosen += [name for name in candidates if name not in chosen][: max(0, count - len(chosen))]
    warnings = []
    if column == "speaker":
        missing_genders = {"female", "male"} - {genders[name] for name in chosen}
        if missing_genders:
            warnings.append(f"no {_list(sorted(missing_genders))} speaker in the validation part")
    return rest[np.isin(groups[rest], chosen)], warnings


def _with_copies(fold: Fold, manifest: pa.Table, copies: Rows) -> Fold:
    """Add the altered copies of training utterances to the training part; others take no part."""
    training = set(manifest["utterance_id"].take(pa.array(fold.train)).to_pylist())
    parents = manifest["parent"].take(pa.array(copies)).to_pylist()
    own = copies[[parent in training for parent in parents]]
    return replace(fold, train=np.union1d(fold.train, own))


def missing_classes(
    train: Rows, validation: Rows, test: Rows, labels: Rows, class_names: Sequence[str]
) -> list[str]:
    """Say which classes the parts lack; an empty part is no news."""
    warnings = []
    for name, part in (("validation", validation), ("training", train), ("test", test)):
        missing = sorted(set(range(len(class_names))) - set(labels[part].tolist()))
        if missing and len(part):
            warnings.append(f"no {_list(class_names[index] for index in missing)} in the {name} part")
    return warnings


def one_class_speakers(taken: pa.Table, labels: Rows, class_names: Sequence[str]) -> list[str]:
    """Speakers of whom only one class is there: who recognises them knows the answer."""
    classes: dict[str, Counter[int]] = {}
    for speaker, label in zip(taken["speaker"].to_pylist(), labels.tolist(), strict=True):
        if speaker is not None:
            classes.setdefault(speaker, Counter())[label] += 1
    single = [
        f"{speaker} ({count} {class_names[label]})"
        for speaker, counts in classes.items()
        if len(counts) == 1
        for label, count in counts.items()
        if count > 1
    ]
    if not single:
        return []
    shown = ", ".join(single[:3]) + (f" and {len(single) - 3} more" if len(single) > 3 else "")
    return [f"{len(single)} speakers have one class only: {shown}"]


def _named_parts(groups: Sequence[str | None], parts: Sequence[Sequence[str]]) -> list[Part]:
    names = [tuple(sorted(part, key=natural_key)) for part in parts]
    return list(zip(names, _members(groups, parts), strict=True))


def _members(groups: Sequence[str | None], parts: Sequence[Sequence[str]]) -> list[Rows]:
    """The rows of each part, whose groups are in no other part."""
    number = {name: index for index, part in enumerate(parts) for name in part}
    part_of = np.array(
        [number.get(group, -1) if group is not None else -1 for group in groups], dtype=np.int64
    )
    order = np.argsort(part_of, kind="stable")
    bounds = np.searchsorted(part_of[order], np.arange(len(parts) + 1))
    return [order[start:stop] for start, stop in zip(bounds[:-1], bounds[1:], strict=True)]


def _ascending(rows: Sequence[int]) -> Rows:
    return np.array(sorted(rows), dtype=np.int64)


def _counted(dropped: Mapping[str, int]) -> str:
    return ", ".join(f"{count} that share {leak}" for leak, count in dropped.items() if count)


def _known(groups: Sequence[str | None]) -> list[str]:
    unknown = sum(group is None for group in groups)
    if unknown:
        raise UserError(f"{unknown} utterances have no group: this corpus cannot be divided that way")
    names = sorted({group for group in groups if group is not None}, key=natural_key)
    if len(names) < 2:
        raise UserError(f"cross-validation needs at least 2 groups, found {len(names)}: {_list(names)}")
    return names


def _list(names: Any) -> str:
    return ", ".join(names) or "none"
