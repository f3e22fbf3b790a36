"""RAVDESS speech: 24 actors, two sentences, eight emotions (Livingstone and Russo, 2018, PLOS ONE 13(5)).

Everything is in the file name, ``modality-channel-emotion-intensity-statement-repetition-actor``, two digits
each, inside a folder of the actor: ``Actor_12/03-01-06-01-02-01-12.wav``. Modality 01 is sound and pictures,
02 pictures only, 03 sound only; the three show one and the same performance. They therefore become one row,
whose id is always the name of the sound-only file, ``03-01-06-01-02-01-12``, whatever files are there:

=============  ==========================  ================
files          audio                       video
=============  ==========================  ================
03             03                          null
03 and 01      03                          01
01             01 (the sound of the clip)  01
02, with 03    03                          02
02 alone       null                        02
=============  ==========================  ================

Songs (channel 02) are another task and are left out with a note.
"""

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.parser import Corpus, Counts, Findings, Problem
from ser_models.corpora.utterance import Utterance

NAME = "ravdess"
SPEAKERS = tuple(f"{actor:02d}" for actor in range(1, 25))
EMOTION_CODES = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgusted",
    "08": "surprised",
}
INTENSITY_CODES = {"01": "normal", "02": "strong"}
STATEMENTS = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
REPETITIONS = ("01", "02")

_SOUND_AND_PICTURES, _PICTURES, _SOUND = "01", "02", "03"
_SPEECH = "01"
_FIELDS = {
    "modality": (_SOUND_AND_PICTURES, _PICTURES, _SOUND),
    "vocal channel": (_SPEECH, "02"),
    "emotion": tuple(EMOTION_CODES),
    "intensity": tuple(INTENSITY_CODES),
    "statement": tuple(STATEMENTS),
    "repetition": REPETITIONS,
    "actor": SPEAKERS,
}
_SUFFIXES = {_SOUND_AND_PICTURES: (".mp4",), _PICTURES: (".mp4",), _SOUND: (".wav", ".flac")}
_MEDIA = (".wav", ".flac", ".mp4")
_PATTERN = re.compile(r"\d\d(-\d\d){6}")
_ACTOR_FOLDER = re.compile(r"actor_(\d+)", re.IGNORECASE)


def utterance_id(emotion: str, intensity: str, statement: str, repetition: str, actor: str) -> str:
    """The name of a sound-only speech file from its codes, without its suffix."""
    return "-".join((_SOUND, _SPEECH, emotion, intensity, statement, repetition, actor))


def parse(files: Listing) -> Findings:
    """Read the names of all files under a folder."""
    problems: list[Problem] = []
    recordings: dict[str, dict[str, str]] = defaultdict(dict)  # utterance id → modality → path
    songs = others = 0
    for path in files.paths:
        file = PurePosixPath(path)
        if not (_PATTERN.fullmatch(file.stem) or file.suffix.lower() in _MEDIA):
            others += 1
        elif wrong := _wrong_name(file):
            problems.append(Problem(files.uri(path), wrong))
        elif file.stem.split("-")[1] != _SPEECH:
            songs += 1
        else:
            modality, _, *codes = file.stem.split("-")
            identity = utterance_id(*codes)
            first = recordings[identity].setdefault(modality, path)
            if first != path:
                problems.append(Problem(files.uri(path), f"duplicate of {file.stem}: {first} is taken"))
    notes = []
    if songs:
        notes.append(f"{songs} songs (vocal channel 02) left out: this is the speech corpus")
    if unused := sum({_PICTURES, _SOUND_AND_PICTURES} <= set(found) for found in recordings.values()):
        notes.append(
            f"{unused} clips without sound (02-) left out: the clip with sound (01-) has the same pictures"
        )
    if others:
        notes.append(f"{others} files of other kinds ignored")
    rows = [_row(identity, found, files) for identity, found in recordings.items()]
    return Findings(rows, problems, notes)


def _wrong_name(file: PurePosixPath) -> str | None:
    """Why the file cannot be identified, or None."""
    if not _PATTERN.fullmatch(file.stem):
        return "its name is not seven pairs of digits, such as 03-01-06-01-02-01-12"
    codes = file.stem.split("-")
    for (field, allowed), code in zip(_FIELDS.items(), codes, strict=True):
        if code not in allowed:
            return f"unknown {field} code {code} (known: {allowed[0]} to {allowed[-1]})"
    modality, _, emotion, intensity, *_, actor = codes
    if EMOTION_CODES[emotion] == "neutral" and INTENSITY_CODES[intensity] != "normal":
        return "neutral speech has no strong intensity"
    if file.suffix.lower() not in _SUFFIXES[modality]:
        expected = " or ".join(_SUFFIXES[modality])
        return f"a file of modality {modality} ends in {expected}, this one in {file.suffix or 'nothing'}"
    folder = _ACTOR_FOLDER.fullmatch(file.parent.name)
    if folder and int(folder[1]) != int(actor):
        return f"actor {actor} in its name, but it lies in the folder {file.parent.name}"
    return None


def _row(identity: str, paths: dict[str, str], files: Listing) -> Utterance:
    """Join the files that show one performance."""
    _, _, emotion, intensity, statement, _, actor = identity.split("-")
    audio = paths.get(_SOUND, paths.get(_SOUND_AND_PICTURES))
    video = paths.get(_SOUND_AND_PICTURES, paths.get(_PICTURES))
    return Utterance(
        utterance_id=identity,
        corpus=NAME,
        speaker=actor,
        gender="male" if int(actor) % 2 else "female",
        scenario="scripted",
        sentence=str(int(statement)),
        audio=files.uri(audio) if audio else None,
        video=files.uri(video) if video else None,
        text=STATEMENTS[statement],
        language="en",
        accent="North American",
        emotion=EMOTION_CODES[emotion],
        intensity=INTENSITY_CODES[intensity],
    )


def takes(emotion: str) -> Iterator[tuple[str, str, str]]:
    """Codes of intensity, statement and repetition in which an emotion is spoken."""
    intensities = ["01"] if emotion == "neutral" else list(INTENSITY_CODES)
    for repetition, statement, intensity in itertools.product(REPETITIONS, STATEMENTS, intensities):
        yield intensity, statement, repetition


CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=1440,
        columns={
            "emotion": {name: 96 if name == "neutral" else 192 for name in EMOTION_CODES.values()},
            "speaker": dict.fromkeys(SPEAKERS, 60),
        },
    ),
    looks_for="files like Actor_12/03-01-06-01-02-01-12.wav (.flac, or .mp4 for 01- and 02- clips)",
    utterances=frozenset(
        utterance_id(code, *take, actor)
        for code, emotion in EMOTION_CODES.items()
        for take in takes(emotion)
        for actor in SPEAKERS
    ),
    where="https://zenodo.org/records/1188976",
)
