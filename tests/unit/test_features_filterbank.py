"""The log filter bank view: the numbers of python_speech_features."""

from pathlib import Path

import numpy as np
import pytest
import python_speech_features
from signals import chirp, peak_memory

from ser_models.errors import UserError
from ser_models.features import build_view, media
from ser_models.features.filterbank import LogFilterbank
from ser_models.features.waveform import to_int16

GOLDEN = [12.12332, 14.13494, 13.95507, 13.86385]
GOLDEN_MEAN = 8.168886


def by_reference(waveform: np.ndarray, view: LogFilterbank) -> np.ndarray:
    """What AVDAL's authors call."""
    return python_speech_features.logfbank(
        to_int16(waveform),
        view.sample_rate,
        winlen=view.win_length / view.sample_rate,
        winstep=view.hop_length / view.sample_rate,
        nfilt=view.n_filters,
        nfft=view.n_fft,
        preemph=view.preemphasis,
    )


def test_golden_values() -> None:
    """Change these only together with LogFilterbank.VERSION: shards made before would pass for new ones."""
    features = build_view("log_filterbank")(chirp(8000, 16000), 16000)
    assert LogFilterbank.VERSION == 1
    assert features.shape == (49, 40)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features[[0, 10, 30, 40], [0, 12, 25, 39]], GOLDEN, atol=1e-3)
    assert float(features.mean()) == pytest.approx(GOLDEN_MEAN, abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_filters": 26, "preemphasis": 0.0},
        {"sample_rate": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80},
        {"n_filters": 120},  # more than the lowest bins can hold: some filters are empty
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [1, 399, 400, 401, 559, 560, 561, 30000])
def test_equal_to_python_speech_features(settings: dict[str, object], samples: int) -> None:
    view = build_view("log_filterbank", **settings)
    waveform = chirp(samples, view.sample_rate)
    # Single against double precision: 1e-7 of the frame's loudest bin, 1e-3 of a bin 80 dB below it.
    np.testing.assert_allclose(view(waveform, view.sample_rate), by_reference(waveform, view), atol=1e-3)


def test_equal_to_python_speech_features_on_real_speech(real_corpora: Path) -> None:
    view = build_view("log_filterbank")
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::144]:
        waveform, rate = media.decode(str(path))[0], 16000
        np.testing.assert_allclose(view(waveform, rate), by_reference(waveform, view), atol=1e-3)


def test_digital_silence_has_the_logarithm_of_the_reference() -> None:
    features = build_view("log_filterbank")(np.zeros(1000, np.float32), 16000)
    np.testing.assert_allclose(features, np.full((5, 40), np.log(np.finfo(float).eps)), rtol=1e-6)


def test_sound_below_half_a_bit_is_silence() -> None:
    faint = np.full(1000, 0.4 / 32768, np.float32)
    np.testing.assert_array_equal(
        build_view("log_filterbank")(faint, 16000), build_view("log_filterbank")(0 * faint, 16000)
    )


def test_a_long_recording_needs_little_more_than_its_own_memory() -> None:
    assert (
        peak_memory(build_view("log_filterbank"), chirp(16000 * 300, 16000)) < 5
    )  # all frames at once: 10 or more


def test_wrong_input_is_refused() -> None:
    view = build_view("log_filterbank")
    with pytest.raises(ValueError, match="16000 Hz, got 22050"):
        view(chirp(), 22050)
    with pytest.raises(ValueError, match="shape"):
        view(np.zeros((2, 100), np.float32), 16000)


@pytest.mark.parametrize(
    "settings", [{"n_filters": 0}, {"win_length": 513}, {"hop_length": 0}, {"preemphasis": 1.0}], ids=str
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"log_filterbank: .*{next(iter(settings))}"):
        build_view("log_filterbank", **settings)
