"""Which examples form which batch, and which of them a worker takes: pure functions of seed, fold and epoch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Index = np.ndarray[Any, np.dtype[np.int64]]

BUCKET_BATCHES = 16
"""Batches whose examples are sorted by length together; more saves padding, fewer mixes better."""


def mix(*parts: int | str) -> int:
    """A 63-bit seed from several values, the same in every process."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def epoch_batches(lengths: Index, batch_size: int, *, bucketed: bool, seed: int) -> list[Index]:
    """The global batches of one epoch.

    Args:
        lengths: frames per example.
        batch_size: examples per batch of all workers together; the last batch may be smaller.
        bucketed: bring examples of similar length together, which saves padding.
        seed: of this epoch.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(lengths))
    if not bucketed:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    batches: list[Index] = []
    window = batch_size * BUCKET_BATCHES
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[begin : begin + batch_size] for begin in range(0, len(part), batch_size)]
    return [batches[number] for number in generator.permutation(len(batches))]


def scoring_batches(lengths: Index, batch_size: int) -> list[Index]:
    """Batches for evaluation: every example once, similar lengths together, always the same."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


@dataclass(frozen=True)
class Share:
    """One worker's part of a global batch.

    Attributes:
        picks: examples; all workers get equally many, padding examples repeat a real one.
        real: [len(picks)] bool, false for padding examples.
    """

    picks: Index
    real: np.ndarray[Any, np.dtype[np.bool_]]


def share(batch: Index, rank: int, world: int, domains: Sequence[int] | Index | None = None) -> Share:
    """Take every ``world``-th example, within each domain where there are several.

    Args:
        batch: a global batch.
        rank: this worker.
        world: number of workers.
        domains: domain of every example of the data set, or None where there is one domain.
    """
    if domains is not None:
        # A stable sort keeps the batch's order inside a domain, so that each worker sees every domain.
        batch = batch[np.argsort(np.asarray(domains)[batch], kind="stable")]
    width = -(-len(batch) // world)
    own = batch[rank::world]
    real = np.arange(width) < len(own)
    padding = np.full(width - len(own), batch[0], dtype=batch.dtype)
    return Share(np.concatenate([own, padding]), real)
