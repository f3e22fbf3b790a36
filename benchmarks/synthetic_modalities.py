"""What sound, text and pictures of the synthetic IEMOCAP tell, each alone and together.

python benchmarks/synthetic_modalities.py

Four classes (excitement counted as happiness), one session left out at a time, linear support vector machines.
Audio: functionals of 39 MFCCs. Text: bag of words. Video: the speaker's half of each frame of the turn, small
and grey, mean and standard deviation over the frames, principal components. Everything is fitted on the
training sessions only; together means the mean of the standardised margins. The corpus is SYNTHETIC: the
figures say how it was made, nothing about people.
"""

import functools
import itertools
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import recall_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from ser_models import cli, places
from ser_models.corpora import load_corpus
from ser_models.corpora.synthetic import Settings, generate
from ser_models.features import build_view
from ser_models.features.media import decode
from ser_models.models.batch import Ragged
from ser_models.models.functionals_svm import functionals

CLASSES = {"angry": 0, "happy": 1, "excited": 1, "neutral": 2, "sad": 3}
_CROP = (20, 30)  # columns and rows of a small picture
_COMPONENTS = 40


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What to measure."""

    root: str | None = None
    """Folder with a synthetic corpus in IEMOCAP's layout; by default one is generated and deleted again."""
    utterances: int = 60
    """Utterances per speaker of a generated corpus."""
    seed: int = 0
    """Of a generated corpus."""


def audio_features(table: pa.Table) -> NDArray[np.float64]:
    """Functionals of the MFCCs ``[utterances, 273]``."""
    view = build_view("mfcc")
    rows = []
    for uri in table["audio"].to_pylist():
        waveform, _ = decode(uri, target_rate=view.sample_rate)
        frames = torch.from_numpy(view(waveform, view.sample_rate))[None]
        rows.append(functionals(Ragged(frames, torch.tensor([frames.shape[1]])))[0].double().numpy())
    return np.stack(rows)


def video_features(table: pa.Table) -> NDArray[np.float64]:
    """Mean and standard deviation over a turn's frames of the speaker's half ``[utterances, 2 × 20 × 30]``."""
    rows = []
    for uri, start, end, region in zip(
        *(table[name].to_pylist() for name in ("video", "video_start", "video_end", "video_region")),
        strict=True,
    ):
        rate, halves = _halves(uri)
        first = round(start * rate)
        frames = halves[region][first : max(first + 1, round(end * rate))].astype(np.float64) / 255
        rows.append(np.concatenate([frames.mean(0).ravel(), frames.std(0).ravel()]))
    return np.stack(rows)


@functools.lru_cache(maxsize=4)
def _halves(uri: str) -> tuple[float, dict[str, NDArray[np.uint8]]]:
    """Frames per second of a film, and the small pictures of its two halves ``[frames, rows, columns]``."""
    halves: dict[str, list[Any]] = {"left": [], "right": []}
    with places.open_input(uri) as stream, av.open(stream, mode="r") as film:
        video = film.streams.video[0]
        assert video.average_rate is not None
        for frame in film.decode(video):
            grey = frame.to_ndarray(format="gray")
            middle = grey.shape[1] // 2
            for region, half in (("left", grey[:, :middle]), ("right", grey[:, middle:])):
                halves[region].append(cv2.resize(half, _CROP, interpolation=cv2.INTER_AREA))
        return float(video.average_rate), {region: np.stack(half) for region, half in halves.items()}


def classifier(modality: str) -> Pipeline:
    """What is fitted on the training sessions for one modality."""
    machine = LinearSVC(C=0.01, class_weight="balanced", max_iter=20_000, random_state=0)
    if modality == "text":
        return make_pipeline(CountVectorizer(), machine.set_params(C=0.05))
    if modality == "video":
        return make_pipeline(PCA(_COMPONENTS, random_state=0), StandardScaler(), machine)
    return make_pipeline(StandardScaler(), machine)


def margins(inputs: dict[str, Any], labels: NDArray[np.int64], sessions: NDArray[Any]) -> dict[str, Any]:
    """Margins of each utterance from the sessions that it is not in, per modality ``[utterances, classes]``."""
    result = {}
    for modality, values in inputs.items():
        found = np.zeros((len(labels), 4))
        for session in np.unique(sessions):
            test = sessions == session
            fitted = classifier(modality).fit(values[~test], labels[~test])
            scale = np.std(fitted.decision_function(values[~test]))
            found[test] = fitted.decision_function(values[test]) / scale
        result[modality] = found
    return result


def scores(table: pa.Table) -> dict[str, float]:
    """Unweighted average recall of each modality, each pair and all three, and of chance."""
    chosen = np.array([emotion in CLASSES for emotion in table["emotion"].to_pylist()])
    table = table.filter(pa.array(chosen))
    labels = np.array([CLASSES[emotion] for emotion in table["emotion"].to_pylist()])
    sessions = np.array(table["session"].to_pylist())
    inputs = {
        "audio": audio_features(table),
        "text": np.array(table["text"].to_pylist()),
        "video": video_features(table),
    }
    alone = margins(inputs, labels, sessions)

    def recall(modalities: Iterable[str]) -> float:
        joined = sum(alone[modality] for modality in modalities)
        return float(recall_score(labels, joined.argmax(1), average="macro"))

    sets = itertools.chain.from_iterable(itertools.combinations(alone, size) for size in (1, 2, 3))
    return {"chance": 1 / 4, **{" + ".join(names): recall(names) for names in sets}}


def main(config: BenchmarkConfig) -> int:
    """Measure and print one line per set of modalities."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = config.root or folder
        if config.root is None:
            settings = Settings(speakers=10, utterances=config.utterances, seconds=1.3, seed=config.seed)
            generate("iemocap", root, settings)
        table = load_corpus("iemocap", root)
        found = scores(table)
    kind = "SYNTHETIC" if table.schema.metadata[b"synthetic"] == b"true" else "recorded"
    print(
        f"{kind} iemocap, {table.num_rows} turns, 4 classes, one session left out, unweighted average recall"
    )
    for modalities, recall in found.items():
        print(f"{modalities:24}{recall:6.3f}")
    return 0


if __name__ == "__main__":
    cli.run(main, BenchmarkConfig, description=__doc__ or "")
