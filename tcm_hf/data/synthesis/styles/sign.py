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
"""Signs with few and large words: shop fronts, letters on a wall, road signs, posters, lettering on plain ground."""

from __future__ import annotations

import math

import numpy as np

from ..backgrounds import random_background
from ..clutter import bricks, random_patch, ribs, shelf, tiles, windows
from ..page import Page, blend
from ..text_layout import draw_word
from ..text_paint import LUMA, random_color
from ..writer import Writer


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


def draw_sign(shape: tuple[int, int], writer: Writer, rng: np.random.Generator, least: float, **settings) -> Page:
    """
    Draws a sign; the arguments are those of [`~tcm_hf.data.synthesis.styles.document.draw_document`].

    Returns:
        `Page`: the sign and what is around it.
    """
    height, width = shape
    kind = rng.random()
    if kind < 0.4:
        image = np.empty((height, width, 3), np.uint8)
        image[:] = random_color(rng)
        page = Page(image, writer, **settings)
        _front(page, rng, least)
    elif kind < 0.6:
        page = Page(_wall(height, width, rng), writer, **settings)
        _lettering(
            page, (0.04 * width, 0.05 * height, 0.96 * width, 0.95 * height), page.image.mean(axis=(0, 1)), rng, least
        )
    elif kind < 0.8:
        page = Page(_plain(height, width, rng), writer, **settings)
        ground = page.image.mean(axis=(0, 1))
        _lettering(page, (0.04 * width, 0.05 * height, 0.96 * width, 0.95 * height), ground, rng, least)
    else:
        page = Page(random_background(shape, rng), writer, **settings)
        _board(page, rng, least)
    return page


def ink_on(ground: np.ndarray, rng: np.random.Generator, least: float = 70.0) -> np.ndarray:
    """A color that stands out from a ground by at least so many levels."""
    for _ in range(8):
        color = random_color(rng)
        if abs(float(color @ LUMA) - float(ground @ LUMA)) >= least:
            return color
    return np.full(3, 245.0) if ground @ LUMA < 128 else np.full(3, 12.0)


def _wall(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    patch, _ = random_patch(height, width, rng, (bricks, bricks, tiles, ribs))
    # Large letters are read from a wall whose own pattern is faint.
    mean = patch.mean(axis=(0, 1))
    return (mean + (patch - mean) * rng.uniform(0.3, 0.8)).astype(np.uint8)


def _plain(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """One color, a gradient, or what viewers show behind a transparent image."""
    image = np.empty((height, width, 3), np.uint8)
    kind = rng.random()
    if kind < 0.4:
        image[:] = 255 if rng.random() < 0.5 else 0
    elif kind < 0.65:
        image[:] = random_color(rng)
    elif kind < 0.85:
        start, end = random_color(rng), random_color(rng)
        end = start + 0.5 * (end - start)
        share = np.linspace(0, 1, height)[:, None, None]
        image[:] = start + share * (end - start)
    else:
        side = int(rng.integers(6, 20))
        y, x = np.indices((height, width)) // side
        light, dark = (255, 204) if rng.random() < 0.7 else (102, 70)
        image[:] = np.where((x + y) % 2, light, dark)[:, :, None]
    return image


def _front(page: Page, rng: np.random.Generator, least: float) -> None:
    """A shop: a wall, the board with its name, an awning, windows with goods, a door."""
    height, width = page.height, page.width
    wall, _ = random_patch(height, width, rng, (bricks, tiles, windows, ribs))
    page.image[:] = wall
    tall = height * math.exp(rng.uniform(math.log(0.18), math.log(0.6)))
    top = rng.uniform(0.02, max(0.03, 0.8 - tall / height)) * height
    ground = random_color(rng)
    below = top + tall
    if height - below > 0.08 * height:
        glass = shelf if rng.random() < 0.7 else windows
        colour, _ = glass(height - int(below), width, rng)
        page.image[int(below) :] = colour * rng.uniform(0.3, 0.9)
        for x in np.arange(rng.uniform(0, 0.2) * width, width, rng.uniform(0.2, 0.5) * width):
            page.box(x, below, x + 0.015 * width, height, ground * 0.6)
        if rng.random() < 0.4:
            deep = rng.uniform(0.04, 0.12) * height
            stripe = rng.uniform(0.03, 0.08) * width
            tones = random_color(rng), np.full(3, 240.0)
            for number, x in enumerate(np.arange(0, width, stripe)):
                page.box(x, below, x + stripe, below + deep, tones[number % 2])
            below += deep
    page.box(0, top, width, top + tall, ground)
    if rng.random() < 0.4:
        line = max(2, int(0.02 * tall))
        page.box(line, top + line, width - line, top + tall - line, ink_on(ground, rng), 0, line)
    _lettering(page, (0.03 * width, top + 0.08 * tall, 0.97 * width, top + 0.92 * tall), ground, rng, least)
    if height - below > 0.2 * height and rng.random() < 0.5:
        _notice(page, rng, below, least)


def _notice(page: Page, rng: np.random.Generator, below: float, least: float) -> None:
    """Small print on the window: a plate with opening hours or an offer."""
    size = max(least / 0.7, 10.0) * rng.uniform(1.0, 2.0)
    wide, tall = size * rng.uniform(6, 12), size * rng.uniform(3, 6)
    left = rng.uniform(0.02, 0.6) * page.width
    top = rng.uniform(below + 2, max(below + 3, page.height - tall - 2))
    ground = random_color(rng)
    page.box(left, top, left + wide, top + tall, ground, 0.2 * size)
    font = page.writer.font(rng, "text")
    color = ink_on(ground, rng)
    box = (left + 0.5 * size, top + 0.3 * size, left + wide - 0.5 * size, min(top + tall - 0.2 * size, page.height))
    page.paragraph(box, font, size, color, 1.4 * size, rng, lines=4)


def _board(page: Page, rng: np.random.Generator, least: float) -> None:
    """A board with a border and now and then an arrow, as on roads and in stations."""
    height, width = page.height, page.width
    wide, tall = rng.uniform(0.55, 0.95) * width, rng.uniform(0.3, 0.85) * height
    left, top = rng.uniform(0.02, 0.98 - wide / width) * width, rng.uniform(0.02, 0.98 - tall / height) * height
    ground = random_color(rng)
    radius = rng.choice([0.0, 0.08]) * tall
    page.box(left, top, left + wide, top + tall, ground, radius)
    ink = ink_on(ground, rng)
    inset = 0.03 * min(wide, tall)
    if rng.random() < 0.6:
        line = max(2, int(0.015 * tall))
        page.box(left + inset, top + inset, left + wide - inset, top + tall - inset, ink, 0.8 * radius, line)
    room = [left + 2.2 * inset, top + 2.2 * inset, left + wide - 2.2 * inset, top + tall - 2.2 * inset]
    if rng.random() < 0.3 and wide > tall:
        side = min(0.3 * wide, 0.8 * tall)
        right = rng.random() < 0.5
        x = left + wide - 0.5 * side - 2 * inset if right else left + 0.5 * side + 2 * inset
        page.icon(x, top + tall / 2, 0.42 * side, ink, ground, rng)
        room[2 if right else 0] = x - 0.55 * side if right else x + 0.55 * side
    _lettering(page, tuple(room), ground, rng, least, ink)


def _lettering(
    page: Page, box: tuple[float, float, float, float], ground: np.ndarray, rng: np.random.Generator, least: float,
    ink: np.ndarray | None = None,
) -> None:  # fmt: skip
    """One to four lines of large words, as large as fits or less."""
    writer = page.writer
    left, top, right, bottom = box
    room = bottom - top
    count = min(1 + int(rng.geometric(0.6) - 1), 4)
    ink = ink_on(ground, rng) if ink is None else ink
    font = writer.font(rng)
    spaced = rng.random() < 0.25 and not writer.shaping
    effect = _effect(rng, ground)
    upper = rng.random() < 0.6
    # The first line takes the most of the height.
    share = 1.0 if count == 1 else rng.uniform(0.4, 0.7)
    y = top
    for number in range(count):
        part = room * (share if number == 0 else (1 - share) / (count - 1))
        words = writer.phrase(font, rng, 2 if number == 0 else 3)
        if number == 0 and rng.random() < 0.12:
            words = [writer.single(font, rng)]
        words = [word.upper() for word in words] if upper else words
        words = [writer.layouter.fitting(word, font) or "8" for word in words]
        largest = min(0.95 * part / 0.95, 0.5 * page.height / 0.7)
        size = math.exp(rng.uniform(math.log(0.45), 0.0)) * largest
        tracking = rng.uniform(0.1, 0.9) if spaced else 0.0
        loaded = writer.load(font, size)
        length = sum(loaded.getlength(word) + tracking * size * (len(word) - 1) for word in words)
        length += (len(words) - 1) * (0.3 + 1.5 * tracking) * size
        size *= min(1.0, 0.98 * (right - left) / max(length, 1.0))
        if 0.7 * size < max(least, 7.0):
            continue
        anchor = float(rng.choice([0.5, 0.5, 0.0, 1.0]))
        x = left + anchor * (right - left)
        # By its ink, since fonts place their letters at very different heights.
        _, _, ink_top = probe = draw_word(words[0], writer.load(font, size))
        baseline = y + part / 2 - (ink_top + probe[0].shape[0] / 2)
        page.row(words, x, baseline, font, size, ink, math.inf, anchor, tracking * size, effect)
        y += part


def _effect(rng: np.random.Generator, ground: np.ndarray):
    """What is painted below large letters: a shadow, a side of depth, or nothing."""
    kind = rng.random()
    if kind < 0.7:
        return None
    direction, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0.02, 0.06)
    tone = ground * rng.uniform(0.2, 0.7)
    deep = kind < 0.85

    def paint(page: Page, mask: np.ndarray, left: int, top: int) -> None:
        distance = max(1, int(reach * mask.shape[0]))
        x, y = math.cos(direction), math.sin(direction)
        for part in range(1, distance + 1) if deep else (distance,):
            shift = np.array([[1, 0, distance + part * x], [0, 1, distance + part * y]])
            size = (mask.shape[1] + 2 * distance, mask.shape[0] + 2 * distance)
            moved = cv2.warpAffine(mask, shift, size)
            if not deep:
                moved = cv2.blur(moved, (2 * (distance // 2) + 1,) * 2)
            low = np.array([left, top]) - distance
            x0, y0 = np.maximum(low, 0)
            x1, y1 = np.minimum(low + size, (page.width, page.height))
            blend(page.image[y0:y1, x0:x1], moved[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]], tone)

    return paint
