"""From configuration to plan, and what a run refuses, in this process on a synthetic corpus."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from ser_models.errors import UserError, WorkError
from ser_models.evaluation import write_report
from ser_models.models import get_system
from ser_models.protocols import ledger
from ser_models.training.cross_validation import cross_validate
from ser_models.training.objectives import OBJECTIVES, per_utterance
from ser_models.training.plan import FeatureConfig, FoldConfig, ProtocolConfig, TrainConfig, resolve_preset


def config_of(shards: str, output: Path, **changes: Any) -> TrainConfig:
    options: dict[str, Any] = {
        "system": "timnet",
        "corpus": "ravdess",
        "output": str(output),
        "name": "run",
        "local": True,
        "threads_per_worker": 1,
        "model": {"blocks": 2},
        "fold": FoldConfig(epochs=2),
        "protocol": ProtocolConfig(only_folds=[1]),
    }
    return TrainConfig(**(options | {"shards": shards} | changes))


def predictions(run: str, fold: int = 1, seed: int = 0, name: str = "predictions") -> dict[str, list[Any]]:
    path = Path(run) / f"seed-{seed}" / f"fold-{fold}" / f"{name}.parquet"
    return pq.ParquetFile(path).read().to_pydict()


def test_a_run_directory_holds_everything_its_result_depends_on(
    synthetic_shards: str, tmp_path: Path
) -> None:
    run = Path(cross_validate(config_of(synthetic_shards, tmp_path)))
    fold = run / "seed-0" / "fold-1"
    for path in (
        run / "config.yaml",
        run / "environment.json",
        run / "leaks.json",
        run / "folds.parquet",
        fold / "model" / "model.safetensors",
        fold / "model" / "preprocessing.safetensors",
        fold / "model" / "config.json",
        fold / "predictions.parquet",
    ):
        assert path.stat().st_size > 0
    environment = json.loads((run / "environment.json").read_text())
    assert list(environment["fingerprints"]) == ["mfcc"] and environment["versions"]["torch"]
    content = json.loads((fold / "fold.json").read_text())
    assert content["counts"] == {"train": 32, "validation": 32, "test": 16}
    assert content["test_speakers"] == ["02"] and len(content["history"]) == 2
    assert sum(content["train_class_counts"].values()) == 32
    assert [(entry["fold"], entry["rows"]) for entry in ledger.read(str(run))] == [(1, 16)]
    card = (fold / "model" / "README.md").read_text()
    assert "SYNTHETIC" in card and "Leaks that the protocol names: none" in card
    assert not (fold / "state" / "state.pt").exists()


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    synthetic_shards: str, tmp_path: Path
) -> None:
    first = cross_validate(config_of(synthetic_shards, tmp_path, name="a"))
    again = cross_validate(config_of(synthetic_shards, tmp_path, name="b"))
    both = cross_validate(config_of(synthetic_shards, tmp_path, name="c", seeds=2))
    assert predictions(first) == predictions(again) == predictions(both)
    assert predictions(both, seed=1)["probabilities"] != predictions(both)["probabilities"]


def test_refit_trains_on_validation_too_and_reports_both(synthetic_shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(synthetic_shards, tmp_path, refit=True))
    fold = Path(run) / "seed-0" / "fold-1"
    content = json.loads((fold / "fold.json").read_text())
    assert content["refit"] == {"epochs": content["selected_epoch"]}
    selected, refitted = predictions(run), predictions(run, name="predictions-refit")
    assert set(refitted["part"]) == {"test"}
    assert set(refitted["utterance_id"]) == {
        name for name, part in zip(selected["utterance_id"], selected["part"], strict=True) if part == "test"
    }
    about = json.loads((fold / "refit" / "model" / "config.json").read_text())["about"]
    assert about["counts"]["train"] == 64 and len(ledger.read(run)) == 2


def test_the_faithful_preset_names_its_leaks(synthetic_shards: str, tmp_path: Path) -> None:
    protocol = ProtocolConfig(only_folds=[0])
    features = FeatureConfig(views="mfcc[samples=30000]")
    run = cross_validate(
        config_of(synthetic_shards, tmp_path, preset="faithful", protocol=protocol, features=features)
    )
    leaks = json.loads((Path(run) / "leaks.json").read_text())
    (finding,) = leaks["findings"]
    assert finding["leak"] == "speaker" and finding["allowed"] and finding["folds"] == 10
    assert "epochs: 500 → 2" in leaks["deviations"]
    assert "1 of 10 folds were run" in leaks["deviations"]
    about = json.loads((Path(run) / "seed-0" / "fold-0" / "model" / "config.json").read_text())["about"]
    assert "speaker" in about["leaks"]
    assert "the parts of a fold share speakers" in Path(write_report(run, allow_incomplete=True)).read_text()


def test_a_leak_that_is_not_named_stops_the_run_before_training(
    synthetic_shards: str, tmp_path: Path
) -> None:
    leaky = ProtocolConfig(folds="random-kfold", n_folds=4, validation="none")
    config = config_of(
        synthetic_shards, tmp_path, protocol=leaky, fold=FoldConfig(epochs=2, selection="last")
    )
    with pytest.raises(UserError, match="leak check stops this run: speaker: .*NOT named"):
        cross_validate(config)
    assert not (tmp_path / "run").exists()
    cross_validate(replace(config, protocol=replace(leaky, leaks=["speaker"], only_folds=[0])))


def test_validation_on_the_test_part_must_be_named(synthetic_shards: str, tmp_path: Path) -> None:
    config = config_of(synthetic_shards, tmp_path, protocol=ProtocolConfig(validation="test"))
    with pytest.raises(UserError, match="selection-on-test"):
        cross_validate(config)
    named = ProtocolConfig(validation="test", leaks=["selection-on-test"], only_folds=[0])
    run = cross_validate(config_of(synthetic_shards, tmp_path, protocol=named))
    # Two epochs looked at the test part, then it was scored.
    assert [entry["why"] for entry in ledger.read(run)] == ["scored", "selected on", "selected on"]


def test_an_existing_name_asks_for_resume_and_resume_for_the_same_configuration(
    synthetic_shards: str, tmp_path: Path
) -> None:
    config = config_of(synthetic_shards, tmp_path)
    with pytest.raises(UserError, match="nothing to resume"):
        cross_validate(replace(config, resume=True))
    run = cross_validate(config)
    before = predictions(run)
    with pytest.raises(UserError, match="a run named 'run' exists .*add --resume"):
        cross_validate(config)
    with pytest.raises(UserError, match="another configuration .*blocks.*give another --name"):
        cross_validate(replace(config, resume=True, model={"blocks": 3}))
    written = (Path(run) / "seed-0" / "fold-1" / "fold.json").stat().st_mtime_ns
    cross_validate(replace(config, resume=True))
    assert predictions(run) == before
    assert (Path(run) / "seed-0" / "fold-1" / "fold.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"system": "timnett"}, "unknown system 'timnett'; available: timnet"),
        ({"corpus": "iemocap"}, "preprocess.py --corpus iemocap"),
        (
            {"protocol": ProtocolConfig(name="savee-speaker")},
            "savee-speaker divides savee, not ravdess; others are listed by",
        ),
        (
            {"protocol": ProtocolConfig(name="ravdess-to-savee")},
            "reads two corpora; training reads one so far",
        ),
        ({"protocol": ProtocolConfig(validation="part")}, "gives no validation part of its own"),
        ({"corpus": "tess", "preset": "faithful"}, "not published on 'tess'"),
        ({"model": {"hops": 3}}, "unexpected keyword argument 'hops'"),
        ({"features": FeatureConfig(views="mfcc[samples=7]")}, r"mfcc\[samples=7\]"),
        ({"features": FeatureConfig(views="mel")}, "mel"),
        ({"protocol": ProtocolConfig(only_folds=[5])}, "allowed are 0 to 4"),
        ({"protocol": ProtocolConfig(validation_speakers=4)}, "use --protocol.validation_speakers 3"),
        ({"protocol": ProtocolConfig(folds="leave-one-session-out")}, "80 utterances have no session"),
        ({"protocol": ProtocolConfig(validation="none")}, "needs a validation part"),
        ({"shards": "/nowhere"}, "preprocess.py"),
        ({"model": {"dropout": 2.0}}, "dropout = 2.0: must be at least 0 and below 1"),
        ({"model": {"kernel": 0}}, "kernel = 0: must be at least 1"),
        ({"model": {"learning_rate": -1.0}}, "learning_rate = -1.0: must be a positive number"),
        ({"protocol": ProtocolConfig(n_folds=3)}, "n_folds has no meaning for leave-one-speaker-out"),
        (
            {"fold": FoldConfig(patience=3, selection="last")},
            "fold.patience waits for a better validation UAR",
        ),
        (
            {"system": "svm", "refit": True, "fold": FoldConfig()},
            "refit trains again .* a system trained in epochs",
        ),
        (
            {"refit": True, "protocol": ProtocolConfig(validation="test", leaks=["selection-on-test"])},
            "refit .* needs a validation part of its own",
        ),
        ({"output": "/proc/nowhere"}, "cannot be written"),
    ],
)
def test_what_cannot_be_run_is_said_before_training(
    changes: dict[str, Any], message: str, synthetic_shards: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        cross_validate(replace(config_of(synthetic_shards, tmp_path), **changes))
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_fails_the_work(synthetic_shards: str, tmp_path: Path) -> None:
    config = config_of(synthetic_shards, tmp_path, model={"blocks": 2, "learning_rate": 1e30})
    with pytest.raises(WorkError, match="training loss is"):
        cross_validate(config)


def test_patience_stops_and_the_best_epoch_is_kept(synthetic_shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(synthetic_shards, tmp_path, fold=FoldConfig(epochs=40, patience=2)))
    content = json.loads((Path(run) / "seed-0" / "fold-1" / "fold.json").read_text())
    history = content["history"]
    best = max(history, key=lambda entry: (entry["validation_uar"], -entry["validation_loss"]))
    assert content["selected_epoch"] == best["epoch"] == len(history) - 2 < 38


def test_the_svm_runs_under_the_same_protocol(synthetic_shards: str, tmp_path: Path) -> None:
    run = cross_validate(config_of(synthetic_shards, tmp_path, system="svm", model={}, fold=FoldConfig()))
    network = cross_validate(config_of(synthetic_shards, tmp_path, name="net"))
    assert predictions(run)["utterance_id"] == predictions(network)["utterance_id"]
    assert max(predictions(run)["prediction"]) > 0


def test_the_svm_fitted_on_a_stream_is_the_svm_fitted_in_memory(
    synthetic_shards: str, tmp_path: Path
) -> None:
    runs = [
        cross_validate(
            config_of(
                synthetic_shards,
                tmp_path,
                name=store,
                system="svm",
                model={},
                fold=FoldConfig(batch_size=5),
                features=FeatureConfig(store=store),  # type: ignore[arg-type]
            )
        )
        for store in ("memory", "stream")
    ]
    first, second = (predictions(run) for run in runs)
    assert first["prediction"] == second["prediction"]
    np.testing.assert_allclose(first["probabilities"], second["probabilities"], atol=1e-3)


def test_a_protocol_that_was_changed_is_not_described_by_the_presets_words() -> None:
    protocol = ProtocolConfig(folds="leave-one-speaker-out", leaks=["parent"], validation_speakers=4)
    config = config_of("s", Path("o"), preset="faithful", protocol=protocol)
    resolved = resolve_preset(get_system("timnet"), replace(config, model={}))
    description = resolved.protocol.description
    assert "random" not in description and "leave-one-speaker-out" in description
    assert "leak named by the user: parent" in resolved.deviations
    assert "scheme: random-kfold → leave-one-speaker-out" in resolved.deviations


def test_overrides_are_put_into_words() -> None:
    config = config_of("s", Path("o"), fold=FoldConfig(epochs=7, batch_size=64))
    resolved = resolve_preset(get_system("timnet"), config)
    assert resolved.preset.epochs == 7
    assert resolved.deviations == ("epochs: 100 → 7", "model: {'blocks': 8} → {'blocks': 2}")


def test_segments_are_joined_as_the_system_says() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    target = np.eye(2, dtype=np.float32)[[0, 0, 1]]
    rows = np.array([4, 4, 9])
    predict = OBJECTIVES["emotion"].predict
    utterances, probabilities = predict(logits.numpy(), rows, "mean_softmax")
    assert utterances.tolist() == [4, 9] and per_utterance(target, rows).tolist() == [[1, 0], [0, 1]]
    expected = logits[:2].softmax(1).mean(0)
    np.testing.assert_allclose(probabilities[0], expected, atol=1e-6)
    logit_means = predict(logits.numpy(), rows, "mean_logit")[1]
    np.testing.assert_allclose(logit_means[0], logits[:2].mean(0).softmax(0), atol=1e-6)
    log_means = predict(logits.numpy(), rows, "mean_log_softmax")[1]
    np.testing.assert_allclose(log_means[0], logits[:2].log_softmax(1).mean(0).softmax(0), atol=1e-6)


def test_augmentation_alters_training_and_is_said(synthetic_shards: str, tmp_path: Path) -> None:
    plain = cross_validate(config_of(synthetic_shards, tmp_path, name="plain"))
    features = FeatureConfig(augment="spec_augment[time_masks=1],frequency_warp")
    runs = [
        cross_validate(config_of(synthetic_shards, tmp_path, name=name, features=features))
        for name in ("a", "b")
    ]
    assert predictions(runs[0]) == predictions(runs[1]) != predictions(plain)
    leaks = json.loads((Path(runs[0]) / "leaks.json").read_text())
    assert "augment:  → spec_augment[time_masks=1],frequency_warp" in leaks["deviations"]


@pytest.mark.parametrize(
    ("system", "augment", "message"),
    [
        ("timnet", "spec_augmentation", "spec_augmentation"),
        ("timnet", "noise", "'noise' changes waveforms, but the system reads mfcc"),
        ("timnet", "vtlp", "is of the kind 'copy'"),
        ("svm", "spec_augment", "svm is fitted once"),
    ],
)
def test_an_augmentation_without_effect_is_refused(
    system: str, augment: str, message: str, synthetic_shards: str, tmp_path: Path
) -> None:
    options = {"system": system, "features": FeatureConfig(augment=augment)}
    config = config_of(synthetic_shards, tmp_path, **options | ({"model": {}} if system == "svm" else {}))
    with pytest.raises(UserError, match=message):
        cross_validate(config)


def test_a_clean_preset_on_a_published_protocol_is_not_called_clean(
    synthetic_shards: str, tmp_path: Path
) -> None:
    protocol = ProtocolConfig(name="timnet-ravdess-published", only_folds=[0])
    run = cross_validate(config_of(synthetic_shards, tmp_path, protocol=protocol))
    about = json.loads((Path(run) / "seed-0" / "fold-0" / "model" / "config.json").read_text())["about"]
    assert about["preset"] == "clean with leaks" and "speaker" in about["leaks"]
