"""Utterances per second of the preprocessing pipeline beside the loop that a user would write with the same library.

python benchmarks/preprocess.py --root data/ravdess
python benchmarks/preprocess.py --root data/ravdess --view log_filterbank

Both compute one view of the same files in this one run, with as many processes and one thread each. The loop is a
ProcessPoolExecutor over `librosa.load` and the view's plain computation in ``references.py`` that returns the features;
it writes nothing. The pipeline decodes, hashes, computes, and writes Parquet shards and their books.

*Start-up included* is the first pass: from nothing (no Ray, no pool) to the end, with every import in the
workers. *Once running* are further passes on the warm workers of both, taken in turns; the median counts. A
pass of the pipeline is a whole `preprocess` call into an empty folder: planning, fingerprint, shards and
books. In such a pass both sides see every file `repeats` times, for a corpus of some thousand utterances.
Finding the files and reading their headers (the manifest) is done once before and belongs to neither.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
from references import REFERENCES  # type: ignore[import-not-found]

from ser_models import cli, places
from ser_models.corpora import load_corpus
from ser_models.errors import UserError, WorkError
from ser_models.features import parse_specs
from ser_models.features.views import AudioView
from ser_models.shards.preprocess import PreprocessConfig, preprocess
from ser_models.shards.ray_session import ray_session
from ser_models.shards.store import find_store

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAY_worker_niceness": "0",
}
"""Set before any worker is born: one thread each, and Ray's workers (else at niceness 15) as the pool's."""

TOLERANCE = 1e-2
"""Largest difference allowed between a number here and there (dB; coefficients differ by less than 1e-3)."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure."""

    root: str
    """Folder with the corpus."""
    corpus: str = "ravdess"
    """Name of the corpus."""
    view: str = "mfcc"
    """A view that has a reference, such as mfcc, log_filterbank, spectrogram, cqt or functionals."""
    workers: int = 2
    """Processes of either side."""
    passes: int = 3
    """Passes on warm workers."""
    repeats: int = 4
    """How often a pass on warm workers sees each file."""
    shards: int | None = None
    """Number of shards; by default the pipeline's own choice."""

    def __post_init__(self) -> None:
        """Refuse a view without a reference."""
        if self.view not in REFERENCES:
            raise UserError(f"view {self.view!r} has no reference; those that have: {', '.join(REFERENCES)}")


def reference(spec: str, rate: int, path: str) -> np.ndarray:
    """The features as a user would compute them, [frames, features]."""
    import librosa

    return np.asarray(REFERENCES[spec](*librosa.load(path, sr=rate)))


def run_pipeline(config: BenchmarkConfig, manifest: pa.Table, output: str) -> None:
    """One whole preprocessing into an empty folder."""
    preprocess(
        PreprocessConfig(
            corpus=config.corpus,
            root=config.root,
            views=config.view,
            output=output,
            workers=config.workers,
            shards=config.shards,
        ),
        manifest,
    )


def repeated(manifest: pa.Table, times: int) -> pa.Table:
    """The same files several times over, as utterances of their own."""
    column = manifest.schema.get_field_index("utterance_id")
    field = manifest.schema.field(column)
    identities = manifest["utterance_id"].to_pylist()
    return pa.concat_tables(
        manifest.set_column(column, field, pa.array([f"{name}-{index}" for name in identities]))
        for index in range(times)
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def largest_difference(
    config: BenchmarkConfig, manifest: pa.Table, output: str, features: list[np.ndarray]
) -> float:
    """Largest absolute difference between the shards' coefficients and librosa's."""
    table = find_store(output, config.corpus, config.view).open(places.join(output, "cache"))
    differences = []
    for identity, expected in zip(manifest["utterance_id"].to_pylist(), features, strict=True):
        found = table.array(table.row(identity))
        if found.shape != expected.shape:
            raise WorkError(f"{identity}: {found.shape} here, {expected.shape} in the plain loop")
        differences.append(float(np.abs(found - expected).max()))
    return max(differences)


def main(config: BenchmarkConfig) -> int:
    """Measure both and print the figures."""
    os.environ.update(ENVIRONMENT)
    manifest = load_corpus(config.corpus, config.root, allow_partial=True)
    files = manifest["audio"].to_pylist()
    many = repeated(manifest, config.repeats)
    files_many = many["audio"].to_pylist()
    spawn = multiprocessing.get_context("spawn")
    plain = partial(reference, config.view, cast(AudioView, parse_specs(config.view)[0].build()).sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        with ray_session(config.workers):
            run_pipeline(config, manifest, places.join(folder, "cold"))
            pipeline_cold = time.perf_counter() - started
            started = time.perf_counter()
            with ProcessPoolExecutor(config.workers, mp_context=spawn) as pool:
                features = list(pool.map(plain, files, chunksize=8))
                pool_cold = time.perf_counter() - started
                pipeline_warm, pool_warm = [], []
                for index in range(config.passes):
                    output = places.join(folder, f"warm-{index}")
                    pipeline_warm.append(timed(partial(run_pipeline, config, many, output)))
                    pool_warm.append(timed(lambda: list(pool.map(plain, files_many, chunksize=8))))
        difference = largest_difference(config, manifest, places.join(folder, "cold"), features)
    print(f"{len(files)} utterances, {config.workers} workers, {os.cpu_count()} cores")
    print(f"{'utterances per second':32}{'pipeline':>10}{'loop':>10}{'ratio':>8}   {config.view}")
    warm = statistics.median(pipeline_warm), statistics.median(pool_warm)
    for label, count, (ours, theirs) in (
        (f"once running, {len(files_many)} utterances", len(files_many), warm),
        (f"start-up included, {len(files)}", len(files), (pipeline_cold, pool_cold)),
    ):
        print(f"{label:32}{count / ours:10.0f}{count / theirs:10.0f}{theirs / ours:8.2f}")
    passes = zip(pipeline_warm, pool_warm, strict=True)
    print(
        "passes once running, seconds: "
        + ", ".join(f"{ours:.2f} beside {theirs:.2f}" for ours, theirs in passes)
    )
    print(f"largest difference of a number: {difference:.1e} (allowed {TOLERANCE:.0e})")
    return 0 if difference <= TOLERANCE else 1


if __name__ == "__main__":
    cli.run(main, BenchmarkConfig, description=__doc__ or "")
