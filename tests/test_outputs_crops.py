# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""Crops of texts: upright, and straight along bent words."""

import argparse
import csv

import cv2
import numpy as np
import pytest
from PIL import Image
from test_outputs_formats import QUADS, entry

from tcm_hf.commands.format_writer import build_side_writers
from tcm_hf.model.outlines import text_edges
from tcm_hf.model.polygons import offset_polygon
from tcm_hf.outputs.crops import rectify


def gradient(width, height):
    """A word whose colors tell the place in it: red grows to the right, green downwards."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([columns, rows, np.full_like(rows, 128)], axis=2).astype(np.uint8)


@pytest.mark.parametrize("angle", [0, 20, -35, 44])
def test_a_turned_word_becomes_upright(angle):
    word = gradient(120, 30)
    radians = np.deg2rad(angle)
    turn = np.array([[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]])
    corners = (np.array([[-60, -15], [60, -15], [60, 15], [-60, 15]]) @ turn + (150, 120)).astype(np.float32)
    matrix = cv2.getPerspectiveTransform(np.float32([[0, 0], [120, 0], [120, 30], [0, 30]]), corners)
    image = cv2.warpPerspective(word, matrix, (300, 240))
    for outline in (corners, np.roll(corners, 1, axis=0), np.insert(corners, 1, corners[:2].mean(0), axis=0)):
        crop = rectify(Image.fromarray(image), outline)
        assert crop.shape == (30, 120, 3)
        assert np.abs(crop[3:-3, 3:-3].astype(int) - word[3:-3, 3:-3]).mean() < 4


def band(radius, thickness, start, end, up=True):
    """Center line and outline of an arc, with angles in degrees; `up` bends it like a bridge."""
    angles = np.deg2rad(np.linspace(start, end, 60))
    if up:
        upper, lower = radius + thickness / 2, radius - thickness / 2
        ray = np.stack([-np.cos(angles), -np.sin(angles)], axis=1)
    else:
        upper, lower = radius - thickness / 2, radius + thickness / 2
        ray = np.stack([-np.cos(angles), np.sin(angles)], axis=1)
    return ray * upper + (200, 200), ray * lower + (200, 200)


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("start, end, points", [(20, 160, 60), (45, 135, 60), (30, 150, 9), (10, 100, 60)])
def test_a_bent_word_becomes_straight(up, start, end, points):
    upper, lower = band(120, 40, start, end, up)
    length = np.deg2rad(end - start) * 120
    word = gradient(int(length), 40)
    rows, columns = np.mgrid[0:400, 0:400]
    # Every pixel of the image has the color of the place in the word that is bent to it.
    x, y = columns + 0.5 - 200, rows + 0.5 - 200
    angle = np.rad2deg(np.arctan2(-y if up else y, -x))
    along = (angle - start) / (end - start)
    distance = np.hypot(x, y) - 100
    across = (1 - distance / 40) if up else distance / 40
    map_x, map_y = (along * word.shape[1] - 0.5).astype(np.float32), (across * 40 - 0.5).astype(np.float32)
    image = cv2.remap(word, map_x, map_y, cv2.INTER_LINEAR)
    keep = np.linspace(0, 59, points).round().astype(int)
    outline = np.concatenate([upper[keep], lower[keep][::-1]])
    for turned in (outline, np.roll(outline, 7, axis=0), outline[::-1]):
        crop = rectify(image, turned)
        assert crop.shape[0] == pytest.approx(40, abs=5) and crop.shape[1] == pytest.approx(length, rel=0.12)
        # Red grows to the right and green downwards, over the whole range.
        middle = crop[crop.shape[0] // 2, 4:-4, 0].astype(int)
        assert middle[0] < 40 and middle[-1] > 215 and (np.diff(middle) >= -6).all()
        for column in range(crop.shape[1] // 8, crop.shape[1] * 7 // 8, 10):
            green = crop[3:-3, column, 1].astype(int)
            assert green[0] < 60 and green[-1] > 195


def test_the_round_outline_that_a_detector_gives_of_a_bent_word():
    upper, lower = band(120, 20, 20, 160)
    (outline,) = offset_polygon(
        np.concatenate([upper, lower[::-1]]), 10
    )  # as a kernel is expanded: 40 high, ends round
    top, bottom = text_edges(outline)
    assert np.abs(np.linalg.norm(top - (200, 200), axis=1) - 140).max() < 15
    assert np.abs(np.linalg.norm(bottom - (200, 200), axis=1) - 100).max() < 15
    assert top[0, 0] < top[-1, 0] and bottom[0, 0] < bottom[-1, 0]


@pytest.mark.parametrize(
    "polygon", [[[0, 0], [1, 0], [0, 1]], [[5, 5], [5, 5], [5, 5]], [[0, 0], [199, 0], [199, 99], [100, 98], [0, 99]]]
)
def test_small_and_odd_outlines(polygon):
    crop = rectify(Image.new("RGB", (200, 100)), polygon)
    assert min(crop.shape[:2]) >= 1


def test_crops_and_their_table(tmp_path):
    folder = tmp_path / "crops"
    (writer,) = build_side_writers(argparse.Namespace(crops=folder, html=None), [])
    assert writer.needs_image
    writer.open()
    image = Image.fromarray(gradient(200, 100))
    writer.write(entry("=x/a.jpg", QUADS, text="=1+1"), image)
    writer.write({"image": "broken.jpg", "error": "damaged"})
    writer.write(entry("y/a.jpg", QUADS[1:2]), image)
    writer.skip(entry("z/b.jpg", QUADS[:1]))
    writer.close()
    with open(folder / "crops.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["crop"] for row in rows] == ["a_0000.png", "a_0001.png", "a_0002.png", "a_2_0000.png", "b_0000.png"]
    assert [(row["image"], row["region"]) for row in rows[2:4]] == [("'=x/a.jpg", "2"), ("y/a.jpg", "0")]
    assert rows[0]["text"] == "'=1+1" and rows[1]["polygon"] == "100 50 180 50 180 70 100 70"
    assert sorted(path.name for path in folder.iterdir()) == sorted([row["crop"] for row in rows[:4]] + ["crops.csv"])
    with Image.open(folder / "a_0001.png") as crop:
        assert crop.size == (80, 20)
        assert np.abs(np.asarray(crop).astype(int) - np.asarray(image)[50:70, 100:180]).max() <= 2
