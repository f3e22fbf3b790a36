"""AVDAL: one encoder for speech and faces, the reversed gradient, the two domains in examples and batches."""

import doctest
import json
import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torchvision
from safetensors.torch import save_file
from torch import multiprocessing, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from ser_models.errors import UserError
from ser_models.models import avdal, reversal
from ser_models.models.avdal import (
    AUDIO,
    AVDAL,
    FACES,
    SPEECH,
    VIDEO,
    AVDALSystem,
    load_resnet18,
    resnet18_trunk,
)
from ser_models.models.batch import Batch, Ragged
from ser_models.models.labels import LABEL_SETS
from ser_models.models.reversal import GradientReversal
from ser_models.shards import layout
from ser_models.shards.ragged import FeatureTable
from ser_models.training.data import Examples, Features
from ser_models.training.fold import FoldSettings, fit_fold

LABELS = LABEL_SETS["iemocap4"]


def batch_of(lengths: list[int], domains: list[int], seed: int = 0) -> Batch:
    """Speech and faces of every example, whatever its domain; a length of 0 is a padding example."""
    generator = torch.Generator().manual_seed(seed)
    count = len(lengths)
    speech = torch.zeros(count, max(lengths), 40)
    for row, length in enumerate(lengths):
        speech[row, :length] = torch.randn(length, 40, generator=generator)
    faces = torch.randint(0, 256, (count, 5, 224, 40), dtype=torch.uint8, generator=generator)
    real = torch.tensor(lengths) > 0
    return Batch(
        inputs={
            SPEECH: Ragged(speech, torch.tensor(lengths)),
            FACES: Ragged(faces * real[:, None, None, None], 5 * real),
        },
        target=torch.eye(4)[torch.arange(count) % 4],
        weight=real.float(),
        utterance=torch.arange(count),
        domain=torch.tensor(domains),
    )


def net_of(**arguments: Any) -> AVDAL:
    torch.manual_seed(0)
    return AVDAL(4, **arguments)


def total(net: AVDAL, batch: Batch) -> torch.Tensor:
    return torch.stack(list(net.loss(net(batch), batch).values())).sum()


def test_doctests() -> None:
    assert doctest.testmod(reversal).failed == doctest.testmod(avdal).failed == 0


# Reversal


@pytest.mark.parametrize("scale", [1.0, 0.3, 0.0])
def test_the_gradient_comes_back_reversed_and_scaled(scale: float) -> None:
    values = torch.randn(3, 2, requires_grad=True)
    output = GradientReversal(scale)(values)
    assert torch.equal(output, values)
    weights = torch.randn(3, 2)
    (output * weights).sum().backward()
    torch.testing.assert_close(values.grad, -scale * weights)


def test_a_rising_reversal_counts_training_steps_and_keeps_its_count() -> None:
    layer = GradientReversal(2.0, rise=10)
    values = torch.zeros(1, requires_grad=True)
    factors = []
    for _ in range(12):
        (gradient,) = torch.autograd.grad(layer(values).sum(), values)
        factors.append(-gradient.item())
    steps = np.minimum(np.arange(12) / 10, 1)
    expected = np.where(steps < 1, 2 * (2 / (1 + np.exp(-10 * steps)) - 1), 2.0)
    np.testing.assert_allclose(factors, expected, rtol=1e-6)
    layer.eval()(values)
    continued = GradientReversal(2.0, rise=30)
    continued.load_state_dict(layer.state_dict())
    assert int(continued.updates) == 12


@pytest.mark.parametrize("arguments", [{"scale": -1.0}, {"scale": float("nan")}, {"rise": -1}])
def test_an_impossible_reversal_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="reversal"):
        GradientReversal(**arguments)


def test_the_trunk_unlearns_what_the_domain_classifier_learns() -> None:
    batch = batch_of([60, 60], [AUDIO, VIDEO])
    gradients = []
    for scale in (1.0, 0.5):
        net = net_of(reversal=scale, emotion_weight=0.0)
        total(net, batch).backward()
        gradients.append({name: parameter.grad for name, parameter in net.named_parameters()})
    # The same without a reversal at all.
    net = net_of(emotion_weight=0.0)
    net.domain_classifier[0] = nn.Identity()
    total(net, batch).backward()
    for name, parameter in net.named_parameters():
        if name.startswith("trunk"):
            torch.testing.assert_close(gradients[0][name], -parameter.grad, msg=name)  # type: ignore[operator]
            torch.testing.assert_close(gradients[1][name], -0.5 * parameter.grad, msg=name)  # type: ignore[operator]
        elif name.startswith("domain"):
            torch.testing.assert_close(gradients[0][name], parameter.grad, msg=name)


# Network


def test_the_parameters_are_those_of_a_resnet18_of_one_channel_and_two_classifiers() -> None:
    own = torchvision.models.resnet18(weights=None)
    trunk = sum(parameter.numel() for parameter in own.parameters()) - 2 * 64 * 49 - 513 * 1000
    heads = 513 * 4 + 513 * 50 + 51 * 20 + 21
    assert sum(p.numel() for p in net_of().parameters()) == trunk + heads == 11_198_983
    # MDSCM's own 6,508,487, and 768–128–20–1.
    small = net_of(trunk="mdscm")
    assert sum(p.numel() for p in small.parameters()) == 6_508_487 + 769 * 128 + 129 * 20 + 21


@pytest.mark.parametrize("trunk", ["resnet18", "mdscm"])
def test_each_example_is_read_in_its_own_domain_only(trunk: Any) -> None:
    net = net_of(trunk=trunk).eval()
    first, second = (batch_of([300, 120, 60], [AUDIO, VIDEO, AUDIO], seed) for seed in (0, 1))
    speech, faces = first.inputs[SPEECH], first.inputs[FACES]
    with torch.no_grad():
        scores = net(first)
        other_faces, other_speech = (
            net(Batch(inputs, first.target, first.weight, first.utterance, first.domain))
            for inputs in (
                {SPEECH: speech, FACES: second.inputs[FACES]},
                {SPEECH: second.inputs[SPEECH], FACES: faces},
            )
        )
    for name in ("logits", "domain"):
        unchanged = [torch.equal(scores[name][row], other_faces[name][row]) for row in range(3)]
        assert unchanged == [True, False, True]
        unchanged = [torch.equal(scores[name][row], other_speech[name][row]) for row in range(3)]
        assert unchanged == [False, True, False]


def test_faces_are_scaled_to_one_around_zero_and_their_scores_averaged() -> None:
    net, batch = net_of().eval(), batch_of([60], [VIDEO])
    pictures = batch.inputs[FACES].values[0].float()  # type: ignore[union-attr]
    with torch.no_grad():
        encoded = net.trunk(((pictures / 255 - 0.5) / 0.5)[:, None])
        outputs = net(batch)
    torch.testing.assert_close(outputs["logits"][0], net.classifier(encoded).mean(0), rtol=1e-4, atol=1e-5)
    told = net.domain_classifier(encoded).mean(0)[0]
    torch.testing.assert_close(outputs["domain"][0], told, rtol=1e-4, atol=1e-5)


def test_speech_alone_is_enough_to_predict() -> None:
    net, both = net_of().eval(), batch_of([300, 60], [AUDIO, AUDIO])
    speech = Batch({SPEECH: both.inputs[SPEECH]}, both.target, both.weight, both.utterance, both.domain)
    with torch.no_grad():
        torch.testing.assert_close(net(speech)["logits"], net(both)["logits"])


def test_the_loss_is_the_emotions_plus_the_domains_with_speech_as_one() -> None:
    net, batch = net_of(emotion_weight=2.0, domain_weight=0.5), batch_of([60, 60, 0], [AUDIO, VIDEO, AUDIO])
    outputs = {"logits": torch.randn(3, 4), "domain": torch.tensor([0.3, -0.8, 5.0])}
    terms = net.loss(outputs, batch)
    labels = batch.target.argmax(1)[:2]
    emotion = functional.cross_entropy(outputs["logits"][:2], labels, reduction="sum")
    domain = -torch.log(torch.sigmoid(torch.tensor(0.3))) - torch.log(1 - torch.sigmoid(torch.tensor(-0.8)))
    torch.testing.assert_close(terms["emotion"], 2 * emotion)
    torch.testing.assert_close(terms["domain"], 0.5 * domain)
    quirk = net_of(trunk="mdscm", double_softmax=True)
    expected = functional.cross_entropy(outputs["logits"][:2].softmax(1), labels, reduction="sum")
    torch.testing.assert_close(quirk.loss(outputs, batch)["emotion"], expected)


def test_a_padding_example_has_no_influence_on_loss_gradient_or_statistics() -> None:
    for quirk in (False, True):
        nets = [net_of(average_zero_segments=quirk) for _ in range(2)]
        total(nets[0], batch_of([300, 60], [AUDIO, VIDEO])).backward()
        padded = batch_of([300, 60, 0, 0], [AUDIO, VIDEO, AUDIO, VIDEO])
        both = batch_of([300, 60], [AUDIO, VIDEO]).inputs
        for name, value in padded.inputs.items():
            value.values[:2] = both[name].values  # type: ignore[union-attr]
        total(nets[1], padded).backward()
        for (name, first), second in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
            torch.testing.assert_close(first.grad, second.grad, msg=name)
        for first, second in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
            torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"trunk": "vgg"}, "trunk = 'vgg'"),
        ({"trunk": "mdscm", "weights": "x.pth"}, "need trunk = resnet18"),
        ({"double_softmax": True}, "quirks of trunk = mdscm"),
        ({"domain_weight": -1.0}, "domain_weight"),
        ({"reversal": -1.0}, "reversal = -1.0"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        AVDAL(4, **arguments)


# Pretrained weights


@pytest.fixture(scope="module")
def imagenet() -> nn.Module:
    """A ResNet-18 of torchvision whose running statistics are not those it starts with."""
    torch.manual_seed(5)
    network = torchvision.models.resnet18(weights=None).train()
    with torch.no_grad():
        network(torch.randn(4, 3, 64, 64))
    return network.eval()


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_training_starts_from_torchvisions_weights_but_for_the_stem(
    imagenet: nn.Module, tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"resnet18.{ending}"
    state = imagenet.state_dict()
    torch.save(state, path) if ending == "pth" else save_file(state, path)
    net = net_of(weights=str(path))
    stem = net.trunk.conv1.weight.clone()  # type: ignore[operator, union-attr]
    before = net.trunk.layer4[1].conv2.weight.clone()  # type: ignore[index, operator, union-attr]
    net.start(torch.eye(4))
    assert torch.equal(net.trunk.conv1.weight, stem)  # type: ignore[arg-type, union-attr]
    assert not torch.equal(net.trunk.layer4[1].conv2.weight, before)  # type: ignore[arg-type, index, union-attr]
    # With a stem that reads a grey picture as three equal channels, both networks are the same.
    trunk, pictures = net.trunk.eval(), torch.randn(2, 1, 224, 40)
    with torch.no_grad():
        trunk.conv1.weight.copy_(imagenet.conv1.weight.sum(1, keepdim=True))  # type: ignore[operator, union-attr]
        imagenet.fc, head = nn.Identity(), imagenet.fc
        torch.testing.assert_close(
            trunk(pictures), imagenet(pictures.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4
        )
        imagenet.fc = head


def test_a_trained_model_does_not_need_the_file_it_started_from() -> None:
    assert net_of(weights="nowhere.pth").eval()(batch_of([60], [AUDIO]))["logits"].shape == (1, 4)


def test_what_holds_no_resnet18_is_refused(imagenet: nn.Module, tmp_path: Path) -> None:
    trunk = resnet18_trunk()
    with pytest.raises(UserError, match="no such file"):
        load_resnet18(trunk, str(tmp_path / "missing.pth"))
    (tmp_path / "damaged.pth").write_bytes(b"damaged")
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    torch.save({"executed": Path}, tmp_path / "pickled.pth")
    for name in ("damaged.pth", "damaged.safetensors", "pickled.pth"):
        with pytest.raises(UserError, match="is not a state dict"):
            load_resnet18(trunk, str(tmp_path / name))
    deeper = torchvision.models.resnet50(weights=None).state_dict()
    torch.save(deeper, tmp_path / "resnet50.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("resnet50.pth", "list.pth"):
        with pytest.raises(UserError, match="torchvision's resnet18"):
            load_resnet18(trunk, str(tmp_path / name))


# Examples, batches, training


def manifest_of(emotions: list[str], filmed: list[bool]) -> pa.Table:
    videos = [f"{row}.mp4" if there else None for row, there in enumerate(filmed)]
    return pa.table({"emotion": emotions, "video": pa.array(videos, pa.string())})


def table_of(arrays: list[np.ndarray], dtype: str) -> FeatureTable:
    shape = arrays[0].shape[1:]
    field = pa.field("values", pa.list_(pa.from_numpy_dtype(np.dtype(dtype))))
    schema = pa.schema(
        [
            ("utterance_id", pa.string()),
            field.with_metadata({"shape": json.dumps(shape), "dtype": dtype}),
            ("frames", pa.int32()),
        ]
    )
    ids = pa.array([f"u{row}" for row in range(len(arrays))])
    frames = pa.array([len(array) for array in arrays], pa.int32())
    return FeatureTable(pa.Table.from_arrays([ids, layout.list_column(arrays, dtype), frames], schema=schema))


def corpus_of(count: int, seed: int = 0) -> tuple[Features, Examples]:
    """Utterances whose emotion is heard as louder bands and seen as brighter columns."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    speech, faces = [], []
    for label in labels:
        spectrum = generator.normal(0, 1, (int(generator.integers(50, 400)), 40)).astype(np.float32)
        spectrum[:, 10 * label : 10 * label + 10] += 1.5
        picture = generator.integers(0, 128, (5, 224, 40)).astype(np.uint8)
        picture[:, :, 10 * label : 10 * label + 10] += 100
        speech.append(spectrum)
        faces.append(picture)
    manifest = manifest_of([LABELS.classes[label] for label in labels], [True] * count)
    features = Features(
        {SPEECH: table_of(speech, "float32"), FACES: table_of(faces, "uint8")},
        [f"u{row}" for row in range(count)],
    )
    return features, Examples.from_table(AVDALSystem().examples(manifest, LABELS))


def test_an_utterance_is_two_examples_and_its_faces_are_only_trained_on() -> None:
    manifest = manifest_of(["sad", "frustrated", "excited", "angry"], [True, True, False, True])
    examples = Examples.from_table(AVDALSystem().examples(manifest, LABELS))
    rows = list(zip(examples.row.tolist(), examples.domain.tolist(), strict=True))
    assert rows == [(0, AUDIO), (2, AUDIO), (3, AUDIO), (0, VIDEO), (3, VIDEO)]
    assert examples.target.argmax(1).tolist() == [3, 1, 0, 3, 0]
    assert examples.of(np.array([0, 2]), training=False).domain.tolist() == [AUDIO, AUDIO]
    assert examples.of(np.array([0, 2]), training=True).domain.tolist() == [AUDIO, AUDIO, VIDEO]


def test_speech_brings_no_faces_into_a_batch() -> None:
    features, examples = corpus_of(6)
    (portion,) = features.scoring_portions(
        examples.of(np.arange(6), training=False), {}, batch_size=6, rank=0, world=1
    )
    faces = portion.batch.inputs[FACES]
    assert not faces.lengths.any() and faces.values.shape[1] == 1  # type: ignore[union-attr]
    with torch.no_grad():
        assert net_of().eval()(portion.batch)["logits"].isfinite().all()


def test_batches_of_similar_length_hold_both_domains() -> None:
    features, examples = corpus_of(64)
    for bucketed in (True, False):
        portions = features.training_portions(
            examples, {}, batch_size=32, bucketed=bucketed, seed=1, rank=0, world=1
        )
        shares = [float((portion.batch.domain == VIDEO).float().mean()) for portion in portions]
        assert len(shares) == 4 and all(0.2 < share < 0.8 for share in shares), shares


def test_the_loop_trains_both_domains_and_validates_speech(tmp_path: Path) -> None:
    features, examples = corpus_of(24)
    training, validation = (np.arange(16), np.arange(16, 24))
    net = net_of(learning_rate=0.01)
    fit = fit_fold(
        AVDALSystem(),
        net,
        features,
        examples.of(training, training=True),
        examples.of(validation, training=False),
        features.fit("global", training),
        FoldSettings(epochs=3, patience=0, batch_size=8, selection="best", bucketed=True, checkpoint_every=1),
        seed=0,
        state_folder=str(tmp_path / "state"),
        device=torch.device("cpu"),
        on_epoch=lambda entry: None,
    )
    losses = [entry["train_loss"] for entry in fit.history]
    assert losses[-1] < 0.75 * losses[0], losses


def test_sizes_refuse_pictures_that_do_not_have_the_shape_of_a_segment() -> None:
    system = AVDALSystem()
    assert system.sizes({SPEECH: (40,), FACES: (224, 40)}, {}) == {"features": 40}
    with pytest.raises(UserError, match="must have 224 rows and 64 columns"):
        system.sizes({SPEECH: (64,), FACES: (224, 40)}, {})


def test_presets_differ_by_protocol_and_quirk() -> None:
    faithful, clean = (AVDALSystem().preset(name, "iemocap") for name in ("faithful", "clean"))
    assert (faithful.protocol, clean.protocol) == ("avdal-published", "iemocap4-session")
    assert faithful.views == clean.views == (SPEECH, FACES)
    assert (faithful.normalise, clean.normalise) == ("none", "global")
    assert dict(faithful.model) == {"average_zero_segments": True} and not clean.model
    with pytest.raises(UserError, match="not published on 'meld'"):
        AVDALSystem().preset("faithful", "meld")
    with pytest.raises(UserError, match="no preset 'best'"):
        AVDALSystem().preset("best", "iemocap")


def step_of(net: nn.Module, batch: Batch, workers: int) -> None:
    plain = net.module if isinstance(net, DistributedDataParallel) else net
    terms = plain.loss(net(batch), batch)  # type: ignore[operator]
    (torch.stack(list(terms.values())).sum() * workers / 3).backward()


def three_examples() -> Batch:
    """In double precision: rounding that flips one of a network's many ReLUs moves a float's gradient by percents."""
    batch = batch_of([300, 60, 100], [AUDIO, VIDEO, AUDIO])
    speech = batch.inputs[SPEECH]
    batch.inputs[SPEECH] = Ragged(speech.values.double(), speech.lengths)  # type: ignore[union-attr]
    return batch


def share_a_step(rank: int, folder: str) -> None:
    """Three workers for three examples: the last one has two padding examples and nothing to read."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=(Path(folder) / "port").read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=3)
    joined = three_examples()
    own = [[0, 1], [2, 2], [0, 0]][rank]
    real = torch.tensor([[1, 1], [1, 0], [0, 0]][rank])
    batch = Batch(
        inputs={
            name: Ragged(value.values[own], value.lengths[own] * real)  # type: ignore[union-attr]
            for name, value in joined.inputs.items()
        },
        target=joined.target[own],
        weight=joined.weight[own] * real,
        utterance=joined.utterance[own],
        domain=joined.domain[own],
    )
    net = net_of().double()
    step_of(DistributedDataParallel(net, broadcast_buffers=False), batch, 3)
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    torch.save((gradients, dict(net.named_buffers())), Path(folder) / f"rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.integration
def test_workers_make_the_step_of_one_even_where_one_of_them_has_nothing_to_read(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        (tmp_path / "port").write_text(str(probe.getsockname()[1]))
    multiprocessing.spawn(share_a_step, (str(tmp_path),), nprocs=3, join=True)
    alone = net_of().double()
    step_of(alone, three_examples(), 1)
    for rank in range(3):
        gradients, buffers = torch.load(tmp_path / f"rank-{rank}.pt")
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-6, atol=1e-9, msg=name)
        for name, buffer in alone.named_buffers():
            torch.testing.assert_close(buffers[name], buffer, msg=name)
