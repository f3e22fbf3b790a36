"""The metrics of speech emotion recognition: one public function each, NumPy in, numbers out.

Labels are integers from 0 to C-1. The field has several names for the same number, and one name for several
numbers; here is what each function calls itself elsewhere:

- `accuracy`: WA (weighted accuracy), WAR (weighted average recall).
- `uar`: UA (unweighted accuracy), UWA, macro recall, balanced accuracy.
- `macro_f1` is what EmoBox prints as F1, `weighted_f1` (WF1) what emotion2vec and most work on MELD print.
- `macro_precision` and `weighted_precision` have been published under the name of accuracy; they are not.

A class without any utterance has no recall. The functions that return a value per class give NaN there; those
that average leave it out and say so with an `AbsentClassWarning`, because the average then is one over fewer
classes and must not be compared with others. Pooling the predictions of all folds avoids the case.
"""

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from ser_models.evaluation.dimensions import ccc, pcc, rmse

__all__ = [
    "AbsentClassWarning",
    "accuracy",
    "auc_per_class",
    "ccc",
    "confusion_matrix",
    "ece",
    "f1_per_class",
    "macro_auc",
    "macro_f1",
    "macro_precision",
    "pcc",
    "precision_per_class",
    "recall_from_confusion",
    "recall_per_class",
    "rmse",
    "uar",
    "weighted_f1",
    "weighted_precision",
]

Array = npt.NDArray[Any]

_TOLERANCE = 1e-5
"""By how much a float32 softmax may leave [0, 1]."""


class AbsentClassWarning(UserWarning):
    """An average over classes had to leave some classes out."""


def confusion_matrix(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None
) -> npt.NDArray[np.int64]:
    r"""Counts of utterances by true and predicted class.

    .. math:: M_{ij} = |\{n : y_n = i, \hat y_n = j\}|

    Args:
        truth: true labels, ``[utterances]``, integers from 0.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        ``[C, C]``, row = truth, column = prediction.

    Raises:
        ValueError: the two differ in length, are empty, not integers, or hold a label outside 0 … C-1.

    Examples:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1])
        array([[1, 1],
               [0, 1]])
    """
    true, predicted, classes = _labels(truth, prediction, num_classes)
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def accuracy(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    r"""Share of correct predictions: WA, WAR.

    .. math:: \frac{1}{N} \sum_n [y_n = \hat y_n]

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> accuracy([0, 0, 0, 1], [0, 0, 1, 1])
        0.75
    """
    true, predicted, _ = _labels(truth, prediction, None)
    return float(np.mean(true == predicted))


def recall_per_class(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None
) -> npt.NDArray[np.float64]:
    r"""For each class, the share of its utterances that were recognised.

    .. math:: R_c = \frac{M_{cc}}{\sum_j M_{cj}}

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        ``[C]``, NaN for a class without utterances.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> recall_per_class([0, 0, 1, 1], [0, 1, 1, 1], num_classes=3)
        array([0.5, 1. , nan])
    """
    return recall_from_confusion(confusion_matrix(truth, prediction, num_classes))


def recall_from_confusion(confusion: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""Recall per class of one or many confusion matrices.

    .. math:: R_c = \frac{M_{cc}}{\sum_j M_{cj}}

    Args:
        confusion: ``[..., C, C]``, row = truth, column = prediction.

    Returns:
        ``[..., C]``, NaN for a class without utterances.

    Examples:
        >>> recall_from_confusion([[[3, 1], [0, 0]], [[1, 1], [0, 2]]])
        array([[0.75,  nan],
               [0.5 , 1.  ]])
    """
    counts = np.asarray(confusion, dtype=np.float64)
    return _ratio(np.diagonal(counts, axis1=-2, axis2=-1), counts.sum(axis=-1))


def uar(truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None) -> float:
    r"""Unweighted average recall: UA, UWA, macro recall, balanced accuracy.

    .. math:: \frac{1}{|P|} \sum_{c \in P} R_c, \quad P = \{c : \text{class } c \text{ has utterances}\}

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        A number from 0 to 1. With a class absent from ``truth`` it is the mean over the others, with an
        `AbsentClassWarning`.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> uar([0, 0, 0, 1], [0, 0, 1, 1])
        0.8333333333333333
    """
    return _mean_over_present(recall_per_class(truth, prediction, num_classes), "UAR")


def precision_per_class(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None
) -> npt.NDArray[np.float64]:
    r"""For each class, the share of its predictions that were right.

    .. math:: P_c = \frac{M_{cc}}{\sum_i M_{ic}}

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        ``[C]``; 0 for a class that occurs but is never predicted, NaN for one that neither occurs nor is
        predicted.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> precision_per_class([0, 1, 2], [0, 0, 0], num_classes=4)
        array([0.33333333, 0.        , 0.        ,        nan])
    """
    counts = confusion_matrix(truth, prediction, num_classes).astype(np.float64)
    precision = _ratio(np.diagonal(counts), counts.sum(axis=0))
    return np.where(np.isnan(precision) & (counts.sum(axis=1) > 0), 0.0, precision)


def macro_precision(truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None) -> float:
    r"""Mean of the classes' precisions; not an accuracy.

    .. math:: \frac{1}{|Q|} \sum_{c \in Q} P_c, \quad Q = \{c : c \text{ occurs or is predicted}\}

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> macro_precision([0, 0, 1, 1], [0, 1, 1, 1])
        0.8333333333333333
    """
    return _mean_over_present(precision_per_class(truth, prediction, num_classes), "macro precision")


def weighted_precision(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    r"""Mean of the classes' precisions weighted by their share of the utterances; not an accuracy.

    .. math:: \sum_c \frac{N_c}{N} P_c

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> weighted_precision([0, 0, 0, 1], [0, 0, 1, 1])
        0.875
    """
    return _weighted(precision_per_class(truth, prediction), confusion_matrix(truth, prediction))


def f1_per_class(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None
) -> npt.NDArray[np.float64]:
    r"""For each class, the harmonic mean of its precision and recall.

    .. math:: F_c = \frac{2 M_{cc}}{\sum_j M_{cj} + \sum_i M_{ic}}

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        ``[C]``, NaN for a class that neither occurs nor is predicted.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> f1_per_class([0, 0, 1, 1], [0, 1, 1, 1], num_classes=3)
        array([0.66666667, 0.8       ,        nan])
    """
    counts = confusion_matrix(truth, prediction, num_classes).astype(np.float64)
    return _ratio(2 * np.diagonal(counts), counts.sum(axis=0) + counts.sum(axis=1))


def macro_f1(truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None = None) -> float:
    r"""Mean of the classes' F1.

    .. math:: \frac{1}{|Q|} \sum_{c \in Q} F_c, \quad Q = \{c : c \text{ occurs or is predicted}\}

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.
        num_classes: C; by default the largest label of both plus one.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> round(macro_f1([0, 0, 1, 1], [0, 1, 1, 1]), 6)
        0.733333
    """
    return _mean_over_present(f1_per_class(truth, prediction, num_classes), "macro F1")


def weighted_f1(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    r"""Mean of the classes' F1 weighted by their share of the utterances.

    .. math:: \sum_c \frac{N_c}{N} F_c

    Args:
        truth: true labels, ``[utterances]``.
        prediction: predicted labels, ``[utterances]``.

    Returns:
        A number from 0 to 1.

    Raises:
        ValueError: as `confusion_matrix`.

    Examples:
        >>> round(weighted_f1([0, 0, 0, 1], [0, 0, 1, 1]), 6)
        0.766667
    """
    return _weighted(f1_per_class(truth, prediction), confusion_matrix(truth, prediction))


def auc_per_class(truth: npt.ArrayLike, probabilities: npt.ArrayLike) -> npt.NDArray[np.float64]:
    r"""One-vs-rest area under the ROC curve of each class.

    The chance that an utterance of the class gets a higher score for it than one of another class, a tie
    counting half:

    .. math:: A_c = \frac{1}{N_c (N - N_c)} \sum_{n: y_n = c} \sum_{m: y_m \ne c}
              [p_{nc} > p_{mc}] + \tfrac12 [p_{nc} = p_{mc}]

    Args:
        truth: true labels, ``[utterances]``.
        probabilities: scores, ``[utterances, C]``.

    Returns:
        ``[C]``, NaN for a class without utterances or without utterances of other classes.

    Raises:
        ValueError: shapes that do not fit, or a score that is not finite.

    Examples:
        >>> auc_per_class([0, 0, 1], [[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.5, 0.5, 0.0]])
        array([0.5, 0.5, nan])
    """
    true, scores = _scores(truth, probabilities)
    positive = true[:, None] == np.arange(scores.shape[1])
    count = positive.sum(axis=0)
    # Mann and Whitney's U: the ranks' sum less its smallest possible value counts the pairs in order.
    above = np.where(positive, rankdata(scores, axis=0), 0).sum(axis=0) - count * (count + 1) / 2
    return _ratio(above, count * (len(true) - count))


def macro_auc(truth: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    r"""Mean of the classes' one-vs-rest areas under the ROC curve.

    .. math:: \frac{1}{|P|} \sum_{c \in P} A_c, \quad P = \{c : 0 < N_c < N\}

    Args:
        truth: true labels, ``[utterances]``.
        probabilities: scores, ``[utterances, C]``.

    Returns:
        A number from 0 to 1, NaN where no class has an area. Classes without one are left out, with an
        `AbsentClassWarning`.

    Raises:
        ValueError: as `auc_per_class`.

    Examples:
        >>> macro_auc([0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
        0.5
    """
    return _mean_over_present(auc_per_class(truth, probabilities), "AUC")


def ece(truth: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 15) -> float:
    r"""Expected calibration error of the predicted class (Guo et al. 2017, equation 3).

    The confidence is the largest probability. Bin b of B holds the utterances whose confidence lies in
    :math:`((b-1)/B, b/B]`:

    .. math:: \sum_b \frac{|B_b|}{N} \, |\mathrm{accuracy}(B_b) - \mathrm{confidence}(B_b)|

    Args:
        truth: true labels, ``[utterances]``.
        probabilities: ``[utterances, C]``, each from 0 to 1.
        bins: B, of equal width.

    Returns:
        A number from 0 (calibrated) to 1.

    Raises:
        ValueError: as `auc_per_class`, a number outside 0 … 1, or no bin.

    Examples:
        >>> round(ece([0, 1], [[0.8, 0.2], [0.7, 0.3]], bins=1), 6)
        0.25
    """
    true, scores = _scores(truth, probabilities)
    if scores.min() < -_TOLERANCE or scores.max() > 1 + _TOLERANCE:
        raise ValueError(f"probabilities must lie in 0 … 1, found {scores.min():g} … {scores.max():g}")
    if bins < 1:
        raise ValueError(f"bins must be at least 1, not {bins}")
    confidence = np.clip(scores.max(axis=1), 0, 1)
    bin_of = np.maximum(np.ceil(confidence * bins).astype(int) - 1, 0)
    gap = np.bincount(bin_of, weights=(scores.argmax(axis=1) == true) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(true))


def _ratio(numerator: Array, denominator: Array) -> npt.NDArray[np.float64]:
    empty = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=empty, where=denominator > 0))


def _mean_over_present(values: npt.NDArray[np.float64], name: str) -> float:
    absent = np.flatnonzero(np.isnan(values))
    if len(absent):
        warnings.warn(
            f"{name} is the mean over {len(values) - len(absent)} of {len(values)} classes; it is undefined "
            f"for class {', '.join(map(str, absent))}",
            AbsentClassWarning,
            stacklevel=3,
        )
    return float(np.nanmean(values)) if len(absent) < len(values) else float("nan")


def _weighted(values: npt.NDArray[np.float64], confusion: npt.NDArray[np.int64]) -> float:
    share = confusion.sum(axis=1) / confusion.sum()
    return float(np.sum(np.where(share > 0, values, 0.0) * share))


def _labels(
    truth: npt.ArrayLike, prediction: npt.ArrayLike, num_classes: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    true, predicted = np.asarray(truth), np.asarray(prediction)
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        raise ValueError(
            f"labels must be two equally long lists, not of shape {true.shape} and {predicted.shape}"
        )
    if true.dtype.kind not in "iu" or predicted.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, not {true.dtype} and {predicted.dtype}")
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    classes = int(high) + 1 if num_classes is None else num_classes
    if low < 0 or high >= classes:
        raise ValueError(f"labels must lie in 0 … {classes - 1}, found {low} … {high}")
    return true.astype(np.int64), predicted.astype(np.int64), classes


def _scores(
    truth: npt.ArrayLike, probabilities: npt.ArrayLike
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    scores = np.asarray(probabilities, dtype=np.float64)
    if scores.ndim != 2 or np.shape(truth) != scores.shape[:1]:
        raise ValueError(
            f"probabilities must be [utterances, C], not {scores.shape} for {np.shape(truth)} labels"
        )
    true, _, _ = _labels(truth, truth, scores.shape[1])
    if not np.isfinite(scores).all():
        raise ValueError("probabilities must be finite")
    return true, scores
