"""Metrics of valence, arousal and dominance: two series of numbers in, one number out.

`ser_models.evaluation.metrics` offers these too. All moments are those of the population (divided by N), as
Lin (1989) defines the concordance.
"""

import numpy as np
import numpy.typing as npt


def ccc(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    r"""Concordance correlation coefficient (Lin 1989): agreement in shape, scale and level.

    .. math:: \frac{2 \sigma_{y \hat y}}{\sigma_y^2 + \sigma_{\hat y}^2 + (\mu_y - \mu_{\hat y})^2}

    Args:
        truth: true values, ``[utterances]``.
        prediction: predicted values, ``[utterances]``.

    Returns:
        A number from -1 to 1; NaN where both are the same constant.

    Raises:
        ValueError: the two differ in length, are empty or not finite.

    Examples:
        >>> round(ccc([1, 2, 3], [2, 3, 4]), 6)
        0.571429
    """
    true, predicted = _series(truth, prediction)
    covariance = np.mean((true - true.mean()) * (predicted - predicted.mean()))
    spread = true.var() + predicted.var() + (true.mean() - predicted.mean()) ** 2
    return float(2 * covariance / spread) if spread > 0 else float("nan")


def pcc(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    r"""Pearson's correlation coefficient: agreement in shape only.

    .. math:: \frac{\sigma_{y \hat y}}{\sigma_y \sigma_{\hat y}}

    Args:
        truth: true values, ``[utterances]``.
        prediction: predicted values, ``[utterances]``.

    Returns:
        A number from -1 to 1; NaN where one of the two is constant.

    Raises:
        ValueError: as `ccc`.

    Examples:
        >>> pcc([1, 2, 3], [2, 4, 6])
        1.0
    """
    true, predicted = _series(truth, prediction)
    covariance = np.mean((true - true.mean()) * (predicted - predicted.mean()))
    spread = np.sqrt(true.var() * predicted.var())
    return float(np.clip(covariance / spread, -1, 1)) if spread > 0 else float("nan")


def rmse(truth: npt.ArrayLike, prediction: npt.ArrayLike) -> float:
    r"""Root mean squared error, in the unit of the values.

    .. math:: \sqrt{\frac{1}{N} \sum_n (y_n - \hat y_n)^2}

    Args:
        truth: true values, ``[utterances]``.
        prediction: predicted values, ``[utterances]``.

    Returns:
        A number from 0.

    Raises:
        ValueError: as `ccc`.

    Examples:
        >>> round(rmse([0, 0], [3, 4]), 6)
        3.535534
    """
    true, predicted = _series(truth, prediction)
    return float(np.sqrt(np.mean((true - predicted) ** 2)))


def _series(
    truth: npt.ArrayLike, prediction: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    true, predicted = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        raise ValueError(
            f"values must be two equally long lists, not of shape {true.shape} and {predicted.shape}"
        )
    if not (np.isfinite(true).all() and np.isfinite(predicted).all()):
        raise ValueError("values must be finite; leave out utterances without an annotation")
    return true, predicted
