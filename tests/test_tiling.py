# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Tiles of large images: their cut, and the regions of the tiles as those of the whole."""

import argparse

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont
from tiny_model import black_picture, white_pipeline

from tcm_hf.commands.arguments import tile as tile_argument
from tcm_hf.commands.parser import CommandParser
from tcm_hf.model.decoding_db import decode_db
from tcm_hf.model.image_processing_tcm import TCMImageProcessor
from tcm_hf.model.tiling import Tile, check_tile, merge_tiles, tile_grid


def rectangle(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=np.float32)


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(128, 1500), st.integers(128, 1500))
def test_tiles_cover_the_image_and_overlap(height, width, tile_height, tile_width):
    tiles = tile_grid(height, width, (tile_height, tile_width))
    boxes = np.array([tile.box for tile in tiles])
    sizes = {(bottom - top, right - left) for left, top, right, bottom in boxes.tolist()}
    assert sizes == {(min(height, tile_height), min(width, tile_width))}
    for axis, length, side in ((0, width, tile_width), (1, height, tile_height)):
        spans = sorted({(tile.box[axis], tile.box[axis + 2]) for tile in tiles})
        limits = sorted({(tile.trusted[axis], tile.trusted[axis + 2]) for tile in tiles})
        assert spans[0][0] == 0 and spans[-1][1] == length
        assert limits[0][0] == -np.inf and limits[-1][1] == np.inf
        for (_, end), (start, _), (_, limit), (begin, _) in zip(spans, spans[1:], limits, limits[1:]):
            assert end - start >= side // 4  # the next one begins in this one
            assert (
                start < begin < limit < end
            )  # each leaves the outermost part to the other, and both have one in common


@pytest.mark.parametrize("tile", [(127, 500), 100, (1, 2, 3), "big", (300.5, 300), (True, 300), -5])
def test_wrong_tiles_are_refused(tile):
    with pytest.raises(ValueError, match="tile must be"):
        check_tile(tile)


def words_in(rng, height, width):
    """A probability map of words that lie apart, straight, turned and bent, some longer than a tile."""
    maps, taken = np.zeros((height, width), np.float32), np.zeros((height, width), np.uint8)
    for _ in range(40):
        word = np.zeros_like(taken)
        length, thickness = rng.uniform(30, 500), int(rng.integers(8, 22))
        angle = rng.choice([0, 90, rng.uniform(0, 180)]) * np.pi / 180
        steps = np.linspace(-0.5, 0.5, 20)
        bend = rng.choice([0, 0, rng.uniform(-60, 60)])
        line = np.stack([steps * length, bend * (4 * steps**2 - 1)], axis=1)
        line = line @ [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        line += rng.uniform((0, 0), (width, height))
        cv2.polylines(word, [line.round().astype(np.int32)], False, 1, thickness)
        # Words are set apart by more than they are expanded, or whole and tiles would both claim what is between them.
        if word.sum() > 300 and not (cv2.dilate(word, np.ones((41, 41), np.uint8)) & taken).any():
            taken |= word
            maps[word > 0] = rng.uniform(0.6, 0.99)
    return maps


def decode_in_tiles(maps, tile):
    height, width = maps.shape
    tiles, regions = tile_grid(height, width, tile), []
    for left, top, right, bottom in (tile.box for tile in tiles):
        polygons, scores = decode_db(maps[top:bottom, left:right], shape="polygon")
        regions.append(([polygon.clip(0, (right - left, bottom - top)) for polygon in polygons], scores))
    return merge_tiles(tiles, regions, height, width)


def geometries(polygons, height, width):
    return [shapely.make_valid(shapely.Polygon(each)) & shapely.box(0, 0, width, height) for each in polygons]


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6))
def test_a_map_in_tiles_has_the_regions_of_the_whole_map(seed):
    height, width = 900, 1400
    maps = words_in(np.random.default_rng(seed), height, width)
    polygons, scores = decode_db(maps, shape="polygon")
    found, found_scores = decode_in_tiles(maps, (400, 500))
    whole, tiled = geometries(polygons, height, width), geometries(found, height, width)
    assert len(whole) == len(tiled)
    for region, score in zip(whole, scores):
        ious = [(region & other).area / (region | other).area for other in tiled]
        # What is less than the same is the expansion of a piece, which is that of a shorter word.
        assert max(ious) > 0.8
        assert found_scores[int(np.argmax(ious))] == pytest.approx(
            score, abs=0.06
        )  # simplified contours hold pixels of the background
    assert all((polygon >= 0).all() and (polygon <= (width, height)).all() for polygon in found)
    assert (np.diff(found_scores) <= 0).all()


TILES = tile_grid(200, 400, (200, 256))  # from 0 to 256 and from 144 to 400; what counts ends at 228, begins at 172


def merge(first, second):
    """The merged regions of two tiles, each given as `(left, top, right, bottom, score)` in pixels of the image."""
    regions = []
    for tile, entries in zip(TILES, (first, second)):
        shifted = [rectangle(*entry[:4]) - np.float32([tile.box[0], 0]) for entry in entries]
        regions.append((shifted, [entry[4] for entry in entries]))
    polygons, scores = merge_tiles(TILES, regions, 200, 400)
    return sorted(
        (*map(int, each.min(0)), *map(int, each.max(0)), round(float(score), 4))
        for each, score in zip(polygons, scores)
    )


def test_the_tiles_of_these_tests():
    assert [tile.box for tile in TILES] == [(0, 0, 256, 200), (144, 0, 400, 200)]
    assert TILES == [
        Tile((0, 0, 256, 200), (-np.inf, -np.inf, 228.0, np.inf)),
        Tile((144, 0, 400, 200), (172.0, -np.inf, np.inf, np.inf)),
    ]


@pytest.mark.parametrize(
    "first, second, expected",
    [
        # Seen by both as a whole: that of the tile which has more room around it.
        ([(180, 10, 210, 20, 0.9)], [(181, 10, 211, 20, 0.7)], [(180, 10, 210, 20, 0.9)]),
        # Cut by one tile, whole in the other.
        ([(190, 10, 256, 20, 0.6)], [(190, 10, 300, 20, 0.8)], [(190, 10, 300, 20, 0.8)]),
        # Over both: the mean score, by the areas of 228 - 20 and 390 - 172.
        ([(20, 10, 256, 20, 0.6)], [(144, 10, 390, 20, 0.8)], [(20, 10, 390, 20, round((208 * 0.6 + 218 * 0.8) / 426, 4))]),
        # Neighbors stay apart: beside each other, above each other, and touching.
        (
            [(20, 10, 200, 20, 0.9), (205, 10, 256, 20, 0.9)],
            [(144, 10, 200, 20, 0.9), (205, 10, 350, 20, 0.9)],
            [(20, 10, 200, 20, 0.9), (205, 10, 350, 20, 0.9)],
        ),
        (
            [(20, 10, 256, 30, 0.9), (20, 28, 256, 48, 0.8)],
            [(144, 10, 390, 30, 0.9), (144, 28, 390, 48, 0.8)],
            [(20, 10, 390, 30, 0.9), (20, 28, 390, 48, 0.8)],
        ),
        # What touches by its end only does not go on in the other.
        ([(20, 10, 200, 20, 0.9)], [(195, 10, 390, 20, 0.8)], [(20, 10, 200, 20, 0.9), (195, 10, 390, 20, 0.8)]),
        # One tile joins what the other, which sees all of it, keeps apart.
        (
            [(180, 10, 256, 20, 0.9)],
            [(180, 10, 200, 20, 0.8), (210, 10, 250, 20, 0.7)],
            [(180, 10, 200, 20, 0.8), (210, 10, 250, 20, 0.7)],
        ),
        # A tile sees nothing where the other does: nothing is lost.
        ([(180, 10, 256, 20, 0.9)], [], [(180, 10, 228, 20, 0.9)]),
        # Slivers that do not agree are no regions of their own.
        ([(224, 10, 256, 20, 0.6)], [(218, 11, 390, 21, 0.8)], [(218, 11, 390, 21, 0.8)]),
    ],
)  # fmt: skip
def test_merging(first, second, expected):
    assert merge(first, second) == expected


def test_regions_over_four_tiles():
    tiles = tile_grid(400, 400, (256, 256))
    diagonal = np.array([[20, 30], [30, 20], [380, 370], [370, 380]], dtype=np.float64)
    regions = []
    for left, top, right, bottom in (tile.box for tile in tiles):
        part = shapely.intersection(shapely.Polygon(diagonal), shapely.box(left, top, right, bottom))
        parts = [part] if part.geom_type == "Polygon" and part.area > 0 else []
        regions.append(
            ([shapely.get_coordinates(each.exterior)[:-1] - (left, top) for each in parts], [0.5] * len(parts))
        )
    (polygon,), (score,) = merge_tiles(tiles, regions, 400, 400)
    assert shapely.Polygon(polygon).symmetric_difference(shapely.Polygon(diagonal)).area < 100 and score == 0.5


def corners(texts):
    return sorted(tuple(text["box"].values()) for text in texts)


BOXES = [(10, 20, 90, 40), (200, 30, 700, 60), (900, 100, 980, 130), (480, 200, 520, 290)]


def test_pipeline_in_tiles(monkeypatch):
    pipe = white_pipeline(monkeypatch)
    image = black_picture(1000, 300, *BOXES)
    whole = pipe(image, reading_order=True, shape="polygon")
    assert corners(whole) == sorted(BOXES)
    for tile in (128, (200, 256), [300, 400], 2000):
        tiled = pipe(image, tile=tile, reading_order=True, shape="polygon")
        assert [text["box"] for text in tiled] == [text["box"] for text in whole]
        assert [text["score"] for text in tiled] == pytest.approx([text["score"] for text in whole], abs=1e-3)
    small = black_picture(60, 40, (5, 5, 30, 20))
    for batch_size in (1, 2):
        many = pipe([image, small, image], tile=200, batch_size=batch_size, shape="polygon")
        assert list(map(corners, many)) == [sorted(BOXES), [(5, 5, 30, 20)], sorted(BOXES)]
    streamed = pipe((each for each in [small, image]), tile=200, shape="polygon")
    assert list(map(corners, streamed)) == [[(5, 5, 30, 20)], sorted(BOXES)]
    for shape in ("quad", "box"):
        assert all(len(text["polygon"]) == 4 for text in pipe(image, tile=200, shape=shape))
    assert pipe(image, tile=200, threshold=0.95) == [] and pipe(black_picture(900, 300), tile=200) == []
    assert pipe(image, tile=False) == pipe(image)
    with pytest.raises(ValueError, match="either tile or size"):
        pipe(image, tile=True, size={"longest_edge": 100})
    with pytest.raises(ValueError, match="tile must be at least 128"):
        pipe(image, tile=(100, 100))


def test_tiles_find_what_reduction_loses_in_the_memory_of_a_tile(monkeypatch):
    pipe = white_pipeline(monkeypatch, shortest_edge=256)  # and the longest 512
    seen = []
    forward = pipe.model.forward
    monkeypatch.setattr(
        pipe.model,
        "forward",
        lambda pixel_values, **kw: (seen.append(tuple(pixel_values.shape)), forward(pixel_values, **kw))[1],
    )
    lines = [(50 + 100 * i, 100, 80 + 100 * i, 105) for i in range(79)]
    panorama = black_picture(8000, 200, *lines)
    assert pipe(panorama) == []  # white is gray after the reduction
    assert corners(pipe(panorama, tile=True)) == lines
    assert set(seen[1:]) == {(1, 3, 200, 256)}
    # What is not reduced needs no tiles.
    seen.clear()
    pipe(black_picture(400, 200), tile=True)
    assert seen == [(1, 3, 200, 400)]
    pipe(black_picture(400, 200), tile=(200, 256))
    assert len(seen) == 3


@pytest.mark.parametrize(
    "size", [{"height": 256, "width": 256}, {"max_height": 256, "max_width": 300}, {"longest_edge": 256}]
)
def test_tiles_are_neither_reduced_nor_stretched(monkeypatch, size):
    pipe = white_pipeline(monkeypatch)
    pipe.image_processor.size = size
    image = black_picture(1000, 300, *BOXES)
    large, small = (pipe(image, tile=tile, shape="polygon") for tile in (True, (500, 600)))
    assert corners(large) == corners(small) == sorted(BOXES)


def test_small_tiles_are_enlarged_as_images_are(monkeypatch):
    pipe = white_pipeline(monkeypatch, shortest_edge=256)
    pipe.image_processor.do_upscale, pipe.image_processor.max_upscale = True, 2.0
    seen = []
    forward = pipe.model.forward
    monkeypatch.setattr(
        pipe.model,
        "forward",
        lambda pixel_values, **kw: (seen.append(tuple(pixel_values.shape)), forward(pixel_values, **kw))[1],
    )
    found = pipe(black_picture(1000, 160, (100, 50, 180, 90)), tile=True)
    assert {shape[2] for shape in seen} == {256}
    assert np.abs(np.subtract(corners(found)[0], (100, 50, 180, 90))).max() <= 1


def test_large_images_get_a_warning_without_tiles(caplog):
    processor = TCMImageProcessor()
    for height, width, warned in ((3000, 4000, True), (7016, 4960, True), (720, 1280, False), (1500, 2000, False)):
        warning = processor.reduction_warning(height, width)
        assert (warning is not None) == warned
        assert not warned or ("--tile" in warning and "tile=True" in warning)
    assert "24 pixels" in processor.reduction_warning(3000, 4000)  # 1024 / 3000 of 24 is 8.2, of 23 it is 7.9
    image = Image.new("RGB", (2400, 2200))
    for _ in range(3):
        processor(image)
    assert [record.message.count("--tile") for record in caplog.records] == [1]
    assert "has_warned_of_reduction" not in processor.to_dict()
    caplog.clear()
    for _ in range(2):
        processor(Image.new("RGB", (30000, 50)))
    assert len(caplog.records) == 2


def test_a_panorama_and_a_page_give_their_words():
    """The bundled checkpoint, on images whose text is lost when they are reduced as a whole."""
    from transformers import pipeline

    pipe = pipeline("text-detection")
    image = Image.new("RGB", (6000, 256), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size=16)
    places = [(x, 100) for x in range(60, 6000, 330)]
    for x, y in places:
        pen.text((x, y), "GATE", fill=0, font=font)
    boxes = [text["box"] for text in pipe(image, tile=True)]
    hits = [
        [
            b
            for b in boxes
            if b["xmin"] <= x + 30 and b["xmax"] >= x + 10 and b["ymin"] <= y + 12 and b["ymax"] >= y + 8
        ]
        for x, y in places
    ]
    assert all(len(hit) == 1 for hit in hits) and len(boxes) == len(places)
    assert len(pipe(image)) < len(places) / 2


def test_the_command_takes_no_input_for_the_size_of_tiles():
    parser = CommandParser(prog="detect")
    parser.add_argument("inputs", nargs="+")
    parser.add_argument("--tile", nargs="?", type=tile_argument, const="auto")
    for words, tile, inputs in (
        (["--tile", "a.jpg", "b.jpg"], True, ["a.jpg", "b.jpg"]),
        (["a.jpg", "--tile"], True, ["a.jpg"]),
        (["--tile", "512", "a.jpg"], (512, 512), ["a.jpg"]),
        (["--tile=640,1024", "a.jpg"], (640, 1024), ["a.jpg"]),
        (["a.jpg", "--", "--tile"], None, ["a.jpg", "--tile"]),
        (["a.jpg"], None, ["a.jpg"]),
    ):
        found = parser.parse_args(words)
        assert found.tile == tile and found.inputs == inputs
    for text in ("0", "1,2,3", "-5", "x"):
        with pytest.raises(argparse.ArgumentTypeError):
            tile_argument(text)
