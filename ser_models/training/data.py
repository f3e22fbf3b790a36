"""The examples of a run and the batches made of them, from features that lie in memory-mapped tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from ser_models.features.transforms import TRANSFORMS, Fitted, Standardise
from ser_models.models.batch import Batch, Ragged
from ser_models.shards.ragged import FeatureTable
from ser_models.training.batches import Share, epoch_batches, scoring_batches, share

Index = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Examples:
    """Training examples as arrays; one row per example.

    Attributes:
        row: of the manifest.
        start, stop: frames of each view; −1 means from the beginning, to the end.
        domain: of the example.
        target: [examples, classes] soft target.
        weight: of the example in the loss.
        train_only: never in validation or test.
    """

    row: Index
    start: Index
    stop: Index
    domain: Index
    target: np.ndarray[Any, np.dtype[np.float32]]
    weight: np.ndarray[Any, np.dtype[np.float32]]
    train_only: np.ndarray[Any, np.dtype[np.bool_]]

    @classmethod
    def from_table(cls, table: pa.Table) -> Examples:
        """From what `ser_models.models.system.System.examples` returns."""
        target = table["target"].combine_chunks()
        width = target.type.list_size
        return cls(
            row=table["row"].to_numpy(),
            start=table["start"].fill_null(-1).to_numpy().astype(np.int64),
            stop=table["stop"].fill_null(-1).to_numpy().astype(np.int64),
            domain=table["domain"].to_numpy(),
            target=target.flatten().to_numpy().reshape(-1, width),
            weight=table["weight"].to_numpy(),
            train_only=table["train_only"].to_numpy(zero_copy_only=False),
        )

    def __len__(self) -> int:
        return len(self.row)

    def take(self, picks: Index) -> Examples:
        """Some of the examples."""
        names = ("row", "start", "stop", "domain", "target", "weight", "train_only")
        return Examples(**{name: getattr(self, name)[picks] for name in names})

    def of(self, rows: Index, *, training: bool) -> Examples:
        """The examples of some rows of the manifest; those marked ``train_only`` only in training."""
        keep = np.isin(self.row, rows)
        return self.take(np.flatnonzero(keep if training else keep & ~self.train_only))


@dataclass(frozen=True)
class Portion:
    """One worker's part of one step.

    Attributes:
        batch: the examples, padding examples at the end.
        picks: which examples they are.
        real: [batch] false for padding examples.
        weight: sum of the weights of the whole global batch, all workers.
    """

    batch: Batch
    picks: Index
    real: np.ndarray[Any, np.dtype[np.bool_]]
    weight: float


@dataclass(frozen=True)
class Features:
    """The features of a corpus in memory: one table per view, read through the node's cache.

    Attributes:
        tables: per view spec.
        ids: utterance id per row of the manifest.
    """

    tables: Mapping[str, FeatureTable]
    ids: Sequence[str]

    def fit(self, normalise: str, rows: Index) -> dict[str, Fitted]:
        """Fit what a preset asks for on some rows of the manifest, one object per view."""
        if normalise == "none":
            return {}
        names = [self.ids[row] for row in rows]
        return {
            view: Standardise.fit((table.array(table.row(name)) for name in names), names)
            for view, table in self.tables.items()
        }

    def lengths(self, examples: Examples) -> Index:
        """Frames of each example in the first view, which decides what is batched together."""
        table = next(iter(self.tables.values()))
        whole = np.array([table.frames[table.row(self.ids[row])] for row in examples.row], dtype=np.int64)
        stop = np.where(examples.stop >= 0, np.minimum(examples.stop, whole), whole)
        lengths: Index = np.maximum(stop - np.maximum(examples.start, 0), 0)
        return lengths

    def training_portions(
        self,
        examples: Examples,
        fitted: Mapping[str, Fitted],
        *,
        batch_size: int,
        bucketed: bool,
        seed: int,
        rank: int,
        world: int,
    ) -> Iterator[Portion]:
        """One epoch in the order that the seed gives."""
        batches = epoch_batches(self.lengths(examples), batch_size, bucketed=bucketed, seed=seed)
        return self._portions(examples, fitted, batches, rank, world)

    def scoring_portions(
        self, examples: Examples, fitted: Mapping[str, Fitted], *, batch_size: int, rank: int, world: int
    ) -> Iterator[Portion]:
        """Every example once, in a fixed order."""
        return self._portions(
            examples, fitted, scoring_batches(self.lengths(examples), batch_size), rank, world
        )

    def _portions(
        self,
        examples: Examples,
        fitted: Mapping[str, Fitted],
        batches: Sequence[Index],
        rank: int,
        world: int,
    ) -> Iterator[Portion]:
        domains = examples.domain if examples.domain.any() else None
        for batch in batches:
            own = share(batch, rank, world, domains)
            weight = float(examples.weight[batch].sum())
            yield Portion(self.batch(examples, own, fitted), own.picks, own.real, weight)

    def batch(self, examples: Examples, picked: Share, fitted: Mapping[str, Fitted]) -> Batch:
        """Assemble one worker's share of a batch; padding examples have weight 0 and length 0."""
        part = examples.take(picked.picks)
        names = [self.ids[row] for row in part.row]
        start = np.maximum(part.start, 0)
        inputs: dict[str, Ragged | Tensor] = {}
        for view, table in self.tables.items():
            rows = np.array([table.row(name) for name in names], dtype=np.int64)
            stop = np.where(part.stop >= 0, part.stop, table.frames[rows])
            sequence = table.pad(rows, start, np.where(picked.real, stop, start))
            if sequence.values.shape[1] == 0:
                # A worker whose share is empty still computes, because gradients are gathered from all.
                sequence = Ragged(sequence.values.new_zeros(len(rows), 1, *table.shape), sequence.lengths)
            inputs[view] = sequence.map(_applied(fitted[view])) if view in fitted else sequence
        return Batch(
            inputs=inputs,
            target=torch.from_numpy(part.target),
            weight=torch.from_numpy(np.where(picked.real, part.weight, 0).astype(np.float32)),
            utterance=torch.from_numpy(part.row),
            domain=torch.from_numpy(part.domain),
        )


def _applied(fitted: Fitted) -> Callable[[Tensor], Tensor]:
    return lambda values: torch.from_numpy(TRANSFORMS[fitted.kind].apply(fitted, values.numpy()))
