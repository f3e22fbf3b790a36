"""Objects fitted on a training part: they carry the hash of what they were fitted on.

A transform is fitted per fold on the training part only; the leak check compares its hash with the fold.
"""

import functools
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_models.errors import UserError
from ser_models.features.word_vectors import read_vectors

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


class Vocabulary:
    """Number the words of a training part: 0 is padding, 1 every other word, then from the most frequent on.

    AMH fitted its vocabulary on all transcripts, those of the test part included; this one sees the training part.
    """

    kind = "vocabulary"
    PADDING = 0
    UNKNOWN = 1

    @classmethod
    def fit(
        cls,
        sequences: Iterable[tuple[str, Array]],
        *,
        size: int | None = None,
        min_count: int = 1,
        vectors: str | None = None,
        seed: int = 0,
    ) -> Fitted:
        """Collect the words and, where asked, their vectors.

        Args:
            sequences: id and words [tokens] of each utterance; exactly these enter ``fitted_on``.
            size: most words that are kept, the most frequent first (of equally frequent ones the first in
                alphabetical order); None keeps all.
            min_count: how often a word must occur.
            vectors: file of word vectors (see `read_vectors`), such as ``glove.840B.300d.txt``.
            seed: of the vectors of words that the file lacks, and of the unknown word.

        Returns:
            ``text`` (the words in UTF-8, one after the other, uint8) and ``offsets`` [words + 1] int64. With
            vectors also ``vectors`` [words + 2, dimensions] float32, in the order of the numbers: zeros for
            padding, the file's own, or uniform in (−0.25, 0.25) as in AMH; and ``from_file`` [words + 2] bool.

        Raises:
            ValueError: there is no word at all.
            UserError: an impossible setting, or a file of vectors that cannot be used.
        """
        if size is not None and size < 1:
            raise UserError(f"vocabulary: size must be at least 1 or none, got {size}")
        if min_count < 1:
            raise UserError(f"vocabulary: min_count must be at least 1, got {min_count}")
        counts: Counter[str] = Counter()
        utterances = []
        for utterance, words in sequences:
            utterances.append(utterance)
            counts.update(words.tolist())
        if not counts:
            raise ValueError("nothing to fit a vocabulary on: the training part has no words")
        frequent = [word for word, count in counts.items() if count >= min_count]
        if not frequent:
            raise UserError(
                f"vocabulary: no word of the training part occurs {min_count} times; lower min_count"
            )
        kept = sorted(frequent, key=lambda word: (-counts[word], word))[:size]
        encoded = [word.encode() for word in kept]
        arrays: dict[str, Array] = {
            "text": np.frombuffer(b"".join(encoded), dtype=np.uint8),
            "offsets": np.cumsum([0, *map(len, encoded)], dtype=np.int64),
        }
        if vectors is not None:
            arrays |= cls._embed(kept, vectors, seed)
        return Fitted(cls.kind, arrays, ids_hash(utterances))

    @staticmethod
    def apply(fitted: Fitted, values: Array) -> Array:
        """Words [tokens] as their numbers [tokens] int64."""
        numbers = _numbers(fitted.arrays["text"].tobytes(), fitted.arrays["offsets"].tobytes())
        return np.array([numbers.get(word, Vocabulary.UNKNOWN) for word in values.tolist()], dtype=np.int64)

    @staticmethod
    def size(fitted: Fitted) -> int:
        """How many numbers there are, padding and the unknown word included."""
        return len(fitted.arrays["offsets"]) + 1

    @classmethod
    def _embed(cls, words: list[str], vectors: str, seed: int) -> dict[str, Array]:
        found, dimensions = read_vectors(vectors, set(words))
        table = np.random.default_rng(seed).uniform(-0.25, 0.25, (len(words) + 2, dimensions))
        table[cls.PADDING] = 0
        for number, word in enumerate(words, start=2):
            table[number] = found.get(word, table[number])
        from_file = np.array([False, False, *(word in found for word in words)])
        return {"vectors": table.astype(np.float32), "from_file": from_file}


@functools.lru_cache(maxsize=16)
def _numbers(text: bytes, offsets: bytes) -> dict[str, int]:
    """Word → number."""
    bounds = np.frombuffer(offsets, dtype=np.int64).tolist()
    return {
        text[start:stop].decode(): number
        for number, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True), start=2)
    }


TRANSFORMS: dict[str, type[Standardise] | type[Vocabulary]] = {
    transform.kind: transform for transform in (Standardise, Vocabulary)
}
"""Every transform under its kind."""
