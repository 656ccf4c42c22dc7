# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""The front door: what may be handed in, what comes out, thresholds, errors."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from tcm_hf.metrics import TextDetectionEvaluator, evaluate_detections, sweep_thresholds
from tcm_hf.metrics import evaluator as module


def box(x, y=0, width=50, height=20):
    return [[x, y], [x + width, y], [x + width, y + height], [x, y + height]]


def test_forms_of_the_input_are_equal():
    a, b = box(0), box(100)
    detections = [
        {"polygons": [a, b], "scores": [0.9, 0.8]},
        {"polygons": [np.array(a), np.float32(b)], "scores": np.array([0.9, 0.8])},
        [{"polygon": a, "score": 0.9, "label": "text", "box": {}}, {"polygon": b, "score": 0.8}],
    ]
    truths = [
        {"polygons": [a, b], "ignore": [False, True]},
        {"polygons": [a, b], "texts": ["word", "###"]},
        SimpleNamespace(polygons=[np.float32(a), np.float32(b)], ignore=[False, True], texts=[None, None]),
    ]
    results = [evaluate_detections([d], [t], image_ids=["x"]) for d in detections for t in truths]
    for result in results:
        assert result == results[0]
    assert results[0]["per_image"]["x"] == {
        "precision": 1.0,
        "recall": 1.0,
        "hmean": 1.0,
        "num_ground_truth": 1,
        "num_detections": 1,
        "recall_sum": 1,
        "precision_sum": 1,
        "pairs": [("one-to-one", (0,), (0,))],
        "missed": [],
        "false_positives": [],
        "ignored_detections": [1],
        "left_out": {"ground_truth": [], "detections": []},
    }


def test_report_of_an_image():
    truth = {"polygons": [box(0), box(100), box(200)], "ignore": [False, False, True]}
    result = evaluate_detections([{"polygons": [box(300), box(200), box(100)]}], [truth])
    image = result["per_image"][0]
    assert image["pairs"] == [("one-to-one", (1,), (2,))]
    assert (image["missed"], image["false_positives"], image["ignored_detections"]) == ([0], [0], [1])
    json.dumps(result)


@pytest.mark.parametrize("protocol", ["rrc_iou", "db_iou", "tt_deteval_0.7_0.6", "db_deteval_poly", "cleval"])
def test_a_stream_gives_the_figures_of_one_batch(protocol, monkeypatch):
    rng = np.random.default_rng(1)
    images = []
    for _ in range(12):
        truth = [box(*rng.integers(0, 150, 2)) for _ in range(rng.integers(0, 6))]
        found = [box(*rng.integers(0, 150, 2)) for _ in range(rng.integers(0, 6))]
        fields = {"ignore": (rng.random(len(truth)) < 0.3).tolist(), "texts": ["word"] * len(truth)}
        images.append(({"polygons": found, "scores": rng.random(len(found))}, {"polygons": truth, **fields}))
    whole = TextDetectionEvaluator(protocol)
    for image in images:
        whole.add(*image)
    monkeypatch.setattr(module, "BATCH_REGIONS", 7)
    stream = TextDetectionEvaluator(protocol)
    for image in images[:5]:
        stream.add(*image)
    stream.compute()  # asking in between changes nothing
    for image in images[5:]:
        stream.add(*image)
    assert len(stream) == 12
    for threshold in (None, 0.5):
        assert stream.compute(threshold) == whole.compute(threshold)
    # A threshold is the same as leaving the detections out beforehand.
    fewer = TextDetectionEvaluator(protocol)
    for found, truth in images:
        kept = [i for i, score in enumerate(found["scores"]) if score >= 0.5]
        fewer.add({name: [values[i] for i in kept] for name, values in found.items()}, truth)
    expected, result = fewer.compute(), stream.compute(0.5)
    for key in ("precision", "recall", "hmean", "num_detections"):
        assert result[key] == expected[key]


def test_sweep_finds_the_threshold():
    truth = [{"polygons": [box(0), box(100)]}] * 2
    found = [{"polygons": [box(0), box(100), box(300)], "scores": [0.9, 0.65, 0.4]}] * 2
    result = sweep_thresholds(found, truth)
    assert result["best_threshold"] == pytest.approx(0.45)  # the lowest without the false detection
    assert (result["hmean"], len(result["sweep"])) == (1.0, 20)
    rows = {row["score_threshold"]: row for row in sweep_thresholds(found, truth, thresholds=[0.7, 0.3])["sweep"]}
    assert list(rows) == [0.3, 0.7]
    assert (rows[0.3]["precision"], rows[0.7]["recall"]) == (pytest.approx(2 / 3), 0.5)
    assert rows[0.7]["num_detections"] == 2
    # Where nothing is left, one protocol has no figures; it is not the best.
    assert sweep_thresholds(found, truth, "tt_pascal", thresholds=[0.5, 0.99])["best_threshold"] == 0.5
    with pytest.raises(ValueError, match="`thresholds` is empty"):
        sweep_thresholds(found, truth, thresholds=[])


def test_bad_input_is_named():
    a = box(0)
    evaluator = TextDetectionEvaluator()
    evaluator.add([], {"polygons": []}, image_id="x")
    with pytest.raises(ValueError, match="'x' was added before"):
        evaluator.add([], {"polygons": []}, image_id="x")
    cases = [
        (["text"], {"polygons": []}, "list of dictionaries with `polygon`"),
        ({"boxes": []}, {"polygons": []}, "detections have no `polygons`; they have \\['boxes'\\]"),
        ([], {"boxes": []}, "ground truth has no `polygons`"),
        ([], None, "ground truth has no `polygons`"),
        ({"polygons": [a], "scores": [0.1, 0.2]}, {"polygons": []}, "`scores` has 2 entries for 1"),
        ({"polygons": [a], "scores": [np.nan]}, {"polygons": []}, "NaN"),
        ([], {"polygons": [a], "ignore": []}, "`ignore` has 0 entries for 1"),
        ([], {"polygons": [a], "texts": ["a", "b"]}, "`texts` has 2 entries"),
        ([{"polygon": a[:2]}], {"polygons": []}, r"'y': detections\[0\].*at least 3 points"),
        ([], {"polygons": [a, [[0, 0], [1, np.inf], [2, 2]]]}, r"ground_truth\[1\].*not finite"),
    ]
    for detections, truth, message in cases:
        with pytest.raises(ValueError, match=message):
            evaluator.add(detections, truth, image_id="y")
    assert len(evaluator) == 1
    with pytest.raises(ValueError, match="'mlt_iou' needs `scores`"):
        evaluate_detections([{"polygons": [a]}], [{"polygons": []}], "mlt")
    with pytest.raises(ValueError, match="has no `scores`"):
        evaluate_detections([{"polygons": [a]}], [{"polygons": []}], score_threshold=0.5)
    with pytest.raises(ValueError, match="`rotated_boxes` need 5 finite numbers"):
        evaluate_detections([[]], [{"polygons": [a], "rotated_boxes": [[1, 2, 3, 4]]}], "td500")
    with pytest.raises(ValueError, match="got 1 for 0 images"):
        evaluate_detections([[]], [])
    with pytest.raises(ValueError, match="got 2 `image_ids` for 1"):
        evaluate_detections([[]], [{"polygons": []}], image_ids=[1, 2])
    with pytest.raises(ValueError, match="unknown protocol"):
        TextDetectionEvaluator("nothing")


@pytest.mark.parametrize(
    ("detections", "truth"),
    [
        ({"polygons": [box(0)], "ignore": [False]}, {"polygons": [box(0)]}),
        ({"polygons": [box(0)], "languages": ["Latin"]}, {"polygons": [box(0)]}),
        ({"polygons": [box(0)], "texts": ["a"]}, {"polygons": [box(0)]}),
        ({"polygons": [box(0)]}, {"polygons": [box(0)], "scores": [0.9]}),
        ({"polygons": [box(0)]}, [{"polygon": box(0), "score": 0.9}]),
        (SimpleNamespace(polygons=[box(0)], ignore=[False], texts=[None]), {"polygons": [box(0)], "scores": [0.9]}),
    ],
)
def test_the_wrong_order_is_refused(detections, truth):
    for call in (evaluate_detections, sweep_thresholds):
        with pytest.raises(ValueError, match="image 0: the detections come first and the ground truth second"):
            call([detections], [truth])
    # A detector that also reads is none of these.
    reads = {"polygons": [box(0)], "scores": [0.9], "texts": ["a"]}
    assert evaluate_detections([reads], [{"polygons": [box(0)], "texts": ["a"]}])["hmean"] == 1.0
