"""CASIA, public part: four Mandarin speakers, six emotions, 50 sentences each (Chinese Academy of Sciences).

The path says everything: ``liuchanhg/angry/201.wav``. The same numbers, 201 to 250, and the same texts stand
under every speaker and emotion; the full corpus of 9,600 recordings has others. The speakers' folders are spelt
in several ways (``ZhaoZuoxiang``, ``liuchang``, ``Chang.Liu``); the names here are the most common ones in
lower case. The folder does not say that ``liuchanhg`` and ``zhaoquanyin`` are women, ``wangzhe`` and
``zhaozuoxiang`` men; a public voice-conversion project files voices of these names so.
"""

import itertools
import re
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.named_files import UnreadableNameError, look_up, parse_names
from ser_models.corpora.parser import Corpus, Counts, Findings
from ser_models.corpora.utterance import Utterance

NAME = "casia"
GENDERS = {"liuchanhg": "female", "wangzhe": "male", "zhaoquanyin": "female", "zhaozuoxiang": "male"}
SPELLINGS = {
    "liuchang": "liuchanhg",
    "changliu": "liuchanhg",
    "zhewang": "wangzhe",
    "quanyinzhao": "zhaoquanyin",
    "zuoxiangzhao": "zhaozuoxiang",
}
"""Other spellings of a speaker's folder, in lower-case letters only."""
EMOTION_FOLDERS = {
    "angry": "angry",
    "fear": "fearful",
    "happy": "happy",
    "neutral": "neutral",
    "sad": "sad",
    "surprise": "surprised",
}
SENTENCES = tuple(str(number) for number in range(201, 251))


def utterance_id(speaker: str, emotion: str, sentence: str) -> str:
    """The id of an utterance.

    >>> utterance_id("liuchanhg", "angry", "201")
    'liuchanhg_angry_201'
    """
    return f"{speaker}_{emotion}_{sentence}"


def parse(files: Listing) -> Findings:
    """Read the paths of all files under a folder."""
    return parse_names(files, _read_path)


def _read_path(file: PurePosixPath) -> Utterance:
    if len(file.parts) < 3 or not file.stem.isascii() or not file.stem.isdigit():
        raise UnreadableNameError("its path is not speaker/emotion/number, such as liuchanhg/angry/201.wav")
    speaker_folder, emotion_folder = file.parts[-3:-1]
    spelling = re.sub(r"[^a-z]", "", speaker_folder.lower())
    speaker = SPELLINGS.get(spelling, spelling)
    if speaker not in GENDERS:
        raise UnreadableNameError(f"unknown speaker folder {speaker_folder} (known: {', '.join(GENDERS)})")
    folder = emotion_folder.lower()
    emotion = look_up(EMOTION_FOLDERS, folder, "emotion folder")
    if file.stem not in SENTENCES:
        raise UnreadableNameError(
            f"sentence {file.stem} is not in the public part ({SENTENCES[0]} to {SENTENCES[-1]})"
        )
    return Utterance(
        utterance_id=utterance_id(speaker, folder, file.stem),
        corpus=NAME,
        speaker=speaker,
        gender=GENDERS[speaker],
        scenario="scripted",
        sentence=file.stem,
        language="zh",
        emotion=emotion,
    )


CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=1200,
        columns={
            "emotion": dict.fromkeys(EMOTION_FOLDERS.values(), 200),
            "speaker": dict.fromkeys(GENDERS, 300),
        },
    ),
    looks_for="files like liuchanhg/angry/201.wav (or .flac)",
    utterances=frozenset(
        utterance_id(*codes) for codes in itertools.product(GENDERS, EMOTION_FOLDERS, SENTENCES)
    ),
    where="http://www.chineseldc.org",
)
