"""What the processes of a two-worker gloo group run in `test_training_promises`; importable by spawned processes."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from ser_models.models import build_model
from ser_models.models.labels import LABEL_SETS
from ser_models.models.system import Step
from ser_models.models.timnet import TIMNet, TIMNetSystem
from ser_models.shards.store import find_store
from ser_models.training.data import Examples, Features
from ser_models.training.fold import FoldSettings, fit_fold, score

LABELS = LABEL_SETS["ravdess8"]


class PlainDescent(TIMNetSystem):
    """TIM-Net moved by plain gradient descent, so that weights show gradients and not Adam's signs."""

    def steps(self, net: TIMNet) -> list[Step]:
        return [
            Step(
                name="main",
                parameters=list(net.parameters()),
                optimiser=lambda parameters: torch.optim.SGD(parameters, lr=0.1),
            )
        ]


def net_without_dropout() -> TIMNet:
    torch.manual_seed(3)
    net = build_model("timnet", num_classes=len(LABELS.classes), blocks=3, dropout=0.0)
    assert isinstance(net, TIMNet)
    return net


def load(shards: str) -> tuple[Features, Examples]:
    store = find_store(shards, "ravdess", "mfcc")
    manifest: pa.Table = store.manifest()
    features = Features({"mfcc": store.open()}, manifest["utterance_id"].to_pylist())
    return features, Examples.from_table(TIMNetSystem().examples(manifest, LABELS))


def train_and_score(shards: str, folder: str) -> dict[str, Any]:
    """Two steps on 31 utterances, an odd number that two workers cannot share evenly; then scores of all."""
    features, examples = load(shards)
    picked = examples.take(np.arange(31))
    settings = FoldSettings(
        epochs=1, patience=0, batch_size=17, selection="last", bucketed=True, checkpoint_every=1
    )
    net = net_without_dropout()
    before, _ = score(net, features, examples, {}, 16, torch.device("cpu"))
    fit = fit_fold(
        PlainDescent(),
        net,
        features,
        picked,
        picked.take(np.arange(0)),
        features.fit("global", np.unique(picked.row)),
        settings,
        seed=5,
        state_folder=folder,
        device=torch.device("cpu"),
        on_epoch=lambda entry: None,
    )
    return {
        "before": torch.from_numpy(before),
        "state": copy.deepcopy(fit.net.state_dict()),
        "loss": fit.history[0]["train_loss"],
    }


def worker(rank: int, world: int, shards: str, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=(Path(folder) / "port").read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    result = train_and_score(shards, str(Path(folder) / f"state-{world}"))
    torch.save(result, Path(folder) / f"world-{world}-rank-{rank}.pt")
    dist.destroy_process_group()
