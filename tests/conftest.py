"""Fixtures that every tier shares."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_corpora() -> Path:
    """Folder with real recordings (``ravdess``, ``ravdess_originals``, ``ravdess_av``, ``meld``)."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "corpora"
    folder = Path(os.environ.get("SER_CORPORA", beside))
    if not folder.is_dir():
        pytest.skip(
            f"no real recordings at {folder}; set SER_CORPORA to a folder that holds ravdess/ and others"
        )
    return folder


@pytest.fixture(scope="session")
def synthetic_shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Shards of ``mfcc`` and ``mfcc[samples=30000]`` of a synthetic corpus: 5 speakers, 16 utterances each."""
    from ser_models.corpora.synthetic import Settings, generate
    from ser_models.shards.preprocess import PreprocessConfig, preprocess

    folder = tmp_path_factory.mktemp("synthetic")
    os.environ["SER_CACHE"] = str(folder / "cache")
    generate("ravdess", str(folder / "corpus"), Settings(speakers=5, utterances=16))
    preprocess(
        PreprocessConfig(
            corpus="ravdess",
            root=str(folder / "corpus"),
            views="mfcc,mfcc[samples=30000]",
            output=str(folder / "shards"),
            local=True,
        )
    )
    return str(folder / "shards")
