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
"""Images of what detectors take for text although it is none: gratings, windows, bricks, keyboards, leaves, pictograms.

Every pattern is a function `pattern(height, width, rng) -> (colour, coverage)`: uint8 of shape (height, width, 3), and
uint8 of shape (height, width) or `None` where it fills its rectangle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Backgrounds need OpenCV: pip install opencv-python-headless") from error


Pattern = Callable[[int, int, np.random.Generator], "tuple[np.ndarray, np.ndarray | None]"]
TEXTURES = 18
TEXTURE_SIDE = 512


def random_tone(rng: np.random.Generator) -> np.ndarray:
    """A color of buildings and streets, mostly grayish; RGB float of shape (3,)."""
    if rng.random() < 0.75:
        return np.clip(rng.uniform(5, 250) + rng.normal(0, rng.choice((4.0, 14.0, 30.0)), size=3), 0, 255)
    hue = int(rng.integers(180))
    pixel = np.array([[[hue, rng.integers(60, 256), rng.integers(60, 256)]]], dtype=np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def int_tone(tone: np.ndarray) -> tuple[int, int, int]:
    """A color in the form that OpenCV's drawing functions take."""
    red, green, blue = tone.tolist()
    return int(red), int(green), int(blue)


def two_tones(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two colors, of strong or of little contrast."""
    first = random_tone(rng)
    if rng.random() < 0.45:
        return first, np.clip(first + rng.choice((-1.0, 1.0)) * rng.uniform(12, 80), 0, 255)
    return first, random_tone(rng)


@lru_cache(maxsize=TEXTURES)
def texture(number: int) -> np.ndarray:
    """
    One of a fixed set of gray textures: plaster, stains, grain, wood or brushed metal, marble, fabric.

    Args:
        number (`int`): 0 to `TEXTURES` - 1.

    Returns:
        `np.ndarray`: uint8 of shape (TEXTURE_SIDE, TEXTURE_SIDE) around 128; do not write to it.
    """
    rng = np.random.default_rng([20150, number])
    side, kind = TEXTURE_SIDE, number % 6
    total = np.zeros((side, side), np.float32)
    stretch = 1 if kind != 2 else 16
    strength = 1.0
    cells = 3 if kind not in (1, 5) else 48
    while cells <= side:
        across = max(2, cells // stretch)
        grid = rng.normal(0, strength, size=(cells, across)).astype(np.float32)
        layer = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
        total += np.abs(layer) if kind == 3 else layer
        strength *= 0.62 if kind != 4 else 0.85
        cells = int(cells * 2.1)
    if kind == 5:
        total += 1.2 * np.sin(np.arange(side) * rng.uniform(0.6, 1.4))[:, None].astype(np.float32)
        total += 1.2 * np.sin(np.arange(side) * rng.uniform(0.6, 1.4))[None, :].astype(np.float32)
    total = (total - total.mean()) / total.std()
    if number % 2:
        total = total.T
    return np.clip(128 + 42 * total, 0, 255).astype(np.uint8)


def apply_texture(image: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    """An image with a random cut of a texture added; `strength` 1 is about 42 levels of deviation."""
    height, width = image.shape[:2]
    source = texture(int(rng.integers(TEXTURES)))
    side = int(rng.integers(TEXTURE_SIDE // 4, TEXTURE_SIDE + 1))
    left, top = (int(v) for v in rng.integers(0, TEXTURE_SIDE - side + 1, size=2))
    cut = cv2.resize(source[top : top + side, left : left + side], (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(image, 1.0, cv2.merge([cut, cut, cut]), strength, -128.0 * strength)


def _profile(length: int, step: float, duty: float, jitter: float, rng: np.random.Generator) -> np.ndarray:
    """Stripes along an axis: bool of shape (length,)."""
    count = int(length / step) + 2
    starts = (np.arange(count) + rng.uniform(-1, 0)) * step + rng.normal(0, 1, size=count) * jitter * step
    ends = starts + step * np.clip(duty + rng.normal(0, jitter, size=count), 0.05, 0.95)
    change = np.zeros(length + 1, np.int32)
    np.add.at(change, np.clip(np.rint(starts), 0, length).astype(int), 1)
    np.add.at(change, np.clip(np.rint(ends), 0, length).astype(int), -1)
    return np.cumsum(change)[:length] > 0


def _step(rng: np.random.Generator, low: float = 4, high: float = 44) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def grating(height: int, width: int, rng: np.random.Generator):
    """Bars across the whole height: fences, railings, blinds, vents, radiators."""
    dark, light = two_tones(rng)
    jitter = 0.0 if rng.random() < 0.6 else rng.uniform(0.02, 0.2)
    step = _step(rng)
    bars = _profile(width, step, rng.uniform(0.12, 0.85), jitter, rng)
    line = np.where(bars[:, None], light, dark)
    if rng.random() < 0.4:
        # Round bars have a bright side.
        line = line + (40 * np.sin(np.arange(width) * 2 * math.pi / step))[:, None] * bars[:, None]
    row = np.clip(line, 0, 255).astype(np.uint8)
    colour = np.ascontiguousarray(np.broadcast_to(row, (height, width, 3)))
    coverage = None
    if rng.random() < 0.35:
        coverage = np.ascontiguousarray(np.broadcast_to(np.where(bars, 255, 0).astype(np.uint8), (height, width)))
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 4))):
            y, thick = int(rng.integers(height)), max(1, int(step * rng.uniform(0.15, 0.6)))
            colour[y : y + thick] = light
            if coverage is not None:
                coverage[y : y + thick] = 255
    return colour, coverage


def ribs(height: int, width: int, rng: np.random.Generator):
    """Soft ribs: corrugated sheet, shutters, ribbed tiles, steps."""
    dark, light = two_tones(rng)
    wave = 0.5 + 0.5 * np.sin(np.arange(width) * 2 * math.pi / _step(rng, 5, 40))
    wave = wave ** math.exp(rng.normal(0, 0.8))
    row = (dark + wave[:, None] * (light - dark)).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row, (height, width, 3))), None


def _cells(
    height: int,
    width: int,
    step: tuple[float, float],
    gap: float,
    shift: bool,
    spread: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Rectangles with joints; `shift` moves every other row by half a cell, `spread` varies their brightness."""
    joint, face = two_tones(rng)
    across, down = max(2, math.ceil(width / step[0]) + 2), max(1, math.ceil(height / step[1]))
    faces = face + rng.normal(0, spread, size=(down, across, 1)) + rng.normal(0, 0.25 * spread, size=(down, across, 3))
    faces = np.clip(faces, 0, 255).astype(np.uint8)
    rows = (np.arange(height) / step[1]).astype(int).clip(0, down - 1)
    gap_x, gap_y = max(1.0, gap * step[0]), max(1.0, gap * step[1])
    in_row_joint = np.arange(height) % step[1] < gap_y
    lines = []
    for parity in range(2 if shift else 1):
        x = np.arange(width) + 0.5 * parity * step[0]
        cells = (x / step[0]).astype(int).clip(0, across - 1)
        lines.append((cells, x % step[0] < gap_x))
    result = np.empty((height, width, 3), np.uint8)
    for parity, (cells, in_joint) in enumerate(lines):
        chosen = rows % 2 == parity if shift else slice(None)
        part = faces[:, cells]
        part[:, in_joint] = joint
        result[chosen] = part[rows[chosen]]
    result[in_row_joint] = joint
    return result


def bricks(height: int, width: int, rng: np.random.Generator):
    """A brick wall."""
    down = _step(rng, 6, 30)
    return _cells(height, width, (down * rng.uniform(1.6, 3.5), down), rng.uniform(0.06, 0.2), True, 12, rng), None


def tiles(height: int, width: int, rng: np.random.Generator):
    """Tiles, panels, paving."""
    step = _step(rng, 8, 70)
    return _cells(height, width, (step, step * rng.uniform(0.5, 1.5)), rng.uniform(0.02, 0.12), False, 8, rng), None


def windows(height: int, width: int, rng: np.random.Generator):
    """A front with many windows, some of them lit."""
    step = _step(rng, 10, 60)
    return _cells(height, width, (step, step * rng.uniform(0.6, 2.2)), rng.uniform(0.12, 0.5), False, 45, rng), None


def mosaic(height: int, width: int, rng: np.random.Generator):
    """Random cells of two colors, as in printed codes, pixel art and mosaics."""
    dark, light = two_tones(rng)
    size = int(rng.integers(2, 9))
    grid = rng.random((height // size + 1, width // size + 1)) < 0.5
    colour = np.where(grid[:, :, None], dark, light).astype(np.uint8)
    return np.ascontiguousarray(np.repeat(np.repeat(colour, size, 0), size, 1)[:height, :width]), None


def barcode(height: int, width: int, rng: np.random.Generator):
    """Bars of irregular width, and shelves of book spines when they are wide."""
    low = 1 if rng.random() < 0.5 else int(rng.integers(4, 14))
    ends = np.cumsum(rng.integers(low, 4 * low + 1, size=width // low + 1))
    index = np.searchsorted(ends, np.arange(width), side="right")
    if low == 1:
        tones = np.where(np.arange(len(ends) + 1)[:, None] % 2, *two_tones(rng))
    else:
        tones = np.array([random_tone(rng) for _ in range(8)])[rng.integers(8, size=len(ends) + 1)]
    row = np.clip(tones[index], 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row, (height, width, 3))), None


def shelf(height: int, width: int, rng: np.random.Generator):
    """Rows of goods: boxes and bottles of many colors, without print."""
    ground = random_tone(rng) * 0.4
    colour = np.empty((height, width, 3), np.uint8)
    colour[:] = ground
    tones = [int_tone(random_tone(rng)) for _ in range(7)]
    row = max(14, int(height / rng.integers(1, 5)))
    for bottom in range(row, height + row, row):
        x = 0
        while x < width:
            item = max(4, int(row * rng.uniform(0.15, 0.6)))
            tall = int(row * rng.uniform(0.4, 0.85))
            tone = tones[int(rng.integers(7))]
            repeat = int(rng.integers(1, 6))
            for _ in range(repeat):
                cv2.rectangle(colour, (x, bottom - tall), (x + item - 2, bottom - 2), tone, -1)
                if item > 8:
                    cap = tones[int(rng.integers(7))]
                    cv2.rectangle(colour, (x + 1, bottom - tall // 2), (x + item - 4, bottom - tall // 4), cap, -1)
                x += item
            x += int(rng.integers(0, max(1, row // 3) + 1))
        cv2.rectangle(colour, (0, bottom - 2), (width, bottom), tones[0], -1)
    return colour, None


def keyboard(height: int, width: int, rng: np.random.Generator):
    """Keys, vents and lamps: rounded marks on a grid."""
    ground, mark = two_tones(rng)
    colour = np.empty((height, width, 3), np.uint8)
    colour[:] = ground
    step = max(int(_step(rng, 7, 36)), int(math.sqrt(height * width / 500)))
    rise = max(4, int(step * rng.uniform(0.6, 1.4)))
    tone = int_tone(mark)
    kind, radius = rng.integers(3), max(1, int(0.38 * min(step, rise)))
    for y in range(rise // 2, height, rise):
        for x in range(step // 2, width, step):
            if kind == 0:
                cv2.circle(colour, (x, y), radius, tone, -1, cv2.LINE_AA)
            else:
                corners = (x - radius, y - radius), (x + max(radius, int(0.38 * step)), y + radius)
                cv2.rectangle(colour, *corners, tone, -1 if kind == 1 else max(1, radius // 4))
    return colour, None


def leaves(height: int, width: int, rng: np.random.Generator):
    """Foliage, or confetti and goods in a heap when it is not green."""
    colour = np.empty((height, width, 3), np.uint8)
    base = np.array([rng.uniform(10, 90), rng.uniform(40, 130), rng.uniform(5, 60)])
    if rng.random() < 0.35:
        base = random_tone(rng)
    colour[:] = 0.5 * base
    coverage = np.zeros((height, width), np.uint8) if rng.random() < 0.5 else None
    size = max(2.0, min(height, width) * rng.uniform(0.02, 0.09))
    count = int(min(260, 1.2 * height * width / (size * size * 3)))
    centers = rng.random((count, 2)) * (width, height)
    axes = size * rng.uniform(0.25, 1.2, size=(count, 2))
    angles = rng.uniform(0, 180, size=count)
    tones = np.clip(base * rng.uniform(0.4, 1.7, size=(count, 1)) + rng.normal(0, 12, size=(count, 3)), 0, 255)
    for (x, y), (a, b), angle, tone in zip(centers.astype(int), axes, angles, tones):
        shape = ((int(x), int(y)), (int(a) + 1, int(0.5 * b) + 1), float(angle), 0, 360)
        cv2.ellipse(colour, *shape, int_tone(tone), -1)
        if coverage is not None:
            cv2.ellipse(coverage, *shape, 255, -1)
    return colour, coverage


def scribble(height: int, width: int, rng: np.random.Generator):
    """Cables, branches, cracks and graffiti strokes: long random curves, which close to no letters."""
    colour = np.empty((height, width, 3), np.uint8)
    colour[:] = random_tone(rng)
    coverage = np.zeros((height, width), np.uint8)
    thick = max(1, int(min(height, width) * rng.uniform(0.005, 0.03)))
    for _ in range(int(rng.integers(1, 7))):
        count = int(rng.integers(20, 60))
        heading = rng.uniform(0, 2 * math.pi) + np.cumsum(np.cumsum(rng.normal(0, 0.06, size=count)))
        stride = math.hypot(height, width) / count * rng.uniform(0.6, 1.6)
        points = rng.random(2) * (width, height) + np.cumsum(
            stride * np.column_stack([np.cos(heading), np.sin(heading)]), axis=0
        )
        cv2.polylines(coverage, [points.astype(np.int32)], False, 255, thick, cv2.LINE_AA)
    return colour, coverage


def pictogram(height: int, width: int, rng: np.random.Generator):
    """A plate with an arrow, a ring, a warning triangle, a star, a figure and the like."""
    side = min(height, width)
    colour = np.empty((height, width, 3), np.uint8)
    ground, mark = random_tone(rng), random_tone(rng)
    if abs(ground.mean() - mark.mean()) < 60:
        mark = np.full(3, 245.0) if ground.mean() < 128 else np.full(3, 15.0)
    colour[:] = ground
    tone, back = int_tone(mark), int_tone(ground)
    draw_mark(colour, (width / 2, height / 2), side / 2, tone, back, rng)
    if rng.random() < 0.5:
        cv2.rectangle(colour, (1, 1), (width - 2, height - 2), tone, max(1, side // 24))
    coverage = None
    if rng.random() < 0.3:
        coverage = np.zeros((height, width), np.uint8)
        cv2.ellipse(coverage, (width // 2, height // 2), (width // 2, height // 2), 0, 0, 360, 255, -1, cv2.LINE_AA)
    return colour, coverage


def draw_mark(
    image: np.ndarray,
    center: tuple[float, float],
    radius: float,
    tone: tuple[int, int, int] | int,
    ground: tuple[int, int, int] | int,
    rng: np.random.Generator,
) -> None:
    """Draws one pictogram in place, in a circle; `ground` is the color of what is left out of it."""
    x, y, r = center[0], center[1], 0.8 * radius
    kind = int(rng.integers(8))
    thick = max(1, int(r * rng.uniform(0.1, 0.3)))

    def polygon(points, filled=True):
        turned = np.array(points, dtype=np.float64) * r + (x, y)
        if filled:
            cv2.fillPoly(image, [np.rint(turned).astype(np.int32)], tone, cv2.LINE_AA)
        else:
            cv2.polylines(image, [np.rint(turned).astype(np.int32)], True, tone, thick, cv2.LINE_AA)

    middle = (int(x), int(y))
    if kind == 0:
        arrow = np.array([[-1, -0.22], [0.15, -0.22], [0.15, -0.65], [1, 0], [0.15, 0.65], [0.15, 0.22], [-1, 0.22]])
        angle = math.radians(45 * int(rng.integers(8)))
        polygon(arrow @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]))
    elif kind == 1:
        cv2.circle(image, middle, int(r), tone, -1, cv2.LINE_AA)
        cv2.rectangle(image, (int(x - 0.6 * r), int(y - 0.15 * r)), (int(x + 0.6 * r), int(y + 0.15 * r)), ground, -1)
    elif kind == 2:
        polygon([[0, -1], [0.95, 0.75], [-0.95, 0.75]], filled=bool(rng.random() < 0.5))
    elif kind == 3:
        angles = math.pi * np.arange(10) / 5 - math.pi / 2
        polygon(np.column_stack([np.cos(angles), np.sin(angles)]) * np.where(np.arange(10) % 2, 0.42, 1.0)[:, None])
    elif kind == 4:
        cv2.circle(image, (int(x), int(y - 0.7 * r)), max(1, int(0.25 * r)), tone, -1, cv2.LINE_AA)
        polygon([[-0.3, -0.4], [0.3, -0.4], [0.4, 0.3], [0.2, 0.3], [0.15, 1], [-0.15, 1], [-0.2, 0.3], [-0.4, 0.3]])
    elif kind == 5:
        cv2.circle(image, middle, int(r), tone, thick, cv2.LINE_AA)
        start, end = (int(x - 0.65 * r), int(y - 0.65 * r)), (int(x + 0.65 * r), int(y + 0.65 * r))
        cv2.line(image, start, end, tone, thick, cv2.LINE_AA)
    elif kind == 6:
        polygon(
            [
                [0, 0.9],
                [-0.9, -0.1],
                [-0.75, -0.65],
                [-0.3, -0.75],
                [0, -0.4],
                [0.3, -0.75],
                [0.75, -0.65],
                [0.9, -0.1],
            ]
        )
    else:
        for ring in (1.0, 0.6):
            cv2.ellipse(image, middle, (int(ring * r), int(0.6 * ring * r)), 0, 180, 360, tone, thick, cv2.LINE_AA)
        cv2.circle(image, middle, max(1, int(0.15 * r)), tone, -1, cv2.LINE_AA)


def chevrons(height: int, width: int, rng: np.random.Generator):
    """Slanted stripes: barrier tape, road marks, herringbone."""
    dark, light = two_tones(rng)
    step = _step(rng, 6, 50)
    y, x = np.ogrid[:height, :width]
    slope = rng.uniform(0.4, 1.6)
    if rng.random() < 0.5:
        fold = max(8, int(step * rng.uniform(0.8, 3)))
        y = np.abs(y % (2 * fold) - fold)
    bands = (x + slope * y) % step < step * rng.uniform(0.25, 0.75)
    return np.where(bands[:, :, None], dark.astype(np.uint8), light.astype(np.uint8)), None


def lamps(height: int, width: int, rng: np.random.Generator):
    """Bright spots in the dark, as of lights out of focus."""
    colour = np.empty((height, width, 3), np.uint8)
    colour[:] = rng.uniform(0, 60)
    row_wise = rng.random() < 0.4
    for _ in range(int(rng.integers(5, 40))):
        center = (int(rng.integers(width)), height // 2 if row_wise else int(rng.integers(height)))
        tone = tuple(int(v) for v in np.clip(rng.uniform(150, 300) + rng.normal(0, 30, size=3), 0, 255))
        cv2.circle(colour, center, int(rng.integers(1, max(3, min(height, width) // 12))), tone, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(colour, (0, 0), rng.uniform(0.5, 3.0)), None


PATTERNS: tuple[Pattern, ...] = (
    *(grating, grating, grating, ribs, bricks, tiles, windows, windows, mosaic, barcode, shelf, shelf),
    *(keyboard, leaves, leaves, scribble, pictogram, pictogram, chevrons, lamps),
)


def random_patch(
    height: int, width: int, rng: np.random.Generator, patterns: tuple[Pattern, ...] = PATTERNS
) -> tuple[np.ndarray, np.ndarray | None]:
    """
    Draws one of the patterns, turned by a quarter half of the time, with texture and uneven light.

    Args:
        height (`int`): in pixels.
        width (`int`): in pixels.
        rng (`np.random.Generator`): the source of randomness.
        patterns (`tuple[Pattern, ...]`, *optional*, defaults to all): what to choose from.

    Returns:
        `tuple[np.ndarray, np.ndarray | None]`: RGB uint8 of shape (height, width, 3) and coverage, uint8 of shape
        (height, width), or `None` for a full rectangle.
    """
    pattern = patterns[int(rng.integers(len(patterns)))]
    turned = pattern not in (shelf, pictogram) and rng.random() < 0.5
    colour, coverage = pattern(width, height, rng) if turned else pattern(height, width, rng)
    if turned:
        colour = np.ascontiguousarray(colour.transpose(1, 0, 2))
        coverage = None if coverage is None else np.ascontiguousarray(coverage.T)
    if rng.random() < 0.6:
        colour = apply_texture(colour, rng.uniform(0.05, 0.5), rng)
    return colour, coverage
