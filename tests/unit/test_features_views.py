"""The registry: how a view is named, and what a wrong name says."""

import doctest
import pickle
from typing import Any

import numpy as np
import pytest

from ser_models.errors import UserError
from ser_models.features import build_view, mfcc, parse_specs, views
from ser_models.features.enhance import denoise, loudness
from ser_models.features.views import VIEWS, view_class


@pytest.mark.parametrize("module", [views, mfcc])
def test_doctests(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


def call(view: Any) -> Any:
    """What a view makes of a plain utterance of its kind."""
    if view.source == "audio":
        rate = view.sample_rate
        time = np.arange(rate, dtype=np.float32) / rate
        return view(0.3 * np.sin(2 * np.pi * 180 * time * (1 + 0.1 * time)).astype(np.float32), rate)
    if view.source == "text":
        return view("It's nothing, really.")
    times = view.times(2.0)
    assert (np.diff(times) >= 0).all() and times[0] >= 0 and times[-1] <= 2.0
    random = np.random.default_rng(0)
    return view([random.integers(0, 255, (120, 90, 3), dtype=np.uint8) for _ in times])


@pytest.mark.parametrize("name", [name for name in VIEWS if not getattr(view_class(name), "encoder", False)])
def test_every_view_keeps_what_it_declares(name: str) -> None:
    view = build_view(name)
    assert view.name == name
    assert view.VERSION >= 1
    assert view.source in {"audio", "video", "text"}
    assert pickle.loads(pickle.dumps(view)) == view
    first, second = (getattr(result, "array", result) for result in (call(view), call(view)))
    assert first.shape[1:] == view.shape
    assert first.dtype.kind == "U" if view.dtype == "str" else first.dtype == np.dtype(view.dtype)
    np.testing.assert_array_equal(first, second)


def test_specs_are_canonical() -> None:
    text = "mfcc , mfcc[ samples = 110000 , n_mfcc=39 ],mfcc[n_mfcc=20,htk=True,preemphasis=.97,samples=none]"
    specs = parse_specs(text)
    assert [str(spec) for spec in specs] == [
        "mfcc",
        "mfcc[samples=110000]",
        "mfcc[htk=true,n_mfcc=20,preemphasis=0.97]",
    ]
    assert parse_specs(",".join(map(str, specs))) == specs
    assert specs[0].settings["n_fft"] == 2048
    assert specs[1].build() == build_view("mfcc", samples=110000)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("mfcc,", "cannot be read"),
        ("mfcc[n_mfcc=3", "cannot be read"),
        ("mfcc]", "cannot be read"),
        ("mfcc[[n_mfcc=3]]", "cannot be read"),
        ("mfcc[n_mfcc=3]x", "nothing may follow"),
        ("mffc", "no view 'mffc'; there are mfcc"),
        ("mfcc[n_mfc=3]", "no setting 'n_mfc'; it has .*n_mfcc"),
        ("mfcc[n_mfcc]", "name=value"),
        ("mfcc[]", "name=value"),
        ("mfcc[n_mfcc=many]", "n_mfcc must be an integer, got 'many'"),
        ("mfcc[n_mfcc=2.5]", "n_mfcc must be an integer"),
        ("mfcc[htk=1]", "htk must be true or false"),
        ("mfcc[samples=no]", "samples must be an integer or none"),
        ("mfcc[n_mfcc=3,n_mfcc=4]", "given twice"),
        ("mfcc,mfcc[n_mfcc=39]", "given twice"),
    ],
)
def test_a_wrong_spec_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_specs(text)


def test_build_view_refuses_wrong_types() -> None:
    with pytest.raises(UserError, match="htk must be true or false, got 1"):
        build_view("mfcc", htk=1)
    with pytest.raises(UserError, match="n_mfcc must be an integer, got True"):
        build_view("mfcc", n_mfcc=True)


def test_a_prepared_view_is_the_view_of_the_prepared_waveform() -> None:
    (spec,) = parse_specs("mfcc[prepare=denoise+loudness,n_mfcc=13]")
    assert str(spec) == "mfcc[n_mfcc=13,prepare=denoise+loudness]"
    assert parse_specs(str(spec)) == [spec]
    view = spec.build()
    assert view.VERSION != build_view("mfcc").VERSION
    waveform = np.random.default_rng(0).normal(size=22050).astype(np.float32) * 0.1
    steps = loudness(denoise(waveform, 22050), 22050)
    np.testing.assert_array_equal(view(waveform, 22050), build_view("mfcc", n_mfcc=13)(steps, 22050))
    assert pickle.loads(pickle.dumps(view)) == view and view.shape == (13,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mfcc[prepare=louder]", "no step 'louder'; there are denoise, vad, loudness"),
        ("words[prepare=vad]", "reads text: prepare is for views that hear"),
    ],
)
def test_an_impossible_preparation_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_specs(text)
