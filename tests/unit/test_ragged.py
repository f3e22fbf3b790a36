"""Ragged features: what is stored comes back, padded with zeros, without copies."""

import doctest
import json

import numpy as np
import pyarrow as pa
import pytest
import torch

from ser_models.shards import layout
from ser_models.shards.ragged import FeatureTable

LENGTHS = (3, 0, 5, 1)


def make(shape: tuple[int, ...] = (2,), dtype: str = "float32", chunks: int = 1) -> tuple[FeatureTable, list]:
    """A table of random utterances u0, u1, … and their arrays."""
    generator = np.random.default_rng(0)
    arrays = [(100 * generator.standard_normal((frames, *shape))).astype(dtype) for frames in LENGTHS]
    metadata = {"shape": json.dumps(shape), "dtype": dtype}
    field = pa.field("values", pa.list_(pa.from_numpy_dtype(np.dtype(dtype))), metadata=metadata)
    schema = pa.schema([("utterance_id", pa.string()), field, ("frames", pa.int32())])
    parts = []
    for rows in np.array_split(np.arange(len(arrays)), chunks):
        columns = [
            pa.array([f"u{row}" for row in rows]),
            layout.list_column([arrays[row] for row in rows], dtype),
            pa.array([len(arrays[row]) for row in rows], pa.int32()),
        ]
        parts.append(pa.Table.from_arrays(columns, schema=schema))
    return FeatureTable(pa.concat_tables(parts)), arrays


def test_doctests() -> None:
    assert doctest.testmod(layout).failed == 0


@pytest.mark.parametrize("chunks", [1, 3, 4])
@pytest.mark.parametrize("shape", [(2,), (), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int16", "uint8"])
def test_arrays_come_back(shape: tuple[int, ...], dtype: str, chunks: int) -> None:
    table, arrays = make(shape, dtype, chunks)
    assert len(table) == 4
    assert table.ids == ["u0", "u1", "u2", "u3"]
    assert table.frames.tolist() == list(LENGTHS)
    assert table.shape == shape
    for row, expected in enumerate(arrays):
        found = table.array(row)
        assert found.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(found, expected)


def test_arrays_are_views_of_the_buffer() -> None:
    table, _ = make()
    assert np.shares_memory(table.array(0), table.array(0))
    assert not table.array(0).flags.writeable


def test_rows_are_found_by_id() -> None:
    table, _ = make()
    assert table.row("u2") == 2
    assert "u2" in table and "nobody" not in table
    with pytest.raises(KeyError):
        table.row("nobody")


def test_pad_fills_the_ends_with_zeros() -> None:
    table, arrays = make(chunks=3)
    ragged = table.pad([2, 1, 0])
    assert ragged.values.shape == (3, 5, 2)
    assert ragged.values.dtype == torch.float32
    assert ragged.lengths.tolist() == [5, 0, 3]
    assert ragged.lengths.dtype == torch.int64
    for position, row in enumerate([2, 1, 0]):
        frames = LENGTHS[row]
        np.testing.assert_array_equal(ragged.values[position, :frames].numpy(), arrays[row])
        assert not ragged.values[position, frames:].any()


def test_pad_takes_ranges_of_frames() -> None:
    table, arrays = make()
    ragged = table.pad(np.array([2, 2, 0]), start=[1, 4, 0], stop=[3, 99, 0])
    assert ragged.lengths.tolist() == [2, 1, 0]
    np.testing.assert_array_equal(ragged.values[0, :2].numpy(), arrays[2][1:3])
    np.testing.assert_array_equal(ragged.values[1, :1].numpy(), arrays[2][4:])


@pytest.mark.parametrize(("start", "stop"), [([-1], [2]), ([4], [2]), ([6], None)])
def test_impossible_ranges_are_refused(start: list[int], stop: list[int] | None) -> None:
    table, _ = make()
    with pytest.raises(ValueError, match="of u2, which has 5"):
        table.pad([2], start, stop)


def test_an_empty_batch_and_an_empty_table() -> None:
    table, _ = make()
    assert table.pad([]).values.shape == (0, 0, 2)
    nothing = FeatureTable(table._table.slice(0, 0))
    assert len(nothing) == 0
    assert nothing.pad([]).lengths.tolist() == []
