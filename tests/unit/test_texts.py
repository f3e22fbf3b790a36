"""Which transcripts say the same: what counts of a text, exact search for near ones, MELD's real repetitions."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest

from ser_models.protocols.texts import MIN_WORDS, TextIndex, index_texts, tokens


def rows(*numbers: int) -> np.ndarray:
    return np.array(numbers, dtype=np.int64)


def jaccard(one: str, other: str) -> float:
    first, second = set(tokens(one)), set(tokens(other))
    return len(first & second) / len(first | second)


def near(index: TextIndex) -> list[list[int]]:
    """Pairs that an index holds to be nearly equal, whether singly or in a block; the smaller number first, sorted."""
    found = index.near
    pairs = {tuple(sorted(pair)) for pair in found.pairs.tolist()}
    for number, limit in enumerate(found.limits.tolist()):
        inside = found.block == number
        members = zip(found.members[inside].tolist(), found.sizes[inside].tolist(), strict=True)
        pairs |= {
            (min(one, other), max(one, other))
            for (one, size), (other, also) in itertools.combinations(members, 2)
            if size + also <= limit
        }
    return sorted(map(list, pairs))


def near_by_comparing_all(texts: list[str], threshold: float) -> list[list[int]]:
    """What `index_texts` must find, in a number of comparisons that grows with the square."""
    index = index_texts(texts, threshold)
    said = {int(number): set(tokens(text)) for number, text in zip(index.numbers, texts, strict=True)}
    return [
        [one, other]
        for one, other in itertools.combinations(sorted(said), 2)
        if min(index.words[one], index.words[other]) >= MIN_WORDS
        and len(said[one] & said[other]) / len(said[one] | said[other]) >= threshold - 1e-9
    ]


def zipf_texts(count: int, vocabulary: int, shortest: int, longest: int, seed: int = 0) -> list[str]:
    """Random texts whose k-th most frequent word has a share proportional to 1/k."""
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, vocabulary + 1)
    lengths = rng.integers(shortest, longest + 1, count)
    words = rng.choice(vocabulary, size=lengths.sum(), p=shares / shares.sum())
    return [" ".join(f"w{word}" for word in text) for text in np.split(words, np.cumsum(lengths)[:-1])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("I don't know.", "i dont know"),
        ("I don’t KNOW!", "i dont know"),
        ("i dont know", "i dont know"),
        ("‘Kay, “goin'” home…", "kay goin home"),
        ("[LAUGHTER] Oh [she turns] no-no", "oh no no"),
        ("an [unclosed remark", "an unclosed remark"),
        ("  tabs\tand\nlines  ", "tabs and lines"),
        ("ﬁne ＡＢＣ Straße", "fine abc strasse"),
        ("caf\u00e9 soft\u00adhyphen", "café softhyphen"),
        ("cafe\u0301", "café"),
        ("$5 and 50% x_y", "5 and 50 x y"),
        ("我不知道。", "我 不 知 道"),
        ("我说hello吧", "我 说 hello 吧"),
        ("がんばって", "が ん ば っ て"),
        ("กินข้าว", "กิ น ข้ า ว"),
        ("আমি ভালো আছি।", "আমি ভালো আছি"),
        ("안녕 하세요", "안녕 하세요"),
        ("Voglio il libro, perché?", "voglio il libro perché"),
        ("[LAUGHTER]", ""),
        ("... --", ""),
    ],
)
def test_what_counts_of_a_text(text, expected):
    assert " ".join(tokens(text)) == expected


def test_rows_that_say_the_same_share_a_number_and_no_text_has_none():
    index = index_texts(["Dogs are here!", None, "dogs are HERE", "", "[BREATHING]", "dogs are there"])
    assert index.numbers.tolist() == [0, -1, 0, -1, -1, 1]
    assert index.words.tolist() == [3, 3]


@pytest.mark.parametrize("texts", [[], [None, None], ["", "[LAUGHTER]"], ["hi", "oh", None]])
def test_corpora_without_texts_or_with_short_ones_have_no_neighbours(texts):
    index = index_texts(texts)
    assert near(index) == []
    everything = np.arange(len(texts))
    assert len(index.matches(everything, everything).rows) == 0


def test_one_word_in_ten_more_is_near_and_two_are_not():
    ten = "one two three four five six seven eight nine ten"
    index = index_texts(
        [ten, f"{ten} eleven", f"{ten} eleven twelve", "one two three four five six seven eight nine"]
    )
    assert near(index) == [[0, 1], [0, 3], [1, 2]]


def test_the_same_words_in_another_order_are_near_and_short_texts_never_are():
    index = index_texts(
        ["no no no no", "no no no no no", "no no no", "you are so kind", "so kind you are", "are you"]
    )
    assert near(index) == [[0, 1], [3, 4]]


def test_matches_are_equal_or_near_texts_and_short_ones_are_counted_apart():
    long = "it was the best of times it was the worst of times we had"
    texts = [
        long,
        "you are so kind",
        "oh my god",
        None,
        "Oh my God!",
        long + " together",
        "You are so kind.",
        "else",
    ]
    matches = index_texts(texts).matches(rows(7, 6, 5, 4, 3), rows(0, 1, 2))
    assert matches.rows.tolist() == [6, 5]
    assert matches.partners.tolist() == [1, 0]
    assert matches.near.tolist() == [False, True]
    assert matches.short == 1


def test_an_equal_text_is_preferred_to_a_near_one_and_the_first_row_to_others():
    words = "a b c d e f g h i j"
    texts = [f"{words} k", words, words, words]
    matches = index_texts(texts).matches(rows(3), rows(0, 1, 2))
    assert (matches.partners.tolist(), matches.near.tolist()) == ([1], [False])
    matches = index_texts(texts).matches(rows(0), rows(2, 3))
    assert (matches.partners.tolist(), matches.near.tolist()) == ([2], [True])


def test_empty_parts_match_nothing():
    index = index_texts(["you are so kind"])
    assert len(index.matches(rows(0), rows()).rows) == len(index.matches(rows(), rows(0)).rows) == 0


@pytest.mark.parametrize("threshold", [0.5, 0.75, 0.8, 0.9, 1.0])
@pytest.mark.parametrize(("vocabulary", "longest"), [(8, 8), (12, 14), (30, 40)])
def test_the_search_finds_exactly_what_comparing_all_pairs_finds(threshold, vocabulary, longest):
    texts = zipf_texts(250, vocabulary, 1, longest)
    rng = np.random.default_rng(1)
    for text in texts[:100]:
        words = text.split()
        words[rng.integers(len(words))] = f"w{rng.integers(vocabulary)}"
        texts.append(" ".join([*words, "new"] if rng.random() < 0.5 else words))
    expected = near_by_comparing_all(texts, threshold)
    assert len(expected) > 10
    assert near(index_texts(texts, threshold)) == expected


def test_of_200_000_texts_of_common_words_each_planted_near_copy_is_found():
    texts = zipf_texts(199_000, 20_000, 12, 20)
    # One new word beside n different ones: a Jaccard similarity of n / (n + 1), from n = 9 on at least 0.9.
    chosen = [row for row in range(1000) if len(set(texts[row].split())) >= 9]
    index = index_texts(texts + [f"{texts[row]} otherwise" for row in chosen])
    planted = {(int(index.numbers[row]), len(texts) + copy) for copy, row in enumerate(chosen)}
    found = set(map(tuple, near(index)))
    assert len(planted) > 900
    assert planted <= found
    assert len(found) < 2 * len(planted)


def test_100_000_texts_that_share_their_words_are_searched_without_comparing_all_pairs():
    """A command grammar: every text has the same frame, and every word occurs in thousands of texts."""
    lists = [[f"{slot}{word}" for word in range(6)] for slot in "abcdefg"]
    texts = [
        " ".join(["please", "now", *words]) for words in itertools.islice(itertools.product(*lists), 100_000)
    ]
    assert near(index_texts(texts)) == []


def prompts(kind: str, count: int) -> list[str]:
    """Texts made from templates, of which nearly all pairs are candidates."""
    if kind == "one slot":
        return [" ".join([*CARRIER[:19], f"own{number}"]) for number in range(count)]
    if kind == "a slot of one to three words":
        return [
            " ".join([*CARRIER[:30], *(f"own{number}{letter}" for letter in "abc"[: number % 3 + 1])])
            for number in range(count)
        ]
    if kind == "two templates that begin alike":
        return [
            " ".join([*CARRIER[:18], *(("left", "red") if number % 2 else ("right", "blue")), f"own{number}"])
            for number in range(count)
        ]
    if kind == "slips of the pen":
        rng = np.random.default_rng(0)
        texts = []
        for number in range(count):
            words = CARRIER[:25]
            words[rng.integers(25)] = f"slip{number}"
            texts.append(" ".join(words[: 25 - number % 2]))
        return texts
    assert kind == "three slots"
    slots = itertools.product(*([f"{slot}{word}" for word in range(8)] for slot in "xyz"))
    return [" ".join([*CARRIER[:36], *words]) for words in itertools.islice(slots, count)]


CARRIER = [f"word{number}" for number in range(40)]


@pytest.mark.parametrize(
    "kind",
    [
        "one slot",
        "a slot of one to three words",
        "two templates that begin alike",
        "slips of the pen",
        "three slots",
    ],
)
@pytest.mark.parametrize("threshold", [0.8, 0.9, 0.95])
def test_near_texts_made_from_templates_are_exactly_those_of_comparing_all_pairs(kind, threshold):
    texts = prompts(kind, 300) + zipf_texts(60, 30, 4, 20)
    index = index_texts(texts, threshold)
    expected = near_by_comparing_all(texts, threshold)
    assert near(index) == expected
    neighbours = {number: set[int]() for number in range(len(index.words))}
    for one, other in expected:
        neighbours[one].add(other)
        neighbours[other].add(one)
    first, second = np.split(np.random.default_rng(2).permutation(len(texts)), 2)
    there = set(index.numbers[second].tolist())
    matches = index.matches(first, second)
    expected_rows = [
        row
        for row, number in zip(first.tolist(), index.numbers[first].tolist(), strict=True)
        if index.words[number] >= MIN_WORDS and (number in there or neighbours[number] & there)
    ]
    assert matches.rows.tolist() == expected_rows
    assert set(matches.partners.tolist()) <= set(second.tolist())
    assert all(
        jaccard(texts[row], texts[partner]) >= threshold
        for row, partner in zip(matches.rows, matches.partners, strict=True)
    )


def test_of_100_000_texts_with_one_slot_no_pair_is_kept():
    """All five thousand million pairs are near."""
    texts = prompts("one slot", 100_000)
    index = index_texts(texts)
    assert len(index.near.pairs) == 0 and len(index.near.members) == len(texts)
    matches = index.matches(np.arange(1, len(texts)), rows(0))
    assert len(matches.rows) == len(texts) - 1 and matches.near.all()


def test_too_many_near_pairs_end_the_search_and_equal_texts_are_still_found():
    texts = prompts("three slots", 400)
    whole = index_texts(texts)
    assert whole.near.complete and len(whole.near.pairs) > 1000
    cut = index_texts([*texts, texts[0]], max_pairs=1000)
    assert not cut.near.complete and len(cut.near.pairs) <= 1000
    assert cut.matches(rows(400), rows(0)).rows.tolist() == [400]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.1])
def test_an_impossible_threshold_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must lie in \(0, 1\]"):
        index_texts([], threshold)


@pytest.fixture(scope="module")
def meld(real_corpora: Path) -> dict[str, list[str]]:
    parts = {}
    for part in ("train", "dev", "test"):
        with open(real_corpora / "meld" / f"{part}_sent_emo.csv", encoding="utf-8", newline="") as stream:
            parts[part] = [line["Utterance"] for line in csv.DictReader(stream)]
    return parts


def test_texts_of_meld_s_test_part_recur_in_its_training_part(meld):
    train, test = meld["train"], meld["test"]
    # The known count is of rows whose text as written occurs in training: 331 utterances, 136 different texts.
    assert sum(text in set(train) for text in test) == 331
    index = index_texts(train + test)
    first = np.arange(len(train), len(train) + len(test))
    matches = index.matches(first, np.arange(len(train)))
    assert np.count_nonzero(~matches.near) == 28
    assert np.count_nonzero(matches.near) == 6
    assert matches.short == 376
    texts = train + test
    for row, partner, near in zip(matches.rows, matches.partners, matches.near, strict=True):
        assert (tokens(texts[row]) == tokens(texts[partner])) != near
        assert jaccard(texts[row], texts[partner]) >= 0.9
