"""The spectrogram view: librosa's numbers at CA-MSER's settings and at others."""

from pathlib import Path

import librosa
import numpy as np
import pytest
from signals import chirp, peak_memory

from ser_models.errors import UserError
from ser_models.features import build_view
from ser_models.features.spectrogram import Spectrogram

GOLDEN = [-32.8266, -62.6184, -79.9080, -45.5464]
GOLDEN_MEAN = -65.68315


def by_librosa(waveform: np.ndarray, view: Spectrogram) -> np.ndarray:
    """CA-MSER's spectrogram as its authors describe it."""
    if view.preemphasis:
        waveform = librosa.effects.preemphasis(waveform, coef=view.preemphasis, zi=[0.0])
    window = {"rectangular": "boxcar"}.get(view.window, view.window)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)  # on signals shorter than a window
        spectrum = librosa.stft(
            waveform, n_fft=view.n_fft, win_length=view.win_length, hop_length=view.hop_length, window=window
        )
    return librosa.amplitude_to_db(np.abs(spectrum), ref=np.max)[: view.bins].T


def test_golden_values() -> None:
    """Change these only together with Spectrogram.VERSION: shards made before would pass for new ones."""
    features = build_view("spectrogram")(chirp(8000, 16000), 16000)
    assert Spectrogram.VERSION == 1
    assert features.shape == (51, 200)
    chosen = features[[0, 10, 30, 45], [5, 40, 120, 199]]
    np.testing.assert_allclose(chosen, GOLDEN, atol=1e-2)  # float32 sums on another processor
    assert float(features.mean()) == pytest.approx(GOLDEN_MEAN, abs=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"preemphasis": 0.0, "bins": 401},
        {"n_fft": 512, "win_length": None, "window": "hann", "bins": 257},
        {"n_fft": 401, "win_length": 400, "hop_length": 100, "window": "rectangular"},
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [1, 100, 799, 800, 16001, 70000])
def test_equal_to_librosa(settings: dict[str, object], samples: int) -> None:
    view = build_view("spectrogram", **settings)
    waveform = chirp(samples, 16000)
    found = view(waveform, 16000)
    expected = by_librosa(waveform, view)
    assert found.dtype == np.float32
    # 80 dB below the peak is 1e-4 of its amplitude, of which single precision keeps three digits.
    np.testing.assert_allclose(found, expected, atol=1e-2)
    loud = expected > -60
    np.testing.assert_allclose(found[loud], expected[loud], atol=1e-3)


def test_equal_to_librosa_on_real_speech(real_corpora: Path) -> None:
    view = build_view("spectrogram")
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::144]:
        waveform, _ = librosa.load(path, sr=16000)
        np.testing.assert_allclose(view(waveform, 16000), by_librosa(waveform, view), atol=1e-2)


def test_the_loudest_point_may_lie_above_the_bins_that_are_kept() -> None:
    high = np.sin(2 * np.pi * 6000 / 16000 * np.arange(16000)).astype(np.float32)
    features = build_view("spectrogram")(high, 16000)
    assert features[10:90].max() < -30
    assert build_view("spectrogram", bins=401)(high, 16000).max() == 0


def test_silence_is_0_db_as_in_librosa() -> None:
    silence = np.zeros(3000, np.float32)
    np.testing.assert_array_equal(build_view("spectrogram")(silence, 16000), np.zeros((19, 200)))


def test_a_long_recording_needs_little_more_than_its_own_memory() -> None:
    view = build_view("spectrogram")
    assert peak_memory(view, chirp(16000 * 300, 16000)) < 5  # all spectra at once: 10 or more


def test_wrong_input_is_refused() -> None:
    view = build_view("spectrogram")
    with pytest.raises(ValueError, match="16000 Hz, got 22050"):
        view(chirp(), 22050)
    with pytest.raises(ValueError, match="shape"):
        view(np.zeros(0, np.float32), 16000)


@pytest.mark.parametrize(
    "settings",
    [
        {"bins": 402},
        {"bins": 0},
        {"hop_length": 0},
        {"win_length": 801},
        {"window": "kaiser"},
        {"preemphasis": -0.1},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"spectrogram: .*{next(iter(settings))}"):
        build_view("spectrogram", **settings)
