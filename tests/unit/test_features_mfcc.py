"""The MFCC view: librosa's numbers, TIM-Net's lengths, and no change without a new VERSION."""

from pathlib import Path

import librosa
import numpy as np
import pytest
from signals import chirp, peak_memory

from ser_models.errors import UserError
from ser_models.features import build_view, parse_specs
from ser_models.features.mfcc import Mfcc, fit_length

GOLDEN = [-315.0033, 106.7921, -43.5572, 0.0827]
GOLDEN_MEAN = -11.06621

CAMSER = "mfcc[sample_rate=16000,n_mfcc=40,hop_length=160,htk=true,preemphasis=0.97]"
AMH = "mfcc[sample_rate=16000,n_mfcc=40,n_mels=40,n_fft=400,hop_length=160,window=hamming,deltas=2]"
GOLDEN_AMH = [86.7379, 13.3349, 2.9918, -0.3690]


def test_golden_values() -> None:
    """Change these only together with Mfcc.VERSION: shards made before would pass for new ones."""
    features = build_view("mfcc")(chirp(), 22050)
    assert Mfcc.VERSION == 1
    assert features.shape == (22, 39)
    chosen = features[[0, 5, 10, 15], [0, 1, 12, 38]]
    np.testing.assert_allclose(chosen, GOLDEN, atol=2e-3)  # float32 sums on another processor
    assert float(features.mean()) == pytest.approx(GOLDEN_MEAN, abs=1e-3)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_mfcc": 13, "n_mels": 40},
        {"sample_rate": 16000, "n_mfcc": 40, "hop_length": 160, "htk": True},
        {"sample_rate": 16000, "n_fft": 400, "hop_length": 160, "win_length": 400, "n_mels": 64},
        {"n_fft": 1024, "win_length": 800, "window": "hamming"},
        {"n_fft": 1023, "hop_length": 300, "n_mels": 20, "n_mfcc": 20},
    ],
    ids=str,
)
@pytest.mark.parametrize("samples", [1, 700, 2048, 11025, 70000])
def test_equal_to_librosa(settings: dict[str, object], samples: int) -> None:
    view = build_view("mfcc", **settings)
    waveform = chirp(samples, view.sample_rate) + np.float32(1e-3)
    names = {"n_mfcc", "n_fft", "hop_length", "win_length", "window", "n_mels", "htk"}
    given = {"n_mfcc": 39} | {name: value for name, value in settings.items() if name in names}
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)  # librosa on signals shorter than a window
        expected = librosa.feature.mfcc(y=waveform, sr=view.sample_rate, **given).T
    found = view(waveform, view.sample_rate)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-3)  # values reach 1000: ten units of rounding


def test_equal_to_librosa_on_real_speech(real_corpora: Path) -> None:
    view = build_view("mfcc")
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::72]:
        waveform, _ = librosa.load(path, sr=22050)
        expected = librosa.feature.mfcc(y=waveform, sr=22050, n_mfcc=39).T
        np.testing.assert_allclose(view(waveform, 22050), expected, atol=1e-3)


@pytest.mark.parametrize(("samples", "frames"), [(88000, 172), (96000, 188), (110000, 215), (310000, 606)])
def test_timnet_lengths(samples: int, frames: int) -> None:
    view = build_view("mfcc", samples=samples)
    for length in (5000, 400000):
        assert view(chirp(length), 22050).shape == (frames, 39)


def test_padding_comes_before_the_coefficients() -> None:
    waveform = chirp(20001)
    padded = np.pad(waveform, (4999, 5000))  # the odd sample at the end
    expected = build_view("mfcc")(padded, 22050)
    np.testing.assert_array_equal(build_view("mfcc", samples=30000)(waveform, 22050), expected)


def test_crop_keeps_the_centre() -> None:
    np.testing.assert_array_equal(fit_length(np.arange(7.0, dtype=np.float32), 4), [1, 2, 3, 4])
    np.testing.assert_array_equal(fit_length(np.arange(4.0, dtype=np.float32), 4), [0, 1, 2, 3])


def test_preemphasis_equals_librosa_from_rest() -> None:
    waveform = chirp()
    emphasised = librosa.effects.preemphasis(waveform, coef=0.97, zi=[0.0])
    np.testing.assert_allclose(
        build_view("mfcc", preemphasis=0.97)(waveform, 22050),
        build_view("mfcc")(emphasised, 22050),
        atol=2e-3,
    )


@pytest.mark.parametrize("samples", [1, 300, 2047, 2048, 30001])
def test_camser_front_end_equals_librosa(samples: int) -> None:
    waveform = chirp(samples, 16000) + np.float32(1e-3)
    emphasised = librosa.effects.preemphasis(waveform, coef=0.97, zi=[0.0])
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        expected = librosa.feature.mfcc(y=emphasised, sr=16000, n_mfcc=40, hop_length=160, htk=True).T
    found = parse_specs(CAMSER)[0].build()(waveform, 16000)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("samples", [1, 300, 400, 801, 30001])
def test_amh_front_end_equals_librosa(samples: int) -> None:
    waveform = chirp(samples, 16000) + np.float32(1e-3)
    with np.testing.suppress_warnings() as quiet:
        quiet.filter(UserWarning)
        static = librosa.feature.mfcc(
            y=waveform, sr=16000, n_mfcc=40, n_mels=40, n_fft=400, hop_length=160, window="hamming"
        )
    slope = librosa.feature.delta(static, width=5, mode="nearest")
    curvature = librosa.feature.delta(slope, width=5, mode="nearest")
    view = parse_specs(AMH)[0].build()
    found = view(waveform, 16000)
    assert view.shape == (120,)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, np.concatenate([static, slope, curvature]).T, atol=1e-3)


def test_golden_values_of_the_deltas() -> None:
    features = parse_specs(AMH)[0].build()(chirp(8000, 16000), 16000)
    assert features.shape == (51, 120)
    np.testing.assert_allclose(features[[10, 44, 44, 20], [1, 1, 81, 119]], GOLDEN_AMH, atol=2e-3)


def test_silence_has_flat_coefficients_as_in_librosa() -> None:
    silence = np.zeros(4000, np.float32)
    expected = librosa.feature.mfcc(y=silence, sr=22050, n_mfcc=39).T
    np.testing.assert_allclose(build_view("mfcc")(silence, 22050), expected, atol=1e-3)


@pytest.mark.parametrize("spec", ["mfcc", CAMSER, AMH])
def test_a_long_recording_needs_little_more_than_its_own_memory(spec: str) -> None:
    view = parse_specs(spec)[0].build()
    assert (
        peak_memory(view, chirp(view.sample_rate * 300, view.sample_rate)) < 8
    )  # all frames at once: 13 or more


def test_wrong_input_is_refused() -> None:
    view = build_view("mfcc")
    with pytest.raises(ValueError, match="22050 Hz, got 16000"):
        view(chirp(), 16000)
    with pytest.raises(ValueError, match="shape"):
        view(np.zeros((100, 2), np.float32), 22050)
    with pytest.raises(ValueError, match="shape"):
        view(np.zeros(0, np.float32), 22050)


@pytest.mark.parametrize(
    "settings",
    [
        {"n_mfcc": 0},
        {"n_mfcc": 200},
        {"hop_length": 0},
        {"samples": 0},
        {"win_length": 4096},
        {"window": "kaiser"},
        {"preemphasis": 1.0},
        {"sample_rate": -1},
        {"deltas": 3},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"mfcc: .*{next(iter(settings))}"):
        build_view("mfcc", **settings)
