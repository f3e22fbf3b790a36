"""MELD's layout: dialogues of a television series in three splits, one clip with sound per utterance.

Half of the speakers (at most six) lead: they bear names of the original and talk in every split that has three
dialogues or more.
Each of the others belongs to one split. Stock phrases recur word for word in all splits.
"""

import csv
import dataclasses
import functools
import io
from collections.abc import Iterator, Mapping, Sequence

from ser_models.corpora import meld
from ser_models.corpora.synthetic.clips import render_clip
from ser_models.corpora.synthetic.expression import draw_emotion, draw_expression
from ser_models.corpora.synthetic.performance import Performance, count_samples, render_wav
from ser_models.corpora.synthetic.plan import File, Plan, Settings, check_range, choose_emotions
from ser_models.corpora.synthetic.speech import random_generator
from ser_models.corpora.synthetic.words import STOCK_PHRASES, draw_text, seconds_of, syllables_of
from ser_models.corpora.utterance import Utterance

SHARES = {
    "neutral": 0.3,
    "happy": 0.17,
    "angry": 0.14,
    "surprised": 0.13,
    "sad": 0.12,
    "disgusted": 0.07,
    "fearful": 0.07,
}
"""How often each emotion is felt (our choice: the original's order, less uneven)."""

SENTIMENTS = {"neutral": "neutral", "happy": "positive", "surprised": "positive"}
"""Emotion to sentiment, negative for the rest; the original's surprise is of either kind."""

LEADS = {
    "Joey": "male",
    "Rachel": "female",
    "Ross": "male",
    "Monica": "female",
    "Chandler": "male",
    "Phoebe": "female",
}
TURNS = 8
"""Turns of a dialogue."""

_SPLIT_SHARES = {"train": 0.7, "dev": 0.1, "test": 0.2}
_GUEST_SPLITS = ("train", "train", "test", "train", "dev", "train", "train", "test", "train", "train")
_MOST_SPEAKERS = 60
_INVITED = 0.5  # probability that one of them takes part in a dialogue
_STOCK = 0.15  # probability that a turn is a stock phrase
_COLUMNS = (
    "Sr No.",
    "Utterance",
    "Speaker",
    "Emotion",
    "Sentiment",
    "Dialogue_ID",
    "Utterance_ID",
    "Season",
    "Episode",
    "StartTime",
    "EndTime",
)
_CODES = {emotion: code for code, emotion in meld.EMOTIONS.items()}


@dataclasses.dataclass(frozen=True)
class Turn:
    """One utterance: what the parser should read of it, how it is performed, and its times in the episode."""

    row: Utterance
    performance: Performance
    start: float
    end: float


def plan_meld(settings: Settings) -> Plan:
    """Three annotation files and their clips; speakers talk about equally often."""
    check_range("meld", "speakers", settings.speakers, 2, _MOST_SPEAKERS)
    check_range("meld", "utterances", settings.utterances, TURNS, 1000)
    shares = {emotion: SHARES[emotion] for emotion in choose_emotions("meld", settings, SHARES)}
    leads, guests = _cast(settings.speakers)
    rows: list[Utterance] = []
    files: list[File] = []
    for split, dialogues in _dialogues_per_split(settings).items():
        turns: list[Turn] = []
        for number in range(dialogues):
            speakers = _participants(split, number, leads, guests[split], settings.seed)
            turns += _perform_dialogue(split, number, speakers, shares, settings)
        rows += [turn.row for turn in turns]
        files.append(File(f"{split}_sent_emo.csv", functools.partial(render_annotations, tuple(turns))))
        render, suffix = (
            (functools.partial(render_clip, container="mp4"), "mp4")
            if settings.video
            else (render_wav, "wav")
        )
        for turn in turns:
            name = turn.row.utterance_id.removeprefix(f"{split}_")
            content = functools.partial(render, turn.performance, settings)
            files.append(File(f"{meld.FOLDERS[split]}/{name}.{suffix}", content))
    return Plan(tuple(rows), tuple(files), ("emotion", "speaker", "split", "split/emotion"))


def _cast(speakers: int) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Names and genders of those who talk in all splits, and by split of those who talk in one."""
    count = min(len(LEADS), max(2, speakers // 2))
    guests: dict[str, dict[str, str]] = {split: {} for split in meld.FOLDERS}
    for number in range(speakers - count):
        split = _GUEST_SPLITS[number % len(_GUEST_SPLITS)]
        guests[split][f"Guest {number + 1}"] = "male" if number % 2 else "female"
    return dict(list(LEADS.items())[:count]), guests


def _dialogues_per_split(settings: Settings) -> dict[str, int]:
    total = max(len(_SPLIT_SHARES), round(settings.speakers * settings.utterances / TURNS))
    small = {
        split: max(1, round(share * total)) for split, share in _SPLIT_SHARES.items() if split != "train"
    }
    return {"train": total - sum(small.values()), **small}


def _participants(
    split: str, number: int, leads: Mapping[str, str], guests: Mapping[str, str], seed: int
) -> dict[str, str]:
    """Two to four speakers of a dialogue and their genders: leads in rotation, and often a guest.

    Every guest is invited at least once, where a split has as many dialogues as guests.
    """
    random = random_generator(seed, "dialogue", split, number)
    seats = min(len(leads), int(random.integers(2, 4)))
    names = [list(leads)[(2 * number + seat) % len(leads)] for seat in range(seats)]
    if guests and (number < len(guests) or random.random() < _INVITED):
        names.append(list(guests)[number % len(guests)])
    return {name: {**leads, **guests}[name] for name in names}


def _perform_dialogue(
    split: str, number: int, speakers: Mapping[str, str], shares: Mapping[str, float], settings: Settings
) -> Iterator[Turn]:
    """The turns of a dialogue: everybody once, then whoever it falls to."""
    dialogue = f"{split}_dia{number}"
    opening = random_generator(settings.seed, "episode", dialogue)
    season, episode = int(opening.integers(1, 11)), int(opening.integers(1, 25))
    now = opening.uniform(30.0, 1200.0)
    felt: dict[str, str] = {}
    for position in range(TURNS):
        name = f"{dialogue}_utt{position}"
        random = random_generator(settings.seed, "turn", name)
        free = str(random.choice(list(speakers)))
        speaker = list(speakers)[position] if position < len(speakers) else free
        emotion = draw_emotion(shares, felt.get(speaker), random)
        felt[speaker] = emotion
        expression = draw_expression(emotion, shares, random)
        stock = random.random() < _STOCK
        text = str(random.choice(STOCK_PHRASES)) if stock else draw_text(expression.words, random)
        syllables = syllables_of(text)
        performance = Performance(
            name=name,
            speaker=speaker,
            gender=speakers[speaker],
            voice=expression.voice,
            face=expression.face,
            intensity="strong",
            syllables=syllables,
            seconds=seconds_of(syllables, settings.seconds),
        )
        start = now + random.uniform(0.0, 1.5)
        now = start + count_samples(performance, settings.seed, settings.sample_rate) / settings.sample_rate
        row = Utterance(
            utterance_id=name,
            corpus="meld",
            speaker=speaker,
            session=f"s{season:02d}e{episode:02d}",
            dialogue=dialogue,
            turn=position,
            scenario="scripted",
            text=text.replace("'", "’"),
            language="en",
            emotion=emotion,
            split=split,
        )
        yield Turn(row, performance, start, now)


def render_annotations(turns: Sequence[Turn]) -> bytes:
    """The annotation file of a split, UTF-8 with CRLF line ends."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    for serial, turn in enumerate(turns, 1):
        row = turn.row
        assert row.session and row.emotion and row.dialogue
        writer.writerow(
            [
                serial,
                row.text,
                row.speaker,
                _CODES[row.emotion],
                SENTIMENTS.get(row.emotion, "negative"),
                row.dialogue.rpartition("dia")[2],
                row.utterance_id.rpartition("utt")[2],
                int(row.session[1:3]),
                int(row.session[4:6]),
                _clock(turn.start),
                _clock(turn.end),
            ]
        )
    return text.getvalue().encode()


def _clock(seconds: float) -> str:
    """Time of day in an episode.

    >>> _clock(976.0594)
    '00:16:16,059'
    """
    milliseconds = round(1000 * seconds)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d},{rest % 1000:03d}"
