# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
import inspect
import json
import time
import warnings
from collections import deque

import cv2
import numpy as np
import pytest
import shapely
from conftest import shared_path
from hypothesis import given, settings
from hypothesis import strategies as st

from tcm_hf.model.decoding_pan import DECODER, decode_pan, group_pixels
from tcm_hf.model.image_processing_tcm import TCMImageProcessor
from tcm_hf.model.polygons import bounding_box, polygon_iou, signed_area


def block_maps(*blocks, shape=(60, 100), rim=3):
    """
    Maps with rectangles (x0, y0, x1, y1, embedding), borders included; the kernel lies `rim` pixels inside of the text.
    """
    maps = np.zeros((6, *shape), dtype=np.float32)
    maps[:2] = -8
    for x0, y0, x1, y1, embedding in blocks:
        maps[0, y0 : y1 + 1, x0 : x1 + 1] = 8
        maps[1, y0 + rim : y1 + 1 - rim, x0 + rim : x1 + 1 - rim] = 8
        maps[2, y0 : y1 + 1, x0 : x1 + 1] = embedding
    return maps


def published_maps():
    with np.load(shared_path("parity/postprocess/inputs_pan.npz")) as file:
        return file["pan_int8"].astype(np.float32) / 16


def queue_of_pixels(text, kernel_labels, embeddings, max_distance):
    """Pixel aggregation as the paper describes it: one queue, one pixel at a time."""
    labels = kernel_labels.copy()
    centers = {i: embeddings[:, kernel_labels == i].mean(axis=1) for i in np.unique(kernel_labels) if i}
    queue = deque(zip(*np.nonzero(kernel_labels)))
    while queue:
        y, x = queue.popleft()
        for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1] and labels[v, u] == 0 and text[v, u]:
                if np.linalg.norm(embeddings[:, v, u] - centers[labels[y, x]]) < max_distance:
                    labels[v, u] = labels[y, x]
                    queue.append((v, u))
    return labels


def test_defaults_are_those_of_the_signature():
    parameters = inspect.signature(decode_pan).parameters
    assert DECODER.keywords == {name: p.default for name, p in parameters.items() if name != "maps"}


def test_agrees_with_the_published_pixel_groups():
    maps = published_maps()
    with np.load(shared_path("parity/postprocess/pan_pixel_group.npz")) as file:
        kernel_labels, expected = file["kernel_labels"], file["label_map"]
    assert np.array_equal(group_pixels(maps[0] > 0, kernel_labels, maps[2:], 0.85), expected)


@pytest.mark.parametrize(("name", "shape"), [("default_poly", "polygon"), ("default_quad", "quad")])
def test_agrees_with_the_published_post_processing(name, shape):
    reference = json.loads(shared_path("parity/postprocess/boundaries_cv5.0.0.json").read_text())["pan"][name]
    polygons, scores = decode_pan(published_maps(), shape=shape)
    assert len(polygons) == len(scores) == len(reference["boundaries"])
    taken = set()
    for *flat, expected_score in reference["boundaries"]:
        ious = [polygon_iou(polygon, np.array(flat).reshape(-1, 2)) for polygon in polygons]
        best = int(np.argmax(ious))
        taken.add(best)
        assert ious[best] > 0.999
        assert scores[best] == pytest.approx(expected_score, abs=1e-5)
    assert len(taken) == len(polygons)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 14), st.integers(1, 14), st.sampled_from([0.3, 0.6, 0.9]))
def test_fronts_give_what_a_queue_of_pixels_gives(seed, height, width, share):
    rng = np.random.default_rng(seed)
    text = rng.random((height, width)) < share
    kernels = text & (rng.random((height, width)) < 0.2)
    _, kernel_labels = cv2.connectedComponents(kernels.astype(np.uint8), connectivity=4)
    embeddings = rng.normal(size=(3, height, width)).astype(np.float32)
    for max_distance in (0.0, 1.5, 100.0):
        expected = queue_of_pixels(text, kernel_labels, embeddings, max_distance)
        assert np.array_equal(group_pixels(text, kernel_labels, embeddings, max_distance), expected)


def test_one_text():
    polygons, scores = decode_pan(block_maps((20, 10, 60, 20, 1.0)))
    assert len(polygons) == 1 and polygons[0].dtype == np.float32 and scores.dtype == np.float32
    assert polygons[0].tolist() == [[20, 10], [60, 10], [60, 20], [20, 20]]
    assert scores == pytest.approx([1 / (1 + np.exp(-8))])


def test_touching_texts_are_told_apart_by_their_kernels():
    # One connected text map; without kernels of their own they would be one text.
    maps = block_maps((10, 10, 49, 20, 1.0), (50, 10, 89, 20, -1.0))
    polygons, _ = decode_pan(maps)
    assert sorted(bounding_box(p) for p in polygons) == [(10, 10, 49, 20), (50, 10, 89, 20)]
    # Pixels with another embedding than the kernel's stay out.
    maps[2, 10:21, 47:50] = 3.0
    polygons, _ = decode_pan(maps)
    assert sorted(bounding_box(p) for p in polygons) == [(10, 10, 46, 20), (50, 10, 89, 20)]
    # With a generous distance they all join.
    polygons, _ = decode_pan(maps, max_distance=10.0)
    assert sorted(bounding_box(p) for p in polygons) == [(10, 10, 49, 20), (50, 10, 89, 20)]


def test_thresholds():
    maps = block_maps((10, 10, 40, 20, 1.0), (10, 30, 40, 40, 1.0), (60, 10, 90, 20, 1.0))
    maps[0, 30:41, 10:41] = np.log(0.6 / 0.4)
    maps[1, 10:21, 60:91] = np.minimum(maps[1, 10:21, 60:91], np.log(0.7 / 0.3))
    assert len(decode_pan(maps)[0]) == 2
    assert sorted(decode_pan(maps, score_threshold=0.55)[1])[0] == pytest.approx(0.6, abs=1e-5)
    assert len(decode_pan(maps, score_threshold=0.0, mask_threshold=0.65)[0]) == 2
    assert len(decode_pan(maps, score_threshold=0.0, kernel_threshold=0.75)[0]) == 2
    assert len(decode_pan(maps, score_threshold=0.0, min_area=31 * 11)[0]) == 3
    assert len(decode_pan(maps, score_threshold=0.0, min_area=31 * 11 + 1)[0]) == 0
    maps = block_maps((10, 10, 20, 20, 1.0), (30, 10, 60, 20, 1.0))
    with pytest.warns(UserWarning, match=r"`max_candidates` \(1\)"):
        (largest,), _ = decode_pan(maps, max_candidates=1)
    assert bounding_box(largest) == (30, 10, 60, 20)
    # What another setting drops does not count.
    maps[0, :, 30:] = np.minimum(maps[0, :, 30:], np.log(0.6 / 0.4))
    (kept,), _ = decode_pan(maps, max_candidates=1)
    assert bounding_box(kept) == (10, 10, 20, 20)


def test_a_dense_page_keeps_all_its_words():
    word = block_maps((2, 2, 25, 13, 1.0), shape=(18, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(decode_pan(np.tile(word, (1, 60, 50)))[0]) == 3000


def test_shapes():
    y, x = np.mgrid[0:60, 0:100]
    tilted = (np.abs((x - 50) + (y - 30)) < 30) & (np.abs((x - 50) - (y - 30)) < 8)
    maps = block_maps()
    tilted[36:40, 28:60] = True
    maps[0, tilted] = maps[1, tilted] = 8
    (box,), _ = decode_pan(maps, shape="box")
    rows, columns = np.nonzero(tilted)
    assert bounding_box(box) == (columns.min(), rows.min(), columns.max(), rows.max())
    (quad,), _ = decode_pan(maps, shape="quad")
    (polygon,), _ = decode_pan(maps)
    assert quad.shape == (4, 2) and box.shape == (4, 2) and len(polygon) > 4
    assert shapely.Polygon(polygon).area < shapely.Polygon(quad).area < 0.8 * shapely.Polygon(box).area
    for result in (box, quad, polygon):
        assert signed_area(result) > 0


def test_outlines_are_valid_where_the_region_is_one_pixel_wide():
    maps = block_maps((20, 10, 60, 20, 0.0))
    maps[0, 15, 60:80] = 8  # a spike
    maps[0, 40, 20:60] = maps[1, 40, 20:60] = 8  # a line without area
    (polygon,), _ = decode_pan(maps)
    assert shapely.Polygon(polygon).is_valid and shapely.Polygon(polygon).area == pytest.approx(401, abs=1)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (1, 50), (64, 64)])
def test_maps_without_text(shape):
    for logit in (-8.0, 0.0):
        polygons, scores = decode_pan(np.full((6, *shape), logit, dtype=np.float32))
        assert polygons == [] and scores.shape == (0,) and scores.dtype == np.float32


def test_full_and_extreme_maps():
    for dtype in (np.float16, np.float64):
        (polygon,), scores = decode_pan(np.full((6, 40, 60), 3e4, dtype=dtype))
        assert bounding_box(polygon) == pytest.approx((0, 0, 59, 39), abs=1e-4) and scores == pytest.approx([1.0])


def test_bad_input_is_named():
    maps = block_maps((10, 10, 60, 20, 0.0))
    for value in (np.nan, np.inf, -np.inf):
        broken = maps.copy()
        broken[3, 50, 70] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            decode_pan(broken)
    for wrong in (maps[0], maps[:2]):
        with pytest.raises(ValueError, match="embedding"):
            decode_pan(wrong)
    with pytest.raises(ValueError, match="'rectangle'"):
        decode_pan(maps, shape="rectangle")
    with pytest.raises(ValueError, match="max_distance"):
        decode_pan(maps, max_distance=-1.0)
    with pytest.raises(ValueError, match="max_candidates"):
        decode_pan(maps, max_candidates=0)


def test_grouping_of_a_large_map_is_fast():
    one = block_maps((10, 10, 89, 49, 1.0), shape=(60, 100), rim=12)
    many = np.tile(one, (1, 4, 4))

    def cpu_time(maps):
        start = time.process_time()
        _, kernel_labels = cv2.connectedComponents((maps[1] > 0).astype(np.uint8), connectivity=4)
        group_pixels(maps[0] > 0, kernel_labels, maps[2:], 0.85)
        return time.process_time() - start

    assert min(cpu_time(many) for _ in range(3)) < 0.25
    assert len(decode_pan(many)[0]) == 16


def test_image_processor_decodes_at_stride_4():
    torch = pytest.importorskip("torch")
    processor = TCMImageProcessor(detector="pan")
    # The second text lies on padding: the image is 160 x 240 pixels, that is 40 x 60 cells.
    maps = torch.tensor(block_maps((20, 10, 50, 20, 1.0), (62, 10, 90, 20, 1.0)))
    outputs = {"logits": maps[None], "image_sizes": torch.tensor([[160, 240]])}
    (result,) = processor.post_process_text_detection(outputs)
    assert result["boxes"].tolist() == [[80, 40, 200, 80]]
    (result,) = processor.post_process_text_detection(outputs, target_sizes=[(320, 240)], shape="quad")
    assert result["boxes"].tolist() == [[80, 80, 200, 160]]
    assert len(processor.post_process_text_detection(outputs, threshold=0.9999)[0]["polygons"]) == 0
    with pytest.raises(TypeError, match="unclip_ratio"):
        processor.post_process_text_detection(outputs, unclip_ratio=1.5)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (2, 2), (1, 50), (50, 1)])
def test_maps_without_room_for_text(shape):
    for value in (-9.0, 9.0, 3e38):
        found, scores = decode_pan(np.full((6, *shape), value, dtype=np.float32))
        assert found == [] and scores.shape == (0,)


def test_a_map_that_is_all_text_is_one():
    (found,), scores = decode_pan(np.full((6, 40, 60), 3e38, dtype=np.float32), shape="box")
    assert bounding_box(found) == (0, 0, 59, 39) and scores == [1.0]


@pytest.mark.parametrize(
    "name", ["mask_threshold", "kernel_threshold", "score_threshold", "max_distance", "min_area", "max_candidates"]
)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None])
def test_settings_that_are_no_numbers(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        decode_pan(np.zeros((6, 8, 8)), **{name: value})
