"""Slow: the whole chain learns what a synthetic corpus holds, from recordings to the pooled UAR."""

from pathlib import Path

import pytest

from ser_models.corpora.synthetic import Settings, generate
from ser_models.evaluation import read_run, summarise
from ser_models.shards.preprocess import PreprocessConfig, preprocess
from ser_models.training.cross_validation import cross_validate
from ser_models.training.plan import FoldConfig, TrainConfig

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

CHANCE = 1 / 8


def test_both_systems_beat_chance_beyond_their_interval(tmp_path: Path, ray_cluster: None) -> None:
    generate("ravdess", str(tmp_path / "corpus"), Settings(speakers=8, utterances=60))
    shards = str(tmp_path / "shards")
    preprocess(PreprocessConfig(corpus="ravdess", root=str(tmp_path / "corpus"), views="mfcc", output=shards))
    common = {"corpus": "ravdess", "shards": shards, "output": str(tmp_path / "runs")}
    fold = FoldConfig(epochs=25, patience=8, batch_size=16)
    net = TrainConfig(
        system="timnet", workers=2, parallelism="folds", fold=fold, model={"learning_rate": 2e-3}, **common
    )
    for config in (net, TrainConfig(system="svm", local=True, **common)):
        interval = summarise(read_run(cross_validate(config)))["pooled"]["uar"]["interval"]
        assert interval["low"] > CHANCE, f"{config.system}: {interval}"
