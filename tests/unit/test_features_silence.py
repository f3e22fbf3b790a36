"""The silence mask: the paper's formula, sample by sample, and the cases in which it says nothing."""

import doctest

import numpy as np
import pytest
from signals import chirp, peak_memory

from ser_models.errors import UserError
from ser_models.features import build_view, silence
from ser_models.features.silence import SilenceMask, amplitude_differences
from ser_models.features.views import Remarked
from ser_models.features.waveform import to_int16


def by_definition(samples: np.ndarray, length: int, factor: float) -> np.ndarray:
    """Window by window, with the whole formula spelled out; None where it keeps nothing."""
    windows = range(len(samples) - length + 1)
    differences = [int(samples[i : i + length].max()) - int(samples[i : i + length].min()) for i in windows]
    positive = [difference for difference in differences if difference > 0]
    kept = np.ones(len(samples), np.uint8)
    for i, difference in zip(windows, differences, strict=True):
        if difference < factor * min(positive):
            kept[i : i + length] = 0
    return kept


def speech(samples: int, seed: int = 0) -> np.ndarray:
    """Noise that swells and fades, with digital silence in its midst."""
    noise = np.random.default_rng(seed).normal(size=samples) * 0.2
    envelope = 1e-3 + np.sin(np.arange(samples) / 90) ** 8
    wave = noise * envelope
    wave[samples // 2 : samples // 2 + samples // 10] = 0
    return np.clip(wave, -1, 1).astype(np.float32)


def test_doctests() -> None:
    assert doctest.testmod(silence).failed == 0


def test_golden_values() -> None:
    """Change these only together with SilenceMask.VERSION: shards made before would pass for new ones."""
    faint = 1e-4 * np.sin(np.arange(8000) ** 2 / 7)
    mask = build_view("silence_mask")(chirp(8000, 16000) + faint.astype(np.float32), 16000)
    assert SilenceMask.VERSION == 1
    assert mask.dtype == np.uint8
    np.testing.assert_array_equal(mask, np.repeat([1, 0], [7000, 1000]))


@pytest.mark.parametrize("length", [2, 7, 30, 101])
@pytest.mark.parametrize("factor", [1.5, 4.0, 30.0])
@pytest.mark.parametrize("samples", [400, 1001])
def test_equal_to_the_definition(length: int, factor: float, samples: int) -> None:
    wave = speech(samples, seed=length)
    found = build_view("silence_mask", length=length, factor=factor)(wave, 16000)
    expected = by_definition(to_int16(wave), length, factor)
    assert expected.any()
    assert not expected.all()
    np.testing.assert_array_equal(found, expected)


def test_blocks_make_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = to_int16(speech(1000))
    whole = amplitude_differences(samples, 33)
    monkeypatch.setattr(silence, "_WINDOWS_AT_ONCE", 100)
    np.testing.assert_array_equal(amplitude_differences(samples, 33), whole)


def test_differences_of_full_scale_do_not_overflow() -> None:
    extremes = np.array([-32768, 32767, 32767], np.int16)
    assert amplitude_differences(extremes, 2).tolist() == [65535, 0]


def buzz(amplitude: float) -> np.ndarray:
    """3000 samples of which any two neighbours differ by the amplitude."""
    return np.tile(np.array([0, amplitude], np.float32), 1500)


def test_digital_silence_does_not_hide_the_noise_floor() -> None:
    """The minimum over all windows would be 0, and nothing below it."""
    mask = build_view("silence_mask")(np.concatenate([buzz(0), buzz(1e-3), buzz(0.1)]), 16000)
    np.testing.assert_array_equal(mask, np.repeat([0, 1], [6001, 2999]))  # the last buzz begins with a 0


def test_the_fading_tail_of_a_resampling_filter_does_not_count() -> None:
    mask = build_view("silence_mask")(np.concatenate([buzz(1e-12), buzz(1e-3), buzz(0.1)]), 16000)
    np.testing.assert_array_equal(mask, np.repeat([0, 1], [6001, 2999]))


@pytest.mark.parametrize(
    "wave",
    [
        np.full(1000, 0.25, np.float32),
        np.zeros(1000, np.float32),
        np.sin(np.arange(5000) / 20).astype(np.float32),
        chirp(300, 16000),
        np.ones(1, np.float32),
    ],
    ids=["constant", "zeros", "tone", "shorter than a window", "one sample"],
)
def test_where_nothing_is_louder_than_silence_all_is_kept_with_a_remark(wave: np.ndarray) -> None:
    result = build_view("silence_mask")(wave, 16000)
    assert isinstance(result, Remarked)
    assert "all samples kept" in result.remark
    assert result.array.dtype == np.uint8
    np.testing.assert_array_equal(result.array, np.ones(len(wave)))


def test_a_long_recording_needs_little_more_than_its_own_memory() -> None:
    noise = np.random.default_rng(0).normal(scale=0.01, size=16000 * 300).astype(np.float32)
    assert peak_memory(build_view("silence_mask"), noise) < 4


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="16000 Hz, got 22050"):
        build_view("silence_mask")(chirp(), 22050)


@pytest.mark.parametrize("settings", [{"length": 1}, {"factor": 1.0}, {"sample_rate": 0}], ids=str)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"silence_mask: {next(iter(settings))}"):
        build_view("silence_mask", **settings)
