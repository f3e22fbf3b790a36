"""The manifest's columns: what the project knows of one utterance, and the checks every row passes.

One row is one utterance. What a corpus does not say is null, never a guess. Emotion names are canonical here;
each system maps them to its own label set.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from ser_models.errors import UserError

EMOTIONS = (
    "angry",
    "happy",
    "excited",
    "sad",
    "neutral",
    "fearful",
    "disgusted",
    "surprised",
    "calm",
    "frustrated",
    "bored",
    "other",
)
"""Canonical emotion names; an unknown emotion is null."""

GENDERS = ("female", "male")
SCENARIOS = ("improvised", "scripted")
REGIONS = ("left", "right")

DIMENSIONS = ("valence", "arousal", "dominance")

_VOTES = pa.map_(pa.string(), pa.list_(pa.string()))
_RATINGS = pa.map_(pa.string(), pa.struct([(name, pa.float64()) for name in DIMENSIONS]))

MANIFEST_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("speaker", pa.string()),
        pa.field("gender", pa.string()),
        pa.field("session", pa.string()),
        pa.field("dialogue", pa.string()),
        pa.field("turn", pa.int32()),
        pa.field("scenario", pa.string()),
        pa.field("script", pa.string()),
        pa.field("sentence", pa.string()),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("audio", pa.string()),
        pa.field("video", pa.string()),
        pa.field("video_start", pa.float64()),
        pa.field("video_end", pa.float64()),
        pa.field("video_region", pa.string()),
        pa.field("text", pa.string()),
        pa.field("language", pa.string()),
        pa.field("accent", pa.string()),
        pa.field("emotion", pa.string()),
        pa.field("intensity", pa.string()),
        pa.field("votes", _VOTES),
        pa.field("self_votes", _VOTES),
        pa.field("valence", pa.float64()),
        pa.field("arousal", pa.float64()),
        pa.field("dominance", pa.float64()),
        pa.field("ratings", _RATINGS),
        pa.field("self_ratings", _RATINGS),
        pa.field("split", pa.string()),
        pa.field("duration", pa.float64()),
        pa.field("sample_rate", pa.int32()),
        pa.field("channels", pa.int32()),
        pa.field("parent", pa.string()),
    ]
)
"""Columns of a manifest, in order; the metadata of a table adds ``corpus``, ``root`` and ``synthetic``."""

Votes = Mapping[str, Sequence[str]]
Ratings = Mapping[str, Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Utterance:
    """One row of a manifest; None means that the corpus does not say."""

    utterance_id: str
    """Unique inside the corpus."""
    corpus: str
    """Registered name of the corpus."""
    speaker: str | None = None
    """Unique inside the corpus."""
    gender: str | None = None
    """``female`` or ``male``."""
    session: str | None = None
    dialogue: str | None = None
    turn: int | None = None
    """Position in the dialogue, counted from 0."""
    scenario: str | None = None
    """``improvised`` or ``scripted``."""
    script: str | None = None
    sentence: str | None = None
    """Id of the prescribed sentence, where speakers share sentences."""
    start: float | None = None
    """Seconds inside the audio file; None: from its beginning."""
    end: float | None = None
    """Seconds inside the audio file; None: to its end."""
    audio: str | None = None
    """URI of the file whose sound is used."""
    video: str | None = None
    """URI of the file whose pictures are used; may equal ``audio``."""
    video_start: float | None = None
    """Seconds inside the video file; None: from its beginning."""
    video_end: float | None = None
    """Seconds inside the video file; None: to its end."""
    video_region: str | None = None
    """The part of the frame that shows the speaker: ``left`` or ``right`` half; None: the whole."""
    text: str | None = None
    language: str | None = None
    """BCP-47, such as ``en``."""
    accent: str | None = None
    emotion: str | None = None
    """One of `EMOTIONS`."""
    intensity: str | None = None
    votes: Votes | None = None
    """Annotator to the emotions that they ticked."""
    self_votes: Votes | None = None
    """The speaker's own report, in the form of ``votes``."""
    valence: float | None = None
    """Mean over the annotators, on the corpus's own scale; so are arousal and dominance."""
    arousal: float | None = None
    dominance: float | None = None
    ratings: Ratings | None = None
    """Annotator to a number for each of `DIMENSIONS` that they rated."""
    self_ratings: Ratings | None = None
    """The speaker's own ratings."""
    split: str | None = None
    """The corpus's own split, where it publishes one."""
    duration: float | None = None
    """Seconds; None also where the media file cannot be read."""
    sample_rate: int | None = None
    """Hz, as found in the audio file."""
    channels: int | None = None
    parent: str | None = None
    """Id of the utterance of which this is an altered copy."""


def build_table(
    rows: Iterable[Utterance], *, corpus: str, root: str, synthetic: bool = False, **metadata: str
) -> pa.Table:
    """Build a manifest from rows, sorted by utterance id.

    Args:
        rows: the utterances, in any order.
        corpus: the name that every row must carry.
        root: URI of the folder that was read.
        synthetic: whether the recordings were generated.
        metadata: further text for the schema's metadata.

    Raises:
        UserError: an id is given twice, a required field is empty, or a value is not allowed; the message
            names the rows.
    """
    ordered = sorted(rows, key=lambda row: row.utterance_id)
    _check(ordered, corpus)
    facts = {"corpus": corpus, "root": root, "synthetic": "true" if synthetic else "false", **metadata}
    columns = [
        _column(field, [getattr(row, field.name) for row in ordered], ordered) for field in MANIFEST_SCHEMA
    ]
    return pa.Table.from_arrays(columns, schema=MANIFEST_SCHEMA.with_metadata(facts))


def shorten(items: Iterable[str], limit: int = 3) -> str:
    """Join the first items for a message and say how many follow.

    >>> shorten(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    listed = list(items)
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def _check(rows: Sequence[Utterance], corpus: str) -> None:
    seen = Counter(row.utterance_id for row in rows)
    if twice := [name for name, count in seen.items() if count > 1]:
        raise UserError(f"{corpus}: utterance ids must be unique; given more than once: {shorten(twice)}")
    complaints = [
        f"{row.utterance_id or '(no id)'}: {wrong}" for row in rows if (wrong := _wrong(row, corpus))
    ]
    if complaints:
        raise UserError(f"{corpus}: {shorten(complaints)}")


def _wrong(row: Utterance, corpus: str) -> str | None:
    """What is wrong with one row, or None."""
    if not row.utterance_id:
        return "utterance_id is empty"
    if row.corpus != corpus:
        return f"corpus is {row.corpus!r}, expected {corpus!r}"
    closed = {"emotion": EMOTIONS, "gender": GENDERS, "scenario": SCENARIOS, "video_region": REGIONS}
    for field, allowed in closed.items():
        value = getattr(row, field)
        if value is not None and value not in allowed:
            return f"{field} {value!r} is not one of {', '.join(allowed)}"
    for field in ("votes", "self_votes"):
        named = {emotion for ticked in (getattr(row, field) or {}).values() for emotion in ticked}
        if unknown := sorted(named.difference(EMOTIONS)):
            return f"{field}: {shorten(map(repr, unknown))} not among {', '.join(EMOTIONS)}"
    for prefix in ("", "video_"):
        start, end = getattr(row, f"{prefix}start") or 0.0, getattr(row, f"{prefix}end")
        if end is not None and end <= start:
            return f"{prefix}end ({end} s) must come after {prefix}start ({start} s)"
    return None


def _column(field: pa.Field, values: list[Any], rows: Sequence[Utterance]) -> pa.Array:
    if pa.types.is_map(field.type):
        values = [None if by_annotator is None else sorted(by_annotator.items()) for by_annotator in values]
    try:
        return pa.array(values, type=field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError):
        culprit = next(index for index, value in enumerate(values) if not _fits(field.type, value))
        raise UserError(
            f"{rows[culprit].utterance_id}: {field.name} {values[culprit]!r} is not of type {field.type}"
        ) from None


def _fits(kind: pa.DataType, value: Any) -> bool:
    try:
        pa.array([value], type=kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeError):
        return False
    return True
