"""What a result depends on beside its configuration: versions, hardware, code. Never environment variables."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import ser_models

PACKAGES = (
    "librosa",
    "numpy",
    "pyarrow",
    "ray",
    "scikit-learn",
    "scipy",
    "soxr",
    "torch",
    "torchaudio",
    "transformers",
)


def describe(fingerprints: dict[str, str]) -> dict[str, Any]:
    """Versions, hardware, commit and the fingerprints of the features."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "versions": {
            "ser_models": ser_models.__version__,
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in PACKAGES},
        },
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "gpus": gpus,
            "system": platform.platform(),
        },
        "git_commit": _commit(),
        "fingerprints": fingerprints,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown"
    )


def _commit() -> str | None:
    """The commit of this checkout, marked when files differ from it; None outside a checkout."""
    folder = Path(ser_models.__file__).parent
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit.stdout.strip() or None
