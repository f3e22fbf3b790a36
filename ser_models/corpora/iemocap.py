"""IEMOCAP: ten actors in five sessions of two, improvised and scripted (Busso et al., 2008, LREC journal 42).

The speaker of a turn is the letter of the *last* part of its name: ``Ses01F_impro01_M003`` is spoken by the
man, ``01M``. The first letter names the dialogue's recording, whose actor wore the markers and is in the left
half of the picture; taken for the speaker, it is wrong for half of the corpus.

=======================  ========================================================================
column                   where it is from, below ``SessionN/``
=======================  ========================================================================
emotion, votes, ratings  ``dialog/EmoEvaluation/<dialogue>.txt``, see `iemocap_evaluation`
valence and so on        the averages that are printed there, even where the ratings have others
text                     ``dialog/transcriptions/<dialogue>.txt``
audio                    ``sentences/wav/<dialogue>/<turn>.wav`` (or ``.flac``)
video                    ``dialog/avi/DivX/<dialogue>.avi``, from ``video_start`` to ``video_end``
script                   of a scripted dialogue, without the letter of its variant
=======================  ========================================================================

An annotator who rated a turn twice gets the mean of both (our choice).
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import PurePosixPath

from ser_models import places
from ser_models.corpora.iemocap_evaluation import (
    DIALOGUE_NAME,
    TURN_NAME,
    Transcript,
    Turn,
    is_actor,
    mean_ratings,
    read_evaluation,
    read_transcript,
)
from ser_models.corpora.listing import Listing
from ser_models.corpora.parser import Corpus, Counts, Findings, Problem, Selection
from ser_models.corpora.text import read_text
from ser_models.corpora.utterance import Utterance, shorten

NAME = "iemocap"

_EVALUATION_PATH = re.compile(r"(?P<base>(?:.*/)?)dialog/EmoEvaluation/(?P<dialogue>Ses[^/]*)\.txt")
_RECORDING_PATH = re.compile(r"(?P<stem>(?:.*/)?sentences/wav/[^/]+/[^/]+)\.(?:wav|flac)")
_SESSION_FOLDER = re.compile(r"session\s*(\d+)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class _Dialogue:
    """A dialogue and the places of its files."""

    name: str
    base: str
    evaluation: str

    @property
    def transcript(self) -> str:
        return f"{self.base}dialog/transcriptions/{self.name}.txt"

    @property
    def video(self) -> str:
        return f"{self.base}dialog/avi/DivX/{self.name}.avi"

    def recording(self, turn: str) -> str:
        """The place of a turn's recording, without suffix."""
        return f"{self.base}sentences/wav/{self.name}/{turn}"


def parse(files: Listing) -> Findings:
    """Read the evaluations and transcripts of all dialogues under a folder."""
    findings = Findings([], [], [])
    dialogues = _find_dialogues(files, findings)
    recordings = _find_recordings(files, findings)
    transcripts = _find_companions(
        "transcript", {each: each.transcript for each in dialogues}, files, findings
    )
    videos = _find_companions("video", {each: each.video for each in dialogues}, files, findings)
    read = {path for each in dialogues for path in (each.evaluation, each.transcript, each.video)}
    ignored = sum(path not in read and not _is_ours(path) for path in files.paths)
    surplus = 0
    speechless: list[str] = []
    disagreeing: list[str] = []
    odd: list[str] = []
    for dialogue in dialogues:
        evaluation = read_evaluation(_read(files.uri(dialogue.evaluation), findings), dialogue.name)
        _report(files.uri(dialogue.evaluation), evaluation.faults, findings)
        odd += [f"{dialogue.name}.txt {remark}" for remark in evaluation.remarks]
        transcript = Transcript({}, 0, [])
        if uri := transcripts.get(dialogue):
            transcript = read_transcript(_read(uri, findings), evaluation.turns)
            _report(uri, transcript.faults, findings)
            surplus += transcript.surplus
            speechless += [name for name in evaluation.turns if name not in transcript.words]
        order = _order(evaluation.turns.values())
        for name, turn in evaluation.turns.items():
            audio = recordings.pop(stem := dialogue.recording(name), None)
            if audio is None:
                _report(files.uri(f"{stem}.wav"), ["no recording of this evaluated turn"], findings)
            if turn.disagrees():
                disagreeing.append(name)
            row = _row(turn, order.get(name), transcript.words.get(name), audio, videos.get(dialogue))
            findings.rows.append(row)
    if disagreeing:
        findings.notes.append(
            f"{len(disagreeing)} turns whose printed valence, activation and dominance are not the means of "
            f"their ratings; the printed ones are taken: {shorten(disagreeing)}"
        )
    if odd:
        findings.notes.append(f"{len(odd)} parts of annotations left out: {shorten(odd)}")
    if speechless:
        findings.notes.append(f"{len(speechless)} turns are not in their transcript: {shorten(speechless)}")
    if surplus:
        findings.notes.append(f"{surplus} transcript lines belong to no evaluated turn")
    if recordings:
        names = shorten(PurePosixPath(stem).name for stem in recordings)
        findings.notes.append(f"{len(recordings)} recordings of turns without evaluation left out: {names}")
    if ignored:
        findings.notes.append(f"{ignored} files of other kinds ignored")
    return findings


def _is_ours(path: str) -> bool:
    return bool(_EVALUATION_PATH.fullmatch(path) or _RECORDING_PATH.fullmatch(path))


def _find_dialogues(files: Listing, findings: Findings) -> list[_Dialogue]:
    """The dialogues that have an evaluation file and whose name agrees with their place."""
    found: dict[str, _Dialogue] = {}
    for path in files.paths:
        if not (place := _EVALUATION_PATH.fullmatch(path)):
            continue
        dialogue = _Dialogue(place["dialogue"], place["base"], path)
        name = DIALOGUE_NAME.fullmatch(dialogue.name)
        folder = PurePosixPath(places.name(files.root), dialogue.base).name
        session = _SESSION_FOLDER.fullmatch(folder)
        if not name:
            wrong = "its name is not that of a dialogue, such as Ses01F_impro01 or Ses01F_script01_1"
        elif session and int(session[1]) != int(name["session"]):
            wrong = f"a dialogue of session {int(name['session'])} in the folder {folder}"
        elif (first := found.setdefault(dialogue.name, dialogue)) is not dialogue:
            wrong = f"duplicate of {dialogue.name}: {first.evaluation} is taken"
        else:
            continue
        _report(files.uri(path), [wrong], findings)
    return list(found.values())


def _find_recordings(files: Listing, findings: Findings) -> dict[str, str]:
    """The URIs of the turns' recordings, by their paths without suffix."""
    found: dict[str, str] = {}
    for path in files.paths:
        if place := _RECORDING_PATH.fullmatch(path):
            uri = files.uri(path)
            if (first := found.setdefault(place["stem"], uri)) != uri:
                name = PurePosixPath(path).stem
                _report(uri, [f"duplicate of {name}: {places.name(first)} is taken"], findings)
    return found


def _find_companions(
    what: str, wanted: Mapping[_Dialogue, str], files: Listing, findings: Findings
) -> dict[_Dialogue, str]:
    """The URIs of one further file of each dialogue; a corpus that has none of them is only remarked on."""
    present = frozenset(files.paths)
    found = {dialogue: files.uri(path) for dialogue, path in wanted.items() if path in present}
    if not found:
        findings.notes.append(f"no {what} of any dialogue is there")
        return {}
    for dialogue, path in wanted.items():
        if dialogue not in found:
            _report(files.uri(path), [f"no {what} of this dialogue"], findings)
    return found


def _read(uri: str, findings: Findings) -> str:
    text, remark = read_text(uri)
    if remark:
        findings.notes.append(remark)
    return text


def _report(uri: str, faults: Iterable[str], findings: Findings) -> None:
    findings.problems.extend(Problem(uri, fault) for fault in faults)


def _order(turns: Iterable[Turn]) -> dict[str, int]:
    """Positions in the dialogue by time, ties by name; a turn without times has none."""
    timed = sorted((turn.times[0], turn.name) for turn in turns if turn.times)
    return {name: position for position, (_, name) in enumerate(timed)}


def _row(
    turn: Turn, position: int | None, text: str | None, audio: str | None, video: str | None
) -> Utterance:
    parts = TURN_NAME.fullmatch(turn.name)
    assert parts
    start, end = turn.times or (None, None)
    scripted = parts["scene"].startswith("script")
    ratings = {by: mean_ratings(lines) for by, lines in turn.ratings.items()}
    return Utterance(
        utterance_id=turn.name,
        corpus=NAME,
        speaker=parts["session"] + parts["speaker"],
        gender="female" if parts["speaker"] == "F" else "male",
        session=parts["session"],
        dialogue=parts["dialogue"],
        turn=position,
        scenario="scripted" if scripted else "improvised",
        script=parts["scene"] if scripted else None,
        audio=audio,
        video=video,
        video_start=start,
        video_end=end,
        video_region="left" if parts["speaker"] == parts["recorded"] else "right",
        text=text or None,
        language="en",
        emotion=turn.emotion,
        votes={by: given for by, given in turn.votes.items() if not is_actor(by)} or None,
        self_votes={by: given for by, given in turn.votes.items() if is_actor(by)} or None,
        valence=turn.averages.get("valence"),
        arousal=turn.averages.get("arousal"),
        dominance=turn.averages.get("dominance"),
        ratings={by: given for by, given in ratings.items() if not is_actor(by)} or None,
        self_ratings={by: given for by, given in ratings.items() if is_actor(by)} or None,
    )


# Scenarios: Busso et al. (2008). Sessions: turns of the full release. Emotions: all codes of its evaluation files,
# as counted at https://github.com/CXianRen/AMST (Doc/dataset/IEMOCAP.md). Speakers: by the last part of the name.
_EMOTIONS = {
    "neutral": 1708,
    "frustrated": 1849,
    "angry": 1103,
    "sad": 1084,
    "excited": 1041,
    "happy": 595,
    "surprised": 107,
    "fearful": 40,
    "other": 3,
    "disgusted": 2,
    "(unknown)": 2507,
}
_FOUR = ("angry", "happy", "neutral", "sad")
_FOUR_BY_SPEAKER = {
    "01F": (147, 132, 171, 78),
    "01M": (82, 146, 213, 116),
    "02F": (67, 166, 135, 113),
    "02M": (70, 161, 227, 84),
    "03F": (92, 128, 130, 172),
    "03M": (148, 158, 190, 133),
    "04F": (205, 185, 76, 62),
    "04M": (122, 118, 182, 81),
    "05F": (78, 159, 221, 132),
    "05M": (92, 283, 163, 113),
}
_FOUR_BY_SESSION = {
    session: tuple(map(sum, zip(*(counts for _, counts in speakers), strict=True)))
    for session, speakers in groupby(_FOUR_BY_SPEAKER.items(), key=lambda entry: entry[0][:2])
}


def _crossed(counts: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {
        f"{group}/{emotion}": count
        for group, row in counts.items()
        for emotion, count in zip(_FOUR, row, strict=True)
    }


def _raw(title: str, counts: Mapping[str, int], scenario: str | None = None) -> Selection:
    """A selection whose classes are the emotions themselves."""
    return Selection(
        title=title,
        classes={emotion: emotion for emotion in counts},
        scenario=scenario,
        published=Counts(sum(counts.values()), {"emotion": counts}),
    )


CORPUS = Corpus(
    name=NAME,
    parse=parse,
    published=Counts(
        total=10039,
        columns={
            "emotion": _EMOTIONS,
            "session": {"01": 1819, "02": 1811, "03": 2136, "04": 2103, "05": 2170},
            "scenario": {"improvised": 4784, "scripted": 5255},
        },
    ),
    looks_for="files like Session1/dialog/EmoEvaluation/Ses01F_impro01.txt",
    selections=(
        Selection(
            title="4 classes, excited counted as happy",
            classes={**{emotion: emotion for emotion in _FOUR}, "excited": "happy"},
            published=Counts(
                total=5531,
                columns={
                    "emotion": {"angry": 1103, "happy": 1636, "neutral": 1708, "sad": 1084},
                    "session": {session: sum(counts) for session, counts in _FOUR_BY_SESSION.items()},
                    "session/emotion": _crossed(_FOUR_BY_SESSION),
                    "speaker": {speaker: sum(counts) for speaker, counts in _FOUR_BY_SPEAKER.items()},
                    "speaker/emotion": _crossed(_FOUR_BY_SPEAKER),
                },
            ),
        ),
        _raw(
            "4 classes, improvised, excited apart",
            {"angry": 289, "happy": 284, "excited": 663, "neutral": 1099, "sad": 608},
            "improvised",
        ),
        _raw(
            "4 classes, scripted, excited apart",
            {"angry": 814, "happy": 311, "excited": 378, "neutral": 609, "sad": 476},
            "scripted",
        ),
        _raw(
            "7 classes",
            {
                name: _EMOTIONS[name]
                for name in ("angry", "excited", "happy", "sad", "frustrated", "surprised", "neutral")
            },
        ),
    ),
    where="https://sail.usc.edu/iemocap/",
)
