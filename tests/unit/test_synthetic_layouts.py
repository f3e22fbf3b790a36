"""Each synthetic corpus is read by the project's own parser exactly as it was planned."""

import dataclasses
import hashlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from ser_models.corpora import CORPORA, MANIFEST_SCHEMA, load_corpus, parse_corpus
from ser_models.corpora.synthetic import LAYOUTS, Settings, generate
from ser_models.corpora.utterance import Utterance, build_table

ACTED = Settings(speakers=2, utterances=9, seconds=0.4, sample_rate=8000)
SMALL = {
    "iemocap": Settings(speakers=4, utterances=14, seconds=0.6),
    "meld": Settings(speakers=8, utterances=8, seconds=0.6),
    "ravdess": dataclasses.replace(ACTED, utterances=3, video=True),
    "emodb": ACTED,
    "savee": dataclasses.replace(ACTED, utterances=3, video=True),
    "casia": ACTED,
    "emovo": ACTED,
}
FROM_FILES = {"audio", "video", "duration", "sample_rate", "channels"}


@pytest.fixture(scope="module", params=LAYOUTS)
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Name and root of a small synthetic corpus."""
    root = str(tmp_path_factory.mktemp(request.param))
    generate(request.param, root, SMALL[request.param])
    return request.param, root


def planned(name: str) -> pa.Table:
    return build_table(rows_of(name, SMALL[name]), corpus=name, root="")


def rows_of(name: str, settings: Settings) -> tuple[Utterance, ...]:
    return LAYOUTS[name].plan(settings).rows


def digests(root: str) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(root).rglob("*")
        if path.is_file()
    }


def test_every_registered_corpus_has_a_twin():
    assert set(LAYOUTS) == set(CORPORA) == set(SMALL)


def test_the_parser_finds_what_was_planned_and_nothing_wrong(corpus):
    name, root = corpus
    parsed = parse_corpus(name, root)
    assert parsed.disagreement is None
    assert parsed.problems == ()
    assert parsed.synthetic
    assert not any("ignored" in note or "left out" in note for note in parsed.notes)
    expected = planned(name)
    for column in MANIFEST_SCHEMA.names:
        if column not in FROM_FILES and expected[column].null_count < len(expected):
            assert parsed.table[column].to_pylist() == expected[column].to_pylist(), column


@pytest.mark.parametrize("corpus", ["iemocap", "meld"], indirect=True)
def test_dialogues_come_back_in_every_column(corpus):
    name, root = corpus
    columns = [column for column in MANIFEST_SCHEMA.names if column not in FROM_FILES]
    assert (
        parse_corpus(name, root).table.select(columns).to_pylist()
        == planned(name).select(columns).to_pylist()
    )


def test_every_utterance_has_its_sound_and_its_pictures(corpus):
    name, root = corpus
    table = load_corpus(name, root)
    assert table["audio"].null_count == table["duration"].null_count == 0
    assert len(set(table["audio"].to_pylist())) == table.num_rows
    films = table["video"].null_count < table.num_rows
    assert films == (SMALL[name].video or bool(LAYOUTS[name].video))
    assert table["video"].null_count in (0, table.num_rows)


def test_equal_settings_give_equal_bytes_pictures_included(corpus, tmp_path):
    name, root = corpus
    generate(name, str(tmp_path), SMALL[name])
    assert digests(str(tmp_path)) == digests(root)


def test_a_lost_file_is_made_again_as_it_was(corpus):
    name, root = corpus
    before = digests(root)
    suffixes = (".wav", ".avi", ".mp4", ".csv", ".txt")
    lost = {Path(path).suffix: path for path in sorted(before) if path.endswith(suffixes)}
    for path in lost.values():
        (Path(root) / path).unlink()
    generate(name, root, SMALL[name])
    assert digests(root) == before


# Not meld: who talks in one of its dialogues depends on how many speakers there are.
@pytest.mark.parametrize("corpus", [name for name in LAYOUTS if name != "meld"], indirect=True)
def test_recordings_of_a_smaller_corpus_are_those_of_a_larger_one(corpus, tmp_path):
    name, root = corpus
    smaller = dataclasses.replace(SMALL[name], speakers=2, utterances=2, video=False)
    generate(name, str(tmp_path), smaller)
    found = {path: digest for path, digest in digests(str(tmp_path)).items() if path.endswith(".wav")}
    assert len(found) == 4
    assert found.items() <= digests(root).items()


@pytest.mark.parametrize("name", ["ravdess", "savee", "casia", "emovo"])
def test_the_largest_twin_has_the_published_counts(name):
    published = CORPORA[name].published
    speakers = len(published.columns["speaker"])
    counts = LAYOUTS[name].plan(Settings(speakers=speakers, utterances=published.total // speakers)).counts
    assert counts.total == published.total
    for column, values in published.columns.items():
        assert counts.columns[column] == dict(values)


@pytest.mark.parametrize("name", ["ravdess", "emodb", "savee", "casia", "emovo"])
def test_few_utterances_are_spread_over_all_emotions(name):
    emotions = len(CORPORA[name].published.columns["emotion"])
    rows = rows_of(name, Settings(speakers=1, utterances=emotions))
    assert len({row.emotion for row in rows}) == emotions


@pytest.mark.parametrize("name", ["ravdess", "emodb", "casia", "emovo", "iemocap"])
def test_an_even_number_of_speakers_is_half_women(name):
    rows = rows_of(name, dataclasses.replace(LAYOUTS[name].defaults, speakers=4, utterances=1))
    genders = Counter({row.speaker: row.gender for row in rows}.values())
    assert genders == {"female": 2, "male": 2}


@pytest.mark.parametrize("name", ["emodb", "savee", "casia", "emovo"])
def test_speakers_of_acted_corpora_share_their_sentences(name):
    rows = rows_of(name, ACTED)
    by_speaker = {speaker: set() for speaker in {row.speaker for row in rows}}
    for row in rows:
        by_speaker[row.speaker].add((row.sentence, row.emotion))
    first, *others = by_speaker.values()
    assert all(other == first for other in others)


def test_a_twin_without_pictures_is_complete_too(tmp_path):
    for name in ("iemocap", "meld"):
        settings = dataclasses.replace(SMALL[name], speakers=2, video=False)
        generate(name, str(tmp_path / name), settings)
        parsed = parse_corpus(name, str(tmp_path / name))
        assert parsed.disagreement is None
        assert parsed.table["video"].null_count == parsed.table.num_rows
        assert parsed.table["audio"].null_count == 0
