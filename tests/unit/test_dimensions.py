"""Valence, arousal and dominance as the objective: the loss, training under a protocol, the model folder."""

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import dimension_processes
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import multiprocessing

from ser_models.errors import UserError, WorkError
from ser_models.evaluation import write_report
from ser_models.evaluation.dimensions import ccc
from ser_models.inference.model_folder import load_model
from ser_models.models import build_model
from ser_models.models.batch import Batch, Ragged
from ser_models.models.concordance import TargetScale, concordance, concordance_loss
from ser_models.models.labels import DIMENSIONS
from ser_models.models.timnet import TIMNetSystem
from ser_models.protocols import ledger
from ser_models.shards.store import find_store
from ser_models.training.cross_validation import cross_validate
from ser_models.training.data import Examples, Features
from ser_models.training.objectives import OBJECTIVES
from ser_models.training.plan import FeatureConfig, FoldConfig, ProtocolConfig, TrainConfig, make_plan


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("dimensions")
    os.environ["SER_CACHE"] = str(folder / "cache")
    return dimension_processes.write_shards(folder)


def config_of(shards: str, output: Path, **changes: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "name": "run",
        "local": True,
        "threads_per_worker": 1,
        "model": {"blocks": 2},
        "fold": FoldConfig(epochs=2, batch_size=16),
        "protocol": ProtocolConfig(only_folds=[1]),
        "objective": "dimensions",
    }
    return TrainConfig(
        system="timnet", corpus="ravdess", shards=shards, output=str(output), **(options | changes)
    )


def fold_of(run: str, fold: int = 1) -> Path:
    return Path(run) / "seed-0" / f"fold-{fold}"


def predictions(run: str, name: str = "predictions") -> dict[str, list[Any]]:
    return pq.ParquetFile(fold_of(run) / f"{name}.parquet").read().to_pydict()


# The loss


def test_the_concordance_of_a_batch_is_the_published_one() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(40, 3, generator=generator) * 4 + 1
    prediction = target * 0.7 + torch.rand(40, 3, generator=generator)
    weight = torch.ones(40)
    weight[30:] = 0
    expected = [ccc(target[:30, index], prediction[:30, index]) for index in range(3)]
    # The small number in the denominator.
    np.testing.assert_allclose(concordance(prediction, target, weight), expected, rtol=1e-6)
    assert float(concordance_loss(prediction, target, weight)) == pytest.approx(30 * (1 - np.mean(expected)))


def test_examples_without_weight_have_no_gradient() -> None:
    target, weight = torch.rand(6, 3), torch.tensor([1.0, 1, 1, 1, 0, 0])
    prediction = torch.rand(6, 3, requires_grad=True)
    concordance_loss(prediction, target, weight).backward()
    assert prediction.grad is not None
    assert prediction.grad[:4].abs().min() > 0 and not prediction.grad[4:].any()


def test_the_loss_has_the_gradient_of_its_formula() -> None:
    target, weight = torch.rand(5, 2).double(), torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0]).double()
    prediction = torch.rand(5, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda values: concordance_loss(values, target, weight), (prediction,))


@pytest.mark.parametrize("predicted", [[[2.5, 3.0]] * 4, [[1.0, 2.0], [2.0, 2.0], [3.0, 5.0], [4.0, 1.0]]])
@pytest.mark.parametrize("count", [1, 4])
def test_a_batch_of_equal_targets_has_a_finite_gradient(predicted: list[list[float]], count: int) -> None:
    prediction = torch.tensor(predicted[:count], requires_grad=True)
    loss = concordance_loss(prediction, torch.full((count, 2), 2.5), torch.ones(count))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(count, abs=1e-4)
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()


def test_outputs_are_put_on_the_scale_of_the_targets() -> None:
    scale = TargetScale(2)
    scale.fit(torch.tensor([[1.0, 10.0], [3.0, 10.0]]))
    assert scale(torch.tensor([[0.0, 0.0], [1.0, 1.0]])).tolist() == [[2.0, 10.0], [3.0, 10.0]]


def test_a_network_for_emotion_keeps_its_weights_names() -> None:
    for arguments in ({}, {"objective": "emotion"}):
        net = build_model("timnet", num_classes=7, **arguments)
        assert sum(tensor.numel() for tensor in net.state_dict().values()) == 106_992
    with pytest.raises(UserError, match="objective = 'mood': must be one of emotion, dimensions"):
        build_model("timnet", num_classes=3, objective="mood")


def test_a_padding_example_changes_nothing() -> None:
    torch.manual_seed(0)
    nets = [
        build_model("timnet", num_classes=3, blocks=2, dropout=0.0, objective="dimensions") for _ in range(2)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    values, target = torch.randn(5, 12, 39), torch.rand(5, 3) * 4 + 1
    values[4] = 0
    for net, count in zip(nets, (4, 5), strict=True):
        lengths = torch.tensor([12, 12, 12, 12, 0])[:count]
        weight = torch.tensor([1.0, 1, 1, 1, 0])[:count]
        nothing = torch.zeros(count, dtype=torch.int64)
        batch = Batch({"mfcc": Ragged(values[:count], lengths)}, target[:count], weight, nothing, nothing)
        net.start(target[:4])
        net.loss(net(batch), batch)["dimensions"].backward()
    for (name, first), second in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(first.grad, second.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.integration
def test_two_workers_make_the_step_of_one_on_the_joined_batch(shards: str, tmp_path: Path) -> None:
    """Plain descent: weights after the steps differ only if gradients or moments do."""
    for world in (1, 2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            (tmp_path / "port").write_text(str(probe.getsockname()[1]))
        multiprocessing.spawn(
            dimension_processes.worker, (world, shards, str(tmp_path)), nprocs=world, join=True
        )
    alone = torch.load(tmp_path / "world-1-rank-0.pt")
    first, second = (torch.load(tmp_path / f"world-2-rank-{rank}.pt") for rank in range(2))
    start = dimension_processes.net_without_dropout().state_dict()
    for name, tensor in alone["state"].items():
        moved = (tensor - start[name]).abs().max()
        # A bias before a normalisation has no gradient.
        assert moved > 1e-6 or "convolutions" in name, f"{name} did not move"
        # Sums in another order; a missing factor of two would be off by half of what moved.
        difference = (first["state"][name] - tensor).abs().max()
        assert difference <= 1e-3 * moved + 2e-7, f"{name}: {difference} apart after moving {moved}"
        torch.testing.assert_close(second["state"][name], first["state"][name], rtol=0, atol=0, msg=name)
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-5)


# Training


def test_a_short_training_learns_arousal_of_speakers_it_has_not_heard(shards: str, tmp_path: Path) -> None:
    config = config_of(
        shards,
        tmp_path,
        fold=FoldConfig(epochs=25, batch_size=16),
        model={"blocks": 3, "learning_rate": 0.01},
    )
    fold = fold_of(cross_validate(config))
    content = json.loads((fold / "fold.json").read_text())
    history = content["history"]
    assert max(entry["validation_ccc_arousal"] for entry in history) > 0.3
    best = max(history, key=lambda entry: (entry["validation_ccc"], -entry["validation_loss"]))
    assert content["selected_epoch"] == best["epoch"]
    mean = np.mean([best[f"validation_ccc_{name}"] for name in DIMENSIONS])
    assert best["validation_ccc"] == pytest.approx(mean)
    # What was selected is what was kept: the validation part of the predictions has the same concordance.
    table = pq.ParquetFile(fold / "predictions.parquet").read().to_pydict()
    kept = [index for index, part in enumerate(table["part"]) if part == "validation"]
    target, predicted = (np.array(table[name])[kept] for name in ("target", "predicted"))
    assert ccc(target[:, 1], predicted[:, 1]) == pytest.approx(best["validation_ccc_arousal"], abs=1e-5)


def test_a_run_says_its_objective_and_keeps_the_scale(shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(shards, tmp_path, name=None))
    assert Path(run).name == "timnet-ravdess-clean-dimensions"
    fold = fold_of(run)
    content = json.loads((fold / "fold.json").read_text())
    assert "train_class_counts" not in content
    facts = content["train_dimensions"]["arousal"]
    assert 1 <= facts["lowest"] < facts["mean"] < facts["highest"] <= 5
    table = pq.ParquetFile(fold / "predictions.parquet").read()
    metadata = table.schema.metadata
    assert json.loads(metadata[b"classes"]) == list(DIMENSIONS)
    assert json.loads(metadata[b"protocol"])["objective"] == "dimensions"
    assert not {"label", "prediction", "probabilities"} & set(table.column_names)
    assert {len(row) for name in ("target", "predicted") for row in table[name].to_pylist()} == {3}
    card = (fold / "model" / "README.md").read_text()
    assert "Objective: dimensions" in card and "valence, arousal, dominance" in card and "SYNTHETIC" in card
    assert f"arousal {facts['lowest']:g} to {facts['highest']:g}, mean {facts['mean']:.2f}" in card
    leaks = json.loads((Path(run) / "leaks.json").read_text())
    assert "objective: emotion → dimensions" in leaks["deviations"]
    assert not [note for note in leaks["notes"] if "class" in note or " in the test part" in note]
    (note,) = [note for note in leaks["notes"] if note.startswith("objective dimensions")]
    assert "the 79 of 80 utterances" in note and "label set ravdess8 is not used" in note


def test_a_run_is_reported_beside_the_mean_of_its_training_part(shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(shards, tmp_path))
    assert "valence, arousal, dominance" in Path(write_report(run)).read_text()
    summary = json.loads((Path(run) / "metrics.json").read_text())
    facts = json.loads((fold_of(run) / "fold.json").read_text())["train_dimensions"]["valence"]
    table = predictions(run)
    true = [row[0] for row, part in zip(table["target"], table["part"], strict=True) if part == "test"]
    expected = np.sqrt(np.mean((np.array(true) - facts["mean"]) ** 2))
    assert summary["baselines"]["mean"]["valence"]["rmse"] == pytest.approx(expected)
    assert summary["pooled"]["scores"]["valence"]["ccc"]["mean"] is not None


def test_the_card_of_an_emotion_model_names_its_classes(shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(shards, tmp_path, objective="emotion"))
    card = (fold_of(run) / "model" / "README.md").read_text()
    assert "- Objective: emotion\n- Classes, in order: angry" in card


def test_a_model_folder_gives_the_values_of_its_run(shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(shards, tmp_path))
    saved = load_model(str(fold_of(run) / "model"))
    assert saved.classes == DIMENSIONS and saved.arguments["objective"] == "dimensions"
    store = find_store(shards, "ravdess", "mfcc")
    manifest = store.manifest()
    features = Features({"mfcc": store.open()}, manifest["utterance_id"].to_pylist())
    table = predictions(run)
    wanted = {name: row for name, row in zip(table["utterance_id"], table["predicted"], strict=True)}
    examples = Examples.from_table(TIMNetSystem().dimension_examples(manifest))
    (portion,) = features.scoring_portions(
        examples.take(np.arange(8)), saved.fitted, batch_size=8, rank=0, world=1
    )
    with torch.no_grad():
        values = saved.net(portion.batch)["logits"]
    compared = 0
    for pick, row in zip(portion.picks, values.tolist(), strict=True):
        name = features.ids[examples.row[pick]]
        if name in wanted:
            assert row == pytest.approx(wanted[name], abs=1e-4)
            compared += 1
    assert compared


def test_the_same_seed_gives_the_same_values_and_a_killed_run_goes_on(
    shards: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_models.training import fold as loop

    config = config_of(shards, tmp_path, name="killed", fold=FoldConfig(epochs=3, batch_size=16))
    whole = cross_validate(replace(config, name="whole"))
    saved = loop.save_state

    def save_then_die(folder: str, state: dict[str, Any]) -> None:
        saved(folder, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_state", save_then_die)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(config)
    monkeypatch.setattr(loop, "save_state", saved)
    killed = cross_validate(replace(config, resume=True))
    assert predictions(killed) == predictions(whole)
    weights = [(fold_of(run) / "model" / "model.safetensors").read_bytes() for run in (whole, killed)]
    assert weights[0] == weights[1]


def test_refit_takes_the_scale_of_training_and_validation(shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(shards, tmp_path, refit=True))
    selected, again = (
        load_model(str(fold_of(run) / folder / "model")).net.state_dict()["scale.centre"]
        for folder in ("", "refit")
    )
    assert not torch.equal(selected, again)
    assert set(predictions(run, "predictions-refit")["part"]) == {"test"}
    assert len(ledger.read(run)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "svm", "model": {}}, "'svm' cannot be trained for dimensions; systems that can: timnet"),
        ({"model": {"objective": "dimensions"}}, "give --objective"),
        (
            {"fold": FoldConfig(patience=3, selection="last")},
            "fold.patience waits for a better validation CCC",
        ),
        ({"protocol": ProtocolConfig(scenario="improvised")}, "arousal and dominance in improvised speech"),
    ],
)
def test_what_cannot_be_run_is_said_before_training(
    changes: dict[str, Any], message: str, shards: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        cross_validate(replace(config_of(shards, tmp_path), **changes))
    assert not (tmp_path / "run").exists()


def test_a_corpus_without_dimensions_is_refused(synthetic_shards: str, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="no utterance of corpus 'ravdess' has valence, arousal and dominance"
    ):
        cross_validate(config_of(synthetic_shards, tmp_path))


def test_schemes_that_divide_by_class_divide_by_utterance(shards: str, tmp_path: Path) -> None:
    """TIM-Net's random folds: every utterance with dimensions is tested once, whatever the order of the shards."""
    store = find_store(shards, "ravdess", "mfcc")
    config = config_of(
        shards, tmp_path, preset="faithful", features=FeatureConfig(views="mfcc"), protocol=ProtocolConfig()
    )
    plan, _, _ = make_plan(config, str(tmp_path / "run"), {"mfcc": store})
    tested = np.concatenate([fold.test for fold in plan.folds])
    assert sorted(tested.tolist()) == sorted(plan.examples.row.tolist()) and len(tested) == 79
    assert "objective: emotion → dimensions" in plan.deviations


def test_segments_are_averaged_plainly() -> None:
    scores = np.array([[2.0, 0.0], [4.0, 1.0], [5.0, 3.0]], dtype=np.float32)
    for aggregate in ("mean_softmax", "mean_log_softmax", "mean_logit"):
        utterances, values = OBJECTIVES["dimensions"].predict(scores, np.array([4, 4, 9]), aggregate)  # type: ignore[arg-type]
        assert utterances.tolist() == [4, 9] and values.tolist() == [[3.0, 0.5], [5.0, 3.0]]


def test_predictions_that_are_no_numbers_fail_the_work(shards: str, tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="not numbers|training loss is"):
        cross_validate(config_of(shards, tmp_path, model={"blocks": 2, "learning_rate": 1e30}))
