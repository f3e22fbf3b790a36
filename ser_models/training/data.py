"""The examples of a run and the batches made of them, from features that lie in memory-mapped tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional

from ser_models.features.transforms import TRANSFORMS, Fitted, Standardise, Vocabulary
from ser_models.models.batch import Batch, Ragged
from ser_models.shards.ragged import FeatureTable
from ser_models.training.batches import Share, epoch_batches, scoring_batches, share

Index = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float32]]


@dataclass(frozen=True)
class Examples:
    """Training examples as arrays; one row per example.

    Attributes:
        row: of the manifest.
        domain: of the example.
        target: [examples, classes] soft target.
        weight: of the example in the loss.
        train_only: never in validation or test.
        ranges: per view spec the first frame and one past the last; a view that is not named is read whole.
        turns: per context turn its row of the manifest, −1 where there is none.
        extra: per name what only some systems read.
    """

    row: Index
    domain: Index
    target: Floats
    weight: Floats
    train_only: np.ndarray[Any, np.dtype[np.bool_]]
    ranges: Mapping[str, tuple[Index, Index]] = field(default_factory=dict)
    turns: Mapping[str, Index] = field(default_factory=dict)
    extra: Mapping[str, Floats] = field(default_factory=dict)

    @classmethod
    def from_table(cls, table: pa.Table) -> Examples:
        """From what `ser_models.models.system.example_table` builds."""
        target = table["target"].combine_chunks()

        def named(kind: str) -> dict[str, Any]:
            prefix = f"{kind} "
            columns = [name for name in table.column_names if name.startswith(prefix)]
            return {name.removeprefix(prefix): table[name].to_numpy() for name in columns}

        stops = named("stop")
        return cls(
            row=table["row"].to_numpy(),
            domain=table["domain"].to_numpy(),
            target=target.flatten().to_numpy().reshape(-1, target.type.list_size),
            weight=table["weight"].to_numpy(),
            train_only=table["train_only"].to_numpy(zero_copy_only=False),
            ranges={view: (start, stops[view]) for view, start in named("start").items()},
            turns=named("turn"),
            extra=named("extra"),
        )

    def __len__(self) -> int:
        return len(self.row)

    def take(self, picks: Index) -> Examples:
        """Some of the examples."""
        return Examples(
            row=self.row[picks],
            domain=self.domain[picks],
            target=self.target[picks],
            weight=self.weight[picks],
            train_only=self.train_only[picks],
            ranges={view: (start[picks], stop[picks]) for view, (start, stop) in self.ranges.items()},
            turns={turn: rows[picks] for turn, rows in self.turns.items()},
            extra={name: values[picks] for name, values in self.extra.items()},
        )

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

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Per view the trailing dimensions of its features."""
        return {view: table.shape for view, table in self.tables.items()}

    def fit(self, normalise: str, rows: Index) -> dict[str, Fitted]:
        """Fit what a preset asks for on some rows of the manifest, one object per view that needs one."""
        names = [self.ids[row] for row in rows]
        return {
            view: fit((name, table.array(table.row(name))) for name in names)
            for view, table in self.tables.items()
            if (fit := fitter(table.dtype, normalise))
        }

    def lengths(self, examples: Examples) -> Index:
        """Frames of each example in the first view, which decides what is batched together."""
        view, table = next(iter(self.tables.items()))
        start, stop = _frames(examples, view, table.frames[self._rows(table, examples.row)])
        lengths: Index = np.maximum(stop - start, 0)
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
        inputs: dict[str, Ragged | Tensor] = {}
        for view, table in self.tables.items():
            rows = self._rows(table, part.row)
            start, stop = _frames(part, view, table.frames[rows])
            inputs[view] = _padded(table, rows, start, np.where(picked.real, stop, start), fitted.get(view))
            for turn, turn_rows in part.turns.items():
                there = picked.real & (turn_rows >= 0)
                rows = self._rows(table, np.where(turn_rows >= 0, turn_rows, part.row))
                stop = np.where(there, table.frames[rows], 0)
                inputs[f"{view}@{turn}"] = _padded(table, rows, np.zeros_like(stop), stop, fitted.get(view))
        return Batch(
            inputs=inputs,
            target=torch.from_numpy(part.target),
            weight=torch.from_numpy(np.where(picked.real, part.weight, 0).astype(np.float32)),
            utterance=torch.from_numpy(part.row),
            domain=torch.from_numpy(part.domain),
            extra={name: torch.from_numpy(values) for name, values in part.extra.items()},
        )

    def _rows(self, table: FeatureTable, rows: Index) -> Index:
        return np.array([table.row(self.ids[row]) for row in rows], dtype=np.int64)


def fitter(
    dtype: np.dtype[Any], normalise: str
) -> Callable[[Iterable[tuple[str, np.ndarray[Any, Any]]]], Fitted] | None:
    """What is fitted on the training part for a view: words need a vocabulary, numbers perhaps a scale."""
    if dtype.kind == "O":
        return Vocabulary.fit
    if normalise == "global" and np.issubdtype(dtype, np.floating):
        return Standardise.fit
    return None


def join(batches: Sequence[Batch]) -> Batch:
    """One batch of several, padded to the longest."""

    def joined(values: list[Any]) -> Any:
        if isinstance(values[0], Tensor):
            return torch.cat(values)
        longest = max(value.values.shape[1] for value in values)
        padded = [
            functional.pad(v.values, [0, 0] * (v.values.dim() - 2) + [0, longest - v.values.shape[1]])
            for v in values
        ]
        return Ragged(torch.cat(padded), torch.cat([value.lengths for value in values]))

    names = ("target", "weight", "utterance", "domain")
    return Batch(
        inputs={name: joined([batch.inputs[name] for batch in batches]) for name in batches[0].inputs},
        extra={name: joined([batch.extra[name] for batch in batches]) for name in batches[0].extra},
        **{name: joined([getattr(batch, name) for batch in batches]) for name in names},
    )


def _frames(examples: Examples, view: str, frames: Index) -> tuple[Index, Index]:
    """First frame and one past the last of each example in a view, cut to what there is."""
    ranges = examples.ranges.get(view)
    if ranges is None:
        return np.zeros_like(frames), frames
    return np.minimum(ranges[0], frames), np.minimum(ranges[1], frames)


def _padded(table: FeatureTable, rows: Index, start: Index, stop: Index, fitted: Fitted | None) -> Ragged:
    if table.is_text:
        return _numbered(table, rows, start, stop, fitted)
    sequence = table.pad(rows, start, stop)
    if sequence.values.shape[1] == 0:
        # A worker whose share is empty still computes, because gradients are gathered from all.
        sequence = Ragged(sequence.values.new_zeros(len(rows), 1, *table.shape), sequence.lengths)
    return sequence.map(_applied(fitted)) if fitted else sequence


def _numbered(table: FeatureTable, rows: Index, start: Index, stop: Index, fitted: Fitted | None) -> Ragged:
    """Words as numbers [batch, tokens] int64, 0 where there is none."""
    assert fitted is not None, "words are read through a vocabulary"
    lengths = torch.from_numpy(np.maximum(np.minimum(stop, table.frames[rows]) - start, 0))
    values = torch.zeros(len(rows), max(1, int(lengths.max()) if len(rows) else 1), dtype=torch.int64)
    for position, row in enumerate(rows):
        words = table.array(row)[start[position] : stop[position]]
        numbers = TRANSFORMS[fitted.kind].apply(fitted, words)
        values[position, : len(numbers)] = torch.from_numpy(numbers)
    return Ragged(values, lengths)


def _applied(fitted: Fitted) -> Callable[[Tensor], Tensor]:
    return lambda values: torch.from_numpy(TRANSFORMS[fitted.kind].apply(fitted, values.numpy()))
