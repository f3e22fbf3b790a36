"""IEMOCAP's layout: two actors per session, dialogues with votes and ratings, one split-screen film each.

Dialogues of a session alternate between improvised and scripted ones and between the two recordings (``F``,
``M``). The lines of a script, their words included, are the same in every session, as in the original.
The label of a turn is what most annotators ticked, which need not be what the actor felt.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ser_models.corpora.iemocap_evaluation import EMOTION_CODES
from ser_models.corpora.synthetic.annotators import consensus, draw_rating, draw_votes, mean_rating
from ser_models.corpora.synthetic.clips import WIDTH, encode, film_actor
from ser_models.corpora.synthetic.expression import CLEAR, Expression, draw_emotion, draw_expression
from ser_models.corpora.synthetic.performance import Performance, count_samples, render_wav, speak
from ser_models.corpora.synthetic.plan import File, Plan, Settings, check_range, choose_emotions
from ser_models.corpora.synthetic.speech import random_generator
from ser_models.corpora.synthetic.words import draw_text, seconds_of, syllables_of
from ser_models.corpora.utterance import Utterance
from ser_models.errors import UserError

SHARES = {
    "neutral": 0.19,
    "frustrated": 0.15,
    "angry": 0.16,
    "sad": 0.16,
    "excited": 0.15,
    "happy": 0.12,
    "surprised": 0.04,
    "fearful": 0.03,
}
"""How often each emotion is felt (our choice: the original's order, less uneven)."""

TURNS = 6
"""Turns of each actor in a dialogue."""

_SCENES = [
    f"{recorded}_{scene}"
    for impro, script in zip(
        range(1, 8), ("01_1", "01_2", "01_3", "02_1", "02_2", "03_1", "03_2"), strict=True
    )
    for recorded, scene in (
        ("F", f"impro{impro:02d}"),
        ("M", f"script{script}"),
        ("M", f"impro{impro:02d}"),
        ("F", f"script{script}"),
    )
]
_SESSIONS = 5
_GENDERS = {"F": "female", "M": "male"}
_ANNOTATORS = ("E2", "E3", "E4")
_RATERS = (("E3", "E4"), ("E2", "E4"), ("E2", "E3", "E4"))
_AS_WRITTEN = 0.75  # probability that an actor feels what the script's author had in mind
_SELF_REPORT, _SELF_CLARITY = 0.4, 0.9  # probability of a report, and how well actors know themselves
_COMMENTS = ("", "", "", "curious", "mildly annoyed", "holding back")
_CODES = {emotion: code for code, emotion in EMOTION_CODES.items()}
_VOTES = {
    "angry": "Anger",
    "happy": "Happiness",
    "sad": "Sadness",
    "neutral": "Neutral",
    "excited": "Excited",
    "frustrated": "Frustration",
    "fearful": "Fear",
    "surprised": "Surprise",
}
_APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(58)


@dataclasses.dataclass(frozen=True)
class Turn:
    """One turn: what the parser should read of it, and how it is performed."""

    row: Utterance
    performance: Performance

    @property
    def times(self) -> tuple[float, float]:
        """Start and end in the dialogue, seconds."""
        assert self.row.video_start is not None and self.row.video_end is not None
        return self.row.video_start, self.row.video_end


def plan_iemocap(settings: Settings) -> Plan:
    """All dialogues of all sessions; the last dialogue of a session may be shorter."""
    check_range("iemocap", "speakers", settings.speakers, 2, 2 * _SESSIONS)
    check_range("iemocap", "utterances", settings.utterances, 1, TURNS * len(_SCENES))
    if settings.speakers % 2:
        raise UserError(
            f"speakers {settings.speakers} must be even in the layout of iemocap: two per session"
        )
    shares = {emotion: SHARES[emotion] for emotion in choose_emotions("iemocap", settings, SHARES)}
    rows: list[Utterance] = []
    files: list[File] = []
    for session in range(1, settings.speakers // 2 + 1):
        base = f"Session{session}"
        for number, first in enumerate(range(0, settings.utterances, TURNS)):
            dialogue = f"Ses{session:02d}{_SCENES[number]}"
            count = min(TURNS, settings.utterances - first)
            turns = tuple(_perform_dialogue(dialogue, count, shares, settings))
            rows += [turn.row for turn in turns]
            files += _files(base, dialogue, turns, settings)
        # macOS leaves such files beside the real ones; whoever reads the corpus must skip them.
        files += [
            File(f"{base}/dialog/{folder}/._Ses{session:02d}{_SCENES[0]}.txt", lambda: _APPLE_DOUBLE)
            for folder in ("EmoEvaluation", "transcriptions")
        ]
    return Plan(tuple(rows), tuple(files), ("emotion", "speaker", "session", "scenario", "session/emotion"))


def _files(base: str, dialogue: str, turns: tuple[Turn, ...], settings: Settings) -> Iterator[File]:
    partial = functools.partial
    yield File(f"{base}/dialog/EmoEvaluation/{dialogue}.txt", partial(render_evaluation, turns))
    yield File(f"{base}/dialog/transcriptions/{dialogue}.txt", partial(render_transcript, turns))
    for turn in turns:
        yield File(
            f"{base}/sentences/wav/{dialogue}/{turn.row.utterance_id}.wav",
            partial(render_wav, turn.performance, settings),
        )
    if settings.video:
        yield File(f"{base}/dialog/avi/DivX/{dialogue}.avi", partial(_render_film, dialogue, turns, settings))


def _perform_dialogue(
    dialogue: str, count: int, shares: Mapping[str, float], settings: Settings
) -> Iterator[Turn]:
    """The turns of a dialogue; the actor who gives it its letter begins."""
    prefix, scene = dialogue.split("_", 1)
    session, recorded = prefix[3:5], prefix[5]
    scripted = scene.startswith("script")
    before: dict[str, str | None] = {"F": None, "M": None}
    end = 0.5
    for position in range(2 * count):
        letter = recorded if position % 2 == 0 else ("M" if recorded == "F" else "F")
        part = f"{letter}{position // 2:03d}"
        name = f"{dialogue}_{part}"
        random = random_generator(settings.seed, "turn", name)
        felt = draw_emotion(shares, before[letter], random)
        if scripted:
            line = _script_line(f"{scene}_{part}", shares, settings.seed)
            felt = line.emotion if random.random() < _AS_WRITTEN else felt
            expression = draw_expression(felt, shares, random, line.words)
        else:
            expression = draw_expression(felt, shares, random)
        text = line.text if scripted else draw_text(expression.words, random)
        before[letter] = felt
        syllables = syllables_of(text)
        performance = Performance(
            name=name,
            speaker=session + letter,
            gender=_GENDERS[letter],
            voice=expression.voice,
            face=expression.face,
            intensity="strong",
            syllables=syllables,
            seconds=seconds_of(syllables, settings.seconds),
        )
        start = end + random.uniform(0.15, 0.5)
        end = start + count_samples(performance, settings.seed, settings.sample_rate) / settings.sample_rate
        row = Utterance(
            utterance_id=name,
            corpus="iemocap",
            speaker=session + letter,
            gender=_GENDERS[letter],
            session=session,
            dialogue=dialogue,
            turn=position,
            scenario="scripted" if scripted else "improvised",
            script=scene if scripted else None,
            video_start=round(start, 4),
            video_end=round(end, 4),
            video_region="left" if letter == recorded else "right",
            text=text,
            language="en",
        )
        yield Turn(_evaluate(row, expression, tuple(shares), random), performance)


def _evaluate(
    row: Utterance, expression: Expression, known: Sequence[str], random: np.random.Generator
) -> Utterance:
    """The row with what annotators, and sometimes the actor, say of it."""
    votes = {by: draw_votes(expression, known, random) for by in _ANNOTATORS}
    raters = _RATERS[random.integers(len(_RATERS))]
    ratings = {by: draw_rating(expression.emotion, random) for by in raters}
    averages = mean_rating(ratings)
    row = dataclasses.replace(
        row,
        emotion=consensus(votes),
        votes=votes,
        ratings=ratings,
        valence=averages["valence"],
        arousal=averages["arousal"],
        dominance=averages["dominance"],
    )
    if random.random() < _SELF_REPORT:
        assert row.session and row.speaker
        actor = f"{row.speaker[-1]}{int(row.session)}"
        row = dataclasses.replace(
            row,
            self_votes={actor: draw_votes(expression, known, random, _SELF_CLARITY)},
            self_ratings={actor: draw_rating(expression.emotion, random)},
        )
    return row


@dataclasses.dataclass(frozen=True)
class _Line:
    """A line of a script: what its author meant, the emotion that its words show, and the words."""

    emotion: str
    words: str
    text: str


def _script_line(name: str, shares: Mapping[str, float], seed: int) -> _Line:
    """A line of a script, the same in all sessions."""
    random = random_generator(seed, "script", name)
    meant = draw_emotion(shares, None, random)
    words = meant if random.random() < CLEAR["words"] else draw_emotion(shares, None, random)
    return _Line(meant, words, draw_text(words, random))


def render_evaluation(turns: Sequence[Turn]) -> bytes:
    """The evaluation file of a dialogue."""
    lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
    for turn in turns:
        row, (start, end) = turn.row, turn.times
        averages = f"{row.valence:.4f}, {row.arousal:.4f}, {row.dominance:.4f}"
        lines.append(f"[{start:.4f} - {end:.4f}]\t{row.utterance_id}\t{_CODES[row.emotion]}\t[{averages}]")
        for votes in (row.votes, row.self_votes):
            for by, given in (votes or {}).items():
                said = " ".join(f"{_VOTES[emotion]};" for emotion in given)
                lines.append(f"C-{by}:\t{said}\t({_comment(row.utterance_id, by)})")
        for ratings in (row.ratings, row.self_ratings):
            for by, rated in (ratings or {}).items():
                valence, arousal, dominance = (
                    f"{rated[name]:.0f}" for name in ("valence", "arousal", "dominance")
                )
                lines.append(f"A-{by}:\tval {valence}; act {arousal}; dom  {dominance};\t()")
        lines.append("")
    return "\n".join(lines).encode()


def render_transcript(turns: Sequence[Turn]) -> bytes:
    """The transcript of a dialogue."""
    lines = []
    for turn in turns:
        start, end = turn.times
        lines.append(f"{turn.row.utterance_id} [{start:08.4f}-{end:08.4f}]: {turn.row.text}\n")
    return "".join(lines).encode()


def _comment(turn: str, annotator: str) -> str:
    return str(random_generator("comment", turn, annotator).choice(_COMMENTS))


def _render_film(dialogue: str, turns: Sequence[Turn], settings: Settings) -> bytes:
    """Both actors side by side; the one whose letter the dialogue has is on the left."""
    seconds = turns[-1].times[1] + 0.5
    rate = settings.sample_rate
    sound = np.zeros(round(seconds * rate))
    for turn in turns:
        signal = speak(turn.performance, settings.seed, rate)
        first = round(turn.times[0] * rate)
        sound[first : first + len(signal)] += signal
    session, recorded = dialogue[3:5], dialogue[5]
    halves = [
        film_actor(
            session + letter,
            _GENDERS[letter],
            [(turn.times[0], turn.performance) for turn in turns if turn.row.speaker == session + letter],
            seconds,
            settings,
            name=dialogue,
            width=WIDTH // 2,
        )
        for letter in sorted("FM", key=lambda letter: letter != recorded)
    ]
    return encode((np.hstack(pair) for pair in zip(*halves, strict=True)), sound, rate, "avi")
