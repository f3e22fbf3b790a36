"""Jitter and shimmer: how much the glottal period and its amplitude change from one cycle to the next.

Both are the *local* measures of Praat, mean |v_i − v_(i−1)| / mean v, with Praat's limits on what counts as two
cycles of one voice. The pulses are found one by one from the waveform, starting from an F0 track.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ser_models.features.short_time import Array

# Praat's limits.
_SHORTEST_PERIOD, _LONGEST_PERIOD = 0.0001, 0.02  # seconds
_PERIOD_FACTOR, _AMPLITUDE_FACTOR = 1.3, 1.6

_SHORTEST_STEP, _LONGEST_STEP = 0.8, 1.25  # of the period, to the next pulse
_AMPLITUDE_REACH = 0.2  # of the period
_LEAST_MATCH = 0.3  # correlation of neighbouring cycles below which a voiced stretch ends


@dataclass(frozen=True)
class Pulses:
    """Glottal pulses of an utterance.

    Attributes:
        times: [pulses] seconds, ascending.
        stretch: [pulses] number of the voiced stretch; differences are taken only within one.
    """

    times: Array
    stretch: NDArray[np.intp]


@dataclass(frozen=True)
class Perturbation:
    """A local measure before it is averaged, so that the average may be of an utterance or around each frame.

    Attributes:
        change_times: [changes] seconds.
        changes: [changes] |v_i − v_(i−1)|.
        level_times: [cycles] seconds.
        levels: [cycles] v_i.
    """

    change_times: Array
    changes: Array
    level_times: Array
    levels: Array

    def local(self) -> float:
        """Of the whole utterance; 0 where nothing can be compared."""
        return float(self.changes.mean() / self.levels.mean()) if len(self.changes) else 0.0

    def around(self, times: Array, radius: float) -> Array:
        """Of what lies within ``radius`` seconds of each time: [times] → [times]; 0 where nothing does."""
        change, changes = _mean_around(self.change_times, self.changes, times, radius)
        level, _ = _mean_around(self.level_times, self.levels, times, radius)
        return np.where(changes > 0, change / np.where(level > 0, level, 1.0), 0.0)


def find_pulses(waveform: NDArray[np.floating], sample_rate: int, f0: Array, hop: int) -> Pulses:
    """Find one pulse per glottal cycle.

    In each voiced stretch the first pulse is the largest absolute sample within one period around the middle. From
    there the waveform of one period is matched, to the left and to the right, against itself 0.8 to 1.25 periods
    away; the pulse is where the normalised cross-correlation is largest, between samples by a parabola. The search
    ends with the stretch or at a correlation below 0.3.

    Args:
        waveform: [samples].
        sample_rate: Hz.
        f0: [frames] Hz, 0 where unvoiced, frame t centred on sample t · hop.
        hop: samples.
    """
    signal = np.asarray(waveform, dtype=np.float64)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], f0 > 0, [False]])))
    times, stretches = [], []
    for number, (first, stop) in enumerate(edges.reshape(-1, 2)):
        begin, end = (first - 0.5) * hop, (stop - 0.5) * hop  # in samples
        centres = np.arange(first, stop) * float(hop)
        periods = sample_rate / f0[first:stop]
        middle = _largest_sample(signal, (begin + end) / 2.0, float(periods[len(periods) // 2]))
        right = _walk(signal, middle, +1, begin, end, centres, periods)
        left = _walk(signal, middle, -1, begin, end, centres, periods)
        found = [*reversed(left), middle, *right]
        times += found
        stretches += [number] * len(found)
    return Pulses(np.array(times) / sample_rate, np.array(stretches, dtype=np.intp))


def jitter(pulses: Pulses) -> Perturbation:
    """Changes of the period, in seconds.

    Periods are between 0.1 and 20 ms, and neighbours differ by less than a factor of 1.3.
    """
    period, is_period = _periods(pulses)
    longer, shorter = np.maximum(period[1:], period[:-1]), np.minimum(period[1:], period[:-1])
    comparable = is_period[1:] & is_period[:-1] & (longer <= _PERIOD_FACTOR * shorter)
    return Perturbation(
        change_times=pulses.times[1:-1][comparable],
        changes=np.abs(np.diff(period))[comparable],
        level_times=pulses.times[1:][is_period],
        levels=period[is_period],
    )


def shimmer(waveform: NDArray[np.floating], sample_rate: int, pulses: Pulses) -> Perturbation:
    """Changes of the amplitude.

    The amplitude of a pulse is the root mean square under a Hann window that reaches a fifth of the period to either
    side, as in Praat; neighbours differ by less than a factor of 1.6.
    """
    period, is_period = _periods(pulses)
    has_both = np.flatnonzero(is_period[1:] & is_period[:-1]) + 1
    amplitude = np.zeros(len(pulses.times))
    for i in has_both:
        amplitude[i] = _windowed_rms(waveform, pulses.times[i - 1 : i + 2] * sample_rate)
    larger, smaller = np.maximum(amplitude[1:], amplitude[:-1]), np.minimum(amplitude[1:], amplitude[:-1])
    comparable = is_period & (smaller > 0) & (larger <= _AMPLITUDE_FACTOR * smaller)
    return Perturbation(
        change_times=pulses.times[1:][comparable],
        changes=np.abs(np.diff(amplitude))[comparable],
        level_times=pulses.times[has_both],
        levels=amplitude[has_both],
    )


def _periods(pulses: Pulses) -> tuple[Array, NDArray[np.bool_]]:
    """Time from each pulse to the next, and whether that is a period."""
    period = np.diff(pulses.times)
    same = np.diff(pulses.stretch) == 0
    return period, same & (period >= _SHORTEST_PERIOD) & (period <= _LONGEST_PERIOD)


def _largest_sample(signal: Array, around: float, period: float) -> float:
    first = max(0, round(around - period / 2.0))
    return float(first + np.abs(signal[first : round(around + period / 2.0) + 1]).argmax())


def _walk(
    signal: Array, start: float, direction: int, begin: float, end: float, centres: Array, periods: Array
) -> list[float]:
    """Positions in samples of the pulses to one side of ``start``, nearest first."""
    found: list[float] = []
    position = start
    while True:
        period = periods[min(int(np.searchsorted(centres, position)), len(periods) - 1)]
        step, correlation = _match(signal, position, direction, period)
        position += direction * step
        if correlation < _LEAST_MATCH or not begin <= position <= end:
            return found
        found.append(position)


def _match(signal: Array, position: float, direction: int, period: float) -> tuple[float, float]:
    """Distance in samples to the most similar cycle on one side, and its correlation (0 where there is no room)."""
    half = max(2, round(period / 2.0))
    nearest, farthest = int(_SHORTEST_STEP * period) - 1, int(np.ceil(_LONGEST_STEP * period)) + 1
    centre = round(position)
    reference = signal[max(0, centre - half) : centre + half + 1]
    low = centre + nearest - half if direction > 0 else centre - farthest - half
    searched = signal[max(0, low) : max(0, low + farthest - nearest + 2 * half + 1)]
    if len(reference) < 2 * half + 1 or low < 0 or len(searched) < farthest - nearest + 2 * half + 1:
        return period, 0.0
    windows = np.lib.stride_tricks.sliding_window_view(searched, 2 * half + 1)
    energy = np.einsum("ls,ls->l", windows, windows) * (reference @ reference)
    correlation = windows @ reference / np.sqrt(np.maximum(energy, 1e-30))
    if direction < 0:
        correlation = correlation[::-1]
    best = int(correlation[1:-1].argmax()) + 1
    left, top, right = correlation[best - 1 : best + 2]
    bend = left - 2.0 * top + right
    offset = 0.5 * (left - right) / bend if bend < 0 else 0.0
    return float(nearest + best + np.clip(offset, -1.0, 1.0)), float(top)


def _windowed_rms(waveform: NDArray[np.floating], pulses: Array) -> float:
    """RMS around the second of three pulses, positions in samples."""
    at = pulses[1]
    before, after = _AMPLITUDE_REACH * np.diff(pulses)
    first, last = max(0, int(np.ceil(at - before))), min(len(waveform) - 1, int(at + after))
    samples = np.arange(first, last + 1)
    distance = np.where(samples < at, (at - samples) / before, (samples - at) / after)
    weight = 0.5 + 0.5 * np.cos(np.pi * distance)
    weighted = waveform[samples] * weight
    return float(np.sqrt(weighted @ weighted / (weight @ weight)))


def _mean_around(at: Array, values: Array, times: Array, radius: float) -> tuple[Array, NDArray[np.intp]]:
    """Mean of the values that lie within ``radius`` of each time, and their number."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    first, stop = np.searchsorted(at, times - radius), np.searchsorted(at, times + radius, side="right")
    count = stop - first
    return (total[stop] - total[first]) / np.maximum(count, 1), count
