"""Short-time analysis: frames, energy, zero crossings, the Teager operator, and where an utterance is silent.

Frame t is centred on sample t · hop, and zeros stand before the first and after the last sample, so that every
descriptor of an utterance has 1 + samples // hop frames whatever the length of its window.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FLOOR_DB = -100.0
"""Energy of digital silence, dB relative to full scale."""


def frames(waveform: NDArray[np.floating], length: int, hop: int) -> Array:
    """Centred frames.

    Args:
        waveform: [samples].
        length: samples per frame.
        hop: samples between the centres of two frames.

    Returns:
        [1 + samples // hop, length], a read-only look into a padded copy.
    """
    before = length // 2
    padded = np.zeros(len(waveform) + length)
    padded[before : before + len(waveform)] = waveform
    return np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]


def in_blocks(describe: Callable[[Array], Array], framed: Array, frames: int = 512) -> Array:
    """What ``describe`` says of all frames, asked for some at a time, so that an hour of sound needs no more memory.

    Args:
        describe: [frames, samples] → [frames, …], each frame by itself.
        framed: [frames, samples].
        frames: asked for at a time.
    """
    return np.concatenate(
        [describe(framed[start : start + frames]) for start in range(0, len(framed), frames)]
    )


def energy_db(framed: Array) -> Array:
    """10 log₁₀ of the mean square, at least `FLOOR_DB`: [frames, samples] → [frames]."""
    power = np.einsum("ts,ts->t", framed, framed) / framed.shape[1]
    return np.asarray(10.0 * np.log10(np.maximum(power, 10.0 ** (FLOOR_DB / 10.0))))


def zero_crossing_rate(framed: Array) -> Array:
    """Share of neighbouring samples between which the sign changes: [frames, samples] → [frames]."""
    negative = framed < 0
    return np.asarray((negative[:, 1:] != negative[:, :-1]).mean(axis=1))


def teager_energy(framed: Array) -> Array:
    """Mean of ψ[n] = x²[n] − x[n−1] x[n+1] (Kaiser, 1990, ICASSP): [frames, samples] → [frames].

    For A sin(Ω n + φ) it is A² sin² Ω at every n.
    """
    inner = framed[:, 1:-1]
    return np.asarray((inner * inner - framed[:, :-2] * framed[:, 2:]).mean(axis=1))


def is_silent(energy: Array) -> NDArray[np.bool_]:
    """Whether a frame is silent, given the energy of all frames of the utterance, in dB.

    With peak and noise the 95th and the 5th percentile of the energy, a frame is silent below::

        max(peak − 30, min(noise + 6, peak − 20)) dB

    so that gain does not matter, a noisy room counts as silence, and an utterance without pauses has none. Below
    `FLOOR_DB` + 1 everything is silent. The numbers are our choice.

    Args:
        energy: [frames] dB.

    Returns:
        [frames].
    """
    noise, peak = np.percentile(energy, [5.0, 95.0])
    threshold = max(peak - 30.0, min(noise + 6.0, peak - 20.0), FLOOR_DB + 1.0)
    return np.asarray(energy < threshold)
