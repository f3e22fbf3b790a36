"""Nearly equal sets of tokens among hundreds of thousands, found exactly without comparing all pairs.

Sets x and y with a Jaccard similarity of at least t and |x| ≤ |y| differ in at most d = (1 − t)/t · |x| tokens. When
the vocabulary is dealt into d + 1 parts, x and y therefore agree completely in at least one part: only sets that agree
in such a part are compared (the partition scheme of Arasu, Ganti and Kaushik, VLDB 2006, "Efficient exact
set-similarity joins", section 4). A part of a large set holds many tokens, so sets that merely share common words
never meet. Made for thresholds of 0.8 and above; below, parts become small and the search slow, never wrong.

Sets made from a template ("say the word … again, please") meet by the thousand, and all n² / 2 pairs may be near. A
block says so with n members (our addition): sets that share a core of c tokens have a similarity of at least
c / (|x| + |y| − c), so they are near for certain when |x| + |y| ≤ c · (1 + 1/t). Where a template has several slots,
sets that agree in some of them are in part kept as pairs; the search ends when these are too many.
"""

import itertools
import math
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

Rows = NDArray[np.int64]

MAX_PAIRS = 20_000_000
"""Near pairs that are kept beside blocks, 160 MB (our choice)."""

_LARGE = 64  # sets that agree in one part of the vocabulary; more are not compared pair by pair
_COMMON = 16  # a group is split by a token that at least one in so many of its sets has
_AT_ONCE = 1 << 16  # pairs compared in one step
_ROUNDING = 1e-9  # far above the error of one division, far below the step between two ratios of token counts


@dataclass(frozen=True)
class NearSets:
    """Which of some sets are near; every such pair is in ``pairs`` or in a block.

    Attributes:
        count: how many sets there are.
        pairs: [pairs, 2] int32, sets that are near.
        members: [members] sets that are in blocks, one block after the other, the smallest sets of each first.
        sizes: [members] tokens of each.
        block: [members] number of its block.
        limits: [blocks] two members of a block are near when their sizes add up to no more than this.
        complete: whether the search found every pair; False where there were too many to keep.
    """

    count: int
    pairs: NDArray[np.int32]
    members: Rows
    sizes: Rows
    block: Rows
    limits: Rows
    complete: bool

    def partners(self, there: NDArray[np.bool_]) -> Rows:
        """[sets] for each a set near it, or itself, that is there; -1 where there is none.

        Args:
            there: [sets] which sets may be named; one of these may get itself although another is near it too.
        """
        partners = np.full(self.count, -1, dtype=np.int64)
        # A member is near one that is there if it is near the smallest of those.
        candidates = np.flatnonzero(there[self.members])
        blocks, first = np.unique(self.block[candidates], return_index=True)
        smallest = np.full(len(self.limits), -1, dtype=np.int64)
        smallest[blocks] = candidates[first]
        partner = smallest[self.block]
        near = (partner >= 0) & (self.sizes + self.sizes[partner] <= self.limits[self.block])
        partners[self.members[near]] = self.members[partner[near]]
        for one, other in (self.pairs.T, self.pairs.T[::-1]):
            known = there[other]
            partners[one[known]] = other[known]
        return partners


def find_near_sets(sets: Sequence[Set[str]], threshold: float, max_pairs: int = MAX_PAIRS) -> NearSets:
    """Find the pairs whose Jaccard similarity reaches a threshold; an empty set is near none.

    Args:
        sets: tokens of each.
        threshold: in (0, 1].
        max_pairs: pairs beside blocks after which the search ends incomplete.
    """
    order = sorted(range(len(sets)), key=lambda number: len(sets[number]))
    original = np.array(order, dtype=np.int64)
    sizes = np.array([len(sets[number]) for number in order], dtype=np.int64)
    search = _Search(_incidence([sets[number] for number in order], sizes), sizes, threshold)
    pairs = [np.empty((0, 2), dtype=np.int32)]
    count = 0
    for one, other in search.pairs():
        count += len(one)
        if count > max_pairs:
            break
        pairs.append(original[np.stack((one, other), axis=1)].astype(np.int32))
    blocks = [np.unique(np.concatenate(found)) for found in search.blocks.values()]
    members = np.concatenate([np.empty(0, dtype=np.int64), *blocks])
    return NearSets(
        count=len(sets),
        pairs=np.concatenate(pairs),
        members=original[members],
        sizes=sizes[members],
        block=np.repeat(np.arange(len(blocks)), [len(block) for block in blocks]),
        limits=np.array([search.limit(len(core)) for core in search.blocks], dtype=np.int64),
        complete=count <= max_pairs,
    )


class _Search:
    """Compares sets, which are numbered by size: the smaller sets first.

    Args:
        incidence: sparse matrix [sets, tokens] of ones.
        sizes: [sets] tokens of each.
        threshold: smallest Jaccard similarity.
    """

    def __init__(self, incidence: Any, sizes: Rows, threshold: float) -> None:
        self.incidence = incidence
        self.sizes = sizes
        self.threshold = threshold
        self.blocks: dict[tuple[int, ...], list[Rows]] = {}
        """Tokens that sets share to sets that are its block; filled by `pairs`."""

    def limit(self, core: int) -> int:
        """Sets with so many tokens in common are near for certain when their sizes add up to no more than this."""
        return math.floor(core * (1.0 + 1.0 / self.threshold) + _ROUNDING)

    def pairs(self) -> Iterator[tuple[Rows, Rows]]:
        """Near pairs of sets, each once; those that are in a block may be left out."""
        smallest = 1
        while len(self.sizes) and smallest <= self.sizes[-1]:
            # x in this band of sizes; y is at most 1/t times as large.
            largest = math.floor(smallest / self.threshold + _ROUNDING)
            reach = math.floor(largest / self.threshold + _ROUNDING)
            first, end, stop = np.searchsorted(self.sizes, (smallest, largest + 1, reach + 1)).tolist()
            parts = math.floor((1.0 - self.threshold) / self.threshold * largest + _ROUNDING) + 1
            if first < end:
                yield from self._band(first, end, stop, parts)
            smallest = largest + 1

    def _band(self, first: int, end: int, stop: int, parts: int) -> Iterator[tuple[Rows, Rows]]:
        """Near pairs of which the smaller set is in ``first:end`` and the other before ``stop``."""
        signatures = _signatures(self.incidence[first:stop], parts)
        for part, signature in enumerate(signatures):
            order = np.argsort(signature, kind="stable")
            borders = np.flatnonzero(np.diff(signature[order])) + 1
            starts, ends = np.append(0, borders), np.append(borders, len(order))
            large = ends - starts > _LARGE
            compared = [
                self._small_groups(first + order, starts[~large], ends[~large], end),
                *(
                    self._large_group(first + order[a:b])
                    for a, b in zip(starts[large], ends[large], strict=True)
                ),
            ]
            for one, other, shared in itertools.chain.from_iterable(compared):
                union = self.sizes[one] + self.sizes[other] - shared
                near = shared + _ROUNDING >= self.threshold * union
                one, other = one[near], other[near]
                earlier = signatures[:part, one - first] == signatures[:part, other - first]
                fresh = (np.minimum(one, other) < end) & ~earlier.any(axis=0)
                yield one[fresh], other[fresh]

    def _small_groups(
        self, sets: Rows, starts: Rows, ends: Rows, end: int
    ) -> Iterator[tuple[Rows, Rows, Rows]]:
        """Compare all pairs of each group ``sets[start:end]`` that have a set before ``end``."""
        lengths = ends - starts
        left = np.repeat(starts, lengths) + _counted(lengths)
        partners = np.repeat(ends, lengths) - left - 1
        partners[sets[left] >= end] = 0
        for chunk in _chunks(partners):
            one = np.repeat(left[chunk], partners[chunk])
            other = one + 1 + _counted(partners[chunk])
            one, other = sets[one], sets[other]
            shared = self.incidence[one].multiply(self.incidence[other]).sum(axis=1)
            yield one, other, np.asarray(shared)

    def _large_group(self, group: Rows) -> Iterator[tuple[Rows, Rows, Rows]]:
        """Compare the sets of a group by what they have beside the tokens of all of it, and note its blocks.

        A group is split by its most frequent token until the sets with that token are near for certain, or are few.
        """
        waiting = [group]
        while waiting:
            sets = waiting.pop()
            beside = self.incidence[sets]
            tokens, counts = np.unique(beside.indices, return_counts=True)
            core = tokens[counts == len(sets)]
            limit = self.limit(len(core))
            block = sets[self.sizes[sets] + self.sizes[sets[0]] <= limit]
            if len(block) > 1:
                self.blocks.setdefault(tuple(core.tolist()), []).append(block)
            if len(sets) < 2 or self.sizes[sets[-2:]].sum() <= limit:
                continue
            beside = _without(beside, core)
            counts[counts == len(sets)] = 0
            most = int(counts.argmax())
            if counts[most] < max(_LARGE, len(sets) / _COMMON):
                left = right = np.arange(len(sets))
            else:
                has = _has(beside, tokens[most])
                left, right = np.flatnonzero(has), np.flatnonzero(~has)
                waiting += [sets[left], sets[right]]
            # Sets that share the core alone and are no block are not near: only those that share more are compared.
            for one, other, more in _products(beside[left], beside[right]):
                one, other = left[one], right[other]
                open_ = self.sizes[sets[one]] + self.sizes[sets[other]] > limit
                if left is right:
                    open_ &= one < other
                yield sets[one[open_]], sets[other[open_]], len(core) + more[open_]


def _incidence(sets: Sequence[Set[str]], sizes: Rows) -> Any:
    """Sparse matrix [sets, tokens] of ones; tokens numbered from the most frequent on."""
    vocabulary: dict[str, int] = {}
    columns = np.fromiter(
        (vocabulary.setdefault(token, len(vocabulary)) for members in sets for token in members),
        dtype=np.int64,
        count=int(sizes.sum()),
    )
    ranks = np.empty(len(vocabulary), dtype=np.int64)
    ranks[np.argsort(-np.bincount(columns), kind="stable")] = np.arange(len(vocabulary))
    starts = np.concatenate(([0], np.cumsum(sizes)))
    ones = np.ones(len(columns), dtype=np.int32)
    return scipy.sparse.csr_array((ones, ranks[columns], starts), shape=(len(sets), len(vocabulary)))


def _signatures(incidence: Any, parts: int) -> NDArray[np.uint64]:
    """[parts, sets] what each set has of each part of the vocabulary, as a number.

    The tokens are dealt round in order of frequency, so that each part has its share of rare ones. The tokens of
    a set in a part are represented by the sum of random numbers; a chance collision is a candidate too many.
    """
    count = incidence.shape[0]
    owners = np.repeat(np.arange(count), np.diff(incidence.indptr))
    values = np.random.default_rng(0).integers(0, 2**64, size=incidence.shape[1], dtype=np.uint64)
    sums = np.zeros((parts, count), dtype=np.uint64)
    np.add.at(sums, (incidence.indices % parts, owners), values[incidence.indices])
    return sums


def _without(incidence: Any, tokens: Rows) -> Any:
    """The sets less some tokens."""
    left = incidence.copy()
    left.data[np.isin(left.indices, tokens)] = 0
    left.eliminate_zeros()
    return left


def _has(incidence: Any, token: int) -> NDArray[np.bool_]:
    """[sets] whether a token is in each."""
    owners = np.repeat(np.arange(incidence.shape[0]), np.diff(incidence.indptr))
    has = np.zeros(incidence.shape[0], dtype=bool)
    has[owners[incidence.indices == token]] = True
    return has


def _products(left: Any, right: Any) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Row of one matrix, row of the other and the number of tokens that they share, where they share any."""
    costs = left @ np.bincount(right.indices, minlength=right.shape[1])
    right = right.T.tocsr()
    for chunk in _chunks(costs):
        product = (left[chunk] @ right).tocoo()
        yield chunk[product.row], product.col.astype(np.int64), product.data


def _chunks(costs: Rows) -> Iterator[Rows]:
    """Positions in pieces that cost about `_AT_ONCE`; those that cost nothing are left out."""
    positions = np.flatnonzero(costs)
    pieces = np.cumsum(costs[positions]) // _AT_ONCE
    yield from np.split(positions, np.flatnonzero(np.diff(pieces)) + 1)


def _counted(lengths: Rows) -> Rows:
    """0, 1, 2 … up to each length, one after the other."""
    ends = np.cumsum(lengths)
    counted: Rows = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
    return counted
