"""SAVEE: four British men, seven emotions, sound and video (Haq and Jackson, 2009).

The name ``AudioData/DC/sa07.wav`` says speaker DC, sadness, sentence 7 of that emotion; flat copies carry the
speaker in the name, ``ALL/DC_sa07.wav``. Clips with pictures, ``AudioVisualClip/DC/sa07.avi``, become the video
of the same utterance.

The sentences come from TIMIT: for each emotion 3 that all emotions share, 2 written for it and 10 generic ones;
neutral repeats the shared and the emotions' own sentences and so has 30. The names do not say which numbers are
the shared ones. ``sentence`` is therefore the file's code (``sa07``), our choice: equal texts may stand behind
different codes. ``text`` is null.
"""

import itertools
import re
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.named_files import UnreadableNameError, check, look_up, parse_names
from ser_models.corpora.parser import Corpus, Counts, Findings
from ser_models.corpora.utterance import Utterance

NAME = "savee"
SPEAKERS = ("DC", "JE", "JK", "KL")
EMOTION_CODES = {
    "a": "angry",
    "d": "disgusted",
    "f": "fearful",
    "h": "happy",
    "n": "neutral",
    "sa": "sad",
    "su": "surprised",
}

_PATTERN = re.compile(r"(?:([A-Z]{2})_)?([a-z]{1,2})(\d\d)")


def sentences(code: str) -> list[str]:
    """The sentences of an emotion, such as ``sa01`` to ``sa15``.

    >>> len(sentences("n")), sentences("sa")[-1]
    (30, 'sa15')
    """
    return [f"{code}{number:02d}" for number in range(1, 31 if EMOTION_CODES[code] == "neutral" else 16)]


def parse(files: Listing) -> Findings:
    """Read the names of all files under a folder."""
    return parse_names(files, _read_name, video=True)


def _read_name(file: PurePosixPath) -> Utterance:
    match = _PATTERN.fullmatch(file.stem)
    if not match:
        raise UnreadableNameError("its name is not emotion and number, such as sa07 or DC_sa07")
    named, code, number = match.groups()
    folder = file.parent.name.upper()
    speaker = named or folder
    check(speaker, SPEAKERS, "speaker")
    if folder in SPEAKERS and folder != speaker:
        raise UnreadableNameError(f"speaker {speaker} in its name, but it lies in the folder {folder}")
    emotion = look_up(EMOTION_CODES, code, "emotion code")
    sentence = f"{code}{number}"
    if sentence not in sentences(code):
        raise UnreadableNameError(f"unknown sentence {sentence} ({emotion} ends at {sentences(code)[-1]})")
    return Utterance(
        utterance_id=f"{speaker}_{sentence}",
        corpus=NAME,
        speaker=speaker,
        gender="male",
        scenario="scripted",
        sentence=sentence,
        language="en",
        accent="British",
        emotion=emotion,
    )


CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=480,
        columns={
            "emotion": {name: 120 if name == "neutral" else 60 for name in EMOTION_CODES.values()},
            "speaker": dict.fromkeys(SPEAKERS, 120),
        },
    ),
    looks_for="files like AudioData/DC/sa07.wav or ALL/DC_sa07.wav (or .flac; .avi for clips with pictures)",
    utterances=frozenset(
        f"{speaker}_{sentence}"
        for speaker, code in itertools.product(SPEAKERS, EMOTION_CODES)
        for sentence in sentences(code)
    ),
    where="http://kahlan.eps.surrey.ac.uk/savee/",
)
