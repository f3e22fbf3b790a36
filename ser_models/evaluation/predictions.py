"""One fold's predictions file: columns as arrays, metadata as a record, faults as clear errors.

Files are of two kinds: of emotion classes (`Predictions`) and of dimensions (`DimensionPredictions`).
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ser_models import places
from ser_models.errors import UserError

Strings = npt.NDArray[np.object_]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

GROUPS = ("speaker", "session", "gender", "language", "intensity", "scenario")
"""Columns that may be null: what is known of an utterance besides its label."""

_COLUMNS = ("utterance_id", "corpus", "part", "fold", "seed", *GROUPS, "target")
_OF_KIND = {"emotion": ("label", "prediction", "probabilities"), "dimensions": ("predicted",)}


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a predictions file says about the experiment that it belongs to."""

    system: str
    corpus: str
    preset: str
    """``clean`` or ``faithful``."""
    protocol: str
    unit: str
    """The independent unit: ``speaker`` or ``session``."""
    selection: str
    """How the epoch was chosen."""
    synthetic: bool
    classes: tuple[str, ...]
    """Names of the outputs: classes, or dimensions."""
    objective: str = "emotion"
    """``emotion`` or ``dimensions``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Tested:
    """Whose predictions they are, one array per column, all of one length; what was predicted is the subclass's."""

    utterance: Strings
    part: Strings
    fold: Integers
    seed: Integers
    speaker: Strings
    session: Strings
    gender: Strings
    language: Strings
    intensity: Strings
    scenario: Strings

    def __len__(self) -> int:
        return len(self.utterance)

    def where(self, mask: npt.NDArray[np.bool_]) -> Self:
        """The rows where the mask is true."""
        return type(self)(**{field.name: getattr(self, field.name)[mask] for field in fields(self)})

    @classmethod
    def join(cls, several: Sequence[Self]) -> Self:
        """All rows of several, in order."""
        return cls(
            **{
                field.name: np.concatenate([getattr(each, field.name) for each in several])
                for field in fields(cls)
            }
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions(Tested):
    """Predictions of emotion classes."""

    label: Integers
    prediction: Integers
    probabilities: npt.NDArray[np.float32]
    """``[utterances, C]``."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DimensionPredictions(Tested):
    """Predictions of dimensions, on the corpus's scale."""

    target: Floats
    """``[utterances, dimensions]``."""
    predicted: Floats
    """``[utterances, dimensions]``."""


def read_predictions(
    path: str, *, fold: int, seed: int
) -> tuple[Predictions | DimensionPredictions, Description]:
    """Read and check one predictions file.

    Args:
        path: URI of the file.
        fold: the fold that its rows must be of.
        seed: the seed that its rows must be of.

    Raises:
        UserError: the file is damaged, lacks a column or metadata, or holds impossible values.
    """
    try:
        table = places.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}); delete fold.json beside it and continue with train.py --resume"
        ) from error
    description = _description(path, table.schema.metadata or {})
    wanted = (*_COLUMNS, *_OF_KIND[description.objective])
    if lacking := [name for name in wanted if name not in table.column_names]:
        raise UserError(
            f"{path} lacks the columns {', '.join(lacking)}; it is no predictions file of train.py"
        )
    predictions = _columns(path, table, description)
    if not len(predictions):
        raise UserError(f"{path} holds no prediction")
    if (predictions.fold != fold).any() or (predictions.seed != seed).any():
        raise UserError(
            f"{path} holds rows of another fold or seed than its folder's (fold {fold}, seed {seed})"
        )
    if isinstance(predictions, Predictions):
        _check_classes(path, predictions, len(description.classes))
    else:
        _require_finite(path, predictions, predictions.predicted, "value")
        _require_finite(path, predictions, predictions.target, "target")
    return predictions, description


def _columns(path: str, table: pa.Table, description: Description) -> Predictions | DimensionPredictions:
    count = len(description.classes)
    identity: dict[str, Any] = {
        "utterance": _strings(table["utterance_id"]),
        "part": _strings(table["part"]),
        "fold": _integers(path, table, "fold"),
        "seed": _integers(path, table, "seed"),
        **{name: _strings(table[name]) for name in GROUPS},
    }
    if description.objective == "dimensions":
        lists: dict[str, Any] = {
            name: _lists(path, table[name], count, "values, one per dimension").astype(np.float64)
            for name in ("target", "predicted")
        }
        return DimensionPredictions(**identity, **lists)
    return Predictions(
        **identity,
        label=_integers(path, table, "label"),
        prediction=_integers(path, table, "prediction"),
        probabilities=_lists(path, table["probabilities"], count, "probabilities, one per class"),
    )


def _description(path: str, metadata: dict[bytes, bytes]) -> Description:
    try:
        classes = tuple(str(name) for name in json.loads(metadata[b"classes"]))
        protocol: dict[str, Any] = json.loads(metadata[b"protocol"])
        description = Description(
            system=str(protocol["system"]),
            corpus=str(protocol["corpus"]),
            preset=str(protocol["preset"]),
            protocol=str(protocol["protocol"]),
            unit=str(protocol["unit"]),
            selection=str(protocol["selection"]),
            synthetic=bool(protocol["synthetic"]),
            classes=classes,
            # Files that were written before there were two kinds do not say it.
            objective=str(protocol.get("objective", "emotion")),
        )
    except KeyError as error:
        key = str(error.args[0].decode() if isinstance(error.args[0], bytes) else error.args[0])
        raise UserError(
            f"{path} does not say its {key!r} in its metadata; was it written by train.py?"
        ) from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: its metadata cannot be read as JSON: {error}") from error
    if description.objective not in _OF_KIND:
        raise UserError(f"{path}: its objective is {description.objective!r}; allowed: {', '.join(_OF_KIND)}")
    if description.unit not in {"speaker", "session"}:
        raise UserError(f"{path}: its unit is {description.unit!r}; allowed are 'speaker' and 'session'")
    if len(classes) < 2 or len(set(classes)) < len(classes):
        raise UserError(f"{path}: its classes must be at least two different names, not {list(classes)}")
    return description


def _strings(column: pa.ChunkedArray) -> Strings:
    array = np.empty(len(column), dtype=object)
    array[:] = column.to_pylist()
    return array


def _integers(path: str, table: pa.Table, name: str) -> Integers:
    column = table[name]
    if column.null_count or not pa.types.is_integer(column.type):
        raise UserError(
            f"{path}: column {name} must hold integers, it is {column.type} with {column.null_count} nulls"
        )
    return np.asarray(column.to_numpy(), dtype=np.int64)


def _lists(path: str, column: pa.ChunkedArray, count: int, what: str) -> npt.NDArray[np.float32]:
    lengths = pc.list_value_length(column)
    if column.null_count or not pc.all(pc.equal(lengths, count)).as_py():
        raise UserError(f"{path}: each row must hold {count} {what}")
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float32).reshape(-1, count)


def _require_finite(path: str, predictions: Tested, values: npt.NDArray[Any], what: str) -> None:
    broken = np.asarray(~np.isfinite(values).all(axis=1))
    if broken.any():
        raise UserError(
            f"{path}: {int(broken.sum())} of {len(broken)} predictions have a {what} that is not a "
            f"number, first {predictions.utterance[broken][0]!r}; the training diverged"
        )


def _check_classes(path: str, predictions: Predictions, num_classes: int) -> None:
    _require_finite(path, predictions, predictions.probabilities, "probability")
    # A float32 softmax may leave the range by rounding.
    if predictions.probabilities.min() < -1e-5 or predictions.probabilities.max() > 1 + 1e-5:
        raise UserError(f"{path}: probabilities must lie in 0 to 1")
    for name in ("label", "prediction"):
        values = getattr(predictions, name)
        if values.min() < 0 or values.max() >= num_classes:
            raise UserError(
                f"{path}: column {name} must lie in 0 to {num_classes - 1}, found "
                f"{values.min()} to {values.max()}"
            )
