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
"""Paint for flat text: colors with and without contrast, plates, outlines, shadows, glow, gradients and texture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .clutter import apply_texture, draw_mark
from .text_layout import TextBlock


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


LUMA = np.array([0.299, 0.587, 0.114])
# How far a plate may reach beyond the outlines, as a share of the text's height.
PLATE_REACH = 0.4


@dataclass
class Style:
    """
    What is drawn besides the plain letters; chosen before a block is placed, since a plate needs room.

    Args:
        plate (`bool`): a sign of its own color behind the words.
        shadow (`bool`): a shadow below the letters.
        outline (`bool`): letters with an edge of another color.
        glow (`bool`): letters that shine, as neon does.
        mark (`int`): a pictogram on the plate: -1 left of the words, 1 right of them, 0 none.
        reach (`float`): how far paint other than the letters extends beyond the outlines, in pixels.
    """

    plate: bool
    shadow: bool
    outline: bool
    glow: bool
    mark: int
    reach: float


def random_style(block: TextBlock, plate: float, shadow: float, outline: float, rng: np.random.Generator) -> Style:
    """Draws a style; `plate`, `shadow` and `outline` are chances."""
    height = block.text_height
    has_plate = rng.random() < plate
    glow = outline > 0 and height > 14 and rng.random() < 0.04
    mark = int(rng.choice((-1, 1))) if has_plate and block.bend is None and rng.random() < 0.15 else 0
    reach = rng.uniform(0.05, PLATE_REACH) * height if has_plate else 0.25 * height if glow else 0.1 * height
    return Style(has_plate, rng.random() < shadow, height > 12 and rng.random() < outline, glow, mark, reach + 1.5)


def extent(block: TextBlock, style: Style) -> np.ndarray:
    """Corners, float64 (4, 2), of the flat rectangle that holds all paint of a block."""
    low, high = block.ink_box
    low, high = low.astype(np.float64) - style.reach, high.astype(np.float64) + style.reach
    rows, columns = block.masks[0].shape
    if style.mark < 0:
        low[0] = 1
    elif style.mark > 0:
        high[0] = columns - 1
    low, high = np.maximum(low, 0), np.minimum(high, (columns, rows))
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def with_room_for_mark(block: TextBlock, style: Style) -> TextBlock:
    """The block on a wider canvas, so that a pictogram fits beside its words."""
    if not style.mark:
        return block
    low, high = block.ink_box
    room = int(1.25 * (high[1] - low[1]) + 2)
    before = room if style.mark < 0 else 0
    block.masks = [cv2.copyMakeBorder(m, 0, 0, before, room - before, cv2.BORDER_CONSTANT) for m in block.masks]
    block.boxes = block.boxes + np.array([before, 0], dtype=np.float32)
    block.rules = [(left + before, top, right + before, bottom) for left, top, right, bottom in block.rules]
    return block


def random_color(rng: np.random.Generator) -> np.ndarray:
    """Sign and print colors: near white, near black, or saturated."""
    kind = rng.random()
    if kind < 0.34:
        return np.clip(rng.uniform(190, 255) + rng.normal(0, 8, size=3), 0, 255)
    if kind < 0.6:
        return np.clip(rng.uniform(0, 70) + rng.normal(0, 8, size=3), 0, 255)
    hue, saturation, value = rng.uniform(0, 180), rng.uniform(90, 255), rng.uniform(70, 255)
    pixel = np.array([[[hue, saturation, value]]]).astype(np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def contrasting_color(
    levels: np.ndarray, least: np.ndarray, background: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """A color whose luminance differs from every one of `levels` by its `least`, now and then only just; or `None`."""

    def fits(color: np.ndarray) -> bool:
        return bool((np.abs(color @ LUMA - levels) >= least).all())

    if rng.random() < 0.2:
        difference = rng.uniform(1.0, 2.0) * least.max()
        for sign in (-1.0, 1.0) if rng.random() < 0.5 else (1.0, -1.0):
            color = np.clip(np.asarray(background) + sign * difference, 0, 255)
            if fits(color):
                return color
    for _ in range(8):
        color = random_color(rng)
        if fits(color):
            return color
    for color in (np.full(3, 245.0), np.full(3, 12.0)):
        if fits(color):
            return color
    return None


def paint(
    block: TextBlock, style: Style, levels: np.ndarray, spreads: np.ndarray, background: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """
    Colors a block, flat.

    Args:
        block (`TextBlock`): words.
        style (`Style`): how to draw them. A plate is added when no single color would be legible without one.
        levels (`np.ndarray` of shape (k,)): mean luminance of what lies behind each word.
        spreads (`np.ndarray` of shape (k,)): its standard deviation.
        background (`np.ndarray` of shape (3,)): mean color of what lies behind the block.
        rng (`np.random.Generator`): the source of randomness.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: uint8 of shape (height, width, 4): color times coverage, and coverage; float64
        of shape (k,): how much the luminance of each word's strokes differs from what is behind, in levels.
    """
    rows, columns = block.masks[0].shape
    height = block.text_height
    opacity = rng.uniform(0.6, 1.0) if not style.plate and rng.random() < 0.25 else 1.0
    # Thin strokes of small letters cover their pixels only in part, which costs contrast as opacity does.
    # The faintest fonts have no pixel above the floor at small sizes; they get the strongest contrast.
    inked = block.masks[0][block.masks[0] > 32]
    coverage = float(np.percentile(inked[:: max(1, inked.size // 4096)], 80)) / 255 if inked.size else 0.1
    floor = 26 if rng.random() < 0.3 else 44
    least = min(floor / (opacity * coverage), 100.0)

    color, plate_color = None, None
    if not style.plate:
        color = contrasting_color(levels, least + 0.5 * spreads, background, rng)
    canvas = np.zeros((rows, columns, 3), np.float32)
    alpha = np.zeros((rows, columns, 1), np.float32)

    def cover(mask: np.ndarray, tone: np.ndarray) -> None:
        """Paints a tone (of shape (3,) or an image) where the mask, uint8, says."""
        part = mask.astype(np.float32)[:, :, None] * (1 / 255)
        np.multiply(canvas, 1 - part, out=canvas)
        np.add(canvas, part * np.asarray(tone, dtype=np.float32), out=canvas)
        np.multiply(alpha, 1 - part, out=alpha)
        np.add(alpha, part, out=alpha)

    if color is None:
        # By choice, or because no single color would be legible on all that lies behind these words.
        plate_color = random_color(rng)
        color = _paint_plate(block, style, plate_color, least, cover, rng)
        levels = np.full(len(levels), plate_color @ LUMA)
    else:
        for left, top, right, bottom in block.rules:
            rule = np.zeros((rows, columns), np.uint8)
            rule[top:bottom, left:right] = 255
            cover(rule, color)
    colors = [color]
    for _ in block.masks[1:]:
        other = contrasting_color(levels, np.full(len(levels), least) + 0.3 * spreads, background, rng)
        colors.append(other if other is not None else color)

    if style.glow and color @ LUMA > 110 and plate_color is None:
        halo = cv2.GaussianBlur(cv2.dilate(block.masks[0], np.ones((3, 3), np.uint8)), (0, 0), max(1.0, 0.12 * height))
        cover(cv2.convertScaleAbs(halo, alpha=rng.uniform(0.4, 0.9)), np.clip(0.75 * color, 0, 255))
        # The tubes themselves are nearly white.
        colors[0] = 0.4 * color + 0.6 * 255
    if style.shadow:
        _paint_shadow(block, style, cover, rng)
    contrast = np.zeros(len(levels))
    for ink, (mask, tone) in enumerate(zip(block.masks, colors)):
        hollow = False
        if style.outline:
            thickness = max(1, round(rng.uniform(0.03, 0.08) * height))
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1, 2 * thickness + 1))
            grown = cv2.dilate(mask, kernel)
            hollow = height > 30 and rng.random() < 0.15
            if hollow:
                cover(cv2.subtract(grown, mask), tone)
            else:
                edge = contrasting_color(np.array([tone @ LUMA]), np.array([60.0]), tone, rng)
                cover(grown, edge if edge is not None else np.zeros(3))
        if not hollow:
            filled = _fill(tone, levels, least, rows, columns, rng)
            cover(cv2.convertScaleAbs(mask, alpha=opacity) if opacity < 1 else mask, filled)
        members = np.array(block.inks) == ink
        contrast[members] = np.abs(tone @ LUMA - levels[members]) * opacity * coverage
    if rng.random() < 0.7:
        # Uneven light and wear: paint is never of one level over its whole area.
        grain = rng.normal(0, rng.uniform(2, 14), size=(4, 6)).astype(np.float32)
        canvas += cv2.resize(grain, (columns, rows), interpolation=cv2.INTER_LINEAR)[:, :, None] * alpha
    result = np.empty((rows, columns, 4), np.float32)
    result[:, :, :3] = canvas
    result[:, :, 3:] = 255 * alpha
    np.clip(result, 0, 255, out=result)
    # Premultiplied color is never above its coverage.
    return cv2.convertScaleAbs(result), contrast


def _paint_plate(block: TextBlock, style: Style, plate_color: np.ndarray, least: float, cover, rng) -> np.ndarray:
    """Paints the plate and what is on it besides words; returns the ink's color."""
    rows, columns = block.masks[0].shape
    style.plate = True
    corners = extent(block, style)
    (left, top), (right, bottom) = corners[0], corners[2]
    frame = np.zeros((rows, columns), np.uint8)
    box = (int(left), int(top), max(int(left) + 1, int(right)), max(int(top) + 1, int(bottom)))
    rounded = rng.random() < 0.35
    _round_box(
        frame, box, int(min(rng.uniform(0.1, 0.5) * (box[3] - box[1]), 2.5 * style.reach)) if rounded else 0, 255, -1
    )
    ink = contrasting_color(np.array([plate_color @ LUMA]), np.array([min(1.3 * least, 100.0)]), plate_color, rng)
    assert ink is not None, "`contrasting_color` tries black and white, one of which differs by more than 100"
    ground = plate_color
    kind = rng.random()
    if kind < 0.35:
        ground = np.empty((rows, columns, 3), np.uint8)
        ground[:] = plate_color
        if kind < 0.25:
            ground = apply_texture(ground, rng.uniform(0.03, 0.25), rng)
        if kind > 0.15:
            first, last = rng.uniform(-30, 30, size=2).tolist()
            ramp = np.linspace(first, last, rows)[:, None, None]
            ground = np.clip(ground + ramp, 0, 255)
    cover(frame, ground)
    tone = ink if rng.random() < 0.6 else random_color(rng)
    if rng.random() < 0.2:
        inset = int(rng.uniform(0.02, 0.1) * block.text_height)
        border = np.zeros((rows, columns), np.uint8)
        inner = (box[0] + inset, box[1] + inset, box[2] - inset, box[3] - inset)
        _round_box(border, inner, 0, 255, max(1, int(rng.uniform(0.02, 0.08) * block.text_height)))
        cover(border, tone)
    for left, top, right, bottom in block.rules:
        rule = np.zeros((rows, columns), np.uint8)
        rule[top:bottom, left:right] = 255
        cover(rule, tone)
    if style.mark:
        low, high = block.ink_box
        room = (high[1] - low[1]) * 1.25
        center = (low[0] - 0.55 * room if style.mark < 0 else high[0] + 0.55 * room, (low[1] + high[1]) / 2)
        mark = np.zeros((rows, columns), np.uint8)
        draw_mark(mark, center, 0.45 * room, 255, 0, rng)
        cover(mark, ink)
    return ink


def _round_box(image: np.ndarray, box: tuple, radius: int, value: int, thickness: int) -> None:
    left, top, right, bottom = box
    if radius < 2:
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), value, thickness)
        return
    cv2.rectangle(image, (left + radius, top), (right - 1 - radius, bottom - 1), value, -1)
    cv2.rectangle(image, (left, top + radius), (right - 1, bottom - 1 - radius), value, -1)
    for x in (left + radius, right - 1 - radius):
        for y in (top + radius, bottom - 1 - radius):
            cv2.circle(image, (x, y), radius, value, -1, cv2.LINE_AA)


def _paint_shadow(block: TextBlock, style: Style, cover, rng) -> None:
    rows, columns = block.masks[0].shape
    everything = block.masks[0] if len(block.masks) == 1 else cv2.max(*block.masks)
    distance = max(1.0, rng.uniform(0.03, 0.1) * block.text_height)
    direction = rng.uniform(0, 2 * math.pi)
    shift = np.array([math.cos(direction), math.sin(direction)]) * distance
    tone = rng.uniform(0, 60, size=3) if rng.random() < 0.85 else rng.uniform(180, 255, size=3)
    # A deep letter is one shadow after the other without blur.
    deep = distance >= 2 and rng.random() < 0.3
    for part in np.arange(1, int(distance) + 1) / int(distance) if deep else (1.0,):
        move = np.array([[1, 0, part * shift[0]], [0, 1, part * shift[1]]])
        shadow = cv2.warpAffine(everything, move, (columns, rows))
        if not deep and rng.random() < 0.6:
            shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.5, 0.5 * distance))
        cover(cv2.convertScaleAbs(shadow, alpha=1.0 if deep else rng.uniform(0.4, 1.0)), tone)


def _fill(tone: np.ndarray, levels: np.ndarray, least: float, rows: int, columns: int, rng) -> np.ndarray:
    """The letters' color: plain, a gradient, a texture, or one color after the other."""
    kind = rng.random()
    if kind < 0.78:
        return tone
    if kind < 0.88:
        # Towards the side that keeps the contrast.
        away = 1.0 if tone @ LUMA > levels.mean() else -1.0
        return np.clip(tone + away * np.linspace(0, rng.uniform(20, 120), rows)[:, None, None] * rng.random(3), 0, 255)
    if kind < 0.95:
        picture = np.empty((rows, columns, 3), np.uint8)
        picture[:] = tone
        return apply_texture(picture, rng.uniform(0.1, 0.5), rng)
    found = [contrasting_color(levels, np.full(len(levels), least), tone, rng) for _ in range(4)]
    tones = np.array([tone if other is None else other for other in found])
    step = max(4, int(rng.uniform(0.03, 0.3) * columns))
    return tones[(np.arange(columns) // step) % 4][None, :, :]
