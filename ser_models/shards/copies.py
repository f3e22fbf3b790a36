"""Altered copies of a corpus, such as AVDAL's seven vocal tracts for each utterance: rows whose ``parent`` they are.

A copy has the id of its parent, ``@``, the augmentation's name and its number: ``03a01Fa@vtlp-2``. Its random numbers
come from its parent's id and its number alone, so it is the same on every machine. Folds train on a copy where they
train on its parent and use it nowhere else.
"""

import functools
import importlib.metadata
from typing import Any, cast

import numpy as np
import pyarrow as pa

from ser_models.errors import UserError
from ser_models.features.augment import copy_generator, parse_augmentations
from ser_models.features.media import Waveform

ALTERED_BY = b"altered_by"
"""Metadata of a manifest with copies: the augmentation, in the notation of views."""


def with_copies(manifest: pa.Table, copies: int, augmentation: str) -> pa.Table:
    """Add copies of every utterance to a manifest.

    Args:
        manifest: without copies.
        copies: of each utterance; 0 leaves the manifest as it is.
        augmentation: of the kind ``copy``, such as ``vtlp[rule=nlpaug]``.

    Raises:
        UserError: the augmentation is unknown or makes no copies, or the manifest has copies already.
    """
    if not copies:
        return manifest
    name = _augmentation(augmentation).name
    if manifest["parent"].null_count < len(manifest):
        raise UserError("the corpus has altered copies of its own already: copies must be 0")
    identities = manifest["utterance_id"].to_pylist()
    tables = [manifest]
    for number in range(1, copies + 1):
        ids = pa.array([f"{identity}@{name}-{number}" for identity in identities], pa.string())
        copied = manifest
        for column, values in (("utterance_id", ids), ("parent", manifest["utterance_id"])):
            position = copied.schema.get_field_index(column)
            copied = copied.set_column(position, manifest.schema.field(position), values)
        tables.append(copied)
    joined = pa.concat_tables(tables).combine_chunks()
    return joined.replace_schema_metadata(
        {**(manifest.schema.metadata or {}), ALTERED_BY: augmentation.encode()}
    )


def altered_by(table: pa.Table) -> str | None:
    """How the copies of a manifest are made; None where it has none."""
    said = (table.schema.metadata or {}).get(ALTERED_BY)
    return said.decode() if said else None


def copies_mark(table: pa.Table) -> dict[str, object]:
    """What the fingerprint of features of copies must hold; nothing for a manifest without copies."""
    augmentation = altered_by(table)
    if augmentation is None:
        return {}
    version = _augmentation(augmentation).VERSION
    return {"copies": [augmentation, version, importlib.metadata.version("scipy")]}


def alter(waveform: Waveform, sample_rate: int, parent: str, utterance: str, augmentation: str) -> Waveform:
    """The waveform of a copy.

    Args:
        waveform: [samples] of the parent.
        sample_rate: Hz.
        parent: its utterance id.
        utterance: the copy's id.
        augmentation: how copies are made.
    """
    number = int(utterance.rpartition("-")[2])
    altered = _augmentation(augmentation)(waveform, sample_rate, copy_generator(parent, number))
    return cast(Waveform, np.ascontiguousarray(altered, dtype=np.float32))


@functools.lru_cache(maxsize=8)
def _augmentation(text: str) -> Any:
    chain = parse_augmentations(text, ("copy",))
    if len(chain) != 1:
        raise UserError(f"copies are made by one augmentation, not by {text!r}")
    return chain[0]
