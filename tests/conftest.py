"""Shared fixtures: offline mode, one thread, and the path of the benchmark data that lives beside the project."""

import os
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest


SHARED = Path(os.environ.get("TCM_HF_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared_path(relative: str) -> Path:
    """Path of a file or folder of the shared benchmark data; skips the calling test when it is not there."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"benchmark data not found: {path} (set TCM_HF_SHARED to the folder that holds it)")
    return path


@pytest.fixture(autouse=True, scope="session")
def _single_thread():
    import torch

    torch.set_num_threads(1)
