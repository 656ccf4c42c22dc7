# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.util

import cv2
import numpy as np
import pyclipper
import pytest
import shapely
from conftest import shared_path
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tcm_hf.targets import build_db_targets


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def published_polygons(name):
    spec = importlib.util.spec_from_file_location("fixture_inputs", shared_path("parity/fixture_inputs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    polygons = module.POLYGON_SETS[name]
    flat = polygons["polys"] + polygons["ignore"]
    flags = [False] * len(polygons["polys"]) + [True] * len(polygons["ignore"])
    return [np.array(points, dtype=np.float32).reshape(-1, 2) for points in flat], flags


@pytest.mark.parametrize("name", ["empty", "quads_axis", "quads_rot", "mixed"])
def test_agrees_with_the_published_targets(name):
    with np.load(shared_path(f"parity/targets/{name}__db.npz")) as file:
        expected = {key: file[key][0] for key in file.files}
    polygons, ignore = published_polygons(name)
    targets = build_db_targets(polygons, ignore, 640, 640)

    np.testing.assert_array_equal(targets["shrink_map"], expected["gt_shrink"] > 0)
    np.testing.assert_array_equal(targets["shrink_mask"], expected["gt_shrink_mask"])
    np.testing.assert_array_equal(targets["threshold_mask"], expected["gt_thr_mask"])
    # Rounding noise makes single pixels on a slanted contour 0.3 in the published maps, instead of 0.7.
    far = np.abs(targets["threshold_map"] - expected["gt_thr"]) > 1e-3
    assert far.mean() < 0.0001


def clipped(points, distance):
    clipper = pyclipper.PyclipperOffset()
    clipper.AddPath(points, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return clipper.Execute(distance)


@pytest.mark.parametrize("seed", range(40))
def test_kernels_and_bands_are_those_of_the_integer_clipper(seed):
    rng = np.random.default_rng(seed)
    found = 0
    while found < 5:
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, count := rng.integers(3, 15))), rng.uniform(30, 90, count)
        points = np.stack([radii * rng.uniform(0.5, 2) * np.cos(angles), radii * np.sin(angles)], axis=1)
        polygon = (points + rng.uniform(0, 200, 2)).astype(np.float32)[:: rng.choice([1, -1])]
        whole, exact = shapely.Polygon(polygon.astype(np.int32)), shapely.Polygon(polygon.astype(np.float64))
        if not (whole.is_valid and exact.is_valid) or min(cv2.minAreaRect(polygon)[1]) < 8:
            continue
        kernels = clipped(
            polygon.astype(np.int32).tolist(), -int(whole.area * (1 - 0.4**2) / (whole.length + 0.001) + 0.5)
        )
        if len(kernels) != 1:
            continue
        found += 1
        kernel, band = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
        cv2.fillPoly(kernel, [np.array(kernels[0], np.int32)], 1)
        outline = clipped(polygon.astype(np.int32).tolist(), exact.area * (1 - 0.4**2) / exact.length)[0]
        cv2.fillPoly(band, [np.array(outline, np.int32)], 1)
        targets = build_db_targets([polygon], [False], 200, 200)
        np.testing.assert_array_equal(targets["shrink_map"], kernel)
        np.testing.assert_array_equal(targets["threshold_mask"], band)


def test_vertices_left_of_and_above_the_picture_lose_their_decimals_too():
    # Cut off, -0.6 is 0; rounded down it would be -1.
    cut = build_db_targets([quad(-0.6, -0.6, 60.9, 30.9)], [False], 64, 96)
    assert np.array_equal(cut["shrink_map"], build_db_targets([quad(0, 0, 60, 30)], [False], 64, 96)["shrink_map"])


def test_maps_of_one_axis_aligned_quad():
    # 80 x 20: distance = 1600 * (1 - 0.16) / 200 = 6.72.
    targets = build_db_targets([quad(40, 30, 120, 50)], [False], 96, 160)
    assert {name: (value.shape, value.dtype.name) for name, value in targets.items()} == {
        "shrink_map": ((96, 160), "uint8"),
        "shrink_mask": ((96, 160), "uint8"),
        "threshold_map": ((96, 160), "float32"),
        "threshold_mask": ((96, 160), "uint8"),
    }
    rows, columns = np.nonzero(targets["shrink_map"])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (47, 37, 113, 43)
    assert targets["shrink_mask"].all()
    rows, columns = np.nonzero(targets["threshold_mask"])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (33, 23, 127, 57)
    # A straight line across the upper edge: 0.7 on it, 0.3 at the distance of 6.72, linear between.
    profile = 0.7 - 0.4 * np.minimum(np.abs(np.arange(20, 40) - 30) / 6.72, 1)
    assert np.allclose(targets["threshold_map"][20:40, 80], profile, atol=1e-5)
    corner = 0.7 - 0.4 * np.hypot(3, 4) / 6.72
    assert targets["threshold_map"][30 - 4, 40 - 3] == pytest.approx(corner, abs=1e-5)
    assert targets["threshold_map"].min() == pytest.approx(0.3)


def test_settings_reach_the_maps():
    polygon = quad(20, 20, 80, 60)
    targets = build_db_targets(
        [polygon], [False], 100, 100, shrink_ratio=0.0, threshold_min=0.1, threshold_max=0.9, min_text_size=0.0
    )
    # Ratio 0: distance = 2400 / 200 = 12.
    rows, columns = np.nonzero(targets["shrink_map"])
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (32, 32, 68, 48)
    assert targets["threshold_map"][20, 50] == pytest.approx(0.9)
    assert targets["threshold_map"][0, 0] == pytest.approx(0.1)
    assert targets["threshold_map"][14, 50] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("polygon", "ignored", "min_text_size"),
    [
        (quad(40, 40, 80, 60), True, 8.0),  # marked
        (quad(40, 40, 80, 47), False, 8.0),  # thinner than the smallest text
        (quad(40, 40, 40.5, 40.5), False, 0.0),  # below one square pixel
        (quad(40.1, 40.1, 90.9, 40.9), False, 0.0),  # nothing is left after shrinking on the pixel grid
    ],
)
def test_ignored_polygons_are_only_masked(polygon, ignored, min_text_size):
    targets = build_db_targets([polygon], [ignored], 100, 120, min_text_size=min_text_size)
    assert not targets["shrink_map"].any() and not targets["threshold_mask"].any()
    assert np.allclose(targets["threshold_map"], 0.3)
    rows, columns = np.nonzero(targets["shrink_mask"] == 0)
    (x0, y0), (x1, y1) = np.floor(polygon.min(axis=0)), np.floor(polygon.max(axis=0))
    assert (columns.min(), rows.min(), columns.max(), rows.max()) == (x0, y0, x1, y1)
    assert len(rows) == (x1 - x0 + 1) * (y1 - y0 + 1)


def arc_ribbon(radius, height, angle, points=200):
    """A straight word of this height bent around a circle, and the length of its middle line."""
    angles = np.linspace(0.0, angle, points)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    outer, inner = directions * (radius + height / 2), directions * (radius - height / 2)
    return np.concatenate([outer, inner[::-1]]) + 300.0, radius * angle


@pytest.mark.parametrize("shape", ["straight", "bent"])
def test_max_shrink_keeps_a_share_of_the_height_of_long_words(shape):
    polygon, length = (quad(40, 300, 540, 350), 500) if shape == "straight" else arc_ribbon(200, 50, 2.5)
    targets = build_db_targets([polygon], [False], 640, 640, max_shrink=0.3)
    # Kernel: what is left of a rectangle of this length and a height of 50 after 15 pixels from each side. A filled
    # polygon has its outline too, about half a pixel more on each side.
    assert targets["shrink_map"].sum() == pytest.approx((50 - 30 + 1) * (length - 30 + 1), rel=0.03)
    # The band is 15 pixels on each side, too.
    assert targets["threshold_mask"].sum() == pytest.approx((50 + 30 + 1) * (length + 30 + 1), rel=0.03)


def test_max_shrink_leaves_short_words_alone():
    # Aspect 2: the formula's distance is 0.28 of the height. A square's is 0.21.
    for word in (quad(20, 20, 60, 40), quad(20, 20, 40, 40)):
        plain, limited = (build_db_targets([word], [False], 64, 96, max_shrink=limit) for limit in (None, 0.3))
        for name in plain:
            np.testing.assert_array_equal(plain[name], limited[name])


def test_text_of_the_smallest_size_is_kept():
    targets = build_db_targets([quad(40, 40, 80, 49)], [False], 100, 120)
    assert targets["shrink_map"].any() and targets["shrink_mask"].all()


def test_an_ignored_region_does_not_unmask_or_erase_other_text():
    targets = build_db_targets([quad(20, 20, 80, 50), quad(60, 20, 110, 50)], [False, True], 80, 120)
    alone = build_db_targets([quad(20, 20, 80, 50)], [False], 80, 120)
    for name in ("shrink_map", "threshold_map", "threshold_mask"):
        assert np.array_equal(targets[name], alone[name])
    assert (targets["shrink_mask"][20:51, 60:111] == 0).all() and targets["shrink_mask"][:, :60].all()


def test_crossing_contour_gets_kernels_in_both_parts():
    bow_tie = np.array([[10.0, 10.0], [110.0, 70.0], [110.0, 10.0], [10.0, 70.0]])
    targets = build_db_targets([bow_tie], [False], 80, 120)
    assert targets["shrink_map"][40, 25] == 1 and targets["shrink_map"][40, 95] == 1
    assert targets["shrink_map"][40, 60] == 0 and targets["shrink_mask"].all()


def test_border_and_outside():
    shifted = build_db_targets([quad(-30, 20, 50, 50)], [False], 80, 120)
    whole = build_db_targets([quad(70, 20, 150, 50)], [False], 80, 220)
    for name, value in shifted.items():
        assert np.allclose(value[:, :100], whole[name][:, 100:200], atol=1e-5)
    empty = build_db_targets([], [], 80, 120)
    for polygon in (quad(500, 20, 580, 50), quad(-900, -90, -500, -60), quad(20, 1e5, 80, 1e5 + 30)):
        for flag in (False, True):
            outside = build_db_targets([polygon], [flag], 80, 120)
            assert all(np.array_equal(outside[name], empty[name]) for name in empty)


def test_a_polygon_far_larger_than_the_crop():
    targets = build_db_targets([quad(-2e4, -50, 2e4, 130)], [False], 80, 120)
    assert targets["shrink_map"][40].all()
    assert targets["threshold_mask"].all()


def test_bad_input_is_named():
    good = quad(20, 20, 80, 50)
    with pytest.raises(ValueError, match="1 flags for 2 polygons"):
        build_db_targets([good, good], [False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[1\].*not finite"):
        build_db_targets([good, good * np.nan], [False, False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[0\].*beyond 10,000,000 pixels"):
        build_db_targets([good * 1e9], [False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[0\].*at least 3 points"):
        build_db_targets([good[:2]], [True], 80, 120)
    with pytest.raises(ValueError, match="shrink_ratio"):
        build_db_targets([good], [False], 80, 120, shrink_ratio=1.0)
    with pytest.raises(ValueError, match="max_shrink"):
        build_db_targets([good], [False], 80, 120, max_shrink=0.5)
    with pytest.raises(ValueError, match="threshold_min"):
        build_db_targets([good], [False], 80, 120, threshold_min=0.9)
    with pytest.raises(ValueError, match="height"):
        build_db_targets([good], [False], 0, 120)


@settings(max_examples=30, deadline=None)
@example([([(0.0, 0.0), (124.0, 0.0), (0.0, 8.0), (97.0, 0.0)], False)])  # touches itself
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.floats(-40, 140), st.floats(-40, 140)), min_size=3, max_size=8), st.booleans()
        ),
        max_size=4,
    )
)
def test_any_polygons_give_consistent_maps(regions):
    polygons, ignore = [np.array(points) for points, _ in regions], [flag for _, flag in regions]
    targets = build_db_targets(polygons, ignore, 90, 110)
    assert set(np.unique(targets["shrink_map"])) <= {0, 1} and set(np.unique(targets["shrink_mask"])) <= {0, 1}
    assert targets["threshold_map"].min() >= 0.3 - 1e-6 and targets["threshold_map"].max() <= 0.7 + 1e-6
    # Kernels lie inside the band's outline.
    assert (targets["threshold_mask"][targets["shrink_map"] == 1] == 1).all()
    again = build_db_targets(polygons[::-1], ignore[::-1], 90, 110)
    assert all(np.array_equal(targets[name], again[name]) for name in targets)


def test_background_between_two_texts_weighs_more_by_its_distance_to_both():
    polygons = [quad(20, 20, 60, 40), quad(64, 20, 110, 40), quad(150, 70, 190, 90)]
    targets = build_db_targets(polygons, [False] * 3, 110, 220, gap_weight=4.0)
    weights = targets["shrink_weight"]
    assert weights.dtype == np.float32 and weights.shape == (110, 220)
    # Between the first two: 4 pixels wide, texts 20 pixels high; OpenCV counts distances from filled pixels.
    for x in (61, 62, 63):
        np.testing.assert_allclose(weights[30, x], 1 + 4 * np.exp(-0.5 * (4 / 8) ** 2), atol=0.1)
    # Left of both: nearest 0 in the text's own rim, the other one 44 pixels away.
    assert weights[30, 21] == pytest.approx(1, abs=1e-3)
    # Kernels count as ever, and so does what is far from two texts.
    assert (weights[targets["shrink_map"] > 0] == 1).all()
    assert (weights[60:, 120:] == 1).all()
    # Everything else stays as it is without the weight.
    plain = build_db_targets(polygons, [False] * 3, 110, 220)
    assert "shrink_weight" not in plain
    assert all((targets[name] == plain[name]).all() for name in plain)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_gap_weights_agree_with_distances_to_all_texts(seed):
    rng = np.random.default_rng(seed)
    polygons = []
    for _ in range(rng.integers(2, 6)):
        x, y = rng.uniform(0, 100, 2)
        width, height = rng.uniform(16, 50), rng.uniform(10, 25)
        angle = rng.uniform(-0.5, 0.5)
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        polygons.append(quad(0, 0, width, height) @ turn + (x, y))
    targets = build_db_targets(polygons, [False] * len(polygons), 120, 120, gap_weight=3.0)
    weights = targets["shrink_weight"]
    from shapely import Point, Polygon

    # The texts that have a kernel, each with its pixels as the maps have them.
    texts = [Polygon(polygon) for polygon in polygons]
    for y, x in rng.integers(0, 120, (40, 2)):
        if targets["shrink_map"][y, x]:
            continue
        order = sorted((text.distance(Point(x, y)), text.exterior.length, text.area) for text in texts)
        total = order[0][0] + order[1][0]
        _, perimeter, area = order[0]
        side = (perimeter - np.sqrt(max(perimeter**2 - 16 * area, 0))) / 4
        if order[1][0] - order[0][0] < 3 or total > 3 * side:
            continue  # either may be the nearest; far away nothing weighs more
        # A pixel and a half for filled outlines and OpenCV's distances.
        low, high = (1 + 3 * np.exp(-0.5 * (max(t, 0) / (0.4 * side)) ** 2) for t in (total + 3, total - 3))
        assert low - 0.02 <= weights[y, x] <= high + 0.02


def test_a_negative_gap_weight_is_refused():
    with pytest.raises(ValueError, match="gap_weight"):
        build_db_targets([], [], 32, 32, gap_weight=-1)
