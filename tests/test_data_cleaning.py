# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Repair of outlines."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.data.cleaning import CORNERS_ORDERED, LARGEST_PART, NO_AREA, OUTSIDE, REPEATED_POINTS, clean_instances


SQUARE = [[10, 10], [40, 10], [40, 30], [10, 30]]


def clean(*polygons, height=100, width=200):
    return clean_instances([np.array(polygon, np.float32) for polygon in polygons], height, width)


def test_valid_outlines_stay_as_they_are():
    reverse, partly = SQUARE[::-1], [[-20, 5], [30, 5], [30, 20]]
    result = clean(SQUARE, reverse, partly)
    assert [polygon.tolist() for polygon in result.polygons] == [SQUARE, reverse, partly]
    assert result.kept == [0, 1, 2] and not result.repaired and not result.dropped and result.partly_outside == 1


@pytest.mark.parametrize(
    "polygon, repair, area",
    [
        ([*SQUARE, SQUARE[0]], REPEATED_POINTS, 600),
        ([SQUARE[0], SQUARE[0], *SQUARE[1:]], REPEATED_POINTS, 600),
        ([SQUARE[0], SQUARE[2], SQUARE[1], SQUARE[3]], CORNERS_ORDERED, 600),
        # A large square with a small loop at one corner.
        ([[0, 0], [50, 0], [50, 50], [-2, 50], [-2, 52], [0, 52]], LARGEST_PART, 2500),
    ],
)
def test_repairs(polygon, repair, area):
    result = clean(SQUARE, polygon)
    assert result.repaired == [(1, repair)] and result.kept == [0, 1]
    repaired = shapely.Polygon(result.polygons[1])
    assert repaired.is_valid and repaired.area == pytest.approx(area)


def test_a_crossing_quadrilateral_starts_at_the_top_left():
    (polygon,) = clean([[40, 30], [10, 10], [40, 10], [10, 30]]).polygons
    assert polygon.tolist() == SQUARE


@pytest.mark.parametrize(
    "polygon, reason",
    [
        ([[5, 5], [5, 5], [5, 5]], NO_AREA),
        ([[5, 5], [9, 9], [5, 5], [9, 9]], NO_AREA),
        ([[5, 5], [7, 7], [9, 9]], NO_AREA),
        ([[300, 5], [340, 5], [340, 25]], OUTSIDE),
        ([[5, -40], [40, -40], [40, 0]], OUTSIDE),
    ],
)
def test_what_encloses_nothing_is_dropped(polygon, reason):
    result = clean(polygon, SQUARE)
    assert result.dropped == [(0, reason)] and result.kept == [1]


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(-20, 60), st.integers(-20, 60)), min_size=3, max_size=9))
def test_what_is_kept_is_valid_and_inside_of_what_was_given(points):
    result = clean(points)
    assert len(result.kept) + len(result.dropped) == 1
    for polygon in result.polygons:
        shape = shapely.Polygon(polygon)
        assert shape.is_valid and shape.area > 0
        assert shapely.MultiPoint(points).convex_hull.buffer(1e-3).covers(shape)
