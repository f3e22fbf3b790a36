"""A run directory as an object: what a training left behind, checked before any number is made.

The folder may be local or on an object store. Layout::

    RUN/config.yaml  environment.json  folds.parquet  leaks.json  ledger/  or  ledger.jsonl
    RUN/seed-<s>/fold-<k>/predictions.parquet  [predictions-refit.parquet]  fold.json

``fold.json`` is written last, so a fold without it has not finished.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pyarrow as pa
import yaml

from ser_models import places
from ser_models.errors import UserError
from ser_models.evaluation.predictions import (
    Description,
    DimensionPredictions,
    Predictions,
    Tested,
    read_predictions,
)

PREDICTIONS = "predictions.parquet"
REFIT_PREDICTIONS = "predictions-refit.parquet"

_SAME_IN_EVERY_FOLD = ("objective", "system", "corpus", "preset", "protocol", "unit", "synthetic")


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One finished fold of one seed, as its ``fold.json`` tells."""

    seed: int
    fold: int
    record: dict[str, Any]
    """Keys: selected_epoch, epochs, selection, history, train_class_counts or train_dimensions, counts, …"""


Rows_co = TypeVar("Rows_co", bound=Tested, covariant=True)


@dataclass(frozen=True, kw_only=True)
class AnyRun(Generic[Rows_co]):
    """A cross-validated training, ready for evaluation: a `Run` or a `DimensionRun`."""

    uri: str
    name: str
    description: Description
    """System, objective, corpus, preset, protocol, unit, selection, synthetic and classes: equal in every fold."""
    folds: tuple[Fold, ...]
    """Finished folds by seed and fold."""
    missing: tuple[str, ...]
    """Unfinished ones, such as ``seed-0/fold-3``; empty unless the caller allowed them."""
    test: Rows_co
    """Predictions of the test parts of all folds and seeds."""
    refit_test: Rows_co | None
    """The same from the models trained again on training and validation part, where a run has them."""
    leaks: dict[str, Any] | None
    """``leaks.json``; None where no check was recorded."""
    test_reads: tuple[dict[str, Any], ...] | None
    """The ledger: every read of a test part. None where no ledger was kept."""
    configuration: str
    """``config.yaml`` as it stands."""
    environment: dict[str, Any]
    notes: tuple[str, ...]
    """What a reader of the numbers should know about the files."""

    @property
    def seeds(self) -> list[int]:
        """The seeds with at least one finished fold."""
        return sorted({fold.seed for fold in self.folds})

    @property
    def fold_numbers(self) -> list[int]:
        """The folds finished under at least one seed."""
        return sorted({fold.fold for fold in self.folds})


class Run(AnyRun[Predictions]):
    """A training on emotion classes."""


class DimensionRun(AnyRun[DimensionPredictions]):
    """A training on dimensions."""


def read_run(uri: str, *, allow_incomplete: bool = False) -> Run | DimensionRun:
    """Read and check a run directory.

    Args:
        uri: the folder, local or remote.
        allow_incomplete: evaluate the finished folds of an unfinished run.

    Raises:
        UserError: no such folder, not a run, unfinished, or its files are damaged or contradict each other.
    """
    uri = places.absolute(uri)
    names = places.list_names(uri)
    if not names:
        raise UserError(f"{uri}: no such folder, or an empty one; give the folder that train.py wrote")
    lacking = [name for name in ("config.yaml", "folds.parquet") if name not in names]
    if lacking:
        raise UserError(
            f"{uri} is not a run: {' and '.join(lacking)} missing; give the folder that train.py wrote"
        )

    configuration = places.read_bytes(places.join(uri, "config.yaml")).decode()
    settings = _settings(uri, configuration)
    parts = _parts(uri)
    folds, missing = _finished(uri, names, settings, sorted(parts))
    if missing and not allow_incomplete:
        raise UserError(
            f"{uri} is not finished: {_some(missing)} missing; continue it with train.py --resume, or "
            "evaluate the finished folds with --allow-incomplete"
        )
    if not folds:
        raise UserError(f"{uri} has no finished fold yet; continue it with train.py --resume")

    test, description = _gather(uri, folds, PREDICTIONS)
    with_refit = [fold for fold in folds if REFIT_PREDICTIONS in places.list_names(_folder(uri, fold))]
    refitted = bool(with_refit) and len(with_refit) == len(folds)
    notes = _coverage(uri, folds, test, parts)
    if with_refit and not refitted:
        without = [f"seed-{fold.seed}/fold-{fold.fold}" for fold in folds if fold not in with_refit]
        notes.append(f"numbers after refit left out, because {_some(without)} has none")
    leaks = _json(places.join(uri, "leaks.json")) if "leaks.json" in names else None
    environment = _json(places.join(uri, "environment.json")) if "environment.json" in names else {}
    kind: Any = Run if description.objective == "emotion" else DimensionRun
    run: Run | DimensionRun = kind(
        uri=uri,
        name=str(settings.get("name") or places.name(uri)),
        description=description,
        folds=tuple(folds),
        missing=tuple(missing),
        test=test,
        refit_test=_gather(uri, folds, REFIT_PREDICTIONS)[0] if refitted else None,
        leaks=leaks,
        test_reads=_ledger(uri, names),
        configuration=configuration,
        environment=environment,
        notes=tuple(notes),
    )
    return run


def _folder(uri: str, fold: Fold) -> str:
    return places.join(uri, f"seed-{fold.seed}", f"fold-{fold.fold}")


def _settings(uri: str, configuration: str) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(configuration)
    except yaml.YAMLError as error:
        raise UserError(f"{uri}/config.yaml cannot be read as YAML: {error}") from error
    if not isinstance(settings, dict):
        raise UserError(f"{uri}/config.yaml holds no settings; give the folder that train.py wrote")
    return settings


def _parts(uri: str) -> dict[int, set[str]]:
    """The test utterances of each fold, from the assignment that was fixed before training."""
    path = places.join(uri, "folds.parquet")
    try:
        table = places.read_table(path, ["utterance_id", "fold", "part"])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    test: dict[int, set[str]] = {fold: set() for fold in table["fold"].unique().to_pylist()}
    columns = (table[name].to_pylist() for name in ("utterance_id", "fold", "part"))
    for utterance, fold, part in zip(*columns, strict=True):
        if part == "test":
            test[fold].add(utterance)
    if not any(test.values()):
        raise UserError(f"{path} assigns no utterance to a test part")
    return test


def _finished(
    uri: str, names: list[str], settings: dict[str, Any], planned_folds: list[int]
) -> tuple[list[Fold], list[str]]:
    found = [int(name.removeprefix("seed-")) for name in names if re.fullmatch(r"seed-\d+", name)]
    folds, missing = [], []
    for seed in _planned_seeds(settings, found):
        folder = places.join(uri, f"seed-{seed}")
        there = [name for name in places.list_names(folder) if re.fullmatch(r"fold-\d+", name)]
        numbers = {*planned_folds, *(int(name.removeprefix("fold-")) for name in there)}
        for number in sorted(numbers):
            files = places.list_names(places.join(folder, f"fold-{number}"))
            if {"fold.json", PREDICTIONS} <= set(files):
                record = _json(places.join(folder, f"fold-{number}", "fold.json"))
                folds.append(Fold(seed=seed, fold=number, record=record))
            else:
                missing.append(f"seed-{seed}/fold-{number}")
    return folds, missing


def _planned_seeds(settings: dict[str, Any], found: list[int]) -> list[int]:
    """Seeds that the configuration lists, or counts up from its ``seed``, and those that are there."""
    planned, first = settings.get("seeds", 1), settings.get("seed", 0)
    if not isinstance(planned, list):
        planned = range(int(first or 0), int(first or 0) + int(planned or 1))
    return sorted({*found, *(int(seed) for seed in planned)})


def _gather(uri: str, folds: list[Fold], file: str) -> tuple[Tested, Description]:
    collected: list[Tested] = []
    first: Description | None = None
    for fold in folds:
        path = places.join(_folder(uri, fold), file)
        predictions, description = read_predictions(path, fold=fold.fold, seed=fold.seed)
        first = first or description
        for field in _SAME_IN_EVERY_FOLD:
            here, there = getattr(description, field), getattr(first, field)
            if here != there:
                raise UserError(
                    f"{path}: {field} is {here!r}, in the fold before it is {there!r}; they differ"
                )
        if description.classes != first.classes:
            raise UserError(
                f"{path}: its classes are {', '.join(description.classes)}, those of the fold before are "
                f"{', '.join(first.classes)}; the folds are of different runs"
            )
        test = predictions.where(predictions.part == "test")
        if not len(test):
            raise UserError(f"{path} holds no prediction of a test part")
        collected.append(test)
    assert first is not None
    joined = type(collected[0]).join(collected)
    for seed in sorted(set(joined.seed.tolist())):
        of_seed = joined.where(joined.seed == seed)
        seen: dict[str, int] = {}
        for utterance, number in zip(of_seed.utterance.tolist(), of_seed.fold.tolist(), strict=True):
            if utterance in seen:
                raise UserError(
                    f"{uri}: utterance {utterance!r} is tested twice under seed {seed} (folds "
                    f"{seen[utterance]} and {number}); each utterance must be tested once per seed"
                )
            seen[utterance] = number
    return joined, first


def _coverage(uri: str, folds: list[Fold], test: Tested, parts: dict[int, set[str]]) -> list[str]:
    """Compare the predictions with the assignment: none may be extra, missing ones are told."""
    notes = []
    for fold in folds:
        mask = (test.seed == fold.seed) & (test.fold == fold.fold)
        predicted = set(test.utterance[mask].tolist())
        planned = parts.get(fold.fold, set())
        where = f"seed-{fold.seed}/fold-{fold.fold}"
        if extra := sorted(predicted - planned):
            raise UserError(
                f"{uri}/{where}: {_some(extra)} predicted as test, but folds.parquet does not put them in "
                "this fold's test part; the files are of different runs"
            )
        if unpredicted := sorted(planned - predicted):
            notes.append(f"{where}: no prediction for {_some(unpredicted)} of the test part")
    return notes


def _json(path: str) -> dict[str, Any]:
    try:
        content = json.loads(places.read_bytes(path))
    except ValueError as error:
        raise UserError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object, not a {type(content).__name__}")
    return content


def _ledger(uri: str, names: list[str]) -> tuple[dict[str, Any], ...] | None:
    """All reads, kept as lines of one file or, without a lock between workers, as one file each."""
    if not {"ledger", "ledger.jsonl"} & set(names):
        return None
    paths = [places.join(uri, "ledger", name) for name in places.list_names(places.join(uri, "ledger"))]
    # Names that begin with a dot are being written.
    paths = [path for path in paths if not places.name(path).startswith(".")]
    paths += [places.join(uri, "ledger.jsonl")] if "ledger.jsonl" in names else []
    lines = [line for path in paths for line in places.read_bytes(path).decode(errors="replace").splitlines()]
    reads = []
    for line in filter(str.strip, lines):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        # A line cut off by a kill still tells that a test part was read.
        reads.append(entry if isinstance(entry, dict) else {"why": "unreadable line"})
    return tuple(reads)


def _some(names: list[str], limit: int = 4) -> str:
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
