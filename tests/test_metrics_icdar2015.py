# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import json

import numpy as np
import pytest
from conftest import SHARED, shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.metrics import Icdar2015Evaluator, evaluate_icdar2015


CASES = sorted(path.name for path in (SHARED / "eval_golden" / "public").glob("*.json"))


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def add(evaluator, ground_truth, detections, image_id=None, ignore=None, texts=None, scores=None):
    truth = {"polygons": ground_truth, "ignore": ignore, "texts": texts}
    evaluator.add({"polygons": detections, "scores": scores}, truth, image_id=image_id)


def one_image(ground_truth, detections, **kwargs):
    threshold = kwargs.pop("score_threshold", None)
    evaluator = Icdar2015Evaluator()
    add(evaluator, ground_truth, detections, image_id="a", **kwargs)
    return evaluator.compute(threshold)


@pytest.mark.parametrize("name", CASES or ["quad_basic_s1.json"])
def test_agrees_with_the_official_script(name):
    case = json.loads(shared_path(f"eval_golden/public/{name}").read_text())
    if case["advisory"]:
        pytest.skip("invalid polygons: the expected figures depend on the geometry library")
    truths = [
        {
            "polygons": [region["points"] for region in image["gts"]],
            "ignore": [region["ignore"] for region in image["gts"]],
            "image_id": image["id"],
        }
        for image in case["images"]
    ]
    found = [
        {"polygons": [d["points"] for d in image["preds"]], "scores": [d["score"] for d in image["preds"]]}
        for image in case["images"]
    ]
    result = evaluate_icdar2015(found, truths)
    # `rrc_iou` only reads integer quads; `db_iou` is the same rule on any polygon.
    protocols = [case["expected"][key] for key in ("rrc_iou", "db_iou") if key in case["expected"]]
    assert protocols
    for expected in protocols:
        for key in ("precision", "recall", "hmean"):
            assert result[key] == pytest.approx(expected[key], abs=1e-12)
        for key, name in (("n_gt", "num_ground_truth"), ("n_det", "num_detections"), ("n_match", "num_matches")):
            if key in expected:
                assert result[name] == expected[key]
        for image_id, image in expected.get("per_image", {}).items():
            ours = result["per_image"][image_id]
            assert (ours["precision"], ours["recall"]) == pytest.approx((image["p"], image["r"]), abs=1e-9)
            assert ours["hmean"] == pytest.approx(image["h"], abs=1e-9)
            assert (ours["num_ground_truth"], ours["num_detections"]) == (image["n_gt"], image["n_det"])
            assert ours["pairs"] == [tuple(pair) for pair in image["pairs"]]
            assert ours["ignored_detections"] == image.get("det_ignored", [])


def test_first_hit_wins_not_the_best():
    # Both detections exceed 0.5 for the region; the first in the list is taken, the second is a false positive.
    region, rough, exact = box(0, 0, 100, 20), box(0, 0, 60, 20), box(0, 0, 100, 20)
    result = one_image([region], [rough, exact])
    assert result["per_image"]["a"]["pairs"] == [(0, 0)]
    assert (result["precision"], result["recall"]) == (0.5, 1.0)
    assert result["hmean"] == pytest.approx(2 / 3)


def test_the_threshold_is_strict():
    # Shifted by a third of the width: intersection 2/3, union 4/3.
    assert one_image([box(0, 0, 90, 20)], [box(30, 0, 120, 20)])["num_matches"] == 0
    assert one_image([box(0, 0, 90, 20)], [box(29, 0, 119, 20)])["num_matches"] == 1


def test_dont_care_regions():
    care, ignored = box(0, 0, 100, 20), box(0, 100, 100, 120)
    inside = box(10, 100, 40, 120)
    for marks in ({"ignore": [False, True]}, {"texts": ["word", "###"]}):
        result = one_image([care, ignored], [care, inside, inside], **marks)
        assert (result["precision"], result["recall"]) == (1.0, 1.0)
        assert result["per_image"]["a"]["ignored_detections"] == [1, 2]
        assert (result["num_ground_truth"], result["num_detections"]) == (1, 1)
    # Exactly half inside is not enough to be left out.
    half = box(80, 100, 120, 120)
    assert one_image([ignored], [half], ignore=[True])["num_detections"] == 1
    # A detection inside a don't-care region is lost to a region that it also matches.
    result = one_image([care, box(-10, -10, 110, 30)], [care], ignore=[False, True])
    assert (result["num_matches"], result["num_detections"], result["recall"]) == (0, 0, 0.0)


def test_images_without_text():
    evaluator = Icdar2015Evaluator()
    add(evaluator, [], [], image_id="nothing")
    add(evaluator, [], [box(0, 0, 9, 9)], image_id="false alarm")
    add(evaluator, [box(0, 0, 9, 9)], [], image_id="missed")
    result = evaluator.compute()
    ratios = {key: (value["precision"], value["recall"]) for key, value in result["per_image"].items()}
    assert ratios == {"nothing": (1.0, 1.0), "false alarm": (0.0, 1.0), "missed": (0.0, 0.0)}
    assert (result["precision"], result["recall"], result["hmean"]) == (0.0, 0.0, 0.0)
    assert len(evaluator) == 3
    empty = Icdar2015Evaluator().compute()
    assert (empty["precision"], empty["recall"], empty["hmean"], empty["per_image"]) == (0.0, 0.0, 0.0, {})


def test_totals_are_sums_over_images():
    evaluator = Icdar2015Evaluator()
    a, b = box(0, 0, 50, 20), box(100, 0, 150, 20)
    add(evaluator, [a, b], [a])
    add(evaluator, [a], [a, b, box(0, 100, 50, 120)])
    result = evaluator.compute()
    assert result["precision"] == 2 / 4 and result["recall"] == 2 / 3
    assert list(result["per_image"]) == [0, 1]


def test_score_threshold():
    a, b = box(0, 0, 50, 20), box(100, 0, 150, 20)
    evaluator = Icdar2015Evaluator()
    add(evaluator, [a, b], [b, a, a], scores=[0.3, 0.5, 0.9])
    assert evaluator.compute()["per_image"][0]["pairs"] == [(0, 1), (1, 0)]
    for threshold, expected in ((0.3, (2, 3)), (0.31, (1, 2)), (0.5, (1, 2)), (0.6, (1, 1)), (1.0, (0, 0))):
        result = evaluator.compute(threshold)
        assert (result["num_matches"], result["num_detections"]) == expected
        assert result["score_threshold"] == threshold
    # Indices still refer to the list that was added.
    assert evaluator.compute(0.6)["per_image"][0]["pairs"] == [(0, 2)]


def test_regions_without_area_and_crossing_contours():
    flat = [[0, 0], [50, 0], [20, 0]]
    result = one_image([flat], [flat])
    assert (result["num_matches"], result["num_ground_truth"], result["num_detections"]) == (0, 1, 1)
    assert one_image([box(-5, -5, 60, 5)], [flat], ignore=[True])["num_detections"] == 1
    # The official script takes the area by the shoelace formula, in which the two halves of a bow-tie cancel out.
    crossed = [[0, 0], [50, 20], [50, 0], [0, 20]]
    assert one_image([crossed], [crossed])["num_matches"] == 0
    # Overlaps follow the even-odd rule: the region holds both halves, the upper and the lower one.
    flags = one_image([box(-5, -5, 60, 25)], [[[0, 0], [50, 20], [50, 4], [0, 20]]], ignore=[True])
    assert flags["per_image"]["a"]["ignored_detections"] == [0]


boxes = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(1, 8), st.integers(1, 8)), max_size=7)


@settings(max_examples=60, deadline=None)
@given(boxes, boxes, st.lists(st.booleans(), min_size=7, max_size=7))
def test_agrees_with_a_plain_count_of_pixels(regions, found, flags):
    def pixels(x, y, width, height):
        return {(i, j) for i in range(x, x + width) for j in range(y, y + height)}

    flags = flags[: len(regions)]
    truth, detections = [pixels(*r) for r in regions], [pixels(*d) for d in found]
    ignored = [k for k, d in enumerate(detections) if any(f and 2 * len(d & t) > len(d) for t, f in zip(truth, flags))]
    pairs = []
    for g, region in enumerate(truth):
        for k, detection in enumerate(detections):
            free = not flags[g] and k not in ignored and g not in dict(pairs) and k not in dict(map(reversed, pairs))
            if free and 2 * len(region & detection) > len(region | detection):
                pairs.append((g, k))
    corners = [[box(x, y, x + w, y + h) for x, y, w, h in group] for group in (regions, found)]
    image = one_image(*corners, ignore=flags)["per_image"]["a"]
    assert image["pairs"] == pairs
    assert image["ignored_detections"] == ignored


def test_bad_input_is_named():
    a = box(0, 0, 50, 20)
    with pytest.raises(ValueError, match=r"'a'.*detections\[1\].*not finite"):
        one_image([a], [a, np.full((4, 2), np.nan)])
    with pytest.raises(ValueError, match=r"ground_truth\[0\].*at least 3 points"):
        one_image([a[:2]], [a])
    with pytest.raises(ValueError, match="`ignore` has 2 entries for 1 polygons"):
        one_image([a], [a], ignore=[True, False])
    with pytest.raises(ValueError, match="`texts` has 0 entries"):
        one_image([a], [a], texts=[])
    with pytest.raises(ValueError, match="`scores` has 1 entries for 2"):
        one_image([a], [a, a], scores=[0.5])
    with pytest.raises(ValueError, match="NaN"):
        one_image([a], [a], scores=[np.nan])
    with pytest.raises(ValueError, match="no `scores`"):
        one_image([a], [a], score_threshold=0.5)
    with pytest.raises(ValueError, match="iou_threshold"):
        Icdar2015Evaluator(iou_threshold=1.0)
    with pytest.raises(ValueError, match="got 0 for 1 images"):
        evaluate_icdar2015([], [{"polygons": [a]}])
    evaluator = Icdar2015Evaluator()
    add(evaluator, [a], [a], image_id="x")
    with pytest.raises(ValueError, match="'x' was added before"):
        add(evaluator, [a], [a], image_id="x")


def test_former_names_of_the_arguments_and_the_wrong_order():
    a, b = box(0, 0, 50, 20), box(100, 0, 150, 20)
    truth, found = {"polygons": [a, b], "ignore": [False, False]}, {"polygons": [a], "scores": [0.9]}
    expected = evaluate_icdar2015([found], [truth])
    assert (expected["precision"], expected["recall"]) == (1.0, 0.5)
    with pytest.warns(FutureWarning, match="`predictions` of evaluate_icdar2015 is called `detections` now"):
        assert evaluate_icdar2015(ground_truths=[truth], predictions=[found]) == expected
    assert evaluate_icdar2015([found], [truth], image_ids=["x"])["per_image"].keys() == {"x"}
    assert evaluate_icdar2015([found], [{**truth, "image_id": "y"}])["per_image"].keys() == {"y"}
    with pytest.raises(ValueError, match="the detections come first"):
        evaluate_icdar2015([truth], [found])
    for wrong in ({"truth": [truth]}, {"detections": [found]}, {"predictions": [found], "detections": [found]}):
        with pytest.raises(TypeError, match="detections"):
            evaluate_icdar2015(**wrong)
