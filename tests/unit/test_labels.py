"""Label sets, soft labels from votes, and the context of a dialogue."""

import numpy as np
import pyarrow as pa
import pytest

from ser_models.corpora import EMOTIONS
from ser_models.corpora.utterance import MANIFEST_SCHEMA
from ser_models.errors import UserError
from ser_models.models.dialogue import context_turns
from ser_models.models.labels import (
    LABEL_SETS,
    OWN,
    get_label_set,
    hard_targets,
    unmapped,
    vote_targets,
)

FOUR = LABEL_SETS["iemocap4"]


def manifest_of(rows: list[dict[str, object]]) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in MANIFEST_SCHEMA.names}
    return pa.table(columns, schema=MANIFEST_SCHEMA)


def votes_of(*ballots: list[str]) -> list[tuple[str, list[str]]]:
    return [(f"E{number}", ballot) for number, ballot in enumerate(ballots)]


def test_every_label_set_is_made_of_canonical_emotions_without_repetition() -> None:
    for labels in LABEL_SETS.values():
        assert len(set(labels.classes)) == len(labels.classes)
        assert {*labels.classes, *labels.merged, *labels.merged.values()} <= set(EMOTIONS)


def test_a_system_may_order_the_classes_but_not_change_them() -> None:
    camser = FOUR.of_system("camser")
    assert FOUR.of_system("timnet") == FOUR
    assert [LABEL_SETS["iemocap7"].of_system("amh").classes[index] for index in (0, 6)] == [
        "angry",
        "neutral",
    ]
    assert hard_targets(["excited", "sad"], camser).target.argmax(1).tolist() == [2, 1]
    with pytest.raises(ValueError, match="no order of"):
        FOUR.ordered(("angry", "sad", "happy"))


def test_emotions_outside_the_set_are_left_out_and_counted() -> None:
    emotions = ["calm", "excited", None, "sad", "calm"]
    assert hard_targets(emotions, FOUR).rows.tolist() == [1, 3]
    assert unmapped(emotions, FOUR) == {"(none)": 1, "calm": 2}


def test_a_corpus_of_ones_own_brings_its_own_classes() -> None:
    labels = get_label_set(OWN, ["sad", "bored", None, "angry", "sad"], EMOTIONS)
    assert labels.classes == ("angry", "sad", "bored")
    with pytest.raises(UserError, match="no utterance of this corpus has an emotion"):
        get_label_set(OWN, [None], EMOTIONS)
    with pytest.raises(UserError, match="unknown label set 'four'; known: iemocap4"):
        get_label_set("four", [], EMOTIONS)


@pytest.mark.parametrize(
    ("emotion", "votes", "target", "clear"),
    [
        ("angry", None, [1, 0, 0, 0], True),  # no votes: one-hot
        ("angry", votes_of(["angry"], ["angry"], ["sad"]), [2 / 3, 0, 0, 1 / 3], True),
        (None, votes_of(["angry"], ["sad"], ["neutral"]), [1 / 3, 0, 1 / 3, 1 / 3], False),
        (None, votes_of(["angry"], ["frustrated"], ["other"]), [1, 0, 0, 0], False),
        # Excited is happy before the majority is looked for, and one ballot counts once.
        (None, votes_of(["happy"], ["excited"], ["sad"]), [0, 2 / 3, 0, 1 / 3], True),
        ("happy", votes_of(["happy", "excited"], ["happy"], ["neutral"]), [0, 2 / 3, 1 / 3, 0], True),
        # Two emotions with as many votes: nobody holds the majority.
        (None, votes_of(["angry", "sad"], ["angry", "sad"], ["neutral"]), [0.4, 0, 0.2, 0.4], False),
        # Half is no majority.
        (None, votes_of(["angry"], ["sad"]), [0.5, 0, 0, 0.5], False),
    ],
)
def test_soft_targets_are_vote_proportions(emotion, votes, target, clear) -> None:
    targets = vote_targets(manifest_of([{"emotion": emotion, "votes": votes}]), FOUR)
    np.testing.assert_allclose(targets.target, [target], atol=1e-6)
    assert targets.clear.tolist() == [clear]


@pytest.mark.parametrize(
    ("emotion", "votes"),
    [
        ("frustrated", votes_of(["frustrated"], ["frustrated"], ["angry"])),  # the majority is no class
        ("other", votes_of(["other"], ["surprised"], ["fearful"])),  # no vote for a class
        (None, None),
    ],
)
def test_what_no_class_describes_takes_no_part(emotion, votes) -> None:
    targets = vote_targets(manifest_of([{"emotion": emotion, "votes": votes}]), FOUR)
    assert len(targets.rows) == 0 and targets.target.shape == (0, 4)


def test_the_target_of_a_clear_utterance_is_led_by_its_majority() -> None:
    random = np.random.default_rng(0)
    ballots = [
        votes_of(*(list(random.choice(EMOTIONS[:6], random.integers(1, 3), replace=False)) for _ in range(4)))
        for _ in range(300)
    ]
    targets = vote_targets(
        manifest_of([{"votes": votes} for votes in ballots]), LABEL_SETS["iemocap4-no-excited"]
    )
    assert 20 < targets.clear.sum() < len(targets.clear)
    for row, target, clear in zip(targets.rows, targets.target, targets.clear, strict=True):
        ticked = [emotion for _, ballot in ballots[row] for emotion in ballot]
        leading = LABEL_SETS["iemocap4"].classes[int(target.argmax())]
        if clear:
            assert ticked.count(leading) > 2
            assert np.sort(target)[-1] > np.sort(target)[-2]


def talk(*turns: tuple[str, int, str | None]) -> pa.Table:
    return manifest_of(
        [
            {"utterance_id": f"u{n}", "dialogue": dialogue, "turn": turn, "speaker": speaker}
            for n, (dialogue, turn, speaker) in enumerate(turns)
        ]
    )


def test_context_is_the_speakers_previous_turn_and_the_others_last_turn() -> None:
    context = context_turns(talk(("d", 0, "F"), ("d", 1, "M"), ("d", 2, "M"), ("d", 3, "F"), ("e", 0, "F")))
    assert context["previous"].tolist() == [-1, -1, 1, 0, -1]
    assert context["interlocutor"].tolist() == [-1, 0, 0, 2, -1]


def test_context_does_not_depend_on_the_order_of_the_rows() -> None:
    table = talk(("d", 3, "F"), ("d", 1, "M"), ("d", 0, "F"), ("d", 2, "M"))
    context = context_turns(table)
    assert context["previous"].tolist() == [2, -1, -1, 1]
    assert context["interlocutor"].tolist() == [3, 2, -1, 2]


def test_turns_further_back_than_the_limit_are_no_context() -> None:
    turns = [("d", 0, "F"), *(("d", number, "M") for number in range(1, 6)), ("d", 6, "F")]
    assert context_turns(talk(*turns), look_back=6)["previous"][6] == 0
    assert context_turns(talk(*turns), look_back=5)["previous"][6] == -1
    with pytest.raises(ValueError, match="look_back = 0"):
        context_turns(talk(*turns), look_back=0)


def test_utterances_outside_dialogues_and_unknown_speakers_have_no_context() -> None:
    table = manifest_of(
        [
            {"utterance_id": "a", "speaker": "F"},
            {"dialogue": "d", "turn": 0},
            {"dialogue": "d", "turn": 1, "speaker": "F"},
        ]
    )
    context = context_turns(table)
    assert context["previous"].tolist() == context["interlocutor"].tolist() == [-1, -1, -1]


def test_the_last_of_several_others_is_the_interlocutor() -> None:
    context = context_turns(talk(("d", 0, "A"), ("d", 1, "B"), ("d", 2, "C"), ("d", 3, "A")))
    assert context["interlocutor"].tolist() == [-1, 0, 1, 2]
