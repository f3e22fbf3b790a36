"""What utterances have in common: the things that two parts of a division must not share.

Each kind is a column of numbers, equal numbers meaning the same thing and −1 meaning unknown, so that parts are
compared by looking up arrays, whatever the corpus's size. Transcripts that are only nearly equal are matched by
`ser_models.protocols.texts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ser_models.errors import UserError
from ser_models.features.twins import find_twins
from ser_models.protocols.texts import TextIndex, index_texts

Rows = np.ndarray[Any, np.dtype[np.int64]]

_SHOWN = 60  # characters of a transcript in an example


@dataclass(frozen=True)
class Shared:
    """What two parts share.

    Attributes:
        count: distinct things; for transcripts the utterances of the second part.
        first: rows of the first part that are concerned.
        second: rows of the second part that are concerned.
        short: rows of the second part with an equal transcript that is too short to count.
    """

    count: int
    first: Rows
    second: Rows
    short: int = 0


class Common:
    """Compares the rows of a manifest, or of several corpora one after the other.

    Args:
        manifest: the utterances.
        media: of some of them ``utterance_id``, ``sha256`` of the decoded samples and, where preprocessing recorded
            it, ``envelope`` and ``duration``; None where the audio was not decoded. Several corpora may use the
            same ids, so that their media has a column ``corpus`` besides.

    Raises:
        UserError: the manifest holds several corpora, and the media does not say which one it is of.
    """

    def __init__(self, manifest: pa.Table, media: pa.Table | None = None) -> None:
        if media is not None and "corpus" not in media.column_names:
            corpora = manifest["corpus"].unique().to_pylist()
            if len(corpora) > 1:
                raise UserError(
                    f"the manifest holds {', '.join(sorted(corpora))}, and its media does not say of which corpus "
                    "each recording is: give the media a column corpus, or none at all"
                )
        self.manifest = manifest
        self.media = media
        self._numbers: dict[str, Rows] = {}

    def numbers(self, leak: str) -> Rows:
        """[utterances] what each has of a kind, as numbers; −1 where it is unknown."""
        if leak not in self._numbers:
            self._numbers[leak] = _COLUMNS[leak](self)
        return self._numbers[leak]

    def known(self, leak: str, rows: Rows) -> int:
        """Of how many of the rows a kind is known; for ``audio-twin`` how many have a twin in the manifest."""
        numbers = self.texts.numbers if leak == "text" else self.numbers(leak)
        return int(np.count_nonzero(numbers[rows] >= 0))

    def shared(self, leak: str, first: Rows, second: Rows) -> Shared:
        """What two parts share of a kind, a key of `ser_models.protocols.leaks.LEAKS` that is about contents."""
        if leak == "text":
            matches = self.texts.matches(second, first)
            back = self.texts.matches(first, second)
            return Shared(len(matches.rows), back.rows, matches.rows, matches.short)
        numbers = self.numbers(leak)
        both = self._membership(numbers, first) & self._membership(numbers, second)
        concerned_first, concerned_second = (part[both[numbers[part]]] for part in (first, second))
        return Shared(int(both.sum()), concerned_first, concerned_second)

    def rows_sharing(self, leak: str, rows: Rows, others: Rows) -> Rows:
        """Those of the rows that share something with the others."""
        if leak == "text":
            return self.texts.matches(rows, others).rows
        numbers = self.numbers(leak)
        there = self._membership(numbers, others)
        sharing: Rows = rows[there[numbers[rows]]]
        return sharing

    def examples(self, leak: str, first: Rows, second: Rows, limit: int) -> list[str]:
        """Name a few of the things that two parts share."""
        if leak == "text":
            matches = self.texts.matches(second, first)
            pairs = zip(matches.partners[:limit].tolist(), matches.rows[:limit].tolist(), strict=True)
            return [f"{self._id(a)} = {self._id(b)}: {self._text(b)}" for a, b in pairs]
        shared = self.shared(leak, first, second)
        numbers = self.numbers(leak)
        picked, at = np.unique(numbers[shared.second], return_index=True)
        named = []
        for number, position in list(zip(picked.tolist(), at.tolist(), strict=True))[:limit]:
            row = int(shared.second[position])
            if leak in _PAIRED:
                partner = int(shared.first[np.flatnonzero(numbers[shared.first] == number)[0]])
                named.append(f"{self._id(partner)} = {self._id(row)}")
            else:
                named.append(str(self.manifest[_NAMED.get(leak, leak)][row].as_py()))
        return named

    @cached_property
    def texts(self) -> TextIndex:
        """The transcripts."""
        return index_texts(self.manifest["text"].to_pylist())

    @cached_property
    def _hashes(self) -> Rows:
        return self._of_media("sha256")

    def _of_media(self, column: str) -> Rows:
        if self.media is None or column not in self.media.column_names:
            return np.full(len(self.manifest), -1, dtype=np.int64)
        return _encoded(self.media[column].take(self._at_media))

    @cached_property
    def _at_media(self) -> pa.Array:
        """[utterances] row of the media of each; null where it has none."""
        assert self.media is not None
        keys = ["corpus", "utterance_id"] if "corpus" in self.media.column_names else ["utterance_id"]
        wanted, there = (
            pc.binary_join_element_wise(*(table[key].cast(pa.string()) for key in keys), "\0")
            for table in (self.manifest, self.media)
        )
        return pc.index_in(wanted, value_set=there.combine_chunks()).combine_chunks()

    def _twins(self) -> Rows:
        """Components of recordings that sound the same although their samples differ."""
        rows = np.full(len(self.manifest), -1, dtype=np.int64)
        if self.media is None or not len(self.media) or "envelope" not in self.media.column_names:
            return rows
        measured = np.flatnonzero(self._at_media.is_valid().to_numpy(zero_copy_only=False))
        picked = self._at_media.drop_null().to_numpy()
        flat = self.media["envelope"].combine_chunks().flatten().to_numpy()
        envelopes = flat.reshape(len(self.media), -1)[picked]
        durations = self.media["duration"].to_numpy()[picked]
        pairs = np.array(find_twins(envelopes, durations), dtype=np.int64).reshape(-1, 2)
        pairs = measured[pairs]
        hashes = self._hashes
        pairs = pairs[hashes[pairs[:, 0]] != hashes[pairs[:, 1]]]
        if len(pairs):
            size = len(self.manifest)
            links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
            components = connected_components(links, directed=False)[1]
            paired = np.unique(pairs)
            rows[paired] = components[paired]
        return rows

    def _membership(self, numbers: Rows, part: Rows) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """[numbers + 1] whether a number occurs in a part; the last place stands for −1 and is false."""
        there = np.zeros(int(numbers.max(initial=-1)) + 2, dtype=bool)
        there[numbers[part]] = True
        there[-1] = False
        return there

    def _id(self, row: int) -> str:
        return str(self.manifest["utterance_id"][row].as_py())

    def _text(self, row: int) -> str:
        text = " ".join(str(self.manifest["text"][row].as_py()).split())
        return f"“{text if len(text) <= _SHOWN else text[: _SHOWN - 1] + '…'}”"


def _encoded(values: pa.ChunkedArray | pa.Array) -> Rows:
    """Equal values as equal numbers, null as −1."""
    flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    codes = flat.dictionary_encode().indices
    return np.asarray(pc.fill_null(codes, -1).to_numpy(zero_copy_only=False), dtype=np.int64)


def _inside_corpus(column: str) -> Callable[[Common], Rows]:
    """A column whose names mean something inside their own corpus only."""

    def numbers(common: Common) -> Rows:
        corpora = _encoded(common.manifest["corpus"])
        values = _encoded(common.manifest[column])
        joined = values * (corpora.max(initial=0) + 1) + corpora
        joined = np.unique(joined, return_inverse=True)[1]
        return np.where(values < 0, -1, joined).astype(np.int64)

    return numbers


def _origins(common: Common) -> Rows:
    """The recording that each utterance is, or is a copy of; a manifest names no copy as a parent."""
    table = common.manifest
    if table["parent"].null_count == len(table):
        return np.full(len(table), -1, dtype=np.int64)
    origin = pc.coalesce(table["parent"], table["utterance_id"])
    position = table.schema.get_field_index("parent")
    return _inside_corpus("parent")(Common(table.set_column(position, "parent", origin)))


_COLUMNS: dict[str, Callable[[Common], Rows]] = {
    "utterance": _inside_corpus("utterance_id"),
    "speaker": _inside_corpus("speaker"),
    "session": _inside_corpus("session"),
    "dialogue": _inside_corpus("dialogue"),
    "script": _inside_corpus("script"),
    "sentence": _inside_corpus("sentence"),
    "parent": _origins,
    "identical-audio": lambda common: common._hashes,
    "audio-twin": lambda common: common._twins(),
}
CONTENTS: Sequence[str] = (*_COLUMNS, "text")
"""The leaks that are about what utterances contain."""

_NAMED = {"utterance": "utterance_id", "parent": "utterance_id"}
_PAIRED = ("identical-audio", "audio-twin")
