"""Peak memory of preprocessing as the corpus grows: it must not.

    python benchmarks/memory.py --root data/ravdess [--views mfcc,log_filterbank,spectrogram]

The same files are seen 1, 4 and 16 times as utterances of their own, each size in a process of its own, on a Ray of two
workers. What counts is the largest sum, over all processes of the run, of the memory that is theirs alone (what they
share, such as Ray's object store and loaded libraries, counts once, as proportional set size).
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from preprocess import repeated  # type: ignore[import-not-found]

from ser_models import cli
from ser_models.corpora import load_corpus
from ser_models.shards.preprocess import PreprocessConfig, preprocess

SIZES = (1, 4, 16)


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure."""

    root: str
    """Folder with the corpus."""
    corpus: str = "ravdess"
    """Name of the corpus."""
    views: str = "mfcc,log_filterbank,spectrogram"
    """Views to compute in one pass."""
    workers: int = 2
    """Ray's processors."""
    one: int | None = None
    """Run this size only, in this process, without measuring."""


def run(config: BenchmarkConfig, times: int) -> int:
    """Preprocess the corpus so many times over; how many utterances there were."""
    manifest = repeated(load_corpus(config.corpus, config.root, allow_partial=True), times)
    with tempfile.TemporaryDirectory() as folder:
        preprocess(
            PreprocessConfig(
                corpus=config.corpus,
                root=config.root,
                views=config.views,
                output=folder,
                workers=config.workers,
            ),
            manifest,
        )
    return len(manifest)


def family(leader: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [leader]
    for process in found:
        found += children.get(process, [])
    return found


def megabytes(leader: int) -> float:
    """Memory of a family of processes, shared parts counted once."""
    total = 0
    for process in family(leader):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def measure(config: BenchmarkConfig, times: int) -> tuple[float, float]:
    """Peak memory in MB and seconds of a run of one size in a process of its own."""
    words = ["--root", config.root, "--corpus", config.corpus, "--views", config.views]
    command = [sys.executable, __file__, *words, "--workers", str(config.workers), "--one", str(times)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    peak, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.3):
            peak = max(peak, megabytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    done.set()
    watcher.join()
    if status:
        raise SystemExit(f"the run of size {times} failed with {status}")
    return peak, time.perf_counter() - started


def main(config: BenchmarkConfig) -> int:
    """Measure every size and print the figures."""
    if config.one is not None:
        run(config, config.one)
        return 0
    count = len(load_corpus(config.corpus, config.root, allow_partial=True))
    print(f"{config.views}, {config.workers} workers, {os.cpu_count()} cores")
    for times in SIZES:
        peak, seconds = measure(config, times)
        print(f"{count * times:7} utterances: {peak:6.0f} MB at most, {seconds:5.0f} s")
    return 0


if __name__ == "__main__":
    cli.run(main, BenchmarkConfig, description=__doc__ or "")
