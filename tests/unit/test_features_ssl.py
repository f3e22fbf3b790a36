"""The view ``ssl``: transformers' own numbers, whatever the batch, the window and the kind of encoder."""

import doctest
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
import transformers
from tiny_models import speech

from ser_models.errors import UserError, WorkError
from ser_models.features import build_view, parse_specs, pretrained, speech_models, windows
from ser_models.features.media import MediaError
from ser_models.features.speech_embedding import SpeechEmbedding

CPU = torch.device("cpu")
LENGTHS = (48000, 16000, 16001, 400, 16000)
GOLDEN = {
    "wav2vec2_group": [-0.391427, -0.528291, -0.296335, -1.271159],
    "whisper": [-1.004014, 0.763033, -0.601159, -1.516975],
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of each kind of speech encoder."""
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_models.build(kind, root / kind) for kind in tiny_models.SPEECH}


def encode(waveforms: list[np.ndarray], **settings: object) -> list[np.ndarray]:
    view = build_view("ssl", precision=settings.pop("precision", "float32"), **settings)
    return view.load(CPU)([view(waveform, 16000) for waveform in waveforms])


def alone(model: str, waveform: np.ndarray) -> list[np.ndarray]:
    """All hidden states of one utterance, [frames, hidden] each, by transformers itself."""
    network = transformers.AutoModel.from_pretrained(model).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(model)
    prepared = extractor(waveform, sampling_rate=16000, return_tensors="pt")
    if "input_features" in prepared:
        network = network.get_encoder()
    with torch.no_grad():
        found = network(
            **{key: prepared[key] for key in prepared if key != "attention_mask"}, output_hidden_states=True
        )
    return [state[0].numpy() for state in (*found.hidden_states[:-1], found.last_hidden_state)]


@pytest.mark.parametrize("module", [pretrained, windows])
def test_doctests(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden_values(models: dict[str, str], kind: str) -> None:
    """Change these only together with SpeechEmbedding.VERSION: shards made before would pass for new ones."""
    states = encode([speech(16000)], model=models[kind])[0]
    assert SpeechEmbedding.VERSION == 1
    np.testing.assert_allclose(
        states[[0, 10, 30, 48], [0, 5, 17, 31]], GOLDEN[kind], atol=1e-4
    )  # float32 sums


@pytest.mark.parametrize("kind", tiny_models.SPEECH)
def test_a_batch_gives_what_each_utterance_gives_alone(models: dict[str, str], kind: str) -> None:
    waveforms = [speech(length, 120 + 20 * number) for number, length in enumerate(LENGTHS)]
    together = encode(waveforms, model=models[kind])
    for waveform, states in zip(waveforms, together, strict=True):
        expected = alone(models[kind], waveform)[-1][: len(states)]
        np.testing.assert_allclose(states, expected, atol=1e-4 * np.abs(expected).max())
    reordered = encode(waveforms[::-1], model=models[kind], batch_seconds=4.0)[::-1]
    for one, other in zip(together, reordered, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(one).max())


@pytest.mark.parametrize("kind", tiny_models.SPEECH)
def test_layers_are_those_of_transformers(models: dict[str, str], kind: str) -> None:
    waveform = speech(20000)
    stacked = encode([waveform], model=models[kind], layer="weighted")[0]
    expected = np.stack(alone(models[kind], waveform), axis=1)[: len(stacked)]
    assert stacked.shape[1:] == (3, 32)
    np.testing.assert_allclose(stacked, expected, atol=1e-4 * np.abs(expected).max())
    for layer in range(3):
        np.testing.assert_array_equal(
            encode([waveform], model=models[kind], layer=layer)[0], stacked[:, layer]
        )
    np.testing.assert_array_equal(encode([waveform], model=models[kind])[0], stacked[:, 2])


@pytest.mark.parametrize(
    ("kind", "padding"),
    [
        ("wav2vec2_group", "never"),
        ("data2vec", "never"),
        ("wav2vec2_layer", "masked"),
        ("hubert", "masked"),
        ("wavlm", "masked"),
    ],
)
def test_padding_is_allowed_exactly_where_it_cannot_reach_the_speech(
    models: dict[str, str], kind: str, padding: str
) -> None:
    """In double precision, where a leak of padding cannot pass for rounding."""
    geometry = speech_models.geometry(models[kind])
    network = pretrained.load(models[kind], "AutoModel", CPU).double()
    waveforms = [speech(16000), speech(48000)]
    tensors = speech_models.inputs(models[kind], geometry, waveforms, CPU)
    with torch.inference_mode():
        expected = network(torch.from_numpy(waveforms[0]).double()[None]).last_hidden_state[0]
        found = network(tensors["input_values"].double(), tensors["attention_mask"]).last_hidden_state[0]
    error = float((found[: len(expected)] - expected).abs().max() / expected.abs().max())
    assert geometry.padding == padding
    assert error < 1e-12 if padding == "masked" else error > 1e-2


@pytest.mark.parametrize("kind", ["wav2vec2_layer", "hubert", "wavlm"])
def test_a_padded_batch_gives_what_each_utterance_gives_alone(models: dict[str, str], kind: str) -> None:
    """As on a GPU, where lengths that differ a little share a batch."""
    geometry = speech_models.geometry(models[kind])
    network = pretrained.load(models[kind], "AutoModel", CPU)
    sizes = []

    def forward(batch: list[np.ndarray]) -> np.ndarray:
        sizes.append(len(batch))
        with torch.inference_mode():
            tensors = speech_models.inputs(models[kind], geometry, batch, CPU)
            return network(**tensors).last_hidden_state.numpy()

    waveforms = [build_view("ssl", model=models[kind])(speech(n), 16000) for n in (48000, 46000, 400, 44000)]
    settings = {"window": 480000, "overlap": 1600, "budget": 480000}
    padded = speech_models.encode_all(waveforms, geometry, forward, pad=True, **settings)
    single = speech_models.encode_all(waveforms, geometry, forward, pad=False, **settings)
    assert sizes == [1, 3, 1, 1, 1, 1]
    for one, other in zip(padded, single, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * np.abs(other).max())


@pytest.mark.parametrize("kind", tiny_models.SPEECH)
@pytest.mark.parametrize("samples", [400, 719, 720, 48000])
def test_numbers_of_frames(models: dict[str, str], kind: str, samples: int) -> None:
    expected = -(-samples // 320) if kind == "whisper" else (samples - 400) // 320 + 1
    assert len(encode([speech(samples)], model=models[kind])[0]) == expected
    if samples == 48000 and kind != "whisper":
        assert expected == 149


def test_input_is_normalised_as_the_model_was_trained(models: dict[str, str]) -> None:
    waveform = 0.3 * speech(16000) + np.float32(0.1)
    prepared = build_view("ssl", model=models["hubert"])(waveform, 16000)
    assert abs(float(prepared.mean())) < 1e-5
    assert float(prepared.std()) == pytest.approx(1, abs=1e-4)
    np.testing.assert_array_equal(build_view("ssl", model=models["wavlm"])(waveform, 16000), waveform)


def test_windows_keep_every_frame_in_its_place() -> None:
    """A network that sees one frame at a time gives the same in windows as in one piece."""
    geometry = speech_models.Geometry(
        320, 400, ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2)), "never"
    )

    def forward(batch: list[np.ndarray]) -> np.ndarray:
        assert max(map(len, batch)) <= 32000
        return np.stack(
            [np.lib.stride_tricks.sliding_window_view(part, 400)[::320].mean(1) for part in batch]
        )

    lengths = [*range(31000, 36000, 171), 63999, 64000, 64001, 400_000]
    waveforms = [speech(length) for length in lengths]
    found = speech_models.encode_all(
        waveforms, geometry, forward, window=32000, overlap=1600, budget=64000, pad=True
    )
    for waveform, frames in zip(waveforms, found, strict=True):
        expected = np.lib.stride_tricks.sliding_window_view(waveform, 400)[::320].mean(1)
        np.testing.assert_array_equal(frames, expected)


@pytest.mark.parametrize("kind", ["wav2vec2_group", "wavlm", "whisper"])
def test_a_long_recording_is_joined_from_windows(models: dict[str, str], kind: str) -> None:
    waveform = speech(16000 * 7)
    view = build_view("ssl", model=models[kind], window=3.0, overlap=1.0, precision="float32")
    prepared, run = view(waveform, 16000), view.load(CPU)
    joined = run([prepared, view(speech(20000), 16000)])[0]
    assert len(joined) == (350 if kind == "whisper" else 349)
    first, second = run([prepared[:48000], prepared[32000:80000]])
    np.testing.assert_allclose(joined[:125], first[:125], atol=1e-4)
    np.testing.assert_allclose(joined[125:225], second[25:125], atol=1e-4)


def test_whisper_sees_thirty_seconds_at_most(models: dict[str, str]) -> None:
    assert encode([speech(16000 * 31)], model=models["whisper"])[0].shape == (1550, 32)
    with pytest.raises(UserError, match="window must be at most 30 seconds"):
        build_view("ssl", model=models["whisper"], window=31.0).load(CPU)


def test_a_batch_too_large_for_the_memory_is_halved() -> None:
    attempts = []

    def forward(batch: list[int]) -> list[int]:
        attempts.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * item for item in batch]

    assert speech_models.in_memory(forward, [1, 2, 3, 4, 5]) == [2, 4, 6, 8, 10]
    assert attempts == [5, 2, 3, 1, 2]


def test_one_input_too_large_for_the_memory_is_said() -> None:
    def forward(batch: list[int]) -> list[int]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(WorkError, match="smaller window"):
        speech_models.in_memory(forward, [1, 2])


def test_half_precision_is_the_default_and_refuses_to_overflow(
    models: dict[str, str], tmp_path: Path
) -> None:
    states = encode([speech(16000)], model=models["wavlm"])[0]
    half = encode([speech(16000)], model=models["wavlm"], precision="float16")[0]
    assert build_view("ssl", model=models["wavlm"]).dtype == "float16" == half.dtype
    np.testing.assert_allclose(half, states, rtol=1e-3, atol=1e-4)  # half precision has 11 bits
    network = transformers.AutoModel.from_pretrained(models["wavlm"])
    network.encoder.layer_norm.weight.data *= 1e6
    copied = shutil.copytree(models["wavlm"], tmp_path / "large")
    network.save_pretrained(copied)
    with pytest.raises(UserError, match="precision=float32"):
        encode([speech(16000)], model=str(copied), precision="float16")


def test_the_same_input_gives_the_same_bytes(models: dict[str, str]) -> None:
    view = pickle.loads(pickle.dumps(build_view("ssl", model=models["wav2vec2_group"])))
    prepared, run = view(speech(16000), 16000), view.load(CPU)
    np.testing.assert_array_equal(run([prepared])[0], run([prepared])[0])
    np.testing.assert_array_equal(run([prepared])[0], view.load(CPU)([prepared])[0])


def test_weights_name_the_content_and_not_the_place(models: dict[str, str], tmp_path: Path) -> None:
    copied = shutil.copytree(models["hubert"], tmp_path / "copy")
    (copied / "README.md").write_text("not read")
    original = build_view("ssl", model=models["hubert"]).weights
    assert build_view("ssl", model=str(copied)).weights == original
    config = copied / "preprocessor_config.json"
    config.write_text(config.read_text().replace("true", "false"))
    assert build_view("ssl", model=str(copied)).weights != original


def test_torch_weights_are_read_where_there_are_no_safetensors(
    models: dict[str, str], tmp_path: Path
) -> None:
    copied = shutil.copytree(models["hubert"], tmp_path / "copy")
    torch.save(transformers.AutoModel.from_pretrained(copied).state_dict(), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    found = encode([speech(16000)], model=str(copied))[0]
    np.testing.assert_array_equal(found, encode([speech(16000)], model=models["hubert"])[0])


class Intruder:
    """An object that would write a file when it is read from a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def test_code_in_a_weight_file_never_runs(models: dict[str, str], tmp_path: Path) -> None:
    copied = shutil.copytree(models["hubert"], tmp_path / "copy")
    torch.save({"encoder": Intruder(tmp_path / "intruder")}, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        build_view("ssl", model=str(copied)).load(CPU)
    assert not (tmp_path / "intruder").exists()


def test_a_name_of_the_hub_is_found_in_its_cache(
    models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "models--someone--tiny-960h"
    shutil.copytree(models["hubert"], place / "snapshots" / ("a" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    view = build_view("ssl", model="someone/tiny-960h")
    assert view.weights == build_view("ssl", model=models["hubert"]).weights
    assert view.shape == (32,)
    assert view.reads_words
    with pytest.raises(UserError, match="someone/other.*give the folder of a copy"):
        _ = build_view("ssl", model="someone/other").shape


def test_encoders_that_know_words_are_told_by_files_and_names(models: dict[str, str], tmp_path: Path) -> None:
    def known(kind: str, **settings: object) -> bool:
        return build_view("ssl", model=models[kind], **settings).reads_words

    assert known("whisper")
    assert not known("hubert")
    assert known("hubert", asr="true")
    assert not known("whisper", asr="false")
    recogniser = tiny_models.build("ctc", tmp_path / "plain")
    assert build_view("ssl", model=recogniser).reads_words
    assert encode([speech(16000)], model=recogniser)[0].shape == (49, 32)


@pytest.mark.parametrize(
    ("model", "corpora"),
    [
        ("emotion2vec/emotion2vec_base", ("cmu-mosei", "iemocap", "mead", "meld", "msp-podcast")),
        ("audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim", ("msp-podcast",)),
        ("/models/superb/wav2vec2-base-superb-er/", ("iemocap",)),
        ("microsoft/wavlm-large", ()),
        ("/data/iemocap/wavlm-large", ()),
    ],
)
def test_corpora_that_an_encoder_has_seen(model: str, corpora: tuple[str, ...]) -> None:
    assert build_view("ssl", model=model).pretrained_on == corpora


def test_a_spec_is_read_and_written_without_the_model() -> None:
    spec = parse_specs("ssl[model=someone/any, layer=9, window=20]")[0]
    assert str(spec) == "ssl[layer=9,model=someone/any,window=20.0]"
    assert spec.build() == SpeechEmbedding(model="someone/any", layer=9, window=20.0)


def test_recordings_that_cannot_be_used(models: dict[str, str]) -> None:
    view = build_view("ssl", model=models["hubert"])
    with pytest.raises(MediaError, match="399 samples .* needs 400"):
        view(speech(399), 16000)
    with pytest.raises(ValueError, match="16000 Hz, got 8000"):
        view(speech(8000), 8000)
    with pytest.raises(ValueError, match="shape"):
        view(np.zeros((10, 2), np.float32), 16000)


@pytest.mark.parametrize(
    "settings",
    [
        {"model": ""},
        {"layer": "first"},
        {"layer": -1},
        {"precision": "bfloat16"},
        {"window": 0.1},
        {"overlap": 20.0},
        {"overlap": 0.0},
        {"batch_seconds": 0.0},
        {"asr": "yes"},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"ssl: .*{next(iter(settings))}"):
        build_view("ssl", **({"model": "someone/any"} | settings))


def test_models_that_cannot_be_used_are_named(models: dict[str, str], tmp_path: Path) -> None:
    def refused(model: object, message: str, **settings: object) -> None:
        with pytest.raises(UserError, match=message):
            view = build_view("ssl", model=str(model), **settings)
            view(speech(16000), 16000)
            view.load(CPU)

    def copy(name: str) -> Path:
        return Path(shutil.copytree(models["hubert"], tmp_path / name))

    refused("./nowhere", "no such folder")
    refused("a/b/c", "no such folder")
    refused(tmp_path, "no config.json")
    refused(models["hubert"], "at most 2", layer=3)
    refused(tiny_models.build("bert", tmp_path / "bert"), "kind 'bert'.*supported are wav2vec2")
    (copy("weightless") / "model.safetensors").unlink()
    refused(tmp_path / "weightless", "has no weights")
    (copy("unprepared") / "preprocessor_config.json").unlink()
    refused(tmp_path / "unprepared", "preprocessor_config.json, which says")
    weights = copy("cut") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    refused(tmp_path / "cut", "cannot be loaded")
    (copy("strange") / "config.json").write_text('{"model_type": "parrot"}')
    refused(tmp_path / "strange", "cannot be loaded")
    (copy("mangled") / "config.json").write_text("{")
    refused(tmp_path / "mangled", "cannot be loaded")
    network = transformers.AutoModel.from_pretrained(models["hubert"])
    kept = {name: value for name, value in network.state_dict().items() if "layers.1" not in name}
    network.save_pretrained(copy("incomplete"), state_dict=kept)
    refused(tmp_path / "incomplete", "no weights for encoder.layers.1")
