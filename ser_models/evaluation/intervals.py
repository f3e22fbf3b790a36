"""How far a number can be trusted: confidence intervals and the comparison of two systems.

Utterances of one speaker resemble each other, so the independent unit is not the utterance but the speaker,
or the session where two speakers talk with each other. Everything here works on sums per unit, such as
one confusion matrix each, because the pooled number is a function of their sum: resampling units is adding sums.

- From `BOOTSTRAP_UNITS` units up: percentile bootstrap over units.
- Below: delete-one-unit jackknife with Student's t, because the bootstrap of few units is too narrow
  (it covers about 86 % instead of 95 % at 6 units).
- With one unit there is no interval: nothing tells how another speaker would fare.

The intervals speak of other speakers under the same training, not of other seeds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student_t

from ser_models.evaluation.metrics import recall_from_confusion

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Sums = Counts | Floats
Statistic = Callable[[Any], Floats]
"""From summed counts ``[replicates, ...]`` to one number each, ``[replicates]``, NaN where undefined."""

BOOTSTRAP_UNITS = 20
"""The fewest units for which the bootstrap's coverage is close to what it claims."""

EXACT_UNITS = 20
"""Up to here the sign-flip test goes through all 2^n sign patterns."""

_CHUNK = 1000


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A confidence interval, or the reason why there is none."""

    low: float | None
    high: float | None
    level: float
    """Coverage, such as 0.95."""
    method: str
    """``bootstrap``, ``jackknife`` or ``none``."""
    units: int
    note: str | None = None
    """Why there is no interval, or what limits this one."""


def no_interval(reason: str, *, level: float, units: int) -> Interval:
    """The absence of an interval, and why."""
    return Interval(low=None, high=None, level=level, method="none", units=units, note=reason)


def counts_by_unit(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, units: Sequence[str], num_classes: int
) -> tuple[list[str], Counts]:
    """One confusion matrix per unit.

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        units: the speaker or session of each utterance.
        num_classes: C.

    Returns:
        The sorted unit names and the counts, ``[units, C, C]``, row = truth.

    Examples:
        >>> counts_by_unit([0, 1, 1], [0, 1, 0], ["b", "a", "b"], 2)
        (['a', 'b'], array([[[0, 0],
                [0, 1]],
        <BLANKLINE>
               [[1, 0],
                [1, 0]]]))
    """
    names, unit = np.unique(np.asarray(units, dtype=str), return_inverse=True)
    cell = (unit * num_classes + np.asarray(truth)) * num_classes + np.asarray(prediction)
    counts = np.bincount(cell, minlength=len(names) * num_classes**2)
    return names.tolist(), counts.reshape(len(names), num_classes, num_classes)


def pooled_accuracy(counts: npt.ArrayLike) -> Floats:
    """Accuracy of summed confusion matrices, ``[..., C, C]`` to ``[...]``.

    Examples:
        >>> float(pooled_accuracy([[3, 1], [0, 4]]))
        0.875
    """
    summed = np.asarray(counts, dtype=np.float64)
    total = summed.sum(axis=(-2, -1))
    right = np.trace(summed, axis1=-2, axis2=-1)
    return np.asarray(np.divide(right, total, out=np.full(np.shape(total), np.nan), where=total > 0))


def pooled_uar(counts: npt.ArrayLike, classes: npt.ArrayLike | None = None) -> Floats:
    """Unweighted average recall of summed confusion matrices, ``[..., C, C]`` to ``[...]``.

    Args:
        counts: row = truth.
        classes: which classes to average over, ``[..., C]`` booleans; by default all of them.

    Returns:
        NaN where one of these classes has no utterances, so that replicates which lost a class are noticed
        instead of becoming a mean over fewer classes.

    Examples:
        >>> float(pooled_uar([[3, 1], [0, 4]]))
        0.875
        >>> float(pooled_uar([[3, 1], [0, 0]]))
        nan
        >>> float(pooled_uar([[3, 1], [0, 0]], [True, False]))
        0.75
    """
    recall = recall_from_confusion(counts)
    wanted = np.broadcast_to(True if classes is None else np.asarray(classes, dtype=bool), recall.shape)
    return np.asarray(np.where(wanted, recall, 0.0).sum(axis=-1) / wanted.sum(axis=-1))


def uar_interval(counts: Counts, **settings: Any) -> Interval:
    """Interval of the pooled UAR, averaged over the classes that occur and over seeds.

    Args:
        counts: ``[units, C, C]``, or ``[units, seeds, C, C]``.
        settings: as `interval`.

    Examples:
        >>> hits, misses = np.array([8, 6, 9, 7, 5, 8]), np.array([2, 4, 1, 3, 5, 2])
        >>> rows = np.stack([hits, misses, misses, hits], axis=1)
        >>> found = uar_interval(rows.reshape(6, 2, 2))
        >>> found.method, round(found.low, 3), round(found.high, 3)
        ('jackknife', 0.562, 0.871)
    """
    classes = counts.sum(axis=(0, -1)) > 0
    return interval(counts, _over_seeds(partial(pooled_uar, classes=classes), counts), **settings)


def accuracy_interval(counts: Counts, **settings: Any) -> Interval:
    """Interval of the pooled accuracy, averaged over seeds; arguments as `uar_interval`."""
    return interval(counts, _over_seeds(pooled_accuracy, counts), **settings)


def _over_seeds(statistic: Statistic, counts: Counts) -> Statistic:
    if counts.ndim == 3:
        return statistic
    return lambda summed: np.asarray(statistic(summed).mean(axis=-1))


def interval(
    counts: Sums,
    statistic: Statistic,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    unit: str = "speaker",
    bounds: tuple[float, float] = (0.0, 1.0),
    needs: str = "a class",
) -> Interval:
    """Confidence interval of a statistic of sums over units.

    Args:
        counts: what each unit adds to the sum, ``[units, ...]``.
        statistic: see `Statistic`.
        level: coverage.
        resamples: bootstrap samples.
        seed: of the bootstrap.
        unit: what a unit is called in the note.
        bounds: what the statistic cannot leave.
        needs: what a set of units must have for the statistic to be defined, for the note.

    Returns:
        The interval by the method that the number of units asks for; see the head of this file.
    """
    units = len(counts)
    if units < 2:
        reason = f"no interval: with {units} {unit} nothing tells how the number varies between {unit}s"
        return no_interval(reason, level=level, units=units)
    if units >= BOOTSTRAP_UNITS:
        return bootstrap_interval(
            counts, statistic, level=level, resamples=resamples, seed=seed, unit=unit, needs=needs
        )
    return jackknife_interval(counts, statistic, level=level, unit=unit, bounds=bounds, needs=needs)


def bootstrap_interval(
    counts: Sums,
    statistic: Statistic,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
    unit: str = "speaker",
    needs: str = "a class",
) -> Interval:
    r"""Percentile bootstrap over units: the middle ``level`` of the statistic over resampled sets of units.

    A resample draws n of the n units with replacement, so it is the sum of the units' counts weighted by
    :math:`w \sim \mathrm{Multinomial}(n; 1/n, \dots, 1/n)`. Resamples where the statistic is undefined
    (a class is missing) are dropped and counted in the note. Arguments as `interval`.
    """
    units = len(counts)
    flat = counts.reshape(units, -1).astype(np.float64)
    generator = np.random.default_rng(seed)
    replicates = []
    for start in range(0, resamples, _CHUNK):
        weights = generator.multinomial(units, np.full(units, 1 / units), size=min(_CHUNK, resamples - start))
        replicates.append(statistic((weights @ flat).reshape(-1, *counts.shape[1:])))
    values = np.concatenate(replicates)
    defined = values[~np.isnan(values)]
    if not len(defined):
        return no_interval(f"no interval: {needs} was missing in every resample", level=level, units=units)
    note = None
    if len(defined) < len(values):
        share = 1 - len(defined) / len(values)
        note = f"{share:.1%} of the resamples lacked {needs} and were left out: few {unit}s have it"
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level, method="bootstrap", units=units, note=note)


def jackknife_interval(
    counts: Sums,
    statistic: Statistic,
    *,
    level: float = 0.95,
    unit: str = "speaker",
    bounds: tuple[float, float] = (0.0, 1.0),
    needs: str = "a class",
) -> Interval:
    r"""Delete-one-unit jackknife with Student's t of n-1 degrees of freedom, cut to the bounds.

    With :math:`\hat\theta_{(i)}` the statistic without unit i:

    .. math:: \hat\theta \pm t_{n-1} \sqrt{\tfrac{n-1}{n} \sum_i (\hat\theta_{(i)} - \bar\theta_{(\cdot)})^2}

    Undefined where leaving one unit out loses what the statistic needs: nothing then tells how that varies. Arguments
    as `interval`.
    """
    units = len(counts)
    total = counts.sum(axis=0)
    without = statistic(total[None] - counts)
    if np.isnan(without).any():
        reason = f"no interval: {needs} occurs in one {unit} only, so nothing tells how that varies"
        return no_interval(reason, level=level, units=units)
    error = np.sqrt((units - 1) / units * np.sum((without - without.mean()) ** 2))
    centre = float(statistic(total[None])[0])
    reach = float(student_t.ppf((1 + level) / 2, units - 1) * error)
    note = (
        f"all {unit}s agree, so the interval has no width; it is no proof of certainty"
        if reach == 0
        else None
    )
    return Interval(
        low=max(centre - reach, bounds[0]),
        high=min(centre + reach, bounds[1]),
        level=level,
        method="jackknife",
        units=units,
        note=note,
    )


def uar_shares(counts: Counts) -> Floats:
    r"""What each unit adds to the pooled UAR; the shares of all units sum to it.

    .. math:: s_u = \frac{1}{|P|} \sum_{c \in P} \frac{M^{(u)}_{cc}}{N_c}

    Two systems tested on the same utterances share the :math:`N_c`, so exchanging their predictions for one
    unit changes the sign of that unit's difference and nothing else: a sign flip is exact for pooled UAR,
    also where a unit lacks a class.

    Args:
        counts: ``[units, C, C]``, row = truth.

    Returns:
        ``[units]``.

    Examples:
        >>> uar_shares(np.array([[[1, 1], [0, 0]], [[2, 0], [0, 1]]]))
        array([0.125, 0.75 ])
    """
    support = counts.sum(axis=(0, 2))
    present = support > 0
    right = np.diagonal(counts, axis1=1, axis2=2)[:, present]
    return np.asarray((right / support[present]).sum(axis=1) / present.sum())


@dataclass(frozen=True, kw_only=True)
class SignFlip:
    """The result of a paired comparison."""

    difference: float
    """Sum of the units' differences, A minus B."""
    p: float
    """Two-sided."""
    smallest_p: float
    """The smallest p that this many units can reach, whatever the systems do."""
    units: int
    exact: bool
    """Whether all sign patterns were counted, or a random sample of them."""


def sign_flip(differences: npt.ArrayLike, *, draws: int = 100_000, seed: int = 0) -> SignFlip:
    r"""Paired sign-flip test over units: were A and B alike, each difference could as well be reversed.

    .. math:: p = \frac{|\{s \in \{-1, 1\}^n : |\sum_u s_u d_u| \ge |\sum_u d_u|\}|}{2^n}

    All patterns are counted up to `EXACT_UNITS` units, where the smallest reachable p is 2^(1-n). Above,
    ``draws`` random patterns and the observed one are counted, and the smallest is 1 / (draws + 1).

    Args:
        differences: A minus B per unit, ``[units]``.
        draws: random sign patterns.
        seed: of the random patterns.

    Raises:
        ValueError: no unit.

    Examples:
        >>> sign_flip([0.1, 0.2, 0.1, 0.3]).p
        0.125
    """
    each = np.asarray(differences, dtype=np.float64)
    if each.ndim != 1 or not len(each):
        raise ValueError(f"differences must be a list with at least one unit, not of shape {each.shape}")
    observed = abs(each.sum())
    # Equal sums come out of different orders of addition, so equality needs some room.
    threshold = observed - 1e-12 * max(np.abs(each).sum(), 1e-300)
    exact = len(each) <= EXACT_UNITS
    if exact:
        # The two signs of the first unit mirror each other; one of them is enough.
        sums = each[:1]
        for one in each[1:]:
            sums = np.concatenate([sums + one, sums - one])
        p, smallest = float(np.mean(np.abs(sums) >= threshold)), 2.0 ** (1 - len(each))
    else:
        generator = np.random.default_rng(seed)
        beyond = 0
        for start in range(0, draws, _CHUNK):
            signs = generator.integers(0, 2, size=(min(_CHUNK, draws - start), len(each))) * 2 - 1
            beyond += int(np.count_nonzero(np.abs(signs @ each) >= threshold))
        p, smallest = (beyond + 1) / (draws + 1), 1 / (draws + 1)
    return SignFlip(difference=float(each.sum()), p=p, smallest_p=smallest, units=len(each), exact=exact)


def holm(p_values: Sequence[float]) -> list[float]:
    r"""Holm's correction for several comparisons (Holm 1979).

    .. math:: \tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) \, p_{(j)})

    Args:
        p_values: of the m comparisons, in any order.

    Returns:
        The corrected values in the same order.

    Examples:
        >>> holm([0.04, 0.01, 0.03])
        [0.06, 0.03, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    corrected = np.empty(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(np.asarray(p_values)[order] * factors), 1.0)
    return [float(value) for value in corrected]
