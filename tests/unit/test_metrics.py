"""Every metric against scikit-learn or its definition, on random cases and on the awkward ones."""

import doctest
import math
import warnings
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics

from ser_models.evaluation import dimensions, metrics

# Both sides compute in float64; only the order of additions differs.
EXACT = 1e-12

Case = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], int]


def random_cases() -> list[Case]:
    """Random sizes and numbers of classes; small ones lack classes in truth, predictions or both."""
    generator = np.random.default_rng(20250101)
    cases = []
    for size in (1, 2, 3, 5, 8, 13, 40, 200, 1000):
        for classes in (2, 3, 4, 8):
            truth = generator.integers(classes, size=size)
            # Rounding makes ties, which AUC must count half.
            probabilities = generator.dirichlet(np.ones(classes), size=size).round(2)
            cases.append((truth, probabilities.argmax(axis=1), probabilities, classes))
    return cases


CASES = random_cases()
cases = pytest.mark.parametrize(
    ("truth", "prediction", "probabilities", "classes"),
    CASES,
    ids=[f"{len(case[0])}x{case[3]}" for case in CASES],
)


@pytest.fixture(autouse=True)
def _absent_classes_are_expected() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", metrics.AbsentClassWarning)
        # scikit-learn says the same in its own ways.
        warnings.simplefilter("ignore", UserWarning)
        yield


@cases
def test_label_metrics_equal_scikit_learn(
    truth: npt.NDArray[np.int64],
    prediction: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    classes: int,
) -> None:
    """Averages go over the classes that scikit-learn's defaults take: those that occur or are predicted."""
    reference: dict[str, tuple[float, float]] = {
        "accuracy": (metrics.accuracy(truth, prediction), sklearn.metrics.accuracy_score(truth, prediction)),
        "uar": (
            metrics.uar(truth, prediction, classes),
            sklearn.metrics.balanced_accuracy_score(truth, prediction),
        ),
    }
    for average in ("macro", "weighted"):
        precision, _, f1, _ = sklearn.metrics.precision_recall_fscore_support(
            truth, prediction, average=average, zero_division=0
        )
        reference[f"{average} F1"] = (getattr(metrics, f"{average}_f1")(truth, prediction), f1)
        reference[f"{average} precision"] = (
            getattr(metrics, f"{average}_precision")(truth, prediction),
            precision,
        )
    for name, (ours, theirs) in reference.items():
        assert ours == pytest.approx(theirs, abs=EXACT), name
    labels = list(range(classes))
    assert np.array_equal(
        metrics.confusion_matrix(truth, prediction, classes),
        sklearn.metrics.confusion_matrix(truth, prediction, labels=labels),
    )


@cases
def test_values_per_class_equal_scikit_learn_and_are_nan_where_undefined(
    truth: npt.NDArray[np.int64],
    prediction: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    classes: int,
) -> None:
    labels = np.arange(classes)
    precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(
        truth, prediction, labels=labels, zero_division=0
    )
    occurs, predicted = np.isin(labels, truth), np.isin(labels, prediction)
    expected = {
        metrics.recall_per_class: np.where(occurs, recall, np.nan),
        metrics.precision_per_class: np.where(occurs | predicted, precision, np.nan),
        metrics.f1_per_class: np.where(occurs | predicted, f1, np.nan),
    }
    for metric, values in expected.items():
        np.testing.assert_allclose(metric(truth, prediction, classes), values, atol=EXACT)


@cases
def test_auc_equals_scikit_learn(
    truth: npt.NDArray[np.int64],
    prediction: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    classes: int,
) -> None:
    areas = metrics.auc_per_class(truth, probabilities)
    for label, area in enumerate(areas):
        positive = truth == label
        if positive.all() or not positive.any():
            assert math.isnan(area)
        else:
            assert area == pytest.approx(
                sklearn.metrics.roc_auc_score(positive, probabilities[:, label]), abs=EXACT
            )
    defined = areas[~np.isnan(areas)]
    macro = metrics.macro_auc(truth, probabilities)
    assert math.isnan(macro) if not len(defined) else macro == pytest.approx(defined.mean(), abs=EXACT)


@cases
def test_calibration_error_equals_its_definition(
    truth: npt.NDArray[np.int64],
    prediction: npt.NDArray[np.int64],
    probabilities: npt.NDArray[np.float64],
    classes: int,
) -> None:
    confidence, bins, expected = probabilities.max(axis=1), 15, 0.0
    for number in range(bins):
        inside = (confidence > number / bins) & (confidence <= (number + 1) / bins)
        if inside.any():
            gap = (prediction[inside] == truth[inside]).mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert metrics.ece(truth, probabilities, bins) == pytest.approx(expected, abs=1e-9)


def test_a_certain_and_right_model_is_calibrated() -> None:
    assert metrics.ece([0, 1, 1], [[1, 0], [0, 1], [0, 1]]) == 0


def test_macro_auc_equals_scikit_learn_where_every_class_occurs() -> None:
    generator = np.random.default_rng(1)
    truth = np.arange(60) % 4
    probabilities = generator.dirichlet(np.ones(4), size=60)
    expected = sklearn.metrics.roc_auc_score(truth, probabilities, multi_class="ovr")
    assert metrics.macro_auc(truth, probabilities) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("size", [2, 3, 10, 500])
def test_dimension_metrics_equal_numpy_and_scikit_learn(size: int) -> None:
    generator = np.random.default_rng(size)
    truth = generator.normal(3, 1, size)
    prediction = 0.5 * truth + generator.normal(1, 1, size)
    correlation = np.corrcoef(truth, prediction)[0, 1]
    assert metrics.pcc(truth, prediction) == pytest.approx(correlation, abs=1e-9)
    spread = truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2
    concordance = 2 * correlation * truth.std() * prediction.std() / spread
    assert metrics.ccc(truth, prediction) == pytest.approx(concordance, abs=1e-9)
    error = sklearn.metrics.root_mean_squared_error(truth, prediction)
    assert metrics.rmse(truth, prediction) == pytest.approx(error, abs=EXACT)


def test_concordance_punishes_what_correlation_forgives() -> None:
    truth = np.array([1.0, 2.0, 3.0, 4.0])
    assert metrics.pcc(truth, truth + 2) == pytest.approx(1)
    assert metrics.ccc(truth, truth + 2) < 0.5
    assert metrics.ccc(truth, truth) == pytest.approx(1)


def test_correlation_of_a_constant_is_undefined() -> None:
    assert math.isnan(metrics.pcc([1, 1, 1], [1, 2, 3]))
    assert metrics.ccc([1, 1, 1], [1, 2, 3]) == 0
    assert math.isnan(metrics.ccc([1, 1], [1, 1]))


def test_metrics_ignore_the_order_of_utterances() -> None:
    truth, prediction, probabilities, classes = CASES[-1]
    order = np.random.default_rng(2).permutation(len(truth))
    for metric in (
        metrics.accuracy,
        metrics.uar,
        metrics.macro_f1,
        metrics.weighted_f1,
        metrics.macro_precision,
    ):
        assert metric(truth, prediction) == pytest.approx(metric(truth[order], prediction[order]), abs=EXACT)
    assert metrics.macro_auc(truth, probabilities) == pytest.approx(
        metrics.macro_auc(truth[order], probabilities[order]), abs=EXACT
    )
    assert metrics.ece(truth, probabilities) == pytest.approx(
        metrics.ece(truth[order], probabilities[order]), abs=EXACT
    )


def test_uar_tells_that_a_class_is_absent() -> None:
    with pytest.warns(metrics.AbsentClassWarning, match="UAR is the mean over 2 of 3 classes.*class 1"):
        assert metrics.uar([0, 0, 2, 2], [0, 1, 2, 2], num_classes=3) == 0.75


def test_uar_of_all_classes_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.uar([0, 1], [0, 1]) == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.accuracy([], []), "equally long"),
        (lambda: metrics.accuracy([0, 1], [0]), "equally long"),
        (lambda: metrics.uar([0.5, 1], [0, 1]), "integers"),
        (lambda: metrics.confusion_matrix([0, 3], [0, 1], num_classes=3), "0 … 2, found 0 … 3"),
        (lambda: metrics.confusion_matrix([0, -1], [0, 1]), "found -1"),
        (lambda: metrics.macro_auc([0, 1], [[0.5, 0.5]]), "utterances, C"),
        (lambda: metrics.macro_auc([0, 1], [[0.5, 0.5], [float("nan"), 0.5]]), "finite"),
        (lambda: metrics.ece([0, 1], [[0.5, 0.5], [1.5, -0.5]]), "0 … 1"),
        (lambda: metrics.ece([0, 1], [[0.5, 0.5], [0.5, 0.5]], bins=0), "at least 1"),
        (lambda: metrics.ccc([1, 2], [1]), "equally long"),
        (lambda: metrics.rmse([1, float("nan")], [1, 2]), "finite"),
    ],
)
def test_impossible_input_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("module", [metrics, dimensions], ids=lambda module: module.__name__)
def test_examples_in_the_documentation_hold(module: object) -> None:
    result = doctest.testmod(module)  # type: ignore[arg-type]
    assert result.attempted > 2
    assert result.failed == 0
