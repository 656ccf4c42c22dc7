# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import math

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tcm_hf.model.polygons import (
    as_polygon,
    bounding_box,
    clip_polygon,
    minimum_area_quad,
    minimum_area_quads,
    offset_polygon,
    order_all_clockwise,
    order_clockwise,
    polygon_area,
    polygon_iou,
    polygon_perimeter,
    reading_order,
    repair_polygon,
    resample_polygon,
    signed_area,
)


SQUARE = np.array([[10.0, 20.0], [30.0, 20.0], [30.0, 40.0], [10.0, 40.0]])
BOW_TIE = np.array([[0.0, 0.0], [10.0, 10.0], [10.0, 0.0], [0.0, 10.0]])
DUMBBELL = np.array(
    [[0, 0], [20, 0], [20, 9], [40, 9], [40, 0], [60, 0], [60, 20], [40, 20], [40, 11], [20, 11], [20, 20], [0, 20]]
)

light = settings(max_examples=40, deadline=None)


@st.composite
def simple_polygons(draw, convex=False):
    """Star-shaped polygons: points at growing angles around a center, hence valid, clockwise on screen."""
    n = draw(st.integers(3, 12))
    center = np.array([draw(st.floats(-200, 800)), draw(st.floats(-200, 800))])
    steps = np.array([draw(st.floats(0.3, 1.0)) for _ in range(n)])
    angles = np.cumsum(steps) / steps.sum() * 2 * math.pi
    radii = 50.0 if convex else np.array([draw(st.floats(5, 100)) for _ in range(n)])[:, None]
    return center + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@st.composite
def any_polygons(draw):
    """Random points in random order: crossing, touching and repeated ones included."""
    n = draw(st.integers(3, 9))
    return np.array([[draw(st.integers(0, 30)), draw(st.integers(0, 30))] for _ in range(n)], dtype=np.float64)


def cyclic_sequence(a, b):
    """Whether b lists the points of a, from any start, in either direction."""
    shifts = [np.roll(direction, shift, axis=0) for direction in (a, a[::-1]) for shift in range(len(a))]
    return any(np.array_equal(shifted, b) for shifted in shifts)


@light
@given(simple_polygons())
def test_area_and_perimeter_agree_with_shapely(polygon):
    reference = shapely.Polygon(polygon)
    assert polygon_area(polygon) == pytest.approx(reference.area, rel=1e-9)
    assert polygon_perimeter(polygon) == pytest.approx(reference.length, rel=1e-9)
    assert signed_area(polygon[::-1]) == pytest.approx(-signed_area(polygon), rel=1e-9)
    assert bounding_box(polygon) == reference.bounds


def test_signed_area_is_positive_for_clockwise_on_screen():
    # y points down: right, then down, then left.
    assert signed_area(SQUARE) == 400.0
    assert signed_area(SQUARE[::-1]) == -400.0


def test_as_polygon_refuses_what_is_no_polygon():
    assert np.array_equal(as_polygon([0, 0, 4, 0, 4, 2]), [[0, 0], [4, 0], [4, 2]])
    for bad in ([[0, 0], [1, 1]], [0, 0, 1, 1, 2], [], np.zeros((4, 3))):
        with pytest.raises(ValueError, match="at least 3 points"):
            as_polygon(bad)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            as_polygon([[0, 0], [1, value], [2, 2]])


@light
@given(simple_polygons(), st.integers(0, 11), st.booleans())
def test_order_clockwise_depends_only_on_the_shape(polygon, shift, backwards):
    ordered = order_clockwise(polygon)
    assert cyclic_sequence(polygon, ordered)
    assert signed_area(ordered) > 0
    other = np.roll(polygon[::-1] if backwards else polygon, shift, axis=0)
    assert np.array_equal(order_clockwise(other), ordered)


@pytest.mark.parametrize("degrees", [-40, -20, 0, 15, 40])
def test_order_clockwise_starts_a_quad_at_its_top_left(degrees):
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    # Corners of a word in reading position, turned by less than 45 degrees: its own top-left stays the start.
    word = np.array([[-50.0, -10.0], [50.0, -10.0], [50.0, 10.0], [-50.0, 10.0]]) @ rotation + 200
    for shift in range(4):
        assert np.array_equal(order_clockwise(np.roll(word, shift, axis=0)), word)
        assert np.array_equal(order_clockwise(np.roll(word[::-1], shift, axis=0)), word)


@light
@given(any_polygons())
def test_repair_gives_valid_disjoint_parts_that_cover_the_original(polygon):
    parts = repair_polygon(polygon)
    geometries = [shapely.Polygon(part) for part in parts]
    assert all(geometry.is_valid and geometry.area > 0 for geometry in geometries)
    union = shapely.union_all(geometries)
    assert sum(geometry.area for geometry in geometries) == pytest.approx(union.area, abs=1e-6)
    enclosed = shapely.make_valid(shapely.Polygon(polygon))
    assert shapely.difference(enclosed, union).area == pytest.approx(0, abs=1e-6)
    # Nothing outside the contour is added: filled holes still lie inside the outermost ring.
    assert shapely.difference(union, shapely.convex_hull(shapely.MultiPoint(polygon))).area < 1e-6


def test_repair_of_special_polygons():
    assert [polygon_area(part) for part in repair_polygon(BOW_TIE)] == [25.0, 25.0]
    (unchanged,) = repair_polygon(SQUARE)
    assert np.array_equal(unchanged, SQUARE)
    for flat in ([[0, 0], [5, 0], [2, 0]], [[3, 3]] * 4):
        assert repair_polygon(flat) == []


@light
@given(simple_polygons(convex=True), st.floats(0.5, 40))
def test_expanding_a_convex_polygon_follows_steiner(polygon, distance):
    assume(polygon_area(polygon) > 1)
    hull = shapely.get_coordinates(shapely.Polygon(polygon).convex_hull.exterior)[:-1]
    (expanded,) = offset_polygon(hull, distance)
    disc = math.pi * distance**2
    expected = polygon_area(hull) + polygon_perimeter(hull) * distance + disc
    # Round joins are drawn with chords, which stay inside the arc.
    assert expected - 0.01 * disc - 1e-6 <= polygon_area(expanded) <= expected + 1e-6


@light
@given(simple_polygons(), st.floats(0.5, 20))
def test_shrinking_keeps_the_distance_to_the_contour(polygon, distance):
    contour = shapely.LinearRing(polygon)
    for part in offset_polygon(polygon, -distance):
        assert shapely.Polygon(polygon).contains(shapely.Polygon(part))
        assert all(contour.distance(shapely.Point(point)) >= distance * 0.99 for point in part)


def test_offset_of_special_polygons():
    (shrunk,) = offset_polygon(SQUARE, -4)
    assert bounding_box(shrunk) == (14, 24, 26, 36)
    assert offset_polygon(SQUARE, -10.5) == []
    halves = offset_polygon(DUMBBELL, -2)
    # The bridge, 2 pixels high, vanishes; round joins leave a small bulge at its ends.
    assert np.allclose(sorted(bounding_box(half) for half in halves), [(2, 2, 18, 18), (42, 2, 58, 18)], atol=0.3)
    assert sum(polygon_area(part) for part in offset_polygon(BOW_TIE, -1)) < 50 * 0.6


def test_offset_in_whole_pixels():
    # Decimals are cut off before: the square from 10 to 30.
    ragged = [[10.9, 20.9], [30.9, 20.9], [30.9, 40.9], [10.9, 40.9]]
    for corners in (ragged, ragged[::-1]):
        (shrunk,) = offset_polygon(corners, -4, whole_pixels=True)
        assert bounding_box(shrunk) == (14, 24, 26, 36) and len(shrunk) == 4
    (expanded,) = offset_polygon(SQUARE, 3.4, whole_pixels=True)
    assert bounding_box(expanded) == (7, 17, 33, 43) and np.array_equal(expanded, np.rint(expanded))
    assert offset_polygon(SQUARE, -10, whole_pixels=True) == []
    (same,) = offset_polygon(SQUARE, 0, whole_pixels=True)
    assert polygon_iou(same, SQUARE) == 1.0
    assert len(offset_polygon(DUMBBELL, -2, whole_pixels=True)) == 2
    # A letter C that closes: what it encloses is filled.
    c = [[0, 0], [40, 0], [40, 10], [10, 10], [10, 30], [40, 30], [40, 18], [50, 18], [50, 40], [0, 40]]
    (closed,) = offset_polygon(c, 6, whole_pixels=True)
    assert polygon_area(closed) > 50 * 50
    # Less than a pixel is nothing.
    assert offset_polygon([[0, 0], [5, 0], [5, 0.9], [0, 0.9]], 2, whole_pixels=True) == []


@light
@given(any_polygons())
def test_clip_agrees_with_shapely(polygon):
    parts = clip_polygon(polygon, 20, 12)
    union = shapely.union_all([shapely.Polygon(part) for part in repair_polygon(polygon)])
    expected = union.intersection(shapely.box(0, 0, 20, 12)).area
    assert sum(polygon_area(part) for part in parts) == pytest.approx(expected, abs=1e-6)
    for part in parts:
        xmin, ymin, xmax, ymax = bounding_box(part)
        assert xmin >= 0 and ymin >= 0 and xmax <= 20 and ymax <= 12


def test_clip_of_special_polygons():
    arch = np.array([[0, -10], [30, -10], [30, 10], [20, 10], [20, -5], [10, -5], [10, 10], [0, 10]])
    assert sorted(bounding_box(part) for part in clip_polygon(arch, 100, 100)) == [(0, 0, 10, 10), (20, 0, 30, 10)]
    assert clip_polygon(SQUARE + 500, 100, 100) == []
    (inside,) = clip_polygon(SQUARE, 30, 40)
    assert np.array_equal(inside, SQUARE)


def test_iou_of_shifted_squares():
    for shift in (0, 5, 10, 20, 30):
        overlap = max(20 - shift, 0) * 20
        assert polygon_iou(SQUARE, SQUARE + (shift, 0)) == pytest.approx(overlap / (800 - overlap))
    assert polygon_iou(SQUARE, [[0, 0], [5, 0], [2, 0]]) == 0.0
    assert polygon_iou([[0, 0]] * 3, [[0, 0]] * 3) == 0.0


@light
@given(any_polygons(), any_polygons())
def test_iou_is_symmetric_and_bounded(a, b):
    value = polygon_iou(a, b)
    assert 0.0 <= value <= 1.0
    assert value == pytest.approx(polygon_iou(b, a), abs=1e-9)
    if repair_polygon(a):
        assert polygon_iou(a, a) == pytest.approx(1.0)


@light
@given(simple_polygons())
def test_minimum_area_quad_is_the_smallest_rectangle(polygon):
    quad = minimum_area_quad(polygon)
    assert shapely.Polygon(quad).buffer(1e-6).contains(shapely.Polygon(polygon))
    sides = np.roll(quad, -1, axis=0) - quad
    assert np.abs((sides * np.roll(sides, -1, axis=0)).sum(axis=1)).max() < 1e-6 * max(polygon_area(quad), 1)
    width, height = cv2.minAreaRect(polygon.astype(np.float32))[1]
    assert polygon_area(quad) <= width * height * 1.001
    angles = np.linspace(0, math.pi / 2, 200)
    extents = [
        np.ptp(polygon @ [math.cos(a), math.sin(a)]) * np.ptp(polygon @ [-math.sin(a), math.cos(a)]) for a in angles
    ]
    assert polygon_area(quad) <= min(extents) + 1e-6
    assert signed_area(quad) > 0


def test_minimum_area_quad_of_a_line_and_a_point():
    line = minimum_area_quad([[0, 0], [4, 4], [8, 8]])
    assert polygon_area(line) == pytest.approx(0)
    assert bounding_box(line) == pytest.approx((0, 0, 8, 8))
    assert np.array_equal(minimum_area_quad([[3, 5]] * 3), [[3, 5]] * 4)


@light
@given(st.lists(st.one_of(simple_polygons(), any_polygons()), min_size=1, max_size=8))
def test_many_polygons_at_once_are_as_one_by_one(polygons):
    # Hulls of one and of two points besides, and quads among polygons of other counts.
    polygons = [*polygons, np.full((3, 2), 5.0), np.array([[0.0, 0.0], [4.0, 4.0], [8.0, 8.0]]), SQUARE[::-1]]
    quads = minimum_area_quads(polygons)
    assert quads.shape == (len(polygons), 4, 2)
    for polygon, quad in zip(polygons, quads):
        assert np.array_equal(quad, minimum_area_quad(polygon))
    for polygon, ordered in zip(polygons, order_all_clockwise(polygons)):
        assert np.array_equal(ordered, order_clockwise(polygon))
    assert order_all_clockwise([]) == []


@light
@given(simple_polygons(), st.integers(3, 40))
def test_resampled_points_lie_on_the_contour(polygon, n):
    points = resample_polygon(polygon, n)
    assert points.shape == (n, 2)
    assert np.array_equal(points[0], polygon[0])
    contour = shapely.LinearRing(polygon)
    assert max(contour.distance(shapely.Point(point)) for point in points) < 1e-6
    # Equal steps along the contour: no chord is longer than a step.
    chords = np.linalg.norm(np.roll(points, -1, axis=0) - points, axis=1)
    assert chords.max() <= contour.length / n + 1e-6


def test_resample_of_a_square():
    expected = [[10, 20], [20, 20], [30, 20], [30, 30], [30, 40], [20, 40], [10, 40], [10, 30]]
    assert np.allclose(resample_polygon(SQUARE, 8), expected)
    with pytest.raises(ValueError, match="n=2"):
        resample_polygon(SQUARE, 2)


def box(x, y, width=40, height=20):
    return np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]], dtype=np.float64)


def test_reading_order_goes_line_by_line():
    # Two lines that slope by more than their height, given out of order.
    words = [box(x, y + 0.15 * x) for y in (0, 40) for x in (0, 60, 120, 180, 240)]
    order = [7, 2, 9, 0, 4, 5, 1, 8, 3, 6]
    result = reading_order([words[i] for i in order])
    assert [order[i] for i in result] == list(range(10))
    assert reading_order([]) == []


@light
@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 50)), max_size=12))
def test_reading_order_is_a_permutation(places):
    assert sorted(reading_order([box(x, y, 20, height) for x, y, height in places])) == list(range(len(places)))
