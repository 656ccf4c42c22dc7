# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Detections for the library supervision."""

import sys

import numpy as np
import pytest
from test_outputs_formats import BENT, QUADS, entry

from tcm_hf import to_supervision


def test_detections_with_masks():
    supervision = pytest.importorskip("supervision", reason="needs the extra `supervision`")
    words = entry("a.jpg", [*QUADS, BENT], score=0.8, text="Bar")["detections"]
    found = to_supervision(words, size=(100, 200))
    assert isinstance(found, supervision.Detections) and len(found) == 4
    assert (
        found.xyxy[1].tolist() == [100, 50, 180, 70] and found.mask.shape == (4, 100, 200) and found.mask.dtype == bool
    )
    assert found.mask[1, 55, 140] and not found.mask[1, 45, 140] and abs(int(found.mask[1].sum()) - 80 * 20) <= 110
    assert found.confidence.tolist() == pytest.approx([0.8] * 4) and found.data["text"].tolist() == ["Bar"] * 4
    assert np.array_equal(found[found.confidence > 0.9].xyxy, np.empty((0, 4)))
    assert (
        to_supervision(words).mask is None and len(to_supervision([])) == 0 and len(to_supervision([], (10, 10))) == 0
    )


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ImportError, match=r"pip install 'tcm_hf\[supervision\]'"):
        to_supervision([])
