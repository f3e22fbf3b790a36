"""The waveform view: 16-bit files come back bit for bit, everything else is rounded once."""

import doctest
import hashlib

import numpy as np
import pytest
import soundfile
from signals import chirp, peak_memory

from ser_models.errors import UserError
from ser_models.features import build_view, media, waveform
from ser_models.features.waveform import Samples, to_int16


def test_doctests() -> None:
    assert doctest.testmod(waveform).failed == 0


def test_golden_values() -> None:
    """Change these only together with Samples.VERSION: shards made before would pass for new ones."""
    samples = build_view("waveform")(np.linspace(-1, 1, 4001, dtype=np.float32), 16000)
    assert Samples.VERSION == 1
    assert samples.dtype == np.int16
    assert hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest()[:16] == "d97a1477691662a6"


def test_every_16_bit_sample_survives(tmp_path) -> None:
    samples = np.arange(-32768, 32768).astype(np.int16)
    soundfile.write(tmp_path / "all.wav", samples, 16000)
    decoded, _ = media.decode(str(tmp_path / "all.wav"), target_rate=16000)
    np.testing.assert_array_equal(build_view("waveform")(decoded, 16000), samples)


def test_halves_go_to_the_even_integer() -> None:
    halves = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32) / 32768
    assert to_int16(halves).tolist() == [-2, -2, 0, 0, 2, 2]


def test_what_is_beyond_full_scale_is_clipped() -> None:
    assert to_int16(np.array([1, 1.5, 32766.6 / 32768, -1, -1.5], np.float32)).tolist() == [
        32767,
        32767,
        32767,
        -32768,
        -32768,
    ]


def test_a_frame_is_a_sample() -> None:
    view = build_view("waveform")
    assert view.shape == ()
    for samples in (1, 700):
        assert view(chirp(samples, 16000), 16000).shape == (samples,)


def test_the_input_stays_as_it_is() -> None:
    samples = chirp(500, 16000)
    build_view("waveform")(samples, 16000)
    np.testing.assert_array_equal(samples, chirp(500, 16000))


def test_a_long_recording_needs_little_more_than_its_own_memory() -> None:
    assert peak_memory(build_view("waveform"), chirp(16000 * 300, 16000)) < 2


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="16000 Hz, got 22050"):
        build_view("waveform")(chirp(), 22050)
    with pytest.raises(UserError, match="waveform: sample_rate"):
        build_view("waveform", sample_rate=0)
