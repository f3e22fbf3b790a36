"""MDSCM: the original's segments, its layers against definitions, its quirks one by one."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from ser_models.errors import UserError
from ser_models.models.batch import Batch, Ragged
from ser_models.models.mdscm import (
    MDSCM,
    QUIRKS,
    ChannelAttention,
    MapNorm,
    MDSCMSystem,
    SeparableBlock,
    SpatialAttention,
    cut_segments,
)

BANDS = 40


def sequence_of(lengths: list[int], seed: int = 0, pad_to: int = 1) -> Ragged:
    generator = torch.Generator().manual_seed(seed)
    values = torch.zeros(len(lengths), max(*lengths, pad_to), BANDS)
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, BANDS, generator=generator)
    return Ragged(values, torch.tensor(lengths))


def batch_of(lengths: list[int], classes: int = 4, **options: int) -> Batch:
    return Batch(
        inputs={"log_filterbank": sequence_of(lengths, **options)},
        target=torch.eye(classes)[torch.arange(len(lengths)) % classes],
        weight=(torch.tensor(lengths) > 0).float(),
        utterance=torch.arange(len(lengths)),
        domain=torch.zeros(len(lengths), dtype=torch.int64),
    )


def still(**arguments: object) -> MDSCM:
    """A network without chance in training, the same each time."""
    torch.manual_seed(0)
    return MDSCM(4, dropout=0.0, transformer_dropout=0.0, **arguments)  # type: ignore[arg-type]


# Segments


def segments_by_the_rule(frames: torch.Tensor) -> tuple[torch.Tensor, list[bool]]:
    """The rule of the public code one segment after the other, for one utterance [time, bands]."""
    if len(frames) < 229:
        silence = torch.zeros(112, BANDS)
        frames = torch.cat([silence, frames, silence])
    cut, real = torch.zeros(5, 224, BANDS), []
    for number in range(5):
        begin = number * int(len(frames) / 5)
        real.append(begin < len(frames) - 224)
        if real[-1]:
            cut[number] = frames[begin : begin + 224]
    return cut, real


def test_segments_are_those_of_the_rule_for_every_length() -> None:
    lengths = [1, 5, 100, 223, 224, 227, 228, 229, 230, 280, 281, 453, 600, 1119, 1120, 1121, 1500]
    sequence = sequence_of(lengths, pad_to=1600)
    cut, real = cut_segments(sequence)
    for row, length in enumerate(lengths):
        expected, expected_real = segments_by_the_rule(sequence.values[row, :length])
        assert torch.equal(cut[row], expected), length
        assert real[row].tolist() == expected_real, length


@pytest.mark.parametrize(
    ("frames", "segments"), [(0, 0), (100, 2), (229, 1), (250, 1), (300, 2), (453, 3), (900, 4), (1121, 5)]
)
def test_how_many_segments_hold_speech(frames: int, segments: int) -> None:
    _, real = cut_segments(sequence_of([frames]))
    assert int(real.sum()) == segments


def test_what_lies_in_the_padding_of_a_batch_is_never_read() -> None:
    clean = sequence_of([100, 300, 0], pad_to=400)
    dirty = Ragged(clean.values.masked_fill(~clean.mask()[..., None], float("nan")), clean.lengths)
    assert torch.equal(cut_segments(clean)[0], cut_segments(dirty)[0])


# Layers


def test_the_network_has_the_parameters_that_its_layers_add_up_to() -> None:
    convolutions = 9 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64
    blocks = 0
    for inputs, outputs in ((64, 128), (128, 256)):
        separable = 9 * inputs + inputs * outputs + 9 * outputs + outputs * outputs
        blocks += separable + (inputs + 1) * outputs + 3 * 2 * outputs
    attention = (2 * 9 + 1) + (256 * 16 + 16 + 16 * 256 + 256)
    layer = 4 * (768 + 1) * 768 + (768 + 1) * 512 + (512 + 1) * 768 + 2 * 2 * 768
    total = convolutions + blocks + attention + 2 * layer + (768 + 1) * 4
    assert sum(parameter.numel() for parameter in MDSCM(4).parameters()) == total == 6_508_487


@pytest.mark.parametrize(("features", "width"), [(40, 768), (39, 768), (80, 1280), (128, 2048)])
def test_a_segment_becomes_a_vector_of_the_papers_length(features: int, width: int) -> None:
    trunk = MDSCM(4, features=features).trunk
    maps = trunk.convolutions(torch.randn(2, 1, 224, features))
    assert maps.shape == (2, 256, 14, width // 256)
    assert trunk.width == width and trunk.eval()(torch.randn(2, 1, 224, features)).shape == (2, width)


def test_the_transformer_reads_channels_and_columns_of_one_row_as_one_step() -> None:
    trunk = still().trunk.eval()
    seen = {}
    trunk.transformer.register_forward_pre_hook(lambda module, inputs: seen.update(steps=inputs[0]))
    segment = torch.randn(1, 1, 224, BANDS)
    with torch.no_grad():
        maps = trunk.convolutions(segment)
        trunk(segment)
    for step in (0, 13):
        torch.testing.assert_close(seen["steps"][0, step], maps[0, :, step].flatten())


def test_norm_of_maps_is_torchs_own() -> None:
    ours, theirs = MapNorm(4), nn.BatchNorm2d(4)
    values = torch.randn(3, 4, 6, 5)
    torch.testing.assert_close(ours(values), theirs(values))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    ours.running_variance.copy_(theirs.running_var)
    torch.testing.assert_close(ours.eval()(values), theirs.eval()(values))


def test_attention_weights_positions_and_channels_by_their_maximum_and_mean() -> None:
    values = torch.randn(2, 32, 4, 3)
    spatial, channel = SpatialAttention(), ChannelAttention(32)
    pooled = torch.stack([values.max(1).values, values.mean(1)], 1)
    weights = functional.conv2d(pooled, spatial.convolution.weight, spatial.convolution.bias, padding=1)
    torch.testing.assert_close(spatial(values), values * weights.sigmoid())
    flat = values.flatten(2)
    summed = channel.bottleneck(flat.max(2).values) + channel.bottleneck(flat.mean(2))
    torch.testing.assert_close(channel(values), values * summed.sigmoid()[:, :, None, None])


# Quirks


def test_a_rectified_shortcut_is_what_a_relu_in_place_makes_of_it() -> None:
    torch.manual_seed(0)
    block = SeparableBlock(8, 16, rectify=True, rectify_shortcut=True).eval()
    clean = copy.deepcopy(block)
    clean.rectify_shortcut = False
    values = torch.randn(2, 8, 6, 5)
    spoilt = values.clone()
    residual = block.residual(nn.ReLU(inplace=True)(spoilt))
    torch.testing.assert_close(block(values), residual + block.shortcut(spoilt))
    torch.testing.assert_close(clean(values), residual + clean.shortcut(values))
    assert not torch.allclose(block(values), clean(values))


def test_the_network_passes_the_quirk_to_its_second_block_only() -> None:
    for quirk in (False, True):
        blocks = [
            each for each in still(inplace_relu_shortcut=quirk).modules() if isinstance(each, SeparableBlock)
        ]
        assert [block.rectify for block in blocks] == [False, True]
        assert [block.rectify_shortcut for block in blocks] == [False, quirk]


def test_double_softmax_changes_the_loss_and_not_the_scores() -> None:
    batch = batch_of([60, 90])
    once, twice = still(), still(double_softmax=True)
    outputs = once(batch)
    torch.testing.assert_close(twice(batch)["logits"], outputs["logits"])
    labels = batch.target.argmax(1)
    for net, scores in ((once, outputs["logits"]), (twice, outputs["logits"].softmax(1))):
        expected = functional.cross_entropy(scores, labels, reduction="sum")
        torch.testing.assert_close(net.loss(outputs, batch)["emotion"], expected)


def test_zero_segments_are_averaged_only_on_demand() -> None:
    sequence = sequence_of([300])
    batch = batch_of([300])
    cut, real = cut_segments(sequence)
    assert real[0].tolist() == [True, True, False, False, False]
    for quirk, taken in ((False, cut[0][:2]), (True, cut[0])):
        net = still(average_zero_segments=quirk).eval()
        with torch.no_grad():
            scores = net.classifier(net.trunk(taken[:, None])).mean(0)
            torch.testing.assert_close(net(batch)["logits"][0], scores, rtol=1e-4, atol=1e-5)


def test_statistics_come_from_the_segments_that_take_part() -> None:
    batch = batch_of([300, 100])
    cut, real = cut_segments(batch.inputs["log_filterbank"])  # type: ignore[arg-type]
    for quirk, taken in ((False, cut[real]), (True, cut.flatten(0, 1))):
        net, alone = still(average_zero_segments=quirk), still()
        net(batch), alone.trunk(taken[:, None])
        for name, tensor in alone.trunk.named_buffers():
            torch.testing.assert_close(net.trunk.get_buffer(name), tensor, msg=name)


# Training


@pytest.mark.parametrize("quirks", [{}, QUIRKS], ids=["clean", "faithful"])
def test_a_padding_example_has_no_influence_on_loss_gradient_or_statistics(quirks: dict[str, bool]) -> None:
    nets = [still(**quirks) for _ in range(2)]
    for net, lengths in zip(nets, ([300, 60], [300, 60, 0]), strict=True):
        batch = batch_of(lengths)
        net.loss(net(batch), batch)["emotion"].backward()
    for (name, first), second in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, msg=name)
    for first, second in zip(nets[0].buffers(), nets[1].buffers(), strict=True):
        torch.testing.assert_close(first, second)


@pytest.mark.parametrize("quirks", [{}, QUIRKS], ids=["clean", "faithful"])
def test_every_parameter_gets_a_gradient(quirks: dict[str, bool]) -> None:
    net, batch = still(**quirks), batch_of([300, 60, 240])
    net.loss(net(batch), batch)["emotion"].backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


def test_scores_do_not_depend_on_the_rest_of_the_batch() -> None:
    net = still().eval()
    together = batch_of([300, 60, 0, 700], pad_to=900)
    with torch.no_grad():
        scores = net(together)["logits"]
        for row, length in ((0, 300), (1, 60), (3, 700)):
            values = together.inputs["log_filterbank"].values[row : row + 1, :length]  # type: ignore[union-attr]
            alone = batch_of([length])
            alone.inputs["log_filterbank"] = Ragged(values, torch.tensor([length]))
            torch.testing.assert_close(net(alone)["logits"][0], scores[row], rtol=1e-4, atol=1e-5)


def test_a_worker_without_a_real_example_scores_nothing() -> None:
    with torch.inference_mode():
        assert not still().eval()(batch_of([0, 0]))["logits"].any()


@pytest.mark.parametrize("name", ["clean", "faithful"])
def test_a_few_steps_of_a_preset_reduce_the_loss(name: str) -> None:
    net = still(**MDSCMSystem().preset(name, "iemocap").model)
    batch = batch_of([60, 90, 120, 230])
    (step,) = MDSCMSystem().steps(net)
    optimiser = step.optimiser(step.parameters)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = net.loss(net(batch), batch)["emotion"] / 4
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    # The cross entropy of probabilities cannot fall below 0.74 for four classes.
    assert max(losses[-2:]) < (0.9 if name == "faithful" else 0.5) * losses[0], losses


def test_double_softmax_divides_the_first_gradient_by_the_number_of_classes() -> None:
    batch = batch_of([60, 90, 100, 110])
    gradients = []
    for net in (still(), still(double_softmax=True)):
        scores = torch.zeros(4, 4, requires_grad=True)
        net.loss({"logits": scores}, batch)["emotion"].backward()
        gradients.append(scores.grad)
    torch.testing.assert_close(gradients[0], 4 * gradients[1])  # type: ignore[operator]


def test_the_learning_rate_is_halved_after_10_20_and_30_epochs() -> None:
    (step,) = MDSCMSystem().steps(still())
    optimiser = step.optimiser(step.parameters)
    scheduler = step.scheduler(optimiser)  # type: ignore[misc]
    rates = []
    for _ in range(35):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert step.scheduler_unit == "epoch"
    found = [rates[epoch] for epoch in (0, 9, 10, 19, 20, 29, 30)]
    assert found == pytest.approx([0.02, 0.02, 0.01, 0.01, 0.005, 0.005, 0.0025])


def test_presets_differ_by_protocol_and_quirks() -> None:
    faithful, clean = (MDSCMSystem().preset(name, "iemocap") for name in ("faithful", "clean"))
    assert (faithful.protocol, clean.protocol) == ("avdal-published", "iemocap4-session")
    assert (faithful.normalise, clean.normalise) == ("none", "global")
    assert dict(faithful.model) == {**QUIRKS, "learning_rate": 0.08} and not clean.model
    with pytest.raises(UserError, match="not published on 'emodb'.*Use preset clean"):
        MDSCMSystem().preset("faithful", "emodb")
    with pytest.raises(UserError, match="no preset 'best'"):
        MDSCMSystem().preset("best", "iemocap")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"features": 0}, "features = 0"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"decay_epochs": [0, 5]}, "decay_epochs"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        MDSCM(4, **arguments)  # type: ignore[arg-type]
