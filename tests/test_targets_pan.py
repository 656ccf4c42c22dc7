# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.util

import cv2
import numpy as np
import pytest
import shapely
from conftest import shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.targets import build_pan_targets


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def extent(pixels):
    rows, columns = np.nonzero(pixels)
    return columns.min(), rows.min(), columns.max(), rows.max()


def published_polygons(name):
    spec = importlib.util.spec_from_file_location("fixture_inputs", shared_path("parity/fixture_inputs.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    polygons = module.POLYGON_SETS[name]
    flat = polygons["polys"] + polygons["ignore"]
    flags = [False] * len(polygons["polys"]) + [True] * len(polygons["ignore"])
    return [np.array(points, dtype=np.float32).reshape(-1, 2) for points in flat], flags


@pytest.mark.parametrize("ratio", [0.5, 0.7])
@pytest.mark.parametrize("name", ["empty", "quads_axis", "quads_rot", "mixed"])
def test_agrees_with_the_published_targets(name, ratio):
    with np.load(shared_path(f"parity/targets/{name}__pan_{ratio}.npz")) as file:
        kernels, mask = file["gt_kernels"], file["gt_mask"][0]
    targets = build_pan_targets(*published_polygons(name), 640, 640, shrink_ratio=(1.0, ratio))
    for expected, key in ((kernels[0], "text_map"), (kernels[1], "kernel_map"), (mask, "text_mask")):
        np.testing.assert_array_equal(targets[key], expected)


def test_maps_of_axis_aligned_quads():
    # 80 x 20: 1600 * (1 - 0.25) / 200 = 6. The ignored one has no number.
    polygons = [quad(40, 30, 120, 50), quad(5, 60, 25, 80), quad(40, 60, 120, 80)]
    targets = build_pan_targets(polygons, [False, True, False], 96, 160)
    assert {name: (value.shape, value.dtype.name) for name, value in targets.items()} == {
        "text_map": ((96, 160), "int16"),
        "kernel_map": ((96, 160), "int16"),
        "text_mask": ((96, 160), "uint8"),
    }
    assert extent(targets["text_map"] == 1) == (40, 30, 120, 50) and extent(targets["text_map"] == 2) == (
        40,
        60,
        120,
        80,
    )
    assert extent(targets["kernel_map"] == 1) == (46, 36, 114, 44)
    assert extent(targets["kernel_map"] == 2) == (46, 66, 114, 74)
    assert extent(targets["text_mask"] == 0) == (5, 60, 25, 80)
    assert set(np.unique(targets["text_map"])) == {0, 1, 2} == set(np.unique(targets["kernel_map"]))


def test_settings_reach_the_maps():
    polygon = quad(10, 10, 210, 170)  # 200 x 160, area / perimeter = 44.4
    targets = build_pan_targets([polygon], [False], 200, 240)
    assert extent(targets["kernel_map"]) == (30, 30, 190, 150)
    targets = build_pan_targets([polygon], [False], 200, 240, max_shrink=7, shrink_ratio=(0.95, 0.5))
    # 44.4 * (1 - 0.9025) = 4.3
    assert extent(targets["text_map"]) == (14, 14, 206, 166) and extent(targets["kernel_map"]) == (17, 17, 203, 163)


def test_kernels_lie_within_a_pixel_of_the_exact_offset():
    angles = np.linspace(0.3, 2.8, 7)
    band = np.concatenate([120 * np.stack([np.cos(angles), -np.sin(angles)], 1), 70 * np.stack([np.cos(angles[::-1]), -np.sin(angles[::-1])], 1)])  # fmt: skip
    band = np.floor(band + (150, 150))
    exact = shapely.Polygon(band)
    distance = int(exact.area * (1 - 0.49) / exact.length + 0.5)
    kernel = build_pan_targets([band], [False], 160, 300, shrink_ratio=(1.0, 0.7))["kernel_map"]
    for reversed_too in (band[::-1], np.repeat(band, 2, axis=0)):
        again = build_pan_targets([reversed_too], [False], 160, 300, shrink_ratio=(1.0, 0.7))["kernel_map"]
        assert np.mean(again != kernel) < 0.002
    rows, columns = np.nonzero(kernel)
    depth = shapely.distance(shapely.points(columns, rows), exact.exterior)
    inside = shapely.contains_xy(exact, columns, rows)
    assert inside.all() and depth.min() > distance - 1.6
    grid = np.mgrid[0:160, 0:300].reshape(2, -1)
    missing = (kernel.reshape(-1) == 0) & shapely.contains_xy(exact, grid[1], grid[0])
    depth = shapely.distance(shapely.points(grid[1][missing], grid[0][missing]), exact.exterior)
    assert depth.max() < distance + 1.6


def test_vertices_left_of_and_above_the_picture_lose_their_decimals_too():
    cut, whole = (
        build_pan_targets([corners], [False], 64, 96) for corners in (quad(-0.6, -0.6, 60.9, 30.9), quad(0, 0, 60, 30))
    )
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)


def test_later_text_covers_earlier_text():
    first, second = quad(20, 20, 80, 60), quad(60, 20, 120, 60)
    targets = build_pan_targets([first, second], [False, False], 80, 140)
    assert targets["text_map"][40, 55] == 1 and targets["text_map"][40, 70] == 2
    swapped = build_pan_targets([second, first], [False, False], 80, 140)
    assert swapped["text_map"][40, 70] == 2 and swapped["text_map"][40, 100] == 1


def test_a_kernel_that_falls_apart_keeps_the_largest_visible_part():
    dumbbell = np.array(
        [[10, 20], [50, 20], [50, 38], [90, 38], [90, 10], [150, 10], [150, 70], [90, 70], [90, 42], [50, 42], [50, 60], [10, 60]],
        dtype=np.float64,
    )  # fmt: skip
    targets = build_pan_targets([dumbbell], [False], 80, 160)
    assert targets["text_map"][40, 30] == 1 and targets["text_map"][40, 70] == 1
    assert targets["kernel_map"][40, 30] == 0 and targets["kernel_map"][40, 120] == 1
    assert cv2.connectedComponents((targets["kernel_map"] > 0).astype(np.uint8))[0] == 2
    # A crop that shows the left half only has the left half's kernel.
    cropped = build_pan_targets([dumbbell], [False], 80, 70)
    assert cropped["kernel_map"][40, 30] == 1


def test_text_without_kernel_stays_in_the_text_map():
    targets = build_pan_targets([quad(20, 20, 80, 21), quad(30, 40, 30.4, 40.4)], [False, False], 60, 100)
    assert extent(targets["text_map"]) == (20, 20, 80, 21) and targets["text_mask"].all()
    line = build_pan_targets([np.array([[10.0, 10], [50, 10], [50, 10.5], [10, 10.5]])], [False], 60, 100)
    assert not line["text_map"].any() and not line["kernel_map"].any()


def test_crossing_contour():
    bow_tie = np.array([[10.0, 10.0], [110.0, 70.0], [110.0, 10.0], [10.0, 70.0]])
    targets = build_pan_targets([bow_tie], [False], 80, 120)
    assert targets["text_map"][40, 20] == 1 == targets["text_map"][40, 100]
    assert (targets["kernel_map"][40, 25] == 1) != (targets["kernel_map"][40, 95] == 1)


def test_border_and_outside():
    shifted = build_pan_targets([quad(-30, 20, 50, 50)], [False], 80, 120)
    whole = build_pan_targets([quad(70, 20, 150, 50)], [False], 80, 220)
    for name, value in shifted.items():
        assert np.array_equal(value[:, :100], whole[name][:, 100:200])
    empty = build_pan_targets([], [], 80, 120)
    assert not empty["text_map"].any() and not empty["kernel_map"].any() and empty["text_mask"].all()
    for polygon in (quad(500, 20, 580, 50), quad(-900, -90, -500, -60)):
        for flag in (False, True):
            outside = build_pan_targets([polygon], [flag], 80, 120)
            assert all(np.array_equal(outside[name], empty[name]) for name in empty)


def test_bad_input_is_named():
    good = quad(20, 20, 80, 50)
    with pytest.raises(ValueError, match="1 flags for 2 polygons"):
        build_pan_targets([good, good], [False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[1\].*not finite"):
        build_pan_targets([good, good * np.nan], [False, False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[0\].*beyond 10,000,000 pixels"):
        build_pan_targets([good * 1e9], [False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[0\].*at least 3 points"):
        build_pan_targets([good[:2]], [True], 80, 120)
    for ratio in ((1.0, 0.0), (1.0, 1.5), (1.0,)):
        with pytest.raises(ValueError, match="shrink_ratio"):
            build_pan_targets([good], [False], 80, 120, shrink_ratio=ratio)
    with pytest.raises(ValueError, match="max_shrink"):
        build_pan_targets([good], [False], 80, 120, max_shrink=-1)
    with pytest.raises(ValueError, match="height"):
        build_pan_targets([good], [False], 0, 120)


@settings(max_examples=40, deadline=None)
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
    targets = build_pan_targets(polygons, ignore, 90, 110)
    for name in ("text_map", "kernel_map"):
        assert targets[name].min() >= 0 and targets[name].max() <= ignore.count(False)
    # Kernels lie inside of text.
    assert (targets["text_map"][targets["kernel_map"] > 0] > 0).all()
