# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import inspect
import json
import time
import warnings

import numpy as np
import pytest
import shapely
import torch
from conftest import shared_path

from tcm_hf import TCMImageProcessor
from tcm_hf.model.decoding_fce import DECODER, _suppress, decode_fce, fourier_contours
from tcm_hf.model.detectors import register_decoder, unregister_detector
from tcm_hf.model.polygons import polygon_iou, signed_area
from tcm_hf.targets import build_fce_targets


STRIDES = (8, 16, 32)


def quad(x0, y0, x1, y1):
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def ellipse(x, y, a, b, angle=0.0, n=50):
    time = 2 * np.pi * np.arange(n) / n
    points = np.stack([a * np.cos(time), b * np.sin(time)], axis=1)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    return points @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


def band(center, inner, outer, start, end):
    angles = np.radians(np.linspace(start, end, 7))
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.concatenate([center + outer * circle, center + inner * circle[::-1]])


def empty_maps(height, width, degree=2):
    """Maps without text: a logit difference of -10 everywhere."""
    levels = [np.zeros((4 + 2 * (2 * degree + 1), -(-height // s), -(-width // s)), np.float32) for s in STRIDES]
    for maps in levels:
        maps[[0, 2]] = 10
    return levels


def put(levels, level, row, column, coefficients, text=10.0, center=10.0):
    """Lets one cell tell a contour: frequency -> complex coefficient in pixels, relative to the cell's corner."""
    maps = levels[level]
    count = (len(maps) - 4) // 2
    maps[:4, row, column] = (0, text, 0, center)
    for k, value in coefficients.items():
        maps[4 + count // 2 + k, row, column] = np.real(value) / STRIDES[level]
        maps[4 + count + count // 2 + k, row, column] = np.imag(value) / STRIDES[level]


def maps_of(polygons, height, width, **kwargs):
    """What a perfect detector would answer."""
    targets = build_fce_targets(polygons, [False] * len(polygons), height, width, **kwargs)
    levels = []
    for stride in STRIDES:
        maps = targets[f"level_maps_{stride}"]
        classes = np.zeros((4, *maps.shape[1:]), np.float32)
        classes[1], classes[3] = 12 * maps[0] - 6, 12 * maps[1] - 6
        levels.append(np.concatenate([classes, maps[3:]]))
    return levels


def test_defaults_are_those_of_the_signature():
    parameters = inspect.signature(decode_fce).parameters
    assert DECODER.keywords == {name: p.default for name, p in parameters.items() if name != "level_maps"}


# ---------------------------------------------------------------------- against the published post-processing


@pytest.mark.parametrize("whole_pixels", [True, False])
@pytest.mark.parametrize("setting", ["ic15", "mmocr_default"])
@pytest.mark.parametrize("name", ["quads_rot", "curved14"])
def test_agrees_with_the_published_post_processing(name, setting, whole_pixels):
    boundaries = json.loads(shared_path("parity/postprocess/boundaries_cv5.0.0.json").read_text())
    reference = boundaries["fce"][f"{name}__poly__{setting}"]
    with np.load(shared_path("parity/postprocess/inputs_fce.npz")) as file:
        maps = [np.concatenate([file[f"{name}_cls{i}"], file[f"{name}_reg{i}"]]).astype(np.float32) for i in range(3)]
    config = reference["config"]
    polygons, scores = decode_fce(
        maps,
        score_threshold=config["score_thr"],
        alpha=config["alpha"],
        beta=config["beta"],
        nms_threshold=config["nms_thr"],
        num_points=config["num_reconstr_points"],
        whole_pixels=whole_pixels,
        shape="polygon",
    )
    assert len(polygons) == len(scores) == len(reference["boundaries"])
    taken = set()
    for *flat, expected_score in reference["boundaries"]:
        expected = np.array(flat).reshape(-1, 2)
        ious = [polygon_iou(polygon, expected) for polygon in polygons]
        best = int(np.argmax(ious))
        taken.add(best)
        # The published code cuts the decimals off, which takes up to 2.3 % of these texts.
        assert ious[best] > (0.999 if whole_pixels else 0.975)
        assert scores[best] == pytest.approx(expected_score, abs=1e-6)
    assert len(taken) == len(polygons)


# ---------------------------------------------------------------------- from targets and back


def test_targets_decode_to_their_polygons():
    polygons = [
        quad(40, 30, 200, 80),
        quad(300, 40, 340, 200),
        ellipse(500, 100, 90, 40, 30),
        band(np.array([320.0, 560.0]), 200, 270, 200, 340),
    ]
    found, scores = decode_fce(maps_of(polygons, 640, 640), whole_pixels=False, shape="polygon")
    assert len(found) == len(polygons) and scores.min() > 0.9
    for polygon in polygons:
        ious = [polygon_iou(polygon, other) for other in found]
        # Frequencies up to 5 round the corners of the quads and of the band.
        assert max(ious) > 0.88
        assert signed_area(found[int(np.argmax(ious))]) > 0


def test_neighbours_on_all_levels_stay_apart():
    polygons = [quad(20 + 150 * i, 20 + 60 * j, 140 + 150 * i, 60 + 60 * j) for i in range(4) for j in range(10)]
    found, _ = decode_fce(maps_of(polygons, 640, 640))
    assert len(found) == 40
    # A text that two levels tell comes out once.
    found, _ = decode_fce(maps_of([quad(100, 100, 330, 180)], 640, 640))
    assert len(found) == 1


# ---------------------------------------------------------------------- cells to contours


def test_one_cell_tells_a_circle():
    levels = empty_maps(256, 256)
    put(levels, 1, 5, 7, {0: 16 + 8j, 1: 40})
    polygons, scores = decode_fce(levels, alpha=2.0, beta=3.0, num_points=36, whole_pixels=False, shape="polygon")
    assert len(polygons) == 1 and polygons[0].shape == (36, 2) and polygons[0].dtype == np.float32
    center = np.array([7 * 16 + 16, 5 * 16 + 8])
    assert np.allclose(np.linalg.norm(polygons[0] - center, axis=1), 40, atol=1e-3)
    assert scores.dtype == np.float32 and scores[0] == pytest.approx((1 / (1 + np.exp(-10.0))) ** 5, rel=1e-6)
    cut, _ = decode_fce(levels, num_points=36, shape="polygon")
    assert np.array_equal(cut[0], np.trunc(cut[0])) and polygon_iou(cut[0], polygons[0]) > 0.97


def test_contours_against_the_equation():
    rng = np.random.default_rng(0)
    coefficients = rng.normal(size=(2, 7)) + 1j * rng.normal(size=(2, 7))
    points = fourier_contours(coefficients, 11)
    for i in range(2):
        for t in range(11):
            value = sum(coefficients[i, k + 3] * np.exp(2j * np.pi * k * t / 11) for k in range(-3, 4))
            assert np.allclose(points[i, t], (value.real, value.imag))


@pytest.mark.parametrize(("alpha", "beta", "threshold", "kept"), [
    (1.0, 1.0, 0.44, 1), (1.0, 1.0, 0.46, 0), (2.0, 0.0, 0.80, 1), (2.0, 0.0, 0.82, 0), (0.0, 2.0, 0.24, 1), (0.0, 2.0, 0.26, 0),
])  # fmt: skip
def test_scores(alpha, beta, threshold, kept):
    levels = empty_maps(128, 128)
    # 0.9 text, 0.5 center.
    put(levels, 0, 8, 8, {1: 20}, text=np.log(9), center=0.0)
    polygons, scores = decode_fce(levels, alpha=alpha, beta=beta, score_threshold=threshold)
    assert len(polygons) == kept
    assert np.allclose(scores, [0.9**alpha * 0.5**beta][:kept])


def test_extreme_logits_are_fine():
    levels = empty_maps(128, 128)
    put(levels, 0, 8, 8, {1: 20}, text=1e30, center=1e30)
    levels[0][0][levels[0][0] > 0] = 1e30
    polygons, scores = decode_fce(levels)
    assert len(polygons) == 1 and scores[0] == 1


def test_candidates_are_limited_to_the_best():
    levels = empty_maps(128, 256)
    put(levels, 0, 4, 4, {1: 20}, text=1.0)
    put(levels, 0, 8, 24, {1: 20}, text=3.0)
    put(levels, 1, 4, 4, {1: 20}, text=2.0)
    assert len(decode_fce(levels)[0]) == 3
    with pytest.warns(UserWarning, match=r"`max_candidates` \(1\)"):
        polygons, _ = decode_fce(levels, max_candidates=1)
    assert len(polygons) == 1 and np.allclose(polygons[0].mean(axis=0), (192, 64), atol=1)


def test_max_candidates_counts_texts_and_not_cells():
    levels = empty_maps(256, 512)
    for column in (10, 30, 50):
        for step in range(3):  # three neighbors that tell nearly the same text
            put(levels, 0, 8, column + step, {1: 30}, text=5.0 - column / 20)
    with pytest.warns(UserWarning, match="max_candidates"):
        polygons, scores = decode_fce(levels, max_candidates=2)
    assert len(polygons) == 2 and sorted(round(float(p[:, 0].mean()) / 8) for p in polygons) == [10, 30]


def test_a_dense_page_keeps_all_its_words():
    levels = empty_maps(1600, 2400)
    for row in range(50):
        for column in range(60):
            for step in range(2):
                put(levels, 0, 2 + 4 * row, 2 + 5 * column + step, {1: 8})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(decode_fce(levels)[0]) == 3000


def test_contours_that_cross_themselves_become_valid():
    levels = empty_maps(256, 256)
    put(levels, 0, 16, 16, {1: 30, -1: 30j, 2: 30})  # loops
    for whole_pixels in (False, True):
        (polygon,), scores = decode_fce(levels, whole_pixels=whole_pixels)
        assert len(scores) == 1 and shapely.Polygon(polygon).is_valid and shapely.Polygon(polygon).area > 2000
    put(levels, 0, 4, 4, {1: 20, -1: 20})  # a line
    put(levels, 0, 28, 4, {})  # a point
    assert len(decode_fce(levels, whole_pixels=False)[0]) == 1


def test_shapes():
    levels = maps_of([np.array([[60.0, 90], [220, 40], [235, 88], [75, 138]])], 640, 640)
    (polygon,), _ = decode_fce(levels, shape="polygon")
    (rectangle,), _ = decode_fce(levels, shape="quad")
    (box,), _ = decode_fce(levels, shape="box")
    assert polygon.shape == (50, 2) and rectangle.shape == box.shape == (4, 2)
    assert np.allclose(box, quad(*polygon.min(axis=0), *polygon.max(axis=0)))
    expected = shapely.Polygon(polygon).minimum_rotated_rectangle
    assert polygon_iou(rectangle, shapely.get_coordinates(expected)[:-1]) > 0.999


def test_no_text_no_polygons():
    for size in ((64, 64), (8, 8), (640, 32)):
        polygons, scores = decode_fce(empty_maps(*size))
        assert polygons == [] and scores.shape == (0,) and scores.dtype == np.float32
    polygons, _ = decode_fce([np.zeros((14, 0, 0), np.float32)] * 3)
    assert polygons == []


def test_bad_input_is_named():
    levels = empty_maps(64, 64)
    with pytest.raises(ValueError, match="level_maps"):
        decode_fce(levels[:2])
    with pytest.raises(ValueError, match="stride 16.*shape"):
        decode_fce([levels[0], levels[1][:13], levels[2]])
    with pytest.raises(ValueError, match="stride 32.*NaN"):
        decode_fce([*levels[:2], levels[2] * np.nan])
    for name, value in (("shape", "round"), ("num_points", 2), ("max_candidates", 0), ("alpha", -1.0)):
        with pytest.raises(ValueError, match=name):
            decode_fce(levels, **{name: value})


# ---------------------------------------------------------------------- non-maximum suppression


def suppress_one_by_one(contours, scores, groups, threshold):
    kept = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        if all(groups[i] != groups[j] or polygon_iou(contours[i], contours[j]) <= threshold for j in kept):
            kept.append(i)
    return kept


@pytest.mark.parametrize("seed", range(3))
def test_suppression_against_all_pairs(seed):
    rng = np.random.default_rng(seed)
    n = 60
    contours = np.stack([
        ellipse(*rng.uniform(0, 120, 2), *rng.uniform(3, 30, 2), rng.uniform(0, 180), n=20) for _ in range(n)
    ])  # fmt: skip
    # Some nearly equal ones, and some that start elsewhere.
    contours[40:50] = contours[:10] + rng.normal(scale=0.5, size=(10, 1, 2))
    contours[50:] = np.roll(contours[10:20], 7, axis=1)
    scores, groups = rng.permutation(n) / n, rng.integers(0, 2, n)
    for threshold in (0.0, 0.1, 0.5, 0.9):
        expected = suppress_one_by_one(contours, scores, groups, threshold)
        assert _suppress(contours, scores, groups, threshold).tolist() == expected


# ---------------------------------------------------------------------- in the image processor


def test_processor_cuts_padding_and_scales():
    processor = TCMImageProcessor(detector="fce")
    assert processor.decoding["threshold"] == 0.3 and processor.decoding["nms_threshold"] == 0.1
    polygons = [quad(20, 20, 180, 70), quad(20, 120, 180, 170)]
    other = [quad(40, 30, 300, 90)]
    levels = [torch.from_numpy(np.stack(pair)) for pair in zip(maps_of(polygons, 256, 320), maps_of(other, 256, 320))]
    # The second text of the first image lies in the padding.
    outputs = {"logits": tuple(levels), "image_sizes": torch.tensor([[100, 200], [256, 320]])}
    first, second = processor.post_process_text_detection(
        outputs, [(200, 200), (256, 320)], whole_pixels=False, alpha=1.0
    )
    assert len(first["polygons"]) == 1 and len(second["polygons"]) == 1
    assert polygon_iou(first["polygons"][0], polygons[0] * (1, 2)) > 0.9
    assert polygon_iou(second["polygons"][0], other[0]) > 0.9
    (quads, _) = processor.post_process_text_detection({"logits": tuple(levels)}, shape="quad")
    assert [len(polygon) for polygon in quads["polygons"]] == [4, 4]


def test_processor_names_wrong_outputs():
    processor = TCMImageProcessor(detector="fce")
    levels = tuple(torch.from_numpy(x)[None] for x in empty_maps(64, 64))
    for logits in (None, levels[0], levels[:2]):
        with pytest.raises(ValueError, match="3 levels.*strides"):
            processor.post_process_text_detection({"logits": logits})
    with pytest.raises(ValueError, match="shape"):
        processor.post_process_text_detection({"logits": (*levels[:2], levels[2][0])})
    with pytest.raises(ValueError, match="NaN"):
        processor.post_process_text_detection({"logits": (*levels[:2], levels[2] * torch.nan)})
    with pytest.raises(TypeError, match="unclip_ratio"):
        processor.post_process_text_detection({"logits": levels}, unclip_ratio=2.0)
    with pytest.raises(ValueError, match="nms_threshold"):
        processor.post_process_text_detection({"logits": levels}, nms_threshold=2.0)


def test_own_detector_of_several_levels():
    def decode(maps, score_threshold):
        assert [level.shape for level in maps] == [(4, 6), (2, 2, 3)]
        return [quad(0, 0, 16, 8)], np.array([0.5])

    register_decoder("levels", decode, {"score_threshold": 0.1}, activation="none", stride=(4, 8))
    try:
        outputs = {"logits": (torch.zeros(1, 1, 8, 8), torch.zeros(1, 2, 4, 4)), "image_sizes": [[16, 24]]}
        (result,) = TCMImageProcessor(detector="levels").post_process_text_detection(outputs, [(32, 24)])
        assert result["boxes"].tolist() == [[0, 0, 16, 16]]
    finally:
        unregister_detector("levels")
    for stride in ((), (8, 0)):
        with pytest.raises(ValueError, match="stride"):
            register_decoder("levels", decode, {}, stride=stride)


@pytest.mark.parametrize("size", [(0, 0), (0, 40), (1, 1), (8, 400)])
def test_maps_without_room_for_text(size):
    for coefficient in (0.0, 1e30, 3e38):
        levels = empty_maps(*size)
        for maps in levels:
            maps[[1, 3]], maps[4:] = 20, coefficient  # every cell tells a point or a line
        found, scores = decode_fce(levels)
        assert found == [] and scores.shape == (0,)


def test_small_text_everywhere_takes_no_time_without_end():
    levels = empty_maps(512, 512)
    for maps, stride in zip(levels, STRIDES):
        maps[[1, 3]] = 20
        maps[4 + 3] = maps[9 + 3] = 0.3 * 8 / stride  # the real and imaginary part of frequency 1
    start = time.process_time()
    found, _ = decode_fce(levels, max_candidates=100_000)
    # One circle for each cell of the finest level; those of the others lie on some of them.
    assert len(found) == 64 * 64
    assert time.process_time() - start < 20


@pytest.mark.parametrize("name", ["score_threshold", "alpha", "beta", "nms_threshold", "num_points", "max_candidates"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None])
def test_settings_that_are_no_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        decode_fce(empty_maps(64, 64), **{name: value})


def test_levels_of_different_degrees_are_refused():
    levels = empty_maps(64, 64)
    with pytest.raises(ValueError, match="one number of channels"):
        decode_fce([levels[0], levels[1], empty_maps(64, 64, degree=3)[2]])
