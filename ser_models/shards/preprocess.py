"""Preprocessing of one corpus: its configuration, what is still missing, the run and the books kept about it.

The order of writing makes a killed run harmless: the manifest of utterances first, then the shards (each at
once), then the tables of media and errors, `_manifest.json` last. Whoever runs the same command again
computes only the shards that are not there.
"""

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ser_models import places
from ser_models.corpora import load_corpus, partial_corpus
from ser_models.errors import UserError, WorkError
from ser_models.features.augment import parse_augmentations
from ser_models.features.views import parse_specs
from ser_models.shards import layout, pipeline
from ser_models.shards.copies import with_copies
from ser_models.shards.layout import Target
from ser_models.shards.pipeline import Job, Result
from ser_models.shards.ray_session import ray_session
from ser_models.shards.report import Summary, ViewSummary, shown

_READERS = 8  # threads that read the books of finished shards; on S3 they wait, they do not compute
_FETCHED = ["utterance_id", "sha256", "duration", "sample_rate", "channels", "envelope", "remark"]


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """What to preprocess and where to."""

    corpus: str
    """Name of the corpus, such as ravdess."""
    root: str
    """Folder or s3:// prefix that holds the corpus; on a cluster one that every node reaches."""
    views: str
    """Views with commas between them; settings in brackets: mfcc,mfcc[samples=110000]."""
    output: str
    """Folder or s3:// prefix for the shards, which go to OUTPUT/<corpus>/<view>/<fingerprint>; on a cluster
    one that every node reaches."""
    allow_partial: bool = False
    """Go on where the corpus differs from its published counts."""
    shards: int | None = None
    """Number of shard files; by default some 64 utterances to a file. Part of the fingerprint."""
    copies: int = 0
    """Altered copies of each utterance, to train on where their original is trained on; their views hear the altered
    sound."""
    alter: str = "vtlp"
    """How copies are altered: vtlp moves the length of the vocal tract; vtlp[rule=nlpaug] is what AVDAL ran."""
    max_error_fraction: float = 0.01
    """Exit status 1 at the end if more than this fraction of the utterances cannot be read."""
    workers: int | None = None
    """Shards computed at once, one processor each; by default every processor there is. Without a
    cluster (RAY_ADDRESS) Ray is started on this machine with as many."""
    local: bool = False
    """Work in this process, without Ray, one shard after the other."""

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        parse_specs(self.views)
        for name in ("corpus", "root", "output"):
            if not getattr(self, name):
                raise UserError(f"{name} must not be empty")
        for name, largest in (("shards", 99_999), ("workers", 100_000)):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= largest:
                raise UserError(f"{name} must lie between 1 and {largest}, got {value}")
        if not 0 <= self.copies <= 100:
            raise UserError(f"copies must lie between 0 and 100, got {self.copies}")
        parse_augmentations(self.alter, ("copy",))
        if not 0.0 <= self.max_error_fraction <= 1.0:
            raise UserError(f"max_error_fraction must lie between 0 and 1, got {self.max_error_fraction}")
        places.filesystem(self.output)


def preprocess(
    config: PreprocessConfig, manifest: pa.Table | None = None, *, say: Callable[[str], object] | None = None
) -> Summary:
    """Compute every view of a corpus that is not there yet.

    Args:
        config: what and where to.
        manifest: the corpus, if it has been loaded already.
        say: receives the summary for people, also before a failure for too many errors.

    Returns:
        What was done.

    Raises:
        UserError: the corpus, a view or a place is wrong.
        WorkError: the work could not be finished, or more utterances than ``max_error_fraction`` are
            unreadable, in which case everything has been written.
    """
    if manifest is None:
        manifest = load_corpus(config.corpus, config.root, allow_partial=config.allow_partial)
    manifest = with_copies(manifest, config.copies, config.alter)
    if say and (difference := partial_corpus(manifest)):
        say(f"not the whole corpus: {difference}")
    if not manifest.num_rows:
        raise UserError(f"{config.corpus} at {config.root} has no utterances")
    try:
        summary = _preprocess(config, manifest)
    except OSError as error:
        raise WorkError(f"storage failed, the same command continues: {error}") from error
    if say:
        say(summary.text())
    _refuse_too_many_errors(summary, config)
    return summary


def _preprocess(config: PreprocessConfig, manifest: pa.Table) -> Summary:
    targets, manifest, groups = plan(config, manifest)
    present = {str(target.spec): _open_folder(target, manifest, groups) for target in targets}
    jobs = [
        Job(shard, lacking)
        for shard, rows in enumerate(groups)
        if rows
        and (lacking := tuple(spec for spec, names in present.items() if _lacks(names, shard, groups)))
    ]
    started = time.monotonic()
    utterances, computed = 0, dict.fromkeys(present, 0)
    with contextlib.ExitStack() as stack:
        if jobs and not config.local:
            stack.enter_context(ray_session(cpus=config.workers))
            started = time.monotonic()
        for results in shown(_run(config, targets, jobs), jobs, groups):
            utterances += results[0].rows
            for result in results:
                computed[result.spec] += 1
    seconds = time.monotonic() - started
    views = tuple(
        _close_folder(target, config.corpus, groups, computed[str(target.spec)]) for target in targets
    )
    return Summary(views, utterances, seconds)


def plan(config: PreprocessConfig, manifest: pa.Table) -> tuple[list[Target], pa.Table, list[int]]:
    """Where each view goes.

    Returns:
        The targets, the manifest sorted by shard and utterance id, and the number of rows of each shard.
    """
    shards = config.shards or layout.default_shards(manifest.num_rows)
    numbers = layout.shard_numbers(manifest, shards)
    sizes: dict[str, dict[str, int | None]] = {"text": {}}
    targets = []
    for spec in parse_specs(config.views):
        view = spec.build()
        if view.source not in sizes:
            sizes[view.source] = layout.media_sizes(manifest, view.source)
        mark = layout.fingerprint(spec, view, manifest, numbers, shards, sizes[view.source])
        folder = places.join(places.absolute(config.output), config.corpus, spec.name, mark)
        targets.append(Target(spec, mark, folder, shards))
    identities = manifest["utterance_id"].to_pylist()
    order = sorted(range(len(numbers)), key=lambda row: (numbers[row], identities[row]))
    groups = [0] * shards
    for number in numbers:
        groups[number] += 1
    return targets, manifest.take(order), groups


def _lacks(names: set[str], shard: int, groups: Sequence[int]) -> bool:
    return layout.shard_name(shard, len(groups)) not in names


def _open_folder(target: Target, manifest: pa.Table, groups: Sequence[int]) -> set[str]:
    """Clear away what a killed run left, write the manifest of utterances, and return the files present."""
    names = set(places.list_names(target.folder))
    for name in names:
        if name.endswith(places.PARTIAL_SUFFIX):
            places.remove(target.uri(name))
    content = layout.encode(manifest, groups)
    # Labels are no part of the fingerprint: a corrected label renews this file and no shard.
    if layout.UTTERANCES not in names or places.read_bytes(target.uri(layout.UTTERANCES)) != content:
        places.write_bytes(target.uri(layout.UTTERANCES), content)
    wanted = {layout.shard_name(shard, len(groups)) for shard, rows in enumerate(groups) if rows}
    wanted |= {layout.MEDIA, layout.ERRORS}
    if wanted - names and layout.MANIFEST in names:
        places.remove(target.uri(layout.MANIFEST))  # something was deleted: it is no longer complete
    return names


def _run(config: PreprocessConfig, targets: Sequence[Target], jobs: Sequence[Job]) -> Iterator[list[Result]]:
    if not jobs:
        return
    try:
        if config.local:
            yield from pipeline.run_here(targets, jobs)
        else:
            yield from pipeline.run_on_ray(targets, jobs, config.workers)
    except (UserError, WorkError, GeneratorExit):
        raise
    except Exception as error:
        cause = getattr(error, "cause", error)  # of Ray's RayTaskError: what the task raised
        reason = " ".join(f"{type(cause).__name__}: {cause}".split())
        raise WorkError(
            f"preprocessing stopped: {reason}; finished shards are kept, the same command continues"
        ) from error


def _close_folder(target: Target, corpus: str, groups: Sequence[int], computed: int) -> ViewSummary:
    """Write the books of a finished view, unless they are there, and point readers at it."""
    info = layout.read_json(target.uri(layout.MANIFEST))
    if info is None:
        info = _write_books(target, corpus, groups)
    pointer = places.join(target.folder.rsplit("/", 1)[0], layout.CURRENT)
    known = layout.read_json(pointer) or {}
    if known.get(str(target.spec)) != target.fingerprint:
        layout.write_json(pointer, known | {str(target.spec): target.fingerprint})
    errors: list[dict[str, str]] = []
    if info["errors"]:
        with layout.open_parquet(target.uri(layout.ERRORS)) as file:
            errors = file.read(use_threads=False).slice(0, 3).to_pylist()
    return ViewSummary(str(target.spec), target.folder, computed, info, tuple(errors))


def _write_books(target: Target, corpus: str, groups: Sequence[int]) -> dict[str, Any]:
    filled = [shard for shard, rows in enumerate(groups) if rows]
    with ThreadPoolExecutor(_READERS) as pool:
        read = list(pool.map(_read_books, [target.shard_uri(shard) for shard in filled]))
    found = pa.concat_tables([table for table, _, _ in read]).sort_by("utterance_id").combine_chunks()
    media = found.select(layout.MEDIA_SCHEMA.names).cast(layout.MEDIA_SCHEMA)
    remarks = Counter(remark for remark in found["remark"].to_pylist() if remark is not None)
    failed = sorted((row for _, rows, _ in read for row in rows), key=lambda row: row["utterance_id"])
    errors = pa.Table.from_pylist(failed, schema=layout.ERRORS_SCHEMA)
    places.write_bytes(target.uri(layout.MEDIA), layout.encode(media))
    places.write_bytes(target.uri(layout.ERRORS), layout.encode(errors))
    view = target.spec.build()
    info: dict[str, Any] = {
        "corpus": corpus,
        "view": target.spec.name,
        "spec": str(target.spec),
        "settings": dict(target.spec.settings),
        "version": view.VERSION,
        "libraries": layout.library_versions(view.libraries),
        "fingerprint": target.fingerprint,
        "shards": target.shards,
        "shard_rows": list(groups),
        "rows": media.num_rows,
        "errors": errors.num_rows,
        "remarks": dict(sorted(remarks.items())),
        "seconds_of_audio": round(pc.sum(media["duration"]).as_py() or 0.0, 3),
        "bytes": sum(size for _, _, size in read),
        "shape": list(view.shape),
        "dtype": view.dtype,
        "complete": True,
    }
    layout.write_json(target.uri(layout.MANIFEST), info)
    return info


def _read_books(uri: str) -> tuple[pa.Table, list[dict[str, str]], int]:
    """Media rows, unreadable utterances and size in bytes of one shard."""
    files, path = places.filesystem(uri)
    with layout.open_parquet(uri) as file:
        table = file.read(columns=_FETCHED, use_threads=False).select(_FETCHED)
        return table.replace_schema_metadata(), layout.shard_errors(file.schema_arrow), files.size(path)


def _refuse_too_many_errors(summary: Summary, config: PreprocessConfig) -> None:
    for view in summary.views:
        if view.error_fraction > config.max_error_fraction:
            failed = view.info["errors"]
            first = view.errors[0]
            raise WorkError(
                f"{view.spec}: {failed} of {failed + view.info['rows']} utterances cannot be read, more than "
                f"max_error_fraction {config.max_error_fraction:g} allows; the first is {first['uri']}: "
                f"{first['error']}; all are in {places.join(view.folder, layout.ERRORS)}"
            )
