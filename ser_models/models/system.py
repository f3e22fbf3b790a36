"""What a system declares, and what its network must offer to the training loop.

A system is one paper in one file: a network (`Net`), and a `System` that names its views, label set and presets
and turns a manifest into training examples. Both are plain torch: nothing here knows of Ray, YAML or files.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_models.models.batch import Batch
from ser_models.models.labels import DIMENSIONS, LabelSet, hard_targets

Aggregate = Literal["mean_log_softmax", "mean_softmax", "mean_logit"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser and what it moves; the usual network has one, adversarial ones have several per batch.

    Attributes:
        name: passed to the network's ``forward`` and ``loss``.
        parameters: what this step's optimiser moves.
        optimiser: builds the optimiser from the parameters.
        scheduler: builds a learning-rate schedule from the optimiser, or None.
        scheduler_unit: whether the schedule advances after each epoch or each update.
        clip: ``global`` clips the joint gradient norm, ``per_variable`` each tensor's own.
        clip_norm: the norm that gradients are clipped to; None leaves them.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    optimiser: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler] | None = None
    scheduler_unit: Literal["epoch", "update"] = "epoch"
    clip: Literal["global", "per_variable"] = "global"
    clip_norm: float | None = None


class Net(nn.Module, abc.ABC):
    """A network as the training loop sees it."""

    @abc.abstractmethod
    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Compute outputs, among them ``logits`` [batch, classes]; for dimensions, values on the targets' scale."""

    def loss(self, outputs: dict[str, Tensor], batch: Batch, step: str = "main") -> dict[str, Tensor]:
        """Loss terms, each a weighted *sum* over the examples of the batch.

        The loop adds the terms and divides by the weights of the global batch, so a sum and not a mean is what
        makes several workers equal to one.
        """
        return {"emotion": cross_entropy_sum(outputs["logits"], batch.target, batch.weight)}

    def start(self, target: Tensor) -> None:
        """Take from the targets of the training part what does not need learning, such as their scale.

        The loop calls it once before the first epoch, on every worker alike; by default nothing is taken.

        Args:
            target: [examples, classes or dimensions], of all training examples.
        """

    def fit(self, batch: Batch) -> None:
        """Fit in closed form on all training examples at once; only for systems with ``closed_form = True``.

        Raises:
            TypeError: the network is trained by gradient steps.
        """
        raise TypeError(f"{type(self).__name__} is trained by gradient steps, it has no closed form")


def cross_entropy_sum(logits: Tensor, target: Tensor, weight: Tensor, smoothing: float = 0.0) -> Tensor:
    """Weighted sum of cross entropies with soft targets: −Σᵢ wᵢ Σ_c t_ic log softmax(zᵢ)_c.

    Args:
        logits: [batch, classes].
        target: [batch, classes], rows summing to 1.
        weight: [batch].
        smoothing: share of the target spread evenly over all classes.
    """
    target = target * (1 - smoothing) + smoothing / target.shape[1]
    return -(weight * (target * functional.log_softmax(logits, 1)).sum(1)).sum()


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Consecutive epochs that are trained by the same steps; the usual system has one stage.

    Attributes:
        epochs: of this stage.
        steps: the optimisers of one batch, in order; they start afresh with the stage.
    """

    epochs: int
    steps: Sequence[Step]


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One named way of running a system on a corpus: its protocol, its views and its training settings.

    Attributes:
        protocol: name in `ser_models.protocols.registry`: which utterances train, select and test.
        views: view specs, in the order in which the network reads them.
        normalise: ``none``, or ``global`` statistics of the training part.
        epochs, patience, batch_size: of training; patience None never stops early.
        augment: what alters the training examples, in the notation of `ser_models.features.augment`.
        model: arguments of the network that differ from its defaults.
        inherited: settings taken over from the paper although they were chosen under another protocol.
    """

    protocol: str
    views: tuple[str, ...]
    normalise: Literal["none", "global"]
    epochs: int = 1
    patience: int | None = None
    batch_size: int = 64
    augment: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    inherited: tuple[str, ...] = ()


class System(abc.ABC):
    """The declaration of one system; subclasses set the class attributes and the methods below."""

    name: ClassVar[str]
    """Name in the registry."""
    title: ClassVar[str]
    """Name in tables."""
    source: ClassVar[str]
    """Paper, venue and year."""
    net: ClassVar[type[Net]]
    """The network's class; its constructor takes ``num_classes``, ``features`` and its own arguments."""
    aggregate: ClassVar[Aggregate] = "mean_log_softmax"
    """How scores of segments become the score of their utterance."""
    closed_form: ClassVar[bool] = False
    """Whether the network is fitted by `Net.fit` and not by gradient steps."""
    unused_parameters: ClassVar[bool] = False
    """Whether some parameters get no gradient in some step, which DDP must be told."""
    objectives: ClassVar[tuple[str, ...]] = ("emotion",)
    """What it can be trained for, keys of `ser_models.training.objectives.OBJECTIVES`; a network that can be trained
    for more than emotion takes an argument ``objective``."""
    reads_words: ClassVar[bool] = False
    """Whether the network itself holds an encoder that was trained to recognise speech."""

    @abc.abstractmethod
    def preset(self, name: str, corpus: str) -> Preset:
        """The preset ``faithful`` or ``clean`` for a corpus.

        Raises:
            UserError: the system has no such preset, or none for this corpus.
        """

    @abc.abstractmethod
    def steps(self, net: Any) -> list[Step]:
        """The optimisers of one batch, in order; empty for a system in closed form."""

    def stages(self, net: Any, epochs: int) -> list[Stage]:
        """The stages of training, ``epochs`` in all; by default one."""
        return [Stage(epochs=epochs, steps=self.steps(net))]

    def sizes(self, shapes: Mapping[str, tuple[int, ...]], fitted: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the network that the data decides.

        Args:
            shapes: per view the trailing dimensions of its features.
            fitted: per view what was fitted on the training part, such as a vocabulary.

        Returns:
            By default ``features``, the values per frame of the only view.
        """
        return {"features": next(iter(shapes.values()))[0]}

    def examples(self, manifest: pa.Table, labels: LabelSet) -> pa.Table:
        """One row per training example; the default is one per utterance whose emotion is among the classes.

        Returns:
            What `example_table` builds.
        """
        targets = hard_targets(manifest["emotion"].to_pylist(), labels)
        return example_table(rows=targets.rows, target=targets.target)

    def dimension_examples(self, manifest: pa.Table) -> pa.Table:
        """The same for the objective ``dimensions``; the default is one per utterance whose three values are known.

        Returns:
            What `example_table` builds, with targets [examples, 3] in the order of
            `ser_models.models.labels.DIMENSIONS`, on the corpus's own scale.
        """
        columns = [manifest[name].to_numpy().astype(np.float64) for name in DIMENSIONS]
        values = np.stack(columns, axis=1)
        rows = np.flatnonzero(np.isfinite(values).all(axis=1))
        return example_table(rows=rows, target=values[rows])


_CLEAN = {"iemocap": "iemocap4-session", "meld": "meld-speaker"}
_ACTED = ("casia", "emodb", "emovo", "ravdess", "savee")


def clean_protocol(corpus: str) -> str:
    """The usual protocol of a corpus without the originals' mistakes; for a corpus of one's own ``speaker``."""
    return _CLEAN.get(corpus) or (f"{corpus}-speaker" if corpus in _ACTED else "speaker")


def example_table(
    *,
    rows: np.ndarray[Any, Any],
    target: np.ndarray[Any, Any],
    ranges: Mapping[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] | None = None,
    turns: Mapping[str, np.ndarray[Any, Any]] | None = None,
    domain: np.ndarray[Any, Any] | None = None,
    weight: np.ndarray[Any, Any] | None = None,
    train_only: np.ndarray[Any, Any] | None = None,
    extra: Mapping[str, np.ndarray[Any, Any]] | None = None,
) -> pa.Table:
    """Build the table of training examples; what is not given takes its neutral value.

    Args:
        rows: [examples] rows of the manifest.
        target: [examples, classes] soft targets.
        ranges: per view, by the spec in the preset, the first frame and one past the last of each example; views
            that are not named are read whole.
        turns: per name of a context turn (``previous``) the row of the manifest that it is, −1 where there is none.
            Such a turn reaches the network whole, as input ``VIEW@TURN``, of length 0 where there is none.
        domain: [examples] domain, 0 where there is one.
        weight: [examples] weight in the loss.
        train_only: [examples] never in validation or test.
        extra: per name [examples] numbers for `Batch.extra`, NaN where unknown.
    """
    count = len(rows)
    flat = pa.array(np.ascontiguousarray(target, dtype=np.float32).ravel())
    columns: dict[str, pa.Array] = {
        "row": pa.array(rows, pa.int64()),
        "domain": pa.array(np.zeros(count, np.int64) if domain is None else domain, pa.int64()),
        "target": pa.FixedSizeListArray.from_arrays(flat, target.shape[1]),
        "weight": pa.array(np.ones(count, np.float32) if weight is None else weight, pa.float32()),
        "train_only": pa.array(np.zeros(count, bool) if train_only is None else train_only, pa.bool_()),
    }
    for view, (start, stop) in (ranges or {}).items():
        columns[f"start {view}"] = pa.array(start, pa.int64())
        columns[f"stop {view}"] = pa.array(stop, pa.int64())
    for turn, turn_rows in (turns or {}).items():
        columns[f"turn {turn}"] = pa.array(turn_rows, pa.int64())
    for name, values in (extra or {}).items():
        columns[f"extra {name}"] = pa.array(values, pa.float32())
    return pa.table(columns)
