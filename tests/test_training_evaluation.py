"""Evaluation during training."""

import numpy as np
import pytest
import torch
from tiny_model import find_white
from torch import nn

from tcm_hf import TCMImageProcessor
from tcm_hf.data.formats import TextRecord
from tcm_hf.training.evaluation import evaluate_records


class FindsWhite(nn.Module):
    """Takes what is nearly white for text."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.largest = 0

    def forward(self, **inputs):
        assert not self.training and inputs["pixel_values"].shape[0] == 1
        return find_white(**inputs)


def test_evaluation_finds_what_is_there():
    records = []
    for width in (200, 320, 480):
        image = np.zeros((160, width, 3), np.uint8)
        image[40:80, 30:150] = 255
        quads = [np.array([[30, 40], [150, 40], [150, 80], [30, 80]])]
        # In one image also a word that is not there; in another the word is there, but does not count.
        if width == 320:
            quads.append(np.array([[10, 100], [90, 100], [90, 130], [10, 130]]))
        records.append(TextRecord(image, quads, [width == 480] * len(quads)))
    model = FindsWhite().train()
    processor = TCMImageProcessor(size={"shortest_edge": 160, "longest_edge": 800})
    for workers in (0, 1):
        figures = evaluate_records(model, processor, records, num_workers=workers, unclip_ratio=0.0)
        assert figures == {
            "hmean": pytest.approx(0.8),
            "precision": 1.0,
            "recall": pytest.approx(2 / 3),
            "num_images": 3,
        }
    assert model.training
    with pytest.raises(ValueError, match="no images"):
        evaluate_records(model, processor, [])
