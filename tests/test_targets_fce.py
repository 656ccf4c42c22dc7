# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import importlib.util

import cv2
import numpy as np
import pytest
import shapely
from conftest import shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.model.polygons import polygon_iou, resample_polygon
from tcm_hf.targets import build_fce_targets
from tcm_hf.targets.fce import contour_coefficients


CTW_RANGES = ((0, 0.25), (0.2, 0.65), (0.55, 1))
ALL_SIZES = ((0, 10), (0, 10), (0, 10))


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def arc(center, inner, outer, start, end, points=7):
    """A band, its outer side first; angles in degrees, clockwise on screen from the x axis."""
    angles = np.radians(np.linspace(start, end, points))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([center + outer * circle, center + inner * circle[::-1]])


def contour(coefficients, num_points=200):
    """FCE's equation 1, term by term."""
    degree = len(coefficients) // 2
    time = np.arange(num_points) / num_points
    points = sum(c * np.exp(2j * np.pi * k * time) for k, c in zip(range(-degree, degree + 1), coefficients))
    return np.stack([points.real, points.imag], axis=1)


def coefficients_at(maps, row, column):
    real, imaginary = np.split(maps[3:, row, column].astype(np.float64), 2)
    coefficients = real + 1j * imaginary
    coefficients[len(coefficients) // 2] += column + 1j * row
    return coefficients


def overlap(a, b):
    return np.logical_and(a, b).sum() / np.logical_or(a, b).sum()


def same_maps(a, b):
    return all(np.array_equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------------- against the published targets


@pytest.mark.parametrize("setting", ["fce_ic15", "fce_ctw"])
@pytest.mark.parametrize("name", ["empty", "quads_axis", "quads_rot", "mixed"])
def test_agrees_with_the_published_targets(name, setting):
    spec = importlib.util.spec_from_file_location("fixture_inputs", shared_path("parity/fixture_inputs.py"))
    inputs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(inputs)
    sets = inputs.POLYGON_SETS[name]
    polygons = [np.array(points).reshape(-1, 2) for points in sets["polys"] + sets["ignore"]]
    flags = [False] * len(sets["polys"]) + [True] * len(sets["ignore"])
    ranges = {"level_ranges": CTW_RANGES} if setting == "fce_ctw" else {}
    targets = build_fce_targets(polygons, flags, 640, 640, **ranges)
    with np.load(shared_path(f"parity/targets/{name}__{setting}.npz")) as file:
        levels = {8: file["p3_maps"], 16: file["p4_maps"], 32: file["p5_maps"]}
        matching = file["matching_maps"]
    for stride, expected in levels.items():
        maps = targets[f"level_maps_{stride}"]
        assert maps.shape == expected.shape and maps.dtype == np.float32
        for channel in range(3):
            assert np.mean(maps[channel] != expected[channel]) < 0.0005
        both = (maps[0] > 0) & (expected[0] > 0)
        assert np.allclose(maps[3:, both], expected[3:, both], atol=1e-4)
    assert np.mean(targets["matching_maps"] != matching[[0, 2]]) < 0.0025


# ---------------------------------------------------------------------- the maps


def test_maps_of_one_axis_aligned_quad():
    targets = build_fce_targets([quad(80, 80, 240, 160)], [False], 512, 640)
    assert {name: (value.shape, value.dtype.name) for name, value in targets.items()} == {
        "level_maps_8": ((25, 64, 80), "float32"),
        "level_maps_16": ((25, 32, 40), "float32"),
        "level_maps_32": ((25, 16, 20), "float32"),
        "matching_maps": ((2, 16, 20), "uint8"),
    }
    # 161 / 512 lies in the first two ranges.
    assert not targets["level_maps_32"][:2].any()
    for stride in (8, 16):
        maps = targets[f"level_maps_{stride}"]
        expected = np.zeros(maps.shape[1:])
        expected[80 // stride : 160 // stride + 1, 80 // stride : 240 // stride + 1] = 1
        assert np.array_equal(maps[0], expected)
        assert (maps[2] == 1).all() and not maps[3:, expected == 0].any()
        # Every cell tells the same contour: the quad.
        for row, column in ((80 // stride, 80 // stride), (160 // stride, 200 // stride)):
            points = stride * contour(coefficients_at(maps, row, column))
            assert polygon_iou(points, quad(80, 80, 240, 160)) > 0.93
            assert np.allclose(points.mean(axis=0), (160, 120), atol=1)
    # A band of 0.3 * 10 cells around the middle row, without a quarter of the height (less than a step) at the ends.
    rows, columns = np.nonzero(targets["level_maps_8"][1])
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (13, 16, 10, 30)
    assert len(rows) == 4 * 21
    region = targets["matching_maps"][0]
    assert region.sum() == 6 * 4 and region[2:6, 2:8].all() and targets["matching_maps"][1].all()


def test_coefficients_against_a_plain_sum():
    polygon = np.array([[3.0, 1.0], [20.0, 4.0], [22.0, 9.0], [12.0, 8.0], [2.0, 6.0]])
    coefficients = contour_coefficients(polygon, 5)
    # The polygon's own contour, from the point above its center on, very densely.
    ring = shapely.LinearRing(polygon)
    samples = shapely.get_coordinates(ring.interpolate(np.linspace(0, 1, 4000, endpoint=False), normalized=True))
    x = samples[:, 0].mean()
    upper = min(np.flatnonzero(np.abs(samples[:, 0] - x) < 0.02), key=lambda i: samples[i, 1])
    samples = np.roll(samples, -upper, axis=0) @ np.array([1, 1j])
    time = np.arange(4000) / 4000
    expected = [np.mean(samples * np.exp(-2j * np.pi * k * time)) for k in range(-5, 6)]
    # 400 samples and a start that is one of them: not exactly the same.
    assert np.allclose(coefficients, expected, atol=0.15)
    assert np.allclose(np.abs(coefficients), np.abs(expected), atol=0.05)
    points = contour(coefficients)
    assert abs(points[0, 0] - x) < 0.5 and points[0, 1] < points[:, 1].mean()
    assert shapely.LinearRing(contour(coefficients_at_degree(coefficients, 1))).is_ccw  # y down: clockwise on screen


def coefficients_at_degree(coefficients, degree):
    middle = len(coefficients) // 2
    return coefficients[middle - degree : middle + degree + 1]


def test_contour_does_not_depend_on_direction_start_or_place():
    polygon = np.array([[13.0, 11.0], [200.0, 34.0], [222.0, 99.0], [120.0, 80.0], [22.0, 66.0]]) / 8
    expected = contour_coefficients(polygon, 5)
    for other in (polygon[::-1], np.roll(polygon, 2, axis=0), np.roll(polygon[::-1], 1, axis=0)):
        assert np.allclose(contour_coefficients(other, 5), expected, atol=0.15)
    shifted = contour_coefficients(polygon + (16, 32), 5)
    expected[5] += 16 + 32j
    assert np.allclose(shifted, expected, atol=1e-4)


def test_higher_degrees_come_closer():
    polygon = arc(np.array([300.0, 300.0]), 150, 200, 200, 340)
    ious = []
    for degree in (1, 3, 5, 10):
        maps = build_fce_targets([polygon], [False], 640, 640, fourier_degree=degree)["level_maps_16"]
        assert maps.shape[0] == 3 + 2 * (2 * degree + 1)
        row, column = np.argwhere(maps[0] > 0)[0]
        ious.append(polygon_iou(16 * contour(coefficients_at(maps, row, column)), polygon))
    assert ious == sorted(ious) and ious[2] > 0.9


@pytest.mark.parametrize(
    ("side", "ranges", "levels"),
    [
        (100, None, [8]),
        (220, None, [8, 16]),
        (320, None, [16]),
        (430, None, [16, 32]),
        (500, None, [32]),
        (900, None, [32]),  # larger than the image: no range has it, but background it is not
        (140, CTW_RANGES, [8, 16]),
        (220, CTW_RANGES, [16]),
    ],
)
def test_sizes_choose_the_levels(side, ranges, levels):
    kwargs = {} if ranges is None else {"level_ranges": ranges}
    for ignored in (False, True):
        polygon = quad(100, 100, 99 + side, 164)
        targets = build_fce_targets([polygon], [ignored], 640, 640, **kwargs)
        for stride in (8, 16, 32):
            maps = targets[f"level_maps_{stride}"]
            assert maps[0].any() == (stride in levels and not ignored)
            assert (maps[2] == 0).any() == (stride in levels and ignored)
        assert targets["matching_maps"][0].any() != ignored


def test_ignored_text_is_only_masked():
    text, other = quad(40, 40, 200, 100), quad(160, 40, 320, 100)
    targets = build_fce_targets([text, other], [False, True], 640, 640)
    alone = build_fce_targets([text], [False], 640, 640)
    for stride in (8, 16, 32):
        maps, expected = targets[f"level_maps_{stride}"], alone[f"level_maps_{stride}"]
        assert np.array_equal(np.delete(maps, 2, axis=0), np.delete(expected, 2, axis=0))
    rows, columns = np.nonzero(targets["level_maps_8"][2] == 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 12, 20, 40) and len(rows) == 8 * 21
    region, counts = targets["matching_maps"]
    assert region[1:4, 1:7].all() and region.sum() == 18 and (counts == 0).sum() == 3 * 6


def test_the_last_of_overlapping_texts_wins():
    texts = [quad(40, 40, 200, 100), quad(120, 40, 280, 100)]
    maps = build_fce_targets(texts, [False, False], 640, 640)["level_maps_8"]
    for column, center in ((6, 120), (20, 200), (30, 200)):
        assert 8 * coefficients_at(maps, 8, column)[5].real == pytest.approx(center, abs=1)


def test_center_region_follows_a_curve():
    polygon = arc(np.array([320.0, 420.0]), 200, 280, 200, 340)
    maps = build_fce_targets([polygon], [False], 640, 640, level_ranges=ALL_SIZES)["level_maps_8"]
    rows, columns = np.nonzero(maps[1])
    radius = np.hypot(columns * 8 + 4 - 320, rows * 8 + 4 - 420)
    # 0.3 of the band is 228..252; cells are 8 pixels.
    assert 210 < radius.min() and radius.max() < 270
    angle = np.degrees(np.arctan2(rows * 8 + 4 - 420, columns * 8 + 4 - 320)) % 360
    assert angle.min() < 215 and angle.max() > 325
    assert maps[0][maps[1] > 0].all()


def test_center_region_of_upright_text_runs_along_it():
    for polygon in (quad(100, 100, 140, 300), np.roll(quad(100, 100, 140, 300), 1, axis=0)):
        rows, columns = np.nonzero(build_fce_targets([polygon], [False], 640, 640)["level_maps_8"][1])
        assert np.ptp(rows) > 20 and np.ptp(columns) <= 3
    # Hardly higher than wide: text in a line, as most is.
    rows, columns = np.nonzero(build_fce_targets([quad(80, 80, 160, 200)], [False], 640, 640)["level_maps_8"][1])
    assert np.ptp(columns) > 7 and np.ptp(rows) < 6


def test_settings_reach_the_maps():
    polygon = quad(80, 80, 240, 160)
    narrow, wide = (
        build_fce_targets([polygon], [False], 640, 640, center_shrink_ratio=ratio)["level_maps_8"]
        for ratio in (0.1, 1.0)
    )
    assert narrow[1].sum() < wide[1].sum() and np.array_equal(wide[1], wide[0])


# ---------------------------------------------------------------------- any polygon


@pytest.mark.parametrize("points", [3, 4, 5, 6, 7, 13, 14, 40, 99, 101, 500, 2000])
def test_any_number_of_points(points):
    angles = 2 * np.pi * np.arange(points) / points
    polygon = np.stack([320 + 120 * np.cos(angles), 300 + 50 * np.sin(angles)], axis=1)
    maps = build_fce_targets([polygon], [False], 640, 640)["level_maps_8"]
    covered = shapely.Polygon(polygon).area / 64
    # The border cells belong to the region.
    assert covered < maps[0].sum() < covered + shapely.Polygon(polygon).length / 8 + 4
    # Up to the rasterization of the ends, which may lie on the contour.
    around = cv2.dilate(maps[0], np.ones((3, 3), np.uint8))
    assert maps[1].any() and around[maps[1] > 0].all()
    assert maps[1].sum() < 0.7 * maps[0].sum()
    row, column = np.argwhere(maps[1] > 0)[0]
    assert polygon_iou(8 * contour(coefficients_at(maps, row, column)), polygon) > 0.85


def test_more_points_on_the_same_contour_change_little():
    polygon = quad(80, 80, 280, 140)
    expected = build_fce_targets([polygon], [False], 640, 640)["level_maps_8"]
    for n in (52, 260):
        maps = build_fce_targets([resample_polygon(polygon, n)], [False], 640, 640)["level_maps_8"]
        assert np.array_equal(maps[0], expected[0])
        assert np.allclose(maps[3:], expected[3:], atol=0.3)
        assert np.array_equal(maps[1], expected[1])
    band = arc(np.array([320.0, 420.0]), 200, 280, 200, 340)
    expected = build_fce_targets([band], [False], 640, 640, level_ranges=ALL_SIZES)["level_maps_8"]
    maps = build_fce_targets([resample_polygon(band, 300)], [False], 640, 640, level_ranges=ALL_SIZES)["level_maps_8"]
    assert overlap(maps[1], expected[1]) > 0.8


def test_crossing_and_empty_polygons():
    bow_tie = np.array([[80.0, 80.0], [240.0, 160.0], [240.0, 80.0], [80.0, 160.0]])
    targets = build_fce_targets([bow_tie], [False], 640, 640)
    assert targets["level_maps_8"][0].any() and targets["level_maps_8"][2].all()
    line, point = quad(80, 80, 240, 80), quad(80, 80, 80, 80)
    for polygon in (line, point):
        targets = build_fce_targets([polygon], [False], 640, 640)
        assert not targets["level_maps_8"][:2].any() and (targets["level_maps_8"][2] == 0).any()


def test_border_and_outside():
    shifted = build_fce_targets([quad(-64, 40, 100, 90)], [False], 640, 640)["level_maps_8"]
    whole = build_fce_targets([quad(64, 40, 228, 90)], [False], 640, 640)["level_maps_8"]
    # Vertices are rounded towards zero, which is the other way outside of the image.
    assert np.mean(shifted[:2, :, :64] != whole[:2, :, 16:80]) < 0.002
    inside = shifted[0] > 0
    inside[:, 64:] = False
    rows, columns = np.nonzero(inside & (np.roll(whole[0], -16, axis=1) > 0))
    for row, column in list(zip(rows, columns))[::7]:
        points, expected = (contour(coefficients_at(m, row, c)) for m, c in ((shifted, column), (whole, column + 16)))
        assert polygon_iou(points + (16, 0), expected) > 0.99
    empty = build_fce_targets([], [], 80, 120)
    for polygon in (quad(500, 20, 530, 50), quad(-900, -90, -870, -60), quad(20, 1e5, 50, 1e5 + 30)):
        for flag in (False, True):
            assert same_maps(build_fce_targets([polygon], [flag], 80, 120), empty)


def test_sizes_are_rounded_up():
    targets = build_fce_targets([quad(8, 8, 32, 24)], [False], 70, 33)
    assert [targets[f"level_maps_{s}"].shape[1:] for s in (8, 16, 32)] == [(9, 5), (5, 3), (3, 2)]
    assert targets["matching_maps"].shape == (2, 3, 2)


def test_bad_input_is_named():
    good = quad(20, 20, 80, 50)
    with pytest.raises(ValueError, match="1 flags for 2 polygons"):
        build_fce_targets([good, good], [False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[1\].*not finite"):
        build_fce_targets([good, good * np.nan], [False, False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[0\].*beyond 10,000,000 pixels"):
        build_fce_targets([good * 1e9], [False], 80, 120)
    with pytest.raises(ValueError, match=r"polygons\[0\].*at least 3 points"):
        build_fce_targets([good[:2]], [True], 80, 120)
    for name, value in (
        ("fourier_degree", 0),
        ("fourier_degree", 1000),
        ("center_shrink_ratio", 0.0),
        ("level_ranges", ((0, 1), (0, 1))),
        ("level_ranges", ((0, 1), (0, 1), (1, 0))),
    ):
        with pytest.raises(ValueError, match=name):
            build_fce_targets([good], [False], 80, 120, **{name: value})
    with pytest.raises(ValueError, match="height"):
        build_fce_targets([good], [False], 0, 120)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.floats(-40, 140), st.floats(-40, 140)), min_size=3, max_size=9), st.booleans()
        ),
        max_size=4,
    )
)
def test_any_polygons_give_consistent_maps(regions):
    polygons, ignore = [np.array(points) for points, _ in regions], [flag for _, flag in regions]
    targets = build_fce_targets(polygons, ignore, 90, 110)
    assert all(np.isfinite(value).all() for value in targets.values())
    for stride in (8, 16, 32):
        maps = targets[f"level_maps_{stride}"]
        assert set(np.unique(maps[:3])) <= {0, 1}
        assert not maps[3:, maps[0] == 0].any()
        # Centers lie in the texts' bounding boxes.
        rows, columns = np.nonzero(maps[0])
        centers = np.stack([maps[8, rows, columns] + columns, maps[19, rows, columns] + rows]) * stride
        assert ((centers > -41) & (centers < 141)).all()
