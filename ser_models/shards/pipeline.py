"""The operators of preprocessing: plan → decode and signal views → write, one shard per block.

With Ray each function below is one Ray Data operator; without Ray the same functions run in a loop in this
process and write the same bytes. A task receives a folder and a shard number, reads its own rows from the
manifest there, and sends back a line of figures: no features travel. A neural view joins as an operator on an
actor pool between `compute` and `write`, which asks for other resources so that Ray does not fuse it.
"""

import functools
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import threadpoolctl

from ser_models import places
from ser_models.features.media import MediaError, Recording, read
from ser_models.features.twins import envelope
from ser_models.features.views import View, parse_specs
from ser_models.shards import layout
from ser_models.shards.layout import Target

if TYPE_CHECKING:
    import ray.data

RESULT_SCHEMA: pa.Schema = pa.schema([("shard", pa.int32()), ("spec", pa.string()), ("rows", pa.int32())])
"""What `write` reports: one row per shard file, ``rows`` counting the unreadable ones too."""


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
        block = _plan_block(targets, job)
        yield _results(write(compute(block, targets), targets))


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
    context.op_resource_reservation_enabled = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True  # wrapped, it loses the reason on its way here
    options: dict[str, Any] = {
        "fn_kwargs": {"targets": targets},
        "batch_size": None,
        "batch_format": "pyarrow",
        "zero_copy_batch": True,
        "num_cpus": 1,
        "compute": ray.data.TaskPoolStrategy(size=_cap(workers)),
    }
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_arrow([_plan_block(targets, job) for job in jobs])
        for operator in (compute, write):
            dataset = dataset.map_batches(cast(Any, operator), **options)
    return dataset


def compute(block: pa.Table, targets: Sequence[Target]) -> pa.Table:
    """Decode the utterances of one shard once each and compute every view that still lacks it.

    Args:
        block: one row: ``shard``, ``manifest`` (URI) and ``specs``.
        targets: every view of the run.

    Returns:
        One row per utterance; per view that lacks the shard the columns ``values``, ``frames`` and ``error``.
    """
    job = block.to_pylist()[0]
    utterances = _read_group(job["manifest"], job["shard"]).to_pylist()
    views = {str(target.spec): _built(str(target.spec)) for target in targets}
    wanted = {spec: view for spec, view in views.items() if spec in job["specs"]}
    with threadpoolctl.threadpool_limits(1):  # one task, one thread: Ray runs a task per processor
        rows = [_compute_row(utterance, wanted) for utterance in utterances]
    columns: dict[str, pa.Array] = {
        "shard": pa.array([job["shard"]] * len(rows), pa.int32()),
        "uri": pa.array([row["uri"] for row in rows], pa.string()),
    }
    for field in layout.MEDIA_SCHEMA:
        columns[field.name] = pa.array([row.get(field.name) for row in rows], field.type)
    for spec, view in views.items():
        if spec not in wanted:
            continue
        empty = np.empty(0, view.dtype)
        arrays = [row["arrays"].get(spec) for row in rows]
        flat = [empty if array is None else array for array in arrays]
        columns[f"values {spec}"] = layout.list_column(flat, view.dtype)
        columns[f"frames {spec}"] = pa.array(
            [None if array is None else len(array) for array in arrays], pa.int32()
        )
        columns[f"error {spec}"] = pa.array([row["errors"].get(spec) for row in rows], pa.string())
    return pa.table(columns)


def write(block: pa.Table, targets: Sequence[Target]) -> pa.Table:
    """Write one shard of every view that was computed, each at once.

    Args:
        block: as `compute` returns it, all of one shard.
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
        places.write_bytes(target.shard_uri(shard), _encode_shard(block, spec))
        results.append({"shard": shard, "spec": spec, "rows": block.num_rows})
    return pa.Table.from_pylist(results, schema=RESULT_SCHEMA)


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


@functools.lru_cache(maxsize=64)
def _built(spec: str) -> View:
    return parse_specs(spec)[0].build()


def _read_group(manifest: str, shard: int) -> pa.Table:
    """The utterances of one shard: one row group of the manifest."""
    with layout.open_parquet(manifest) as file:
        return file.read_row_group(shard, columns=["utterance_id", "audio", "start", "end"])


def _compute_row(utterance: dict[str, Any], views: dict[str, View]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "utterance_id": utterance["utterance_id"],
        "uri": utterance["audio"],
        "arrays": {},
        "errors": {},
    }
    try:
        if utterance["audio"] is None:
            raise MediaError("the corpus names no audio file for it")
        recording = read(utterance["audio"], utterance["start"], utterance["end"])
    except MediaError as error:
        row["errors"] = dict.fromkeys(views, str(error))
        return row
    media = recording.media
    row |= {
        "sha256": media.sha256,
        "duration": media.duration,
        "sample_rate": media.sample_rate,
        "channels": media.channels,
        "envelope": envelope(recording.samples, media.sample_rate),
    }
    waveforms = _resampled(recording, {view.sample_rate for view in views.values()})
    for spec, view in views.items():
        try:
            row["arrays"][spec] = view(waveforms[view.sample_rate], view.sample_rate)
        except MediaError as error:
            row["errors"][spec] = str(error)
    return row


def _resampled(recording: Recording, rates: set[int]) -> dict[int, Any]:
    return {rate: recording.at(rate) for rate in rates}


def _encode_shard(block: pa.Table, spec: str) -> bytes:
    """The Parquet file of one shard of one view; the unreadable utterances go to its metadata."""
    failed = block[f"error {spec}"].is_valid()
    names = ["utterance_id", "uri", f"error {spec}"]
    errors = block.filter(failed).select(names).rename_columns(["utterance_id", "uri", "error"]).to_pylist()
    schema = layout.shard_schema(_built(spec))
    sources = {"values": f"values {spec}", "frames": f"frames {spec}"}
    kept = block.filter(pc.invert(failed)) if errors else block
    columns = [kept[sources.get(field.name, field.name)] for field in schema]
    metadata = {"errors": json.dumps(errors, ensure_ascii=False)}
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata(metadata))
    return layout.encode(table)
