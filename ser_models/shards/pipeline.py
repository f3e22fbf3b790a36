"""The operators of preprocessing: plan → decode and signal views → encoders → write, one shard per block.

With Ray each step below is one Ray Data operator; without Ray the same functions run in a loop in this process and
write the same bytes. A task receives a folder and a shard number, reads its own rows from the manifest there, and
sends back a line of figures: features travel to encoders only. Encoders are loaded once per process and run in pools of
actors, on GPUs where there are any; they ask for other resources than decoding does, so that Ray does not fuse them.
"""

import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import threadpoolctl

from ser_models import places
from ser_models.features.views import is_encoder
from ser_models.shards import layout
from ser_models.shards.compute import built, compute_shard, encode_shard
from ser_models.shards.copies import altered_by
from ser_models.shards.layout import Target

if TYPE_CHECKING:
    import ray.data

RESULT_SCHEMA: pa.Schema = pa.schema([("shard", pa.int32()), ("spec", pa.string()), ("rows", pa.int32())])
"""What `write` reports: one row per shard file, ``rows`` counting the unreadable ones too."""

_DECODER = 0.4
"""Processors of a decoding task beside encoders; theirs is another number, else Ray fuses the two."""


@dataclass(frozen=True)
class Job:
    """One shard to compute.

    Attributes:
        shard: its number.
        specs: the views that still lack it.
    """

    shard: int
    specs: tuple[str, ...]


@dataclass(frozen=True)
class Result:
    """One shard file that was written: its number, the view's spec and how many utterances it covers."""

    shard: int
    spec: str
    rows: int


def run_here(targets: Sequence[Target], jobs: Sequence[Job]) -> Iterator[list[Result]]:
    """Compute the shards in this process, one after the other; yields the results of each."""
    for job in jobs:
        block = compute(_plan_block(targets, job))
        for spec in _encoders(targets):
            block = _encode(block, spec)
        yield _results(write(block, targets))


def run_on_ray(targets: Sequence[Target], jobs: Sequence[Job], workers: int | None) -> Iterator[list[Result]]:
    """Compute the shards with Ray Data; yields the results of each shard as it is finished.

    Args:
        targets: what to produce; all have the same utterances and number of shards.
        jobs: the shards to compute.
        workers: tasks at once; None takes every processor of the cluster.
    """
    dataset = build_dataset(targets, jobs, workers)
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        yield _results(block)


def build_dataset(targets: Sequence[Target], jobs: Sequence[Job], workers: int | None) -> "ray.data.Dataset":
    """The lazy Ray Data pipeline whose output blocks are the results of one shard each."""
    import ray.data

    _quieten()
    context = ray.data.DataContext.get_current().copy()
    context.target_max_block_size = None  # a block is a shard, whatever its size
    # Shares processors between operators; of two processors it gives this single operator mostly one, and in
    # the first second always. Blocks here are a few bytes, so there is no memory to share out.
    encoders = _encoders(targets)
    context.op_resource_reservation_enabled = bool(encoders)
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # wrapped, it loses the reason on its way here
    block: dict[str, Any] = {"batch_size": None, "batch_format": "pyarrow", "zero_copy_batch": True}
    tasks = {
        **block,
        "num_cpus": _DECODER if encoders else 1,
        "compute": ray.data.TaskPoolStrategy(size=_cap(workers)),
    }
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_arrow([_plan_block(targets, job) for job in jobs])
        dataset = dataset.map_batches(compute, **tasks)
        for spec in encoders:
            dataset = dataset.map_batches(
                cast(Any, Encoding),
                fn_constructor_kwargs={"spec": spec},
                **block,
                **_pool(len(encoders), workers),
            )
        dataset = dataset.map_batches(cast(Any, write), fn_kwargs={"targets": targets}, **tasks)
    return dataset


def compute(block: pa.Table) -> pa.Table:
    """Decode the utterances of one shard once each and compute every view that still lacks it.

    Args:
        block: one row: ``shard``, ``manifest`` (URI) and ``specs``.

    Returns:
        What `ser_models.shards.compute.compute_shard` gives, and the column ``shard``.
    """
    job = block.to_pylist()[0]
    with threadpoolctl.threadpool_limits(1):  # one task, one thread: Ray runs a task per processor
        utterances, altered = _read_group(job["manifest"], job["shard"], job["specs"])
        table = compute_shard(utterances, job["specs"], altered)
    return table.append_column("shard", pa.array([job["shard"]] * len(table), pa.int32()))


class Encoding:
    """An actor that holds one encoder and passes shards through it."""

    def __init__(self, spec: str) -> None:
        """Load the encoder, on this actor's GPU where it has one."""
        self.spec = spec
        _encoder(spec)

    def __call__(self, block: pa.Table) -> pa.Table:
        """Encode one shard."""
        return _encode(block, self.spec)


def write(block: pa.Table, targets: Sequence[Target]) -> pa.Table:
    """Write one shard of every view that was computed, each at once.

    Args:
        block: as `compute` and the encoders return it, all of one shard.
        targets: every view of the run.

    Returns:
        `RESULT_SCHEMA`.
    """
    shard = block["shard"][0].as_py()
    results = []
    for target in targets:
        spec = str(target.spec)
        if f"values {spec}" not in block.column_names:
            continue
        places.write_bytes(target.shard_uri(shard), _encode_parquet(block, spec))
        results.append({"shard": shard, "spec": spec, "rows": block.num_rows})
    return pa.Table.from_pylist(results, schema=RESULT_SCHEMA)


def _encoders(targets: Sequence[Target]) -> list[str]:
    return [str(target.spec) for target in targets if is_encoder(built(str(target.spec)))]


@functools.lru_cache(maxsize=8)
def _encoder(spec: str) -> Callable[[list[np.ndarray[Any, Any]]], list[np.ndarray[Any, Any]]]:
    """The loaded encoder of a view, one per process."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loaded: Callable[[list[np.ndarray[Any, Any]]], list[np.ndarray[Any, Any]]] = cast(Any, built(spec)).load(
        device
    )
    return loaded


def _encode(block: pa.Table, spec: str) -> pa.Table:
    if f"prepared {spec}" not in block.column_names:  # another view lacked this shard, not this one
        return block
    with threadpoolctl.threadpool_limits(1):
        return encode_shard(block, spec, _encoder(spec))


def _pool(encoders: int, workers: int | None) -> dict[str, Any]:
    """The actors of one of several encoders: a GPU each where there are any, else a share of every processor."""
    import ray.data

    resources = ray.cluster_resources()
    if gpus := int(resources.get("GPU", 0)):
        size = max(1, gpus // encoders)
        # More GPUs may join an autoscaling cluster while the work goes on.
        strategy = ray.data.ActorPoolStrategy(min_size=1, max_size=max(size, 64), initial_size=size)
        return {"num_gpus": min(1.0, gpus / encoders), "compute": strategy}
    size = max(1, min(workers or 100_000, int(resources.get("CPU", 1))))
    return {"num_cpus": (1 - _DECODER) / encoders, "compute": ray.data.ActorPoolStrategy(size=size)}


def _cap(workers: int | None) -> int | None:
    """The limit to give to Ray Data: none where the cluster has no more processors than the limit.

    Ray Data holds a capped pool below its cap while it waits for results: a pool of two mostly runs one task.
    """
    import ray

    return workers if workers is not None and workers < ray.cluster_resources().get("CPU", 0) else None


def _quieten() -> None:
    """Keep Ray Data's log off the console; its log files keep everything."""
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.CRITICAL)


def _plan_block(targets: Sequence[Target], job: Job) -> pa.Table:
    manifest = targets[0].uri(layout.UTTERANCES)
    return pa.table({"shard": [job.shard], "manifest": [manifest], "specs": [list(job.specs)]})


def _results(block: pa.Table) -> list[Result]:
    return [Result(**row) for row in block.to_pylist()]


def _read_group(manifest: str, shard: int, specs: Sequence[str]) -> tuple[list[dict[str, Any]], str | None]:
    """The utterances of one shard, one row group of the manifest, with the columns that the views read.

    Returns:
        The rows, and how the sound of copies among them is made.
    """
    columns = {column for spec in specs for column in layout.SOURCES[built(spec).source]}
    with layout.open_parquet(manifest) as file:
        table = file.read_row_group(shard, ["utterance_id", "parent", *sorted(columns)], use_threads=False)
        return table.to_pylist(), altered_by(table)


def _encode_parquet(block: pa.Table, spec: str) -> bytes:
    """The Parquet file of one shard of one view; the unusable utterances go to its metadata."""
    view = built(spec)
    failed = block[f"error {spec}"].is_valid()
    errors = block.filter(failed).select(["utterance_id", f"uri {spec}", f"error {spec}"])
    metadata = json.dumps(
        errors.rename_columns(["utterance_id", "uri", "error"]).to_pylist(), ensure_ascii=False
    )
    kept = block.filter(pc.invert(failed)) if len(errors) else block
    columns = []
    for field in layout.shard_schema(view):
        own = f"{field.name} {spec}"
        if own in kept.column_names:
            columns.append(kept[own])
        elif field.name == "utterance_id" or view.source == "audio":
            columns.append(kept[field.name])
        else:
            # What decoding the sound found is no part of a view that does not hear, whoever computed beside it.
            columns.append(pa.chunked_array([pa.nulls(len(kept), field.type)]))
    schema = layout.shard_schema(view).with_metadata({"errors": metadata})
    return layout.encode(pa.Table.from_arrays(columns, schema=schema))
