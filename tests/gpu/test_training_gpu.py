"""The loop on a CUDA device: the network computes what it computes on the CPU, and a fold trains."""

import json
from pathlib import Path

import pytest
import torch

from ser_models.models import build_model
from ser_models.models.batch import Batch, Ragged
from ser_models.training.cross_validation import cross_validate
from ser_models.training.plan import FoldConfig, ProtocolConfig, TrainConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device on this machine"),
]


def test_a_training_step_on_the_gpu_equals_the_fused_one_on_the_cpu() -> None:
    torch.manual_seed(0)
    net = build_model("timnet", num_classes=5, blocks=4, dropout=0.0)
    lengths = torch.tensor([40, 12, 0, 33])
    sequence = Ragged(torch.randn(4, 40, 39), lengths).map(lambda values: values)
    batch = Batch(
        {"mfcc": sequence},
        torch.eye(5)[:4],
        torch.ones(4),
        torch.arange(4),
        torch.zeros(4, dtype=torch.int64),
    )
    gradients = []
    for device in ("cpu", "cuda"):
        net.to(device).zero_grad()
        moved = batch.to(device)
        net.loss(net(moved), moved)["emotion"].backward()
        gradients.append([parameter.grad.cpu().clone() for parameter in net.parameters()])  # type: ignore[union-attr]
    for first, second in zip(*gradients, strict=True):
        # TF32 and another order of sums.
        torch.testing.assert_close(first, second, rtol=2e-2, atol=2e-3 * float(first.abs().max()) + 1e-5)


def test_a_fold_trains_on_the_gpu(synthetic_shards: str, tmp_path: Path) -> None:
    config = TrainConfig(
        system="timnet",
        corpus="ravdess",
        shards=synthetic_shards,
        output=str(tmp_path),
        name="gpu",
        gpu=True,
        local=True,
        model={"blocks": 3},
        fold=FoldConfig(epochs=5),
        protocol=ProtocolConfig(only_folds=[0]),
    )
    fold = Path(cross_validate(config)) / "seed-0" / "fold-0"
    history = json.loads((fold / "fold.json").read_text())["history"]
    assert history[-1]["train_loss"] < history[0]["train_loss"]
