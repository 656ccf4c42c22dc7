# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The metric for the `evaluate` library, loaded from its folder without network."""

import numpy as np
import pytest

from tcm_hf.metrics import EVALUATE_MODULE, evaluate_detections


evaluate = pytest.importorskip("evaluate")


def box(x, y=0, width=50, height=20):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


TRUTHS = [
    {"polygons": [box(0), box(100)], "texts": ["word", "###"]},
    {"polygons": [[[0, 0], [50, 0], [60, 10], [50, 20], [0, 20]], box(100)], "ignore": [False, False]},
    {"polygons": []},
]
FOUND = [
    [{"polygon": box(0), "score": 0.9, "label": "text"}, {"polygon": np.array(box(100)), "score": 0.8}],
    {"polygons": [sum(box(100), [])], "scores": [0.4]},
    [],
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_EVALUATE_OFFLINE", "1")
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "metrics")
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", tmp_path / "modules")


def test_batches_give_the_figures_of_the_evaluator(tmp_path):
    for protocol in (None, "totaltext", "mmocr", "db_iou"):
        metric = evaluate.load(EVALUATE_MODULE, protocol, cache_dir=str(tmp_path))
        metric.add_batch(predictions=FOUND[:2], references=TRUTHS[:2])
        metric.add(prediction=FOUND[2], reference=TRUTHS[2])
        result = metric.compute()
        expected = evaluate_detections(FOUND, TRUTHS, protocol or "icdar2015")
        for key in ("protocol", "precision", "recall", "hmean", "num_ground_truth", "num_detections"):
            assert result[key] == expected[key]
        assert "per_image" not in result


def test_settings_of_compute(tmp_path):
    metric = evaluate.load(EVALUATE_MODULE, "icdar2015", cache_dir=str(tmp_path))
    result = metric.compute(predictions=FOUND, references=TRUTHS, score_threshold=0.5, per_image=True)
    assert (result["precision"], result["recall"]) == (1.0, pytest.approx(1 / 3))
    assert result["per_image"][1]["missed"] == [0, 1]
    metric = evaluate.load(EVALUATE_MODULE, "mlt", cache_dir=str(tmp_path))
    references = [{**truth, "languages": ["Latin", "Korean"][: len(truth["polygons"])]} for truth in TRUTHS]
    assert metric.compute(predictions=FOUND, references=references, language="Korean")["num_ground_truth"] == 1


def test_an_unknown_protocol_is_named(tmp_path):
    with pytest.raises(KeyError, match="unknown protocol 'nothing'"):
        evaluate.load(EVALUATE_MODULE, "nothing", cache_dir=str(tmp_path))


def test_the_wrong_order_is_refused(tmp_path):
    metric = evaluate.load(EVALUATE_MODULE, "icdar2015", cache_dir=str(tmp_path))
    truth, found = {"polygons": [box(0)], "ignore": [False]}, {"polygons": [box(0)], "scores": [0.5]}
    with pytest.raises(ValueError, match="the detections come first"):
        metric.compute(predictions=[truth], references=[found])
    with pytest.raises(ValueError, match="the detections come first"):
        metric.add(prediction=truth, reference=found)
