"""EMOVO: six Italian actors, 14 sentences, seven emotions (Costantini et al., LREC 2014).

The name ``f1/dis-f1-b1.wav`` says disgust, speaker f1 (a woman), sentence b1. Sentences b are short, l long,
n without sense, d questions.
"""

import itertools
import re
from pathlib import PurePosixPath

from ser_models.corpora.listing import Listing
from ser_models.corpora.named_files import UnreadableNameError, check, look_up, parse_names
from ser_models.corpora.parser import Corpus, Counts, Findings
from ser_models.corpora.utterance import Utterance

NAME = "emovo"
SPEAKERS = ("f1", "f2", "f3", "m1", "m2", "m3")
EMOTION_CODES = {
    "dis": "disgusted",
    "gio": "happy",
    "neu": "neutral",
    "pau": "fearful",
    "rab": "angry",
    "sor": "surprised",
    "tri": "sad",
}
SENTENCES = {
    "b1": "Gli operai si alzano presto.",
    "b2": "I vigili sono muniti di pistola.",
    "b3": "La cascata fa molto rumore.",
    "l1": "L'autunno prossimo Tony partirà per la Spagna nella prima metà di ottobre.",
    "l2": "Ora prendo la felpa di là ed esco per fare una passeggiata.",
    "l3": "Un attimo dopo s'è incamminato ed è inciampato.",
    "l4": "Vorrei il numero telefonico del Signor Piatti.",
    "n1": "La casa forte vuole col pane.",
    "n2": "La forza trova il passo e l'aglio rosso.",
    "n3": "Il gatto sta scorrendo nella pera.",
    "n4": "Insalata pastasciutta coscia d'agnello limoncello.",
    "n5": "Uno quarantatré dieci mille cinquantasette venti.",
    "d1": "Sabato sera cosa farà?",
    "d2": "Porti con te quella cosa?",
}

_PATTERN = re.compile(r"([a-z]{3})-([a-z]\d)-([a-z]\d)")


def parse(files: Listing) -> Findings:
    """Read the names of all files under a folder."""
    return parse_names(files, _read_name)


def _read_name(file: PurePosixPath) -> Utterance:
    match = _PATTERN.fullmatch(file.stem)
    if not match:
        raise UnreadableNameError("its name is not emotion, speaker and sentence, such as dis-f1-b1")
    emotion, speaker, sentence = match.groups()
    check(speaker, SPEAKERS, "speaker")
    folder = file.parent.name.lower()
    if folder in SPEAKERS and folder != speaker:
        raise UnreadableNameError(f"speaker {speaker} in its name, but it lies in the folder {folder}")
    return Utterance(
        utterance_id=file.stem,
        corpus=NAME,
        speaker=speaker,
        gender="female" if speaker.startswith("f") else "male",
        scenario="scripted",
        sentence=sentence,
        text=look_up(SENTENCES, sentence, "sentence"),
        language="it",
        emotion=look_up(EMOTION_CODES, emotion, "emotion code"),
    )


CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=588,
        columns={
            "emotion": dict.fromkeys(EMOTION_CODES.values(), 84),
            "speaker": dict.fromkeys(SPEAKERS, 98),
        },
    ),
    looks_for="files like f1/dis-f1-b1.wav (or .flac)",
    utterances=frozenset("-".join(codes) for codes in itertools.product(EMOTION_CODES, SPEAKERS, SENTENCES)),
    where="http://voice.fub.it/activities/corpora/emovo/index.html",
)
