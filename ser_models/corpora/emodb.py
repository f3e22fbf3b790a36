"""EMO-DB, the Berlin database: ten actors, ten German sentences, seven emotions (Burkhardt et al., 2005).

The name ``wav/03a01Fa.wav`` says speaker 03, text a01, emotion F, version a. The recordings that listeners
recognised and found natural are the published 535; version 2.0.0 adds 281 ambiguous ones. The label files
beside the sound (``.lablaut``, ``.labsilb``, ``.silb``: phones and syllables) are not read.
"""

import re
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.named_files import UnreadableNameError, check, look_up, parse_names
from ser_models.corpora.parser import Corpus, Counts, Findings
from ser_models.corpora.utterance import Utterance

NAME = "emodb"
EMOTION_CODES = {
    "W": "angry",
    "L": "bored",
    "E": "disgusted",
    "A": "fearful",
    "F": "happy",
    "T": "sad",
    "N": "neutral",
}
GENDERS = {
    "03": "male",
    "08": "female",
    "09": "female",
    "10": "male",
    "11": "male",
    "12": "male",
    "13": "female",
    "14": "female",
    "15": "male",
    "16": "female",
}
SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

_PATTERN = re.compile(r"(\d\d)([ab]\d\d)([A-Z])([a-z])")
_PUBLISHED = 535


def parse(files: Listing) -> Findings:
    """Read the names of all files under a folder."""
    findings = parse_names(files, _read_name)
    if (found := len(findings.rows)) > _PUBLISHED:
        findings.notes.append(
            f"{found} utterances, more than the published {_PUBLISHED}: version 2.0.0 adds 281 ambiguous ones; "
            "take version 1.x"
        )
    return findings


def _read_name(file: PurePosixPath) -> Utterance:
    match = _PATTERN.fullmatch(file.stem)
    if not match:
        raise UnreadableNameError("its name is not speaker, text, emotion and version, such as 03a01Fa")
    speaker, sentence, emotion, _ = match.groups()
    check(speaker, GENDERS, "speaker")
    return Utterance(
        utterance_id=file.stem,
        corpus=NAME,
        speaker=speaker,
        gender=GENDERS[speaker],
        scenario="scripted",
        sentence=sentence,
        text=look_up(SENTENCES, sentence, "text"),
        language="de",
        emotion=look_up(EMOTION_CODES, emotion, "emotion letter"),
    )


CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=_PUBLISHED,
        columns={
            "emotion": {
                "angry": 127,
                "bored": 81,
                "disgusted": 46,
                "fearful": 69,
                "happy": 71,
                "sad": 62,
                "neutral": 79,
            },
            "speaker": {
                "03": 49,
                "08": 58,
                "09": 43,
                "10": 38,
                "11": 55,
                "12": 35,
                "13": 61,
                "14": 69,
                "15": 56,
                "16": 71,
            },
        },
    ),
    looks_for="files like wav/03a01Fa.wav (or .flac)",
    where="http://emodb.bilderbar.info",
)
