"""The openSMILE views: our configuration does what it says, and nothing is lost between the package and the view."""

import pickle
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ser_models.errors import UserError
from ser_models.features import build_view, media, pitch
from ser_models.features.media import MediaError
from ser_models.features.opensmile_views import CONFIGURATION, Functionals, LowLevelDescriptors, _extractor

opensmile = pytest.importorskip("opensmile", reason="pip install 'ser_models[opensmile]'")

RATE = 16000

GOLDEN_LLD = [160.245, 0.776541, 0.0191667, 1.37796, 48.7934, 11.302, 0.000428581, 0.098558]
GOLDEN_EGEMAPS = [30.4827, 1.13465, 851.948, -18.5227]
GOLDEN_COMPARE = [1.10728, 0.502721, 0.484211, 14.0206]


def voice(seconds: float = 1.0, f0: float = 150.0) -> np.ndarray:
    """A buzz that rises and swells, the same everywhere."""
    time = np.arange(int(seconds * RATE)) / RATE
    phase = 2 * np.pi * (f0 * time + 10 * time**2)
    wave = sum(np.sin(k * phase) / k for k in range(1, 20)) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (0.2 * wave).astype(np.float32)


@pytest.fixture(scope="module")
def speech(real_corpora: Path) -> np.ndarray:
    path = sorted((real_corpora / "ravdess").rglob("*.flac"))[3]
    return media.read(str(path)).at(RATE)


def test_golden_values() -> None:
    """Change these only together with VERSION: shards made before would pass for new ones."""
    assert LowLevelDescriptors.VERSION == Functionals.VERSION == 1
    lld = build_view("low_level_descriptors")(voice(), RATE)
    assert lld.shape == (98, 45)
    np.testing.assert_allclose(lld[50, [0, 1, 2, 3, 4, 15, 17, 44]], GOLDEN_LLD, rtol=1e-3, atol=1e-4)
    egemaps = build_view("functionals")(voice(), RATE)
    np.testing.assert_allclose(egemaps[0, [0, 10, 40, 87]], GOLDEN_EGEMAPS, rtol=1e-3)
    compare = build_view("functionals", set="compare")(voice(), RATE)
    np.testing.assert_allclose(compare[0, [0, 1000, 3000, 6372]], GOLDEN_COMPARE, rtol=1e-3, atol=1e-4)


def test_columns_of_the_low_level_descriptors() -> None:
    view = build_view("low_level_descriptors")
    mfcc = [f"pcm_fftMag_mfcc_sma{{}}[{i}]" for i in range(1, 13)]
    slow = ["F0final_sma{}", "voicingFinalUnclipped_sma{}", "pcm_zcr_sma{}"]
    rich = ["pcm_loudness_sma{}", *mfcc]
    expected = [name.format("") for name in slow + rich]
    expected += [name.format("_de") for name in slow + rich]
    expected += [name.format("_de_de") for name in rich]
    assert view.columns == expected
    assert view.shape == (45,)


def test_low_level_descriptors_equal_the_package_on_the_same_configuration(speech: np.ndarray) -> None:
    smile = opensmile.Smile(str(CONFIGURATION), "descriptors")
    expected = smile.process_signal(speech, RATE).to_numpy()
    np.testing.assert_array_equal(build_view("low_level_descriptors")(speech, RATE), expected)


def at_the_left(folder: Path) -> str:
    """Our configuration with frames that begin, and are not centred, on centiseconds, as the shipped ones have them."""
    text = CONFIGURATION.read_text().replace("frameCenterSpecial = center", "frameCenterSpecial = left")
    (folder / "left.conf").write_text(text)
    return str(folder / "left.conf")


def test_zero_crossings_and_mfcc_equal_emobase(speech: np.ndarray, tmp_path: Path) -> None:
    ours = opensmile.Smile(at_the_left(tmp_path), "descriptors").process_signal(speech, RATE)
    ours.columns = ours.columns.str.replace("pcm_fftMag_mfcc", "mfcc")
    for level in ("LowLevelDescriptors", "LowLevelDescriptors_Deltas"):
        shipped = opensmile.Smile(opensmile.FeatureSet.emobase, getattr(opensmile.FeatureLevel, level))
        emobase = shipped.process_signal(speech, RATE)
        shared = [
            name for name in ours.columns if name in emobase.columns and name.startswith(("mfcc", "pcm_zcr"))
        ]
        assert len(shared) == 13
        inner = slice(0, len(emobase) - 8)  # emobase ends earlier: its longest window is shorter
        np.testing.assert_allclose(
            ours[shared].to_numpy()[inner], emobase[shared].to_numpy()[inner], atol=1e-3
        )


def test_pitch_voicing_and_loudness_equal_emobase2010(speech: np.ndarray, tmp_path: Path) -> None:
    """The low-level descriptors of emobase2010 are those of the Interspeech 2010 challenge, which are shipped."""
    ours = opensmile.Smile(at_the_left(tmp_path), "descriptors").process_signal(speech, RATE)
    folder = Path(opensmile.__file__).parent / "core" / "config"
    (tmp_path / "is10.conf").write_text(
        "[componentInstances:cComponentManager]\ninstance[dataMemory].type = cDataMemory\n"
        "\\{\\cm[source{?}:source]}\n"
        f"\\{{{folder / 'is09-13' / 'IS10_paraling_core.lld.conf.inc'}}}\n"
        "\\{\\cm[sink{?}:sink]}\n"
    )
    shared = {"is10_lld1": ["voicingFinalUnclipped_sma", "pcm_loudness_sma"], "is10_lld2": ["F0final_sma"]}
    for level, columns in shared.items():
        buffers = {
            "bufferModeConf": str(folder / "shared" / "BufferMode.conf.inc"),
            "bufferModeRbLagConf": str(folder / "shared" / "BufferModeRb.conf.inc"),
        }
        is10 = opensmile.Smile(str(tmp_path / "is10.conf"), level, options=buffers)
        expected = is10.process_signal(speech, RATE)[columns].to_numpy()
        inner = slice(5, len(expected) - 10)  # how the two treat the ends of the pitch track differs
        np.testing.assert_allclose(ours[columns].to_numpy()[inner], expected[inner], rtol=1e-5)


def test_pitch_follows_boersma(speech: np.ndarray) -> None:
    """Another method altogether: where both hear a voice they are within a fifth of an octave."""
    lld = build_view("low_level_descriptors")(speech, RATE)
    boersma = pitch.track(speech.astype(np.float64), RATE, 160, 75.0, 600.0).f0[: len(lld)]
    both = (lld[:, 0] > 0) & (boersma > 0)
    assert both.sum() > 30
    assert np.mean(np.abs(np.log2(lld[both, 0] / boersma[both])) < 0.2) > 0.95


def test_loudness_follows_that_of_egemaps(speech: np.ndarray) -> None:
    """Another model of loudness: they agree in course, not in value."""
    lld = build_view("low_level_descriptors")(speech, RATE)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.LowLevelDescriptors)
    egemaps = smile.process_signal(speech, RATE)
    frames = min(len(lld), len(egemaps))
    assert np.corrcoef(lld[:frames, 3], egemaps["Loudness_sma3"].iloc[:frames])[0, 1] > 0.8


def test_first_differences_are_a_regression_over_two_frames() -> None:
    lld = build_view("low_level_descriptors")(voice(), RATE)
    static, delta = lld[:, :16], lld[:, 16:32]
    inner = static[3:-1] - static[1:-3] + 2 * (static[4:] - static[:-4])
    np.testing.assert_allclose(delta[2:-2], inner / 10, atol=2e-3)


def test_pitch_of_a_rising_buzz() -> None:
    lld = build_view("low_level_descriptors")(voice(), RATE)
    expected = 150 + 20 * np.arange(99) * 0.01
    np.testing.assert_allclose(lld[10:90, 0], expected[10:90], rtol=0.03)


@pytest.mark.parametrize(
    ("name", "feature_set", "size"), [("egemaps", "eGeMAPSv02", 88), ("compare", "ComParE_2016", 6373)]
)
def test_functionals_equal_the_package(speech: np.ndarray, name: str, feature_set: str, size: int) -> None:
    view = build_view("functionals", set=name)
    smile = opensmile.Smile(getattr(opensmile.FeatureSet, feature_set), opensmile.FeatureLevel.Functionals)
    found = view(speech, RATE)
    assert found.shape == (1, size) == (1, *view.shape)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, smile.process_signal(speech, RATE).to_numpy())
    assert view.columns == smile.feature_names


@pytest.mark.parametrize("name", ["low_level_descriptors", "functionals"])
def test_a_recording_too_short_for_a_frame_is_refused(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(MediaError, match="too short"):
            build_view(name)(voice(0.005), RATE)


@pytest.mark.parametrize("name", ["low_level_descriptors", "functionals"])
def test_full_scale_does_not_wrap_round(name: str) -> None:
    view = build_view(name)
    loud = voice() / np.abs(voice()).max()
    lower = loud * np.float32(0.9995)
    np.testing.assert_allclose(view(loud, RATE), view(lower, RATE), rtol=0.05, atol=0.5)
    np.testing.assert_array_equal(view(loud * 2, RATE), view(np.clip(loud * 2, -1, 1), RATE))


@pytest.mark.parametrize("name", ["low_level_descriptors", "functionals"])
def test_picklable_after_use(name: str) -> None:
    view = build_view(name)
    first = view(voice(), RATE)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(view))(voice(), RATE), first)


def test_a_missing_package_is_named_with_its_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    _extractor.cache_clear()
    monkeypatch.setitem(sys.modules, "opensmile", None)
    with pytest.raises(UserError, match=r"non-commercial.*pip install 'ser_models\[opensmile\]'"):
        build_view("functionals")(voice(), RATE)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("low_level_descriptors", {"sample_rate": 8000}, "sample_rate must be at least 16000"),
        ("functionals", {"sample_rate": 8000}, "sample_rate must be at least 16000"),
        ("functionals", {"set": "gemaps"}, "set 'gemaps' is not one of egemaps, compare"),
    ],
)
def test_impossible_settings_are_refused(name: str, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_view(name, **settings)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="16000 Hz, got 8000"):
        build_view("low_level_descriptors")(voice(), 8000)
    with pytest.raises(ValueError, match="shape"):
        build_view("functionals")(np.zeros((2, RATE), np.float32), RATE)
