"""From what the user asks to what a run does: presets, overrides, folds, and the check for leaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

from ser_models.corpora import partial_corpus
from ser_models.errors import UserError
from ser_models.features.views import parse_specs
from ser_models.models import build_model, get_system
from ser_models.models.system import Preset, System
from ser_models.protocols.folds import SCHEMES, Fold, make_folds
from ser_models.protocols.leaks import LEAKS, LeakReport, check_leaks
from ser_models.shards.store import ShardStore
from ser_models.training.data import Examples
from ser_models.training.fold import FoldSettings


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Which utterances train, select and test; what is null comes from the preset."""

    folds: str | None = None
    """leave-one-speaker-out, leave-one-session-out, speaker-kfold or random-kfold."""
    n_folds: int | None = None
    """Number of folds of a k-fold scheme."""
    fold_seed: int | None = None
    """Seed of a k-fold scheme."""
    validation: Literal["speakers", "none", "test"] | None = None
    """Other speakers of the training part, nobody, or the test part itself (a leak that must be named)."""
    validation_speakers: int = 2
    """Speakers held out for validation in each fold, both genders where the corpus has them."""
    only_folds: list[int] | None = None
    """Run only these folds, counted from 0; the report says so."""
    leaks: list[str] = field(default_factory=list)
    """Leaks that you accept and name, beside those of the preset."""

    def __post_init__(self) -> None:
        if self.folds is not None and self.folds not in SCHEMES:
            raise UserError(f"protocol.folds = {self.folds!r}; allowed: {', '.join(SCHEMES)}")
        if self.n_folds is not None and self.n_folds < 2:
            raise UserError(f"protocol.n_folds = {self.n_folds}: must be at least 2")
        if self.fold_seed is not None and self.fold_seed < 0:
            raise UserError(f"protocol.fold_seed = {self.fold_seed}: must be 0 or more")
        if self.validation_speakers < 2:
            raise UserError(
                f"protocol.validation_speakers = {self.validation_speakers}: must be at least 2, one of each gender"
            )
        unknown = [leak for leak in self.leaks if leak not in LEAKS]
        if unknown:
            raise UserError(f"protocol.leaks: unknown leak {unknown[0]!r}; known: {', '.join(LEAKS)}")


@dataclass(frozen=True, kw_only=True)
class FoldConfig:
    """How one fold is fitted; what is null comes from the preset."""

    epochs: int | None = None
    """Passes over the training part, at most."""
    patience: int | None = None
    """Epochs without a better validation UAR before training stops; 0 never stops early."""
    batch_size: int | None = None
    """Utterances per step, of all workers together."""
    selection: Literal["last", "best"] | None = None
    """Keep the last epoch, or the one with the best validation UAR."""
    bucketed: bool = True
    """Batch utterances of similar length together; has no effect where all lengths are equal."""
    checkpoint_every: int = 1
    """Epochs between checkpoints; what a killed run loses."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"fold.{name} = {value}: must be at least 1")
        if self.patience is not None and self.patience < 0:
            raise UserError(f"fold.patience = {self.patience}: must be 0 (never stop early) or more")


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Where features come from; what is null comes from the preset."""

    store: Literal["memory", "stream"] = "memory"
    """memory maps the features on every node; stream reads them shard by shard, for what does not fit."""
    views: str | None = None
    """View specs, separated by commas, such as mfcc[samples=110000]."""
    normalise: Literal["none", "global"] | None = None
    """Statistics of the training part (global), or nothing."""
    cache: str | None = None
    """Folder of this node's feature cache; by default SER_CACHE or ~/.cache/ser_models."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Cross-validate one system on one corpus."""

    system: str
    """Name in the registry, such as timnet or svm."""
    corpus: str
    """Name of the corpus, as given to preprocess.py."""
    shards: str
    """URI that was preprocess.py's --output."""
    preset: Literal["clean", "faithful"] = "clean"
    """clean: speaker-independent, selected on validation. faithful: the paper's own protocol, leaks named."""
    output: str = "runs"
    """URI of the folder that holds runs."""
    name: str | None = None
    """Name of the run; by default SYSTEM-CORPUS-PRESET."""
    resume: bool = False
    """Go on with the run of this name where it stopped."""
    local: bool = False
    """Train in this process, without a cluster."""
    workers: int = 1
    """Training processes; more than one needs a cluster or starts a local one."""
    parallelism: Literal["data", "folds"] = "data"
    """data: all workers train each fold together (DDP). folds: each worker trains folds of its own."""
    threads_per_worker: int | None = None
    """CPU threads of each worker; by default this machine's cores divided by the workers."""
    gpu: bool = False
    """Give each worker one GPU."""
    seed: int = 0
    """First seed of initial weights, order and dropout."""
    seeds: int = 1
    """How many seeds to run, counted up from the first."""
    refit: bool = False
    """Also train on training + validation for the selected number of epochs, and report both."""
    max_failures: int = 3
    """Worker failures after which the run gives up; each costs the work since the last checkpoint."""
    model: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network that differ from the preset."""
    fold: FoldConfig = field(default_factory=FoldConfig)
    """How one fold is fitted."""
    protocol: ProtocolConfig = field(default_factory=ProtocolConfig)
    """Which utterances train, select and test."""
    features: FeatureConfig = field(default_factory=FeatureConfig)
    """Where features come from."""

    def __post_init__(self) -> None:
        for name in ("workers", "seeds"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} = {getattr(self, name)}: must be at least 1")
        if self.threads_per_worker is not None and self.threads_per_worker < 1:
            raise UserError(f"threads_per_worker = {self.threads_per_worker}: must be at least 1")
        if self.local and self.workers > 1:
            raise UserError(f"local runs in one process: workers = {self.workers} needs local = false")
        if self.seed < 0:
            raise UserError(f"seed = {self.seed}: must be 0 or more")
        if self.gpu and self.local and not torch.cuda.is_available():
            raise UserError("gpu = true, but there is no CUDA device in this process: drop --gpu")
        reserved = sorted({"name", "num_classes", "features"} & set(self.model))
        if reserved:
            raise UserError(f"model.{reserved[0]} follows from the data and cannot be set")
        if self.name is not None and ("/" in self.name or not self.name.strip()):
            raise UserError(f"name = {self.name!r}: must be a folder name without /")

    @property
    def run_name(self) -> str:
        """The name given, or the default one."""
        return self.name or f"{self.system}-{self.corpus}-{self.preset}"


@dataclass(frozen=True)
class Plan:
    """Everything resolved: what workers receive and what is written beside the results.

    Attributes:
        run: URI of the run directory.
        system: name in the registry.
        preset: the preset with the user's overrides applied.
        deviations: each override of the preset in words; empty when it is followed to the letter.
        classes: names in index order.
        arguments: of the network that differ from its defaults.
        settings: of each fold.
        folds: divisions of the manifest's rows.
        total_folds: how many folds the protocol has, of which ``folds`` may be some.
        seeds: to run, one after the other.
        refit: train again on training + validation.
        stores: URI of the shard store of each view.
        examples: of the whole corpus.
        about: facts that go into every model card and prediction file.
    """

    run: str
    system: str
    preset: Preset
    deviations: tuple[str, ...]
    classes: tuple[str, ...]
    arguments: Mapping[str, Any]
    settings: FoldSettings
    folds: tuple[Fold, ...]
    total_folds: int
    seeds: tuple[int, ...]
    refit: bool
    stores: Mapping[str, str]
    examples: Examples
    about: Mapping[str, Any]

    @property
    def tasks(self) -> list[tuple[int, Fold]]:
        """Every seed and fold, in the order in which they run."""
        return [(seed, fold) for seed in self.seeds for fold in self.folds]


def resolve_preset(system: System, config: TrainConfig) -> tuple[Preset, tuple[str, ...]]:
    """Apply the user's overrides to the preset and put each into words."""
    preset = system.preset(config.preset, config.corpus)
    views = tuple(split_specs(config.features.views)) if config.features.views else None
    asked = {
        "folds": config.protocol.folds,
        "n_folds": config.protocol.n_folds,
        "fold_seed": config.protocol.fold_seed,
        "validation": config.protocol.validation,
        "epochs": config.fold.epochs,
        "patience": config.fold.patience,
        "batch_size": config.fold.batch_size,
        "selection": config.fold.selection,
        "views": views,
        "normalise": config.features.normalise,
        "model": {**preset.model, **config.model} if config.model else None,
    }
    changes = {
        name: value for name, value in asked.items() if value is not None and value != getattr(preset, name)
    }
    deviations = [f"{name}: {getattr(preset, name)} → {value}" for name, value in changes.items()]
    values = {item.name: getattr(preset, item.name) for item in fields(Preset)} | changes
    values["leaks"] = tuple(dict.fromkeys([*preset.leaks, *config.protocol.leaks]))
    if {"folds", "n_folds", "fold_seed", "validation"} & set(changes):
        # The preset's own sentence would no longer be true.
        count = f" of {values['n_folds']} parts" if values["n_folds"] else ""
        values["description"] = (
            f"{values['folds']}{count}, validation: {values['validation']} (chosen by the user, not the preset's)"
        )
    deviations += [
        f"leak named by the user: {leak}" for leak in config.protocol.leaks if leak not in preset.leaks
    ]
    resolved = Preset(**values)
    speakers = config.protocol.validation_speakers
    if resolved.validation == "speakers" and speakers != ProtocolConfig.validation_speakers:
        deviations.append(f"validation speakers: {ProtocolConfig.validation_speakers} → {speakers}")
    _refuse_idle(system, config, resolved)
    return resolved, tuple(deviations)


def _refuse_idle(system: System, config: TrainConfig, preset: Preset) -> None:
    """Refuse settings that contradict each other or would do nothing."""
    if preset.selection == "best" and preset.validation == "none":
        raise UserError("fold.selection = best needs a validation part, but protocol.validation is none")
    if config.protocol.n_folds and not preset.folds.endswith("kfold"):
        raise UserError(f"protocol.n_folds has no meaning for {preset.folds}, which has one fold for each")
    if config.fold.patience and preset.selection == "last":
        raise UserError("fold.patience waits for a better validation UAR, but fold.selection is last")
    if config.refit and (preset.validation != "speakers" or preset.selection != "best" or system.closed_form):
        raise UserError(
            "refit trains again on training + validation for the selected number of epochs: it needs "
            f"protocol.validation = speakers and fold.selection = best, and a system trained in epochs; this is "
            f"{config.system} with validation = {preset.validation} and selection = {preset.selection}"
        )


def make_plan(
    config: TrainConfig, run: str, stores: Mapping[str, ShardStore]
) -> tuple[Plan, LeakReport, pa.Table]:
    """Resolve a configuration against the shards that exist.

    Returns:
        The plan, the leak report and the manifest.

    Raises:
        UserError: the configuration does not fit the corpus, or the check finds a leak that is not named.
    """
    system = get_system(config.system)
    preset, deviations = resolve_preset(system, config)
    classes = system.classes(config.corpus)
    first = next(iter(stores.values()))
    manifest = first.manifest()
    failed = {name for store in stores.values() for name in store.errors()["utterance_id"].to_pylist()}
    examples = _usable(system, manifest, classes, failed)
    if not len(examples):
        raise UserError(
            f"no utterance of corpus {config.corpus!r} has one of the classes {', '.join(classes)}"
        )
    rows, first_example = np.unique(examples.row, return_index=True)
    folds = make_folds(
        manifest,
        rows,
        examples.target[first_example].argmax(1).tolist(),
        scheme=preset.folds,
        n_folds=preset.n_folds,
        seed=preset.fold_seed,
        validation=preset.validation,
        validation_speakers=config.protocol.validation_speakers,
        class_names=classes,
    )
    leaks = check_leaks(
        manifest,
        folds,
        preset=config.preset,
        protocol=preset.description,
        named=preset.leaks,
        media=first.media(),
        selection_on_test=preset.validation == "test",
    )
    leaks.require_named()
    chosen = _chosen(folds, config.protocol.only_folds)
    if len(chosen) < len(folds):
        deviations += (f"{len(chosen)} of {len(folds)} folds were run",)
    if difference := partial_corpus(manifest):
        deviations += (f"not the whole corpus: {difference}",)
    if failed:
        deviations += (
            f"{len(failed)} utterances without features were left out, their media being unreadable",
        )
    shapes = {view: tuple(store.info["shape"]) for view, store in stores.items()}
    build_model(config.system, num_classes=len(classes), **{**system.sizes(shapes, {}), **preset.model})
    metadata = manifest.schema.metadata or {}
    plan = Plan(
        run=run,
        system=config.system,
        preset=preset,
        deviations=deviations,
        classes=classes,
        arguments=preset.model,
        settings=FoldSettings(
            epochs=preset.epochs,
            patience=preset.patience or 0,
            batch_size=preset.batch_size,
            selection=preset.selection,
            bucketed=config.fold.bucketed,
            checkpoint_every=config.fold.checkpoint_every,
        ),
        folds=chosen,
        total_folds=len(folds),
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        refit=config.refit,
        stores={view: store.uri for view, store in stores.items()},
        examples=examples,
        about={
            "corpus": config.corpus,
            "preset": config.preset,
            "protocol": preset.description,
            "deviations": list(deviations),
            "leaks": list(preset.leaks),
            "inherited": list(preset.inherited),
            "unit": "session" if preset.folds == "leave-one-session-out" else "speaker",
            "selection": f"{preset.selection} epoch, validation: {preset.validation}",
            "synthetic": metadata.get(b"synthetic") == b"true",
        },
    )
    return plan, leaks, manifest


def split_specs(text: str) -> list[str]:
    """View specs of a comma-separated list in their canonical form."""
    return [str(spec) for spec in parse_specs(text)]


def _usable(system: System, manifest: pa.Table, classes: tuple[str, ...], failed: set[str]) -> Examples:
    """The system's examples without those whose media could not be read."""
    examples = Examples.from_table(system.examples(manifest, classes))
    ids = manifest["utterance_id"].to_pylist()
    keep = [index for index, row in enumerate(examples.row) if ids[row] not in failed]
    return examples.take(np.array(keep, dtype=np.int64))


def _chosen(folds: list[Fold], only: list[int] | None) -> tuple[Fold, ...]:
    if only is None:
        return tuple(folds)
    impossible = [index for index in only if not 0 <= index < len(folds)]
    if impossible or not only:
        raise UserError(f"protocol.only_folds = {only}: allowed are 0 to {len(folds) - 1}")
    return tuple(folds[index] for index in sorted(set(only)))
