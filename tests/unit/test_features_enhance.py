"""Preparation of waveforms: noise goes, speech stays, levels become what was asked, silence stays silence."""

from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import torch
import torchaudio

from ser_models.errors import UserError
from ser_models.features import media
from ser_models.features.enhance import STEPS, VERSION, _lsa_gain, denoise, loudness, lufs, rms, vad

RATE = 16000

GOLDEN_DENOISE = [0.0028545, 6.19e-05, 0.0893007]
GOLDEN_VAD = 18080
GOLDEN_LOUDNESS = {"lufs": 0.12354, "rms": 0.101609}


def burst(seconds: float = 3.0, start: float = 1.0, end: float = 2.0, level: float = 0.2) -> np.ndarray:
    """A tone with silence on both sides."""
    time = np.arange(int(seconds * RATE)) / RATE
    return (level * np.sin(2 * np.pi * 440 * time) * ((time >= start) & (time < end))).astype(np.float32)


def noisy(clean: np.ndarray, snr: float) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(len(clean))
    noise *= np.sqrt(np.mean(clean**2) / np.mean(noise**2)) * 10 ** (-snr / 20)
    return (clean + noise).astype(np.float32)


def snr(clean: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10(np.sum(clean**2) / np.sum((clean - found) ** 2)))


def test_golden_values() -> None:
    """Change these only together with VERSION."""
    assert VERSION == 1
    wave = noisy(burst(), 10.0)
    np.testing.assert_allclose(denoise(wave, RATE)[[8000, 20000, 24003]], GOLDEN_DENOISE, atol=1e-5)
    assert len(vad(burst(), RATE)) == GOLDEN_VAD
    for measure, expected in GOLDEN_LOUDNESS.items():
        assert np.abs(loudness(burst(), RATE, measure=measure)).max() == pytest.approx(expected, rel=1e-4)


# Noise reduction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "least_gain"), [(0.0, 8.0), (10.0, 8.0), (20.0, 6.0)])
def test_denoise_improves_a_tone_in_noise(before: float, least_gain: float) -> None:
    clean = burst()
    wave = noisy(clean, before)
    assert snr(clean, denoise(wave, RATE)) > snr(clean, wave) + least_gain


@pytest.mark.parametrize(("before", "least_gain"), [(0.0, 6.0), (10.0, 4.0), (20.0, 2.0)])
def test_denoise_improves_real_speech_in_noise(real_corpora: Path, before: float, least_gain: float) -> None:
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::160]:
        clean = media.read(str(path)).at(RATE)
        wave = noisy(clean, before)
        assert snr(clean, denoise(wave, RATE)) > snr(clean, wave) + least_gain


def test_denoise_hardly_touches_clean_speech(real_corpora: Path) -> None:
    path = sorted((real_corpora / "ravdess").rglob("*.flac"))[0]
    clean = media.read(str(path)).at(RATE)
    assert snr(clean, denoise(clean, RATE)) > 30.0


def test_the_gain_is_that_of_ephraim_and_malah() -> None:
    """Equation 20, with the exponential integral by quadrature; the first frame follows a full amplitude."""
    gamma, smoothing = np.array([[0.5, 1.0, 3.0, 10.0]]), 0.98
    found = _lsa_gain(gamma, smoothing, 1e-3)[0]
    for g, gain in zip(gamma[0], found, strict=True):
        xi = smoothing + (1 - smoothing) * max(g - 1, 0)
        v = xi / (1 + xi) * g
        integral = scipy.integrate.quad(lambda t: np.exp(-t) / t, v, np.inf)[0]
        assert gain == pytest.approx(min(1.0, xi / (1 + xi) * np.exp(integral / 2)))


def test_without_noise_reduction_the_frames_add_up_to_the_input() -> None:
    """A spectrum far above the noise everywhere passes unchanged, to the first and the last sample."""
    wave = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    wave[4000:9000] *= 1e-4
    found = denoise(wave, RATE)
    assert found.shape == wave.shape
    np.testing.assert_allclose(found[10000:], wave[10000:], atol=0.01)
    np.testing.assert_allclose(found[:3000], wave[:3000], atol=0.01)


# Removal of silence -------------------------------------------------------------------------------------------------


def test_vad_trims_both_ends() -> None:
    found = vad(burst(), RATE, margin=0.05)
    assert len(found) / RATE == pytest.approx(1.1, abs=0.04)
    assert np.abs(found[: int(0.03 * RATE)]).max() == 0.0


def test_vad_shortens_long_pauses_and_leaves_short_ones() -> None:
    short = burst(3.0, 0.5, 1.0) + burst(3.0, 1.2, 2.0)
    assert len(vad(short, RATE)) / RATE == pytest.approx(1.6, abs=0.04)
    long = burst(5.0, 0.5, 1.0) + burst(5.0, 3.0, 4.0)
    assert len(vad(long, RATE, longest_pause=0.4)) / RATE == pytest.approx(2.0, abs=0.08)


def test_vad_works_in_noise() -> None:
    assert len(vad(noisy(burst(), 20.0), RATE)) / RATE == pytest.approx(1.1, abs=0.1)


def test_vad_leaves_no_click_where_it_cuts() -> None:
    hum = 0.002 * np.sin(2 * np.pi * 50 * np.arange(5 * RATE) / RATE + 1.0)
    wave = (burst(5.0, 0.5, 1.0) + burst(5.0, 3.0131, 4.0) + hum).astype(np.float32)
    found = vad(wave, RATE)
    assert len(found) < len(wave) - RATE
    pause = found[int(0.65 * RATE) : int(0.75 * RATE)]
    assert np.abs(np.diff(pause)).max() < 3 * np.abs(np.diff(hum)).max()


def test_vad_keeps_a_steady_sound_and_what_is_silent_throughout() -> None:
    steady = burst(2.0, 0.0, 2.0)
    np.testing.assert_array_equal(vad(steady, RATE), steady)
    np.testing.assert_array_equal(vad(steady * np.float32(1e-6), RATE), steady * np.float32(1e-6))


# Loudness -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [16000, 22050, 44100, 48000])
def test_a_full_scale_tone_has_the_loudness_of_the_standard(rate: int) -> None:
    """BS.1770: 997 Hz at full scale in one channel is −3.01 LUFS."""
    tone = np.sin(2 * np.pi * 997 * np.arange(2 * rate) / rate)
    # At lower rates the bilinear transform moves the shelf a little.
    assert lufs(tone, rate) == pytest.approx(-3.01, abs=0.01 if rate == 48000 else 0.06)


def test_loudness_equals_torchaudio_on_real_speech(real_corpora: Path) -> None:
    for path in sorted((real_corpora / "ravdess").rglob("*.flac"))[::160]:
        wave = media.read(str(path)).at(48000)
        expected = torchaudio.functional.loudness(torch.from_numpy(wave)[None].double(), 48000)
        # torchaudio scales its high-pass to 1 at high frequencies, the standard to 1.005.
        assert lufs(wave.astype(np.float64), 48000) == pytest.approx(float(expected), abs=0.1)


@pytest.mark.parametrize("measure", ["lufs", "rms"])
@pytest.mark.parametrize("level", [1.0, 0.01, 1e-4])
def test_the_target_is_reached_whatever_the_input(measure: str, level: float) -> None:
    measured = {"lufs": lufs, "rms": rms}[measure]
    found = loudness(burst(level=level), RATE, measure=measure, target=-25.0)
    assert measured(found.astype(np.float64), RATE) == pytest.approx(-25.0, abs=0.02)


def test_pauses_do_not_count() -> None:
    short, long = burst(3.0), burst(9.0, 4.0, 5.0)
    for measure in ("lufs", "rms"):
        peaks = [np.abs(loudness(wave, RATE, measure=measure)).max() for wave in (short, long)]
        assert peaks[0] == pytest.approx(peaks[1], rel=0.03)


def test_the_peak_is_never_exceeded() -> None:
    assert np.abs(loudness(burst(), RATE, target=10.0)).max() == pytest.approx(1.0)
    assert np.abs(loudness(burst(), RATE, target=10.0, peak=0.5)).max() == pytest.approx(0.5)


# All steps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STEPS)
def test_the_input_is_left_alone_and_the_output_repeats(name: str) -> None:
    wave = noisy(burst(), 15.0)
    copy = wave.copy()
    first = STEPS[name](wave, RATE)
    np.testing.assert_array_equal(wave, copy)
    np.testing.assert_array_equal(STEPS[name](wave, RATE), first)
    assert first.dtype == np.float32


@pytest.mark.parametrize("gain", [0.01, 0.5])
@pytest.mark.parametrize("name", ["denoise", "vad"])
def test_a_gain_before_is_a_gain_after(name: str, gain: float) -> None:
    wave = noisy(burst(), 10.0)
    found = STEPS[name](wave * np.float32(gain), RATE)
    np.testing.assert_allclose(found, gain * STEPS[name](wave, RATE), atol=1e-5 * gain)


@pytest.mark.parametrize("gain", [0.01, 0.5])
def test_loudness_removes_a_gain(gain: float) -> None:
    wave = noisy(burst(), 10.0)
    np.testing.assert_allclose(loudness(wave * np.float32(gain), RATE), loudness(wave, RATE), rtol=1e-4)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("samples", [1, 2, 100, 5000])
def test_silent_and_short_waveforms_are_safe(name: str, samples: int) -> None:
    silent = STEPS[name](np.zeros(samples, np.float32), RATE)
    np.testing.assert_array_equal(silent, np.zeros(samples))
    tone = STEPS[name](np.sin(1.0 + 0.1 * np.arange(samples)).astype(np.float32), RATE)
    assert np.isfinite(tone).all()
    assert 1 <= len(tone) <= samples


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("denoise", {"noise_share": 0.0}),
        ("denoise", {"smoothing": 1.0}),
        ("vad", {"margin": 0.5}),
        ("vad", {"margin": -0.1}),
        ("loudness", {"measure": "sone"}),
        ("loudness", {"peak": 0.0}),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"{name}: .*{next(iter(settings))}"):
        STEPS[name](burst(), RATE, **settings)
