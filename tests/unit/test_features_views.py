"""The registry: how a view is named, and what a wrong name says."""

import doctest

import numpy as np
import pytest

from ser_models.errors import UserError
from ser_models.features import build_view, mfcc, parse_specs, views
from ser_models.features.views import VIEWS


@pytest.mark.parametrize("module", [views, mfcc])
def test_doctests(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("name", VIEWS)
def test_every_view_keeps_what_it_declares(name: str) -> None:
    view = build_view(name)
    assert view.name == name
    assert view.VERSION >= 1
    assert view.source in {"audio", "video", "text"}
    waveform = np.sin(np.arange(view.sample_rate, dtype=np.float32) / 20)
    features = view(waveform, view.sample_rate)
    assert features.shape[1:] == view.shape
    assert features.dtype == np.dtype(view.dtype)
    np.testing.assert_array_equal(features, view(waveform, view.sample_rate))


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
