"""Objects fitted on a training part: they carry the hash of what they were fitted on.

A transform is fitted per fold on the training part only; the leak check compares its hash with the fold.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def ids_hash(utterances: Iterable[str]) -> str:
    """sha256 of the sorted ids of the utterances that something was fitted on."""
    return hashlib.sha256("\n".join(sorted(utterances)).encode()).hexdigest()


@dataclass(frozen=True)
class Fitted:
    """A fitted transform as plain arrays.

    Attributes:
        kind: which transform it is.
        arrays: its parameters.
        fitted_on: `ids_hash` of the utterances that it saw.
    """

    kind: str
    arrays: Mapping[str, Array]
    fitted_on: str


class Standardise:
    """Subtract the mean and divide by the standard deviation of each feature over all frames."""

    kind = "standardise"

    @classmethod
    def fit(cls, sequences: Iterable[tuple[str, Array]]) -> Fitted:
        """Estimate mean and standard deviation.

        Args:
            sequences: id and features [frames, features] of each utterance; exactly these enter ``fitted_on``.

        Raises:
            ValueError: there is no frame at all.
        """
        count, total, squares = 0, np.zeros(1), np.zeros(1)
        utterances = []
        for utterance, sequence in sequences:
            frames = sequence.astype(np.float64)
            utterances.append(utterance)
            count += len(frames)
            total = total + frames.sum(0)
            squares = squares + np.square(frames).sum(0)
        if count == 0:
            raise ValueError("nothing to fit a scaler on: the training part has no frames")
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        # A constant feature carries nothing: it becomes 0 instead of a division by zero.
        scale = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        arrays = {"mean": mean.astype(np.float32), "scale": scale.astype(np.float32)}
        return Fitted(cls.kind, arrays, ids_hash(utterances))

    @staticmethod
    def apply(fitted: Fitted, values: Array) -> Array:
        """[frames, features] standardised."""
        result: Array = (values - fitted.arrays["mean"]) * fitted.arrays["scale"]
        return result


TRANSFORMS = {Standardise.kind: Standardise}
"""Every transform under its kind."""
