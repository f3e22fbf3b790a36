"""Features of any length as arrays that lie in a memory-mapped file, and as padded tensors."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from ser_models.models.batch import Ragged
from ser_models.shards.layout import numpy_dtype

Array = np.ndarray[Any, np.dtype[Any]]


class FeatureTable:
    """The features of every utterance of a store, by row or by utterance id, without copying them.

    Attributes:
        ids: utterance ids, in the order of the rows.
        frames: [rows] int64, length of each utterance.
        shape: trailing dimensions, after [frames].
        dtype: of the values.
    """

    def __init__(self, table: pa.Table) -> None:
        """Wrap a table with the columns ``utterance_id``, ``values`` and ``frames`` of the shard contract."""
        self._table = table  # keeps the memory map alive
        field = table.schema.field("values")
        self.shape: tuple[int, ...] = tuple(json.loads(field.metadata[b"shape"]))
        self.dtype: np.dtype[Any] = numpy_dtype(field.metadata[b"dtype"].decode())
        self.ids: list[str] = table["utterance_id"].to_pylist()
        self.frames: np.ndarray[Any, np.dtype[np.int64]] = table["frames"].to_numpy().astype(np.int64)
        self._rows = {name: row for row, name in enumerate(self.ids)}
        # Rows lie in one flat buffer per record batch (a shard): its index, and where in it each row begins.
        chunks = [chunk for chunk in table["values"].chunks if len(chunk)]
        self._buffers: list[Any] = [
            chunk.values if self.is_text else chunk.values.to_numpy(zero_copy_only=True) for chunk in chunks
        ]
        self._buffer = np.repeat(np.arange(len(chunks)), [len(chunk) for chunk in chunks])
        offsets = [chunk.offsets.to_numpy()[:-1] for chunk in chunks]
        self._offset = np.concatenate([np.empty(0, np.int64), *offsets]).astype(np.int64)
        self._width = int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_text(self) -> bool:
        """Whether the values are strings, which a fitted vocabulary turns into numbers."""
        return self.dtype == object

    def __len__(self) -> int:
        """Number of utterances."""
        return len(self.ids)

    def __contains__(self, utterance_id: object) -> bool:
        """Whether the utterance has features; one whose recording could not be read has none."""
        return utterance_id in self._rows

    def row(self, utterance_id: str) -> int:
        """Row of an utterance.

        Raises:
            KeyError: it has no features.
        """
        return self._rows[utterance_id]

    def array(self, row: int) -> Array:
        """One utterance, [frames, *shape], read-only: a view of the memory map; of strings a copy."""
        begin = self._offset[row]
        frames = int(self.frames[row])
        values = self._buffers[self._buffer[row]][begin : begin + frames * self._width]
        if self.is_text:
            values = values.to_numpy(zero_copy_only=False)
        features: Array = values.reshape(frames, *self.shape)
        return features

    def pad(
        self,
        rows: Sequence[int] | Array,
        start: Sequence[int] | Array | None = None,
        stop: Sequence[int] | Array | None = None,
    ) -> Ragged:
        """Several utterances in one tensor, zeros at their ends.

        Args:
            rows: [batch] rows.
            start: [batch] first frame of each; None is 0.
            stop: [batch] one past the last frame of each, cut to the utterance's length; None is its end.

        Returns:
            values [batch, longest, *shape] and lengths [batch].

        Raises:
            ValueError: a range begins before 0 or has a negative length, or the values are strings.
        """
        if self.is_text:
            raise ValueError("strings cannot be padded: fit a vocabulary on the training part")
        index = np.asarray(rows, dtype=np.int64)
        frames = self.frames[index]
        first = np.zeros_like(frames) if start is None else np.asarray(start, dtype=np.int64)
        last = frames if stop is None else np.minimum(np.asarray(stop, dtype=np.int64), frames)
        lengths = last - first
        if (first < 0).any() or (lengths < 0).any():
            bad = int(np.flatnonzero((first < 0) | (lengths < 0))[0])
            raise ValueError(
                f"frames {first[bad]} to {last[bad]} of {self.ids[index[bad]]}, which has {frames[bad]}, "
                "are no range"
            )
        shape = (len(index), int(lengths.max(initial=0)), *self.shape)
        values = torch.zeros(shape, dtype=torch.from_numpy(np.empty(0, self.dtype)).dtype)
        target = values.numpy()
        for position, row in enumerate(index):
            target[position, : lengths[position]] = self.array(row)[first[position] : last[position]]
        return Ragged(values, torch.from_numpy(lengths))
