"""Every registered network: shapes, gradients, padding; TIM-Net against a NumPy reference of the paper's equations."""

from functools import partial

import numpy as np
import pytest
import torch

from ser_models.errors import UserError
from ser_models.models import SYSTEMS, build_model, get_system
from ser_models.models.batch import Batch, Ragged
from ser_models.models.layers import MaskedBatchNorm, reverse_time
from ser_models.models.timnet import TemporalAwareBlock

FEATURES = 39

ONE_VIEW: dict[str, tuple[int, ...]] = {"mfcc": (FEATURES,)}
AUDIO_TEXT: dict[str, tuple[int, ...]] = {"mfcc": (120,), "words": ()}
AUDIO_TEXT_VIDEO = AUDIO_TEXT | {"pictures": (2048,)}
READ = {"amh": AUDIO_TEXT_VIDEO, "mdre": AUDIO_TEXT_VIDEO, "mha": AUDIO_TEXT}
"""The views of systems that read other ones than `ONE_VIEW`, and their trailing dimensions; none are words."""


def sequences(lengths: list[int], shape: tuple[int, ...], time: int, generator: torch.Generator) -> Ragged:
    values = torch.zeros(len(lengths), time, *shape) if shape else torch.zeros(len(lengths), time).long()
    for row, length in enumerate(lengths):
        # Every word is the unknown one: there is no vocabulary.
        values[row, :length] = torch.randn(length, *shape, generator=generator) if shape else 1
    return Ragged(values, torch.tensor(lengths))


def batch_of(
    lengths: list[int],
    classes: int = 5,
    seed: int = 0,
    pad_to: int | None = None,
    views: dict[str, tuple[int, ...]] = ONE_VIEW,
) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    labels = torch.arange(len(lengths)) % classes
    return Batch(
        inputs={
            view: sequences(lengths, shape, pad_to or longest, generator) for view, shape in views.items()
        },
        target=torch.eye(classes)[labels],
        weight=torch.ones(len(lengths)),
        utterance=torch.arange(len(lengths)),
        domain=torch.zeros(len(lengths), dtype=torch.int64),
    )


def randomised(net: torch.nn.Module) -> torch.nn.Module:
    """Biases, level weights and running statistics that are not zero, so that an omission shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise + 0.5 if "variance" in name or "scale" in name else (noise - 0.5) * 0.6)
    return net


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_forward_and_backward_give_finite_logits_and_gradients(name: str) -> None:
    views = READ.get(name, ONE_VIEW)
    net = build_model(name, num_classes=5, **get_system(name).sizes(views, {}))
    batch = batch_of([40, 25, 0, 7, 40], views=views)
    outputs = net(batch)
    assert outputs["logits"].shape == (5, 5)
    loss = torch.stack(list(net.loss(outputs, batch).values())).sum()
    loss.backward()
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    assert gradients and all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_scores_do_not_depend_on_padding_or_on_the_rest_of_the_batch(name: str) -> None:
    views = READ.get(name, ONE_VIEW)
    net = randomised(build_model(name, num_classes=5, **get_system(name).sizes(views, {}))).eval()
    lengths = [40, 25, 7, 31]
    with torch.no_grad():
        together = net(batch_of(lengths, pad_to=90, views=views))["logits"]
        whole = batch_of(lengths, views=views)
        for row, length in enumerate(lengths):
            inputs = {
                view: Ragged(value.values[row : row + 1, :length], torch.tensor([length]))  # type: ignore[union-attr]
                for view, value in whole.inputs.items()
            }
            alone = net(Batch(inputs, *(torch.zeros(1, 5),) * 4))["logits"]  # type: ignore[arg-type]
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_timnet_has_the_published_number_of_parameters() -> None:
    seven = build_model("timnet", num_classes=7)
    assert sum(parameter.numel() for parameter in seven.parameters()) == 104_496
    assert sum(tensor.numel() for tensor in seven.state_dict().values()) == 106_992
    iemocap = build_model("timnet", num_classes=4, blocks=10)
    assert sum(tensor.numel() for tensor in iemocap.state_dict().values()) == 132_770


def convolve(values: np.ndarray, kernel: np.ndarray, bias: np.ndarray, dilation: int) -> np.ndarray:
    """Causal dilated convolution by its definition: [time, in] with kernel [out, in, taps]."""
    taps = kernel.shape[2]
    result = np.tile(bias, (len(values), 1))
    for time in range(len(values)):
        for tap in range(taps):
            source = time - (taps - 1 - tap) * dilation
            if source >= 0:
                result[time] += kernel[:, :, tap] @ values[source]
    return result


def test_timnet_computes_the_equations_of_the_paper() -> None:
    net = randomised(build_model("timnet", num_classes=5, blocks=3)).eval()
    state = {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}
    batch = batch_of([23])
    values = batch.inputs["mfcc"].values[0].double().numpy()  # type: ignore[union-attr]
    streams = []
    for direction, sequence in enumerate((values, values[::-1])):
        kernel = state[f"entries.{direction}.weight"]
        streams.append(convolve(sequence, kernel, state[f"entries.{direction}.bias"], 1))
    drf = np.zeros(39)
    for level in range(3):
        for direction in range(2):
            hidden = streams[direction]
            for half in range(2):
                prefix = f"streams.{direction}.{level}"
                hidden = convolve(
                    hidden,
                    state[f"{prefix}.convolutions.{half}.weight"],
                    state[f"{prefix}.convolutions.{half}.bias"],
                    2**level,
                )
                norm = {key: state[f"{prefix}.norms.{half}.{key}"] for key in ("weight", "bias")}
                mean, variance = (
                    state[f"{prefix}.norms.{half}.running_{key}"] for key in ("mean", "variance")
                )
                hidden = (hidden - mean) / np.sqrt(variance + 1e-3) * norm["weight"] + norm["bias"]
                hidden = np.maximum(hidden, 0)
            streams[direction] = streams[direction] / (1 + np.exp(-hidden))
        drf += state["level_weights"][level] * (streams[0] + streams[1]).mean(0)
    expected = state["classifier.weight"] @ drf + state["classifier.bias"]
    with torch.no_grad():
        np.testing.assert_allclose(net(batch)["logits"][0].numpy(), expected, rtol=1e-4, atol=1e-5)


def test_timnet_is_initialised_as_keras_does() -> None:
    torch.manual_seed(0)
    net = build_model("timnet", num_classes=7)
    level_weights = net.level_weights.detach()  # type: ignore[operator, union-attr]
    assert level_weights.abs().max() <= 0.05
    kernel = net.streams[0][0].convolutions[0].weight  # type: ignore[index, union-attr]
    bound = (6 / (39 * 2 + 39 * 2)) ** 0.5
    assert 0.9 * bound < kernel.abs().max() <= bound
    assert not net.classifier.bias.any()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ({"backward": False}, 8 * 6318 + 1560 + 8 + 280),
        ({"multi_scale": False}, 104_496 - 8),
        ({"dynamic_fusion": False}, 104_496 - 8),
        (
            {"gated": False, "backward": False, "multi_scale": False, "dynamic_fusion": False},
            8 * 6318 + 1560 + 280,
        ),
    ],
)
def test_timnet_ablations_drop_the_parts_they_name(arguments: dict[str, bool], parameters: int) -> None:
    net = build_model("timnet", num_classes=7, **arguments)
    # A block holds two convolutions of 39·39·2 + 39 and two norms of 78: 6318 trainable parameters.
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters
    full = build_model("timnet", num_classes=7)
    batch = batch_of([30, 20])
    assert not torch.allclose(net(batch)["logits"], full(batch)["logits"])


def test_depth_sets_how_far_the_forward_stream_looks_back() -> None:
    """Blocks of two convolutions with two taps reach 2·(2^n − 1) frames back."""
    for blocks in (1, 3):
        net = randomised(build_model("timnet", num_classes=5, blocks=blocks, backward=False)).eval()
        captured: list[torch.Tensor] = []
        net.streams[0][-1].register_forward_hook(lambda *args, kept=captured: kept.append(args[2][0]))  # type: ignore[index, union-attr]
        reach = 2 * (2**blocks - 1)
        first, second = batch_of([60]), batch_of([60])
        second.inputs["mfcc"].values[0, 5] += 10  # type: ignore[union-attr]
        with torch.no_grad():
            net(first), net(second)
        changed = (captured[0] - captured[1]).abs().sum(2)[0] > 0
        assert changed.nonzero().squeeze(1).tolist() == list(range(5, 5 + reach + 1))


def test_build_model_says_what_is_wrong() -> None:
    with pytest.raises(UserError, match="unknown system 'timnett'; available: .*timnet"):
        build_model("timnett", num_classes=3)
    with pytest.raises(UserError, match="blocks = 0"):
        build_model("timnet", num_classes=3, blocks=0)
    with pytest.raises(UserError, match="hops"):
        build_model("timnet", num_classes=3, hops=2)
    with pytest.raises(UserError, match="no preset 'best'"):
        get_system("timnet").preset("best", "ravdess")
    with pytest.raises(UserError, match="not published on 'tess'.*Use preset clean"):
        get_system("timnet").preset("faithful", "tess")


def test_batch_norm_without_mask_is_torchs_own() -> None:
    ours, theirs = MaskedBatchNorm(4), torch.nn.BatchNorm1d(4)
    values = torch.randn(6, 4, 11)
    torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    biased = theirs.running_var - 0.1 * values.var((0, 2)) + 0.1 * values.var((0, 2), correction=0)
    torch.testing.assert_close(ours.running_variance, biased)
    ours.eval(), theirs.eval()
    ours.running_variance.copy_(theirs.running_var)
    torch.testing.assert_close(ours(values), theirs(values))


def test_masked_batch_norm_equals_batch_norm_over_the_valid_frames() -> None:
    lengths = torch.tensor([7, 3, 0, 5])
    values = torch.randn(4, 2, 7, dtype=torch.float64, requires_grad=True)
    ragged = Ragged(values.detach().transpose(1, 2), lengths)
    mask = ragged.mask()
    norm, reference = MaskedBatchNorm(2).double(), torch.nn.BatchNorm1d(2).double()
    output = norm(values, mask)
    weights = torch.randn(4, 2, 7, dtype=torch.float64) * mask[:, None]
    (output * weights).sum().backward()
    flat = values.detach().transpose(1, 2)[mask].requires_grad_()
    expected = reference(flat)
    (expected * weights.transpose(1, 2)[mask]).sum().backward()
    torch.testing.assert_close(output.transpose(1, 2)[mask], expected)
    torch.testing.assert_close(values.grad.transpose(1, 2)[mask], flat.grad)  # type: ignore[union-attr]
    assert not values.grad.transpose(1, 2)[~mask].any()  # type: ignore[union-attr]
    torch.testing.assert_close(norm.weight.grad, reference.weight.grad)


def test_masked_batch_norm_has_the_gradient_of_its_own_formula() -> None:
    norm = MaskedBatchNorm(3).double()
    mask = torch.tensor([[True, True, False], [True, False, False]])
    values = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: norm(x, mask) * mask[:, None], (values,))


def test_reversal_keeps_padding_at_the_end() -> None:
    values = torch.tensor([[1.0, 2, 3, 0], [4, 0, 0, 0], [5, 6, 7, 8]])[..., None]
    reversed_values = reverse_time(values, torch.tensor([3, 1, 4]))[..., 0]
    assert reversed_values.tolist() == [[3, 2, 1, 0], [4, 0, 0, 0], [8, 7, 6, 5]]


@pytest.mark.parametrize("lengths", [[30, 30, 30], [30, 17, 1], [12, 0, 30]])
def test_the_fused_training_step_equals_the_eager_one(
    lengths: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same dropout, same weights: logits, every gradient and the running statistics agree to float32."""
    torch.manual_seed(0)
    nets = [randomised(build_model("timnet", num_classes=5, blocks=4)) for _ in range(2)]
    eager = nets[1]
    for module in eager.modules():
        if hasattr(module, "_forward_fused"):
            monkeypatch.setattr(module, "_forward_fused", partial(forward_eagerly, module))
    batch = batch_of(lengths)
    for net in nets:
        torch.manual_seed(7)
        outputs = net(batch)
        net.loss(outputs, batch)["emotion"].backward()
    for (name, first), second in zip(nets[0].named_parameters(), eager.parameters(), strict=True):
        scale = second.grad.abs().max()  # type: ignore[union-attr]
        # A bias before a normalisation has no gradient but rounding.
        torch.testing.assert_close(
            first.grad, second.grad, rtol=1e-3, atol=1e-4 * float(scale) + 1e-6, msg=name
        )
    for first, second in zip(nets[0].buffers(), eager.buffers(), strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)


def forward_eagerly(
    block: TemporalAwareBlock, padded: torch.Tensor, lengths: torch.Tensor, pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The block by its definition, with the dropout that the fused one draws."""
    mask = torch.arange(padded.shape[1] - block.reach) < lengths[:, None]
    values = padded[:, block.reach :].transpose(1, 2)
    hidden = values
    for convolution, norm in zip(block.convolutions, block.norms, strict=True):
        hidden = norm(convolution(torch.nn.functional.pad(hidden, (block.reach, 0))), mask)
        keep = torch.nn.functional.dropout(torch.ones(len(hidden), hidden.shape[1]), block.dropout)
        hidden = hidden.relu() * keep[..., None]
    result = values * torch.sigmoid(hidden) * mask[:, None]
    return torch.nn.functional.pad(result, (pad, 0)).transpose(1, 2), result.sum(2)


def test_svm_fits_a_separable_task_and_never_predicts_a_class_it_has_not_seen() -> None:
    batch = batch_of([20] * 40, classes=4)
    labels = batch.target.argmax(1)
    values = batch.inputs["mfcc"].values  # type: ignore[union-attr]
    values[:, :, 0] += labels[:, None] * 10.0
    net = build_model("svm", num_classes=6, features=FEATURES)
    target = torch.zeros(40, 6)
    target[:, [0, 2, 3, 5]] = batch.target
    seen = Batch(batch.inputs, target, batch.weight, batch.utterance, batch.domain)
    net.fit(seen)
    predicted = net.eval()(seen)["logits"].argmax(1)
    assert (predicted == target.argmax(1)).all()
    assert set(predicted.tolist()) == {0, 2, 3, 5}


def test_a_padding_example_has_no_influence_on_loss_gradient_or_statistics() -> None:
    torch.manual_seed(0)
    nets = [build_model("timnet", num_classes=5, blocks=2, dropout=0.0) for _ in range(2)]
    nets[1].load_state_dict(nets[0].state_dict())
    real, padded = batch_of([9, 6]), batch_of([9, 6, 0])
    padded.weight[2] = 0
    for net, batch in zip(nets, (real, padded), strict=True):
        net.loss(net(batch), batch)["emotion"].backward()
    for (name, first), second in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-6, msg=name)
    for first, second in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        torch.testing.assert_close(first, second)
