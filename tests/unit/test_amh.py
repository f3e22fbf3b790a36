"""AMH, MDRE and MHA: the equations against NumPy, masks, absent modalities, parameter counts, presets, training."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from ser_models.errors import UserError
from ser_models.features.transforms import Vocabulary
from ser_models.features.views import parse_specs
from ser_models.models.amh import AMH, MDRE, MHA, AMHSystem, MDRESystem, MHASystem, attend, last_state
from ser_models.models.batch import Batch, Ragged
from ser_models.models.recurrent import CELLS, OriginalGRU, TorchGRU, build_gru
from ser_models.models.system import Net
from ser_models.protocols.registry import get_protocol

SIZES: dict[str, int | None] = {"audio": 5, "text": None, "video": 6}
WORDS = 11
SMALL = {"audio_units": 4, "text_units": 3, "video_units": 2, "embedding": 4, "vocabulary": WORDS}
EVERYTHING = "audio+text+video"
PAIRS = ("audio+text", "text+video", "audio+video")


def small(kind: type[AMH] = AMH, modalities: str = EVERYTHING, classes: int = 3, **arguments: object) -> AMH:
    torch.manual_seed(0)
    features = [SIZES[name] for name in modalities.split("+")]
    return kind(classes, modalities=modalities, features=features, **{**SMALL, **arguments})  # type: ignore[arg-type]


def batch_of(
    lengths: Sequence[Sequence[int]],
    modalities: str = EVERYTHING,
    pad: int = 0,
    classes: int = 3,
    seed: int = 0,
) -> Batch:
    """A row of lengths per example, a length per modality."""
    generator = torch.Generator().manual_seed(seed)
    inputs: dict[str, Ragged | torch.Tensor] = {}
    for position, name in enumerate(modalities.split("+")):
        own = torch.tensor([row[position] for row in lengths])
        time = max(1, int(own.max())) + pad
        size = SIZES[name]
        shape = (len(own), time) if size is None else (len(own), time, size)
        values = torch.zeros(shape, dtype=torch.int64 if size is None else torch.float32)
        for row, length in enumerate(own.tolist()):
            values[row, :length] = (
                torch.randint(1, WORDS, (length,), generator=generator)
                if size is None
                else torch.randn(length, size, generator=generator)
            )
        inputs[name] = Ragged(values, own)
    count = len(lengths)
    return Batch(
        inputs=inputs,
        target=torch.eye(classes)[torch.arange(count) % classes],
        weight=torch.ones(count),
        utterance=torch.arange(count),
        domain=torch.zeros(count, dtype=torch.int64),
    )


def row_of(batch: Batch, row: int) -> Batch:
    """One example alone, without its padding."""
    inputs: dict[str, Ragged | torch.Tensor] = {}
    for name, value in batch.inputs.items():
        assert isinstance(value, Ragged)
        length = value.lengths[row : row + 1]
        inputs[name] = Ragged(value.values[row : row + 1, : max(1, int(length))], length)
    one = slice(row, row + 1)
    return Batch(inputs, batch.target[one], batch.weight[one], batch.utterance[one], batch.domain[one])


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def original_gru(state: dict[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """[time, features] → [time, units], by Cho et al.'s equations."""
    matrices = [np.split(state[name], 3) for name in ("input_weight", "recurrent_weight", "bias")]
    (w_r, w_u, w_c), (u_r, u_u, u_c), (b_r, b_u, b_c) = matrices
    hidden, states = np.zeros(len(b_r)), []
    for x in values:
        r, u = sigmoid(w_r @ x + u_r @ hidden + b_r), sigmoid(w_u @ x + u_u @ hidden + b_u)
        hidden = u * hidden + (1 - u) * np.tanh(w_c @ x + u_c @ (r * hidden) + b_c)
        states.append(hidden)
    return np.stack(states)


def torch_gru(state: dict[str, np.ndarray], values: np.ndarray) -> np.ndarray:
    """The same with the reset gate after the recurrent product."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    matrices = [np.split(state[f"layer.{name}"], 3) for name in names]
    (w_r, w_u, w_c), (u_r, u_u, u_c), (b_r, b_u, b_c), (d_r, d_u, d_c) = matrices
    hidden, states = np.zeros(len(b_r)), []
    for x in values:
        r, u = sigmoid(w_r @ x + u_r @ hidden + b_r + d_r), sigmoid(w_u @ x + u_u @ hidden + b_u + d_u)
        hidden = u * hidden + (1 - u) * np.tanh(w_c @ x + b_c + r * (u_c @ hidden + d_c))
        states.append(hidden)
    return np.stack(states)


def scattered(net: torch.nn.Module) -> torch.nn.Module:
    """No weight is zero or one, so that an omission shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.rand(parameter.shape, generator=generator) * 2 - 1)
    return net


def arrays(net: torch.nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_computes_its_equations(cell: str) -> None:
    gru = scattered(build_gru(cell, 5, 4))  # type: ignore[arg-type]
    values = torch.randn(3, 9, 5)
    reference = original_gru if cell == "original" else torch_gru
    expected = np.stack([reference(arrays(gru), row.double().numpy()) for row in values])
    with torch.no_grad():
        np.testing.assert_allclose(gru(values).numpy(), expected, atol=1e-6)  # float32


def test_the_cells_differ_only_in_where_the_reset_gate_stands() -> None:
    original, other = OriginalGRU(5, 4), TorchGRU(5, 4)
    with torch.no_grad():
        other.layer.weight_ih_l0.copy_(original.input_weight)
        other.layer.weight_hh_l0.copy_(original.recurrent_weight)
    values = torch.randn(2, 6, 5)
    assert not torch.allclose(original(values), other(values), atol=1e-3)
    with torch.no_grad():
        for weights in (original.recurrent_weight, other.layer.weight_hh_l0):
            weights[8:] = 0  # of the candidate: nothing is left to reset
    torch.testing.assert_close(original(values), other(values))


def test_the_original_cell_has_the_gradient_of_its_equations() -> None:
    gru = OriginalGRU(3, 2).double()
    assert torch.autograd.gradcheck(gru, (torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True),))


@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_begins_with_orthogonal_kernels_and_open_gates(cell: str) -> None:
    state = arrays(build_gru(cell, 7, 4))  # type: ignore[arg-type]
    prefix = "layer." if cell == "torch" else ""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0") if cell == "torch" else ()
    inputs, recurrent, bias = (
        state[f"{prefix}{name}"] for name in names or ("input_weight", "recurrent_weight", "bias")
    )
    kernel = np.concatenate([inputs, recurrent], axis=1)
    for part in (kernel[:8], kernel[8:]):
        np.testing.assert_allclose(part @ part.T, np.eye(len(part)), atol=1e-6)
    assert bias.tolist() == [1.0] * 8 + [0.0] * 4


@pytest.mark.parametrize("hops", range(10))
def test_hops_compute_the_equations_of_the_paper(hops: int) -> None:
    net = scattered(small(hops=hops, cell="original")).eval()
    batch = batch_of([(8, 5, 4)])
    state = arrays(net)
    states = []
    for position, value in enumerate(batch.inputs.values()):
        assert isinstance(value, Ragged)
        values = value.values[0].numpy()
        if position == 1:
            values = state["encoders.1.embedding.weight"][values]
        prefix = f"encoders.{position}.gru."
        gru = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
        states.append(original_gru(gru, values))
    audio, text, video = (each[-1] for each in states)
    for hop in range(hops):
        weight, bias = state[f"queries.{hop}.weight"], state[f"queries.{hop}.bias"]
        context = ((audio, text), (text, video), (audio, video))[hop % 3]
        asked = states[(2, 0, 1)[hop % 3]]
        scores = asked @ (weight @ np.concatenate(context) + bias)
        attention = np.exp(scores - scores.max())
        answer = attention / attention.sum() @ asked
        if hop % 3 == 0:
            video = answer
        elif hop % 3 == 1:
            audio = answer
        else:
            text = answer
    joined = np.concatenate([audio, text, video])
    expected = state["classifier.weight"] @ joined + state["classifier.bias"]
    with torch.no_grad():
        np.testing.assert_allclose(net(batch)["logits"][0].numpy(), expected, rtol=1e-4, atol=1e-5)  # float32


@pytest.mark.parametrize("modalities", PAIRS)
def test_mha_asks_the_second_of_two_modalities_first(modalities: str) -> None:
    net = scattered(small(MHA, modalities)).eval()
    batch = batch_of([(6, 4)], modalities)
    with torch.no_grad():
        states = [encoder(value) for encoder, value in zip(net.encoders, batch.inputs.values(), strict=True)]
        first, second = (last_state(each) for each in states)
        second = attend(net.queries[0](first), states[1])  # type: ignore[operator]
        first = attend(net.queries[1](second), states[0])  # type: ignore[operator]
        expected = net.classifier(torch.cat([first, second], 1))
        torch.testing.assert_close(net(batch)["logits"], expected)


@pytest.mark.parametrize("modalities", [*PAIRS, EVERYTHING])
def test_mdre_classifies_the_last_states(modalities: str) -> None:
    net = scattered(small(MDRE, modalities)).eval()
    batch = batch_of([(6, 4, 3)[: modalities.count("+") + 1]], modalities)
    with torch.no_grad():
        states = [
            encoder(value).values[:, -1]
            for encoder, value in zip(net.encoders, batch.inputs.values(), strict=True)
        ]
        torch.testing.assert_close(net(batch)["logits"], net.classifier(torch.cat(states, 1)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("kind", [AMH, MDRE, MHA])
def test_scores_do_not_depend_on_padding_or_on_the_rest_of_the_batch(kind: type[AMH], cell: str) -> None:
    net = scattered(small(kind, EVERYTHING, cell=cell)).eval()
    lengths = [(9, 5, 4), (3, 6, 1), (7, 0, 2), (0, 3, 0), (5, 1, 0)]
    batch = batch_of(lengths, pad=4)
    with torch.no_grad():
        together = net(batch)["logits"]
        for row in range(len(lengths)):
            alone = net(row_of(batch, row))["logits"]
            torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-5)


def test_an_absent_modality_contributes_zeros() -> None:
    net = scattered(small(hops=3)).eval()
    batch = batch_of([(5, 0, 4)])
    with torch.no_grad():
        states = [encoder(value) for encoder, value in zip(net.encoders, batch.inputs.values(), strict=True)]
        assert not last_state(states[1]).any()
        assert not attend(torch.randn(1, 3), states[1]).any()
        audio, text = last_state(states[0]), torch.zeros(1, 3)
        video = attend(net.queries[0](torch.cat([audio, text], 1)), states[2])  # type: ignore[operator]
        audio = attend(net.queries[1](torch.cat([text, video], 1)), states[0])  # type: ignore[operator]
        torch.testing.assert_close(net(batch)["logits"], net.classifier(torch.cat([audio, text, video], 1)))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("hops", [0, 1, 3, 7])
def test_gradients_are_finite_whatever_is_absent_and_reach_every_parameter(hops: int, cell: str) -> None:
    net = small(hops=hops, cell=cell)
    batch = batch_of([(9, 5, 4), (0, 5, 4), (9, 0, 4), (9, 5, 0), (0, 0, 0)])
    outputs = net(batch)
    assert outputs["logits"].shape == (5, 3)
    assert torch.isfinite(outputs["logits"]).all()
    net.loss(outputs, batch)["emotion"].backward()  # type: ignore[no-untyped-call]
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize(("cell", "count"), [("original", 2_874_155), ("torch", 2_875_739)])
def test_amh_has_the_published_number_of_parameters(cell: str, count: int) -> None:
    """Per GRU 3 · units · (features + units) weights and 3 · units biases, which torch has twice."""
    net = AMH(7, cell=cell)  # type: ignore[arg-type]
    grus = 600 * (120 + 200) + 600 * (300 + 200) + 384 * (2048 + 128)
    biases = (600 + 600 + 384) * (2 if cell == "torch" else 1)
    hops = 3 * (400 * 128 + 128) + 4 * (328 * 200 + 200)
    expected = grus + biases + 3747 * 300 + hops + 528 * 7 + 7
    assert sum(parameter.numel() for parameter in net.parameters()) == expected == count


@pytest.mark.parametrize(
    ("net", "count"),
    [
        (lambda: MDRE(7, cell="original"), 2_874_155 - 3 * (400 * 128 + 128) - 4 * (328 * 200 + 200)),
        (
            lambda: MHA(7, cell="original"),
            600 * 320 + 600 + 600 * 500 + 600 + 3747 * 300 + 2 * (200 * 200 + 200) + 400 * 7 + 7,
        ),
    ],
)
def test_the_baselines_have_amhs_encoders(net: type[Net], count: int) -> None:
    assert sum(parameter.numel() for parameter in net().parameters()) == count


def test_only_the_published_lengths_are_read() -> None:
    net = small().eval()
    batch = batch_of([(760, 130, 27)])
    shorter = {
        name: Ragged(value.values[:, :longest], torch.tensor([longest]))
        for (name, value), longest in zip(batch.inputs.items(), (750, 128, 25), strict=True)
        if isinstance(value, Ragged)
    }
    whole = net(batch)["logits"]
    batch.inputs.update(shorter)
    torch.testing.assert_close(whole, net(batch)["logits"])


def test_dropout_takes_the_published_share_of_each_input() -> None:
    net = small(text_units=50)
    ones = Ragged(torch.ones(200, 30, 5), torch.full((200,), 30))
    seen: list[torch.Tensor] = []
    encoder = net.encoders[0]
    encoder.gru.register_forward_pre_hook(lambda module, values: seen.append(values[0]))  # type: ignore[union-attr]
    encoder(ones)
    encoder.eval()(ones)
    assert abs(float((seen[0] == 0).float().mean()) - 0.3) < 0.01  # 30,000 draws: sd 0.003
    assert torch.equal(seen[1], ones.values)
    assert [each.dropout for each in net.encoders] == [0.3, 0.7, 0.3]


def test_modality_dropout_drops_whole_modalities_but_never_all_of_an_example() -> None:
    net = small(modality_dropout=0.8)
    states = [Ragged(torch.ones(2000, 2, 1), torch.full((2000,), 2)) for _ in range(3)]
    lengths = torch.stack([each.lengths for each in net._without_some(states)], 1)
    assert lengths.unique().tolist() == [0, 2]
    assert (lengths > 0).any(1).all()
    # All three are lost in 0.8³ of the draws, and then kept: 0.2 + 0.512 of each modality remain.
    np.testing.assert_allclose((lengths > 0).float().mean(0), 0.712, atol=0.04)  # 4 sd
    batch = batch_of([(9, 5, 4), (0, 5, 4)])
    torch.testing.assert_close(net.eval()(batch)["logits"], net(batch)["logits"])


def test_modality_dropout_is_off_by_default() -> None:
    net = small(audio_dropout=0, text_dropout=0, video_dropout=0).train()
    batch = batch_of([(9, 5, 4)])
    torch.testing.assert_close(net(batch)["logits"], net(batch)["logits"])


@pytest.mark.parametrize("kind", [AMH, MDRE, MHA])
def test_training_steps_reduce_the_loss(kind: type[AMH]) -> None:
    net = small(kind, EVERYTHING)
    batch = batch_of([(6, 4, 3)] * 12)
    (step,) = AMHSystem().steps(net)
    assert (step.clip, step.clip_norm) == ("per_variable", 1.0)
    optimiser = torch.optim.Adam(step.parameters, 1e-2)
    assert step.optimiser(step.parameters).defaults["lr"] == 1e-3

    def loss() -> float:
        with torch.no_grad():
            return float(net.eval().loss(net(batch), batch)["emotion"])

    before = loss()
    for _ in range(40):
        net.train()
        optimiser.zero_grad()
        net.loss(net(batch), batch)["emotion"].backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert loss() < 0.7 * before


def test_text_may_be_vectors() -> None:
    net = AMH(3, modalities="audio+text", features=[5, 6], audio_units=4, text_units=3, hops=2).eval()
    inputs = {
        name: Ragged(torch.randn(2, 4, size), torch.tensor([4, 2])) for name, size in (("a", 5), ("t", 6))
    }
    batch = Batch({**inputs, "t": inputs["t"].map(torch.Tensor.half)}, *(torch.zeros(2),) * 4)
    assert net(batch)["logits"].shape == (2, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modalities": "audio"}, "two or three of audio, text, video"),
        ({"modalities": "audio+audio"}, "two or three"),
        ({"modalities": "audio+smell"}, "two or three"),
        ({"modalities": "audio+text", "features": [120, None, 2048]}, "read 2 views, .* gives 3"),
        ({"features": [None, 120, 2048]}, "but the view of audio has none"),
        ({"hops": -1}, "hops = -1"),
        ({"video_units": 0}, "video_units = 0"),
        ({"text_dropout": 1.0}, "text_dropout = 1.0"),
        ({"modality_dropout": -0.1}, "modality_dropout"),
        ({"cell": "lstm"}, "cell = 'lstm': must be one of original, torch"),
        ({"learning_rate": 0.0}, "learning_rate"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AMH(3, **arguments)  # type: ignore[arg-type]


def test_mdre_refuses_hops() -> None:
    with pytest.raises(ValueError, match="MDRE makes no hops"):
        MDRE(3, hops=2)


def test_the_data_decides_the_size_of_the_embedding() -> None:
    fitted = Vocabulary.fit([("a", np.array(["yes", "no", "yes"])), ("b", np.array(["maybe"]))])
    shapes: dict[str, tuple[int, ...]] = {"mfcc": (39,), "words": (), "faces": (512,)}
    system = AMHSystem()
    sizes = system.sizes(shapes, {"words": fitted})
    assert (
        sizes == {"features": [39, None, 512], "vocabulary": Vocabulary.size(fitted)}
        and sizes["vocabulary"] == 5
    )
    assert AMH(3, **sizes).encoders[1].embedding.num_embeddings == 5  # type: ignore[union-attr]
    AMH(3, **system.sizes(shapes, {}))
    assert "vocabulary" not in system.sizes({"mfcc": (39,), "faces": (512,)}, {})


@pytest.mark.parametrize("system", [AMHSystem(), MDRESystem(), MHASystem()], ids=lambda system: system.name)
@pytest.mark.parametrize("preset", ["faithful", "clean"])
def test_presets_name_views_that_fit_the_network(system: AMHSystem, preset: str) -> None:
    plan = system.preset(preset, "iemocap")
    specs = [parse_specs(view)[0] for view in plan.views]
    assert tuple(str(spec) for spec in specs) == plan.views
    shapes = {str(spec): spec.build().shape for spec in specs}
    net = system.net(7, **{**system.sizes(shapes, {}), **plan.model})  # type: ignore[call-arg]
    assert isinstance(net, AMH) and tuple(net.modalities) == system.modalities
    assert len(net.encoders[0].gru.state_dict()) == (3 if preset == "faithful" else 4)  # type: ignore[union-attr]


def test_no_word_leaks_through_the_clean_protocol_of_iemocap() -> None:
    protocol = get_protocol(AMHSystem().preset("clean", "iemocap").protocol)
    assert {"text", "sentence", "script"} <= set(protocol.disjoint) and not protocol.leaks
    assert protocol.scenario == "improvised" and protocol.label_set == "iemocap7"


def test_presets_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UserError, match="not published on 'meld'.*Use preset clean"):
        AMHSystem().preset("faithful", "meld")
    with pytest.raises(UserError, match="no preset 'best'"):
        AMHSystem().preset("best", "iemocap")
    assert AMHSystem().preset("clean", "meld").protocol == "meld-speaker"
