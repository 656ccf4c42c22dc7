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
"""Vertical text: columns of Chinese and Japanese, book spines and banners with turned lines, stacked letters."""

from __future__ import annotations

import math

import numpy as np

from ..backgrounds import random_background
from ..clutter import apply_texture, bricks, random_patch, tiles, windows
from ..page import Page
from ..text_layout import stacked_word
from ..text_paint import random_color
from ..writer import Writer
from .sign import ink_on


# Marks that lie in a line and stand in a column, for which basic layout has no form.
_TURNING = "ー～…—「」（）。、，"


def draw_vertical(shape: tuple[int, int], writer: Writer, rng: np.random.Generator, least: float, **settings) -> Page:
    """
    Draws vertical text; the arguments are those of [`~tcm_hf.data.synthesis.styles.document.draw_document`].

    Returns:
        `Page`: a page, a wall with boards, or a shelf of spines.
    """
    height, width = shape
    kind = rng.random()
    if kind < 0.35 and writer.vertical:
        image = np.empty((height, width, 3), np.uint8)
        image[:] = np.clip(rng.uniform(215, 255) + rng.normal(0, 8, size=3), 0, 255)
        page = Page(apply_texture(image, rng.uniform(0.01, 0.1), rng), writer, **settings)
        _book(page, rng, least)
    elif kind < 0.75:
        if rng.random() < 0.5:
            image, _ = random_patch(height, width, rng, (bricks, tiles, windows))
        else:
            image = random_background(shape, rng)
        page = Page(image, writer, **settings)
        _boards(page, rng, least)
    else:
        page = Page(np.zeros((height, width, 3), np.uint8), writer, **settings)
        _spines(page, rng, least)
    return page


def _standing(writer: Writer, font: str | None, rng: np.random.Generator, length: int) -> str:
    """A run for a column: of ideographs, now and then with numbers and letters, which stand upright then."""
    mixed = rng.random() < 0.12
    text = "".join(writer.run(font, rng, 4) for _ in range(1 + length // 3))
    kept = [c for c in text if c not in _TURNING and (ord(c) >= 0x2E80 or (mixed and c.isalnum()))]
    return "".join(kept[:length]) or "8"


def _book(page: Page, rng: np.random.Generator, least: float) -> None:
    """Columns from the right, now and then between rules, in one or two tiers."""
    writer = page.writer
    font = writer.font(rng)
    smallest = max(10.0, least / 0.7)
    size = math.exp(rng.uniform(math.log(smallest), math.log(max(1.3 * smallest, 0.09 * page.height))))
    ink = np.full(3, rng.uniform(0, 80))
    step = size * rng.uniform(1.35, 2.3)
    pitch = writer.load(font, size).size * rng.uniform(1.0, 1.15)
    ruled = rng.random() < 0.2
    tiers = 1 if rng.random() < 0.7 else 2
    margin = rng.uniform(0.5, 2.0) * size
    tall = (page.height - 2 * margin) / tiers
    for tier in range(tiers):
        top = margin + tier * tall
        x = page.width - margin - size / 2
        if rng.random() < 0.4:
            large = min(1.8 * size, page.width / 5)
            pitch_large = writer.load(font, large).size * 1.1
            most = int((tall - size) / pitch_large)
            if most >= 1:
                page.column(_standing(writer, font, rng, int(rng.integers(1, most + 1))), x - 0.4 * size, top, font, large, ink,
                            pitch_large)  # fmt: skip
            x -= 1.2 * step + 0.8 * size
        while x > margin + size / 2:
            most = int((tall - size) / pitch)
            if most < 1:
                break
            full = rng.random() < 0.75
            length = most if full else int(rng.integers(1, most + 1))
            first = int(rng.random() < 0.15)
            if length - first >= 1:
                page.column(
                    _standing(writer, font, rng, length - first), x, top + first * pitch, font, size, ink, pitch
                )
            if ruled:
                page.rule(x - step / 2, top, x - step / 2, top + tall - size, ink)
            x -= step


def _boards(page: Page, rng: np.random.Generator, least: float) -> None:
    """Upright boards on a front, each with a column, a turned line or stacked letters."""
    x = rng.uniform(0.0, 0.15) * page.width
    for _ in range(10):
        wide = page.width * math.exp(rng.uniform(math.log(0.05), math.log(0.35)))
        tall = min(page.height * 0.96, wide * rng.uniform(2.0, 8.0))
        if x + wide > page.width:
            break
        top = rng.uniform(0.01, 0.99 - tall / page.height) * page.height
        plain = rng.random() < 0.15
        ground = random_color(rng)
        if not plain:
            page.box(x, top, x + wide, top + tall, ground, rng.choice([0.0, 0.1]) * wide)
            if rng.random() < 0.3:
                line = max(1, int(0.02 * wide))
                page.box(
                    x + 2 * line,
                    top + 2 * line,
                    x + wide - 2 * line,
                    top + tall - 2 * line,
                    ink_on(ground, rng),
                    0,
                    line,
                )
        else:
            part = page.image[int(top) : int(top + tall), int(x) : int(x + wide)]
            ground = part.mean(axis=(0, 1)) if part.size else ground
        _fill_board(page, rng, (x, top, x + wide, top + tall), ink_on(ground, rng, 90.0), least)
        x += wide + rng.uniform(0.0, 0.25) * page.width


def _fill_board(
    page: Page, rng: np.random.Generator, box: tuple[float, float, float, float], ink, least: float
) -> None:
    left, top, right, bottom = box
    writer = page.writer
    font = writer.font(rng)
    wide, tall = right - left, bottom - top
    lines = 1 if wide < 6 * least or rng.random() < 0.65 else 2
    # In the order of reading: from the right.
    size = min(rng.uniform(0.5, 0.8) * wide / lines, 0.85 * tall)
    if 0.7 * size < max(least, 6.0):
        return
    for line in range(lines):
        x = right - (line + 0.5) * wide / lines
        if writer.vertical:
            pitch = writer.load(font, size).size * rng.uniform(1.0, 1.3)
            most = int((0.94 * tall - 0.2 * size) / pitch)
            if most < 1:
                continue
            length = max(1, int(most * (1.0 if rng.random() < 0.5 else rng.uniform(0.4, 1.0))))
            page.column(
                _standing(writer, font, rng, length), x, top + 0.5 * (tall - pitch * length), font, size, ink, pitch
            )
        elif rng.random() < 0.35 and not writer.shaping and writer.description.spaced:
            word = writer.word(font, rng)
            word = writer.layouter.fitting(word.upper(), font) or word
            loaded = writer.load(font, size)
            most = max(1, int(tall / (0.95 * loaded.size)))
            mask = stacked_word(word[:most], loaded, font)
            if mask is not None and mask.shape[0] < 0.96 * tall and mask.shape[1] < wide:
                at = round(x - mask.shape[1] / 2), round(top + (tall - mask.shape[0]) / 2)
                page.stamp(mask, *at, word[:most], ink, loaded.size)
        else:
            _turned_line(page, rng, font, size, ink, x, top + 0.03 * tall, 0.94 * tall, 1 if rng.random() < 0.5 else 3)


def _turned_line(
    page: Page,
    rng: np.random.Generator,
    font: str | None,
    size: float,
    ink,
    x: float,
    top: float,
    room: float,
    turn: int,
) -> None:
    """Words in a line turned by a quarter: `turn` 3 reads downwards, 1 upwards."""
    writer = page.writer
    loaded = writer.load(font, size)
    words = writer.phrase(font, rng, 4)
    gap = 0.3 * size
    lengths = [loaded.getlength(word) for word in words]
    while words and sum(lengths) + gap * (len(words) - 1) > room:
        if len(words) == 1:
            size *= 0.98 * room / lengths[0]
            if size < 10:
                return
            loaded = writer.load(font, size)
            lengths = [loaded.getlength(words[0])]
            break
        words.pop()
        lengths.pop()
    total = sum(lengths) + gap * (len(words) - 1)
    at = top + rng.uniform(0, 1) * max(0.0, room - total)
    downwards = (turn == 3) != writer.description.leftward
    order = list(zip(words, lengths))
    for word, length in order if downwards else reversed(order):
        page.turned(word, x, at + length / 2, font, size, ink, turn)
        at += length + gap


def _spines(page: Page, rng: np.random.Generator, least: float) -> None:
    """Books, files or records side by side."""
    writer = page.writer
    x = -rng.uniform(0, 0.05) * page.width
    turn = 3 if rng.random() < 0.75 else 1
    typical = max(2.2 * least, page.width * math.exp(rng.uniform(math.log(0.04), math.log(0.16))))
    while x < page.width:
        wide = typical * rng.uniform(0.7, 1.5)
        ground = random_color(rng)
        low = rng.uniform(0.0, 0.15) * page.height if rng.random() < 0.5 else 0.0
        page.box(x, low, x + wide - 1, page.height, ground)
        if rng.random() < 0.4:
            y = rng.uniform(0.05, 0.95) * page.height
            page.box(x, y, x + wide - 1, y + 0.03 * page.height, ink_on(ground, rng))
        page.rule(x + wide - 1, low, x + wide - 1, page.height, ground * 0.4, max(1, int(0.03 * wide)))
        font, ink = writer.font(rng), ink_on(ground, rng)
        size = min(rng.uniform(0.4, 0.75) * wide, 0.3 * page.height)
        if 0.7 * size >= max(least, 6.0) and x > 0 and x + wide < page.width:
            top = low + rng.uniform(0.02, 0.1) * page.height
            room = page.height - top - 0.04 * page.height
            if writer.vertical and rng.random() < 0.7:
                pitch = writer.load(font, size).size * 1.05
                most = int((0.7 * room) / pitch)
                if most >= 1:
                    length = int(rng.integers(1, most + 1))
                    y = page.column(_standing(writer, font, rng, length), x + wide / 2, top, font, size, ink, pitch)
                    if page.height - y > 4 * size and 0.49 * size > max(least, 6.0):
                        length = int(min(5, (page.height - y - size) / (0.7 * pitch)))
                        text = _standing(writer, font, rng, length)
                        page.column(text, x + wide / 2, y + size, font, 0.7 * size, ink, 0.7 * pitch)
            else:
                first = room * rng.uniform(0.5, 1.0)
                _turned_line(page, rng, font, size, ink, x + wide / 2, top, first, turn)
                if room - first > 3 * size:
                    other = max(0.7 * size, 1.45 * least)
                    _turned_line(page, rng, font, other, ink_on(ground, rng), x + wide / 2, top + first + 0.5 * size,
                                 room - first - size, turn)  # fmt: skip
            if rng.random() < 0.2 and page.free(x, page.height - 1.1 * wide, x + wide, page.height):
                page.icon(x + wide / 2, page.height - 0.6 * wide, 0.35 * wide, ink, ground, rng)
        x += wide
