"""Cross-validate a plan: one Ray Train run whose workers go through the folds, or the same loop in this process.

A worker group takes tens of seconds to start, so one group trains all folds. Ray's ``report`` is a barrier: every
worker reports once, at the end. What a fold has reached lies in the run directory, ``fold-k/state`` after an
epoch and ``fold-k/fold.json`` when it is done, so a run that is killed anywhere goes on from there.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch.distributed as dist
from rich.console import Console

from ser_models import cli, places
from ser_models.errors import UserError, WorkError
from ser_models.models import get_system
from ser_models.protocols.folds import fold_table
from ser_models.protocols.leaks import LeakReport
from ser_models.shards.ray_session import ray_session
from ser_models.shards.store import cache_folder, find_store
from ser_models.training import environment
from ser_models.training.plan import Plan, TrainConfig, make_plan, resolve_preset
from ser_models.training.progress import Board, Display, Event, shown_from
from ser_models.training.stream import StreamedFeatures
from ser_models.training.worker import Crew, run_folds, write_json

FREE_ON_RESUME = ("resume", "local", "threads_per_worker", "max_failures", "output", "name")
"""Settings that may differ when a run goes on; with ``folds`` parallelism the number of workers too."""


def cross_validate(config: TrainConfig) -> str:
    """Run a configuration and return the URI of its run directory.

    Raises:
        UserError: the configuration is impossible, the run exists and ``resume`` is not given, or a leak is
            found that the protocol does not name.
        WorkError: a loss is not finite, or workers failed more often than ``max_failures``.
    """
    run = places.join(places.absolute(config.output), config.run_name)
    _check_existing(config, run)
    system = get_system(config.system)
    views = resolve_preset(system, config).preset.views
    stores = {view: find_store(config.shards, config.corpus, view) for view in views}
    plan, leaks, manifest = make_plan(config, run, stores)
    crew = Crew(
        workers=config.workers,
        parallelism=config.parallelism,
        threads=config.threads_per_worker or max(1, (os.cpu_count() or 1) // config.workers),
        gpu=config.gpu,
        store=config.features.store,
        cache=str(cache_folder(config.features.cache)) if config.features.cache else None,
    )
    if crew.store == "stream":
        StreamedFeatures(stores, [])  # refuses views that cannot be streamed together
    fingerprints = {view: store.fingerprint for view, store in stores.items()}
    _check_fingerprints(run, fingerprints)
    here = config.local or (config.workers == 1 and not config.gpu)
    with contextlib.ExitStack() as stack:
        if not here:
            stack.enter_context(ray_session())
            _require_resources(crew)
        # Nothing is written before all that can be refused has been looked at.
        _write_records(config, run, plan, leaks, manifest, fingerprints)
        _announce(plan, leaks)
        display = stack.enter_context(Display(len(plan.tasks), plan.settings.epochs, plan.total_folds))
        if here:
            run_folds(plan, crew, display.show)
        else:
            _run_on_ray(plan, crew, config.max_failures, display)
    return run


def _write_records(
    config: TrainConfig,
    run: str,
    plan: Plan,
    leaks: LeakReport,
    manifest: pa.Table,
    fingerprints: Mapping[str, str],
) -> None:
    """Write what the result depends on; a run that goes on elsewhere keeps the first record and adds its own."""
    now = environment.describe(dict(fingerprints))
    first = places.join(run, "environment.json")
    try:
        if not places.exists(first):
            write_json(first, now)
        elif json.loads(places.read_bytes(first)) != now:
            write_json(places.join(run, f"environment-resumed-{time.time_ns()}.json"), now)
        write_json(places.join(run, "leaks.json"), leaks.as_dict() | {"deviations": list(plan.deviations)})
        places.write_table(places.join(run, "folds.parquet"), fold_table(manifest, plan.folds))
        places.write_bytes(places.join(run, "config.yaml"), cli.dump(replace(config, resume=False)).encode())
    except OSError as error:
        raise UserError(f"{run} cannot be written ({error}): give another --output") from error


def _announce(plan: Plan, leaks: LeakReport) -> None:
    """Say before the work what the numbers will mean."""
    say = Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print
    about = plan.about
    title = f"{plan.system} on {about['corpus']}{' (SYNTHETIC)' if about['synthetic'] else ''}"
    say(f"{title}, {about['preset']}: {about['protocol']}; selection: {about['selection']}")
    for finding in leaks.findings:
        say(f"leak: {finding}")
    for deviation in plan.deviations:
        say(f"departs from the preset: {deviation}")
    for note in leaks.notes:
        say(f"note: {note}")


def _run_on_ray(plan: Plan, crew: Crew, max_failures: int, display: Display) -> None:
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    logging.getLogger("ray.train").setLevel(logging.CRITICAL)
    board = ray.remote(num_cpus=0)(Board).remote()
    # Ray's own records of the attempt; what matters lies in the run directory itself.
    scratch = places.join(plan.run, "ray")
    filesystem, path = places.arrow_filesystem(scratch)
    resources = {"CPU": float(crew.threads)} | ({"GPU": 1.0} if crew.gpu else {})
    trainer = TorchTrainer(
        _worker,
        train_loop_config={"plan": ray.put(plan), "crew": crew, "board": board},
        scaling_config=ScalingConfig(
            num_workers=crew.workers, use_gpu=crew.gpu, resources_per_worker=resources
        ),
        run_config=RunConfig(
            # A fresh name each time, else Ray would resume by itself.
            name=f"attempt-{time.time_ns()}",
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=max_failures, controller_failure_limit=3),
        ),
    )
    try:
        with shown_from(board, display, ray):
            trainer.fit()
    except TrainingFailedError as error:
        raise WorkError(
            f"training failed: {_innermost(error)}; finished folds are kept, --resume goes on"
        ) from error
    failure = ray.get(board.failure.remote())
    if failure:
        raise WorkError(failure)
    places.remove(scratch)


def _worker(settings: dict[str, Any]) -> None:
    """What each Ray Train worker runs."""
    # Read when numba is first imported; the environment that Ray gives its workers says 1.
    os.environ["NUMBA_NUM_THREADS"] = str(settings["crew"].threads)
    import ray
    import ray.train

    rank = ray.train.get_context().get_world_rank()
    plan: Plan = ray.get(settings["plan"])
    crew: Crew = settings["crew"]
    if crew.parallelism == "folds" and dist.is_initialized():
        # Each worker trains alone: nothing may wait for another one.
        dist.destroy_process_group()

    def report(event: Event) -> None:
        if rank == 0 or crew.parallelism == "folds":
            settings["board"].add.remote(event)

    try:
        run_folds(plan, crew, report, rank)
    except WorkError as error:
        # It would happen again on every attempt, and, the loss being joined, happens on all workers at once.
        ray.get(settings["board"].fail.remote(str(error)))
    ray.train.report({"rank": rank})


def _require_resources(crew: Crew) -> None:
    import ray

    available = ray.cluster_resources()
    needed = {"CPU": crew.workers * crew.threads, "GPU": crew.workers if crew.gpu else 0}
    for name, count in needed.items():
        if available.get(name, 0) < count and not os.environ.get("RAY_ADDRESS"):
            raise UserError(
                f"{crew.workers} workers need {count} {name} but this machine offers "
                f"{available.get(name, 0):.0f}: lower --workers or --threads_per_worker"
            )


def _innermost(error: BaseException) -> str:
    failures = getattr(error, "worker_failures", None)
    if failures:
        worst = next(iter(failures.values()))
        return cli.one_line(str(worst).strip().splitlines()[-1])
    return cli.one_line(error)


def _check_existing(config: TrainConfig, run: str) -> None:
    """An existing name needs ``--resume``, and ``--resume`` needs the same configuration."""
    saved_at = places.join(run, "config.yaml")
    if not places.exists(saved_at):
        if config.resume:
            raise UserError(
                f"nothing to resume at {run}: drop --resume, or give the --name of an existing run"
            )
        return
    if not config.resume:
        raise UserError(
            f"a run named {config.run_name!r} exists at {run}: add --resume to go on with it, or give another --name"
        )
    import yaml

    saved = yaml.safe_load(places.read_bytes(saved_at))
    now = yaml.safe_load(cli.dump(config))
    free = FREE_ON_RESUME + (("workers",) if config.parallelism == "folds" else ())
    for each in (saved, now):
        each.get("features", {}).pop("cache", None)  # where a node keeps its copy changes nothing
    changed = [key for key in now if key not in free and saved.get(key) != now[key]]
    if changed:
        shown = ", ".join(f"{key}: {saved.get(key)} → {now[key]}" for key in changed)
        raise UserError(
            f"cannot resume {config.run_name!r} with another configuration ({shown}): give another --name"
        )


def _check_fingerprints(run: str, fingerprints: Mapping[str, str]) -> None:
    try:
        saved = json.loads(places.read_bytes(places.join(run, "environment.json")))["fingerprints"]
    except FileNotFoundError:
        return
    if saved != fingerprints:
        raise UserError(f"the features changed since {run} was started: give another --name")
