"""Features that do not fit in memory: shards are read one after the other, a window of them kept at a time.

An epoch visits the shards in an order that its seed gives, joins a window of them, and shuffles inside the
window, so a batch mixes the utterances of `WINDOW` shards and never crosses windows. Every worker reads every
shard and keeps its share: the batches are the same for any number of workers. Ray Data would do the reading
too, but a Ray Train worker group holds the processors for the whole run, and starting a Dataset for every pass
takes seconds where opening the next file takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ser_models.errors import UserError
from ser_models.features.transforms import Fitted
from ser_models.shards.layout import numpy_dtype
from ser_models.shards.ragged import FeatureTable
from ser_models.shards.store import ShardStore
from ser_models.training.batches import Index, mix
from ser_models.training.data import Examples, Features, Portion, fitter

WINDOW = 8
"""Shards in memory together."""


@dataclass(frozen=True)
class StreamedFeatures:
    """The same three services as `ser_models.training.data.Features`, without the corpus in memory.

    Attributes:
        stores: per view spec.
        ids: utterance id per row of the manifest.
    """

    stores: Mapping[str, ShardStore]
    ids: Sequence[str]

    def __post_init__(self) -> None:
        counts = {view: len(store.shard_uris) for view, store in self.stores.items()}
        if len(set(counts.values())) > 1:
            raise UserError(
                f"streaming needs views cut into the same shards, found {counts}: preprocess them in one run"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Per view the trailing dimensions of its features."""
        return {view: tuple(store.info["shape"]) for view, store in self.stores.items()}

    def fit(self, normalise: str, rows: Index) -> dict[str, Fitted]:
        """Fit what a preset asks for on some rows of the manifest, one object per view that needs one, in one pass."""
        names = {self.ids[row] for row in rows}
        return {
            view: fit(
                (
                    (name, table.array(row))
                    for tables in self._windows([view], range(len(store.shard_uris)))
                    for table in tables.values()
                    for row, name in enumerate(table.ids)
                    if name in names
                )
            )
            for view, store in self.stores.items()
            if (fit := fitter(numpy_dtype(store.info["dtype"]), normalise))
        }

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
        order = np.random.default_rng(mix("shards", seed)).permutation(self._shards)
        for number, (features, picks) in enumerate(self._parts(examples, order.tolist())):
            portions = features.training_portions(
                examples.take(picks),
                fitted,
                batch_size=batch_size,
                bucketed=bucketed,
                seed=mix("window", seed, number),
                rank=rank,
                world=world,
            )
            yield from (replace(portion, picks=picks[portion.picks]) for portion in portions)

    def scoring_portions(
        self, examples: Examples, fitted: Mapping[str, Fitted], *, batch_size: int, rank: int, world: int
    ) -> Iterator[Portion]:
        """Every example once, in a fixed order."""
        for features, picks in self._parts(examples, range(self._shards)):
            portions = features.scoring_portions(
                examples.take(picks), fitted, batch_size=batch_size, rank=rank, world=world
            )
            yield from (replace(portion, picks=picks[portion.picks]) for portion in portions)

    @property
    def _shards(self) -> int:
        return len(next(iter(self.stores.values())).shard_uris)

    def _parts(self, examples: Examples, order: Sequence[int]) -> Iterator[tuple[Features, Index]]:
        """Per window its features in memory and the examples that lie in it."""
        names = np.array([self.ids[row] for row in examples.row], dtype=object)
        for tables in self._windows(list(self.stores), order):
            features = Features(tables, self.ids)
            first = next(iter(tables.values()))
            picks = np.flatnonzero([name in first for name in names])
            if len(picks):
                yield features, picks

    def _windows(self, views: Sequence[str], order: Sequence[int]) -> Iterator[dict[str, FeatureTable]]:
        blocks = [self.stores[view].stream(order) for view in views]
        window: list[tuple[pa.Table, ...]] = []
        for shards in zip(*blocks, strict=True):
            window.append(shards)
            if len(window) == WINDOW:
                yield _joined(views, window)
                window = []
        if window:
            yield _joined(views, window)


def _joined(views: Sequence[str], window: Sequence[tuple[pa.Table, ...]]) -> dict[str, FeatureTable]:
    return {
        view: FeatureTable(pa.concat_tables([shards[position] for shards in window]))
        for position, view in enumerate(views)
    }
