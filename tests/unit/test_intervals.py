"""Intervals and paired tests: their formulae by hand, their coverage by simulation."""

import doctest
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import t as student_t

from ser_models.evaluation import intervals, metrics

Counts = npt.NDArray[np.int64]


def speakers(number: int, *, utterances: int = 20, classes: int = 4, seed: int = 0) -> Counts:
    """Confusion matrices of speakers who differ in how well they are recognised."""
    generator = np.random.default_rng(seed)
    counts = np.zeros((number, classes, classes), dtype=np.int64)
    for speaker, skill in enumerate(generator.beta(6, 4, size=number)):
        for label in range(classes):
            right = generator.binomial(utterances, skill)
            counts[speaker, label, label] = right
            counts[speaker, label, (label + 1) % classes] = utterances - right
    return counts


def test_pooled_statistics_equal_the_metrics_of_all_predictions() -> None:
    generator = np.random.default_rng(3)
    truth, prediction = generator.integers(4, size=(2, 300))
    units = [f"speaker {number}" for number in generator.integers(9, size=300)]
    names, counts = intervals.counts_by_unit(truth, prediction, units, 4)
    assert names == sorted(set(units))
    assert intervals.pooled_uar(counts.sum(axis=0)) == pytest.approx(metrics.uar(truth, prediction))
    assert intervals.pooled_accuracy(counts.sum(axis=0)) == pytest.approx(metrics.accuracy(truth, prediction))


def test_jackknife_equals_its_formula() -> None:
    counts = speakers(6)
    without = [
        float(intervals.pooled_uar(counts[[unit != left for unit in range(6)]].sum(axis=0)))
        for left in range(6)
    ]
    error = np.sqrt(5 / 6 * np.sum((np.array(without) - np.mean(without)) ** 2))
    centre = float(intervals.pooled_uar(counts.sum(axis=0)))
    found = intervals.uar_interval(counts)
    assert found.method == "jackknife"
    assert found.low == pytest.approx(centre - student_t.ppf(0.975, 5) * error)
    assert found.high == pytest.approx(centre + student_t.ppf(0.975, 5) * error)


def test_bootstrap_equals_resampling_one_by_one() -> None:
    """The same draws through plain indexing; quantiles of the same values are equal but for rounding."""
    counts = speakers(25)
    generator = np.random.default_rng(0)
    weights = generator.multinomial(25, np.full(25, 1 / 25), size=500)
    values = [
        float(intervals.pooled_uar(np.repeat(counts, weight, axis=0).sum(axis=0))) for weight in weights
    ]
    found = intervals.uar_interval(counts, resamples=500, seed=0)
    assert found.method == "bootstrap"
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))


@pytest.mark.parametrize(
    ("units", "method"), [(1, "none"), (2, "jackknife"), (19, "jackknife"), (20, "bootstrap")]
)
def test_the_number_of_units_chooses_the_method(units: int, method: str) -> None:
    found = intervals.accuracy_interval(speakers(units), resamples=200)
    assert found.method == method
    assert found.units == units


def test_one_unit_has_no_interval_and_a_reason() -> None:
    found = intervals.uar_interval(speakers(1), unit="session")
    assert found.low is None and found.high is None
    assert found.note is not None and "1 session" in found.note


def test_a_class_of_one_speaker_leaves_the_uar_without_interval_but_not_the_accuracy() -> None:
    counts = speakers(6)
    counts[1:, 0] = 0
    assert "one speaker only" in (intervals.uar_interval(counts).note or "")
    assert intervals.accuracy_interval(counts).method == "jackknife"


def test_a_class_that_never_occurs_does_not_hinder_the_interval() -> None:
    counts = speakers(6)
    counts[:, 2] = 0
    found = intervals.uar_interval(counts)
    assert found.low is not None and found.high is not None
    assert found.low < float(intervals.pooled_uar(counts.sum(axis=0), [True, True, False, True])) < found.high


def test_bootstrap_samples_without_a_class_are_left_out_and_counted() -> None:
    counts = speakers(25)
    counts[2:, 0] = 0
    found = intervals.uar_interval(counts, resamples=2000)
    # Both of its speakers are missing with chance (23/25)^25 = 12.4 %; the sampling error of 2000 is 0.7 %.
    share = float((found.note or "").split("%")[0])
    assert share == pytest.approx(12.4, abs=2.5)


def test_bounds_stay_between_zero_and_one() -> None:
    counts = np.array([[[5, 0], [0, 5]], [[5, 0], [3, 2]], [[5, 0], [0, 5]]])
    found = intervals.uar_interval(counts)
    assert found.high == 1.0
    assert found.low is not None and found.low >= 0


def test_speakers_who_all_agree_are_no_proof_of_certainty() -> None:
    counts = np.tile(np.array([[5, 0], [0, 5]]), (4, 1, 1))
    found = intervals.uar_interval(counts)
    assert (found.low, found.high) == (1.0, 1.0)
    assert "no proof" in (found.note or "")


def test_seeds_are_averaged_and_do_not_count_as_units() -> None:
    counts = speakers(6)
    twice = np.stack([counts, counts], axis=1)
    assert intervals.uar_interval(twice) == intervals.uar_interval(counts)


def test_a_higher_level_is_wider() -> None:
    narrow, wide = (intervals.uar_interval(speakers(6), level=level) for level in (0.8, 0.99))
    assert narrow.low is not None and wide.low is not None and wide.low < narrow.low


def test_jackknife_covers_six_units_where_the_bootstrap_does_not() -> None:
    """600 simulated studies of 6 speakers; the truth is the UAR of infinitely many such speakers.

    The sampling error of a coverage of 95 % over 600 studies is 0.9 points, so 92 to 98 % is within three.
    """
    generator = np.random.default_rng(7)
    studies, units, utterances, truth = 600, 6, 15, 0.6
    covered = {"jackknife": 0, "bootstrap": 0}
    for _ in range(studies):
        skill = generator.beta(6, 4, size=(units, 1, 1))
        right = generator.binomial(utterances, np.broadcast_to(skill, (units, 1, 2)))[:, 0]
        counts = np.zeros((units, 2, 2), dtype=np.int64)
        counts[:, [0, 1], [0, 1]] = right
        counts[:, [0, 1], [1, 0]] = utterances - right
        found = {
            "jackknife": intervals.jackknife_interval(counts, intervals.pooled_uar),
            "bootstrap": intervals.bootstrap_interval(counts, intervals.pooled_uar, resamples=400),
        }
        for method, interval in found.items():
            assert interval.low is not None and interval.high is not None
            covered[method] += interval.low <= truth <= interval.high
    jackknife, bootstrap = covered["jackknife"] / studies, covered["bootstrap"] / studies
    assert 0.92 <= jackknife <= 0.98
    assert bootstrap < jackknife - 0.04


def test_shares_sum_to_the_pooled_uar_also_where_a_unit_lacks_a_class() -> None:
    counts = speakers(7)
    counts[2, 1] = 0
    assert intervals.uar_shares(counts).sum() == pytest.approx(
        float(intervals.pooled_uar(counts.sum(axis=0)))
    )


def test_a_sign_flip_is_an_exchange_of_the_two_systems_predictions() -> None:
    a, b = speakers(4, seed=1), speakers(4, seed=2)
    shares = intervals.uar_shares(a) - intervals.uar_shares(b)
    exchanged_a, exchanged_b = a.copy(), b.copy()
    exchanged_a[2], exchanged_b[2] = b[2], a[2]
    difference = intervals.pooled_uar(exchanged_a.sum(axis=0)) - intervals.pooled_uar(exchanged_b.sum(axis=0))
    assert (shares * [1, 1, -1, 1]).sum() == pytest.approx(float(difference))


def test_sign_flip_counts_all_patterns() -> None:
    differences = np.random.default_rng(4).normal(0.3, 1, size=9)
    sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=9)]
    expected = np.mean(np.array(sums) >= abs(differences.sum()) - 1e-12)
    found = intervals.sign_flip(differences)
    assert found.exact
    assert found.p == pytest.approx(expected)
    assert found.smallest_p == 2 / 2**9


@pytest.mark.parametrize("units", [1, 2, 5, 12])
def test_a_system_better_on_every_unit_reaches_the_smallest_p(units: int) -> None:
    found = intervals.sign_flip(np.linspace(0.1, 0.2, units))
    assert found.p == found.smallest_p == 2.0 ** (1 - units)


def test_equal_systems_do_not_differ() -> None:
    assert intervals.sign_flip(np.zeros(8)).p == 1


def test_equal_sums_count_in_spite_of_rounding() -> None:
    """0.1 + 0.2 is not 0.3 in binary; both patterns have the observed sum all the same."""
    assert intervals.sign_flip([0.3, 0.1, 0.2, -0.3]).p == pytest.approx(intervals.sign_flip([3, 1, 2, -3]).p)


def test_many_units_are_sampled_and_agree_with_counting() -> None:
    differences = np.random.default_rng(5).normal(0.25, 1, size=20)
    exact = intervals.sign_flip(differences)
    # One more unit of no difference changes nothing but the method.
    sampled = intervals.sign_flip([*differences, 0.0], draws=50_000)
    assert exact.exact and not sampled.exact
    # Three standard errors of a share near 0.2 over 50,000 draws.
    assert sampled.p == pytest.approx(exact.p, abs=0.006)
    assert sampled.smallest_p == 1 / 50_001
    assert intervals.sign_flip([*differences, 0.0], draws=50_000) == sampled


def test_sign_flip_keeps_its_promise_under_no_difference() -> None:
    generator = np.random.default_rng(6)
    p_values = [intervals.sign_flip(generator.normal(size=10)).p for _ in range(500)]
    # At most 5 % of 500, and three standard errors (2.9 points).
    assert np.mean(np.array(p_values) <= 0.05) <= 0.08


def test_no_unit_cannot_be_tested() -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        intervals.sign_flip([])


def test_holm_by_hand() -> None:
    assert intervals.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert intervals.holm([0.6, 0.7]) == [1.0, 1.0]
    assert intervals.holm([0.2]) == [0.2]
    assert intervals.holm([]) == []


def test_examples_in_the_documentation_hold() -> None:
    assert doctest.testmod(intervals).failed == 0
