"""Places: reading a table leaves nothing behind that could end the process in another way."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ser_models import places

THREADS = """
import os, sys
from ser_models import places
before = len(os.listdir("/proc/self/task"))
table = places.read_table(sys.argv[1])
print(table.num_rows, len(os.listdir("/proc/self/task")) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_reading_a_table_starts_no_threads(tmp_path: Path) -> None:
    # A thread that still runs when the process ends turns its exit status into 134, now and then.
    uri = str(tmp_path / "table.parquet")
    places.write_table(uri, pa.table({f"c{column}": np.arange(1000) for column in range(8)}))
    command = [sys.executable, "-c", THREADS, uri]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert shown.stdout.split() == ["1000", "0"]


def test_only_the_columns_asked_for_are_read(tmp_path: Path) -> None:
    uri = str(tmp_path / "table.parquet")
    places.write_table(uri, pa.table({"a": [1, 2], "b": ["x", "y"]}))
    assert places.read_table(uri, ["b"]).to_pydict() == {"b": ["x", "y"]}
