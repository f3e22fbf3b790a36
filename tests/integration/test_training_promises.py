"""The equality promises: the number of workers, the kind of parallelism and a kill change nothing."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
import training_processes
from torch import multiprocessing

from ser_models.inference.model_folder import load_model
from ser_models.training.cross_validation import cross_validate
from ser_models.training.data import Examples
from ser_models.training.plan import FeatureConfig, FoldConfig, ProtocolConfig, TrainConfig

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"blocks": 3}


def config_of(shards: str, output: Path, name: str, **changes: Any) -> TrainConfig:
    fold = FoldConfig(epochs=changes.pop("epochs", 3), batch_size=16)
    protocol = ProtocolConfig(only_folds=changes.pop("only_folds", [0, 1, 2]))
    options: dict[str, Any] = {"local": True, "threads_per_worker": 1, "model": MODEL} | changes
    return TrainConfig(
        system="timnet",
        corpus="ravdess",
        shards=shards,
        output=str(output),
        name=name,
        fold=fold,
        protocol=protocol,
        **options,
    )


def results(run: Path) -> dict[str, Any]:
    """Everything of a run that must be equal: predictions, weights, learning curves, without times."""
    found: dict[str, Any] = {}
    for fold in sorted(run.glob("seed-*/fold-*")):
        content = json.loads((fold / "fold.json").read_text())
        del content["seconds"]
        for entry in content["history"]:
            del entry["seconds"]
        key = f"{fold.parent.name}/{fold.name}"
        found[key] = {
            "fold": content,
            "predictions": pq.ParquetFile(fold / "predictions.parquet").read().to_pydict(),
            "weights": (fold / "model" / "model.safetensors").read_bytes(),
            "preprocessing": (fold / "model" / "preprocessing.safetensors").read_bytes(),
        }
    return found


@pytest.fixture(scope="module")
def undisturbed(synthetic_shards: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("undisturbed")
    return results(Path(cross_validate(config_of(synthetic_shards, output, "run"))))


@pytest.fixture(scope="module")
def groups(
    synthetic_shards: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, list[dict[str, Any]]]:
    """What one worker and two workers of a gloo group made of the same two steps."""
    folder = tmp_path_factory.mktemp("groups")
    for world in (1, 2):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            (folder / "port").write_text(str(probe.getsockname()[1]))
        multiprocessing.spawn(
            training_processes.worker, (world, synthetic_shards, str(folder)), nprocs=world, join=True
        )
    return {
        world: [torch.load(folder / f"world-{world}-rank-{rank}.pt") for rank in range(world)]
        for world in (1, 2)
    }


def test_one_and_two_workers_score_a_checkpoint_equally(groups: dict[int, list[dict[str, Any]]]) -> None:
    (alone,), (first, second) = groups[1], groups[2]
    assert torch.isfinite(alone["before"]).all()
    torch.testing.assert_close(first["before"], alone["before"], rtol=0, atol=1e-6)
    torch.testing.assert_close(second["before"], first["before"], rtol=0, atol=0)


def test_two_workers_make_the_step_of_one_on_the_joined_batch(
    groups: dict[int, list[dict[str, Any]]],
) -> None:
    """Plain descent: weights after the steps differ only if gradients or statistics do."""
    (alone,), (first, second) = groups[1], groups[2]
    start = training_processes.net_without_dropout().state_dict()
    for name, tensor in alone["state"].items():
        moved = (tensor - start[name]).abs().max()
        # A bias before a normalisation has no gradient.
        assert moved > 1e-6 or "convolutions" in name, f"{name} did not move"
        # Sums in another order; a missing factor of two would be off by half of what moved.
        difference = (first["state"][name] - tensor).abs().max()
        assert difference <= 1e-3 * moved + 2e-7, f"{name}: {difference} apart after moving {moved}"
        torch.testing.assert_close(second["state"][name], first["state"][name], rtol=0, atol=0, msg=name)
    assert first["loss"] == pytest.approx(alone["loss"], rel=1e-5)


def test_folds_in_parallel_equal_one_worker_bit_for_bit(
    synthetic_shards: str, tmp_path: Path, undisturbed: dict[str, Any], ray_cluster: None
) -> None:
    config = config_of(synthetic_shards, tmp_path, "folds", local=False, workers=2, parallelism="folds")
    assert results(Path(cross_validate(config))) == undisturbed


def test_two_ddp_workers_on_ray_train_finish_every_fold(
    synthetic_shards: str, tmp_path: Path, ray_cluster: None
) -> None:
    config = config_of(synthetic_shards, tmp_path, "data", local=False, workers=2, only_folds=[0, 1])
    found = results(Path(cross_validate(config)))
    assert sorted(found) == ["seed-0/fold-0", "seed-0/fold-1"]
    assert all(len(entry["fold"]["history"]) == 3 for entry in found.values())
    assert all(entry["predictions"]["part"].count("test") == 16 for entry in found.values())


def start_workflow(config: TrainConfig, *extra: str) -> "subprocess.Popen[str]":
    from ser_models import cli

    path = Path(config.output) / f"{config.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(cli.dump(config))
    return subprocess.Popen(
        [sys.executable, "workflows/train.py", "--config", str(path), *extra],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for(path: Path, process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.01)


def test_a_killed_driver_goes_on_at_the_same_fold_and_epoch(synthetic_shards: str, tmp_path: Path) -> None:
    epochs = 12
    config = config_of(synthetic_shards, tmp_path, "killed", epochs=epochs, only_folds=[0, 1])
    process = start_workflow(config)
    wait_for(tmp_path / "killed" / "seed-0" / "fold-1" / "state" / "state.pt", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    run = tmp_path / "killed"
    state = torch.load(run / "seed-0" / "fold-1" / "state" / "state.pt", weights_only=True)
    reached = len(state["history"])
    assert 1 <= reached < epochs and not (run / "seed-0" / "fold-1" / "fold.json").exists()
    finished = (run / "seed-0" / "fold-0" / "fold.json").stat().st_mtime_ns

    again = start_workflow(config, "--resume")
    output, _ = again.communicate(timeout=200)
    assert again.returncode == 0, output
    assert (run / "seed-0" / "fold-0" / "fold.json").stat().st_mtime_ns == finished
    history = json.loads((run / "seed-0" / "fold-1" / "fold.json").read_text())["history"]
    # The epochs before the kill were not made again: their times are those of the first process.
    assert [entry["seconds"] for entry in history[:reached]] == [
        entry["seconds"] for entry in state["history"]
    ]
    calm = config_of(synthetic_shards, tmp_path, "calm", epochs=epochs, only_folds=[0, 1])
    assert results(run) == results(Path(cross_validate(calm)))


def test_a_killed_worker_is_replaced_and_nothing_changes(synthetic_shards: str, tmp_path: Path) -> None:
    import psutil

    config = config_of(
        synthetic_shards, tmp_path, "struck", epochs=12, local=False, workers=2, only_folds=[0, 1]
    )
    process = start_workflow(config)
    run = tmp_path / "struck"
    wait_for(run / "seed-0" / "fold-0" / "state" / "state.pt", process)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if any("RayTrainWorker" in part for part in child.cmdline())
    ]
    assert len(workers) == 2
    workers[1].kill()
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    calm = config_of(synthetic_shards, tmp_path, "calm", epochs=12, local=False, workers=2, only_folds=[0, 1])
    again = start_workflow(calm)
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert results(run) == results(tmp_path / "calm")


def test_a_model_folder_gives_the_scores_of_its_run(synthetic_shards: str, tmp_path: Path) -> None:
    run = Path(cross_validate(config_of(synthetic_shards, tmp_path, "run", only_folds=[1])))
    features, examples = training_processes.load(synthetic_shards)
    fold = run / "seed-0" / "fold-1"
    saved = load_model(str(fold / "model"))
    table = pq.ParquetFile(fold / "predictions.parquet").read().to_pylist()
    row_of = {name: row for row, name in enumerate(features.ids)}
    for entry in [entry for entry in table if entry["part"] == "test"][:5]:
        one: Examples = examples.of(
            training_processes.np.array([row_of[entry["utterance_id"]]]), training=False
        )
        (portion,) = features.scoring_portions(one, saved.fitted, batch_size=1, rank=0, world=1)
        with torch.no_grad():
            probabilities = saved.net(portion.batch)["logits"].softmax(1)[0]
        assert probabilities.tolist() == pytest.approx(entry["probabilities"], abs=1e-5)


def test_streaming_gives_the_scores_of_memory_and_learns(
    synthetic_shards: str, tmp_path: Path, ray_cluster: None
) -> None:
    from ser_models.shards.store import find_store
    from ser_models.training.fold import score
    from ser_models.training.stream import StreamedFeatures

    features, examples = training_processes.load(synthetic_shards)
    streamed = StreamedFeatures({"mfcc": find_store(synthetic_shards, "ravdess", "mfcc")}, features.ids)
    net = training_processes.net_without_dropout()
    fitted = [source.fit("global", examples.row[:40])["mfcc"] for source in (features, streamed)]
    assert fitted[0].fitted_on == fitted[1].fitted_on
    for name in ("mean", "scale"):
        torch.testing.assert_close(
            *(torch.from_numpy(entry.arrays[name]) for entry in fitted), rtol=1e-5, atol=1e-6
        )
    scores = [score(net, source, examples, {}, 16, torch.device("cpu"))[0] for source in (features, streamed)]
    torch.testing.assert_close(*(torch.from_numpy(entry) for entry in scores), rtol=0, atol=1e-6)
    epoch = {"batch_size": 16, "bucketed": True, "seed": 1, "rank": 0, "world": 1}
    seen = [
        [
            pick
            for portion in streamed.training_portions(examples, {}, **(epoch | {"seed": seed}))
            for pick in portion.picks
        ]
        for seed in (1, 2)
    ]
    assert sorted(seen[0]) == sorted(seen[1]) == list(range(len(examples))) and seen[0] != seen[1]
    config = config_of(
        synthetic_shards,
        tmp_path,
        "stream",
        local=False,
        workers=2,
        only_folds=[0],
        features=FeatureConfig(store="stream"),
    )
    history = results(Path(cross_validate(config)))["seed-0/fold-0"]["fold"]["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_shards_and_run_on_s3(
    synthetic_shards: str,
    s3_bucket: str,
    tmp_path: Path,
    undisturbed: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ser_models import places

    for path in Path(synthetic_shards).rglob("*"):
        if path.is_file():
            target = places.join(s3_bucket, "shards", str(path.relative_to(synthetic_shards)))
            places.write_bytes(target, path.read_bytes())
    config = config_of(f"{s3_bucket}/shards", Path("unused"), "run")
    from dataclasses import replace

    run = cross_validate(replace(config, output=f"{s3_bucket}/runs"))
    assert run == f"{s3_bucket}/runs/run"
    for name in ("seed-0/fold-0/model/model.safetensors", "seed-0/fold-2/model/model.safetensors"):
        fold = name.rsplit("/", 2)[0]
        assert places.read_bytes(places.join(run, name)) == undisturbed[fold]["weights"]
    from ser_models.evaluation.report import write_report

    assert b"UAR" in places.read_bytes(write_report(run))
