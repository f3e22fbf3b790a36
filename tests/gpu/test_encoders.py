"""Encoders on a CUDA device give what they give on the processor, to half precision."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_models.features import build_view

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

TOLERANCE = 0.05
"""Of hidden states of size about 1: bfloat16 keeps three decimal digits through a few layers."""


@pytest.mark.parametrize("kind", ["wav2vec2_group", "wav2vec2_layer", "hubert", "wavlm", "whisper"])
def test_an_encoder_gives_the_same_on_both_devices(kind: str, tmp_path: Path) -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
    import tiny_models

    view = build_view("ssl", model=tiny_models.build(kind, tmp_path / kind))
    waveforms = [tiny_models.speech(samples) for samples in (16000, 24000, 16000, 40000)]
    prepared = [view(waveform, 16000) for waveform in waveforms]
    on_processor = view.load(torch.device("cpu"))(prepared)
    on_device = view.load(torch.device("cuda"))(prepared)
    for ours, theirs in zip(on_device, on_processor, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours.astype("f4") - theirs.astype("f4")).max() < TOLERANCE
