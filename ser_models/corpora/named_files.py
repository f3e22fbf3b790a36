"""Corpora whose files say everything in their names: one file is one utterance.

EMO-DB, SAVEE, CASIA and EMOVO differ only in how a name is read. What they share is here: which files are
media, what becomes of a name that cannot be read, a second file of one utterance, sound and pictures in two
files.
"""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.parser import Findings, Problem
from ser_models.corpora.utterance import Utterance, shorten

SOUND_SUFFIXES = (".wav", ".flac")
VIDEO_SUFFIXES = (".avi", ".mp4")

_OTHER_MEDIA = (".mp3", ".ogg", ".m4a", ".aif", ".aiff", ".wma")


class UnreadableNameError(ValueError):
    """The name of a file does not say which utterance it is; the message is the reason."""


def parse_names(
    files: Listing, read_name: Callable[[PurePosixPath], Utterance], *, video: bool = False
) -> Findings:
    """Read the names of all media files under a folder.

    Args:
        files: the folder.
        read_name: from the path of a file to its row, ``audio`` and ``video`` left None; it raises
            `UnreadableNameError` for a name that it does not know.
        video: whether the corpus has video files; otherwise they are files of another kind. An utterance with
            a video file alone takes its sound from there.

    Returns:
        One row for each utterance id. A name that cannot be read and a second file of the same kind for one id
        are problems; the first in the order of paths is taken.
    """
    kinds = dict.fromkeys(SOUND_SUFFIXES, "audio") | (dict.fromkeys(VIDEO_SUFFIXES, "video") if video else {})
    problems: list[Problem] = []
    named: dict[str, Utterance] = {}
    media: dict[str, dict[str, str]] = defaultdict(dict)  # utterance id → audio or video → path
    others: Counter[str] = Counter()
    for path in files.paths:
        file = PurePosixPath(path)
        suffix = file.suffix.lower()
        if suffix not in kinds and suffix not in _OTHER_MEDIA:
            others[suffix or "no suffix"] += 1
            continue
        try:
            row = read_name(file)
            if suffix not in kinds:
                raise UnreadableNameError(f"{suffix} files are not read; convert it to {SOUND_SUFFIXES[0]}")
        except UnreadableNameError as error:
            problems.append(Problem(files.uri(path), str(error)))
            continue
        named.setdefault(row.utterance_id, row)
        first = media[row.utterance_id].setdefault(kinds[suffix], path)
        if first != path:
            problems.append(Problem(files.uri(path), f"duplicate of {row.utterance_id}: {first} is taken"))
    rows = [_with_media(row, media[identity], files) for identity, row in named.items()]
    notes = []
    if others:
        counted = shorten((f"{suffix} ({count})" for suffix, count in sorted(others.items())), 5)
        notes.append(f"{others.total()} files of other kinds ignored: {counted}")
    return Findings(rows, problems, notes)


def look_up(codes: Mapping[str, str], code: str, field: str) -> str:
    """The meaning of a code.

    Raises:
        UnreadableNameError: the code is unknown; the message names the known ones.
    """
    check(code, codes, field)
    return codes[code]


def check(code: str, known: Collection[str], field: str) -> None:
    """Make sure that a code is known.

    Raises:
        UnreadableNameError: it is not; the message names the known ones.
    """
    if code not in known:
        raise UnreadableNameError(f"unknown {field} {code} (known: {', '.join(known)})")


def _with_media(row: Utterance, paths: dict[str, str], files: Listing) -> Utterance:
    uris = {kind: files.uri(path) for kind, path in paths.items()}
    return dataclasses.replace(row, audio=uris.get("audio", uris.get("video")), video=uris.get("video"))
