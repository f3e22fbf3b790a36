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
        pytest.skip(f"no real recordings at {folder}; set SER_CORPORA to a folder that holds ravdess/ and others")
    return folder
