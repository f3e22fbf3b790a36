"""From a layout and settings to a folder of files; what is there already from the same settings is kept."""

import dataclasses
import sys
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ser_models import places
from ser_models.corpora.marker import MARKER_NAME, Marker, read_marker, write_marker
from ser_models.corpora.parser import Counts
from ser_models.corpora.synthetic import acted, iemocap, meld
from ser_models.corpora.synthetic.clips import SAMPLE_RATES
from ser_models.corpora.synthetic.plan import File, Layout, Settings
from ser_models.errors import UserError

VERSION = 1
"""Grows whenever equal settings give other samples."""

LAYOUTS: dict[str, Layout] = {
    "iemocap": Layout(
        plan=iemocap.plan_iemocap,
        defaults=Settings(speakers=10, utterances=24, seconds=1.2),
        video=True,
    ),
    "meld": Layout(
        plan=meld.plan_meld, defaults=Settings(speakers=12, utterances=24, seconds=1.4), video=True
    ),
    "ravdess": Layout(plan=acted.plan_ravdess, defaults=Settings(), video=False),
    "emodb": Layout(plan=acted.plan_emodb, defaults=Settings(speakers=10, utterances=35, seconds=1.5)),
    "savee": Layout(
        plan=acted.plan_savee, defaults=Settings(speakers=4, utterances=60, seconds=1.5), video=False
    ),
    "casia": Layout(plan=acted.plan_casia, defaults=Settings(speakers=4, utterances=60, seconds=1.5)),
    "emovo": Layout(plan=acted.plan_emovo, defaults=Settings(speakers=6, utterances=42, seconds=1.5)),
}
"""Corpora that can be imitated; a new one is a function from settings to a plan and one line here."""

_PLAIN_INTERVAL = 10.0  # seconds between lines where the output is a log and no terminal


def layout_of(name: str) -> Layout:
    """A registered layout.

    Raises:
        UserError: there is none of this name.
    """
    if name not in LAYOUTS:
        raise UserError(f"no synthetic layout {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def generate(name: str, root: str, settings: Settings | None = None) -> Counts:
    """Write a synthetic corpus; files that are there already from the same settings are kept.

    Args:
        name: a layout, see `LAYOUTS`.
        root: folder to be created, local or remote.
        settings: by default those of the layout.

    Returns:
        The counts of the corpus.

    Raises:
        UserError: the layout is unknown or cannot hold the settings, or the folder holds something else.
    """
    layout = layout_of(name)
    settings = _settled(name, layout, settings or layout.defaults)
    plan = layout.plan(settings)
    counts = plan.counts
    marker = Marker(
        name, VERSION, {**dataclasses.asdict(settings), "emotions": list(settings.emotions)}, counts
    )
    root = places.absolute(root)
    _claim(root, marker)
    for file in _shown(plan.files):
        uri = places.join(root, file.path)
        if not places.exists(uri):
            places.write_bytes(uri, file.render())
    return counts


def _settled(name: str, layout: Layout, settings: Settings) -> Settings:
    """The settings with a decision about pictures."""
    if settings.video and layout.video is None:
        filmed = ", ".join(known for known, each in LAYOUTS.items() if each.video is not None)
        raise UserError(f"{name} has no pictures; with them: {filmed}")
    video = layout.video if settings.video is None else settings.video
    if video and settings.sample_rate not in SAMPLE_RATES:
        allowed = ", ".join(map(str, SAMPLE_RATES))
        raise UserError(
            f"sample_rate {settings.sample_rate} is none of a film ({allowed}); choose one of them or no video"
        )
    return dataclasses.replace(settings, video=bool(video))


def _claim(root: str, marker: Marker) -> None:
    """Put the marker into the folder, unless the folder belongs to something else."""
    try:
        present = read_marker(root)
        if present == marker:
            return
        if present:
            raise UserError(
                f"{root} holds a synthetic corpus with other settings; choose another folder or delete it"
            )
        if any(not name.startswith(".") for name in places.list_names(root)):
            raise UserError(f"{root} holds other files and no {MARKER_NAME}; choose an empty or new folder")
        write_marker(root, marker)
    except OSError as error:
        raise UserError(f"{root} cannot be used as a folder: {error.strerror or error}") from error


def _shown(files: Sequence[File]) -> Iterator[File]:
    """Pass the files on and show on standard error how many are done."""
    columns = (TextColumn("files {task.completed}/{task.total}"), BarColumn(), TimeRemainingColumn())
    live = sys.stderr.isatty()
    said = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), disable=not live, transient=True) as progress:
        for done, file in enumerate(progress.track(files)):
            if not live and time.monotonic() - said > _PLAIN_INTERVAL:
                said = time.monotonic()
                print(f"files {done}/{len(files)}", file=sys.stderr, flush=True)
            yield file
