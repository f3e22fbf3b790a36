"""Pre-trained word vectors in GloVe's text format, read as a stream: only the wanted rows are kept."""

import re
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from ser_models import places
from ser_models.errors import UserError

_HEADER = re.compile(rb"\d+ \d+")


def read_vectors(uri: str, wanted: Collection[str]) -> tuple[dict[str, NDArray[np.float32]], int]:
    """Vectors of the wanted words that the file holds; of a word given twice, the first.

    One line per word: the word, a space, the numbers with spaces between them (GloVe; Pennington et al. 2014).
    The first line decides how many. A first line of two whole numbers, as word2vec and fastText write it, is
    passed over. A few words of ``glove.840B.300d`` contain spaces themselves (``. . .``): the numbers are counted
    from the right.

    Args:
        uri: local path or ``s3://`` URI.
        wanted: words.

    Returns:
        Word → vector [dimensions] float32, and the number of dimensions.

    Raises:
        UserError: there is no such file, or a line is not as above, is not UTF-8 or is cut short.
    """
    keys = {word.encode(): word for word in wanted}
    found: dict[str, NDArray[np.float32]] = {}
    dimensions = 0
    try:
        with places.open_input(uri) as lines:
            line = b"\n"
            for number, line in enumerate(lines, start=1):
                content = line.rstrip(b"\r\n ")
                if number == 1 and _HEADER.fullmatch(content):
                    continue
                if not dimensions:
                    dimensions = content.count(b" ")
                key, numbers = _split(uri, number, content, dimensions)
                if key in keys and keys[key] not in found:
                    found[keys[key]] = _vector(uri, number, numbers)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"word vectors {uri!r}: there is no such file") from error
    if not dimensions:
        raise UserError(f"word vectors {uri!r}: the file holds no vectors")
    if not line.endswith(b"\n"):
        raise UserError(
            f"word vectors {uri!r}, line {number}: the file ends without a line end, as one that was cut short; "
            "if it is complete, add one"
        )
    return found, dimensions


def _split(uri: str, number: int, content: bytes, dimensions: int) -> tuple[bytes, bytes]:
    """The word and its numbers."""
    fields = content.count(b" ")
    if fields == dimensions:
        key, _, numbers = content.partition(b" ")
    else:
        parts = content.rsplit(b" ", dimensions)
        key, numbers = parts[0], b" ".join(parts[1:])
        if fields < dimensions or _is_number(key.rsplit(b" ", 1)[-1]):
            raise UserError(
                f"word vectors {uri!r}, line {number}: {fields} numbers where the first line has {dimensions}"
            )
    if not dimensions or not key:
        raise UserError(
            f"word vectors {uri!r}, line {number}: expected a word and its numbers, got {content[:40]!r}"
        )
    try:
        key.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"word vectors {uri!r}, line {number}: the word {key[:40]!r} is not UTF-8") from error
    return key, numbers


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _vector(uri: str, number: int, numbers: bytes) -> NDArray[np.float32]:
    try:
        vector = np.array(numbers.split(b" "), dtype=np.float32)
    except ValueError as error:
        raise UserError(f"word vectors {uri!r}, line {number}: {error}") from error
    if not np.isfinite(vector).all():
        raise UserError(f"word vectors {uri!r}, line {number}: a number is not finite")
    return vector
