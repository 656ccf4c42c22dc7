# Copyright 2026 The tcm_hf authors.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Backgrounds for rendered words: generated scenes full of what is no text, or text-free crops of photos."""

from __future__ import annotations

import math

import numpy as np

from ..augment import pixel_matrix
from ..formats import TextRecord
from .clutter import (
    PATTERNS,
    Pattern,
    apply_texture,
    bricks,
    grating,
    int_tone,
    random_patch,
    random_tone,
    ribs,
    tiles,
    windows,
)


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Backgrounds need OpenCV: pip install opencv-python-headless") from error


_WALLS = (bricks, tiles, tiles, ribs, grating, windows)


def photo_background(
    image: np.ndarray,
    record: TextRecord,
    size: int | tuple[int, int],
    rng: np.random.Generator,
    attempts: int = 8,
) -> np.ndarray | None:
    """
    Cuts a rectangle without annotated text from an image.

    Args:
        image (`np.ndarray`): the record's decoded image, RGB uint8 of shape (height, width, 3).
        record (`TextRecord`): its polygons are kept out of the rectangle, ignored ones too.
        size (`int` or `tuple[int, int]`): side, or (height, width), of the result in pixels.
        rng (`np.random.Generator`): the source of randomness.
        attempts (`int`, *optional*, defaults to 8): rectangles tried.

    Returns:
        `np.ndarray` or `None`: RGB uint8 of shape (height, width, 3); `None` if every rectangle tried held text.
    """
    rows, columns = (size, size) if isinstance(size, int) else size
    height, width = image.shape[:2]
    frame_height, frame_width = record.size or (height, width)
    stretch = np.array([width / frame_width, height / frame_height])
    boxes = np.array([(p.min(axis=0) * stretch, p.max(axis=0) * stretch) for p in record.polygons]).reshape(-1, 2, 2)
    # The largest part of the wanted shape.
    largest = min(height / rows, width / columns)
    for _ in range(attempts):
        factor = largest * math.exp(rng.uniform(math.log(0.25), 0.0))
        side = np.array([columns, rows]) * factor
        left, top = rng.uniform(0, np.maximum([width, height] - side, 0))
        touches = (boxes[:, 1] > (left, top)).all(axis=1) & (boxes[:, 0] < (left + side[0], top + side[1])).all(axis=1)
        if touches.any():
            continue
        zoom = 1 / factor
        mirror = rng.random() < 0.5
        if zoom <= 0.6:
            region = image[int(top) : math.ceil(top + side[1]), int(left) : math.ceil(left + side[0])]
            cut = cv2.resize(region, (columns, rows), interpolation=cv2.INTER_AREA)
            return cv2.flip(cut, 1) if mirror else cut
        matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
        if mirror:
            matrix = np.array([[-zoom, 0, columns + left * zoom], [0, zoom, -top * zoom]])
        return cv2.warpAffine(
            image, pixel_matrix(matrix), (columns, rows), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
    return None


def random_background(size: int | tuple[int, int], rng: np.random.Generator, negatives: float = 0.7) -> np.ndarray:
    """
    Draws a scene that holds no text: walls, floors and surfaces with texture and shading, and on them patterns that
    detectors take for text, such as gratings, windows, bricks, shelves, leaves and pictograms.

    Args:
        size (`int` or `tuple[int, int]`): side, or (height, width), in pixels.
        rng (`np.random.Generator`): the source of randomness.
        negatives (`float`, *optional*, defaults to 0.7): chance that there are such patterns at all.

    Returns:
        `np.ndarray`: RGB uint8 of shape (height, width, 3).
    """
    image = _walls((size, size) if isinstance(size, int) else size, rng)
    for _ in range(int(rng.integers(0, 5))):
        _surface(image, rng)
    if rng.random() < negatives:
        for _ in range(1 + int(rng.geometric(0.35))):
            paste_negative(image, rng)
    for _ in range(int(rng.geometric(0.2)) - 1):
        _shape(image, rng)
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.5))
    return image


def paste_negative(
    image: np.ndarray, rng: np.random.Generator, patterns: tuple[Pattern, ...] = PATTERNS
) -> np.ndarray:
    """
    Puts one pattern that is no text somewhere on an image, in perspective.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3); drawn to in place.
        rng (`np.random.Generator`): the source of randomness.
        patterns (`tuple[Pattern, ...]`, *optional*, defaults to those of `clutter`): what to choose from.

    Returns:
        `np.ndarray`: float32 of shape (4, 2), the corners of the pattern in the image.
    """
    size = min(image.shape[:2])
    width, height = (max(12, int(v)) for v in size * np.exp(rng.uniform(math.log(0.06), math.log(0.75), size=2)))
    if rng.random() < 0.3:
        # As long and low as a line of text.
        height = max(10, min(height, int(width * rng.uniform(0.08, 0.35))))
    colour, coverage = random_patch(height, width, rng, patterns)
    angle = rng.normal(0, 0.12) if rng.random() < 0.85 else rng.uniform(-1.6, 1.6)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    flat = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    corners = (flat - (width / 2, height / 2)) * (1 + rng.normal(0, 0.08, size=(4, 2)))
    corners = corners @ turn.T + rng.random(2) * image.shape[1::-1]
    paste_patch(image, colour, coverage, cv2.getPerspectiveTransform(flat, corners.astype(np.float32)))
    return corners.astype(np.float32)


def paste_patch(image: np.ndarray, colour: np.ndarray, coverage: np.ndarray | None, matrix: np.ndarray) -> None:
    """
    Warps a patch onto an image, in place.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3).
        color (`np.ndarray`): RGB uint8, the patch.
        coverage (`np.ndarray`, *optional*): uint8, of the patch's size; `None`: it is opaque.
        matrix (`np.ndarray` of shape (3, 3)): perspective map from the patch to the image, in continuous coordinates.
    """
    rows, columns = colour.shape[:2]
    frame = np.array([[[0, 0], [columns, 0], [columns, rows], [0, rows]]], dtype=np.float64)
    outline = cv2.perspectiveTransform(frame, matrix)[0]
    left, top = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(outline.max(axis=0)).astype(int), image.shape[1::-1])
    if right <= left or bottom <= top:
        return
    if coverage is None:
        coverage = np.full((rows, columns), 255, np.uint8)
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    # Continuous coordinates -> OpenCV's, whose integer points are pixel centers.
    warp = np.linalg.inv(half) @ shift @ matrix @ half
    size = (int(right - left), int(bottom - top))
    alpha = cv2.warpPerspective(coverage, warp, size, flags=cv2.INTER_LINEAR)
    # Beyond its border the patch goes on, so that its rim takes up no black.
    flat = cv2.warpPerspective(colour, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    region = image[top:bottom, left:right]
    alpha3 = cv2.merge([alpha, alpha, alpha])
    region[:] = cv2.add(
        cv2.multiply(region, cv2.bitwise_not(alpha3), scale=1 / 255), cv2.multiply(flat, alpha3, scale=1 / 255)
    )


def _walls(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The scene as a whole: two to four planes with shading; now and then all of it is a wall of bricks or tiles."""
    height, width = size
    kind = rng.random()
    if kind < 0.22:
        patch, _ = random_patch(height, width, rng, _WALLS)
        return _shade(patch, rng.uniform(0.1, 0.5), rng)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = random_tone(rng)
    if kind < 0.8:
        # Floor and ceiling meet the wall in slanted lines.
        for edge in (rng.uniform(0.0, 0.4), rng.uniform(0.6, 1.0)):
            left, right = (edge + rng.normal(0, 0.08, size=2)) * height
            far = -height if edge < 0.5 else 2 * height
            plane = np.array([[0, left], [width, right], [width, far], [0, far]])
            cv2.fillPoly(image, [np.rint(plane).astype(np.int32)], int_tone(random_tone(rng)), cv2.LINE_AA)
    image = apply_texture(image, math.exp(rng.uniform(math.log(0.03), math.log(0.7))), rng)
    if rng.random() < 0.5:
        image = apply_texture(image, rng.uniform(0.03, 0.25), rng)
    return _shade(image, rng.uniform(0.0, 0.6), rng)


def _shade(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """Light that falls off smoothly."""
    size = image.shape[1::-1]
    levels = np.clip(128 + 127 * strength * rng.normal(0, 0.8, size=(3, 3)), 0, 255).astype(np.uint8)
    light = cv2.resize(levels, size, interpolation=cv2.INTER_CUBIC if min(size) < 64 else cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([light, light, light]), scale=1 / 128)


def _quad(shape: tuple[int, ...], low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """A slightly irregular, slightly turned rectangle."""
    size = min(shape[:2])
    center = rng.random(2) * shape[1::-1]
    half = np.exp(rng.uniform(math.log(low * size), math.log(high * size), size=2)) / 2
    angle = rng.normal(0, 0.12)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half * (1 + rng.normal(0, 0.05, size=(4, 2)))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.rint(corners @ turn.T + center).astype(np.int32)


def _surface(image: np.ndarray, rng: np.random.Generator) -> None:
    """A large area, such as a door, a window pane or a panel: plain, shaded, or with a frame."""
    quad = _quad(image.shape, 0.12, 1.1, rng)
    if rng.random() < 0.5:
        cv2.fillPoly(image, [quad], int_tone(random_tone(rng)), cv2.LINE_AA)
    else:
        limits = image.shape[1::-1]
        (left, top), (right, bottom) = np.clip(quad.min(axis=0), 0, limits), np.clip(quad.max(axis=0), 0, limits)
        if right - left < 8 or bottom - top < 8:
            return
        plane = np.empty((bottom - top, right - left, 3), np.uint8)
        plane[:] = random_tone(rng)
        plane = _shade(apply_texture(plane, rng.uniform(0.02, 0.4), rng), rng.uniform(0, 0.7), rng)
        mask = np.zeros(plane.shape[:2], np.uint8)
        cv2.fillPoly(mask, [quad - (left, top)], 255)
        cv2.copyTo(plane, mask, image[top:bottom, left:right])
    if rng.random() < 0.4:
        cv2.polylines(image, [quad], True, int_tone(random_tone(rng)), int(rng.integers(1, 9)), cv2.LINE_AA)


def _shape(image: np.ndarray, rng: np.random.Generator) -> None:
    height, width = image.shape[:2]
    size = min(height, width)
    color = int_tone(random_tone(rng))
    kind = rng.integers(5)
    if kind == 0:
        cv2.fillPoly(image, [_quad(image.shape, 0.02, 0.3, rng)], color, cv2.LINE_AA)
    elif kind == 1:
        start, end = (tuple(int(v) for v in rng.integers(0, (width, height))) for _ in range(2))
        cv2.line(image, start, end, color, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif kind == 2:
        center = tuple(int(v) for v in rng.integers(0, (width, height)))
        axes = tuple(int(v) for v in rng.integers(3, max(4, size // 6), size=2))
        thickness = -1 if rng.random() < 0.5 else int(rng.integers(1, 5))
        cv2.ellipse(image, center, axes, float(rng.uniform(0, 180)), 0, 360, color, thickness, cv2.LINE_AA)
    elif kind == 3:
        points = np.rint(
            rng.random(2) * (width, height) + rng.normal(0, 0.08 * size, size=(int(rng.integers(3, 7)), 2))
        )
        cv2.polylines(
            image, [points.astype(np.int32)], bool(rng.random() < 0.5), color, int(rng.integers(1, 4)), cv2.LINE_AA
        )
    else:
        cv2.polylines(image, [_quad(image.shape, 0.04, 0.5, rng)], True, color, int(rng.integers(1, 5)), cv2.LINE_AA)
