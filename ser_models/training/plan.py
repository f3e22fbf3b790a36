"""From what the user asks to what a run does: presets, overrides, folds, and the check for leaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import torch

from ser_models.corpora import partial_corpus
from ser_models.errors import UserError
from ser_models.features.views import parse_specs, pretrained_on, reads_words
from ser_models.models import SYSTEMS, build_model, get_system
from ser_models.models.system import Preset, System
from ser_models.protocols.common import CONTENTS
from ser_models.protocols.folds import SCHEMES, Fold, make_folds
from ser_models.protocols.leaks import LeakReport, check_leaks, require_known
from ser_models.protocols.registry import Protocol, get_protocol, require_corpus
from ser_models.shards.store import ShardStore
from ser_models.training.augmentation import Augmentation
from ser_models.training.data import Examples
from ser_models.training.fold import FoldSettings
from ser_models.training.objectives import OBJECTIVES, ObjectiveName


@dataclass(frozen=True, kw_only=True)
class ProtocolConfig:
    """Which utterances train, select and test; what is null comes from the preset's protocol."""

    name: str | None = None
    """Another protocol than the preset's, such as iemocap4-speaker or iemocap4-session-improvised; all of them:
    python -m ser_models.protocols list."""
    folds: str | None = None
    """How test parts are made: leave-one-speaker-out, leave-one-session-out, speaker-kfold, official,
    random-kfold, …"""
    n_folds: int | None = None
    """Number of folds of a k-fold scheme."""
    fold_seed: int | None = None
    """Seed of a k-fold scheme."""
    validation: Literal["speakers", "session", "part", "none", "test"] | None = None
    """Other speakers or the next session of the training part, the part that the scheme gives, nobody, or the test part
    itself (a leak that must be named)."""
    validation_speakers: int | None = None
    """Speakers held out for validation in each fold, both genders where the corpus has them."""
    scenario: Literal["improvised", "scripted"] | None = None
    """Only utterances of this scenario."""
    disjoint: list[str] | None = None
    """What training utterances must not share with the other parts (session, dialogue, script, text, …); those that do
    are dropped and counted. text with script makes a lexically disjoint protocol."""
    only_folds: list[int] | None = None
    """Run only these folds, counted from 0; the report says so."""
    leaks: list[str] = field(default_factory=list)
    """Leaks that you accept and name, beside those of the protocol."""

    def __post_init__(self) -> None:
        if self.name is not None:
            get_protocol(self.name)
        if self.folds is not None and self.folds not in SCHEMES:
            raise UserError(f"protocol.folds = {self.folds!r}; allowed: {', '.join(SCHEMES)}")
        if self.n_folds is not None and self.n_folds < 2:
            raise UserError(f"protocol.n_folds = {self.n_folds}: must be at least 2")
        if self.fold_seed is not None and self.fold_seed < 0:
            raise UserError(f"protocol.fold_seed = {self.fold_seed}: must be 0 or more")
        if self.validation_speakers is not None and self.validation_speakers < 1:
            raise UserError(f"protocol.validation_speakers = {self.validation_speakers}: must be at least 1")
        require_known(self.leaks)
        if impossible := [leak for leak in self.disjoint or () if leak not in CONTENTS]:
            raise UserError(f"protocol.disjoint: {impossible[0]!r} is none of {', '.join(CONTENTS)}")


@dataclass(frozen=True, kw_only=True)
class FoldConfig:
    """How one fold is fitted; what is null comes from the preset."""

    epochs: int | None = None
    """Passes over the training part, at most."""
    patience: int | None = None
    """Epochs without a better validation score before training stops; 0 never stops early."""
    batch_size: int | None = None
    """Utterances per step, of all workers together."""
    selection: Literal["last", "best"] | None = None
    """Keep the last epoch, or the one with the best validation score: UAR, or mean CCC for dimensions."""
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
    augment: str | None = None
    """What alters the training examples anew in each epoch, separated by commas: spec_augment, frequency_warp, and
    for systems that read waveforms noise, reverberation, speed, pitch, gain; settings as spec_augment[time_masks=1]."""
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
    objective: ObjectiveName = "emotion"
    """emotion: the classes of the protocol. dimensions: valence, arousal and dominance of the utterances that have all
    three, on the corpus's own scale."""
    output: str = "runs"
    """URI of the folder that holds runs."""
    name: str | None = None
    """Name of the run; by default SYSTEM-CORPUS-PRESET, and -dimensions for that objective."""
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
        reserved = sorted({"name", "num_classes", "features", "vocabulary"} & set(self.model))
        if reserved:
            raise UserError(f"model.{reserved[0]} follows from the data and cannot be set")
        if "objective" in self.model:
            raise UserError("model.objective follows from the objective of the run: give --objective")
        if self.name is not None and ("/" in self.name or not self.name.strip()):
            raise UserError(f"name = {self.name!r}: must be a folder name without /")

    @property
    def run_name(self) -> str:
        """The name given, or the default one."""
        ending = "" if self.objective == "emotion" else f"-{self.objective}"
        return self.name or f"{self.system}-{self.corpus}-{self.preset}{ending}"


@dataclass(frozen=True)
class Plan:
    """Everything resolved: what workers receive and what is written beside the results.

    Attributes:
        run: URI of the run directory.
        system: name in the registry.
        objective: what it is trained for, a key of `ser_models.training.objectives.OBJECTIVES`.
        preset: the preset with the user's overrides applied.
        protocol: the same of its protocol.
        deviations: each override of the preset in words; empty when it is followed to the letter.
        classes: names in index order; of the dimensions, where those are the objective.
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
    objective: ObjectiveName
    preset: Preset
    protocol: Protocol
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


@dataclass(frozen=True)
class Resolved:
    """A preset and its protocol with the user's overrides applied.

    Attributes:
        preset: views and training settings.
        protocol: which utterances train, select and test.
        deviations: each override in words.
    """

    preset: Preset
    protocol: Protocol
    deviations: tuple[str, ...]


def resolve_preset(system: System, config: TrainConfig) -> Resolved:
    """Apply the user's overrides to the preset and its protocol, and put each into words."""
    if config.objective not in system.objectives:
        able = [name for name, other in SYSTEMS.items() if config.objective in other.objectives]
        raise UserError(
            f"system {config.system!r} cannot be trained for {config.objective}; systems that can: {', '.join(able)}"
        )
    preset = system.preset(config.preset, config.corpus)
    views = tuple(split_specs(config.features.views)) if config.features.views else None
    settings, changed = _override(
        preset,
        {
            "epochs": config.fold.epochs,
            "patience": config.fold.patience,
            "batch_size": config.fold.batch_size,
            "views": views,
            "normalise": config.features.normalise,
            "augment": config.features.augment,
            "model": {**preset.model, **config.model} if config.model else None,
        },
    )
    if config.objective != "emotion":
        changed.append(f"objective: emotion → {config.objective}")
    asked = config.protocol
    named = get_protocol(asked.name or preset.protocol)
    require_corpus(named, [config.corpus])
    if named.scheme == "cross-corpus":
        raise UserError(f"protocol {named.name} reads two corpora; training reads one so far")
    if named.name != preset.protocol:
        changed.append(f"protocol: {preset.protocol} → {named.name}")
    if system.closed_form:
        named = _without_selection(named)
    protocol, divided = _override(
        named,
        {
            "scheme": asked.folds,
            "n_folds": asked.n_folds,
            "seed": asked.fold_seed,
            "validation": asked.validation,
            "validation_speakers": asked.validation_speakers,
            "scenario": asked.scenario,
            "disjoint": None if asked.disjoint is None else tuple(asked.disjoint),
            "selection": config.fold.selection,
        },
    )
    if divided and not all(each.startswith("selection") for each in divided):
        # The protocol's own sentence would no longer be true.
        count = f" of {protocol.n_folds} parts" if protocol.n_folds else ""
        limits = f", {protocol.scenario} only" if protocol.scenario else ""
        limits += f", training disjoint by {', '.join(protocol.disjoint)}" if protocol.disjoint else ""
        protocol = replace(
            protocol,
            description=f"{protocol.scheme}{count}{limits}, validation: {protocol.validation} (chosen by the user, not "
            "the preset's)",
        )
    accepted = [leak for leak in asked.leaks if leak not in protocol.leaks]
    protocol = replace(protocol, leaks=(*protocol.leaks, *accepted))
    deviations = (*changed, *divided, *(f"leak named by the user: {leak}" for leak in accepted))
    _refuse_idle(system, config, protocol)
    if Augmentation.parse(settings.augment, settings.views) and system.closed_form:
        raise UserError(
            f"features.augment alters the examples of each epoch, but {config.system} is fitted once"
        )
    return Resolved(settings, protocol, deviations)


def _without_selection(protocol: Protocol) -> Protocol:
    """The protocol for a system that is fitted once: there are no epochs to choose from."""
    protocol = replace(protocol, selection="last")
    if protocol.validation == "test":
        protocol = replace(
            protocol,
            validation="none",
            leaks=tuple(leak for leak in protocol.leaks if leak != "selection-on-test"),
            description=f"{protocol.description} (not here: nothing is selected)",
        )
    return protocol


Settings = TypeVar("Settings", Preset, Protocol)


def _override(settings: Settings, asked: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """Replace what the user gave, and say what changed."""
    changes = {
        name: value for name, value in asked.items() if value is not None and value != getattr(settings, name)
    }
    return replace(settings, **changes), [
        f"{name}: {getattr(settings, name)} → {new}" for name, new in changes.items()
    ]


def _refuse_idle(system: System, config: TrainConfig, protocol: Protocol) -> None:
    """Refuse settings that contradict each other or would do nothing."""
    if protocol.selection == "best" and protocol.validation == "none":
        raise UserError("fold.selection = best needs a validation part, but protocol.validation is none")
    if config.protocol.n_folds and not protocol.scheme.endswith(("kfold", "parts")):
        raise UserError(f"protocol.n_folds has no meaning for {protocol.scheme}, which has one fold for each")
    if config.fold.patience and protocol.selection == "last":
        score = OBJECTIVES[config.objective].score
        raise UserError(f"fold.patience waits for a better validation {score}, but fold.selection is last")
    held_out = protocol.validation not in ("none", "test")
    if config.refit and (not held_out or protocol.selection != "best" or system.closed_form):
        raise UserError(
            "refit trains again on training + validation for the selected number of epochs: it needs a validation part "
            f"of its own and fold.selection = best, and a system trained in epochs; this is {config.system} with "
            f"validation = {protocol.validation} and selection = {protocol.selection}"
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
    resolved = resolve_preset(system, config)
    preset, protocol, deviations = resolved.preset, resolved.protocol, resolved.deviations
    first = next(iter(stores.values()))
    manifest = first.manifest()
    objective = OBJECTIVES[config.objective]
    task = objective.task(system, manifest, protocol.label_set)
    failed = {name for store in stores.values() for name in store.errors()["utterance_id"].to_pylist()}
    examples = _usable(task.examples, manifest, failed, protocol)
    if not len(examples):
        limit = f" in {protocol.scenario} speech" if protocol.scenario else ""
        raise UserError(f"no utterance of corpus {config.corpus!r} has {task.wanted}{limit}")
    rows, first_example, row_of = np.unique(examples.row, return_index=True, return_inverse=True)
    testable = np.bincount(row_of, weights=~examples.train_only) > 0
    ids = manifest["utterance_id"].take(pa.array(rows)).to_pylist()
    fold_classes = objective.fold_classes(examples.target[first_example], ids, task.names)
    folds = make_folds(manifest, rows, fold_classes[0], protocol, fold_classes[1], train_only=~testable)
    leaks = check_leaks(
        manifest,
        folds,
        preset=config.preset,
        protocol=protocol.description,
        named=protocol.leaks,
        media=first.media(),
        reads_words=system.reads_words or any(reads_words(view) for view in preset.views),
        pretrained=[view for view in preset.views if config.corpus in pretrained_on(view)],
    )
    leaks = replace(leaks, notes=(*leaks.notes, *task.notes))
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
    arguments = dict(preset.model)
    if config.objective != "emotion":
        arguments["objective"] = config.objective
    build_model(config.system, num_classes=len(task.names), **{**system.sizes(shapes, {}), **arguments})
    metadata = manifest.schema.metadata or {}
    plan = Plan(
        run=run,
        system=config.system,
        objective=config.objective,
        preset=preset,
        protocol=protocol,
        deviations=deviations,
        classes=task.names,
        arguments=arguments,
        settings=FoldSettings(
            epochs=preset.epochs,
            patience=preset.patience or 0,
            batch_size=preset.batch_size,
            selection=protocol.selection,
            bucketed=config.fold.bucketed,
            checkpoint_every=config.fold.checkpoint_every,
            augment=preset.augment,
        ),
        folds=chosen,
        total_folds=len(folds),
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        refit=config.refit,
        stores={view: store.uri for view, store in stores.items()},
        examples=examples,
        about={
            "corpus": config.corpus,
            "objective": config.objective,
            "preset": _label(config, resolved),
            "protocol": protocol.description,
            "protocol_name": protocol.name,
            "deviations": list(deviations),
            "leaks": list(protocol.leaks),
            "inherited": list(preset.inherited),
            "unit": protocol.unit,
            "selection": f"{protocol.selection} epoch, validation: {protocol.validation}",
            "synthetic": metadata.get(b"synthetic") == b"true",
        },
    )
    return plan, leaks, manifest


def _label(config: TrainConfig, resolved: Resolved) -> str:
    """The preset's name; a clean one that took on a leak by the user's choice is not called clean."""
    own = get_protocol(get_system(config.system).preset(config.preset, config.corpus).protocol)
    taken_on = set(resolved.protocol.leaks) - set(own.leaks)
    return f"{config.preset} with leaks" if config.preset == "clean" and taken_on else config.preset


def split_specs(text: str) -> list[str]:
    """View specs of a comma-separated list in their canonical form."""
    return [str(spec) for spec in parse_specs(text)]


def _usable(examples: Examples, manifest: pa.Table, failed: set[str], protocol: Protocol) -> Examples:
    """The examples in the protocol's scenario, without those whose media could not be read."""
    ids, scenarios = (manifest[name].to_pylist() for name in ("utterance_id", "scenario"))
    keep = [
        index
        for index, row in enumerate(examples.row)
        if ids[row] not in failed and protocol.scenario in (None, scenarios[row])
    ]
    return examples.take(np.array(keep, dtype=np.int64))


def _chosen(folds: list[Fold], only: list[int] | None) -> tuple[Fold, ...]:
    if only is None:
        return tuple(folds)
    impossible = [index for index in only if not 0 <= index < len(folds)]
    if impossible or not only:
        raise UserError(f"protocol.only_folds = {only}: allowed are 0 to {len(folds) - 1}")
    return tuple(folds[index] for index in sorted(set(only)))
