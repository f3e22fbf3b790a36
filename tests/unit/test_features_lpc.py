"""Linear prediction: known processes are recovered, and formants are where they were put and where Praat finds them."""

from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

from ser_models.features import media
from ser_models.features.linear_prediction import (
    METHODS,
    autocorrelation,
    burg,
    covariance,
    formants,
    levinson,
    resonances,
)

RATE = 16000


def autoregressive(a: np.ndarray, samples: int, seed: int = 0) -> np.ndarray:
    """White noise through 1 / (1 − Σ a_k z^−k)."""
    noise = np.random.default_rng(seed).standard_normal(samples)
    return scipy.signal.lfilter([1.0], np.concatenate([[1.0], -a]), noise)


def resonators(frequencies: list[float], bandwidths: list[float]) -> np.ndarray:
    """a_k of a cascade of resonators at 16 kHz."""
    radii = np.exp(-np.pi * np.array(bandwidths) / RATE)
    poles = radii * np.exp(2j * np.pi * np.array(frequencies) / RATE)
    return -np.poly(np.concatenate([poles, poles.conj()])).real[1:]


def vowel(frequencies: list[float], f0: float = 100.0, seconds: float = 0.5) -> np.ndarray:
    """A pulse train through a cascade of resonators 60 to 160 Hz wide."""
    pulses = np.zeros(int(seconds * RATE))
    pulses[:: round(RATE / f0)] = 1.0
    source = scipy.signal.lfilter([1.0], [1.0, -0.95], pulses)  # a glottis falls by 6 dB per octave and more
    widths = [60.0 + 25.0 * i for i in range(len(frequencies))]
    wave = scipy.signal.lfilter([1.0], np.concatenate([[1.0], -resonators(frequencies, widths)]), source)
    return 0.5 * wave / np.abs(wave).max()


@pytest.mark.parametrize("method", METHODS)
def test_an_autoregressive_process_is_recovered(method: str) -> None:
    a = resonators([500.0, 1500.0], [100.0, 150.0])
    found = METHODS[method](autoregressive(a, 100_000)[None, 100:], len(a))
    # The deviation of an estimate from n samples is about 1 / √n; the window of autocorrelation costs some more.
    np.testing.assert_allclose(found[0], a, atol=0.02)


def test_covariance_recovers_a_free_oscillation_exactly() -> None:
    """After the excitation has ended, prediction is without error, and least squares finds it."""
    a = resonators([700.0, 1200.0], [80.0, 120.0])
    impulse = np.zeros(300)
    impulse[0] = 1.0
    decay = scipy.signal.lfilter([1.0], np.concatenate([[1.0], -a]), impulse)[4:]
    np.testing.assert_allclose(covariance(decay[None], 4)[0], a, atol=1e-6)


def test_covariance_is_least_squares() -> None:
    frame = np.random.default_rng(1).standard_normal(200)
    design = np.column_stack([frame[6 - k : 200 - k] for k in range(1, 7)])
    expected = np.linalg.lstsq(design, frame[6:], rcond=None)[0]
    np.testing.assert_allclose(covariance(frame[None], 6)[0], expected, atol=1e-10)


def test_autocorrelation_solves_the_toeplitz_system() -> None:
    frame = np.random.default_rng(2).standard_normal(400)
    windowed = frame * np.hamming(400)
    r = np.correlate(windowed, windowed, "full")[399 : 399 + 11]
    expected = scipy.linalg.solve_toeplitz(r[:10], r[1:])
    np.testing.assert_allclose(autocorrelation(frame[None], 10)[0], expected, atol=1e-10)


def test_levinson_gives_the_power_of_the_error() -> None:
    r = np.array([[2.0, 1.2, 0.5, 0.1]])
    a, error = levinson(r)
    assert error[0] == pytest.approx(r[0, 0] - a[0] @ r[0, 1:])


def test_burg_equals_librosa() -> None:
    frames = np.random.default_rng(3).standard_normal((5, 400)).cumsum(axis=1)
    expected = [-librosa.lpc(frame, order=12)[1:] for frame in frames]
    np.testing.assert_allclose(burg(frames, 12), expected, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_silence_and_single_tones_have_finite_coefficients(method: str) -> None:
    tone = np.sin(0.3 * np.arange(400))
    found = METHODS[method](np.stack([np.zeros(400), tone, np.ones(400)]), 16)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], 0.0)


@pytest.mark.parametrize(
    "expected",
    [[730.0, 1090.0, 2440.0], [530.0, 1840.0, 2480.0], [300.0, 870.0, 2240.0]],
    ids=["a", "ɛ", "u"],
)
def test_formants_of_synthetic_vowels(expected: list[float]) -> None:
    """Vowels of Peterson and Barney (1952). A formant is seen through the harmonics, 100 Hz apart."""
    wave = vowel([*expected, 3500.0, 4500.0])
    found = formants(wave, RATE, 160, 5000.0)
    np.testing.assert_allclose(np.median(found[5:-5], axis=0), expected, atol=40)


def test_formants_are_the_poles_of_the_prediction() -> None:
    a = np.stack([resonators([600.0, 1700.0], [60.0, 80.0]), resonators([300.0, 2300.0], [60.0, 80.0])])
    np.testing.assert_allclose(resonances(a, RATE, 2), [[600.0, 1700.0], [300.0, 2300.0]], atol=1e-6)
    np.testing.assert_allclose(resonances(a, RATE, 3)[:, 2], 0.0)


def test_formants_equal_praat_on_real_speech(real_corpora: Path) -> None:
    parselmouth = pytest.importorskip("parselmouth", reason="pip install 'ser_models[test]'")
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::160]:
        wave = media.read(str(path)).at(RATE)
        # Praat centres its frames in the recording; with this length they fall on whole centiseconds.
        wave = wave[: len(wave) // 160 * 160 - 1]
        sound = parselmouth.Sound(wave.astype(np.float64), RATE)
        praat = sound.to_formant_burg(0.01, 5, 5500.0, 0.025, 50.0)
        frames = np.rint(praat.xs() / 0.01).astype(int)
        assert np.abs(praat.xs() - frames * 0.01).max() < 1e-4
        expected = np.array([[praat.get_value_at_time(i, t) for i in (1, 2, 3)] for t in praat.xs()])
        loud = sound.to_intensity(75.0, 0.01)
        level = np.array([loud.get_value(t) or 0.0 for t in praat.xs()])
        chosen = (level > np.nanmax(level) - 20.0) & np.isfinite(expected).all(axis=1)
        difference = np.abs(formants(wave, RATE, 160, 5500.0)[frames] - expected)[chosen]
        assert chosen.sum() > 30
        # The resampler rolls off a little earlier than Praat's, which moves faint poles.
        assert (np.median(difference, axis=0) < [15.0, 40.0, 50.0]).all()


def test_a_formant_grid_is_that_of_the_other_descriptors() -> None:
    for samples in (1, 159, 160, 161, 16001):
        assert formants(np.ones(samples), RATE, 160, 5500.0).shape == (1 + samples // 160, 3)
