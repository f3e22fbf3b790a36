"""Utterances per second of each signal view on one core, beside the plain loop of its reference library.

    python benchmarks/views.py --input data/ravdess
    python benchmarks/views.py --input data/ravdess --views 'mfcc,mfcc[samples=110000]' --utterances 100

One process, one thread. *View* is the computation alone on decoded waveforms; *whole* begins with the file: decoding,
resampling and the view here, ``librosa.load`` and the reference there. Both sides take turns; the median of the passes
counts. *Real time* is how many seconds of sound the whole takes in per second. The last column is the largest
difference between a number here and there. A view without a reference is measured alone; a line in ``references.py``
gives it one.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import librosa
import numpy as np
from references import REFERENCES, Array  # type: ignore[import-not-found]
from threadpoolctl import threadpool_limits

from ser_models import cli
from ser_models.corpora.listing import list_files
from ser_models.errors import UserError
from ser_models.features import media, parse_specs
from ser_models.features.views import AudioView, Remarked, is_encoder

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure."""

    input: str
    """Folder with recordings."""
    views: str = ",".join([*REFERENCES, "waveform", "silence_mask"])
    """Views of sound with commas between them."""
    utterances: int = 120
    """How many recordings, spread over the folder."""
    passes: int = 5
    """Passes over the recordings, of each side."""

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        for setting in ("utterances", "passes"):
            if getattr(self, setting) < 1:
                raise UserError(f"{setting} must be at least 1, got {getattr(self, setting)}")
        for spec in parse_specs(self.views):
            if (view := spec.build()).source != "audio" or is_encoder(view):
                raise UserError(
                    f"views: {spec} is no signal view; this benchmark measures views of sound alone"
                )


@dataclass(frozen=True)
class Timing:
    """Seconds for all recordings, medians over passes; None where there is no reference."""

    view: float
    whole: float
    reference: float | None
    reference_whole: float | None
    difference: float | None


def recordings(folder: str, wanted: int) -> list[str]:
    """Up to ``wanted`` files, evenly spread."""
    listing = list_files(folder)
    found = [listing.uri(path) for path in listing.paths if path.lower().endswith(SUFFIXES)]
    if not found:
        raise UserError(f"{folder}: no recordings ({', '.join(SUFFIXES)})")
    return [found[index * len(found) // wanted] for index in range(wanted)] if len(found) > wanted else found


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(spec: str, view: AudioView, paths: Sequence[str], passes: int) -> Timing:
    """Time a view and its reference, in turns."""
    rate = view.sample_rate
    reference = REFERENCES.get(spec)
    waveforms = [media.decode(path, target_rate=rate)[0] for path in paths]
    sides: dict[str, Callable[[], object]] = {
        "view": lambda: [view(waveform, rate) for waveform in waveforms],
        "whole": lambda: [view(media.decode(path, target_rate=rate)[0], rate) for path in paths],
    }
    difference = None
    if reference is not None:
        sides["reference"] = lambda: [reference(waveform, rate) for waveform in waveforms]
        sides["reference whole"] = lambda: [reference(librosa.load(path, sr=rate)[0], rate) for path in paths]
        difference = max(apart(view(waveform, rate), reference(waveform, rate)) for waveform in waveforms)
    times: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(passes):
        for side, work in sides.items():
            times[side].append(seconds(work))
    medians = {side: statistics.median(values) for side, values in times.items()}
    return Timing(
        medians["view"],
        medians["whole"],
        medians.get("reference"),
        medians.get("reference whole"),
        difference,
    )


def apart(found: Array | Remarked, expected: Array) -> float:
    """Largest absolute difference; infinite where the shapes differ."""
    array = found.array if isinstance(found, Remarked) else found
    return float(np.abs(array - expected).max()) if array.shape == expected.shape else float("inf")


def rates(count: int, ours: float, theirs: float | None) -> str:
    """Utterances per second here, there, and the ratio."""
    if theirs is None:
        return f"{count / ours:10.0f}{'':10}{'':7}"
    return f"{count / ours:10.0f}{count / theirs:10.0f}{theirs / ours:7.2f}"


def main(config: BenchmarkConfig) -> int:
    """Measure and print one line per view."""
    paths = recordings(config.input, config.utterances)
    sound = sum(media.read(path).media.duration for path in paths)
    print(f"{len(paths)} recordings, {sound:.0f} s of sound, one thread, medians of {config.passes} passes")
    print("utterances per second: the view alone, its reference, ratio; the whole, its reference, ratio")
    with threadpool_limits(1):
        for spec in map(str, parse_specs(config.views)):
            view = cast(AudioView, parse_specs(spec)[0].build())
            timing = measure(spec, view, paths, config.passes)
            difference = "" if timing.difference is None else f"   apart by {timing.difference:.0e}"
            print(
                f"{spec}\n  {rates(len(paths), timing.view, timing.reference)}"
                f"{rates(len(paths), timing.whole, timing.reference_whole)}"
                f"{sound / timing.whole:8.0f} × real time{difference}"
            )
    return 0


if __name__ == "__main__":
    cli.run(main, BenchmarkConfig, description=__doc__ or "")
