"""Corpora of actors who read the same sentences in every emotion: RAVDESS, EMO-DB, SAVEE, CASIA, EMOVO.

Emotions come in turn, so that any number of utterances is spread evenly over them. Voice and face always show
the emotion; what the sentences say has nothing to do with it.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from ser_models.corpora import casia, emodb, emovo, ravdess, savee
from ser_models.corpora.synthetic.clips import render_clip
from ser_models.corpora.synthetic.performance import Performance, render_wav
from ser_models.corpora.synthetic.plan import File, Plan, Settings, check_range, choose_emotions
from ser_models.corpora.synthetic.speech import Syllable
from ser_models.corpora.synthetic.words import draw_syllables
from ser_models.corpora.utterance import Utterance

_SYLLABLES = 7  # of a sentence, whatever its words are

Take = TypeVar("Take")

_RAVDESS_SYLLABLES: Mapping[str, tuple[Syllable, ...]] = {
    "01": (
        ("stop", "ɪ"),
        ("hiss", "a"),
        ("stop", "ɔ"),
        ("stop", "ɪ"),
        ("hum", "a"),
        ("hiss", "ʌ"),
        ("stop", "ɔ"),
    ),
    "02": (
        ("stop", "ɔ"),
        ("hiss", "a"),
        ("hiss", "ɪ"),
        ("stop", "ɪ"),
        ("hum", "a"),
        ("hiss", "ʌ"),
        ("stop", "ɔ"),
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recording:
    """One recording and where it lies.

    Attributes:
        row: what the parser should read.
        path: of the sound file.
        clip: of the film, where the corpus has films.
        syllables: what is said.
    """

    row: Utterance
    path: str
    clip: str | None = None
    syllables: tuple[Syllable, ...] = ()


def plan_ravdess(settings: Settings) -> Plan:
    """RAVDESS speech: ``Actor_01/03-01-05-01-02-01-01.wav``; with pictures also ``01-…mp4``."""
    codes = {emotion: code for code, emotion in ravdess.EMOTION_CODES.items()}
    takes = {emotion: list(ravdess.takes(emotion)) for emotion in choose_emotions("ravdess", settings, codes)}
    genders = {speaker: "male" if int(speaker) % 2 else "female" for speaker in ravdess.SPEAKERS}
    recordings = []
    for speaker, emotion, take in _in_turn("ravdess", settings, ravdess.SPEAKERS, takes):
        name = ravdess.utterance_id(codes[emotion], *take, speaker)
        intensity, sentence = ravdess.INTENSITY_CODES[take[0]], take[1]
        recordings.append(
            Recording(
                row=_row("ravdess", name, speaker, genders[speaker], emotion, str(int(sentence)), intensity),
                path=f"Actor_{speaker}/{name}.wav",
                clip=f"Actor_{speaker}/01-{name.partition('-')[2]}.mp4",
                syllables=_RAVDESS_SYLLABLES[sentence],
            )
        )
    return _plan(recordings, settings)


def plan_emodb(settings: Settings) -> Plan:
    """EMO-DB: ``wav/03a01Fa.wav``; each sentence once in each emotion, so 70 recordings of a speaker."""
    codes = {emotion: letter for letter, emotion in emodb.EMOTION_CODES.items()}
    takes = dict.fromkeys(choose_emotions("emodb", settings, codes), tuple(emodb.SENTENCES))
    recordings = []
    for speaker, emotion, sentence in _in_turn("emodb", settings, _alternating(emodb.GENDERS), takes):
        name = f"{speaker}{sentence}{codes[emotion]}a"
        row = _row("emodb", name, speaker, emodb.GENDERS[speaker], emotion, sentence)
        recordings.append(Recording(row=row, path=f"wav/{name}.wav"))
    return _plan(recordings, settings)


def plan_savee(settings: Settings) -> Plan:
    """SAVEE: ``AudioData/DC/a01.wav``, all of men; with pictures also ``AudioVisualClip/DC/a01.avi``."""
    codes = {emotion: code for code, emotion in savee.EMOTION_CODES.items()}
    takes = {
        emotion: savee.sentences(codes[emotion]) for emotion in choose_emotions("savee", settings, codes)
    }
    recordings = []
    for speaker, emotion, sentence in _in_turn("savee", settings, savee.SPEAKERS, takes):
        row = _row("savee", f"{speaker}_{sentence}", speaker, "male", emotion, sentence)
        place = f"{speaker}/{sentence}"
        recordings.append(
            Recording(row=row, path=f"AudioData/{place}.wav", clip=f"AudioVisualClip/{place}.avi")
        )
    return _plan(recordings, settings)


def plan_casia(settings: Settings) -> Plan:
    """CASIA, public part: ``liuchanhg/angry/201.wav``."""
    folders = {emotion: folder for folder, emotion in casia.EMOTION_FOLDERS.items()}
    takes = dict.fromkeys(choose_emotions("casia", settings, folders), casia.SENTENCES)
    recordings = []
    for speaker, emotion, sentence in _in_turn("casia", settings, _alternating(casia.GENDERS), takes):
        folder = folders[emotion]
        name = casia.utterance_id(speaker, folder, sentence)
        row = _row("casia", name, speaker, casia.GENDERS[speaker], emotion, sentence)
        recordings.append(Recording(row=row, path=f"{speaker}/{folder}/{sentence}.wav"))
    return _plan(recordings, settings)


def plan_emovo(settings: Settings) -> Plan:
    """EMOVO: ``f1/dis-f1-b1.wav``."""
    codes = {emotion: code for code, emotion in emovo.EMOTION_CODES.items()}
    takes = dict.fromkeys(choose_emotions("emovo", settings, codes), tuple(emovo.SENTENCES))
    genders = {speaker: "female" if speaker.startswith("f") else "male" for speaker in emovo.SPEAKERS}
    recordings = []
    for speaker, emotion, sentence in _in_turn("emovo", settings, _alternating(genders), takes):
        name = f"{codes[emotion]}-{speaker}-{sentence}"
        row = _row("emovo", name, speaker, genders[speaker], emotion, sentence)
        recordings.append(Recording(row=row, path=f"{speaker}/{name}.wav"))
    return _plan(recordings, settings)


def _in_turn(
    layout: str, settings: Settings, speakers: Sequence[str], takes: Mapping[str, Sequence[Take]]
) -> Iterator[tuple[str, str, Take]]:
    """Speaker, emotion and take of each recording; each speaker goes through the emotions in turn."""
    turns = [
        (emotion, takes[emotion][turn])
        for turn in range(max(map(len, takes.values())))
        for emotion in takes
        if turn < len(takes[emotion])
    ]
    check_range(layout, "speakers", settings.speakers, 1, len(speakers))
    check_range(layout, "utterances", settings.utterances, 1, len(turns))
    for speaker in speakers[: settings.speakers]:
        for emotion, take in turns[: settings.utterances]:
            yield speaker, emotion, take


def _alternating(genders: Mapping[str, str]) -> list[str]:
    """The speakers, women and men in turn as long as there are both."""
    women, men = ([name for name in genders if genders[name] == gender] for gender in ("female", "male"))
    pairs = itertools.zip_longest(women, men)
    return [name for pair in pairs for name in pair if name]


def _row(
    corpus: str,
    name: str,
    speaker: str,
    gender: str,
    emotion: str,
    sentence: str,
    intensity: str | None = None,
) -> Utterance:
    return Utterance(
        utterance_id=name,
        corpus=corpus,
        speaker=speaker,
        gender=gender,
        scenario="scripted",
        sentence=sentence,
        emotion=emotion,
        intensity=intensity,
    )


def _plan(recordings: Iterable[Recording], settings: Settings) -> Plan:
    rows, files = [], []
    for recording in recordings:
        row = recording.row
        assert row.speaker and row.gender and row.emotion and row.sentence
        performance = Performance(
            name=recording.path,
            speaker=row.speaker,
            gender=row.gender,
            voice=row.emotion,
            face=row.emotion,
            intensity=row.intensity or "normal",
            syllables=recording.syllables or draw_syllables(f"{row.corpus} {row.sentence}", _SYLLABLES),
            seconds=settings.seconds,
        )
        rows.append(row)
        files.append(File(recording.path, functools.partial(render_wav, performance, settings)))
        if recording.clip and settings.video:
            container = recording.clip.rpartition(".")[2]
            files.append(
                File(recording.clip, functools.partial(render_clip, performance, settings, container))
            )
    return Plan(tuple(rows), tuple(files))
