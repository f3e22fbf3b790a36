"""The synthetic IEMOCAP and MELD: formats, who speaks where, labels that people could have given."""

import csv
import io
import re
from collections import Counter, defaultdict

import numpy as np
import pytest

from ser_models.corpora import DIMENSIONS
from ser_models.corpora.synthetic import LAYOUTS, Plan, Settings
from ser_models.corpora.synthetic.annotators import (
    SIMILAR,
    TYPICAL_RATINGS,
    consensus,
    draw_rating,
    draw_votes,
)
from ser_models.corpora.synthetic.expression import CLEAR, Expression, draw_expression
from ser_models.corpora.synthetic.iemocap import SHARES
from ser_models.corpora.synthetic.speech import random_generator
from ser_models.corpora.synthetic.words import EMOTION_WORDS, FILLERS, draw_text, syllables_of


@pytest.fixture(scope="module")
def iemocap() -> Plan:
    return LAYOUTS["iemocap"].plan(Settings(speakers=10, utterances=60, seconds=1.3))


@pytest.fixture(scope="module")
def meld() -> Plan:
    return LAYOUTS["meld"].plan(LAYOUTS["meld"].defaults)


def content(plan: Plan, path: str) -> str:
    return next(file for file in plan.files if file.path == path).render().decode()


# IEMOCAP


def test_evaluations_have_the_official_form(iemocap):
    text = content(iemocap, "Session2/dialog/EmoEvaluation/Ses02F_impro01.txt")
    header, *blocks = text.split("\n\n")
    assert header == "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"
    assert len(blocks) == 12
    number = r"\d\.\d{4}"
    for block in blocks:
        first, *lines = block.strip().split("\n")
        turn = re.fullmatch(
            rf"\[\d+\.\d{{4}} - \d+\.\d{{4}}\]\t(Ses02F_impro01_([FM])\d{{3}})\t([a-z]{{3}})\t"
            rf"\[{number}, {number}, {number}\]",
            first,
        )
        assert turn, first
        for line in lines:
            assert re.fullmatch(
                r"C-(E[234]|[FM]2):\t([A-Z][a-z]+;( |(?=\t)))+\t\([a-z ]*\)"
                r"|A-(E[234]|[FM]2):\tval [1-5]; act [1-5]; dom  [1-5];\t\(\)",
                line,
            ), line
        reporting = {match[0] for line in lines if (match := re.search(r"(?<=-)[FM]\d", line))}
        assert reporting <= {f"{turn[2]}2"}


def test_transcripts_have_the_official_form(iemocap):
    lines = content(iemocap, "Session1/dialog/transcriptions/Ses01M_script01_1.txt").splitlines()
    assert len(lines) == 12
    for line in lines:
        assert re.fullmatch(r"Ses01M_script01_1_[FM]\d{3} \[\d{3}\.\d{4}-\d{3}\.\d{4}\]: \S.*[.?!]", line)


def test_both_actors_speak_in_turn_in_both_recordings_of_a_session(iemocap):
    by_dialogue = defaultdict(list)
    for row in iemocap.rows:
        by_dialogue[row.dialogue].append(row)
    assert {name[5] for name in by_dialogue} == {"F", "M"}
    for name, rows in by_dialogue.items():
        assert [row.turn for row in rows] == list(range(len(rows)))
        assert all(first.video_end < then.video_start for first, then in zip(rows, rows[1:], strict=False))
        assert rows[0].speaker[-1] == name[5]
        assert all(first.speaker != then.speaker for first, then in zip(rows, rows[1:], strict=False))
        assert {row.speaker for row in rows if row.video_region == "left"} == {name[3:5] + name[5]}


def test_scripts_repeat_their_words_in_every_session_and_improvisations_do_not(iemocap):
    texts = defaultdict(set)
    for row in iemocap.rows:
        scene, part = row.utterance_id.split("_", 1)[1].rsplit("_", 1)
        texts[row.scenario, scene, part].add(row.text)
    scripted = [found for (scenario, *_), found in texts.items() if scenario == "scripted"]
    improvised = [found for (scenario, *_), found in texts.items() if scenario == "improvised"]
    assert len(scripted) == len(improvised) == 36
    assert {len(found) for found in scripted} == {1}
    assert all(len(found) >= 5 for found in improvised)


def test_the_label_is_the_majority_and_brackets_are_means(iemocap):
    for row in iemocap.rows:
        assert row.emotion == consensus(row.votes)
        for name in DIMENSIONS:
            mean = np.mean([rated[name] for rated in row.ratings.values()])
            assert getattr(row, name) == pytest.approx(mean, abs=5e-5)  # printed with four digits
    without = sum(row.emotion is None for row in iemocap.rows) / len(iemocap.rows)
    assert 0.08 < without < 0.3
    assert 0.2 < sum(row.self_votes is not None for row in iemocap.rows) / len(iemocap.rows) < 0.6


def test_every_session_has_every_frequent_emotion_and_some_are_rare(iemocap):
    for session in range(1, 6):
        counts = Counter(row.emotion for row in iemocap.rows if row.session == f"{session:02d}")
        assert all(counts[emotion] >= 5 for emotion in ("angry", "sad", "neutral", "frustrated"))
        assert counts["happy"] + counts["excited"] >= 5
    total = Counter(row.emotion for row in iemocap.rows)
    assert 0 < total["surprised"] < total["sad"] / 2
    assert 0 < total["fearful"] < total["sad"] / 2


def test_only_chosen_emotions_are_felt_heard_and_voted():
    chosen = ("angry", "happy", "neutral", "sad")
    plan = LAYOUTS["iemocap"].plan(Settings(speakers=2, utterances=40, emotions=chosen))
    voted = {emotion for row in plan.rows for given in row.votes.values() for emotion in given}
    assert voted == set(chosen)
    assert {row.emotion for row in plan.rows} == {*chosen, None}


def test_hidden_files_lie_beside_the_labels(iemocap):
    hidden = [file for file in iemocap.files if file.path.rsplit("/", 1)[1].startswith("._")]
    assert len(hidden) == 10
    assert all(file.render()[:4] == b"\x00\x05\x16\x07" for file in hidden)  # AppleDouble's magic number


# MELD


def test_annotations_are_the_official_table(meld):
    text = content(meld, "train_sent_emo.csv")
    assert text.count("\r\n") == text.count("\n")
    assert re.search(r'\r\n\d+,"[^"]+, [^"]+",', text)  # texts with commas are quoted
    assert "’" in text
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert list(lines[0]) == (
        "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"
    ).split(",")
    assert [line["Sr No."] for line in lines] == [str(number) for number in range(1, len(lines) + 1)]
    clock = re.compile(r"00:\d\d:\d\d,\d{3}")
    for line in lines:
        assert clock.fullmatch(line["StartTime"]) and clock.fullmatch(line["EndTime"])
        assert line["StartTime"] < line["EndTime"]
        assert line["Sentiment"] in ("neutral", "positive", "negative")
        assert (line["Sentiment"] == "neutral") == (line["Emotion"] == "neutral")


def test_leads_talk_in_all_splits_and_everybody_else_in_one(meld):
    splits = defaultdict(set)
    for row in meld.rows:
        splits[row.speaker].add(row.split)
    assert len(splits) == 12
    leads = {speaker for speaker, found in splits.items() if len(found) == 3}
    guests = {speaker for speaker, found in splits.items() if len(found) == 1}
    assert (len(leads), len(guests)) == (6, 6)
    assert {split for guest in guests for split in splits[guest]} == {"train", "dev", "test"}


@pytest.mark.parametrize("speakers", [2, 3, 7, 12, 25, 60])
@pytest.mark.parametrize("utterances", [8, 20])
def test_every_speaker_talks_and_dialogues_have_two_to_four(speakers, utterances):
    rows = LAYOUTS["meld"].plan(Settings(speakers=speakers, utterances=utterances, video=False)).rows
    assert len({row.speaker for row in rows}) == speakers
    assert {row.split for row in rows} == {"train", "dev", "test"}
    dialogues = defaultdict(set)
    for row in rows:
        dialogues[row.dialogue].add(row.speaker)
    assert {len(found) for found in dialogues.values()} <= {2, 3, 4}


def test_some_short_texts_are_in_train_and_test(meld):
    texts = {split: {row.text for row in meld.rows if row.split == split} for split in ("train", "test")}
    shared = texts["train"] & texts["test"]
    assert shared
    assert all(len(text.split()) < 4 for text in shared)


# Expressions, words, annotators


def test_voice_face_and_words_tell_independently_of_each_other():
    random = random_generator("expressions")
    drawn = [draw_expression("sad", SHARES, random) for _ in range(4000)]
    clear = np.array([[each.voice == "sad", each.face == "sad", each.words == "sad"] for each in drawn])
    by_chance = SHARES["sad"] / sum(SHARES.values())
    expected = [probability + (1 - probability) * by_chance for probability in CLEAR.values()]
    # Three standard errors of a share of 4000 draws are 0.024, of a correlation 0.047.
    np.testing.assert_allclose(clear.mean(0), expected, atol=0.025)
    assert np.abs(np.corrcoef(clear.T) - np.eye(3)).max() < 0.05


def test_texts_carry_the_words_of_their_emotion():
    random = random_generator("texts")

    def share(shown: str, words: tuple[str, ...]) -> float:
        spoken = [re.findall(r"[\w']+", draw_text(shown, random)) for _ in range(300)]
        known = {word.lower() for word in words}
        return float(np.mean([word.lower() in known for text in spoken for word in text]))

    assert share("sad", EMOTION_WORDS["sad"]) > 5 * share("angry", EMOTION_WORDS["sad"]) > 0
    assert share("neutral", FILLERS) > 0.9
    assert not set(FILLERS) & {word for words in EMOTION_WORDS.values() for word in words}


def test_a_word_sounds_the_same_wherever_it_occurs():
    first, second = syllables_of("Wow, the kitchen!"), syllables_of("I know the kitchen.")
    assert first[-2:] == second[-2:]
    assert len(syllables_of("Hey!")) == 1


def test_annotators_agree_the_more_the_clearer_an_emotion_is():
    random = random_generator("annotators")

    def agreement(voice: str, face: str, words: str) -> float:
        expression = Expression(emotion="sad", voice=voice, face=face, words=words)
        return float(
            np.mean([draw_votes(expression, tuple(SHARES), random)[0] == "sad" for _ in range(2000)])
        )

    shares = [
        agreement("neutral", "happy", "happy"),
        agreement("sad", "happy", "happy"),
        agreement("sad", "sad", "happy"),
        agreement("sad", "sad", "sad"),
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.3 and shares[-1] > 0.8


def test_no_majority_is_no_label():
    assert consensus({"E2": ["sad", "angry"], "E3": ["sad", "angry"], "E4": ["neutral"]}) is None
    assert consensus({"E2": ["sad"], "E3": ["angry"], "E4": ["neutral"]}) is None
    assert consensus({"E2": ["sad"], "E3": ["sad", "neutral"], "E4": ["neutral", "fearful"]}) is None
    assert consensus({"E2": ["sad"], "E3": ["sad", "neutral"], "E4": ["fearful"]}) == "sad"


def test_ratings_are_whole_numbers_around_the_typical_ones():
    random = random_generator("ratings")
    for emotion, typical in TYPICAL_RATINGS.items():
        drawn = np.array([list(draw_rating(emotion, random).values()) for _ in range(500)])
        assert set(np.unique(drawn)) <= {1, 2, 3, 4, 5}
        # Three standard errors, and what clipping at 1 and 5 shifts.
        np.testing.assert_allclose(drawn.mean(0), typical, atol=0.15)
    assert set(TYPICAL_RATINGS) == set(SIMILAR) >= set(SHARES)
