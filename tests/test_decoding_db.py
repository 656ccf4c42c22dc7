# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import inspect
import json
import warnings

import cv2
import numpy as np
import pytest
import shapely
from conftest import shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.model.decoding_db import DECODER, decode_db
from tcm_hf.model.outlines import outline_in_shape
from tcm_hf.model.polygons import (
    bounding_box,
    minimum_area_quad,
    polygon_area,
    polygon_iou,
    polygon_perimeter,
    signed_area,
    valid_geometry,
)
from tcm_hf.targets import build_db_targets


def block_map(*blocks, shape=(100, 160)):
    """Map with rectangles (x0, y0, x1, y1, probability), borders included."""
    probabilities = np.zeros(shape, dtype=np.float32)
    for x0, y0, x1, y1, value in blocks:
        probabilities[y0 : y1 + 1, x0 : x1 + 1] = value
    return probabilities


def test_defaults_are_those_of_the_signature():
    parameters = inspect.signature(decode_db).parameters
    assert DECODER.keywords == {name: p.default for name, p in parameters.items() if name != "probability_map"}


def same_up_to_start(polygon, expected):
    """Whether two contours have the same vertices, in either direction from any start."""
    return len(polygon) == len(expected) and any(
        np.abs(np.roll(order, start, axis=0) - expected).max() < 1e-3
        for order in (polygon, polygon[::-1])
        for start in range(len(polygon))
    )


@pytest.mark.parametrize("whole_pixels", [True, False])
@pytest.mark.parametrize("name", ["default_quad", "default_poly", "ic15", "td", "ctw", "tt", "vis_poly_filter"])
def test_agrees_with_the_published_post_processing(name, whole_pixels):
    reference = json.loads(shared_path("parity/postprocess/boundaries_cv5.0.0.json").read_text())["db"][name]
    with np.load(shared_path("parity/postprocess/inputs_db.npz")) as file:
        probabilities = file["prob_uint8"].astype(np.float32) / 255
    config = reference["config"]
    polygons, scores = decode_db(
        probabilities,
        mask_threshold=config.get("mask_thr", 0.3),
        score_threshold=config.get("min_text_score", 0.3),
        unclip_ratio=config.get("unclip_ratio", 1.5),
        min_size=config.get("min_text_width", 5),
        max_candidates=config.get("max_candidates", 1000),
        epsilon_ratio=config.get("arcLength_ratio", 0.01) if config.get("use_approxPolyDP", True) else None,
        shape={"quad": "quad", "poly": "polygon"}[config["text_repr_type"]],
        whole_pixels=whole_pixels,
    )
    assert len(polygons) == len(scores) == len(reference["boundaries"])
    taken = set()
    for *flat, expected_score in reference["boundaries"]:
        expected = np.array(flat).reshape(-1, 2)
        ious = [polygon_iou(polygon, expected) for polygon in polygons]
        best = int(np.argmax(ious))
        taken.add(best)
        if whole_pixels:
            assert same_up_to_start(polygons[best], expected)
        quad = minimum_area_quad(expected)
        side = min(np.linalg.norm(quad[1] - quad[0]), np.linalg.norm(quad[2] - quad[1]))
        # The published code rounds vertices to integers: without doing so, up to half a pixel on every side.
        assert whole_pixels or ious[best] > min(0.98, 1 - 2 / side)
        assert scores[best] == pytest.approx(expected_score, abs=1e-6)
    assert len(taken) == len(polygons)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_whole_pixels_move_no_edge_far(seed):
    generator = np.random.default_rng(seed)
    blocks = [(*generator.integers(5, 70, 2), 0, 0, 0.9) for _ in range(3)]
    blocks = [(x, y, x + generator.integers(4, 80), y + generator.integers(4, 24), p) for x, y, _, _, p in blocks]
    probabilities = block_map(*blocks)
    exact, _ = decode_db(probabilities, epsilon_ratio=0, shape="polygon")
    whole, _ = decode_db(probabilities, epsilon_ratio=0, whole_pixels=True, shape="polygon")
    assert len(exact) == len(whole) > 0
    for polygon in whole:
        assert np.array_equal(polygon, np.rint(polygon)) and signed_area(polygon) > 0
        best = max(exact, key=lambda other: polygon_iou(polygon, other))
        # A quarter of a pixel for the chords of the corners, 0.71 for the rounding of both coordinates, and half a pixel
        # more in notches, where two rounded edges meet.
        rings = [shapely.Polygon(x).exterior for x in (polygon, best)]
        assert shapely.hausdorff_distance(*rings) < 0.25 + 0.71 + 0.5


def test_one_block():
    # Contour of 60 x 10 pixels: expanded by 600 * 1.5 / 140.
    distance = 600 * 1.5 / 140
    polygons, scores = decode_db(block_map((40, 30, 100, 40, 0.8)), shape="box")
    expected = [[40 - distance, 30 - distance], [100 + distance, 30 - distance]]
    expected += [[100 + distance, 40 + distance], [40 - distance, 40 + distance]]
    assert np.allclose(polygons[0], expected, atol=1e-4)
    assert len(polygons) == 1 and polygons[0].dtype == np.float32
    assert scores == pytest.approx([0.8]) and scores.dtype == np.float32
    (rounded,), _ = decode_db(block_map((40, 30, 100, 40, 0.8)), shape="polygon")
    exact = shapely.box(40, 30, 100, 40).buffer(distance, quad_segs=64)
    # Corners are simplified to a quarter of a pixel.
    assert polygon_iou(rounded, shapely.get_coordinates(exact.exterior)[:-1]) > 0.99


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_shapes_describe_the_same_regions(seed):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((70, 90), dtype=np.float32), (0, 0), 4)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    results = {
        shape: decode_db(noise, mask_threshold=0.6, shape=shape, min_size=0) for shape in ("polygon", "quad", "box")
    }
    polygons, scores = results["polygon"]
    assert (np.diff(scores) <= 0).all()
    for other in ("quad", "box"):
        assert np.array_equal(results[other][1], scores)
    for polygon, quad, box in zip(polygons, results["quad"][0], results["box"][0]):
        assert quad.shape == box.shape == (4, 2)
        assert all(signed_area(points) > 0 for points in (polygon, quad, box))
        # Polygons are simplified to a quarter of a pixel, quads and boxes are not.
        assert bounding_box(box) == pytest.approx(bounding_box(polygon), abs=0.26)
        for outer in (quad, box):
            assert shapely.Polygon(outer).buffer(1e-3).contains(shapely.Polygon(polygon))
        assert shapely.Polygon(polygon).is_valid


@pytest.mark.parametrize("degrees", [0, 12, -30])
def test_targets_decode_to_the_text_they_came_from(degrees):
    center, size = np.array([150.0, 130.0]), np.array([140.0, 36.0])
    turn = np.deg2rad(degrees)
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * size
    text = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + center
    kernel = build_db_targets([text], [False], 260, 300)["shrink_map"]
    (quad,), scores = decode_db(kernel, shape="quad", unclip_ratio=2.0)
    assert scores[0] > 0.95  # the simplified contour may leave the kernel by a pixel
    assert polygon_iou(quad, text) > 0.9
    assert np.abs(quad - text).max() < 4  # same corners in the same order


def test_thresholds():
    probabilities = block_map((10, 10, 60, 20, 0.9), (10, 40, 60, 50, 0.6), (10, 70, 60, 80, 0.45))
    assert len(decode_db(probabilities, score_threshold=0.4)[0]) == 3
    assert decode_db(probabilities, score_threshold=0.5)[1] == pytest.approx([0.9, 0.6])
    assert decode_db(probabilities, score_threshold=0.0, mask_threshold=0.7)[1] == pytest.approx([0.9])
    # A pixel exactly at the threshold is no text.
    half = block_map((10, 10, 60, 20, 0.5))
    assert decode_db(half, mask_threshold=0.5)[0] == []
    assert len(decode_db(half, mask_threshold=0.499)[0]) == 1


def test_min_size_counts_after_the_expansion():
    # Contour of 40 x 2: expanded by 80 * 1.5 / 84 to a height of 4.86.
    probabilities = block_map((20, 20, 60, 22, 0.9))
    for shape in ("polygon", "quad", "box"):
        assert len(decode_db(probabilities, shape=shape, min_size=4.8)[0]) == 1
        assert decode_db(probabilities, shape=shape, min_size=4.9)[0] == []


def test_unclip_ratio_zero_returns_the_contour():
    (box,), _ = decode_db(block_map((20, 20, 60, 32, 0.9)), unclip_ratio=0.0, shape="box")
    assert bounding_box(box) == (20, 20, 60, 32)


@pytest.mark.parametrize("epsilon_ratio", [0, None])
def test_raw_contour(epsilon_ratio):
    image = np.zeros((200, 200), dtype=np.uint8)
    cv2.circle(image, (100, 100), 60, 1, -1)
    (raw,), _ = decode_db(image, epsilon_ratio=epsilon_ratio, unclip_ratio=0.0, shape="polygon")
    (simple,), _ = decode_db(image, epsilon_ratio=0.02, unclip_ratio=0.0, shape="polygon")
    assert len(simple) < 20 < len(raw)
    assert np.abs(np.linalg.norm(raw - 100, axis=1) - 60).max() < 1


def test_max_candidates_keeps_the_largest():
    probabilities = block_map((10, 10, 20, 16, 0.9), (10, 40, 150, 60, 0.6), (10, 80, 60, 90, 0.8))
    with pytest.warns(UserWarning, match=r"`max_candidates` \(2\)"):
        _, scores = decode_db(probabilities, max_candidates=2)
    assert scores == pytest.approx([0.8, 0.6])
    # What another setting drops does not count.
    with pytest.warns(UserWarning, match="max_candidates"):
        _, scores = decode_db(probabilities, max_candidates=1, score_threshold=0.7)
    assert scores == pytest.approx([0.8])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(decode_db(probabilities, max_candidates=3)[0]) == 3


def test_max_candidates_counts_what_a_split_gives():
    # Three regions, the first of which two seeds split.
    bridged = [(20, 20, 60, 40, 0.9), (61, 25, 79, 35, 0.5), (80, 20, 120, 40, 0.8)]
    probabilities = block_map(*bridged, (10, 60, 40, 70, 0.9), (80, 60, 110, 70, 0.9))
    settings = {"mask_threshold": 0.4, "seed_threshold": 0.7, "score_threshold": 0.3}
    assert len(decode_db(probabilities, **settings)[0]) == 4
    for limit in (1, 2, 3):
        with pytest.warns(UserWarning, match="max_candidates"):
            assert len(decode_db(probabilities, max_candidates=limit, **settings)[0]) == limit


def test_max_candidates_as_the_released_models_count():
    reference = json.loads(shared_path("parity/postprocess/boundaries_cv5.0.0.json").read_text())["db"]
    with np.load(shared_path("parity/postprocess/inputs_db.npz")) as file:
        probabilities = file["prob_uint8"].astype(np.float32) / 255
    settings = {"score_threshold": 0.3, "min_size": 5, "epsilon_ratio": 0.01, "shape": "quad", "whole_pixels": True}
    with pytest.warns(UserWarning, match="max_candidates"):
        quads, _ = decode_db(probabilities, max_candidates=3, **settings)
    expected = [np.array(boundary[:-1]).reshape(-1, 2) for boundary in reference["max_candidates_3"]["boundaries"]]
    assert len(quads) == len(expected) == 4
    assert all(any(same_up_to_start(quad, other) for other in expected) for quad in quads)


@pytest.mark.parametrize("whole_pixels", [False, True])
def test_contours_that_close_and_triangles(whole_pixels):
    ring = block_map((20, 20, 100, 90, 0.9))
    ring[30:81, 30:91] = 0
    ring[20:91, 55:58] = 0  # two halves, between which the expansion leaves nothing but a hole each
    ring[20:30, 55:58] = 0.9
    assert decode_db(ring, unclip_ratio=2.0, whole_pixels=whole_pixels)[0] == []
    triangle = np.zeros((60, 80), dtype=np.float32)
    cv2.fillPoly(triangle, [np.array([[10, 10], [60, 10], [10, 40]], np.int32)], 0.9)
    # The released models drop contours of three points.
    assert len(decode_db(triangle, epsilon_ratio=0.05, whole_pixels=whole_pixels)[0]) == (0 if whole_pixels else 1)


def test_a_dense_page_keeps_all_its_words():
    probabilities = np.zeros((1600, 1600), dtype=np.float32)
    for row in range(60):
        for column in range(50):
            probabilities[10 + 26 * row : 20 + 26 * row, 10 + 31 * column : 32 + 31 * column] = 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(decode_db(probabilities)[0]) == 3000


def test_seeds_split_what_grew_together():
    probabilities = block_map((20, 20, 60, 40, 0.9), (61, 25, 79, 35, 0.5), (80, 20, 120, 40, 0.8))
    raw = {"mask_threshold": 0.4, "score_threshold": 0.3, "unclip_ratio": 0.0, "shape": "box"}
    (whole,), _ = decode_db(probabilities, **raw)
    assert bounding_box(whole) == (20, 20, 120, 40)
    parts, scores = decode_db(probabilities, seed_threshold=0.7, **raw)
    # The bridge is shared out in its middle.
    assert [bounding_box(part) for part in parts] == [(20, 20, 70, 40), (71, 20, 120, 40)]
    assert scores == pytest.approx([(861 * 0.9 + 110 * 0.5) / 971, (861 * 0.8 + 99 * 0.5) / 960])
    # One seed, none, or none but those of the region itself: nothing happens.
    for seed_threshold in (0.85, 0.95, 1.0, 0.4, 0.2):
        (region,), _ = decode_db(probabilities, seed_threshold=seed_threshold, **raw)
        np.testing.assert_array_equal(region, whole)


def test_small_parts_are_no_seeds():
    # The second part has 20 of 881 pixels.
    probabilities = block_map((20, 20, 60, 40, 0.9), (61, 25, 79, 35, 0.5), (80, 29, 89, 30, 0.9))
    raw = {"mask_threshold": 0.4, "score_threshold": 0.3, "seed_threshold": 0.7}
    assert len(decode_db(probabilities, seed_share=0.03, **raw)[0]) == 1
    assert len(decode_db(probabilities, seed_share=0.02, **raw)[0]) == 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 3))
def test_seeds_share_out_regions_of_any_shape(random_seed, seed_gap):
    noise = cv2.GaussianBlur(np.random.default_rng(random_seed).random((90, 120), dtype=np.float32), (0, 0), 3)
    probabilities = (noise - noise.min()) / (noise.max() - noise.min())
    raw = {"mask_threshold": 0.4, "score_threshold": 0.0, "epsilon_ratio": 0.0, "unclip_ratio": 0.0, "min_size": 0.0}
    raw["shape"] = "polygon"
    whole, _ = decode_db(probabilities, **raw)
    parts, _ = decode_db(probabilities, seed_threshold=0.6, seed_share=0.1, seed_gap=seed_gap, **raw)
    assert len(parts) >= len(whole)
    # Filled outlines of the map itself: one that closes into a ring is dropped as a whole, but its parts are not.
    inside, outside = np.zeros((2, 90, 120), dtype=np.uint8)
    mask = (probabilities > 0.4).astype(np.uint8)
    for outline in cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
        cv2.fillPoly(outside, [outline], 1)
    for part in parts:
        cv2.fillPoly(inside, [part.astype(np.int32)], 1)
    assert (inside <= outside).all()


def test_near_parts_are_one_seed():
    # Two letters with 7 pixels between them in a word that is 21 pixels thick: a third.
    probabilities = block_map((20, 20, 60, 40, 0.9), (61, 20, 67, 40, 0.5), (68, 20, 120, 40, 0.9))
    raw = {"mask_threshold": 0.4, "score_threshold": 0.3, "seed_threshold": 0.7}
    assert len(decode_db(probabilities, **raw)[0]) == 1
    assert len(decode_db(probabilities, seed_gap=0.4, **raw)[0]) == 1
    assert len(decode_db(probabilities, seed_gap=0.25, **raw)[0]) == 2


def test_seeds_in_a_hole_are_not_the_rings():
    ring = block_map((20, 20, 140, 95, 0.9), (30, 30, 130, 85, 0.0), (60, 50, 100, 70, 0.9))
    raw = {"unclip_ratio": 0.0, "shape": "box", "score_threshold": 0.1, "epsilon_ratio": 0.0}
    plain, with_seeds = decode_db(ring, **raw)[0], decode_db(ring, seed_threshold=0.7, **raw)[0]
    expected = [(20, 20, 140, 95), (60, 50, 100, 70)]
    assert sorted(map(bounding_box, plain)) == expected and sorted(map(bounding_box, with_seeds)) == expected


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pixels_go_to_the_nearest_seed(random_seed):
    """Against distances to all seed pixels."""
    rng = np.random.default_rng(random_seed)
    probabilities = np.full((48, 64), 0.5, dtype=np.float32)
    seeds = np.zeros((48, 64), dtype=np.uint8)
    for _ in range(3):
        x, y = rng.integers(0, 44), rng.integers(0, 36)
        size = rng.integers(4, 12, size=2)
        seeds[y : y + size[1], x : x + size[0]] = 1
    probabilities[seeds == 1] = 0.9
    count, labels = cv2.connectedComponents(seeds)
    raw = {"score_threshold": 0.0, "unclip_ratio": 0.0, "epsilon_ratio": 0.0, "min_size": 0.0, "shape": "polygon"}
    parts, _ = decode_db(probabilities, seed_threshold=0.7, seed_share=0.0, seed_gap=0.0, **raw)
    assert len(parts) == count - 1
    pixels = np.stack(np.mgrid[:48, :64], axis=-1).reshape(-1, 1, 2)
    distances = []
    for label in range(1, count):
        own = np.argwhere(labels == label)[None]
        distances.append(np.sqrt(((pixels - own) ** 2).sum(axis=2)).min(axis=1).reshape(48, 64))
    distances = np.array(distances)
    for part in parts:
        inside = np.zeros((48, 64), dtype=np.uint8)
        cv2.fillPoly(inside, [part.astype(np.int32)], 1)
        (label,) = set(labels[(inside == 1) & (labels > 0)].tolist())
        # OpenCV's distances are exact to about 2 %, and an outline encloses the pixels it cuts the corner of.
        far = distances[label - 1] > 1.05 * distances.min(axis=0) + 1.5
        assert not (far & (inside == 1)).any()


def test_rings_and_holes():
    ring = block_map((20, 20, 120, 80, 0.9), (40, 40, 100, 60, 0.0))
    # Its hole is no text; a score counts everything the contour encloses.
    share = 1 - 61 * 21 / (101 * 61)
    assert decode_db(ring, score_threshold=0.5)[1] == pytest.approx([0.9 * share], abs=1e-5)
    # Text inside a ring is found.
    nested = block_map((5, 5, 155, 95, 0.9), (9, 9, 151, 91, 0.0), (50, 40, 100, 60, 0.8))
    assert decode_db(nested)[1] == pytest.approx([0.8], abs=1e-5)
    # A horseshoe that the expansion would close has no contour without a hole.
    horseshoe = block_map((20, 20, 120, 80, 0.9), (30, 30, 110, 70, 0.0), (69, 60, 71, 80, 0.0))
    assert decode_db(horseshoe, score_threshold=0.0)[0] == []
    # A speck does not cost the region.
    speck = block_map((20, 20, 120, 80, 0.9), (70, 78, 70, 80, 0.0))
    assert len(decode_db(speck)[0]) == 1


def test_degenerate_contours_are_skipped():
    dots = block_map((10, 10, 10, 10, 1.0), (30, 10, 31, 10, 1.0), (50, 10, 50, 30, 1.0), (70, 10, 100, 10, 1.0))
    for epsilon_ratio in (None, 0.002, 0.5):
        polygons, scores = decode_db(dots, epsilon_ratio=epsilon_ratio, min_size=0)
        assert polygons == [] and scores.shape == (0,)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 50), (3, 3), (64, 64)])
def test_maps_without_text(shape):
    polygons, scores = decode_db(np.zeros(shape, dtype=np.float32))
    assert polygons == [] and scores.shape == (0,) and scores.dtype == np.float32


def test_full_map_and_other_dtypes():
    for dtype in (np.float16, np.float64, np.uint8, bool):
        (box,), scores = decode_db(np.ones((40, 60), dtype=dtype), unclip_ratio=0.0, shape="box")
        assert bounding_box(box) == (0, 0, 59, 39) and scores == pytest.approx([1.0])


def test_bad_input_is_named():
    for value in (np.nan, np.inf, -np.inf):
        broken = block_map((10, 10, 60, 20, 0.9))
        broken[50, 70] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            decode_db(broken)
    with pytest.raises(ValueError, match="sigmoid"):
        decode_db(block_map((10, 10, 60, 20, 4.2)))
    with pytest.raises(ValueError, match=r"\(1, 4, 4\)"):
        decode_db(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="'rectangle'"):
        decode_db(np.zeros((4, 4)), shape="rectangle")
    with pytest.raises(ValueError, match="unclip_ratio"):
        decode_db(np.zeros((4, 4)), unclip_ratio=-1)
    with pytest.raises(ValueError, match="max_candidates"):
        decode_db(np.zeros((4, 4)), max_candidates=0)
    with pytest.raises(ValueError, match="seed_threshold"):
        decode_db(np.zeros((4, 4)), seed_threshold=1.5)
    with pytest.raises(ValueError, match="seed_share"):
        decode_db(np.zeros((4, 4)), seed_share=-0.1)
    with pytest.raises(ValueError, match="seed_gap"):
        decode_db(np.zeros((4, 4)), seed_gap=-0.1)


@pytest.mark.parametrize("whole_pixels", [False, True])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (2, 2), (1, 50), (50, 1)])
def test_maps_without_room_for_text(shape, whole_pixels):
    for value in (0.0, 1.0):
        for seed in (None, 0.5):
            found, scores = decode_db(np.full(shape, value), seed_threshold=seed, whole_pixels=whole_pixels)
            assert found == [] and scores.shape == (0,)


@pytest.mark.parametrize("whole_pixels", [False, True])
def test_a_map_that_is_all_text_is_one(whole_pixels):
    for seed in (None, 0.5):
        (found,), scores = decode_db(np.ones((40, 60)), shape="box", seed_threshold=seed, whole_pixels=whole_pixels)
        distance = 59 * 39 * 1.5 / (2 * (59 + 39))
        expected = (-distance, -distance, 59 + distance, 39 + distance)
        assert bounding_box(found) == pytest.approx(expected, abs=0.51 if whole_pixels else 1e-3)
        assert scores == [1.0]


@pytest.mark.parametrize(
    "name",
    ["mask_threshold", "score_threshold", "unclip_ratio", "min_size", "epsilon_ratio", "seed_share", "seed_gap", "max_candidates"],
)  # fmt: skip
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1"])
def test_settings_that_are_no_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        decode_db(np.ones((8, 8)), **{name: value})


def test_negative_epsilon_ratio():
    with pytest.raises(ValueError, match="`epsilon_ratio` must not be negative"):
        decode_db(np.ones((8, 8)), epsilon_ratio=-0.1)


def one_by_one(probabilities, shape, mask_threshold=0.4, score_threshold=0.5, unclip_ratio=1.5, min_size=3.0):
    """What `decode_db` does, region by region and in double precision."""
    binary = (probabilities > mask_threshold).astype(np.uint8)
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour, (_, _, _, parent) in zip(contours, hierarchy[0] if len(contours) else ()):
        contour = cv2.approxPolyDP(contour, 0.002 * cv2.arcLength(contour, True), True)[:, 0]
        if parent >= 0 or len(contour) < 3 or polygon_area(contour) == 0:
            continue
        inside = cv2.fillPoly(np.zeros_like(binary), [contour], 1) > 0
        score = probabilities[inside].mean(dtype=np.float64)
        distance = polygon_area(contour) * unclip_ratio / polygon_perimeter(contour)
        geometry = valid_geometry(contour).buffer(distance, quad_segs=8)
        region = max(shapely.get_parts(geometry), key=lambda part: part.area)
        filled = shapely.Polygon(region.exterior)
        if score < score_threshold or filled.area - region.area > 0.01 * filled.area:
            continue
        points = shapely.get_coordinates(region.exterior)[:-1]
        if min(cv2.minAreaRect(points.astype(np.float32))[1]) < min_size:
            continue
        if shape == "polygon":
            points = cv2.approxPolyDP(points.astype(np.float32)[:, None], 0.25, True)[:, 0]
        found.append((outline_in_shape(points, shape), score))
    found.sort(key=lambda item: -item[1])
    return [outline for outline, _ in found], np.array([score for _, score in found], dtype=np.float32)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 5), st.sampled_from(["auto", "polygon", "quad", "box"]))
def test_all_at_once_is_as_one_by_one(seed, blur, shape):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((90, 120), dtype=np.float32), (0, 0), blur)
    probabilities = (noise - noise.min()) / (noise.max() - noise.min())
    for changes in ({}, {"score_threshold": 0.0, "unclip_ratio": 0.3}, {"min_size": 9.0, "unclip_ratio": 0.8}):
        polygons, scores = decode_db(probabilities, **{"mask_threshold": 0.4, "shape": shape, **changes})
        expected, expected_scores = one_by_one(probabilities, shape, **changes)
        assert np.array_equal(scores, expected_scores) and len(polygons) == len(expected)
        for polygon, other in zip(polygons, expected):
            # Where two rectangles around a region are as small, the last digit decides on the start.
            starts = range(len(polygon)) if len(polygon) == len(other) else ()
            assert min(np.abs(np.roll(polygon, start, axis=0) - other).max() for start in starts) < 2e-3
