"""The contracts carry what later systems need.

Two views with ranges of their own, context turns, extra targets, two stages with two optimisers, clipping per
variable, schedules per update, and sizes that depend on the data.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch import Tensor, nn

from ser_models.models import systems
from ser_models.models.batch import Batch, ragged
from ser_models.models.labels import LABEL_SETS, LabelSet
from ser_models.models.system import Net, Preset, Stage, Step, System, cross_entropy_sum, example_table
from ser_models.shards.store import find_store
from ser_models.training.batches import Share
from ser_models.training.cross_validation import cross_validate
from ser_models.training.data import Examples, Features
from ser_models.training.plan import FoldConfig, ProtocolConfig, TrainConfig
from ser_models.training.stream import StreamedFeatures

SHORT = "mfcc[samples=30000]"


class TwoPhaseNet(Net):
    """Segments of one view, the other view whole, the previous turn; an adversary beside the classifier."""

    def __init__(self, num_classes: int, *, widths: dict[str, int], width: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Linear(sum(widths.values()) + widths["mfcc"], width)
        self.classifier = nn.Linear(width, num_classes)
        self.adversary = nn.Linear(width, 1)

    def forward(self, batch: Batch, step: str = "main") -> dict[str, Tensor]:
        means = []
        for name in ("mfcc", SHORT, "mfcc@previous"):
            sequence = ragged(batch.inputs, name)
            means.append(sequence.values.sum(1) / sequence.lengths.clamp(min=1)[:, None] / 100)
        hidden = self.encoder(torch.cat(means, 1)).tanh()
        if step == "adversary":
            return {"score": self.adversary(hidden.detach())[:, 0]}
        return {"logits": self.classifier(hidden), "score": self.adversary(hidden)[:, 0]}

    def loss(self, outputs: dict[str, Tensor], batch: Batch, step: str = "main") -> dict[str, Tensor]:
        known = ~batch.extra["arousal"].isnan()
        error = (outputs["score"] - batch.extra["arousal"].nan_to_num()).square() * known * batch.weight
        if step == "adversary":
            return {"arousal": error.sum()}
        return {
            "emotion": cross_entropy_sum(outputs["logits"], batch.target, batch.weight),
            "fooled": -0.1 * error.sum(),
        }


class TwoPhase(System):
    name = "two-phase"
    title = "contract test"
    source = "none"
    net = TwoPhaseNet
    unused_parameters = True

    def preset(self, name: str, corpus: str) -> Preset:
        return Preset(
            protocol="ravdess-speaker",
            views=("mfcc", SHORT),
            normalise="global",
            epochs=4,
            batch_size=8,
        )

    def steps(self, net: TwoPhaseNet) -> list[Step]:
        def step(name: str, parameters: list[nn.Parameter]) -> Step:
            return Step(
                name=name,
                parameters=parameters,
                optimiser=lambda p: torch.optim.Adam(p, 1e-2),
                scheduler=lambda optimiser: torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.9),
                scheduler_unit="update",
                clip="per_variable",
                clip_norm=1.0,
            )

        main = [*net.encoder.parameters(), *net.classifier.parameters()]
        return [step("adversary", list(net.adversary.parameters())), step("main", main)]

    def stages(self, net: TwoPhaseNet, epochs: int) -> list[Stage]:
        adversary, main = self.steps(net)
        return [Stage(epochs=2, steps=[adversary]), Stage(epochs=epochs - 2, steps=self.steps(net))]

    def sizes(self, shapes: Mapping[str, tuple[int, ...]], fitted: Mapping[str, Any]) -> dict[str, Any]:
        return {"widths": {view: shape[0] for view, shape in shapes.items()}}

    def examples(self, manifest: pa.Table, labels: LabelSet) -> pa.Table:
        """Two segments per utterance; its previous turn is the speaker's utterance before it."""
        classes = labels.classes
        emotions, speakers = manifest["emotion"].to_pylist(), manifest["speaker"].to_pylist()
        rows = [row for row, emotion in enumerate(emotions) if emotion in classes]
        previous = [row - 1 if row and speakers[row - 1] == speakers[row] else -1 for row in rows]
        target = np.eye(len(classes), dtype=np.float32)[[classes.index(emotions[row]) for row in rows]]
        start = np.tile([0, 20], len(rows))
        return example_table(
            rows=np.repeat(rows, 2),
            target=np.repeat(target, 2, axis=0),
            ranges={"mfcc": (start, start + 20)},
            turns={"previous": np.repeat(previous, 2)},
            extra={"arousal": np.where(np.arange(2 * len(rows)) % 3, 0.5, np.nan)},
            train_only=np.arange(2 * len(rows)) % 8 == 7,
        )


@pytest.fixture
def two_phase(monkeypatch: pytest.MonkeyPatch) -> TwoPhase:
    system = TwoPhase()
    monkeypatch.setattr(systems, "SYSTEMS", {**systems.SYSTEMS, system.name: system})
    return system


def config_of(shards: str, output: Path, **changes: Any) -> TrainConfig:
    options: dict[str, Any] = {"name": "run", "local": True, "threads_per_worker": 1} | changes
    return TrainConfig(
        system="two-phase",
        corpus="ravdess",
        shards=shards,
        output=str(output),
        protocol=ProtocolConfig(only_folds=[0]),
        **options,
    )


def test_ranges_hold_per_view_and_turns_come_whole(synthetic_shards: str, two_phase: TwoPhase) -> None:
    stores = {view: find_store(synthetic_shards, "ravdess", view) for view in ("mfcc", SHORT)}
    manifest = stores["mfcc"].manifest()
    ids = manifest["utterance_id"].to_pylist()
    examples = Examples.from_table(two_phase.examples(manifest, LABEL_SETS["common4"]))
    memory = Features({view: store.open() for view, store in stores.items()}, ids)
    picks = np.arange(4)
    batch = memory.batch(examples, Share(picks, np.array([True, True, True, False])), {})
    segment, whole, turn = (ragged(batch.inputs, name) for name in ("mfcc", SHORT, "mfcc@previous"))
    table = memory.tables["mfcc"]
    full = table.array(table.row(ids[examples.row[1]]))
    assert segment.lengths.tolist() == [20, 20, 20, 0]
    np.testing.assert_array_equal(segment.values[1].numpy(), full[20:40])
    assert whole.lengths[0] == 59 and whole.lengths[3] == 0  # 30,000 samples in hops of 512
    for position in range(3):
        row = int(examples.turns["previous"][position])
        expected = table.frames[table.row(ids[row])] if row >= 0 else 0
        assert turn.lengths[position] == expected
    assert batch.extra["arousal"].shape == (4,) and batch.weight.tolist() == [1, 1, 1, 0]
    # The same through a stream, whatever the order of the shards.
    streamed = StreamedFeatures(stores, ids)
    portions = streamed.scoring_portions(examples, {}, batch_size=100, rank=0, world=1)
    for portion in portions:
        again = memory.batch(examples, Share(portion.picks, portion.real), {})
        for name, value in again.inputs.items():
            assert torch.equal(value.values, ragged(portion.batch.inputs, name).values)  # type: ignore[union-attr]


def test_two_views_two_stages_and_two_optimisers_train_and_resume(
    synthetic_shards: str, tmp_path: Path, two_phase: TwoPhase, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_models.training import fold as loop

    whole = Path(
        cross_validate(config_of(synthetic_shards, tmp_path, name="whole", fold=FoldConfig(epochs=5)))
    )
    # A kill after each epoch in turn: every next start goes on from the state of the one before.
    saved = loop.save_state

    def save_then_die(folder: str, state: dict[str, Any]) -> None:
        saved(folder, state)
        raise KeyboardInterrupt

    config = config_of(synthetic_shards, tmp_path, name="killed", fold=FoldConfig(epochs=5))
    from dataclasses import replace

    monkeypatch.setattr(loop, "save_state", save_then_die)
    for attempt in range(5):
        with pytest.raises(KeyboardInterrupt):
            cross_validate(replace(config, resume=attempt > 0))
    monkeypatch.setattr(loop, "save_state", saved)
    killed = Path(cross_validate(replace(config, resume=True)))
    weights = [(run / "seed-0/fold-0/model/model.safetensors").read_bytes() for run in (whole, killed)]
    assert weights[0] == weights[1]
