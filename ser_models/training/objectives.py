"""What a system is trained for: emotion classes, or valence, arousal and dominance as numbers.

An objective says how the scores of segments become the prediction of their utterance, which figures of the
validation part go into the history and which of them selects the epoch, and what is written beside a prediction.
The loss is the network's own.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch

from ser_models.corpora import EMOTIONS
from ser_models.errors import WorkError
from ser_models.evaluation.dimensions import ccc
from ser_models.evaluation.metrics import AbsentClassWarning, accuracy, uar
from ser_models.models.labels import DIMENSIONS, get_label_set, unmapped
from ser_models.models.system import Aggregate, System, cross_entropy_sum
from ser_models.protocols.folds import natural_key
from ser_models.training.data import Examples

Array = np.ndarray[Any, Any]
ObjectiveName = Literal["emotion", "dimensions"]


@dataclass(frozen=True)
class Task:
    """What a system is trained for on a corpus.

    Attributes:
        names: of the outputs, classes or dimensions, in index order.
        examples: of the whole corpus.
        wanted: what an utterance must have to take part, in words.
        notes: what a reader should know of those that take no part.
    """

    names: tuple[str, ...]
    examples: Examples
    wanted: str
    notes: tuple[str, ...]


class Objective(abc.ABC):
    """One way of being trained; it holds no state."""

    name: ClassVar[ObjectiveName]
    """As in the configuration."""
    score: ClassVar[str]
    """Name of the score that selects the epoch, for people; its figure is `selects`."""

    @property
    def selects(self) -> str:
        """The figure of the validation part that selects the epoch; the higher the better."""
        return f"validation_{self.score.lower()}"

    def epoch_text(self, entry: Mapping[str, float]) -> str:
        """One epoch's figures for the display."""
        text = f"loss {entry['train_loss']:.3f}"
        if self.selects in entry:
            text += f", validation {self.score} {entry[self.selects]:.3f}"
        return text

    @abc.abstractmethod
    def task(self, system: System, manifest: pa.Table, label_set: str) -> Task:
        """What a system is trained for on a corpus under a protocol with this label set.

        Raises:
            UserError: there is no such label set, or the corpus has nothing of the kind.
        """

    @abc.abstractmethod
    def fold_classes(
        self, target: Array, ids: Sequence[str], names: Sequence[str]
    ) -> tuple[list[int], tuple[str, ...]]:
        """What divides utterances into folds, where a scheme asks for classes.

        Args:
            target: [utterances, names].
            ids: of the utterances.
            names: of the outputs.

        Returns:
            Class index of each utterance, and the names of the classes that every part should have.
        """

    @abc.abstractmethod
    def predict(self, scores: Array, rows: Array, aggregate: Aggregate) -> tuple[Array, Array]:
        """Join the scores of segments to one prediction per utterance.

        Args:
            scores: [examples, classes or dimensions], what the network calls ``logits``.
            rows: [examples] the utterance of each example.
            aggregate: which scores of classes are averaged over segments.

        Returns:
            Utterances (ascending) and predictions [utterances, classes or dimensions].
        """

    @abc.abstractmethod
    def validation_figures(
        self, scores: Array, target: Array, rows: Array, aggregate: Aggregate
    ) -> dict[str, float]:
        """The history's figures of the validation part: ``validation_loss``, `selects` and others."""

    @abc.abstractmethod
    def columns(self, predictions: Array, targets: Array) -> dict[str, pa.Array]:
        """The columns of a predictions file that tell truth and prediction, one row per utterance."""

    @abc.abstractmethod
    def training_facts(self, target: Array, names: Sequence[str]) -> dict[str, Any]:
        """What baselines and readers need to know of the training part's targets [examples, names]."""

    @abc.abstractmethod
    def test_text(self, table: pa.Table) -> str:
        """The main score of a finished fold for the display, from the columns of its test predictions."""


class EmotionObjective(Objective):
    """Classes; the validation UAR selects."""

    name = "emotion"
    score = "UAR"

    def task(self, system: System, manifest: pa.Table, label_set: str) -> Task:
        """The classes of the protocol's label set, in the system's order."""
        emotions = manifest["emotion"].to_pylist()
        labels = get_label_set(label_set, emotions, EMOTIONS).of_system(system.name)
        counted = ", ".join(f"{emotion} {count}" for emotion, count in unmapped(emotions, labels).items())
        return Task(
            names=labels.classes,
            examples=Examples.from_table(system.examples(manifest, labels)),
            wanted=f"one of the classes {', '.join(labels.classes)}",
            notes=(f"utterances without one of the classes: {counted}",) if counted else (),
        )

    def fold_classes(
        self, target: Array, ids: Sequence[str], names: Sequence[str]
    ) -> tuple[list[int], tuple[str, ...]]:
        """The likeliest class of each target."""
        return target.argmax(1).tolist(), tuple(names)

    def predict(self, scores: Array, rows: Array, aggregate: Aggregate) -> tuple[Array, Array]:
        """Probabilities, averaged over segments as the system says."""
        values = torch.from_numpy(scores).double()
        if aggregate == "mean_softmax":
            values = values.softmax(1)
        elif aggregate == "mean_log_softmax":
            values = values.log_softmax(1)
        utterances, means = _means(values, rows)
        # After averaging log-probabilities no longer add up to one.
        probabilities = means if aggregate == "mean_softmax" else means.softmax(1)
        return utterances, probabilities.numpy()

    def validation_figures(
        self, scores: Array, target: Array, rows: Array, aggregate: Aggregate
    ) -> dict[str, float]:
        """Mean cross entropy of the examples, UAR and WA of the utterances."""
        loss = cross_entropy_sum(torch.from_numpy(scores), torch.from_numpy(target), torch.ones(len(target)))
        labels = per_utterance(target, rows).argmax(1)
        answers = self.predict(scores, rows, aggregate)[1].argmax(1)
        return {
            "validation_loss": float(loss / len(target)),
            "validation_uar": _quiet_uar(labels, answers),
            "validation_wa": accuracy(labels, answers),
        }

    def columns(self, predictions: Array, targets: Array) -> dict[str, pa.Array]:
        """Soft target, its class, the class answered and its probabilities."""
        return {
            "target": _lists(targets),
            "label": pa.array(targets.argmax(1), pa.int32()),
            "prediction": pa.array(predictions.argmax(1), pa.int32()),
            "probabilities": _lists(predictions),
        }

    def training_facts(self, target: Array, names: Sequence[str]) -> dict[str, Any]:
        """How often each class is there."""
        counts = np.bincount(target.argmax(1), minlength=len(names)).tolist()
        return {"train_class_counts": dict(zip(names, counts, strict=True))}

    def test_text(self, table: pa.Table) -> str:
        """UAR."""
        label, prediction = (table[name].to_numpy() for name in ("label", "prediction"))
        return f"test UAR {_quiet_uar(label, prediction):.3f}"


class DimensionObjective(Objective):
    """Valence, arousal and dominance on the corpus's scale; their mean concordance selects."""

    name = "dimensions"
    score = "CCC"

    def task(self, system: System, manifest: pa.Table, label_set: str) -> Task:
        """Every utterance with all three values, whatever its emotion: the label set has no part in this."""
        examples = Examples.from_table(system.dimension_examples(manifest))
        wanted = f"{', '.join(DIMENSIONS[:-1])} and {DIMENSIONS[-1]}"
        there = len(np.unique(examples.row))
        return Task(
            names=DIMENSIONS,
            examples=examples,
            wanted=wanted,
            notes=(
                f"objective dimensions: the {there} of {manifest.num_rows} utterances with {wanted} can take part, "
                f"of any emotion; the protocol's label set {label_set} is not used",
            ),
        )

    def fold_classes(
        self, target: Array, ids: Sequence[str], names: Sequence[str]
    ) -> tuple[list[int], tuple[str, ...]]:
        """No classes: each utterance stands for itself, in natural order of the ids (our choice)."""
        order = {name: index for index, name in enumerate(sorted(ids, key=natural_key))}
        return [order[name] for name in ids], ()

    def predict(self, scores: Array, rows: Array, aggregate: Aggregate) -> tuple[Array, Array]:
        """The plain mean over segments, whatever the system does with classes."""
        utterances, means = _means(torch.from_numpy(scores).double(), rows)
        return utterances, means.numpy()

    def validation_figures(
        self, scores: Array, target: Array, rows: Array, aggregate: Aggregate
    ) -> dict[str, float]:
        """Concordance of the utterances per dimension and its mean; the loss is 1 − that of the examples."""
        predictions = self.predict(scores, rows, aggregate)[1]
        found = _concordances(per_utterance(target, rows), predictions)
        return {
            "validation_loss": 1 - float(np.mean(_concordances(target, scores))),
            "validation_ccc": float(np.mean(found)),
            **{f"validation_ccc_{name}": value for name, value in zip(DIMENSIONS, found, strict=True)},
        }

    def columns(self, predictions: Array, targets: Array) -> dict[str, pa.Array]:
        """Target and prediction, three numbers each."""
        return {"target": _lists(targets), "predicted": _lists(predictions)}

    def training_facts(self, target: Array, names: Sequence[str]) -> dict[str, Any]:
        """Mean, standard deviation and range of each dimension."""
        figures = {
            "mean": target.mean(0, dtype=np.float64),
            "sd": target.std(0, dtype=np.float64),
            "lowest": target.min(0),
            "highest": target.max(0),
        }
        return {
            "train_dimensions": {
                name: {figure: float(values[index]) for figure, values in figures.items()}
                for index, name in enumerate(names)
            }
        }

    def test_text(self, table: pa.Table) -> str:
        """Mean concordance and that of each dimension."""
        target, predicted = (np.array(table[name].to_pylist()) for name in ("target", "predicted"))
        found = _concordances(target, predicted)
        each = ", ".join(f"{name} {value:.3f}" for name, value in zip(DIMENSIONS, found, strict=True))
        return f"test CCC {np.mean(found):.3f} ({each})"


OBJECTIVES: Mapping[str, Objective] = {
    objective.name: objective for objective in (EmotionObjective(), DimensionObjective())
}
"""Every objective by its name."""


def per_utterance(target: Array, rows: Array) -> Array:
    """The target of each utterance [utterances, …], utterances ascending: that of its first example."""
    first: Array = target[np.unique(rows, return_index=True)[1]]
    return first


def _means(scores: torch.Tensor, rows: Array) -> tuple[Array, torch.Tensor]:
    """Mean over the examples of each utterance."""
    utterances, inverse, counts = np.unique(rows, return_inverse=True, return_counts=True)
    sums = torch.zeros(len(utterances), scores.shape[1], dtype=torch.float64)
    sums.index_add_(0, torch.from_numpy(inverse), scores)
    return utterances, sums / torch.from_numpy(counts)[:, None]


def _quiet_uar(truth: Array, prediction: Array) -> float:
    """UAR over the classes that occur; which ones a part lacks is said once, when the folds are made."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AbsentClassWarning)
        return uar(truth, prediction)


def _concordances(truth: Array, prediction: Array) -> list[float]:
    """CCC of each column; 0 where truth and prediction are one constant, of which nothing can be said.

    Raises:
        WorkError: a prediction is not a number.
    """
    if not np.isfinite(prediction).all():
        raise WorkError(
            "some predictions are not numbers: check the features for NaN, or lower the learning rate"
        )
    values = [ccc(truth[:, index], prediction[:, index]) for index in range(truth.shape[1])]
    return [value if np.isfinite(value) else 0.0 for value in values]


def _lists(values: Array) -> pa.Array:
    return pa.array(values.astype(np.float32).tolist(), pa.list_(pa.float32()))
