"""Synthetic corpora: the same bytes for the same settings, and never taken for recordings."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ser_models.corpora import load_corpus, parse_corpus
from ser_models.corpora.marker import MARKER_NAME
from ser_models.corpora.synthetic import LAYOUTS, Settings, generate
from ser_models.corpora.synthetic.__main__ import main
from ser_models.errors import UserError

SMALL = Settings(speakers=2, utterances=8, seconds=0.5, sample_rate=8000)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*.wav")
    }


def test_equal_settings_give_equal_bytes(tmp_path: Path):
    for name in ("a", "b"):
        generate("ravdess", str(tmp_path / name), SMALL)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    assert (tmp_path / "a" / MARKER_NAME).read_bytes() == (tmp_path / "b" / MARKER_NAME).read_bytes()


def test_another_seed_gives_other_recordings(tmp_path: Path):
    generate("ravdess", str(tmp_path / "a"), SMALL)
    generate(
        "ravdess",
        str(tmp_path / "b"),
        Settings(speakers=2, utterances=8, seconds=0.5, sample_rate=8000, seed=1),
    )
    first, second = digests(tmp_path / "a"), digests(tmp_path / "b")
    assert first.keys() == second.keys()
    assert not set(first.values()) & set(second.values())


def test_a_smaller_corpus_is_a_subset_of_a_larger_one(tmp_path: Path):
    smaller = Settings(speakers=1, utterances=3, seconds=0.5, sample_rate=8000)
    generate("ravdess", str(tmp_path / "large"), SMALL)
    generate("ravdess", str(tmp_path / "small"), smaller)
    assert digests(tmp_path / "small").items() <= digests(tmp_path / "large").items()


def test_no_two_recordings_are_equal(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    found = digests(tmp_path)
    assert len(set(found.values())) == len(found) == 16


def test_chosen_emotions_only(tmp_path: Path):
    generate(
        "ravdess", str(tmp_path), Settings(speakers=1, utterances=6, emotions=("sad", "angry"), seconds=0.3)
    )
    assert sorted(load_corpus("ravdess", str(tmp_path))["emotion"].to_pylist()) == ["angry"] * 3 + ["sad"] * 3


def test_the_manifest_calls_the_corpus_synthetic(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    table = load_corpus("ravdess", str(tmp_path))
    assert table.schema.metadata[b"synthetic"] == b"true"
    assert table.schema.metadata[b"corpus"] == b"ravdess"


def test_a_part_of_a_synthetic_corpus_is_still_synthetic(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    parsed = parse_corpus("ravdess", str(tmp_path / "Actor_01"))
    assert parsed.synthetic
    assert "8 of 16 utterances" in (parsed.disagreement or "")


def test_synthetic_files_never_mix_with_others(tmp_path: Path):
    generate("ravdess", str(tmp_path / "corpus" / "fake"), SMALL)
    with pytest.raises(UserError, match=r"synthetic corpus in fake/"):
        load_corpus("ravdess", str(tmp_path / "corpus"), allow_partial=True)


def test_a_killed_generation_is_flagged_incomplete_and_can_be_continued(tmp_path: Path, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("ser_models.corpora.synthetic.acted.render_wav", die)
    with pytest.raises(KeyboardInterrupt):
        generate("ravdess", str(tmp_path / "a"), SMALL)
    assert (tmp_path / "a" / MARKER_NAME).exists()
    monkeypatch.undo()
    generate("ravdess", str(tmp_path / "a"), SMALL)
    generate("ravdess", str(tmp_path / "b"), SMALL)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_a_second_run_writes_nothing(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    generate("ravdess", str(tmp_path), SMALL)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_folder_with_other_contents_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="holds other files"):
        generate("ravdess", str(tmp_path), SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UserError, match="cannot be used as a folder"):
        generate("ravdess", str(tmp_path / "thesis.txt"), SMALL)


def test_other_settings_need_another_folder(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    with pytest.raises(UserError, match="other settings"):
        generate("ravdess", str(tmp_path), Settings(speakers=1, utterances=8, seconds=0.5, sample_rate=8000))


def test_a_damaged_marker_is_named(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    (tmp_path / MARKER_NAME).write_text("{}")
    with pytest.raises(UserError, match="SYNTHETIC.json is damaged"):
        load_corpus("ravdess", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speakers", "25"], "speakers 25 must lie between 1 and 24"),
        (["--utterances", "61"], "utterances 61 must lie between 1 and 60"),
        (["--utterances", "0"], "utterances 0"),
        (["--emotions", "bored"], "ravdess has no emotion 'bored'"),
        (["--seconds", "nan"], "seconds nan must lie"),
        (["--sample-rate", "10"], "sample_rate 10 must lie"),
        (["--speakers", "many"], "invalid int value"),
        (["--noise", "1"], "unrecognized arguments"),
        (["--emotions", "sad,sad"], "emotions sad, sad: each may be given once"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(tmp_path: Path, arguments, message):
    refuses("ravdess", tmp_path / "out", arguments, message)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("enterface", [], "no synthetic layout 'enterface'; known: iemocap, meld, ravdess"),
        ("iemocap", ["--speakers", "3"], "speakers 3 must be even"),
        ("iemocap", ["--speakers", "12"], "speakers 12 must lie between 2 and 10 in the layout of iemocap"),
        ("iemocap", ["--utterances", "1000"], "utterances 1000 must lie between 1 and 168"),
        ("iemocap", ["--emotions", "calm"], "iemocap has no emotion 'calm'; it has neutral, frustrated"),
        ("meld", ["--speakers", "1"], "speakers 1 must lie between 2 and 60"),
        ("meld", ["--utterances", "7"], "utterances 7 must lie between 8 and 1000"),
        ("emodb", ["--utterances", "71"], "utterances 71 must lie between 1 and 70"),
        ("emodb", ["--video"], "emodb has no pictures; with them: iemocap, meld, ravdess, savee"),
        (
            "meld",
            ["--sample-rate", "5000"],
            "sample_rate 5000 is none of a film .* choose one of them or no video",
        ),
        ("savee", ["--speakers", "5"], "speakers 5 must lie between 1 and 4"),
        ("casia", ["--emotions", "disgusted"], "casia has no emotion 'disgusted'"),
        ("emovo", ["--speakers", "0"], "speakers 0 must lie between 1 and 6"),
    ],
)
def test_each_layout_says_what_it_can_hold(tmp_path: Path, name, arguments, message):
    refuses(name, tmp_path / "out", arguments, message)


def refuses(name: str, out: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        main([name, str(out), *arguments])
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_the_command_writes_what_it_says(tmp_path: Path, capsys):
    arguments = ["--speakers", "1", "--utterances", "2", "--emotions", "happy, sad", "--seconds", "0.3"]
    assert main(["ravdess", str(tmp_path), *arguments]) == 0
    assert "2 synthetic utterances of 1 speakers" in capsys.readouterr().out
    assert load_corpus("ravdess", str(tmp_path)).num_rows == 2


def test_what_is_not_given_comes_from_the_layout(tmp_path: Path):
    assert main(["casia", str(tmp_path), "--utterances", "1", "--seconds", "0.3"]) == 0
    assert load_corpus("casia", str(tmp_path)).num_rows == LAYOUTS["casia"].defaults.speakers == 4


def test_help_names_every_layout_with_its_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    for name, layout in LAYOUTS.items():
        assert f"{name:<8} {layout.defaults.speakers:>2} speakers" in text


def test_the_module_is_a_command_that_ends_with_two_for_a_mistake(tmp_path: Path):
    command = [sys.executable, "-m", "ser_models.corpora.synthetic", "ravdess", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "--speakers", "25"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 2
    assert done.stderr.startswith("python -m ser_models.corpora.synthetic: speakers 25 must lie")
    assert done.stderr.count("\n") == 1


def test_settings_with_and_without_pictures_need_folders_of_their_own(tmp_path: Path):
    generate("ravdess", str(tmp_path), SMALL)
    with pytest.raises(UserError, match="other settings"):
        generate("ravdess", str(tmp_path), dataclasses.replace(SMALL, video=True))
