"""The constant-Q view: librosa's numbers, octave by octave."""

import subprocess
import sys
import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
from signals import chirp, peak_memory

from ser_models.errors import UserError
from ser_models.features import build_view
from ser_models.features.cqt import Cqt

GOLDEN = [-23.6575, -68.0447, -51.8382, -80.0]
GOLDEN_MEAN = -63.38615


def by_librosa(waveform: np.ndarray, view: Cqt) -> np.ndarray:
    """The whole recording in one piece."""
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)  # on signals shorter than a filter
        spectrum = librosa.cqt(
            waveform,
            sr=view.sample_rate,
            hop_length=view.hop_length,
            fmin=view.fmin,
            n_bins=view.bins,
            bins_per_octave=view.bins_per_octave,
        )
    return librosa.amplitude_to_db(np.abs(spectrum), ref=np.max).T


def test_golden_values() -> None:
    """Change these only together with Cqt.VERSION: shards made before would pass for new ones."""
    features = build_view("cqt")(chirp(), 22050)
    assert Cqt.VERSION == 1
    assert features.shape == (22, 84)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[[0, 5, 10, 15], [3, 40, 60, 83]], GOLDEN, atol=1e-2)
    assert float(features.mean()) == pytest.approx(GOLDEN_MEAN, abs=1e-2)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sample_rate": 16000, "hop_length": 160, "bins": 60, "fmin": 65.4},
        {"hop_length": 500, "bins": 1, "fmin": 200.0},
        {"hop_length": 4096, "bins": 30},  # decimated by 16 before the first octave
        {"hop_length": 333, "bins": 40, "bins_per_octave": 24},  # an odd hop: never decimated
        {"bins": 101},
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [600, 22050, 300000])
def test_equal_to_librosa(settings: dict[str, object], samples: int) -> None:
    view = build_view("cqt", **settings)
    waveform = chirp(samples, view.sample_rate)
    found = view(waveform, view.sample_rate)
    expected = by_librosa(waveform, view)
    # 80 dB below the peak is 1e-4 of its amplitude, of which single precision keeps three digits.
    np.testing.assert_allclose(found, expected, atol=0.02)
    loud = expected > -60
    np.testing.assert_allclose(found[loud], expected[loud], atol=2e-3)


def test_equal_to_librosa_on_real_speech(real_corpora: Path) -> None:
    view = build_view("cqt")
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::144]:
        waveform, _ = librosa.load(path, sr=22050)
        np.testing.assert_allclose(view(waveform, 22050), by_librosa(waveform, view), atol=0.02)


@pytest.mark.parametrize("settings", [{}, {"bins": 12, "hop_length": 4096}], ids=str)
def test_the_shortest_recording_has_one_frame_and_no_warning(settings: dict[str, object]) -> None:
    view = build_view("cqt", **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert view(np.ones(1, np.float32), 22050).shape == (1, view.bins)


def test_a_long_recording_needs_little_more_than_its_own_memory() -> None:
    assert peak_memory(build_view("cqt"), chirp(22050 * 300)) < 5


def test_librosa_is_imported_with_the_first_utterance() -> None:
    program = (
        "import sys; from ser_models.features.cqt import Cqt; Cqt(); assert 'librosa' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="22050 Hz, got 16000"):
        build_view("cqt")(chirp(), 16000)


@pytest.mark.parametrize(
    "settings",
    [{"bins": 0}, {"bins": 102}, {"fmin": 0.0}, {"bins_per_octave": 0}, {"hop_length": 0}],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"cqt: .*{next(iter(settings))}"):
        build_view("cqt", **settings)


def test_the_highest_possible_bin_is_the_one_that_librosa_allows() -> None:
    for fmin, bins in ((32.70319566257483, 101), (440.0, 56), (27.5, 104)):
        view = build_view("cqt", fmin=fmin, bins=bins)
        assert view(chirp(4000), 22050).shape == (8, bins)
        with pytest.raises(librosa.ParameterError, match="Nyquist"):
            librosa.cqt(chirp(), sr=22050, fmin=fmin, n_bins=bins + 1)
        with pytest.raises(UserError, match="take fewer bins"):
            build_view("cqt", fmin=fmin, bins=bins + 1)
