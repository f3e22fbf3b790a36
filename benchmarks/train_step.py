"""Milliseconds per training step of TIM-Net beside a plain eager implementation, both in this process.

python benchmarks/train_step.py [--threads 2] [--steps 30]

Input: batch 64 × 215 frames × 39 coefficients, 8 blocks, 8 classes, Adam, float32: the faithful setting on RAVDESS.
The baseline is what one writes from the paper: Conv1d, BatchNorm1d, ReLU and channel dropout on [batch, channels,
time]. Steps of both alternate, so that a busy machine slows both; the medians' ratio is the figure. The floor is the
time of the step's matrix products alone, each measured as one product of the same size, at the same thread count.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from ser_models.models import build_model
from ser_models.models.batch import Batch, Ragged

BATCH, TIME, FEATURES, BLOCKS, CLASSES = 64, 215, 39, 8, 8


class PlainBlock(nn.Module):
    """A temporal-aware block in the fewest lines."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.reach = dilation
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(FEATURES, FEATURES, 2, dilation=dilation),
                nn.BatchNorm1d(FEATURES, eps=1e-3, momentum=0.01),
                nn.ReLU(),
                nn.Dropout1d(0.1),
            )
            for _ in range(2)
        )

    def forward(self, values: Tensor) -> Tensor:
        """[batch, channels, time] to the same shape."""
        hidden = values
        for layer in self.layers:
            hidden = layer(functional.pad(hidden, (self.reach, 0)))
        return torch.sigmoid(hidden) * values


class PlainTIMNet(nn.Module):
    """TIM-Net in the fewest lines: the same arithmetic without padding, masks or several workers."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = nn.ModuleList(nn.Conv1d(FEATURES, FEATURES, 1) for _ in range(2))
        self.streams = nn.ModuleList(nn.ModuleList(PlainBlock(2**j) for j in range(BLOCKS)) for _ in range(2))
        self.level_weights = nn.Parameter(torch.empty(BLOCKS).uniform_(-0.05, 0.05))
        self.classifier = nn.Linear(FEATURES, CLASSES)

    def forward(self, values: Tensor) -> Tensor:
        """[batch, time, features] to logits."""
        values = values.transpose(1, 2)
        forward, backward = self.entries[0](values), self.entries[1](values.flip(2))
        levels = []
        for first, second in zip(*self.streams, strict=True):
            forward, backward = first(forward), second(backward)
            levels.append((forward + backward).mean(2))
        result: Tensor = self.classifier(torch.stack(levels, 2) @ self.level_weights)
        return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--steps", type=int, default=30, help="measured steps of each (default 30)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    ours, plain = build_model("timnet", num_classes=CLASSES, blocks=BLOCKS), PlainTIMNet()
    values, labels = torch.randn(BATCH, TIME, FEATURES), torch.randint(CLASSES, (BATCH,))
    batch = Batch(
        inputs={"mfcc": Ragged(values, torch.full((BATCH,), TIME))},
        target=functional.one_hot(labels, CLASSES).float(),
        weight=torch.ones(BATCH),
        utterance=torch.arange(BATCH),
        domain=torch.zeros(BATCH, dtype=torch.int64),
    )
    steps = {
        "ser_models": stepper(ours, lambda: ours.loss(ours(batch), batch)["emotion"] / BATCH),
        "plain eager": stepper(
            plain, lambda: functional.cross_entropy(plain(values), labels, label_smoothing=0.1)
        ),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(arguments.steps + 3):
        for name, step in steps.items():
            seconds = timed(step)
            if round_ >= 3:  # the first rounds compile and warm up
                times[name].append(seconds * 1e3)
    print(f"{os.cpu_count()} cores, {arguments.threads} threads, torch {torch.__version__}")
    print(f"batch {BATCH} × {TIME} × {FEATURES}, {BLOCKS} blocks, {arguments.steps} steps of each, in turns")
    for name, values_ms in times.items():
        middle, fastest = statistics.median(values_ms), min(values_ms)
        print(f"{name:12} {middle:6.0f} ms per step (fastest {fastest:.0f})")
    print(f"{'floor':12} {floor():6.0f} ms: the step's matrix products alone")
    medians = [statistics.median(times[name]) for name in ("plain eager", "ser_models")]
    fastest_two = [min(times[name]) for name in ("plain eager", "ser_models")]
    print(
        f"speed-up     {medians[0] / medians[1]:6.2f} (medians), {fastest_two[0] / fastest_two[1]:.2f} (fastest)"
    )


def stepper(net: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], None]:
    """One step of Adam."""
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.93, 0.98))

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        loss().backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    return step


def timed(action: Callable[[], object]) -> float:
    """Seconds that an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def floor() -> float:
    """Milliseconds of the matrix products of one step, forward and both gradients."""
    frames = BATCH * TIME
    inputs, weight = torch.randn(frames, 2 * FEATURES), torch.randn(2 * FEATURES, FEATURES)
    outputs = inputs @ weight

    def products() -> None:
        torch.mm(inputs, weight, out=outputs)
        torch.mm(outputs, weight.T)
        torch.mm(inputs.T, outputs)

    products()
    convolutions = 2 * 2 * BLOCKS
    return convolutions * statistics.median(timed(products) for _ in range(20)) * 1e3


if __name__ == "__main__":
    main()
