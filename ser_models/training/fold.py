"""Fit one fold: the loop over epochs that every system shares.

The loop is the same for one worker and for several. The global batches of an epoch are a function of the seed,
the fold and the epoch; each worker takes its share, the loss is divided by the weight of the whole global batch,
and gradients add up over workers. So one step of several workers is the step of one worker on the joined batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ser_models.errors import WorkError
from ser_models.features.transforms import Fitted
from ser_models.models.layers import workers
from ser_models.models.system import Net, Stage, Step, System
from ser_models.training.augmentation import Augmentation
from ser_models.training.batches import Index, mix
from ser_models.training.checkpoints import load_state, save_state
from ser_models.training.data import Examples, Portion, join
from ser_models.training.objectives import OBJECTIVES, Objective

Array = np.ndarray[Any, Any]
State = dict[str, Any]
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class FoldSettings:
    """How one fold is fitted, everything resolved.

    Attributes:
        epochs: passes over the training part, at most.
        patience: epochs without a better validation score after which training stops; 0 never stops early.
        batch_size: examples per step, of all workers together.
        selection: ``best`` keeps the epoch with the highest validation score (`Objective.selects`), ``last`` the last
            one.
        bucketed: bring examples of similar length together.
        checkpoint_every: epochs between states.
        augment: what alters the training examples, such as ``spec_augment``.
    """

    epochs: int
    patience: int
    batch_size: int
    selection: Literal["last", "best"]
    bucketed: bool
    checkpoint_every: int
    augment: str = ""


class Source(Protocol):
    """Where batches come from: `ser_models.training.data.Features`, or a stream with the same methods."""

    @property
    def ids(self) -> Sequence[str]:
        """Utterance id per row of the manifest."""
        ...

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Per view the trailing dimensions of its features."""
        ...

    def fit(self, normalise: str, rows: Index) -> dict[str, Fitted]:
        """Fit what a preset asks for on some rows of the manifest, one object per view."""
        ...

    def training_portions(
        self,
        examples: Examples,
        fitted: Mapping[str, Fitted],
        *,
        batch_size: int,
        bucketed: bool,
        seed: int,
        rank: int,
        world: int,
    ) -> Iterable[Portion]:
        """One epoch in the order that the seed gives."""
        ...

    def scoring_portions(
        self, examples: Examples, fitted: Mapping[str, Fitted], *, batch_size: int, rank: int, world: int
    ) -> Iterable[Portion]:
        """Every example once, in a fixed order."""
        ...


@dataclass(frozen=True)
class Fit:
    """What fitting a fold gave.

    Attributes:
        net: with the selected weights.
        selected_epoch: counted from 1; None for a system in closed form.
        epochs: passes made.
        history: one entry per epoch.
    """

    net: Net
    selected_epoch: int | None
    epochs: int
    history: list[dict[str, float]] = field(default_factory=list)


def fit_fold(
    system: System,
    net: Net,
    source: Source,
    training: Examples,
    validation: Examples,
    fitted: Mapping[str, Fitted],
    settings: FoldSettings,
    *,
    seed: int,
    state_folder: str,
    device: torch.device,
    on_epoch: Callable[[dict[str, float]], None],
    objective: Objective = OBJECTIVES["emotion"],
) -> Fit:
    """Train a network on one fold, from the beginning or from the last state.

    Args:
        system: declares the optimisers.
        net: freshly built; the same initial weights on every worker.
        source: of batches.
        training: examples to learn from.
        validation: examples to select the epoch on; may be empty, then the last epoch is kept.
        fitted: preprocessing fitted on the training part.
        settings: of the fold.
        seed: of this fold in this run.
        state_folder: URI for the state.
        device: where the network computes.
        on_epoch: called on the first worker with each entry of the history.
        objective: what the network is trained for, and so what selects the epoch.

    Raises:
        WorkError: the loss or a prediction is not finite.
    """
    rank = dist.get_rank() if workers() > 1 else 0
    if system.closed_form:
        return _fit_closed_form(net, source, training, fitted, settings.batch_size, rank, device)
    net.to(device)
    history: list[dict[str, float]] = []
    best: State = {"epoch": 0, "score": -float("inf"), "loss": float("inf"), "net": {}}
    state = agreed(load_state(state_folder) if rank == 0 else None)
    if state is None:
        net.start(torch.from_numpy(training.target).to(device))
    else:
        net.load_state_dict(state["net"])
        history, best = state["history"], state["best"]
    wrapped: nn.Module = net
    if workers() > 1:
        wrapped = DistributedDataParallel(
            net,
            gradient_as_bucket_view=True,
            find_unused_parameters=system.unused_parameters,
            # Statistics are already the same on every worker.
            broadcast_buffers=False,
        )
    augmentation = Augmentation.parse(settings.augment, list(source.shapes))
    stages = system.stages(net, settings.epochs)
    current: _Running | None = None
    while len(history) < settings.epochs and not _stopped(history, best, settings):
        epoch = len(history) + 1
        began = time.perf_counter()
        number = _stage_of(stages, epoch)
        if current is None or current.stage != number:
            current = _Running.start(number, stages[number])
            if state is not None and state["stage"] == number:
                current.load(state)
        portions = source.training_portions(
            training,
            fitted,
            batch_size=settings.batch_size,
            bucketed=settings.bucketed,
            seed=mix("order", seed, epoch),
            rank=rank,
            world=workers(),
        )
        if augmentation:
            portions = augmentation.applied(portions, seed, epoch)
        # Dropout depends on the epoch and the worker only, so no random state has to be saved.
        torch.manual_seed(mix("dropout", seed, epoch, rank))
        train_loss = _train_epoch(net, wrapped, current, portions, device)
        entry = {"epoch": epoch, "train_loss": train_loss}
        if len(validation):
            logits, target = score(net, source, validation, fitted, settings.batch_size, device)
            entry |= objective.validation_figures(logits, target, validation.row, system.aggregate)
            # Sums may differ in the last bit between kinds of processors: one worker's figures decide for all.
            entry = agreed(entry)
            reached, loss = entry[objective.selects], entry["validation_loss"]
            if settings.selection == "best" and (reached, -loss) > (best["score"], -best["loss"]):
                best = {
                    "epoch": epoch,
                    "score": reached,
                    "loss": loss,
                    "net": copy.deepcopy(net.state_dict()),
                }
        entry["seconds"] = time.perf_counter() - began
        history.append(entry)
        last = epoch == settings.epochs or _stopped(history, best, settings)
        if rank == 0:
            if epoch % settings.checkpoint_every == 0 or last:
                save_state(
                    state_folder,
                    {
                        "net": net.state_dict(),
                        **current.state(),
                        "history": history,
                        "best": best,
                    },
                )
            on_epoch(entry)
    if best["net"]:
        net.load_state_dict(best["net"])
    net.eval()
    return Fit(net, best["epoch"] or len(history), len(history), history)


def score(
    net: Net,
    source: Source,
    examples: Examples,
    fitted: Mapping[str, Fitted],
    batch_size: int,
    device: torch.device,
) -> tuple[Array, Array]:
    """Score examples with all workers; every worker returns all scores, in the order of the examples.

    Returns:
        Scores [examples, classes or dimensions] and targets of the same shape, float32.
    """
    world = workers()
    rank = dist.get_rank() if world > 1 else 0
    net.eval()
    collected: list[tuple[Tensor, Tensor]] = []
    with torch.inference_mode():
        for portion in source.scoring_portions(
            examples, fitted, batch_size=batch_size, rank=rank, world=world
        ):
            logits = net(portion.batch.to(device))["logits"].float().cpu()
            collected.append((logits[portion.real], torch.from_numpy(portion.picks[portion.real])))
    classes = examples.target.shape[1]
    own_logits = torch.cat([logits for logits, _ in collected] or [torch.zeros(0, classes)])
    own_picks = torch.cat([picks for _, picks in collected] or [torch.zeros(0, dtype=torch.int64)])
    logits = torch.full((len(examples), classes), float("nan"))
    for picks, values in _gather(own_picks, own_logits):
        logits[picks] = values
    return logits.numpy(), examples.target


@dataclass
class _Running:
    """The optimisers and schedules of the stage that is being trained."""

    stage: int
    steps: Sequence[Step]
    optimisers: list[torch.optim.Optimizer]
    schedulers: list[torch.optim.lr_scheduler.LRScheduler | None]

    @classmethod
    def start(cls, number: int, stage: Stage) -> _Running:
        optimisers = [step.optimiser(step.parameters) for step in stage.steps]
        schedulers = [
            step.scheduler(optimiser) if step.scheduler else None
            for step, optimiser in zip(stage.steps, optimisers, strict=True)
        ]
        return cls(number, stage.steps, optimisers, schedulers)

    def state(self) -> State:
        return {
            "stage": self.stage,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "schedulers": [scheduler.state_dict() if scheduler else None for scheduler in self.schedulers],
        }

    def load(self, state: State) -> None:
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        for scheduler, saved in zip(self.schedulers, state["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(saved)


def _stage_of(stages: Sequence[Stage], epoch: int) -> int:
    """Which stage an epoch, counted from 1, belongs to."""
    last = 0
    for number, stage in enumerate(stages):
        last += stage.epochs
        if epoch <= last:
            return number
    return len(stages) - 1


def agreed(value: Value) -> Value:
    """The first worker's value, on every worker."""
    if workers() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, 0)
    return holder[0]


def _train_epoch(
    net: Net, wrapped: nn.Module, running: _Running, portions: Iterable[Portion], device: torch.device
) -> float:
    """One pass; returns the mean loss per weight, over all workers."""
    net.train()
    # On the device: NCCL gathers nothing else.
    totals = torch.zeros(2, dtype=torch.float64, device=device)
    for portion in portions:
        batch = portion.batch.to(device)
        for step, optimiser, scheduler in zip(
            running.steps, running.optimisers, running.schedulers, strict=True
        ):
            terms = net.loss(wrapped(batch, step.name), batch, step.name)
            loss = torch.stack(list(terms.values())).sum()
            # All of them: one step's loss may reach parameters that another step moves.
            net.zero_grad(set_to_none=True)
            # DDP averages gradients over workers; the loss is a sum over them.
            scaled = loss * (workers() / max(portion.weight, 1e-12))
            scaled.backward()  # type: ignore[no-untyped-call]
            _clip(step)
            optimiser.step()
            if scheduler is not None and step.scheduler_unit == "update":
                scheduler.step()
            totals[0] += loss.detach()
        totals[1] += portion.weight / workers()
    for step, scheduler in zip(running.steps, running.schedulers, strict=True):
        if scheduler is not None and step.scheduler_unit == "epoch":
            scheduler.step()
    if workers() > 1:
        dist.all_reduce(totals)
    mean = float(totals[0] / totals[1].clamp(min=1e-12))
    if not np.isfinite(mean):
        raise WorkError(
            f"the training loss is {mean}: check the features for NaN, or lower the learning rate"
        )
    return mean


def _clip(step: Step) -> None:
    if step.clip_norm is None:
        return
    if step.clip == "global":
        nn.utils.clip_grad_norm_(step.parameters, step.clip_norm)
        return
    for parameter in step.parameters:
        nn.utils.clip_grad_norm_([parameter], step.clip_norm)


def _stopped(history: list[dict[str, float]], best: State, settings: FoldSettings) -> bool:
    """Whether patience has run out; only where a best epoch is looked for."""
    waiting = settings.patience and settings.selection == "best" and best["epoch"]
    return bool(waiting) and len(history) - best["epoch"] >= settings.patience


def _fit_closed_form(
    net: Net,
    source: Source,
    training: Examples,
    fitted: Mapping[str, Fitted],
    batch_size: int,
    rank: int,
    device: torch.device,
) -> Fit:
    if rank == 0:
        portions = source.scoring_portions(training, fitted, batch_size=batch_size, rank=0, world=1)
        net.fit(join([portion.batch for portion in portions]))
    net.to(device)
    if workers() > 1:
        for tensor in net.state_dict().values():
            dist.broadcast(tensor, 0)
    net.eval()
    return Fit(net, None, 1)


def _gather(picks: Tensor, values: Tensor) -> list[tuple[Tensor, Tensor]]:
    if workers() == 1:
        return [(picks, values)]
    gathered: list[Any] = [None] * workers()
    dist.all_gather_object(gathered, (picks, values))
    return gathered
