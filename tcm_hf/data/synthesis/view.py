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
"""How a flat page gets into the image: as it is, scanned, or photographed lying on something."""

from __future__ import annotations

import math

import numpy as np

from .backgrounds import paste_patch, random_background
from .page import Page


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


# Chances of: as it is, scanned, photographed.
_KINDS = {
    "document": (0.2, 0.3, 0.5),
    "receipt": (0.0, 0.2, 0.8),
    "screen": (0.78, 0.0, 0.22),
    "sign": (0.35, 0.0, 0.65),
    "vertical": (0.35, 0.0, 0.65),
}
# How much of the camera's faults each of the three shows.
_FAULTS = (0.25, 0.5, 1.0)


def show(
    page: Page, style: str, shape: tuple[int, int], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float]:
    """
    Brings a page into an image.

    Args:
        page (`Page`): the page; its image may be changed.
        style (`str`): a name of [`~tcm_hf.data.synthesis.styles.PAGES`].
        shape (`tuple[int, int]`): height and width of the image in pixels.
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `tuple[np.ndarray, np.ndarray, float]`: RGB uint8 (height, width, 3); the perspective map, float64 (3, 3), from the
        page to the image in continuous coordinates; the factor for the chances of a camera's faults.
    """
    kind = int(rng.choice(3, p=_KINDS[style]))
    height, width = shape
    corners = np.array([[0, 0], [page.width, 0], [page.width, page.height], [0, page.height]], dtype=np.float64)
    if style == "receipt" or (kind == 2 and rng.random() < 0.3):
        page.image = crumple(page.image, rng, rng.uniform(0.1, 0.7) * (1 if style == "receipt" else 0.4))
    if kind == 0:
        image = np.empty((height, width, 3), np.uint8)
        image[:] = page.image[0, 0]
        target = corners + _offset(corners, shape, rng).round()
    elif kind == 1:
        image = np.empty((height, width, 3), np.uint8)
        image[:] = rng.choice((255.0, 0.0, 128.0)) if rng.random() < 0.5 else page.image[0, 0]
        target = _turn(corners, math.radians(rng.normal(0, 1.0)))
        target = target + _offset(target, shape, rng)
    elif style in ("sign", "vertical") and rng.random() < 0.6:
        # What is around a page of the image's size is never seen: its corners lie on the image's, or outside.
        image = np.empty((height, width, 3), np.uint8)
        outward = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        target = corners * (width / page.width, height / page.height) + outward * rng.uniform(0, 0.07, size=(4, 2)) * (
            width,
            height,
        )
    else:
        image = random_background(shape, rng, 0.4)
        angle = rng.normal(0, 3) if rng.random() < 0.75 else rng.uniform(-30, 30)
        middle = corners.mean(axis=0)
        scale = rng.uniform(0.88, 1.1) if style not in ("sign", "vertical") else rng.uniform(0.75, 0.97)
        target = (corners - middle) * scale * (1 + np.clip(rng.normal(0, 0.035, size=(4, 2)), -0.1, 0.1))
        target = _turn(target, math.radians(angle))
        target = target + _offset(target, shape, rng)
        if rng.random() < 0.6:
            _cast_shadow(image, target, rng)
    matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), target.astype(np.float32)).astype(np.float64)
    paste_patch(image, page.image, None, matrix)
    if kind == 2 and style == "screen" and rng.random() < 0.5:
        _moire(image, rng)
    return image, matrix, _FAULTS[kind]


def _turn(points: np.ndarray, angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return points @ np.array([[c, s], [-s, c]])


def _offset(points: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """A shift that puts an outline inside of the image, or, where it is larger, the image inside of it."""
    low, high = points.min(axis=0), points.max(axis=0)
    room = np.array(shape[::-1]) - (high - low)
    return room * rng.random(2) - low


def crumple(image: np.ndarray, rng: np.random.Generator, strength: float) -> np.ndarray:
    """
    Creases and waves of paper, as light and shade.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
        rng (`np.random.Generator`): the source of randomness.
        strength (`float`): 0 to 1.

    Returns:
        `np.ndarray`: RGB uint8 of the same shape.
    """
    height, width = image.shape[:2]
    rows, columns = max(2, height // 3), max(2, width // 3)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    shade = np.zeros((rows, columns), np.float32)
    for number in range(int(rng.integers(3, 14))):
        angle = rng.uniform(0, 2 * math.pi)
        away = (x - rng.uniform(0, columns)) * math.cos(angle) + (y - rng.uniform(0, rows)) * math.sin(angle)
        if number % 3 == 0:
            # A fold is sharp on one side and fades on the other.
            fading = np.exp(-np.maximum(away, 0) / rng.uniform(8, 60))
            shade += rng.normal(0, 0.6) * fading * np.clip(0.5 + 0.4 * away, 0, 1)
        else:
            shade += rng.normal(0, 0.35) * np.tanh(away / rng.uniform(4, 50))
    light = np.clip(128 * np.exp(0.45 * strength * shade), 40, 215).astype(np.uint8)
    light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.multiply(image, cv2.merge([light, light, light]), scale=1 / 128)


def _cast_shadow(image: np.ndarray, outline: np.ndarray, rng: np.random.Generator) -> None:
    """Darkens the ground around a sheet."""
    height, width = image.shape[:2]
    small = np.full((height // 4 + 1, width // 4 + 1), 255, np.uint8)
    shifted = (outline + rng.normal(0, 0.01 * width, size=2)) / 4
    cv2.fillPoly(small, [np.rint(shifted).astype(np.int32)], int(rng.integers(60, 190)))
    small = cv2.GaussianBlur(small, (0, 0), rng.uniform(0.5, 4))
    shade = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    image[:] = cv2.multiply(image, cv2.merge([shade, shade, shade]), scale=1 / 255)


def _moire(image: np.ndarray, rng: np.random.Generator) -> None:
    """The bands that a camera's grid makes with a screen's."""
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    angle, wave = rng.uniform(0, math.pi), rng.uniform(4, 60)
    bands = np.sin((x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / wave))
    light = (128 * (1 + rng.uniform(0.01, 0.08) * bands)).astype(np.uint8)
    image[:] = cv2.multiply(image, cv2.merge([light, light, light]), scale=1 / 128)
