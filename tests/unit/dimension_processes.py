"""A corpus with dimensions, and what the processes of a gloo group run on it; importable by spawned processes."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from ser_models.corpora import load_corpus
from ser_models.corpora.synthetic import Settings, generate
from ser_models.models import build_model
from ser_models.models.labels import DIMENSIONS
from ser_models.models.system import Step
from ser_models.models.timnet import TIMNet, TIMNetSystem
from ser_models.shards.preprocess import PreprocessConfig, preprocess
from ser_models.shards.store import find_store
from ser_models.training.data import Examples, Features
from ser_models.training.fold import FoldSettings, fit_fold
from ser_models.training.objectives import OBJECTIVES

LEVELS = {
    "angry": (1.5, 4.6, 4.4),
    "happy": (4.5, 4.2, 3.8),
    "fearful": (1.8, 4.0, 1.8),
    "surprised": (3.6, 4.1, 3.0),
    "disgusted": (1.8, 3.2, 3.4),
    "neutral": (3.0, 2.4, 3.0),
    "calm": (3.4, 1.6, 2.9),
    "sad": (1.7, 1.5, 1.8),
}
"""Valence, arousal and dominance around which the ratings of an emotion lie, on a scale from 1 to 5."""

CORPUS = "ravdess"


def write_shards(folder: Path, speakers: int = 5, utterances: int = 16) -> str:
    """MFCC shards of a synthetic corpus whose manifest has dimensions; the first utterance has no dominance."""
    generate(CORPUS, str(folder / "corpus"), Settings(speakers=speakers, utterances=utterances))
    table = load_corpus(CORPUS, str(folder / "corpus"))
    generator = np.random.default_rng(0)
    levels = np.array([LEVELS[emotion] for emotion in table["emotion"].to_pylist()])
    values = np.clip(levels + generator.normal(0, 0.3, levels.shape), 1, 5)
    for index, name in enumerate(DIMENSIONS):
        column = values[:, index].tolist()
        if name == "dominance":
            column[0] = None
        table = table.set_column(
            table.schema.get_field_index(name), table.schema.field(name), pa.array(column, pa.float64())
        )
    config = PreprocessConfig(
        corpus=CORPUS,
        root=str(folder / "corpus"),
        views="mfcc",
        output=str(folder / "shards"),
        local=True,
    )
    preprocess(config, manifest=table)
    return str(folder / "shards")


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
    net = build_model("timnet", num_classes=3, blocks=2, dropout=0.0, objective="dimensions")
    assert isinstance(net, TIMNet)
    return net


def two_steps(shards: str, folder: str) -> dict[str, Any]:
    """Two steps on 31 utterances, an odd number that two workers cannot share evenly."""
    store = find_store(shards, CORPUS, "mfcc")
    manifest = store.manifest()
    features = Features({"mfcc": store.open()}, manifest["utterance_id"].to_pylist())
    picked = Examples.from_table(TIMNetSystem().dimension_examples(manifest)).take(np.arange(31))
    fit = fit_fold(
        PlainDescent(),
        net_without_dropout(),
        features,
        picked,
        picked.take(np.arange(0)),
        features.fit("global", np.unique(picked.row)),
        FoldSettings(
            epochs=1, patience=0, batch_size=17, selection="last", bucketed=True, checkpoint_every=1
        ),
        seed=5,
        state_folder=folder,
        device=torch.device("cpu"),
        on_epoch=lambda entry: None,
        objective=OBJECTIVES["dimensions"],
    )
    return {"state": copy.deepcopy(fit.net.state_dict()), "loss": fit.history[0]["train_loss"]}


def worker(rank: int, world: int, shards: str, folder: str) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=(Path(folder) / "port").read_text())
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world)
    result = two_steps(shards, str(Path(folder) / f"state-{world}"))
    torch.save(result, Path(folder) / f"world-{world}-rank-{rank}.pt")
    dist.destroy_process_group()
