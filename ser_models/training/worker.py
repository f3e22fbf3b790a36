"""What each training process does: go through the folds, leave a finished folder for each.

A fold's folder tells how far it is: ``state`` after an epoch, ``fold.json`` when it is done. So a process that
starts anywhere, for the first time or after a kill, goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist

from ser_models import places
from ser_models.features.transforms import Fitted
from ser_models.inference.model_folder import SavedModel, save_model
from ser_models.models import build_model, get_system
from ser_models.models.layers import workers
from ser_models.protocols import ledger
from ser_models.protocols.folds import Fold, Rows
from ser_models.protocols.leaks import check_fitted
from ser_models.shards.store import ShardStore
from ser_models.training.batches import mix
from ser_models.training.checkpoints import remove_state
from ser_models.training.data import Features
from ser_models.training.fold import Fit, Source, agreed, fit_fold, score
from ser_models.training.objectives import OBJECTIVES, per_utterance
from ser_models.training.plan import Plan
from ser_models.training.progress import Event, Report
from ser_models.training.stream import StreamedFeatures


@dataclass(frozen=True)
class Crew:
    """How the workers divide the folds and where they compute.

    Attributes:
        workers: number of training processes.
        parallelism: ``data`` or ``folds``, see `ser_models.training.plan.TrainConfig`.
        threads: CPU threads of each.
        gpu: one GPU for each.
        store: ``memory`` or ``stream``.
        cache: folder of the node's feature cache, None for the default.
    """

    workers: int
    parallelism: Literal["data", "folds"]
    threads: int
    gpu: bool
    store: Literal["memory", "stream"]
    cache: str | None


@dataclass(frozen=True)
class Trained:
    """A fitted network with what was fitted before it and the arguments that built it."""

    fit: Fit
    fitted: Mapping[str, Fitted]
    arguments: Mapping[str, Any]


def run_folds(plan: Plan, crew: Crew, report: Report, rank: int = 0) -> None:
    """Train every fold that is this worker's and not done yet.

    With ``data`` parallelism all workers call this together, one process group joining them; with ``folds`` each
    calls it alone.
    """
    torch.set_num_threads(crew.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = torch.device("cuda") if crew.gpu else torch.device("cpu")
    stores = {view: ShardStore.at(uri) for view, uri in plan.stores.items()}
    manifest = next(iter(stores.values())).manifest()
    source = _open_source(stores, manifest, crew)
    alone = crew.parallelism == "folds"
    tasks = plan.tasks[rank :: crew.workers] if alone else plan.tasks
    for seed, fold in tasks:
        folder = fold_folder(plan.run, seed, fold.index)
        if agreed(places.exists(places.join(folder, "fold.json"))):
            _tidy(folder)
            report(Event(seed, fold.index, "skipped", plan.settings.epochs, "done before"))
            continue
        _run_fold(plan, source, manifest, fold, seed, folder, device, report)


def fold_folder(run: str, seed: int, fold: int) -> str:
    """Where one fold of one seed lies."""
    return places.join(run, f"seed-{seed}", f"fold-{fold}")


def _run_fold(
    plan: Plan,
    source: Source,
    manifest: pa.Table,
    fold: Fold,
    seed: int,
    folder: str,
    device: torch.device,
    report: Report,
) -> None:
    began = time.perf_counter()
    first = workers() == 1 or dist.get_rank() == 0
    trained = _fit(plan, source, fold.train, fold.validation, fold, seed, folder, device, report)
    fit = trained.fit
    if first:
        on_test = fit.epochs if plan.protocol.validation == "test" else 0
        reads = {"selected on": on_test, "scored": 1}
        for why, times in reads.items():
            if times:
                ledger.record(plan.run, seed=seed, fold=fold.index, rows=len(fold.test), why=why, times=times)
    parts: tuple[Literal["validation", "test"], ...] = ("validation", "test")
    if plan.protocol.validation == "test":
        parts = ("test",)
    predictions = [_predict(plan, source, manifest, trained, fold, seed, device, part) for part in parts]
    refit: dict[str, Any] | None = None
    if plan.refit:
        assert fit.selected_epoch is not None
        joined = np.union1d(fold.train, fold.validation)
        settings = replace(plan.settings, epochs=fit.selected_epoch, patience=0, selection="last")
        again = _fit(
            replace(plan, settings=settings),
            source,
            joined,
            fold.validation[:0],
            fold,
            seed,
            places.join(folder, "refit"),
            device,
            lambda event: report(replace(event, kind="refit")),
        )
        refit = {"epochs": again.fit.epochs}
        if first:
            ledger.record(plan.run, seed=seed, fold=fold.index, rows=len(fold.test), why="scored after refit")
        table = _predict(plan, source, manifest, again, fold, seed, device, "test")
        if first:
            places.write_table(places.join(folder, "predictions-refit.parquet"), table)
            _save(plan, places.join(folder, "refit", "model"), again, fold, seed, joined)
    if not first:
        return
    _save(plan, places.join(folder, "model"), trained, fold, seed, fold.train)
    places.write_table(places.join(folder, "predictions.parquet"), pa.concat_tables(predictions))
    speakers = manifest["speaker"].take(pa.array(fold.test)).unique().to_pylist()
    write_json(
        places.join(folder, "fold.json"),
        {
            "fold": fold.index,
            "seed": seed,
            "system": plan.system,
            "selected_epoch": fit.selected_epoch,
            "epochs": fit.epochs,
            "selection": plan.protocol.selection,
            "history": fit.history,
            **_training_facts(plan, fold.train),
            "counts": _counts(fold),
            "test_speakers": sorted(speaker for speaker in speakers if speaker is not None),
            "seconds": time.perf_counter() - began,
            "refit": refit,
        },
    )
    _tidy(folder)
    report(Event(seed, fold.index, "done", fit.epochs, _summary(plan, predictions[-1], fit)))


def _fit(
    plan: Plan,
    source: Source,
    train: Rows,
    validation: Rows,
    fold: Fold,
    seed: int,
    folder: str,
    device: torch.device,
    report: Report,
) -> Trained:
    training = plan.examples.of(train, training=True)
    fitted = source.fit(plan.preset.normalise, train)
    for view, transform in fitted.items():
        trained_on = (source.ids[row] for row in train)
        check_fitted(
            transform.fitted_on, trained_on, f"{transform.kind} of {view}", named=plan.protocol.leaks
        )
    torch.manual_seed(mix("weights", seed, fold.index))
    system = get_system(plan.system)
    arguments = {**system.sizes(source.shapes, fitted), **plan.arguments}
    net = build_model(plan.system, num_classes=len(plan.classes), **arguments)

    objective = OBJECTIVES[plan.objective]

    def on_epoch(entry: dict[str, float]) -> None:
        report(Event(seed, fold.index, "epoch", int(entry["epoch"]), objective.epoch_text(entry)))

    fit = fit_fold(
        system,
        net,
        source,
        training,
        plan.examples.of(validation, training=False),
        fitted,
        plan.settings,
        seed=mix("fold", seed, fold.index),
        state_folder=places.join(folder, "state"),
        device=device,
        on_epoch=on_epoch,
        objective=objective,
    )
    return Trained(fit, fitted, arguments)


def _predict(
    plan: Plan,
    source: Source,
    manifest: pa.Table,
    trained: Trained,
    fold: Fold,
    seed: int,
    device: torch.device,
    part: Literal["validation", "test"],
) -> pa.Table:
    """Score one part of a fold; one row per utterance."""
    examples = plan.examples.of(getattr(fold, part), training=False)
    scores, target = score(
        trained.fit.net, source, examples, trained.fitted, plan.settings.batch_size, device
    )
    objective = OBJECTIVES[plan.objective]
    rows, predictions = objective.predict(scores, examples.row, get_system(plan.system).aggregate)
    taken = manifest.take(pa.array(rows))
    count = len(rows)
    names = ("speaker", "session", "gender", "language", "intensity", "scenario")
    columns = {
        "utterance_id": taken["utterance_id"],
        "corpus": taken["corpus"],
        "part": pa.array([part] * count, pa.string()),
        "fold": pa.array([fold.index] * count, pa.int32()),
        "seed": pa.array([seed] * count, pa.int32()),
        **{name: taken[name] for name in names},
        **objective.columns(predictions, per_utterance(target, examples.row)),
    }
    protocol = {"system": plan.system, **plan.about}
    return pa.table(columns).replace_schema_metadata(
        {"classes": json.dumps(plan.classes), "protocol": json.dumps(protocol)}
    )


def _save(plan: Plan, folder: str, trained: Trained, fold: Fold, seed: int, train: Rows) -> None:
    about = {
        **plan.about,
        **_training_facts(plan, train),
        "fold": fold.index,
        "seed": seed,
        "test_units": list(fold.test_units),
        "counts": _counts(fold) | {"train": len(train)},
        "selected_epoch": trained.fit.selected_epoch,
    }
    model = SavedModel(
        net=trained.fit.net,
        system=plan.system,
        arguments=trained.arguments,
        classes=plan.classes,
        views=plan.preset.views,
        fitted=trained.fitted,
        about=about,
    )
    save_model(folder, model)


def _tidy(folder: str) -> None:
    """Delete what only an unfinished fold needs."""
    remove_state(places.join(folder, "state"))
    remove_state(places.join(folder, "refit", "state"))


def _counts(fold: Fold) -> dict[str, int]:
    return {"train": len(fold.train), "validation": len(fold.validation), "test": len(fold.test)}


def _training_facts(plan: Plan, train: Rows) -> dict[str, Any]:
    """What is known of the targets of a training part."""
    target = plan.examples.of(train, training=True).target
    return OBJECTIVES[plan.objective].training_facts(target, plan.classes)


def _summary(plan: Plan, predictions: pa.Table, fit: Fit) -> str:
    text = f"{OBJECTIVES[plan.objective].test_text(predictions)} on {predictions.num_rows} utterances"
    return text + (f", epoch {fit.selected_epoch} of {fit.epochs}" if fit.selected_epoch else "")


def _open_source(stores: Mapping[str, ShardStore], manifest: pa.Table, crew: Crew) -> Source:
    ids = manifest["utterance_id"].to_pylist()
    if crew.store == "stream":
        return StreamedFeatures(stores, ids)
    return Features({view: store.open(crew.cache) for view, store in stores.items()}, ids)


def write_json(uri: str, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON."""
    places.write_bytes(uri, json.dumps(content, indent=2, ensure_ascii=False, default=_plain).encode())


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return asdict(value)
    return value.item() if hasattr(value, "item") else str(value)
