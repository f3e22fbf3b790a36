"""What preprocessing tells people: the progress while it runs and the summary at its end."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ser_models.shards import layout
from ser_models.shards.pipeline import Job, Result

_PLAIN_INTERVAL = 10.0  # seconds between lines where the output is a log and no terminal


@dataclass(frozen=True)
class ViewSummary:
    """What a run left behind for one view.

    Attributes:
        spec: the view.
        folder: URI of the shards.
        computed: shard files written by this run; the others were there already.
        info: the content of ``_manifest.json``.
        errors: up to three unreadable utterances, as ``utterance_id``, ``uri`` and ``error``.
    """

    spec: str
    folder: str
    computed: int
    info: dict[str, Any]
    errors: tuple[dict[str, str], ...]

    @property
    def error_fraction(self) -> float:
        """Unreadable utterances over all."""
        return float(self.info["errors"] / (self.info["errors"] + self.info["rows"]))

    def lines(self) -> list[str]:
        """The view's part of the summary."""
        info = self.info
        shards = sum(1 for rows in info["shard_rows"] if rows)
        heard = f"{info['seconds_of_audio']:.0f} s of audio, " if info["seconds_of_audio"] else ""
        lines = [
            f"{self.spec}: {info['rows']} rows, {heard}"
            f"{info['errors']} errors, {info['bytes'] / 1e6:.1f} MB, "
            f"{self.computed} of {shards} shards computed now, in {self.folder}"
        ]
        lines += [f"  {count} × {remark}" for remark, count in info.get("remarks", {}).items()]
        lines += [f"  unreadable: {error['utterance_id']}: {error['error']}" for error in self.errors]
        if info["errors"] > len(self.errors):
            lines.append(f"  and {info['errors'] - len(self.errors)} more in {layout.ERRORS}")
        return lines


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        views: one per view.
        utterances: how many were computed by this run.
        seconds: wall time of the computation, Ray's start excluded.
    """

    views: tuple[ViewSummary, ...]
    utterances: int
    seconds: float

    def text(self) -> str:
        """The summary for people."""
        lines = [line for view in self.views for line in view.lines()]
        if self.utterances:
            rate = self.utterances / self.seconds
            lines.append(f"{self.utterances} utterances in {self.seconds:.1f} s, {rate:.0f} utterances/s")
        else:
            lines.append("nothing was left to compute")
        return "\n".join(lines)


def shown(
    results: Iterable[list[Result]], jobs: Sequence[Job], groups: Sequence[int]
) -> Iterator[list[Result]]:
    """Pass the results of each shard on and show how far the run is, on standard error.

    Args:
        results: of one shard each.
        jobs: the shards that this run computes.
        groups: utterances of every shard.
    """
    shards = sum(1 for rows in groups if rows)
    total = sum(groups)
    done = total - sum(groups[job.shard] for job in jobs)
    finished, before = shards - len(jobs), done
    started = said = time.monotonic()
    console = Console(stderr=True)
    columns = (
        TextColumn("shards {task.fields[finished]}/" + str(shards)),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} utterances, {task.fields[rate]:.0f}/s, time left"),
        TimeRemainingColumn(),
    )
    live = bool(jobs) and sys.stderr.isatty()
    with Progress(*columns, console=console, disable=not live) as progress:
        task = progress.add_task("", total=total, completed=done, finished=finished, rate=0.0)
        for written in results:
            finished += 1
            done += written[0].rows
            now = time.monotonic()
            rate = (done - before) / (now - started)
            progress.update(task, completed=done, finished=finished, rate=rate)
            if not live and now - said > _PLAIN_INTERVAL:
                said = now
                left = (total - done) / rate
                print(
                    f"shards {finished}/{shards}, {done}/{total} utterances, {rate:.0f}/s, {left:.0f} s left",
                    file=sys.stderr,
                    flush=True,
                )
            yield written
