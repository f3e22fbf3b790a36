"""Long recordings in windows, and utterances in batches, for encoders whose memory grows with the length.

Nothing here knows a network: lengths in, indices out, so that an hour of speech needs the memory of one batch.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ser_models.features.media import Waveform


@dataclass(frozen=True)
class Window:
    """A part of a recording, and which of its frames are kept.

    Attributes:
        start: first sample.
        stop: one past the last sample.
        first: first kept frame, counted from the window's own beginning.
        last: one past the last kept frame.
    """

    start: int
    stop: int
    first: int
    last: int


def overlapping(
    samples: int, longest: int, overlap: int, stride: int, frames: Callable[[int], int]
) -> list[Window]:
    """Windows that share samples with their neighbours and together keep every frame once.

    Every window but the last has the same length and begins at a multiple of ``stride``, so its frames fall
    where those of the whole recording fall. The last one ends with the recording and is shorter by less than a
    stride. Of the frames that two windows share, each gives the half that is farther from its own edge.

    Args:
        samples: length of the recording.
        longest: samples in a window, at most; a recording no longer than this is one window.
        overlap: samples that two neighbours share, at least; less than ``longest``.
        stride: samples between frames.
        frames: number of frames of a given number of samples.

    >>> for window in overlapping(1000, 400, 100, 10, lambda length: length // 10):
    ...     print(window)
    Window(start=0, stop=400, first=0, last=35)
    Window(start=300, stop=700, first=5, last=35)
    Window(start=600, stop=1000, first=5, last=40)
    """
    if samples <= longest:
        return [Window(0, samples, 0, frames(samples))]
    final = -(-(samples - longest) // stride) * stride
    step = (longest - overlap) // stride * stride
    starts = [*range(0, final, step), final]
    stops = [start + longest for start in starts[:-1]] + [samples]
    seams = [
        (start + stop) // 2 // stride for start, stop in zip(starts[1:], stops[:-1], strict=True)
    ]  # frames of the whole recording at which the next window takes over
    return [
        Window(start, stop, before - start // stride, after - start // stride)
        for start, stop, before, after in zip(
            starts, stops, [0, *seams], [*seams, frames(samples)], strict=True
        )
    ]


def between_words(waveform: Waveform, longest: int, search: int, step: int) -> list[tuple[int, int]]:
    """Cut a recording into consecutive parts where it is quietest, so that few words are cut in two.

    Args:
        waveform: [samples].
        longest: samples in a part, at most.
        search: samples before that limit in which the quietest step is looked for; the cut is at its middle.
        step: samples over which the energy is summed.

    Returns:
        First sample and one past the last of each part.

    >>> wave = np.ones(100, dtype=np.float32)
    >>> wave[54:58] = 0
    >>> between_words(wave, 60, 20, 2)
    [(0, 55), (55, 100)]
    """
    parts, start = [], 0
    while len(waveform) - start > longest:
        area = waveform[start + longest - search : start + longest]
        steps = area[: len(area) // step * step].reshape(-1, step)
        quietest = int(np.argmin(np.square(steps, dtype=np.float64).sum(axis=1)))
        cut = start + longest - search + quietest * step + step // 2
        parts.append((start, cut))
        start = cut
    return [*parts, (start, len(waveform))]


def batches(lengths: Sequence[int], budget: int, likeness: float) -> Iterable[list[int]]:
    """Indices grouped so that neighbours in length go together and little is spent on padding.

    Args:
        lengths: of each item.
        budget: most that a batch may hold, counted as items × the longest of them; a single item may exceed it.
        likeness: least length of a batch's shortest item, in parts of its longest; at 1 all are equally long.

    Yields:
        Batches that together have every index once, in the order of rising length.

    >>> lengths = [3, 9, 3, 4, 10]
    >>> list(batches(lengths, 100, 1.0)), list(batches(lengths, 100, 0.7)), list(batches(lengths, 10, 0.7))
    ([[0, 2], [3], [1], [4]], [[0, 2, 3], [1, 4]], [[0, 2], [3], [1], [4]])
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        longest = lengths[index]
        if batch and ((len(batch) + 1) * longest > budget or lengths[batch[0]] < likeness * longest):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
