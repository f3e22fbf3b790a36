"""Finding finished shards and reading them: memory-mapped from a cache on this node, or streamed.

Parquet cannot be memory-mapped, so the first reader on a node rewrites a store as one uncompressed Arrow
file, which every worker and every trial on the node then maps.
"""

import contextlib
import os
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import pyarrow as pa

from ser_models import places
from ser_models.corpora import MANIFEST_SCHEMA
from ser_models.errors import UserError
from ser_models.features.views import ViewSpec, parse_specs
from ser_models.shards import layout

if TYPE_CHECKING:
    from ser_models.shards.ragged import FeatureTable

CACHE_VARIABLE = "SER_CACHE"
"""Environment variable with the folder of the cache."""

_COLUMNS = ("utterance_id", "values", "frames")
_AHEAD = 2  # shards that are read ahead of their use
_FORMAT = b"1"  # raised when the layout of the cache file changes


@dataclass(frozen=True)
class ShardStore:
    """The finished features of one view of one corpus.

    Attributes:
        uri: folder of the shards.
        info: content of its ``_manifest.json``.
    """

    uri: str
    info: dict[str, Any]

    @classmethod
    def at(cls, uri: str) -> "ShardStore":
        """The store in a folder.

        Raises:
            UserError: the folder holds no finished store.
        """
        info = layout.read_json(places.join(uri, layout.MANIFEST))
        if info is None or not info.get("complete"):
            raise UserError(f"{uri!r} holds no finished shards: there is no {layout.MANIFEST}")
        return cls(places.absolute(uri), info)

    @property
    def fingerprint(self) -> str:
        """Name of everything that decided the features."""
        return str(self.info["fingerprint"])

    @property
    def spec(self) -> str:
        """The view and its settings."""
        return str(self.info["spec"])

    @property
    def shard_uris(self) -> list[str]:
        """URIs of the shard files, in order; a shard without utterances has no file."""
        rows = self.info["shard_rows"]
        return [
            places.join(self.uri, layout.shard_name(shard, len(rows)))
            for shard, count in enumerate(rows)
            if count
        ]

    def manifest(self) -> pa.Table:
        """The corpus manifest that was preprocessed, sorted by utterance id."""
        table = self._read(layout.UTTERANCES).sort_by("utterance_id")
        # Parquet renames the inner fields of nested columns.
        return table.cast(MANIFEST_SCHEMA.with_metadata(table.schema.metadata))

    def media(self) -> pa.Table:
        """What decoding found: utterance_id, sha256 of the samples, duration, sample_rate, channels, envelope."""
        return self._read(layout.MEDIA)

    def errors(self) -> pa.Table:
        """The utterances that could not be read: utterance_id, uri, error."""
        return self._read(layout.ERRORS)

    def open(self, cache: str | None = None) -> "FeatureTable":
        """Map the features into memory, from the cache of this node.

        Args:
            cache: local folder for `<fingerprint>.arrow`; None is the environment variable SER_CACHE or
                ``~/.cache/ser_models``. The file is made on first use, also when several processes ask at
                once, and made anew where it is damaged or belongs to other shards.
        """
        from ser_models.shards.ragged import FeatureTable

        path = cache_folder(cache) / f"{self.fingerprint}.arrow"
        table = self._map(path)
        if table is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(f"{path}.lock"):
                table = self._map(path)  # another process may have made it meanwhile
                if table is None:
                    self._fill(path)
                    table = self._map(path)
        assert table is not None, f"{path} was just written and cannot be read"
        return FeatureTable(table)

    def stream(self, order: Sequence[int]) -> Iterator[pa.Table]:
        """Shards one after the other, the next ones being read meanwhile, for what does not fit on a node.

        Args:
            order: positions in `shard_uris`.
        """
        uris = [self.shard_uris[index] for index in order]
        with ThreadPoolExecutor(_AHEAD) as pool:
            reading = deque(pool.submit(places.read_table, uri, _COLUMNS) for uri in uris[:_AHEAD])
            for position in range(len(uris)):
                table = reading.popleft().result()
                if position + _AHEAD < len(uris):
                    reading.append(pool.submit(places.read_table, uris[position + _AHEAD], _COLUMNS))
                yield table

    def _read(self, name: str) -> pa.Table:
        return places.read_table(places.join(self.uri, name))

    def _stamp(self) -> dict[bytes, bytes]:
        """What a cache file must carry to be this store's: a label may change, features may not."""
        facts = (self.fingerprint, self.info["rows"], self.info["errors"], self.info["bytes"])
        return {b"store": repr(facts).encode(), b"format": _FORMAT}

    def _map(self, path: Path) -> pa.Table | None:
        """The cache file's table, or None where it is missing, damaged or another store's."""
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid):
            return None
        metadata = table.schema.metadata or {}
        stamped = all(metadata.get(key) == value for key, value in self._stamp().items())
        return table if stamped and table.num_rows == self.info["rows"] else None

    def _fill(self, path: Path) -> None:
        """Write the cache file, one shard in memory at a time."""
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{places.PARTIAL_SUFFIX}")
        view = parse_specs(self.spec)[0].build()
        wanted = [layout.shard_schema(view).field(name) for name in _COLUMNS]
        schema = pa.schema(wanted, metadata=self._stamp())
        try:
            with pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
                for uri in self.shard_uris:
                    table = (
                        places.read_table(uri, _COLUMNS)
                        .select(_COLUMNS)
                        .replace_schema_metadata(schema.metadata)
                    )
                    for batch in table.combine_chunks().to_batches():
                        writer.write_batch(batch)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def find_store(root: str, corpus: str, spec: str | ViewSpec, *, fingerprint: str | None = None) -> ShardStore:
    """Find the features that preprocessing made of a view.

    Args:
        root: what ``--output`` named.
        corpus: name of the corpus.
        spec: the view, such as ``mfcc`` or ``mfcc[samples=110000]``.
        fingerprint: which one, where there are several; None takes that of the latest preprocessing run.

    Raises:
        UserError: they are not there; the message says what is, and the command that makes them.
    """
    parsed = parse_specs(spec)[0] if isinstance(spec, str) else spec
    folder = places.join(places.absolute(root), corpus, parsed.name)
    current = layout.read_json(places.join(folder, layout.CURRENT)) or {}
    wanted = fingerprint or current.get(str(parsed))
    if wanted:
        with contextlib.suppress(UserError):
            return ShardStore.at(places.join(folder, wanted))
    stores = _stores(folder)
    matching = [store for store in stores if store.spec == str(parsed) and not fingerprint]
    if len(matching) == 1:
        return matching[0]
    there = ", ".join(f"{store.spec} ({store.fingerprint})" for store in stores) or "nothing finished"
    asked = f"{parsed} with fingerprint {fingerprint}" if fingerprint else str(parsed)
    reason = "there are several, name the fingerprint" if matching else "make it with"
    command = (
        f"python workflows/preprocess.py --corpus {corpus} --root ROOT --views '{parsed}' --output {root}"
    )
    raise UserError(
        f"no single store of {asked} for {corpus} under {root}; there is: {there}; {reason}: {command}"
    )


def cache_folder(cache: str | None = None) -> Path:
    """Local folder of the Arrow files.

    Raises:
        UserError: it is no local folder.
    """
    folder = cache or os.environ.get(CACHE_VARIABLE) or str(Path.home() / ".cache" / "ser_models")
    if places.is_remote(folder):
        raise UserError(f"the cache {folder!r} must be a local folder: its files are memory-mapped")
    return Path(places.absolute(folder))


def _stores(folder: str) -> list[ShardStore]:
    stores = []
    for name in places.list_names(folder):
        if not name.startswith("_"):
            with contextlib.suppress(UserError):
                stores.append(ShardStore.at(places.join(folder, name)))
    return stores
