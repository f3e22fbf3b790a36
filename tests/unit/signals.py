"""Signals that are the same everywhere, and the memory that a view takes."""

import tracemalloc
from typing import Any

import numpy as np


def chirp(samples: int = 11025, rate: int = 22050) -> np.ndarray:
    """A sweep that falls silent for its last eighth."""
    time = np.arange(samples) / rate
    wave = 0.4 * np.sin(2 * np.pi * (150 + 1500 * time) * time) * (1 + 0.5 * np.cos(2 * np.pi * 7 * time))
    wave[samples * 7 // 8 :] = 0
    return wave.astype(np.float32)


def peak_memory(view: Any, waveform: np.ndarray) -> float:
    """Bytes that a view needs at most for each byte of its input."""
    view(waveform[: view.sample_rate], view.sample_rate)  # tables and imports
    tracemalloc.start()
    view(waveform, view.sample_rate)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / waveform.nbytes
