"""Builds small run directories as training leaves them, for the tests of evaluation."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("angry", "happy", "sad")
DIMENSIONS = ("valence", "arousal", "dominance")

SCHEMA = pa.schema(
    [
        ("utterance_id", pa.string()),
        ("corpus", pa.string()),
        ("part", pa.string()),
        ("fold", pa.int32()),
        ("seed", pa.int32()),
        ("speaker", pa.string()),
        ("session", pa.string()),
        ("gender", pa.string()),
        ("language", pa.string()),
        ("intensity", pa.string()),
        ("scenario", pa.string()),
        ("target", pa.list_(pa.float32())),
        ("label", pa.int32()),
        ("prediction", pa.int32()),
        ("probabilities", pa.list_(pa.float32())),
    ]
)


def write_run(
    folder: Path,
    *,
    speakers: int = 6,
    utterances: int = 12,
    seeds: tuple[int, ...] = (0,),
    folds: int = 3,
    classes: tuple[str, ...] = CLASSES,
    corpus: str = "ravdess",
    preset: str = "clean",
    unit: str = "speaker",
    synthetic: bool = False,
    skill: float = 0.7,
    epochs: int = 4,
    refit: bool = False,
    speaker_name: str = "speaker",
    random_seed: int = 0,
) -> Path:
    """Write a finished run; fold k tests speakers k, k + folds, …; ``skill`` is how often it is right."""
    generator = np.random.default_rng(random_seed)
    people = [f"{speaker_name}-{number:02d}" for number in range(speakers)]
    folder.mkdir(parents=True)
    assignment = []
    for seed in seeds:
        for fold in range(folds):
            rows = []
            for number, speaker in enumerate(people):
                part = {fold: "test", (fold + 1) % folds: "validation"}.get(number % folds, "train")
                for index in range(utterances):
                    utterance = f"{speaker}-{index:03d}"
                    if seed == seeds[0]:
                        assignment.append({"utterance_id": utterance, "fold": fold, "part": part})
                    if part != "train":
                        row = _prediction(generator, index % len(classes), len(classes), skill)
                        rows.append(
                            row
                            | {
                                "utterance_id": utterance,
                                "corpus": corpus,
                                "part": part,
                                "fold": fold,
                                "seed": seed,
                                "speaker": speaker,
                                "session": f"session-{number // 2}",
                                "gender": ("female", "male")[number % 2],
                                "language": "en",
                                "intensity": ("normal", "strong", None)[index % 3],
                                "scenario": None,
                            }
                        )
            place = folder / f"seed-{seed}" / f"fold-{fold}"
            place.mkdir(parents=True)
            metadata = {
                b"classes": json.dumps(classes).encode(),
                b"protocol": json.dumps(
                    {
                        "system": "timnet",
                        "corpus": corpus,
                        "preset": preset,
                        "protocol": f"speaker-disjoint {folds}-fold",
                        "unit": unit,
                        "selection": "best(uar) on validation",
                        "synthetic": synthetic,
                    }
                ).encode(),
            }
            pq.write_table(
                pa.Table.from_pylist(rows, SCHEMA.with_metadata(metadata)), place / "predictions.parquet"
            )
            if refit:
                pq.write_table(
                    pa.Table.from_pylist(
                        [row for row in rows if row["part"] == "test"], SCHEMA.with_metadata(metadata)
                    ),
                    place / "predictions-refit.parquet",
                )
            record = _record(fold, seed, classes, rows, epochs, refit)
            (place / "fold.json").write_text(json.dumps(record))
            with (folder / "ledger.jsonl").open("a") as ledger:
                count = record["counts"]["test"]
                line = {
                    "time": "2025-01-01T00:00:00Z",
                    "seed": seed,
                    "fold": fold,
                    "rows": count,
                    "why": "evaluation",
                }
                ledger.write(json.dumps(line) + "\n")
    pq.write_table(
        pa.Table.from_pylist(
            assignment,
            pa.schema([("utterance_id", pa.string()), ("fold", pa.int32()), ("part", pa.string())]),
        ),
        folder / "folds.parquet",
    )
    listed = "".join(f"\n- {seed}" for seed in seeds)
    name = json.dumps(folder.name)
    (folder / "config.yaml").write_text(
        f"name: {name}\nsystem: timnet\ncorpus: {corpus}\npreset: {preset}\nseeds:{listed}\n"
    )
    (folder / "environment.json").write_text(
        json.dumps({"versions": {"torch": "2.11"}, "hardware": {}, "git_commit": None, "fingerprints": {}})
    )
    leaks = {
        "preset": preset,
        "protocol": "Speakers of a test fold are in no other part.",
        "named": [{"leak": "test-selection", "why": "the paper's code does so"}]
        if preset == "faithful"
        else [],
        "findings": [],
        "notes": ["audio was compared"],
    }
    (folder / "leaks.json").write_text(json.dumps(leaks))
    return folder


def write_dimension_run(folder: Path, *, random_seed: int = 0, skill: float = 0.7, **options: Any) -> Path:
    """Write a finished run on dimensions; ``skill`` is the share of the truth in a prediction, the rest is noise."""
    write_run(folder, random_seed=random_seed, **options)
    generator = np.random.default_rng(random_seed)
    for path in sorted(folder.glob("seed-*/fold-*/predictions*.parquet")):
        table = pq.read_table(path)
        # The truth belongs to the utterance, whatever the run.
        truths = [
            np.random.default_rng(list(name.encode())).uniform(1, 5, 3)
            for name in table["utterance_id"].to_pylist()
        ]
        predicted = [skill * truth + (1 - skill) * generator.uniform(1, 5, 3) for truth in truths]
        kind = pa.list_(pa.float32())
        metadata = dict(table.schema.metadata)
        table = table.drop_columns(["target", "label", "prediction", "probabilities"])
        table = table.append_column("target", pa.array([list(row) for row in truths], kind))
        table = table.append_column("predicted", pa.array([list(row) for row in predicted], kind))
        metadata[b"classes"] = json.dumps(DIMENSIONS).encode()
        protocol = json.loads(metadata[b"protocol"]) | {"objective": "dimensions"}
        metadata[b"protocol"] = json.dumps(protocol).encode()
        pq.write_table(table.replace_schema_metadata(metadata), path)
    for path in folder.glob("seed-*/fold-*/fold.json"):
        record = json.loads(path.read_text())
        del record["train_class_counts"]
        record["train_dimensions"] = {
            name: {"mean": 3.0, "sd": 1.2, "lowest": 1.0, "highest": 5.0} for name in DIMENSIONS
        }
        for entry in record["history"]:
            del entry["validation_wa"]
            entry["validation_ccc"] = entry.pop("validation_uar")
        path.write_text(json.dumps(record))
    return folder


def rewrite_predictions(path: Path, **columns: Any) -> None:
    """Replace columns of a predictions file, keeping schema and metadata."""
    table = pq.read_table(path)
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        field = table.schema.field(index)
        table = table.set_column(index, field, pa.array(values, field.type))
    pq.write_table(table, path)


def rewrite_metadata(path: Path, **values: Any) -> None:
    """Replace entries of a predictions file's metadata; ``classes`` or keys of ``protocol``."""
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    if "classes" in values:
        metadata[b"classes"] = json.dumps(values.pop("classes")).encode()
    metadata[b"protocol"] = json.dumps(json.loads(metadata[b"protocol"]) | values).encode()
    pq.write_table(table.replace_schema_metadata(metadata), path)


def _prediction(generator: np.random.Generator, label: int, classes: int, skill: float) -> dict[str, Any]:
    answer = label if generator.random() < skill else int(generator.integers(classes))
    logits = generator.normal(size=classes)
    logits[answer] = logits.max() + generator.random()
    probabilities = np.exp(logits) / np.exp(logits).sum()
    return {
        "target": np.eye(classes)[label].tolist(),
        "label": label,
        "prediction": answer,
        "probabilities": probabilities.tolist(),
    }


def _record(
    fold: int, seed: int, classes: tuple[str, ...], rows: list[dict[str, Any]], epochs: int, refit: bool
) -> dict[str, Any]:
    count = {part: sum(row["part"] == part for row in rows) for part in ("validation", "test")}
    history = [
        {
            "epoch": epoch,
            "train_loss": 2.0 / epoch + 0.05 * fold,
            "validation_loss": 2.2 / epoch + 0.1 * fold,
            "validation_uar": 1 - 0.7 / epoch - 0.05 * fold,
            "validation_wa": 1 - 0.7 / epoch,
            "seconds": 1.5,
        }
        for epoch in range(1, epochs + 1 + (fold if epochs else 0))
    ]
    return {
        "fold": fold,
        "seed": seed,
        "system": "timnet",
        "selected_epoch": max(epochs - 1, 1) if epochs else None,
        "epochs": len(history),
        "selection": "best(uar) on validation",
        "history": history,
        "train_class_counts": {name: 10 + index for index, name in enumerate(classes)},
        "counts": {"train": 30, **count},
        "test_speakers": sorted({row["speaker"] for row in rows if row["part"] == "test"}),
        "seconds": 12.5,
        "refit": {"epochs": 3} if refit else None,
    }
