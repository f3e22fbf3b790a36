"""What a user would write with the library that each view is measured against."""

from collections.abc import Callable
from typing import Any

import librosa
import numpy as np
import python_speech_features

Array = np.ndarray[Any, Any]


def spectrogram(waveform: Array, rate: int) -> Array:
    """CA-MSER's spectrogram as librosa's documentation would write it."""
    emphasised = librosa.effects.preemphasis(waveform, coef=0.97, zi=[0.0])
    spectrum = librosa.stft(emphasised, n_fft=800, win_length=640, hop_length=160, window="hamming")
    levels: Array = librosa.amplitude_to_db(np.abs(spectrum), ref=np.max)
    return levels[:200].T


def camser_mfcc(waveform: Array, rate: int) -> Array:
    """CA-MSER's coefficients."""
    emphasised = librosa.effects.preemphasis(waveform, coef=0.97, zi=[0.0])
    return librosa.feature.mfcc(y=emphasised, sr=rate, n_mfcc=40, hop_length=160, htk=True).T


def amh_mfcc(waveform: Array, rate: int) -> Array:
    """AMH's coefficients with their differences."""
    static = librosa.feature.mfcc(
        y=waveform, sr=rate, n_mfcc=40, n_mels=40, n_fft=400, hop_length=160, window="hamming"
    )
    slope = librosa.feature.delta(static, width=5, mode="nearest")
    return np.concatenate([static, slope, librosa.feature.delta(slope, width=5, mode="nearest")]).T


def log_filterbank(waveform: Array, rate: int) -> Array:
    """AVDAL's energies, of a waveform brought to 16 bits."""
    samples = np.clip(np.rint(waveform * 32768), -32768, 32767).astype(np.int16)
    energies: Array = python_speech_features.logfbank(samples, rate, nfilt=40)
    return energies


def egemaps(waveform: Array, rate: int) -> Array:
    """The 88 eGeMAPS functionals by the opensmile package."""
    import opensmile

    if not _SMILE:
        _SMILE.append(opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals))
    functionals: Array = _SMILE[0].process_signal(waveform, rate).to_numpy()
    return functionals


_SMILE: list[Any] = []  # one extractor per process: it cannot be pickled, and takes long to make

REFERENCES: dict[str, Callable[[Array, int], Array]] = {
    "mfcc": lambda waveform, rate: librosa.feature.mfcc(y=waveform, sr=rate, n_mfcc=39).T,
    "mfcc[hop_length=160,htk=true,n_mfcc=40,preemphasis=0.97,sample_rate=16000]": camser_mfcc,
    "mfcc[deltas=2,hop_length=160,n_fft=400,n_mels=40,n_mfcc=40,sample_rate=16000,window=hamming]": amh_mfcc,
    "spectrogram": spectrogram,
    "cqt": lambda waveform, rate: (
        librosa.amplitude_to_db(np.abs(librosa.cqt(waveform, sr=rate)), ref=np.max).T
    ),
    "log_filterbank": log_filterbank,
    "functionals": egemaps,
}
"""Canonical spec → the plain computation (waveform [samples], sample rate in Hz) → [frames, …]."""
