"""Shared fixtures: offline mode, one thread, and the path of the benchmark data that lives beside the project."""

import os
from pathlib import Path


os.environ.setdefault("HF_HUB_OFFLINE", "1")

import hypothesis
import pytest


# Elsewhere, every run draws other examples; a run that decides what lands must not fail by chance.
hypothesis.settings.register_profile("ci", derandomize=True, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


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


@pytest.fixture(autouse=True)
def _threads_are_put_back():
    """What a test runs in this process may set them; with other numbers bfloat16 rounds otherwise, by 0.2 % of a loss."""
    import cv2
    import torch

    of_torch, of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(of_torch)
    cv2.setNumThreads(of_opencv)


@pytest.fixture
def bare_layouts(monkeypatch):
    """Rendered words without underlines, which are ink outside of the outlines."""
    from tcm_hf.data.synthesis.text_layout import TextLayouter

    draw = TextLayouter.draw

    def without_rules(self, *arguments):
        block = draw(self, *arguments)
        block.rules.clear()
        return block

    monkeypatch.setattr(TextLayouter, "draw", without_rules)


@pytest.fixture
def clip_directory(tmp_path) -> Path:
    """A tiny CLIP in transformers' layout."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {
        "vocab_size": 100,
        "num_hidden_layers": 2,
        "max_position_embeddings": 24,
        "bos_token_id": 0,
        "eos_token_id": 99,
    }
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
    vision = {"image_size": 64, "patch_size": 16, "num_hidden_layers": 2, "hidden_act": "gelu"}
    config = CLIPConfig(text_config={**sizes, **text}, vision_config={**sizes, **vision}, projection_dim=8)
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"
