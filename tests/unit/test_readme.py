"""The README's example of a corpus of one's own is one."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_models.corpora import EMOTIONS, load_corpus
from ser_models.corpora.__main__ import main

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (content,) = re.findall(r"```csv\n(.*?)```", README, re.DOTALL)
    table = tmp_path / "mine.csv"
    table.write_text(content)
    for number, line in enumerate(content.splitlines()[1:]):
        path = tmp_path / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).normal(size=8000) * 0.1, 16000)
    return table


def test_the_example_table_is_a_corpus(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = load_corpus("mine", str(example))
    assert manifest["speaker"].to_pylist() == ["anna", "anna", "jörg", "jörg"]
    assert manifest["emotion"].to_pylist() == ["happy", "angry", "sad", "neutral"]
    assert manifest["duration"].to_pylist() == [0.5] * 4
    assert main(["mine", str(example)]) == 0
    assert "every row can be used" in capsys.readouterr().out


def test_the_readme_lists_the_canonical_emotions() -> None:
    assert f"({', '.join(EMOTIONS)})" in README.replace("\n", " ")
