"""Sound, text and pictures of the synthetic IEMOCAP: none of them tells all, together they tell more."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "synthetic_modalities.py"


@pytest.mark.slow
@pytest.mark.integration
def test_each_modality_is_above_chance_and_all_three_are_best() -> None:
    done = subprocess.run(
        [sys.executable, str(BENCHMARK)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    title, *lines = done.stdout.splitlines()
    assert title.startswith("SYNTHETIC iemocap")
    recall = {line[:24].strip(): float(line[24:]) for line in lines}
    alone = [recall[modality] for modality in ("audio", "text", "video")]
    assert len(recall) == 1 + 7
    assert all(recall["chance"] + 0.1 < score < 0.8 for score in alone)
    # Over seeds 0, 1 and 2 the gain was 0.09 to 0.11.
    assert recall["audio + text + video"] >= max(alone) + 0.05
