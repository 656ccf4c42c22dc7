"""Random geometry and color: polygons must follow the pixels."""

import cv2
import numpy as np
import pytest
import shapely
from shapely.geometry import Polygon, box

from tcm_hf.data.augment import (
    TextAugmentation,
    add_noise,
    crop_polygons,
    jpeg_artifacts,
    pixel_matrix,
    transform_polygons,
)


PLAIN = {"brightness": 0, "contrast": 0, "saturation": 0, "color_cast": 0, "blur": 0, "noise": 0, "jpeg": 0}
PLAIN["motion_blur"] = 0
STILL = {"rotation": 0, "flip": 0, "aspect": 0}


def paint(polygons, height, width):
    """Coverage of each pixel by the polygons, from 4 x 4 points a pixel."""
    coverage = np.zeros((height, width))
    for polygon in polygons:
        left, top = np.maximum(np.floor(np.min(polygon, axis=0)), 0).astype(int)
        right, bottom = np.minimum(np.ceil(np.max(polygon, axis=0)), (width, height)).astype(int)
        x, y = np.meshgrid(np.arange(left, right, 0.25) + 0.125, np.arange(top, bottom, 0.25) + 0.125)
        inside = shapely.contains_xy(Polygon(polygon), x, y).reshape(bottom - top, 4, right - left, 4)
        coverage[top:bottom, left:right] = np.maximum(coverage[top:bottom, left:right], inside.mean(axis=(1, 3)))
    return np.rint(255 * coverage).astype(np.uint8)


def center(weights):
    return (np.mgrid[: weights.shape[0], : weights.shape[1]] * weights).sum(axis=(1, 2)) / weights.sum()


def scattered_quads(rng, count, height, width, size=60):
    """Quads of at least a dozen pixels, one in each cell of a grid, so that they do not overlap."""
    quads = []
    for index in range(count):
        center = ((index % 4 + 0.5) * width / 4, (index // 4 + 0.5) * height / 3)
        half = rng.uniform(12, size, size=2) / 2
        angle = rng.uniform(-0.5, 0.5)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + rng.uniform(-3, 3, size=(4, 2))
        quads.append((corners @ turn.T + center).astype(np.float32))
    return quads


@pytest.mark.parametrize("stored_as", [(300, 400), (200, 360)])
def test_polygons_follow_the_pixels(stored_as):
    height, width = 300, 400
    augmentation = TextAugmentation(160, scale=(0.7, 2.0), rotation=25, flip=0.5, min_side=0, **PLAIN)
    compared = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        quads = scattered_quads(rng, 12, height, width)
        stretch = np.array([stored_as[1] / width, stored_as[0] / height])
        source = cv2.cvtColor(paint([quad * stretch for quad in quads], *stored_as), cv2.COLOR_GRAY2RGB)
        augmentation.border_color = (0, 0, 0)
        image, polygons, _ = augmentation(source, quads, [False] * 12, rng, frame_size=(height, width))
        assert image.shape == (160, 160, 3) and image.dtype == np.uint8
        seen, expected = image[:, :, 0].astype(float), paint(polygons, 160, 160).astype(float)
        if expected.sum() > 400 * 255:
            compared += 1
            assert np.minimum(seen, expected).sum() / np.maximum(seen, expected).sum() > 0.87, seed
            # A systematic shift, such as that of half a pixel, would show in the centers of gravity.
            assert np.abs(center(seen) - center(expected)).max() < 0.2, seed
    assert compared >= 15


def test_pixel_matrix_keeps_the_picture_in_place():
    """Magnifying by 2 must agree with cv2.resize, which maps 0..width onto 0..2 width."""
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8), (0, 0), 1)
    warped = cv2.warpAffine(image, pixel_matrix(np.diag([2.0, 2.0, 1.0])), (60, 40), borderMode=cv2.BORDER_REPLICATE)
    resized = cv2.resize(image, (60, 40), interpolation=cv2.INTER_LINEAR)
    assert np.abs(warped.astype(int) - resized.astype(int)).max() <= 2


def test_mirrored_polygons_stay_clockwise_from_the_reading_start():
    mirror = np.array([[-1.0, 0, 100], [0, 1, 0]])
    quad = np.array([[10, 10], [40, 12], [40, 22], [10, 20]])
    (result,) = transform_polygons([quad], mirror)
    assert result.tolist() == [[60, 12], [90, 10], [90, 20], [60, 22]]
    six = np.array([[0, 0], [5, 2], [10, 0], [10, 4], [5, 6], [0, 4]])
    (result,) = transform_polygons([six], mirror)
    assert result.tolist() == [[90, 0], [95, 2], [100, 0], [100, 4], [95, 6], [90, 4]]


def test_crop_agrees_with_shapely():
    rng = np.random.default_rng(1)
    frame = box(0, 0, 50, 40)
    for _ in range(200):
        quad = np.asarray(Polygon(rng.uniform(-30, 80, size=(5, 2))).convex_hull.exterior.coords)[:-1]
        polygons, ignore = crop_polygons([quad], [False], 50, 40, min_visible=0.5, min_side=0)
        visible = Polygon(quad).intersection(frame)
        if visible.area < 1:
            continue
        assert len(polygons) == 1
        assert Polygon(polygons[0]).symmetric_difference(visible).area < 1e-2
        share = visible.area / Polygon(quad).area
        if abs(share - 0.5) > 1e-3:
            assert ignore == [share < 0.5]


def test_crop_drops_ignores_and_keeps():
    def rectangle(x0, y0, x1, y1):
        return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float32)

    given = [
        rectangle(10, 10, 40, 20),  # whole
        rectangle(-8, 10, 12, 30),  # 60 % visible
        rectangle(-12, 40, 8, 60),  # 40 % visible
        rectangle(-20, 0, -1, 20),  # outside
        rectangle(50, 50, 80, 55),  # thin
        rectangle(60, 60, 90, 80),  # whole, ignored before
        rectangle(100, 0, 120, 20),  # touches the border from outside
    ]
    polygons, ignore = crop_polygons(given, [False] * 5 + [True, False], 100, 100)
    assert ignore == [False, False, True, True, True]
    assert polygons[0].tolist() == given[0].tolist()
    assert polygons[1].min(axis=0).tolist() == [0, 10] and polygons[1].max(axis=0).tolist() == [12, 30]
    assert all(polygon.dtype == np.float32 for polygon in polygons)


def test_crop_survives_outlines_that_cross():
    bow_tie = np.array([[-10, 10], [30, 40], [30, 10], [-10, 40]], np.float32)
    polygons, _ = crop_polygons([bow_tie], [False], 50, 50)
    area = sum(Polygon(polygon).area for polygon in polygons)
    # Two triangles of 300 px², the left one cut at x = 0 to a quarter (a similar triangle of half the height).
    assert area == pytest.approx(300 + 75, abs=1e-3)


def test_anchor_brings_a_whole_word_into_every_crop():
    image = np.zeros((300, 400, 3), np.uint8)
    word = np.array([[350, 10], [395, 10], [395, 24], [350, 24]], np.float32)
    ignored = np.array([[5, 200], [100, 200], [100, 290], [5, 290]], np.float32)

    def whole_words(probability):
        augmentation = TextAugmentation(100, scale=(1.0, 4.0), anchor_probability=probability, **PLAIN)
        found = 0
        for seed in range(40):
            rng = np.random.default_rng(seed)
            _, polygons, flags = augmentation(image, [word, ignored], [False, True], rng)
            found += any(not flag and Polygon(p).area >= 0.99 * 630 for p, flag in zip(polygons, flags, strict=True))
        return found

    assert whole_words(1.0) == 40
    assert whole_words(0.0) < 20


def test_scale_range_is_relative_to_the_frame():
    word = np.array([[100, 100], [130, 100], [130, 110], [100, 110]], np.float32)
    augmentation = TextAugmentation(256, scale=(0.5, 2.0), min_side=0, **STILL, **PLAIN)
    factors = []
    for seed in range(60):
        polygons = augmentation(
            np.zeros((100, 100, 3), np.uint8), [word], [False], np.random.default_rng(seed), (200, 300)
        )[1]
        factors.append(np.sqrt(Polygon(polygons[0]).area / 300))
    assert 0.5 <= min(factors) < 0.7 and 1.6 < max(factors) <= 2.0


@pytest.mark.parametrize("flip", [0, 1])
def test_flip_can_be_switched_off_and_on(flip):
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = 255
    augmentation = TextAugmentation(64, scale=(1, 1), rotation=0, aspect=0, flip=flip, **PLAIN)
    for seed in range(10):
        crop, _, _ = augmentation(image, [], [], np.random.default_rng(seed))
        assert np.array_equal(crop, image[:, ::-1] if flip else image)


def test_result_depends_on_the_generator_only():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 160, 3)).astype(np.uint8)
    quads = scattered_quads(rng, 12, 120, 160, size=30)
    copies = image.copy(), [quad.copy() for quad in quads]
    augmentation = TextAugmentation(96, jpeg=0.5, noise=0.5, blur=0.5)
    first = augmentation(image, quads, [False] * 12, np.random.default_rng(5))
    second = augmentation(image, quads, [False] * 12, np.random.default_rng(5))
    other = augmentation(image, quads, [False] * 12, np.random.default_rng(6))
    assert np.array_equal(first[0], second[0]) and not np.array_equal(first[0], other[0])
    assert all(np.array_equal(a, b) for a, b in zip(first[1], second[1], strict=True)) and first[2] == second[2]
    assert np.array_equal(image, copies[0])
    assert all(np.array_equal(a, b) for a, b in zip(quads, copies[1], strict=True))


def test_border_has_its_colour_whatever_the_jitter():
    augmentation = TextAugmentation(64, scale=(0.5, 0.5), brightness=60, border_color=(123, 117, 104), **STILL)
    for seed in range(10):
        crop, _, _ = augmentation(np.full((40, 40, 3), 50, np.uint8), [], [], np.random.default_rng(seed))
        border = (crop == (123, 117, 104)).all(axis=2)
        # The image covers 20 x 20 of 64 x 64; its rim is drawn to the nearest pixel.
        assert 64 * 64 - 22 * 22 <= border.sum() <= 64 * 64 - 18 * 18


def test_shrinking_averages_instead_of_skipping():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::4] = 255
    augmentation = TextAugmentation(32, scale=(0.125, 0.125), **STILL, **PLAIN)
    crop, _, _ = augmentation(stripes, [], [], np.random.default_rng(0))
    assert np.abs(crop[4:-4, 4:-4].astype(float) - 255 / 4).max() < 40


def test_colour_jitter():
    grey = np.full((8, 8, 3), 100, np.uint8)
    only = {**PLAIN, "brightness": 32}
    shifts = [
        TextAugmentation(8, **only).photometric(grey, np.random.default_rng(seed)).astype(int) - 100
        for seed in range(50)
    ]
    assert all(np.ptp(shift) == 0 for shift in shifts)
    values = [shift.flat[0] for shift in shifts]
    assert -32 <= min(values) < -15 and 15 < max(values) <= 32
    # Saturation moves colors towards or away from their gray, which itself stays.
    only = {**PLAIN, "saturation": 0.5}
    red = np.full((8, 8, 3), (200, 60, 60), np.uint8)
    spans = []
    for seed in range(50):
        augmentation, rng = TextAugmentation(8, **only), np.random.default_rng(seed)
        pixel = augmentation.photometric(red, rng)[0, 0].astype(float)
        spans.append(pixel[0] - pixel[1])
        assert pixel @ (0.299, 0.587, 0.114) == pytest.approx(200 * 0.299 + 60 * 0.701, abs=1)
    assert 0.5 * 140 - 1 <= min(spans) < 90 and 180 < max(spans) <= 1.5 * 140 + 1
    assert np.array_equal(TextAugmentation(8, **PLAIN).photometric(red, np.random.default_rng(0)), red)


def test_motion_smears_one_way_and_keeps_the_light():
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    rows, columns = np.indices((41, 41)) - 20
    lengths, angles = [], []
    for seed in range(60):
        augmentation = TextAugmentation(41, **{**PLAIN, "motion_blur": 1.0})
        smear = augmentation.photometric(dot, np.random.default_rng(seed))[..., 0].astype(float)
        assert smear.sum() == pytest.approx(255, rel=0.15)  # rounded to whole levels
        weight = smear / smear.sum()
        spread = np.array([[(weight * a * b).sum() for a in (columns, rows)] for b in (columns, rows)])
        narrow, wide = np.linalg.eigvalsh(spread)
        assert narrow < 0.4
        lengths.append(np.sqrt(12 * wide))
        angles.append(np.degrees(0.5 * np.arctan2(2 * spread[0, 1], spread[0, 0] - spread[1, 1])))
    assert 2.5 < min(lengths) < 4 and 10 < max(lengths) < 13.5
    assert min(angles) < -60 and max(angles) > 60
    share = np.mean(
        [
            not np.array_equal(TextAugmentation(41, **{**PLAIN, "motion_blur": 0.3}).photometric(dot, rng), dot)
            for rng in map(np.random.default_rng, range(200))
        ]
    )
    assert 0.2 < share < 0.4


def test_noise_has_the_asked_strength():
    grey = np.full((100, 120, 3), 128, np.uint8)
    noisy = add_noise(grey, 6.0, np.random.default_rng(3)).astype(float) - 128
    assert abs(noisy.mean()) < 0.2 and noisy.std() == pytest.approx(6.0, rel=0.05)
    large = np.full((900, 900, 3), 128, np.uint8)
    assert add_noise(large, 4.0, np.random.default_rng(0)).std() == pytest.approx(4.0, rel=0.05)


def test_jpeg_keeps_the_picture_roughly():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, :32] = (200, 40, 40)
    result = jpeg_artifacts(image, 40)
    assert not np.array_equal(result, image)
    assert np.abs(result[:, :24].astype(int).mean(axis=(0, 1)) - (200, 40, 40)).max() < 6


@pytest.mark.parametrize(
    "arguments, name",
    [
        ({"crop_size": 0}, "crop_size"),
        ({"scale": (2, 1)}, "scale"),
        ({"flip": 1.5}, "flip"),
        ({"motion_blur": -0.1}, "motion_blur"),
        ({"motion_length": (0.5, 9)}, "motion_length"),
        ({"motion_length": (9, 5)}, "motion_length"),
        ({"rotation": -1}, "rotation"),
    ],
)
def test_bad_settings_are_named(arguments, name):
    with pytest.raises(ValueError, match=name):
        TextAugmentation(**arguments)


def test_quarter_turns_put_words_on_their_side():
    image = np.zeros((100, 100, 3), np.uint8)
    word = np.array([[40, 45], [60, 45], [60, 55], [40, 55]], dtype=np.float32)
    settings = {"crop_size": 96, "scale": (1.0, 1.0), "rotation": 0, "flip": 0, "aspect": 0}
    directions = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        _, polygons, _ = TextAugmentation(quarter_turns=1.0, **settings)(image, [word], [False], rng)
        along = polygons[0][1] - polygons[0][0]
        directions.add(tuple(int(x) for x in np.rint(along / np.abs(along).max())))
    assert directions == {(0, 1), (-1, 0), (0, -1)}
    # Without them the sequence of random numbers is the one it always was.
    plain, off = (
        TextAugmentation(**kwargs)(image, [word], [False], np.random.default_rng(0))
        for kwargs in (settings, {**settings, "quarter_turns": 0.0})
    )
    np.testing.assert_array_equal(plain[1][0], off[1][0])


def test_lengths_of_motion_are_those_asked_for():
    dot = np.zeros((81, 81, 3), np.uint8)
    dot[40, 40] = 255
    lengths = []
    for seed in range(40):
        augmentation = TextAugmentation(81, **{**PLAIN, "motion_blur": 1.0, "motion_length": (20, 30)})
        smear = augmentation.photometric(dot, np.random.default_rng(seed))[..., 0] > 0
        rows, columns = np.nonzero(smear)
        lengths.append(np.hypot(np.ptp(rows), np.ptp(columns)))
    assert 18 < min(lengths) < 23 and 27 < max(lengths) < 33
