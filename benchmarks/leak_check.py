"""Dividing a large corpus and checking it for leaks: time and memory at 1×, 2× and 4× the size.

    python benchmarks/leak_check.py [--rows 200000]

The manifest is generated (SYNTHETIC): speakers with 100 utterances each, dialogues of 20 turns, transcripts of 4 to 20
words from a Zipf vocabulary of which one in fifty is repeated, hashes and envelopes of decoded audio. Each size runs in
a process of its own, so that peak memory is its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa

from ser_models.corpora import EMOTIONS, MANIFEST_SCHEMA
from ser_models.features.twins import WIDTH
from ser_models.models.labels import get_label_set, hard_targets
from ser_models.protocols.folds import make_folds
from ser_models.protocols.leaks import check_leaks
from ser_models.protocols.registry import get_protocol


def generated(rows: int) -> tuple[pa.Table, pa.Table]:
    """A manifest and its table of media."""
    random = np.random.default_rng(0)
    words = np.array([f"w{number}" for number in range(20_000)])
    texts: list[str] = []
    for row in range(rows):
        if texts and row % 50 == 0:
            texts.append(texts[int(random.integers(len(texts)))])
        else:
            picks = np.minimum(random.zipf(1.3, random.integers(4, 21)) - 1, len(words) - 1)
            texts.append(" ".join(words[picks]))
    names = [f"u{row:07}" for row in range(rows)]
    columns: dict[str, object] = {name: [None] * rows for name in MANIFEST_SCHEMA.names}
    columns |= {
        "utterance_id": names,
        "corpus": ["generated"] * rows,
        "speaker": [f"s{row // 100}" for row in range(rows)],
        "gender": [("female", "male")[row // 100 % 2] for row in range(rows)],
        "dialogue": [f"d{row // 20}" for row in range(rows)],
        "turn": [row % 20 for row in range(rows)],
        "text": texts,
        "emotion": [EMOTIONS[index] for index in random.integers(0, 6, rows)],
    }
    media = pa.table(
        {
            "utterance_id": names,
            "sha256": [f"{row:064x}" for row in range(rows)],
            "duration": random.gamma(4.0, 1.0, rows) + 0.5,
            "envelope": pa.FixedSizeListArray.from_arrays(
                pa.array(random.standard_normal(rows * WIDTH, dtype=np.float32) / np.sqrt(WIDTH)), WIDTH
            ),
        }
    )
    return pa.table(columns, schema=MANIFEST_SCHEMA), media


def measure(rows: int) -> dict[str, float]:
    """Divide and check once; seconds, and peak memory in MB over what the tables take."""
    manifest, media = generated(rows)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    protocol = get_protocol("speaker-5fold")
    emotions = manifest["emotion"].to_pylist()
    labels = get_label_set(protocol.label_set, emotions, EMOTIONS)
    targets = hard_targets(emotions, labels)
    folds = make_folds(manifest, targets.rows, targets.target.argmax(1).tolist(), protocol, labels.classes)
    divided = time.perf_counter()
    report = check_leaks(manifest, folds, preset="", protocol="", named=(), media=media, reads_words=True)
    checked = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = sum(finding.count for finding in report.findings)
    return {
        "folds": divided - began,
        "check": checked - divided,
        "memory": (after - before) / 1024,
        "found": found,
    }


def main() -> None:
    """Measure three sizes and print how time grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000, help="the largest size")
    parser.add_argument("--one", action="store_true", help="measure this size only, print JSON")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.rows)))
        return
    print(f"{'rows':>8} {'folds':>8} {'check':>8} {'memory':>9} {'shared':>8}  growth of the check")
    last = None
    for rows in (arguments.rows // 4, arguments.rows // 2, arguments.rows):
        command = [sys.executable, __file__, "--rows", str(rows), "--one"]
        result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        growth = f"{result['check'] / last:.2f} × for 2 × the rows" if last else ""
        last = result["check"]
        print(
            f"{rows:>8} {result['folds']:>7.1f}s {result['check']:>7.1f}s {result['memory']:>6.0f} MB "
            f"{result['found']:>8.0f}  {growth}"
        )


if __name__ == "__main__":
    main()
