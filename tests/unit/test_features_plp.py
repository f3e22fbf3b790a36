"""Perceptual linear prediction against a plain reading of the paper, band by band, and against openSMILE."""

import cmath
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg

from ser_models.features import media, short_time
from ser_models.features.perceptual import BANDS, COMPRESSIONS, cepstrum, count_bands, equal_loudness, plp

RATE = 16000
GOLDEN = {
    ("bark", "cube_root"): [-2.01847, -0.25475, -0.43317, -0.01337],
    ("bark", "sqrt"): [-2.96521, -0.32389, -0.63828, -0.06187],
    ("bark", "log"): [1.80191, -0.29014, -0.31559, 0.01542],
    ("erb", "cube_root"): [-2.87562, -0.63063, -0.638, 0.14946],
    ("erb", "sqrt"): [-4.29043, -0.92852, -0.94168, 0.18952],
    ("erb", "log"): [1.00804, -0.86997, -0.75961, 0.03663],
}


def frame(seed: int = 0) -> np.ndarray:
    """25 ms of two tones in noise."""
    n = np.arange(400)
    noise = 0.01 * np.random.default_rng(seed).standard_normal(400)
    return 0.3 * np.sin(0.2 * n) + 0.1 * np.sin(0.9 * n) + noise


def plainly(x: np.ndarray, order: int, compression: str) -> list[float]:
    """Hermansky's steps on the Bark scale, written out."""
    window = np.hamming(len(x))
    power = np.abs(np.fft.rfft(x * window, 512)) ** 2 / (window**2).sum()
    top = 6 * math.asinh(RATE / 2 / 600)
    bands = 1 + math.ceil(top)
    loudness = []
    for b in range(bands):
        centre = top * b / (bands - 1)
        total = 0.0
        for k, value in enumerate(power):
            z = centre - 6 * math.asinh(k * RATE / 512 / 600)
            if -1.3 <= z < -0.5:
                total += 10 ** (2.5 * (z + 0.5)) * value
            elif -0.5 <= z <= 0.5:
                total += value
            elif 0.5 < z <= 2.5:
                total += 10 ** (-1.0 * (z - 0.5)) * value
        w = 2 * math.pi * 600 * math.sinh(centre / 6)
        ear = (w**2 + 56.8e6) * w**4 / ((w**2 + 6.3e6) ** 2 * (w**2 + 0.38e9)) * 9.58e26 / (w**6 + 9.58e26)
        root = {"cube_root": 1 / 3, "sqrt": 1 / 2}.get(compression)
        total *= ear
        loudness.append(total**root if root else math.log(1 + total / 1e-6))
    loudness[0], loudness[-1] = loudness[1], loudness[-2]
    whole = loudness + loudness[-2:0:-1]
    r = [
        sum(v * cmath.exp(2j * math.pi * i * lag / len(whole)) for i, v in enumerate(whole)).real / len(whole)
        for lag in range(order + 1)
    ]
    a = scipy.linalg.solve_toeplitz(r[:-1], r[1:])
    gain = r[0] - a @ r[1:]
    # The cepstrum of √g / A(z) by a long Fourier transform, in place of the recursion.
    spectrum = gain / np.abs(np.fft.fft(np.concatenate([[1.0], -a]), 4096)) ** 2
    c = np.fft.ifft(np.log(spectrum)).real
    return [c[0], *(c[n] for n in range(1, order + 1))]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_equal_to_the_paper_written_out(compression: str) -> None:
    found = plp(frame()[None], RATE, 12, "bark", compression)
    np.testing.assert_allclose(found[0], plainly(frame(), 12, compression), atol=1e-6)


@pytest.mark.parametrize("bands", BANDS)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_golden_values(bands: str, compression: str) -> None:
    """Change these only together with the VERSION of the views that use them."""
    found = plp(frame()[None], RATE, 12, bands, compression)[0, [0, 1, 2, 12]]
    np.testing.assert_allclose(found, GOLDEN[bands, compression], atol=1e-4)


def test_cepstrum_of_one_pole() -> None:
    """The logarithm of 1 / (1 − a z⁻¹) is Σ aⁿ z⁻ⁿ / n."""
    found = cepstrum(np.array([[0.8, 0.0, 0.0, 0.0]]), np.array([2.0]))
    np.testing.assert_allclose(found[0], [math.log(2), 0.8, 0.8**2 / 2, 0.8**3 / 3, 0.8**4 / 4])


def test_gain_changes_the_level_and_nothing_else() -> None:
    """A power law of compression scales the spectrum of the model as a whole."""
    quiet, loud = (plp((gain * frame())[None], RATE, 12, "bark", "cube_root")[0] for gain in (0.1, 1.0))
    np.testing.assert_allclose(quiet[1:], loud[1:], atol=1e-9)
    assert loud[0] - quiet[0] == pytest.approx(2 * math.log(10) / 3)


def test_the_ear_is_most_sensitive_near_4_khz() -> None:
    frequency = np.arange(50.0, 8000.0, 50.0)
    assert 2500 < frequency[equal_loudness(frequency).argmax()] < 5000


@pytest.mark.parametrize(("bands", "expected"), [("bark", 21), ("erb", 35)])
def test_about_one_band_per_bark_or_erb(bands: str, expected: int) -> None:
    assert count_bands(RATE, bands) == expected


def test_erb_filters_are_as_wide_as_an_erb() -> None:
    """The equivalent rectangular bandwidth of a gammatone of order 4 and b = 1.019 ERB is one ERB."""
    to_erb, _, response = BANDS["erb"]
    frequency = np.arange(0.0, 8000.0, 1.0)
    for hertz in (500.0, 1000.0, 3000.0):
        filter_ = response(np.array([float(to_erb(np.array(hertz)))]), frequency)[0]
        assert filter_.sum() == pytest.approx(24.7 * (1 + 0.00437 * hertz), rel=0.01)


@pytest.mark.parametrize("bands", BANDS)
def test_silence_is_finite(bands: str) -> None:
    for compression in COMPRESSIONS:
        assert np.isfinite(plp(np.zeros((3, 400)), RATE, 12, bands, compression)).all()


def test_follows_opensmile_on_real_speech(real_corpora: Path, tmp_path: Path) -> None:
    """Another bank of filters, another equal loudness: the first cepstra agree in course."""
    opensmile = pytest.importorskip("opensmile", reason="pip install 'ser_models[opensmile]'")
    (tmp_path / "plp.conf").write_text(OPENSMILE)
    path = sorted((real_corpora / "ravdess").rglob("*.flac"))[3]
    waveform = media.read(str(path)).at(RATE)
    table = opensmile.Smile(str(tmp_path / "plp.conf"), "plp").process_signal(waveform, RATE)
    expected = table.to_numpy()
    framed = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::160][: len(expected)]
    found = plp(framed, RATE, 12, "bark", "cube_root")
    loud = short_time.energy_db(framed) > -50.0
    for n in (1, 2, 3):
        assert np.corrcoef(found[loud, n], expected[loud, n - 1])[0, 1] > 0.8


OPENSMILE = r"""
[componentInstances:cComponentManager]
instance[dataMemory].type = cDataMemory
\{\cm[source{?}:source]}
[componentInstances:cComponentManager]
instance[frames].type = cFramer
instance[window].type = cWindower
instance[fourier].type = cTransformFFT
instance[magnitude].type = cFFTmagphase
instance[bands].type = cMelspec
instance[plp].type = cPlp
[frames:cFramer]
reader.dmLevel = wave
writer.dmLevel = frames
frameSize = 0.025
frameStep = 0.010
frameCenterSpecial = left
[window:cWindower]
reader.dmLevel = frames
writer.dmLevel = window
winFunc = hamming
[fourier:cTransformFFT]
reader.dmLevel = window
writer.dmLevel = fourier
[magnitude:cFFTmagphase]
reader.dmLevel = fourier
writer.dmLevel = magnitude
[bands:cMelspec]
reader.dmLevel = magnitude
writer.dmLevel = bands
specScale = bark
nBands = 21
lofreq = 0
hifreq = 8000
usePower = 1
htkcompatible = 0
[plp:cPlp]
reader.dmLevel = bands
writer.dmLevel = plp
lpOrder = 12
firstCC = 1
lastCC = 12
cepLifter = 0
compression = 0.33
htkcompatible = 0
doIDFT = 1
doLpToCeps = 1
doLP = 1
doInvLog = 0
doAud = 1
doLog = 0
newRASTA = 0
RASTA = 0
\{\cm[sink{?}:sink]}
"""
