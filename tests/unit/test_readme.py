"""The README's example of a corpus of one's own is one, and its commands work as they stand."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_models.corpora import EMOTIONS, load_corpus
from ser_models.corpora.__main__ import main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


@pytest.fixture
def example(tmp_path: Path) -> Path:
    (content,) = re.findall(r"```csv\n(.*?)```", README, re.DOTALL)
    table = tmp_path / "data" / "mine.csv"
    table.parent.mkdir()
    table.write_text(content)
    for number, line in enumerate(content.splitlines()[1:]):
        path = table.parent / line.split(",")[0]
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.random.default_rng(number).normal(size=8000) * 0.1, 16000)
    return table


def test_the_example_table_is_a_corpus(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = load_corpus("mine", str(example))
    assert manifest["speaker"].to_pylist() == ["anna"] * 2 + ["jörg"] * 2 + ["mia"] * 2 + ["tom"] * 2
    assert manifest["emotion"].to_pylist() == ["happy", "angry"] * 4
    assert manifest["duration"].to_pylist() == [0.5] * 8
    assert main(["mine", str(example)]) == 0
    assert "every row can be used" in capsys.readouterr().out


def test_the_commands_below_the_example_table_go_from_it_to_a_report(example: Path) -> None:
    (block,) = re.findall(r"```\n(python -m ser_models\.corpora mine .*?)```", README, re.DOTALL)
    commands = [shlex.split(line) for line in block.splitlines()]
    assert [command[1] for command in commands] == ["-m", "workflows/preprocess.py", "workflows/train.py"]
    folder = example.parent.parent
    (folder / "workflows").symlink_to(ROOT / "workflows")
    environment = os.environ | {"SER_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    for _, *arguments in commands:
        if arguments[0].endswith("preprocess.py"):
            arguments.append("--local")  # the same work without starting Ray
        subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, check=True, timeout=200)
    assert (folder / "runs" / "svm-mine-clean" / "report.html").is_file()


def test_the_readme_lists_the_canonical_emotions() -> None:
    assert f"({', '.join(EMOTIONS)})" in README.replace("\n", " ")
