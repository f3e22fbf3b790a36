"""Fold schemes: which utterances train, select and test a model.

A scheme works on examples' utterances only, through the columns of the manifest, and is a pure function of them
and a seed. What a scheme cannot give (a class missing from validation, a gender missing) is said in a warning,
never silently accepted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from sklearn.model_selection import KFold

from ser_models.errors import UserError

Rows = np.ndarray[Any, np.dtype[np.int64]]

SCHEMES = ("leave-one-speaker-out", "leave-one-session-out", "speaker-kfold", "random-kfold")


@dataclass(frozen=True)
class Fold:
    """One train/validation/test division; rows index the manifest.

    Attributes:
        index: number of the fold, from 0.
        test_units: names of the held-out speakers or sessions; empty for random folds.
        train, validation, test: rows of the manifest, ascending; no row is in two of them unless the protocol
            names that leak.
        warnings: what this fold lacks.
    """

    index: int
    test_units: tuple[str, ...]
    train: Rows
    validation: Rows
    test: Rows
    warnings: tuple[str, ...] = field(default=())


def leave_one_group_out(groups: Sequence[str | None]) -> list[tuple[tuple[str, ...], Rows]]:
    """One test part per group, groups in natural order.

    Args:
        groups: the group (speaker, session, …) of each row; None is an error.

    Returns:
        Per fold the held-out group and its rows.

    Raises:
        UserError: a row has no group, or there are fewer than two groups.
    """
    names = _known(groups)
    array = np.array(groups, dtype=object)
    return [((name,), np.flatnonzero(array == name)) for name in names]


def group_kfold(groups: Sequence[str | None], n_folds: int, seed: int) -> list[tuple[tuple[str, ...], Rows]]:
    """Deal whole groups over ``n_folds`` test parts, shuffled by the seed.

    Raises:
        UserError: as `leave_one_group_out`, or there are fewer groups than folds.
    """
    names = _known(groups)
    if not 2 <= n_folds <= len(names):
        raise UserError(f"n_folds = {n_folds}: allowed are 2 to {len(names)}, the number of groups")
    shuffled = np.random.default_rng(seed).permutation(np.array(names, dtype=object))
    array = np.array(groups, dtype=object)
    return [
        (tuple(sorted(part, key=natural_key)), np.flatnonzero(np.isin(array, part)))
        for part in (shuffled[start::n_folds] for start in range(n_folds))
    ]


def random_kfold(
    utterances: Sequence[str], classes: Sequence[int], n_folds: int, seed: int
) -> list[tuple[tuple[str, ...], Rows]]:
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


def make_folds(
    manifest: pa.Table,
    rows: Rows,
    labels: Sequence[int],
    *,
    scheme: str,
    n_folds: int | None,
    seed: int,
    validation: Literal["speakers", "none", "test"],
    validation_speakers: int,
    class_names: Sequence[str],
) -> list[Fold]:
    """Divide the usable rows of a manifest by a named scheme.

    Args:
        manifest: the corpus.
        rows: the rows that take part (those whose emotion is in the label set and whose features exist).
        labels: class index of each of ``rows``.
        scheme: one of `SCHEMES`.
        n_folds: for the k-fold schemes.
        seed: for the k-fold schemes.
        validation: how the validation part is chosen, see `ser_models.models.system.Preset`.
        validation_speakers: speakers to hold out for validation, at least 2.
        class_names: for warnings.

    Raises:
        UserError: the scheme is unknown or the corpus cannot be divided by it.
    """
    taken = manifest.take(pa.array(rows))
    parts = _test_parts(taken, labels, scheme, n_folds, seed)
    everything = np.arange(len(rows), dtype=np.int64)
    label_array = np.asarray(labels)
    folds = []
    for index, (units, test) in enumerate(parts):
        rest = np.setdiff1d(everything, test)
        if validation == "speakers":
            column = "session" if scheme == "leave-one-session-out" else "speaker"
            chosen, warnings = _inner_validation(
                taken, rest, test, column, validation_speakers, label_array, class_names
            )
        else:
            chosen = test if validation == "test" else rest[:0]
            warnings = []
        train = np.setdiff1d(rest, chosen)
        for name, part in (("training", train), ("test", test)):
            missing = sorted(set(range(len(class_names))) - set(label_array[part].tolist()))
            if missing:
                warnings.append(f"no {_list(class_names[c] for c in missing)} in the {name} part")
        folds.append(
            Fold(
                index,
                units,
                rows[train],
                rows[chosen],
                rows[test],
                tuple(f"fold {index}: {w}" for w in warnings),
            )
        )
    return folds


def fold_table(manifest: pa.Table, folds: Sequence[Fold]) -> pa.Table:
    """The folds as a table: utterance_id, fold, part (train, validation, test or unused)."""
    ids = manifest["utterance_id"].to_pylist()
    columns: dict[str, list[Any]] = {"utterance_id": [], "fold": [], "part": []}
    for fold in folds:
        part = np.full(len(ids), "unused", dtype=object)
        part[fold.train] = "train"
        part[fold.validation] = "validation"
        part[fold.test] = "test"
        columns["utterance_id"] += ids
        columns["fold"] += [fold.index] * len(ids)
        columns["part"] += part.tolist()
    types = {"utterance_id": pa.string(), "fold": pa.int32(), "part": pa.string()}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key under which digits count as numbers: a2 before a10."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name) if part]


def _test_parts(
    taken: pa.Table, labels: Sequence[int], scheme: str, n_folds: int | None, seed: int
) -> list[tuple[tuple[str, ...], Rows]]:
    if scheme == "leave-one-speaker-out":
        return leave_one_group_out(taken["speaker"].to_pylist())
    if scheme == "leave-one-session-out":
        return leave_one_group_out(taken["session"].to_pylist())
    if scheme == "speaker-kfold":
        return group_kfold(taken["speaker"].to_pylist(), n_folds or 5, seed)
    if scheme == "random-kfold":
        return random_kfold(taken["utterance_id"].to_pylist(), labels, n_folds or 10, seed)
    raise UserError(f"unknown fold scheme {scheme!r}; allowed: {', '.join(SCHEMES)}")


def _inner_validation(
    taken: pa.Table,
    rest: Rows,
    test: Rows,
    column: str,
    count: int,
    labels: np.ndarray[Any, Any],
    class_names: Sequence[str],
) -> tuple[Rows, list[str]]:
    """Hold out whole groups of the training part: the next ones after the test group, both genders, every class.

    Going round cyclically from the test group spreads the validation over the groups.
    """
    groups = np.array(taken[column].to_pylist(), dtype=object)
    genders = dict(zip(groups, taken["gender"].to_pylist(), strict=True))
    names = sorted(set(groups), key=natural_key)
    held_out = [names.index(name) for name in set(groups[test])]
    start = (max(held_out) + 1) if held_out else 0
    inside = set(groups[rest]) - set(groups[test])
    candidates = [name for name in names[start:] + names[:start] if name in inside]
    if column == "session":
        count = 1
    if len(candidates) <= count:
        raise UserError(
            f"validation on other speakers needs at least {count + 1} of {column} outside the test part, "
            f"found {len(candidates)}: use fewer validation speakers or validation = none"
        )
    chosen: list[str] = []
    if column == "speaker":
        for gender in ("female", "male"):
            matching = [name for name in candidates if genders[name] == gender]
            chosen += matching[: count // 2]
    chosen += [name for name in candidates if name not in chosen][: max(0, count - len(chosen))]
    part = rest[np.isin(groups[rest], chosen)]
    warnings = []
    if column == "speaker":
        missing_genders = {"female", "male"} - {genders[name] for name in chosen}
        if missing_genders:
            warnings.append(f"no {_list(sorted(missing_genders))} speaker in the validation part")
    missing = sorted(set(range(len(class_names))) - set(labels[part].tolist()))
    if missing:
        warnings.append(f"no {_list(class_names[c] for c in missing)} in the validation part")
    return part, warnings


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
