"""The shard contract: which utterance goes to which shard, what the folder holds, how a shard is written.

A view of a corpus lies in ``OUT/<corpus>/<view>/<fingerprint>/``. The fingerprint covers everything that
decides the features, and no labels, so a shard that exists under it is right and never computed again.
"""

import contextlib
import hashlib
import importlib.metadata
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ser_models import places
from ser_models.errors import UserError
from ser_models.features import twins
from ser_models.features.views import Encoder, View, ViewSpec, is_encoder
from ser_models.shards.copies import copies_mark

MANIFEST = "_manifest.json"
"""What the folder holds, written last: where it exists, the folder is complete."""
UTTERANCES = "_utterances.parquet"
"""The corpus manifest, sorted by shard and id; row group i is shard i."""
MEDIA = "_media.parquet"
"""What decoding found, one row per utterance that could be read."""
ERRORS = "_errors.parquet"
"""The utterances that could not be read, and why."""
CURRENT = "_current.json"
"""Beside the fingerprints: spec → fingerprint of the latest run, for readers that name only the spec."""

SOURCES: Mapping[str, tuple[str, ...]] = {
    "audio": ("audio", "start", "end"),
    "video": ("video", "video_start", "video_end", "video_region"),
    "text": ("text",),
}
"""The columns of the manifest that a view of each source reads."""

MEDIA_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("sha256", pa.string()),
        pa.field("duration", pa.float64()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("envelope", pa.list_(pa.float32())),
    ]
)
ERRORS_SCHEMA: pa.Schema = pa.schema([(name, pa.string()) for name in ("utterance_id", "uri", "error")])

_FINGERPRINT_DIGITS = 16
_LONG = ("values", "envelope")  # columns of long lists, in which no value is looked for
_LARGEST_COLUMN = 2**31 - 1  # values of a list column, whose offsets have 32 bits


@dataclass(frozen=True)
class Target:
    """One view of one corpus: what a run has to produce.

    Attributes:
        spec: the view and its settings.
        fingerprint: of the features.
        folder: URI of the folder that holds the shards.
        shards: number of shards, empty ones included.
    """

    spec: ViewSpec
    fingerprint: str
    folder: str
    shards: int

    def uri(self, name: str) -> str:
        """URI of a file in the folder."""
        return places.join(self.folder, name)

    def shard_uri(self, shard: int) -> str:
        """URI of a shard."""
        return self.uri(shard_name(shard, self.shards))


def shard_name(shard: int, shards: int) -> str:
    """File name of a shard.

    >>> shard_name(12, 64)
    'shard-00012-of-00064.parquet'
    """
    return f"shard-{shard:05d}-of-{shards:05d}.parquet"


def default_shards(rows: int) -> int:
    """Number of shards for a corpus: a power of two, some 64 utterances to a shard, from 8 to 1024 shards.

    Between two Ray Data tasks a worker waits some 25 ms, so a shard of a dozen short clips would be half
    waiting; with many hundreds a killed run would lose too much.

    >>> [default_shards(rows) for rows in (10, 720, 1440, 10039, 10**6)]
    [8, 8, 16, 128, 1024]
    """
    return int(2 ** np.clip(np.round(np.log2(max(rows, 1) / 64)), 3, 10))


def shard_numbers(table: pa.Table, shards: int) -> list[int]:
    """Shard of each row: sha256 of the dialogue if there is one, else of the utterance id, modulo ``shards``.

    A dialogue stays together so that its video is opened once.
    """
    keys = table.select(["dialogue", "utterance_id"]).to_pydict()
    return [
        int.from_bytes(hashlib.sha256((dialogue or identity).encode()).digest()[:8], "big") % shards
        for dialogue, identity in zip(keys["dialogue"], keys["utterance_id"], strict=True)
    ]


def media_sizes(table: pa.Table, column: str) -> dict[str, int | None]:
    """Bytes of each file named in a column; None where it does not exist.

    Remote files are listed under the corpus's root instead of being asked for one by one.
    """
    uris = sorted({uri for uri in table[column].to_pylist() if uri is not None})
    remote = {uri for uri in uris if places.is_remote(uri)}
    listed: Mapping[str, Any] = {}
    root = root_of(table)
    if remote and root and places.is_remote(root):
        files, path = places.filesystem(root)
        listed = files.find(path, detail=True)
    return {uri: _size(uri, listed) for uri in uris}


def _size(uri: str, listed: Mapping[str, Any]) -> int | None:
    files, path = places.filesystem(uri)
    if not places.is_remote(uri):
        try:
            return os.stat(path).st_size
        except OSError:
            return None
    try:
        return int((listed.get(path) or files.info(path))["size"])
    except FileNotFoundError:
        return None


def root_of(table: pa.Table) -> str:
    """The root folder of a manifest's corpus; empty where the manifest does not say."""
    return ((table.schema.metadata or {}).get(b"root") or b"").decode()


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed version of each distribution."""
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def fingerprint(
    spec: ViewSpec,
    view: View,
    table: pa.Table,
    numbers: Sequence[int],
    shards: int,
    sizes: Mapping[str, int | None],
) -> str:
    """Name everything that decides the features in 16 hexadecimal digits.

    Covered are the view's settings and VERSION, that of the envelopes, the versions of its libraries, the number
    of shards, and per row its id, shard, file (relative to the corpus's root) with size, start, end and region.
    Labels are not, and the text only for views that read text.
    """
    root = root_of(table).rstrip("/") + "/"
    columns = table.select(["utterance_id", *SOURCES[view.source]]).to_pydict()
    rows = []
    for index, number in enumerate(numbers):
        row = {name: values[index] for name, values in columns.items()}
        uri = row.get(view.source) if view.source != "text" else None
        if uri is not None:
            row[view.source] = uri.removeprefix(root)
            row["size"] = sizes.get(uri)
        rows.append(row | {"shard": number})
    rows.sort(key=lambda row: row["utterance_id"])
    facts = {
        "view": spec.name,
        "settings": dict(spec.settings),
        "version": view.VERSION,
        "envelopes": twins.VERSION,
        "libraries": library_versions(view.libraries),
        **({"weights": cast(Encoder, view).weights} if is_encoder(view) else {}),
        "shards": shards,
        "rows": rows,
        **copies_mark(table),
    }
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_FINGERPRINT_DIGITS]


def shard_schema(view: View) -> pa.Schema:
    """Columns of a shard; ``values`` is flat, its metadata holds the trailing dimensions."""
    element = arrow_type(view.dtype)
    values = pa.field(
        "values",
        pa.list_(element),
        metadata={"shape": json.dumps(list(view.shape)), "dtype": view.dtype},
    )
    identity, *media = MEDIA_SCHEMA
    frames, remark = pa.field("frames", pa.int32()), pa.field("remark", pa.string())
    return pa.schema([identity, values, frames, remark, *media])


def numpy_dtype(name: str) -> np.dtype[Any]:
    """NumPy's type of a view's values; strings are objects."""
    return np.dtype(object if name == "str" else name)


def arrow_type(name: str) -> pa.DataType:
    """Arrow's type of a view's values."""
    return pa.string() if name == "str" else pa.from_numpy_dtype(np.dtype(name))


def list_column(arrays: Sequence[np.ndarray[Any, Any]], dtype: str) -> pa.Array:
    """Arrays of any length as one column of flat lists.

    >>> list_column([np.array([[1, 2], [3, 4]]), np.empty((0, 2))], "int16").to_pylist()
    [[1, 2, 3, 4], []]

    Raises:
        UserError: there are more values than a column can hold.
    """
    if (size := sum(array.size for array in arrays)) > _LARGEST_COLUMN:
        raise UserError(f"a shard of {size} values is too large for one file: use more --shards")
    offsets = np.zeros(len(arrays) + 1, dtype=np.int32)
    np.cumsum([array.size for array in arrays], out=offsets[1:])
    kind = numpy_dtype(dtype)
    flat = np.concatenate(
        [np.empty(0, kind), *(array.ravel() for array in arrays)], dtype=kind, casting="unsafe"
    )
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, arrow_type(dtype)))


def encode(table: pa.Table, groups: Sequence[int] | None = None) -> bytes:
    """A table as a Parquet file, the same bytes for the same table.

    Args:
        table: what to write.
        groups: rows of each row group, which may be 0; by default one row group.
    """
    stream = io.BytesIO()
    plain = [field.name for field in table.schema if field.name in _LONG]
    short = [field.name for field in table.schema if field.name not in plain]
    floats = [name for name in plain if pa.types.is_floating(table.schema.field(name).type.value_type)]
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1}
    if "values" in floats:
        # Of floats the bytes of equal rank resemble each other: smaller than zstd alone, and written in two thirds of
        # its time.
        options = {"compression": "lz4"}
    if floats:
        options["use_byte_stream_split"] = [f"{name}.list.element" for name in floats]
    with pq.ParquetWriter(
        stream, table.schema, use_dictionary=short, write_statistics=short, **options
    ) as writer:
        start = 0
        for rows in [table.num_rows] if groups is None else groups:
            writer.write_table(table.slice(start, rows), row_group_size=max(rows, 1))
            start += rows
    return stream.getvalue()


@contextlib.contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """Open a Parquet file; of a remote one only the parts that are asked for are fetched.

    Raises:
        FileNotFoundError: nothing is there.
    """
    source = places.open_input(uri) if places.is_remote(uri) else pa.memory_map(places.absolute(uri))
    with source, pq.ParquetFile(source) as file:
        yield file


def shard_errors(schema: pa.Schema) -> list[dict[str, str]]:
    """The unreadable utterances that a shard recorded: ``utterance_id``, ``uri`` and ``error``."""
    errors: list[dict[str, str]] = json.loads((schema.metadata or {}).get(b"errors", b"[]"))
    return errors


def read_json(uri: str) -> Any:
    """The content of a JSON file, or None where there is no file."""
    try:
        return json.loads(places.read_bytes(uri))
    except FileNotFoundError:
        return None


def write_json(uri: str, content: Any) -> None:
    """Write a JSON file, readable and the same bytes for the same content."""
    places.write_bytes(uri, (json.dumps(content, indent=2, sort_keys=True) + "\n").encode())
