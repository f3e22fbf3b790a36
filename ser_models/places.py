"""Every path of the project is a URI: a local path, ``s3://bucket/key`` or ``gs://bucket/key``.

This file turns a URI into a filesystem and gives the few operations that the rest needs. Writing is always
atomic: a reader sees the old object, the new one or none, never half of one. S3 end points and credentials
come from the usual environment variables (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``, …).
"""

import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from ser_models.errors import UserError

PARTIAL_SUFFIX = ".partial"
"""Files being written end in this; one left behind by a killed process may be deleted."""

_PROTOCOLS = {"s3": "s3fs", "gs": "gcsfs"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        # With it, s3fs answers from a listing made before another worker wrote its object.
        "use_listings_cache": False,
        # Many workers at once are told to slow down: wait longer each time, and not give up after five times.
        "config_kwargs": {"retries": {"mode": "standard", "max_attempts": 10}},
    },
    "gs": {},
}


def is_remote(uri: str) -> bool:
    """Whether the URI names an object store and not the local disk."""
    return "://" in uri and not uri.startswith("file://")


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the filesystem of a URI and the path inside it.

    Raises:
        UserError: the scheme is unknown, or the package that serves it is not installed.
    """
    if not is_remote(uri):
        return fsspec.filesystem("file"), os.path.abspath(uri.removeprefix("file://"))
    protocol, _, path = uri.partition("://")
    if protocol not in _PROTOCOLS:
        allowed = ", ".join(f"{name}://" for name in _PROTOCOLS)
        raise UserError(f"{uri!r}: unknown place '{protocol}://'; allowed are a local path, {allowed}")
    try:
        return fsspec.filesystem(protocol, **_OPTIONS[protocol]), path.rstrip("/")
    except ImportError as error:
        package = _PROTOCOLS[protocol]
        raise UserError(f"{uri!r} needs the package {package}: pip install {package}") from error


def arrow_filesystem(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The same as `filesystem`, as pyarrow's kind, which Ray Train and Ray Tune take."""
    if not is_remote(uri):
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(uri.removeprefix("file://"))
    files, path = filesystem(uri)
    return pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(files)), path


def absolute(uri: str) -> str:
    """A URI that means the same from any working directory: remote ones unchanged, local ones absolute."""
    return uri.rstrip("/") if is_remote(uri) else filesystem(uri)[1]


def join(uri: str, *parts: str) -> str:
    """Append path components to a URI."""
    return "/".join([uri.rstrip("/"), *parts])


def name(uri: str) -> str:
    """The last component of a URI."""
    return uri.rstrip("/").rsplit("/", 1)[-1]


def exists(uri: str) -> bool:
    """Whether a file, object or non-empty folder is there."""
    files, path = filesystem(uri)
    return bool(files.exists(path))


def list_names(uri: str) -> list[str]:
    """Sorted names directly under a folder; an empty list where the folder does not exist."""
    files, path = filesystem(uri)
    try:
        entries = files.ls(path, detail=False)
    except FileNotFoundError:
        return []
    return sorted(name(entry) for entry in entries if name(entry) != name(path))


def read_bytes(uri: str) -> bytes:
    """The whole content of a file or object.

    Raises:
        FileNotFoundError: nothing is there.
    """
    files, path = filesystem(uri)
    return bytes(files.cat_file(path))


def write_bytes(uri: str, content: bytes) -> None:
    """Write a file or object at once: locally through a temporary name and a rename, on S3 as one PUT."""
    files, path = filesystem(uri)
    if is_remote(uri):
        files.pipe_file(path, content)
        return
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{PARTIAL_SUFFIX}")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def read_table(uri: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file as a table.

    Raises:
        OSError: nothing is there, or a folder.
        pyarrow.ArrowInvalid: it is no Parquet file.
    """
    # Without threads: started for a stream, they abort the process when it ends soon after, with status 134 instead
    # of its own (pyarrow 26.0.1); pq.read_table would start them too.
    with pq.ParquetFile(pa.BufferReader(read_bytes(uri))) as file:
        return file.read(columns=None if columns is None else list(columns), use_threads=False)


def write_table(uri: str, table: pa.Table) -> None:
    """Write a table as Parquet, at once or not at all."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    write_bytes(uri, buffer.getvalue())


def open_input(uri: str) -> BinaryIO:
    """Open a file or object for reading, seekable."""
    files, path = filesystem(uri)
    return cast(BinaryIO, files.open(path, "rb"))


def remove(uri: str) -> None:
    """Delete a file, an object or a folder with all it holds; nothing happens where nothing is."""
    files, path = filesystem(uri)
    if files.exists(path):
        files.rm(path, recursive=True)
