"""The view ``transcript``: greedy decoding as the recogniser's own package does it, of any length and in any batch."""

import json
import shutil
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from tiny_models import LETTERS, speech

from ser_models.errors import UserError
from ser_models.features import build_view
from ser_models.features.views import reads_words

CPU = torch.device("cpu")
LENGTHS = (48000, 16000, 16001, 400, 30000)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of each kind of recogniser."""
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_models.build(kind, root / kind) for kind in ("ctc", "whisper", "hubert")}


def transcribe(waveforms: list[np.ndarray], **settings: object) -> list[str]:
    view = build_view("transcript", **settings)
    texts = view.load(CPU)([view(waveform, 16000) for waveform in waveforms])
    assert all(text.shape == (1,) and text.dtype.kind == "U" for text in texts)
    return [str(text[0]) for text in texts]


def test_golden_values(models: dict[str, str]) -> None:
    """Change these only together with Transcript.VERSION."""
    assert build_view("transcript", model="any/one").VERSION == 1
    assert transcribe([speech(16000)], model=models["ctc"]) == ["NGDGNGDJGDJDNGDGDGJGJ"]


def test_ctc_merges_repetitions_and_then_drops_blanks(models: dict[str, str]) -> None:
    waveforms = [speech(length, 110 + 30 * number) for number, length in enumerate(LENGTHS)]
    network = transformers.AutoModelForCTC.from_pretrained(models["ctc"]).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(models["ctc"])
    expected = []
    for waveform in waveforms:
        with torch.no_grad():
            scores = network(
                extractor(waveform, sampling_rate=16000, return_tensors="pt").input_values
            ).logits
        symbols = [LETTERS[number] for number, _ in groupby(scores[0].argmax(-1).tolist())]
        expected.append("".join(symbol for symbol in symbols if len(symbol) == 1).replace("|", " ").strip())
    found = transcribe(waveforms, model=models["ctc"])
    assert found == expected
    assert len(set(found)) > 1
    assert transcribe(waveforms[::-1], model=models["ctc"], batch_seconds=2.0)[::-1] == found


def test_a_long_recording_is_decoded_across_windows(models: dict[str, str]) -> None:
    view = build_view("transcript", model=models["ctc"], window=3.0, overlap=1.0)
    prepared = view(speech(80000), 16000)
    network = transformers.AutoModelForCTC.from_pretrained(models["ctc"]).eval()
    with torch.no_grad():
        windows = torch.from_numpy(np.stack([prepared[:48000], prepared[32000:]]))
        first, second = network(windows).logits.argmax(-1).tolist()
    symbols = [LETTERS[number] for number, _ in groupby(first[:125] + second[25:])]
    expected = "".join(symbol for symbol in symbols if len(symbol) == 1).replace("|", " ").strip()
    assert [str(text[0]) for text in view.load(CPU)([prepared])] == [expected]


def test_whisper_says_what_its_own_generation_says(models: dict[str, str]) -> None:
    waveforms = [speech(length, 110 + 60 * number) for number, length in enumerate(LENGTHS)]
    network = transformers.WhisperForConditionalGeneration.from_pretrained(models["whisper"]).eval()
    processor = transformers.AutoFeatureExtractor.from_pretrained(models["whisper"])
    letters = transformers.AutoTokenizer.from_pretrained(models["whisper"])
    expected = []
    for waveform in waveforms:
        features = processor(waveform, sampling_rate=16000, return_tensors="pt").input_features
        found = network.generate(features, language="de", task="transcribe", do_sample=False, num_beams=1)
        expected.append(letters.decode(found[0], skip_special_tokens=True).strip())
    assert transcribe(waveforms, model=models["whisper"], language="de") == expected
    assert len(set(expected)) > 1


def test_whisper_finds_the_language_of_each_utterance_alone(models: dict[str, str]) -> None:
    waveforms = [speech(length, 110 + 60 * number) for number, length in enumerate(LENGTHS)]
    together = transcribe(waveforms, model=models["whisper"])
    assert together == [transcribe([waveform], model=models["whisper"])[0] for waveform in waveforms]


def test_a_whisper_model_of_one_language_needs_none(models: dict[str, str], tmp_path: Path) -> None:
    folder = shutil.copytree(models["whisper"], tmp_path / "english")
    settings = json.loads((folder / "generation_config.json").read_text())
    settings["is_multilingual"] = False
    del settings["lang_to_id"], settings["task_to_id"]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    assert len(transcribe([speech(16000)], model=str(folder))[0]) > 5
    with pytest.raises(UserError, match="one language only, got language=en"):
        transcribe([speech(16000)], model=str(folder), language="en")


def test_whisper_cuts_a_long_recording_in_a_pause(models: dict[str, str]) -> None:
    waveform = speech(16000 * 40)
    waveform[16000 * 27 : 16000 * 28] *= 1e-3
    view = build_view("transcript", model=models["whisper"], language="en")
    run = view.load(CPU)
    found = str(run([view(waveform, 16000)])[0][0])
    cut = next(
        cut
        for cut in range(16000 * 27, 16000 * 28, 160)
        if found == " ".join(str(text[0]) for text in run([waveform[:cut], waveform[cut:]]))
    )
    assert 16000 * 27 <= cut < 16000 * 28


def test_a_transcript_reads_words() -> None:
    assert reads_words("transcript[model=someone/any]")


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("hubert", {}, "no speech recogniser: its config.json names HubertModel"),
        ("ctc", {"language": "en"}, "Whisper models only"),
        ("whisper", {"language": "xx"}, "'xx' is none of .*de, en"),
    ],
)
def test_models_that_cannot_be_used_are_named(
    models: dict[str, str], kind: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        build_view("transcript", model=models[kind], **settings).load(CPU)


@pytest.mark.parametrize(
    "settings", [{"model": ""}, {"window": 0.1}, {"overlap": 16.0}, {"batch_seconds": -1.0}], ids=str
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"transcript: .*{next(iter(settings))}"):
        build_view("transcript", **({"model": "someone/any"} | settings))


def test_a_recogniser_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = Path(tiny_models.build("ctc", tmp_path / "ctc"))
    for name in ("vocab.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        build_view("transcript", model=str(folder)).load(CPU)
