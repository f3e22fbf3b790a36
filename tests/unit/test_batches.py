"""Batches are pure functions of the seed, and workers' shares add up to the global batch."""

import numpy as np
import pytest

from ser_models.training.batches import epoch_batches, mix, scoring_batches, share


@pytest.mark.parametrize("bucketed", [False, True])
def test_every_example_comes_once_per_epoch_in_an_order_of_the_seed(bucketed: bool) -> None:
    lengths = np.random.default_rng(0).integers(50, 400, 1000)
    first = epoch_batches(lengths, 64, bucketed=bucketed, seed=1)
    again = epoch_batches(lengths, 64, bucketed=bucketed, seed=1)
    other = epoch_batches(lengths, 64, bucketed=bucketed, seed=2)
    assert sorted(np.concatenate(first)) == list(range(1000))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    assert len(first) == 16


def test_buckets_save_padding() -> None:
    lengths = np.random.default_rng(0).integers(50, 400, 1000)

    def padded(bucketed: bool) -> int:
        batches = epoch_batches(lengths, 64, bucketed=bucketed, seed=1)
        return sum(int(lengths[batch].max()) * len(batch) for batch in batches)

    # Uniform lengths of mean 225 pad to about 395 in random batches.
    assert padded(True) < 1.15 * lengths.sum() < 1.6 * lengths.sum() < padded(False)


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_shares_are_equally_large_and_add_up_to_the_batch(size: int, world: int) -> None:
    batch = np.random.default_rng(0).permutation(100)[:size]
    shares = [share(batch, rank, world) for rank in range(world)]
    assert len({len(part.picks) for part in shares}) == 1
    real = np.concatenate([part.picks[part.real] for part in shares])
    assert sorted(real) == sorted(batch)


def test_every_worker_gets_every_domain() -> None:
    domains = np.array([0, 1] * 32)
    for rank in range(2):
        picks = share(np.random.default_rng(0).permutation(64), rank, 2, domains).picks
        assert np.bincount(domains[picks]).tolist() == [16, 16]


def test_scoring_takes_every_example_once() -> None:
    batches = scoring_batches(np.array([5, 3, 9, 3]), 3)
    assert [batch.tolist() for batch in batches] == [[1, 3, 0], [2]]


def test_mixed_seeds_are_stable_and_distinct() -> None:
    assert mix("fold", 0, 1) == mix("fold", 0, 1)
    assert len({mix("fold", seed, fold) for seed in range(10) for fold in range(10)}) == 100
