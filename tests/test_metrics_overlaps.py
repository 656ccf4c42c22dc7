# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import numpy as np
import pytest
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tcm_hf.metrics.overlaps import compute_overlaps, even_odd_geometry, stack_regions


def dense(overlaps):
    matrix = np.zeros((len(overlaps.ground_truth_areas), len(overlaps.detection_areas)))
    matrix[overlaps.rows, overlaps.columns] = overlaps.areas
    return matrix


def overlaps_of(truth, found, invalid="even-odd"):
    return compute_overlaps([(stack_regions(truth, "t"), stack_regions(found, "f"))], invalid)[0]


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


coordinate = st.integers(-8, 40) | st.floats(-8, 40, width=32)
quad = st.lists(st.tuples(coordinate, coordinate), min_size=4, max_size=4)
polygon = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=9)


@settings(max_examples=150, deadline=None)
@given(st.lists(quad | polygon, min_size=1, max_size=4), st.lists(quad | polygon, min_size=1, max_size=4))
@example([box(0, 0, 10, 10)], [box(0, 0, 10, 10), box(10, 0, 20, 10), box(2, 3, 4, 5), box(-5, -5, 50, 50)])
@example([[(0, 0), (10, 0), (10, 10), (0, 10)][::-1]], [[(5, -5), (15, 5), (5, 15), (-5, 5)]])
@example([[(0, 0), (10, 0), (3, 3), (0, 10)]], [box(0, 0, 10, 10)[::-1], [(0, 0), (10, 0), (3, 3), (0, 10)]])
def test_areas_agree_with_shapely(truth, found):
    geometries = [[even_odd_geometry(np.array(p, dtype=float)) for p in group] for group in (truth, found)]
    # Slivers: shapely itself is not certain what is inside.
    assume(
        all(shapely.Polygon(p).is_valid or shapely.area(g) > 1e-3 for p, g in zip(truth + found, sum(geometries, [])))
    )
    result = overlaps_of(truth, found)
    expected = [[shapely.intersection(a, b).area for b in geometries[1]] for a in geometries[0]]
    assert dense(result) == pytest.approx(np.array(expected), abs=1e-6)
    for areas, group in ((result.ground_truth_areas, truth), (result.detection_areas, found)):
        assert areas == pytest.approx([abs(_shoelace(p)) for p in group], abs=1e-9)
    valid = [[shapely.Polygon(p).is_valid for p in group] for group in (truth, found)]
    # A quadrilateral that only turns one way is valid without asking.
    for ours, theirs in zip((result.ground_truth_valid, result.detection_valid), valid):
        assert ours.tolist() == theirs


def _shoelace(points):
    return sum(x * v - u * y for (x, y), (u, v) in zip(points, [*points[1:], points[0]])) / 2


rectangle = st.tuples(*[st.integers(0, 2000)] * 4).map(lambda v: box(v[0], v[1], v[0] + v[2] + 1, v[1] + v[3] + 1))


@settings(max_examples=100, deadline=None)
@given(rectangle, rectangle)
def test_upright_boxes_of_whole_numbers_are_exact(a, b):
    width = max(0, min(a[2][0], b[2][0]) - max(a[0][0], b[0][0]))
    height = max(0, min(a[2][1], b[2][1]) - max(a[0][1], b[0][1]))
    # Turned by a quarter and listed the other way round, which takes the general path through the clipping.
    for other in (b, b[1:] + b[:1], b[::-1]):
        assert dense(overlaps_of([a], [other]))[0, 0] == width * height


def test_many_images_are_kept_apart():
    rng = np.random.default_rng(0)
    pairs, expected = [], []
    for _ in range(30):
        groups = []
        for count in rng.integers(0, 6, 2):
            corners = rng.uniform(0, 50, (count, 2))
            groups.append([box(x, y, x + 20, y + 10) for x, y in corners])
        pairs.append(tuple(stack_regions(group, "x") for group in groups))
        expected.append(
            [[shapely.Polygon(a).intersection(shapely.Polygon(b)).area for b in groups[1]] for a in groups[0]]
        )
    for result, matrix in zip(compute_overlaps(pairs), expected):
        shape = len(result.ground_truth_areas), len(result.detection_areas)
        assert dense(result) == pytest.approx(np.array(matrix).reshape(shape))
        assert (np.diff(result.rows * 1000 + result.columns) > 0).all()
    assert compute_overlaps([]) == []


def test_contours_that_cross_themselves():
    crossed = [[0, 0], [10, 10], [10, 0], [0, 10]]  # two triangles of 25 square pixels each
    whole = box(0, 0, 10, 10)
    even_odd = overlaps_of([whole], [crossed])
    assert dense(even_odd)[0, 0] == pytest.approx(50) and even_odd.detection_areas[0] == 0
    assert even_odd.detection_valid.tolist() == [False]
    repaired = overlaps_of([whole], [crossed], "buffer")
    assert dense(repaired)[0, 0] == repaired.detection_areas[0] == shapely.Polygon(crossed).buffer(0).area
    assert repaired.raw_detection_areas[0] == 0
    assert dense(overlaps_of([whole], [crossed], "zero"))[0, 0] == 0
    # Wound twice around its middle: a hole by the even-odd rule.
    star = [[50, 0], [80, 90], [0, 35], [100, 35], [20, 90]]
    inner = overlaps_of([[[46, 45], [54, 45], [54, 55], [46, 55]]], [star])
    assert dense(inner)[0, 0] == 0


def test_corners_in_every_form():
    flat, nested = [0, 0, 4, 0, 4, 3, 0, 3], [[0, 0], [4, 0], [4, 3], [0, 3]]
    for group in (
        [flat, flat],
        [nested, nested],
        np.array([nested, nested]),
        [np.array(nested), np.float32(nested)],
        (tuple(flat), flat),
        [flat, nested],
    ):
        regions = stack_regions(group, "x")
        assert regions.points.tolist() == nested * 2 and regions.counts.tolist() == [4, 4]
    mixed = stack_regions([flat, [0, 0, 1, 0, 1, 1]], "x")
    assert mixed.counts.tolist() == [4, 3]
    assert mixed.boxes().tolist() == [[0, 0, 4, 3], [0, 0, 1, 1]]
    assert stack_regions([[0.1] * 8], "x", np.float32).points[0, 0] == float(np.float32(0.1))
    empty = stack_regions([], "x")
    assert len(empty) == 0 and empty.boxes().shape == (0, 4)


@pytest.mark.parametrize(
    "group, message",
    [
        ([[0, 0, 4, 0, 4, 3], [0, 0, 4, 0]], r"x\[1\].*at least 3 points"),
        ([[[0, 0, 1], [4, 0, 1], [4, 3, 1]]], r"x\[0\].*\(n, 2\)"),
        ([[0, 0, 4, 0, 4, 3, 0]], r"x\[0\]"),
        ([[0, 0, 4, 0, 4, float("nan")]], r"x\[0\].*not finite"),
        ([[0, 0, 4, 0, 4, "three"]], r"x\[0\]"),
        ([None], r"x\[0\]"),
        ([{"polygon": []}], r"x\[0\]"),
        (box(0, 0, 1, 1), r"x\[0\]"),
    ],
)
def test_bad_corners_are_named(group, message):
    with pytest.raises(ValueError, match=message):
        stack_regions(group, "x")
