# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import math

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.model.decoding_db import decode_db
from tcm_hf.model.decoding_fce import DECODER as FCE_DECODER
from tcm_hf.model.decoding_pan import DECODER as PAN_DECODER
from tcm_hf.model.detector_registry import Decoder
from tcm_hf.model.outlines import MAX_POINTS, neat_outline, order_outline, outline_in_shape
from tcm_hf.model.polygons import polygon_area, polygon_iou, quads_at_top_left, signed_area, start_at_top_left
from tcm_hf.model.post_processing import decode_outputs


light = settings(max_examples=30, deadline=None)


def points_of(geometry):
    return shapely.get_coordinates(geometry.exterior)[:-1]


def rounded(points, radius):
    """A polygon with round corners, as the expansion of a kernel gives them."""
    return points_of(shapely.Polygon(points).buffer(-radius).buffer(radius))


def ribbon(length, thickness, degrees, radius=0.0):
    """A word bent through an angle, on its upper side where that is positive; from left to right in its middle."""
    bend = math.radians(degrees) / length
    at = np.linspace(-length / 2, length / 2, 60)
    middle = np.stack([np.sin(bend * at) / bend, (1 - np.cos(bend * at)) / bend], axis=1)
    normal = np.stack([np.sin(bend * at), -np.cos(bend * at)], axis=1) * thickness / 2
    band = np.concatenate([middle + normal, (middle - normal)[::-1]])
    return rounded(band, radius) if radius else band


def turned(points, degrees, scale=1.0, shift=(0.0, 0.0)):
    angle = math.radians(degrees)
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return points @ rotation * scale + shift


def check(outline, contour, least_iou):
    """What every neat outline promises."""
    assert outline.dtype == np.float64 and np.isfinite(outline).all()
    assert len(outline) % 2 == 0 and 4 <= len(outline) <= MAX_POINTS
    assert shapely.Polygon(outline).is_valid and signed_area(outline) > 0
    assert polygon_iou(outline, contour) > least_iou


words = st.tuples(st.floats(2.5, 12), st.floats(0, 0.35), st.floats(-180, 180), st.floats(0.3, 20))


@light
@given(words)
def test_a_straight_word_is_its_four_corners(word):
    length, radius, degrees, scale = word
    corners = np.array([[0, 0], [length, 0], [length, 1], [0, 1]]) * 10
    contour = turned(rounded(corners, 10 * radius) if radius > 0.01 else corners, degrees, scale, (300, 200))
    outline = neat_outline(contour)
    check(outline, contour, 0.9)
    assert len(outline) == 4
    # As large as the contour: round corners make the rectangle smaller by that, on all sides alike.
    assert polygon_area(outline) == pytest.approx(polygon_area(contour), rel=1e-3)
    assert polygon_iou(outline, turned(corners, degrees, scale, (300, 200))) > 0.88


@pytest.mark.parametrize("degrees", [-40, -20, 0, 15, 40])
@pytest.mark.parametrize("radius", [0, 6])
def test_corners_start_at_the_top_left(degrees, radius):
    corners = np.array([[-50.0, -10.0], [50.0, -10.0], [50.0, 10.0], [-50.0, 10.0]])
    word = turned(corners, degrees, shift=(200, 200))
    outline = neat_outline(turned(rounded(corners, radius) if radius else corners, degrees, shift=(200, 200)))
    assert np.abs(outline - word).max() < 1.5
    # Text that runs downwards starts at the top left, too.
    upright = neat_outline(np.array([[5, 0], [25, 0], [25, 100], [5, 100]]))
    assert np.allclose(upright, [[5, 0], [25, 0], [25, 100], [5, 100]], atol=1e-4)


@pytest.mark.parametrize("radius", [0, 8])
@pytest.mark.parametrize("degrees", [0, 12, 45, 80])
@pytest.mark.parametrize(
    "corners",
    [
        [[0, 0], [160, 14], [160, 46], [0, 60]],  # smaller at one end
        [[0, 0], [160, 70], [160, 110], [0, 40]],  # slanted
        [[10, 0], [190, 0], [170, 40], [30, 40]],
    ],
)
def test_perspective_is_a_fitted_quadrilateral(corners, degrees, radius):
    corners = np.array(corners, dtype=float)
    contour = turned(rounded(corners, radius) if radius else corners, degrees)
    outline = neat_outline(contour)
    assert len(outline) == 4
    check(outline, contour, 0.98 if radius == 0 else 0.93)
    rectangle = outline_in_shape(contour, "quad")
    assert polygon_iou(outline, contour) > polygon_iou(rectangle, contour) + 0.03


bends = st.tuples(
    st.floats(4, 12), st.sampled_from([-1, 1]), st.floats(45, 200), st.floats(0.02, 0.35), st.floats(1, 20)
)


@light
@given(bends, st.floats(-180, 180))
def test_a_bent_word_is_its_upper_and_its_lower_edge(word, degrees):
    length, side, bend, radius, scale = word
    if length < math.radians(bend) * 1.2:  # the inner edge would have no length
        bend = math.degrees(length / 1.2)
    contour = turned(ribbon(length, 1, side * bend, radius), degrees, scale * 5, (500, 400))
    outline = neat_outline(contour)
    check(outline, contour, 0.85)
    if bend > 60:
        assert len(outline) > 4
    if len(outline) > 4:
        # Both edges are far from each other by the thickness, and the ends are short.
        half = len(outline) // 2
        across = np.linalg.norm(outline[:half] - outline[half:][::-1], axis=1)
        assert np.abs(across / (5 * scale) - 1).max() < 0.4
        start, stop = (outline[0] + outline[-1]) / 2, (outline[half - 1] + outline[half]) / 2
        along = stop - start
        assert (along[0] if abs(along[0]) >= abs(along[1]) else along[1]) > 0


@pytest.mark.parametrize("side", [-1, 1])
def test_reading_starts_at_the_left_or_at_the_upper_end(side):
    word = ribbon(200, 30, side * 100, 8)
    outline = neat_outline(word)
    half = len(outline) // 2
    assert (outline[:half].mean(axis=0) < outline[half:].mean(axis=0))[1]  # the upper edge first
    assert (np.diff(outline[:half, 0]) > 0).all() and (np.diff(outline[half:, 0]) < 0).all()
    upright = neat_outline(turned(word, 90))
    assert (np.diff(upright[:half, 1]) > 0).all() and (np.diff(upright[half:, 1]) < 0).all()
    for shift in (0, 7, 20):
        again = neat_outline(np.roll(word, shift, axis=0)[::-1])
        assert again.shape == outline.shape and polygon_iou(again, outline) > 0.97
        assert np.linalg.norm(again[0] - outline[0]) < 5


@light
@given(bends, st.sampled_from([0, 37, 90, 180, 251]), st.sampled_from([0.5, 3]))
def test_rotating_and_scaling_changes_nothing_else(word, degrees, factor):
    length, side, bend, radius, scale = word
    for contour in (
        ribbon(length, 1, side * min(bend, length * 40), radius),
        rounded(ribbon(length, 1, 1e-3), radius),
    ):
        contour = contour * scale * 5
        outline = turned(neat_outline(contour), degrees, factor, (40, -30))
        other = neat_outline(turned(contour, degrees, factor, (40, -30)))
        assert polygon_iou(outline, other) > 0.95
        assert abs(len(outline) - len(other)) <= 2  # a tolerance may just be kept, or just not


@light
@given(st.integers(0, 2**32 - 1), st.floats(1.5, 6))
def test_hostile_contours_keep_every_promise(seed, blur):
    noise = cv2.GaussianBlur(np.random.default_rng(seed).random((80, 100), dtype=np.float32), (0, 0), blur)
    binary = (noise > np.median(noise)).astype(np.uint8)
    for contour in cv2.findContours(binary, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
        if len(contour) >= 3 and cv2.contourArea(contour) > 8:
            polygon = points_of(shapely.Polygon(contour[:, 0]).buffer(0.6))
            # A cluster that winds through the whole map cannot be told in 16 points.
            check(neat_outline(polygon), polygon, 0.2)


@pytest.mark.parametrize(
    "contour",
    [
        np.array([[0, 0], [100, 0], [100, 20], [60, 20], [60, 90], [40, 90], [40, 20], [0, 20]]),  # T
        np.array([[0, 0], [100, 0], [100, 12], [12, 12], [12, 100], [0, 100]]),  # L
        np.array([[x, y] for i in range(30) for x, y in ((4 * i, 0), (4 * i + 2, 60))] + [[120, 70], [0, 70]]),  # comb
        np.array([[0, 0], [3e-3, 0], [0, 1e-3]]),
        np.array([[0, 0], [5000, 1], [5000, 2], [0, 1]]),
        np.array([[1e6, 1e6], [1e6 + 30, 1e6], [1e6 + 30, 1e6 + 9], [1e6, 1e6 + 9]]),
        ribbon(600, 20, 330),  # almost a ring
    ],
)
def test_odd_contours(contour):
    check(neat_outline(contour), contour, 0.5)


def test_contours_without_area():
    for flat in ([[0, 0], [5, 0], [2, 0]], [[3, 3]] * 5, [[0, 0], [10, 10], [10, 0], [0, 10]]):
        outline = neat_outline(flat)
        assert outline.shape == (4, 2) and np.isfinite(outline).all()
    with pytest.raises(ValueError, match="not finite"):
        neat_outline([[0, 0], [1, math.nan], [2, 2]])


def test_order_keeps_the_points():
    outline = neat_outline(ribbon(200, 30, 100, 8))
    half = len(outline) // 2
    assert np.array_equal(order_outline(np.roll(outline, half, axis=0)), outline)
    # A mirror's image of the axes: what was the left end is the right one.
    other = order_outline(outline * (1, 5))
    assert np.array_equal(np.sort(other, axis=0), np.sort(outline * (1, 5), axis=0))


@light
@given(
    bends, st.floats(-180, 180), st.floats(-60, 160), st.floats(-60, 130), st.sampled_from([(1.0, 1.0), (0.7, 1.9)])
)
def test_the_border_of_the_image_keeps_the_promise(word, degrees, left, top, stretch):
    length, side, bend, radius, _ = word
    for angle in (side * min(bend, length * 40), 1e-3):
        contour = turned(ribbon(length, 1, angle, radius), degrees, 12, (left, top))
        decoder = Decoder(lambda maps, *, shape="auto", contour=contour: ([outline_in_shape(contour, shape)], [0.9]))
        size = (round(80 * stretch[1]), round(110 * stretch[0]))
        outputs = {"logits": np.zeros((1, 1, 80, 110))}
        (result,) = decode_outputs(decoder, outputs, [size], {"shape": "auto"}, False)
        for polygon in result["polygons"]:
            assert len(polygon) % 2 == 0 and 4 <= len(polygon) <= MAX_POINTS
            assert (polygon >= 0).all() and (polygon <= size[::-1]).all()
            assert shapely.Polygon(polygon).is_valid and signed_area(polygon) > 0


def test_every_decoder_has_it_by_default():
    assert {each.keywords["shape"] for each in (FCE_DECODER, PAN_DECODER, Decoder(decode_db))} == {"auto"}
    probabilities = np.zeros((100, 160), dtype=np.float32)
    probabilities[30:41, 40:101] = 0.8
    (outline,), _ = decode_db(probabilities)
    assert outline.shape == (4, 2) and outline.dtype == np.float32
    with pytest.raises(ValueError, match="shape"):
        decode_db(probabilities, shape="rectangle")


@light
@given(st.integers(0, 2**32 - 1))
def test_many_quads_are_ordered_as_single_ones(seed):
    rng = np.random.default_rng(seed)
    quads = np.array(
        [turned(np.array([[0, 0], [9, 0], [9, 9], [0, 9]]) * rng.uniform(1, 4, 2), 15 * i) for i in range(24)]
    )
    starts = rng.integers(0, 4, len(quads))
    quads = np.array([np.roll(quad, start, axis=0) for quad, start in zip(quads, starts)])
    assert np.array_equal(quads_at_top_left(quads), [start_at_top_left(quad) for quad in quads])
