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
"""Patterns that fooled text detectors: hatching, blinds, fences, stripes, fronts of windows, blank keyboards, grids of
icons, scales, bars. They have the interface of the patterns in `clutter`."""

from __future__ import annotations

import math

import numpy as np

from .clutter import PATTERNS, draw_mark, int_tone, random_tone, two_tones


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Backgrounds need OpenCV: pip install opencv-python-headless") from error


def _ground(height: int, width: int, tone: np.ndarray) -> np.ndarray:
    image = np.empty((height, width, 3), np.uint8)
    image[:] = np.clip(tone, 0, 255)
    return image


def _tone(color: np.ndarray) -> tuple[int, int, int]:
    return int_tone(np.clip(color, 0, 255))


def _log(rng: np.random.Generator, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def hatching(height: int, width: int, rng: np.random.Generator):
    """Parallel or crossing strokes, in patches or all over, as in drawings and on maps."""
    ground, ink = two_tones(rng)
    image = _ground(height, width, ground)
    step, thick = _log(rng, 4, 18), int(rng.integers(1, 4))
    angles = [rng.uniform(0, math.pi)]
    if rng.random() < 0.45:
        angles.append(angles[0] + rng.uniform(0.6, 2.4))
    reach = math.hypot(height, width)
    short = rng.random() < 0.4
    for angle in angles:
        along = np.array([math.cos(angle), math.sin(angle)])
        across = np.array([-along[1], along[0]])
        middle = np.array([width, height]) / 2
        for shift in np.arange(-reach / 2, reach / 2, step + thick):
            start, end = -reach / 2, reach / 2
            if short:
                start, end = np.sort(rng.uniform(-reach / 2, reach / 2, size=2))
            a, b = (middle + across * (shift + rng.normal(0, 0.05 * step)) + along * v for v in (start, end))
            cv2.line(
                image, tuple(a.astype(int).tolist()), tuple(b.astype(int).tolist()), _tone(ink), thick, cv2.LINE_AA
            )
    return image, None


def blinds(height: int, width: int, rng: np.random.Generator):
    """Slats with light from above, and their cords."""
    step = max(4, int(_log(rng, 5, 34)))
    tone = random_tone(rng)
    profile = np.clip(np.linspace(rng.uniform(1.0, 1.4), rng.uniform(0.3, 0.8), step), 0, 2)
    rows = np.resize(profile, height)[:, None]
    line = np.clip(rows * tone, 0, 255).astype(np.uint8)
    image = np.ascontiguousarray(np.broadcast_to(line[:, None], (height, width, 3)))
    cord = _tone(tone * rng.uniform(0.4, 0.8))
    for x in np.arange(rng.uniform(0, width / 3), width, max(12, width * rng.uniform(0.2, 0.5))):
        cv2.line(image, (int(x), 0), (int(x), height), cord, max(1, step // 10), cv2.LINE_AA)
    return image, None


def fence(height: int, width: int, rng: np.random.Generator):
    """Pickets with rails, or wire mesh, through which the ground shows."""
    image = _ground(height, width, random_tone(rng))
    coverage = np.zeros((height, width), np.uint8)
    step = max(6, int(_log(rng, 7, 48)))
    if rng.random() < 0.5:
        thick = max(1, int(step * rng.uniform(0.2, 0.7)))
        top = int(rng.uniform(0, 0.2) * height)
        for x in range(int(rng.integers(step)), width, step):
            cv2.rectangle(coverage, (x, top), (x + thick - 1, height), 255, -1)
            points = np.array([[x, top], [x + thick // 2, top - thick], [x + thick - 1, top]])
            cv2.fillPoly(coverage, [points], 255)
        for share in (0.3, 0.75):
            y = int(share * height)
            cv2.rectangle(coverage, (0, y), (width, y + max(1, thick // 2)), 255, -1)
    else:
        thick = max(1, step // 9)
        for x in range(-height, width + height, step):
            cv2.line(coverage, (x, 0), (x + height, height), 255, thick, cv2.LINE_AA)
            cv2.line(coverage, (x, 0), (x - height, height), 255, thick, cv2.LINE_AA)
    return image, coverage


def stripes(height: int, width: int, rng: np.random.Generator):
    """Stripes of two to four colors and widths: awnings, flags, crossings, deck chairs."""
    tones = [random_tone(rng) for _ in range(int(rng.integers(2, 5)))]
    widths = [max(2, int(_log(rng, 2, 50))) for _ in tones]
    order = np.repeat(np.arange(len(tones)), widths)
    row = np.clip(np.array(tones)[np.resize(order, width)], 0, 255).astype(np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row, (height, width, 3))), None


def facade(height: int, width: int, rng: np.random.Generator):
    """A front: windows with frames, bars and sills, in rows."""
    wall = random_tone(rng)
    image = _ground(height, width, wall)
    across, down = max(9, _log(rng, 12, 90)), max(9, _log(rng, 12, 90))
    wide, tall = across * rng.uniform(0.35, 0.8), down * rng.uniform(0.4, 0.8)
    glass, frame = random_tone(rng) * 0.5, np.clip(wall + rng.choice((-1, 1)) * rng.uniform(30, 120), 0, 255)
    bars, line = int(rng.integers(0, 3)), max(1, int(0.06 * min(wide, tall)))
    sill, lit = rng.random() < 0.5, rng.uniform(0, 0.4)
    for y in np.arange(rng.uniform(0, 0.3) * down, height, down):
        for x in np.arange(rng.uniform(0, 0.3) * across, width, across):
            a, b = (int(x), int(y)), (int(x + wide), int(y + tall))
            pane = glass + rng.normal(0, 18) if rng.random() > lit else np.array([250, 225, 160]) * rng.uniform(0.6, 1)
            cv2.rectangle(image, a, b, _tone(pane), -1)
            cv2.rectangle(image, a, b, _tone(frame), line)
            for bar in range(1, bars + 1):
                at = int(x + bar * wide / (bars + 1))
                cv2.line(image, (at, a[1]), (at, b[1]), _tone(frame), line)
            if bars:
                middle = int(y + 0.4 * tall)
                cv2.line(image, (a[0], middle), (b[0], middle), _tone(frame), line)
            if sill:
                cv2.rectangle(image, (a[0] - line, b[1]), (b[0] + line, b[1] + 2 * line), _tone(frame), -1)
    return image, None


def blank_keyboard(height: int, width: int, rng: np.random.Generator):
    """Rows of keys that nothing is printed on, shifted as a keyboard's are."""
    body = random_tone(rng)
    image = _ground(height, width, body)
    key = np.clip(body + rng.choice((-1, 1)) * rng.uniform(25, 120), 0, 255)
    rise = max(8, height / rng.integers(4, 7))
    pitch = rise * rng.uniform(0.9, 1.2)
    gap = max(1, int(rng.uniform(0.05, 0.16) * rise))
    for number, y in enumerate(np.arange(gap, height - rise / 2, rise)):
        x = (number % 4) * 0.3 * pitch - pitch * (number > 0)
        while x < width:
            wide = pitch * (5.5 if number > 2 and rng.random() < 0.15 else 1.6 if rng.random() < 0.08 else 1)
            a, b = (int(x + gap), int(y)), (int(x + wide - gap), int(y + rise - 2 * gap))
            cv2.rectangle(image, a, b, _tone(key * 0.7), -1)
            inset = max(1, gap // 2)
            cv2.rectangle(image, (a[0] + inset, a[1] + inset), (b[0] - inset, b[1] - 2 * inset), _tone(key), -1)
            x += wide
    return image, None


def icons(height: int, width: int, rng: np.random.Generator):
    """Pictograms in rows, as on tool bars, maps of stations and packages."""
    ground, ink = two_tones(rng)
    if abs(ground.mean() - ink.mean()) < 50:
        ink = np.full(3, 240.0) if ground.mean() < 128 else np.full(3, 20.0)
    image = _ground(height, width, ground)
    step = min(max(12, _log(rng, 14, 90)), max(12, min(height, width)))
    framed, radius = rng.random() < 0.4, 0.42 * step
    for y in np.arange(step / 2, height, step * 1.15):
        for x in np.arange(step / 2, width, step * 1.15):
            if framed:
                r = int(1.1 * radius)
                cv2.rectangle(
                    image, (int(x) - r, int(y) - r), (int(x) + r, int(y) + r), _tone(ink), max(1, int(step / 24))
                )
            draw_mark(image, (x, y), 0.9 * radius, _tone(ink), _tone(ground), rng)
    return image, None


def scale_marks(height: int, width: int, rng: np.random.Generator):
    """Rulers, dials and combs: ticks of two lengths along a line."""
    ground, ink = two_tones(rng)
    image = _ground(height, width, ground)
    step = max(3, int(_log(rng, 3, 16)))
    long_every, tall = int(rng.integers(4, 11)), rng.uniform(0.15, 0.5) * min(height, 80)
    for base in np.arange(0.1 * height, height, max(20.0, 2.5 * tall)):
        for number, x in enumerate(range(step, width, step)):
            length = tall if number % long_every == 0 else 0.5 * tall
            cv2.line(image, (x, int(base)), (x, int(base + length)), _tone(ink), max(1, step // 6))
        cv2.line(image, (0, int(base)), (width, int(base)), _tone(ink), max(1, step // 6))
    return image, None


def bars(height: int, width: int, rng: np.random.Generator):
    """Rows of blocks as long as words: bricks of toys, planks, rows of seats, bars of a chart, lists that still load."""
    ground, ink = two_tones(rng)
    image = _ground(height, width, ground)
    rise = max(6, int(_log(rng, 7, 40)))
    thick = max(2, int(rise * rng.uniform(0.3, 0.75)))
    rounded = rng.random() < 0.3
    y = rise // 3
    while y + thick < height:
        x = int(rng.integers(0, rise))
        while x < width:
            wide = int(rise * rng.uniform(0.5, 5))
            if rounded:
                cv2.line(
                    image, (x + thick // 2, y + thick // 2), (x + wide, y + thick // 2), _tone(ink), thick, cv2.LINE_AA
                )
            else:
                cv2.rectangle(image, (x, y), (x + wide, y + thick), _tone(ink + rng.normal(0, 8)), -1)
            x += wide + int(rise * rng.uniform(0.4, 1.5)) + (thick if rounded else 0)
        y += rise
    return image, None


def holes(height: int, width: int, rng: np.random.Generator):
    """Perforated sheet, loudspeakers, studs: round or slotted holes in rows."""
    ground, hole = two_tones(rng)
    image = _ground(height, width, ground)
    step = max(5, int(_log(rng, 6, 30)), int(math.sqrt(height * width / 2500)))
    radius, slot = max(1, int(step * rng.uniform(0.18, 0.42))), rng.random() < 0.35
    for number, y in enumerate(range(step // 2, height, step)):
        for x in range(step // 2 + (number % 2) * step // 2, width, 2 * step if slot else step):
            if slot:
                cv2.line(image, (x, y), (x + step, y), _tone(hole), 2 * radius - 1, cv2.LINE_AA)
            else:
                cv2.circle(image, (x, y), radius, _tone(hole), -1, cv2.LINE_AA)
    return image, None


HARD_PATTERNS = (hatching, blinds, fence, stripes, facade, blank_keyboard, icons, scale_marks, bars, holes)
ALL_PATTERNS = PATTERNS + HARD_PATTERNS
