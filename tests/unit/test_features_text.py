"""Words, their vocabulary and vectors, and text encoders."""

import doctest
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tiny_models
import torch
import transformers

from ser_models.errors import UserError
from ser_models.features import build_view, words
from ser_models.features.transforms import TRANSFORMS, Fitted, Vocabulary, ids_hash
from ser_models.features.views import Remarked, reads_words
from ser_models.features.words import tokenize

CPU = torch.device("cpu")
TEXTS = ["", "I am happy.", "you are not sad, it is what it is", "angry!", "so so so happy"]
GLOVE = "the 0.1 0.2 0.3\n. . . -1 -2 -3\nhappy 1 2 3\nété 4 5 6\nhappy 7 8 9\n"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Folder of each kind of text encoder."""
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_models.build(kind, root / kind) for kind in ("bert", "roberta", "hubert", "whisper")}


@pytest.fixture
def glove(tmp_path: Path) -> Path:
    path = tmp_path / "glove.txt"
    path.write_text(GLOVE, encoding="utf-8")
    return path


def said(*texts: str) -> list[tuple[str, np.ndarray]]:
    view = build_view("words")
    return [(f"u{number}", view(text)) for number, text in enumerate(texts)]


def test_doctests() -> None:
    assert doctest.testmod(words).failed == 0


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", []),
        (" \n\t", []),
        ("Good muffins cost $3.88 in New York.", "Good muffins cost $ 3.88 in New York ."),
        ("They'll save and invest more.", "They 'll save and invest more ."),
        ("hi, my name can't hello,", "hi , my name ca n't hello ,"),
        ("I couldn't've known; it's John's.", "I could n't 've known ; it 's John 's ."),
        ("I cannot, gimme that! 'Tis over?", "I can not , gim me that ! 'T is over ?"),
        ("Well--you know... (sigh)", "Well -- you know ... ( sigh )"),
        ("Dr. Smith left the U.S. at 5 p.m. on Monday.", "Dr. Smith left the U.S. at 5 p.m. on Monday ."),
        ("I said no. I meant it, J. Smith.", "I said no . I meant it , J. Smith ."),
        ("[LAUGHTER] a well-known 20th one_two", "[ LAUGHTER ] a well-known 20th one_two"),
        ("you\u2019re nai\u0308ve \x92s cafe\u0301", "you 're na\u00efve 's caf\u00e9"),
        ('"Yes", she said', '" Yes " , she said'),
        ("今天很好!", "今 天 很 好 !"),
        ("नमस्ते, दुनिया", "नमस्ते , दुनिया"),
        ("Così è, perché no?", "Così è , perché no ?"),
    ],
)
def test_words_are_split_as_in_the_treebank(text: str, tokens: str | list[str]) -> None:
    assert tokenize(text) == (tokens.split() if isinstance(tokens, str) else tokens)


def test_nothing_but_space_is_lost() -> None:
    text = "Oh-- my 'god' (I can't!!) won't u.s.a... 3,5% #tag @me e\u0301te\u0301 😀"
    assert "".join(tokenize(text)) == "".join(words.unicodedata.normalize("NFC", text).split())


def test_words_are_a_view_of_strings() -> None:
    view = build_view("words")
    found = view("I'm SO happy.")
    assert found.tolist() == ["i", "'m", "so", "happy", "."]
    assert build_view("words", lower=False)("I'm SO").tolist() == ["I", "'m", "SO"]
    assert (view.shape, view.VERSION, found.dtype.kind) == ((), 1, "U")
    assert view("").shape == (0,)
    assert view("").dtype.kind == "U"
    assert reads_words("words")


def test_a_vocabulary_numbers_the_training_words_by_frequency() -> None:
    fitted = Vocabulary.fit(said("b a", "b c c", "c"))
    assert Vocabulary.apply(fitted, np.array(["c", "b", "a", "d", ""])).tolist() == [2, 3, 4, 1, 1]
    assert Vocabulary.apply(fitted, build_view("words")("")).dtype == np.int64
    assert Vocabulary.size(fitted) == 5
    assert fitted.fitted_on == ids_hash(["u0", "u1", "u2"])
    assert TRANSFORMS[fitted.kind] is Vocabulary


def test_rare_words_are_unknown() -> None:
    text = said("d d c c b b a")
    assert Vocabulary.apply(Vocabulary.fit(text, size=2), np.array(list("abcd"))).tolist() == [1, 2, 3, 1]
    assert Vocabulary.apply(Vocabulary.fit(text, min_count=2), np.array(list("abcd"))).tolist() == [
        1,
        2,
        3,
        4,
    ]


def test_a_vocabulary_survives_being_saved(tmp_path: Path, glove: Path) -> None:
    fitted = Vocabulary.fit(said("été happy 今天"), vectors=str(glove))
    safetensors.numpy.save_file(dict(fitted.arrays), tmp_path / "preprocessing.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "preprocessing.safetensors")
    again = Fitted(fitted.kind, arrays, fitted.fitted_on)
    text = build_view("words")("happy 今 été")
    np.testing.assert_array_equal(Vocabulary.apply(again, text), Vocabulary.apply(fitted, text))
    np.testing.assert_array_equal(arrays["vectors"], fitted.arrays["vectors"])


def test_vectors_come_from_the_file_or_from_the_seed(glove: Path) -> None:
    fitted = Vocabulary.fit(said("happy été zebra"), vectors=str(glove), seed=3)
    vectors = fitted.arrays["vectors"]
    happy, ete, zebra = Vocabulary.apply(fitted, np.array(["happy", "été", "zebra"]))
    assert vectors.shape == (5, 3)
    assert vectors.dtype == np.float32
    assert not vectors[0].any()
    assert vectors[happy].tolist() == [1, 2, 3]  # the first of two
    assert vectors[ete].tolist() == [4, 5, 6]
    assert 0 < np.abs(vectors[[1, zebra]]).max() < 0.25
    assert fitted.arrays["from_file"][[0, 1, happy, ete, zebra]].tolist() == [False, False, True, True, False]
    again = Vocabulary.fit(said("happy été zebra"), vectors=str(glove), seed=3)
    np.testing.assert_array_equal(again.arrays["vectors"], vectors)
    other = Vocabulary.fit(said("happy été zebra"), vectors=str(glove), seed=4)
    assert (other.arrays["vectors"][zebra] != vectors[zebra]).all()


def test_a_header_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "vectors.vec"
    path.write_text("2 3\nthe 1 2 3 \nof 4 5 6 \n")
    fitted = Vocabulary.fit(said("of"), vectors=str(path))
    assert fitted.arrays["vectors"][2].tolist() == [4, 5, 6]


def test_words_with_spaces_do_not_shift_the_numbers(tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    path.write_text("the 1 2 3\n. . . 4 5 6\nat name@domain.com 7 8 9\n")
    fitted = Vocabulary.fit([("u", np.array([". . .", "the"]))], vectors=str(path))
    assert sorted(fitted.arrays["vectors"][2:].tolist()) == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no vectors"),
        (b"the 1 2 3\nof 4 5\n", "line 2: 2 numbers where the first line has 3"),
        (b"the 1 2 3\nof 4 5 6 7\n", "line 2: 4 numbers where the first line has 3"),
        (b"the 1 2 3\nof 4 five 6\n", "line 2: .*five"),
        (b"the 1 2 3\nof 4 nan 6\n", "line 2: a number is not finite"),
        (b"the 1 2 3\n\n", "line 2: 0 numbers"),
        (b"the 1 2 3\ncaf\xe9 4 5 6\n", "line 2: .* is not UTF-8"),
        (b"the 1 2 3\nof 4 5 6", "line 2: .*cut short"),
        (b"the\nof\n", "line 1: expected a word and its numbers"),
    ],
)
def test_a_bad_file_of_vectors_is_refused_with_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "glove.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        Vocabulary.fit(said("the of"), vectors=str(path))


def test_impossible_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no such file"):
        Vocabulary.fit(said("a"), vectors=str(tmp_path / "none.txt"))
    with pytest.raises(UserError, match="vocabulary: size"):
        Vocabulary.fit(said("a"), size=0)
    with pytest.raises(UserError, match="vocabulary: min_count"):
        Vocabulary.fit(said("a"), min_count=0)
    with pytest.raises(UserError, match="occurs 2 times"):
        Vocabulary.fit(said("a"), min_count=2)
    with pytest.raises(ValueError, match="no words"):
        Vocabulary.fit(said("", ""))


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_batch_gives_what_each_text_gives_alone(models: dict[str, str], kind: str) -> None:
    network = transformers.AutoModel.from_pretrained(models[kind]).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(models[kind])
    view = build_view("text_embedding", model=models[kind], precision="float32")
    together = view.load(CPU)([view(text) for text in TEXTS])
    small = build_view("text_embedding", model=models[kind], precision="float32", batch_tokens=1).load(CPU)
    pooled = {
        pool: build_view("text_embedding", model=models[kind], precision="float32", pool=pool).load(CPU)
        for pool in ("mean", "cls")
    }
    for text, states in zip(TEXTS, together, strict=True):
        with torch.no_grad():
            expected = network(**tokens(text, return_tensors="pt")).last_hidden_state[0].numpy()
        assert states.shape == expected.shape
        tolerance = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(states, expected, atol=tolerance)
        np.testing.assert_allclose(small([view(text)])[0], expected, atol=tolerance)
        np.testing.assert_allclose(pooled["mean"]([view(text)])[0], expected.mean(0)[None], atol=tolerance)
        np.testing.assert_allclose(pooled["cls"]([view(text)])[0], expected[:1], atol=tolerance)


def test_golden_values(models: dict[str, str]) -> None:
    """Change these only together with TextEmbedding.VERSION."""
    view = pickle.loads(pickle.dumps(build_view("text_embedding", model=models["bert"])))
    states = view.load(CPU)([view("I am so happy.")])[0]
    assert (view.VERSION, view.dtype, states.dtype) == (1, "float16", np.float16)
    np.testing.assert_allclose(
        states[[0, 2, 6], [0, 9, 31]], [-0.4177, -0.0779, 1.6885], atol=2e-3
    )  # half precision


@pytest.mark.parametrize(("kind", "longest"), [("bert", 24), ("roberta", 38)])
def test_a_text_longer_than_the_model_is_cut_and_counted(
    models: dict[str, str], kind: str, longest: int
) -> None:
    view = build_view("text_embedding", model=models[kind])
    assert view.longest == longest
    found = view("so happy " * 40)
    assert isinstance(found, Remarked)
    assert len(found.array) == longest
    assert found.remark == f"text longer than the encoder's {longest} tokens: cut"
    assert view.load(CPU)([found.array])[0].shape == (longest, 32)
    assert not isinstance(view("so happy"), Remarked)


def test_text_encoders_that_cannot_be_used_are_named(models: dict[str, str]) -> None:
    for kind in ("hubert", "whisper"):
        with pytest.raises(UserError, match="no text encoder"):
            _ = build_view("text_embedding", model=models[kind]).shape
    assert build_view(
        "text_embedding", model="j-hartmann/emotion-english-distilroberta-base"
    ).pretrained_on == ("meld",)
    assert reads_words(f"text_embedding[model={models['bert']}]")


@pytest.mark.parametrize(
    "settings", [{"model": ""}, {"pool": "max"}, {"precision": "double"}, {"batch_tokens": 0}], ids=str
)
def test_impossible_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=f"text_embedding: .*{next(iter(settings))}"):
        build_view("text_embedding", **({"model": "someone/any"} | settings))
