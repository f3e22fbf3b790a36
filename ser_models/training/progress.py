"""What the user sees while folds train: one bar, the last epoch's numbers, the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0
"""Seconds between lines where the output is not a terminal."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a fold.

    Attributes:
        seed, fold: which fold.
        kind: ``epoch``, ``refit`` (an epoch of training again), ``done``, or ``skipped`` (done by an earlier run).
        epoch: epochs made so far.
        text: loss and validation score, or the fold's summary.
    """

    seed: int
    fold: int
    kind: str
    epoch: int
    text: str


Report = Callable[[Event], None]


class Board:
    """Collects the events of all workers; runs as a Ray actor when workers are processes of their own."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._failure = ""

    def fail(self, reason: str) -> None:
        """Keep why the work cannot be done, the first reason if there are several."""
        self._failure = self._failure or reason

    def failure(self) -> str:
        """Why the work cannot be done, or nothing."""
        return self._failure

    def add(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)

    def since(self, count: int) -> list[Event]:
        """The events after the first ``count``."""
        return self._events[count:]


class Display:
    """One line per finished fold and one bar over all epochs.

    Args:
        tasks: number of folds times seeds.
        epochs: of each, at most; a fold that stops early gives the rest back.
    """

    def __init__(self, tasks: int, epochs: int, folds: int) -> None:
        self._epochs = epochs
        self._folds = folds
        self._tasks = tasks
        self._made: dict[tuple[int, int], int] = {}
        self._finished = 0
        self._skipped = 0
        self._first: tuple[float, int] | None = None
        self._console = Console(file=sys.stderr)
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
            transient=True,
        )
        self._task = self._bar.add_task("starting workers", total=tasks * epochs)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def show(self, event: Event) -> None:
        """Take in one event."""
        key = (event.seed, event.fold)
        name = f"fold {event.fold + 1}/{self._folds}" + (f" seed {event.seed}" if event.seed else "")
        over = event.kind in ("done", "skipped")
        if event.kind == "skipped":
            self._skipped += self._epochs
        if event.kind != "refit":
            self._made[key] = self._epochs if over else event.epoch
        self._finished += over
        name += " refit" if event.kind == "refit" else ""
        line = f"{name} epoch {event.epoch}/{self._epochs} {event.text}"
        left = self._time_left()
        self._bar.update(self._task, completed=sum(self._made.values()), description=line)
        if not over and (self._console.is_terminal or time.monotonic() - self._last_line < LINE_EVERY_S):
            return
        self._last_line = time.monotonic()
        # Finished folds stay on the screen above the bar.
        text = f"{name}: {event.text}" if over else line
        self._console.print(
            f"[{self._finished}/{self._tasks}] {text}" + (f", about {left} left" if left else ""),
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def _time_left(self) -> str:
        """From the pace since the first epoch: starting workers and compiling say nothing about the rest."""
        made = sum(self._made.values()) - self._skipped
        total = self._tasks * self._epochs - self._skipped
        if made == 0:
            return ""
        if self._first is None:
            self._first = (time.monotonic(), made)
        began, already = self._first
        if made - already < 3 or made >= total:
            return ""
        seconds = (time.monotonic() - began) * (total - made) / (made - already)
        return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"


@contextmanager
def shown_from(board: Any, display: Display, ray: Any) -> Iterator[None]:
    """Show the events of a board that is a Ray actor, from a thread, until the block ends."""
    stop = threading.Event()
    seen = 0

    def poll() -> None:
        nonlocal seen
        for event in ray.get(board.since.remote(seen)):
            display.show(event)
            seen += 1

    def watch() -> None:
        while not stop.wait(0.5):
            poll()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    poll()
