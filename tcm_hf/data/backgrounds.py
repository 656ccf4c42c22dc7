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
"""Backgrounds for rendered words: generated clutter, or text-free crops of photos."""

from __future__ import annotations

import math

import numpy as np

from .augment import pixel_matrix
from .formats import TextRecord


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Backgrounds need OpenCV: pip install opencv-python-headless") from error


def photo_background(
    image: np.ndarray, record: TextRecord, size: int, rng: np.random.Generator, attempts: int = 8
) -> np.ndarray | None:
    """
    Cuts a square without annotated text from a picture.

    Args:
        image (`np.ndarray`): the record's decoded picture, RGB uint8 of shape (height, width, 3).
        record (`TextRecord`): its polygons are kept out of the square, ignored ones too.
        size (`int`): side of the result in pixels.
        rng (`np.random.Generator`): the source of randomness.
        attempts (`int`, *optional*, defaults to 8): squares tried.

    Returns:
        `np.ndarray` or `None`: RGB uint8 of shape (size, size, 3); `None` if every square tried held text.
    """
    height, width = image.shape[:2]
    frame_height, frame_width = record.size or (height, width)
    stretch = np.array([width / frame_width, height / frame_height])
    boxes = np.array([(p.min(axis=0) * stretch, p.max(axis=0) * stretch) for p in record.polygons]).reshape(-1, 2, 2)
    shortest = min(height, width)
    for _ in range(attempts):
        side = shortest * math.exp(rng.uniform(math.log(0.25), 0.0))
        left, top = rng.uniform(0, width - side), rng.uniform(0, height - side)
        touches = (boxes[:, 1] > (left, top)).all(axis=1) & (boxes[:, 0] < (left + side, top + side)).all(axis=1)
        if touches.any():
            continue
        zoom = size / side
        matrix = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom]])
        if rng.random() < 0.5:
            matrix = np.array([[-zoom, 0, size + left * zoom], [0, zoom, -top * zoom]])
        flags = cv2.INTER_LINEAR if zoom > 0.6 else cv2.INTER_AREA
        if zoom <= 0.6:
            region = image[int(top) : int(top + side), int(left) : int(left + side)]
            return np.ascontiguousarray(cv2.resize(region, (size, size), interpolation=flags))
        return cv2.warpAffine(image, pixel_matrix(matrix), (size, size), flags=flags, borderMode=cv2.BORDER_REFLECT)
    return None


def random_background(size: int, rng: np.random.Generator) -> np.ndarray:
    """
    Draws clutter that holds no text: soft gradients, cloudy texture, shapes, lines, and gratings such as windows or bricks.

    Args:
        size (`int`): side in pixels.
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `np.ndarray`: RGB uint8 of shape (size, size, 3).
    """
    image = _clouds(size, rng)
    for _ in range(int(rng.integers(0, 4))):
        _surface(image, rng)
    for _ in range(int(rng.integers(0, 3))):
        _grating(image, rng)
    for _ in range(int(rng.geometric(0.12)) - 1):
        _shape(image, rng)
    if rng.random() < 0.6:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.5))
    return image


def _clouds(size: int, rng: np.random.Generator) -> np.ndarray:
    """Colour that varies slowly, plus texture that varies faster."""
    # Walls, roads and sky are mostly greyish.
    base = rng.uniform(20, 235) + rng.normal(0, rng.choice([6.0, 20.0, 60.0]), size=3)
    result = np.empty((size, size, 3), dtype=np.float32)
    result[:] = base
    strength = rng.uniform(5, 60)
    for cells in (2, int(rng.integers(4, 12)), int(rng.integers(24, 97))):
        grid = rng.normal(0, strength, size=(cells, cells, 1)) + rng.normal(0, 0.15 * strength, size=(cells, cells, 3))
        result += cv2.resize(grid.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        strength *= rng.uniform(0.2, 0.6)
    return np.clip(result, 0, 255).astype(np.uint8)


def _color(rng: np.random.Generator) -> tuple[int, int, int]:
    if rng.random() < 0.7:
        grey = rng.uniform(0, 255)
        return tuple(int(v) for v in np.clip(grey + rng.normal(0, 18, size=3), 0, 255))
    return tuple(int(v) for v in rng.integers(0, 256, size=3))


def _quad(size: int, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    """A slightly irregular, slightly turned rectangle."""
    center = rng.uniform(0, size, size=2)
    half = np.exp(rng.uniform(math.log(low * size), math.log(high * size), size=2)) / 2
    angle = rng.normal(0, 0.12)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half * (1 + rng.normal(0, 0.05, size=(4, 2)))
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return np.rint(corners @ turn.T + center).astype(np.int32)


def _surface(image: np.ndarray, rng: np.random.Generator) -> None:
    """A large plain area, such as a wall or a door."""
    cv2.fillPoly(image, [_quad(len(image), 0.15, 1.2, rng)], _color(rng), cv2.LINE_AA)


def _grating(image: np.ndarray, rng: np.random.Generator) -> None:
    """Repeated strokes in a rectangle: fences, blinds, bricks, windows; what a detector takes for text most often."""
    size = len(image)
    width, height = (int(v) for v in np.exp(rng.uniform(math.log(0.1 * size), math.log(0.8 * size), size=2)))
    left, top = int(rng.uniform(-width / 3, size - width / 2)), int(rng.uniform(-height / 3, size - height / 2))
    color = _color(rng)
    step = int(math.exp(rng.uniform(math.log(5), math.log(48))))
    stroke = max(1, int(step * rng.uniform(0.1, 0.7)))
    slant = int(rng.normal(0, 0.1) * height)
    kind = rng.integers(4)
    if kind in (0, 2):
        for x in range(left, left + width, step):
            cv2.line(image, (x, top), (x + slant, top + height), color, stroke, cv2.LINE_AA)
    if kind in (1, 2):
        for y in range(top, top + height, step):
            cv2.line(image, (left, y), (left + width, y + slant), color, stroke, cv2.LINE_AA)
    if kind == 3:
        step = max(step, 10)
        rise = int(step * rng.uniform(0.5, 2.0))
        for row, y in enumerate(range(top, top + height, rise + stroke)):
            for x in range(left + (row % 2) * step // 2, left + width, step):
                cv2.rectangle(image, (x, y), (x + step - stroke - 1, y + rise - 1), color, -1)


def _shape(image: np.ndarray, rng: np.random.Generator) -> None:
    size = len(image)
    color = _color(rng)
    kind = rng.integers(5)
    if kind == 0:
        cv2.fillPoly(image, [_quad(size, 0.02, 0.3, rng)], color, cv2.LINE_AA)
    elif kind == 1:
        start, end = (tuple(int(v) for v in rng.integers(0, size, size=2)) for _ in range(2))
        cv2.line(image, start, end, color, int(rng.integers(1, 6)), cv2.LINE_AA)
    elif kind == 2:
        center = tuple(int(v) for v in rng.integers(0, size, size=2))
        axes = tuple(int(v) for v in rng.integers(3, max(4, size // 6), size=2))
        thickness = -1 if rng.random() < 0.5 else int(rng.integers(1, 5))
        cv2.ellipse(image, center, axes, float(rng.uniform(0, 180)), 0, 360, color, thickness, cv2.LINE_AA)
    elif kind == 3:
        points = np.rint(rng.uniform(0, size, size=2) + rng.normal(0, 0.08 * size, size=(int(rng.integers(3, 7)), 2)))
        cv2.polylines(
            image, [points.astype(np.int32)], bool(rng.random() < 0.5), color, int(rng.integers(1, 4)), cv2.LINE_AA
        )
    else:
        cv2.polylines(image, [_quad(size, 0.04, 0.5, rng)], True, color, int(rng.integers(1, 5)), cv2.LINE_AA)
