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
"""Screens: windows with menus and buttons, terminals, editors, telephones, keypads; light and dark."""

from __future__ import annotations

import math

import numpy as np

from ..clutter import random_patch
from ..page import Page
from ..text_paint import LUMA
from ..writer import Writer, leading


_HUES = np.array([
    [26, 115, 232], [0, 120, 212], [52, 168, 83], [217, 48, 37], [242, 153, 0], [123, 31, 162], [0, 150, 136], [233, 30, 99],
], dtype=np.float64)  # fmt: skip


def draw_screen(shape: tuple[int, int], writer: Writer, rng: np.random.Generator, least: float, **settings) -> Page:
    """
    Draws what is on a screen; the arguments are those of [`~tcm_hf.data.synthesis.styles.document.draw_document`].

    Returns:
        `Page`: the screen.
    """
    height, width = (int(side * rng.uniform(0.95, 1.15)) for side in shape)
    page = Page(np.empty((height, width, 3), np.uint8), writer, **settings)
    screen = _Screen(page, writer, rng, least)
    kind = rng.random()
    if kind < 0.2:
        screen.terminal()
    elif kind < 0.3:
        screen.keypad((0, 0, width, height))
    elif kind < 0.5:
        screen.telephone()
    elif kind < 0.62:
        screen.desktop()
    else:
        screen.window()
    return page


class _Screen:
    """Theme and sizes of a screen."""

    def __init__(self, page: Page, writer: Writer, rng: np.random.Generator, least: float):
        self.page, self.writer, self.rng = page, writer, rng
        self.dark = rng.random() < 0.45
        level = rng.uniform(8, 50) if self.dark else rng.uniform(228, 255)
        self.ground = np.clip(level + rng.normal(0, 4, size=3), 0, 255)
        self.ink = np.full(3, rng.uniform(185, 255) if self.dark else rng.uniform(0, 75))
        self.faint = self.ink + (self.ground - self.ink) * rng.uniform(0.25, 0.5)
        self.accent = _HUES[int(rng.integers(len(_HUES)))]
        self.line = self.ink + (self.ground - self.ink) * rng.uniform(0.6, 0.88)
        self.panel = self.ground + (self.ink - self.ground) * rng.uniform(0.02, 0.1)
        smallest = max(9.0, least / 0.7)
        largest = max(1.3 * smallest, 0.05 * min(page.height, page.width))
        self.size = math.exp(rng.uniform(math.log(smallest), math.log(largest)))
        self.font = writer.font(rng, "text")
        self.radius = rng.choice([0.0, 0.2, 0.4, 0.9]) * self.size
        self.row = self.size * leading(self.font, writer.shaping) * rng.uniform(1.1, 2.0)
        page.image[:] = self.ground

    # ------------------------------------------------------------------------------------------------ parts

    def _on(self, color: np.ndarray) -> np.ndarray:
        return np.full(3, 255.0) if color @ LUMA < 150 else np.full(3, 20.0)

    def _label(self, words, x, y, limit, color=None, size=None, anchor=0.0, font=None) -> float:
        """Words whose middle is at height `y`."""
        size = size or self.size
        if self.writer.description.leftward and anchor == 0.0:
            x, anchor = x + limit, 1.0
        color = self.ink if color is None else color
        return self.page.row(words, x, y + 0.34 * size, font or self.font, size, color, limit, anchor)

    def _phrase(self, most: int = 3) -> list[str]:
        words = self.writer.phrase(self.font, self.rng, most)
        return [word[:1].upper() + word[1:] for word in words] if self.rng.random() < 0.6 else words

    def button(self, x: float, y: float, width: float, height: float, words=None, filled: bool | None = None) -> None:
        """A button with its label in the middle."""
        rng, page = self.rng, self.page
        filled = rng.random() < 0.5 if filled is None else filled
        color = self.accent if rng.random() < 0.6 else self.panel
        ground = color if filled else self.ground
        if filled:
            page.box(x, y, x + width, y + height, color, self.radius)
        else:
            page.box(x, y, x + width, y + height, self.line, self.radius, 1)
        ink = self._on(ground) if filled and color is self.accent else self.ink
        kind = rng.random()
        if kind < 0.15 and height > self.size:
            page.icon(x + width / 2, y + height / 2, min(0.5 * self.size, 0.4 * height), ink, ground, rng)
            return
        words = self._phrase(2) if words is None else words
        self._label(words, x + width / 2, y + height / 2, width - 0.4 * self.size, ink, anchor=0.5)

    def field(self, x: float, y: float, width: float, height: float) -> None:
        """A box to write in."""
        rng = self.rng
        self.page.box(x, y, x + width, y + height, self.panel if rng.random() < 0.5 else self.ground, self.radius)
        self.page.box(x, y, x + width, y + height, self.line, self.radius, 1)
        start = x + 0.6 * self.size
        if rng.random() < 0.3:
            self.page.icon(start + 0.4 * self.size, y + height / 2, 0.45 * self.size, self.faint, self.ground, rng)
            start += 1.3 * self.size
        if rng.random() < 0.8:
            self._label(self._phrase(3), start, y + height / 2, x + width - start - 0.4 * self.size,
                        self.faint if rng.random() < 0.6 else self.ink)  # fmt: skip

    def entries(self, box: tuple[float, float, float, float], icons: bool) -> None:
        """A list, one entry a row, one of them chosen."""
        left, top, right, bottom = box
        rng = self.rng
        chosen, y, number = int(rng.integers(0, 8)), top, 0
        while y + self.row <= bottom:
            ink = self.ink
            if number == chosen:
                self.page.box(left, y, right, y + self.row, self.accent, self.radius)
                ink = self._on(self.accent)
            x = left + 0.7 * self.size
            middle = y + self.row / 2
            if icons:
                ground = self.accent if number == chosen else self.ground
                self.page.icon(x + 0.4 * self.size, middle, 0.48 * self.size, ink, ground, rng)
                x += 1.5 * self.size
            limit = right - x - 0.5 * self.size
            if rng.random() < 0.25 and limit > 5 * self.size:
                badge = str(rng.integers(1, 60))
                self._label([badge], right - 0.6 * self.size, middle, 2 * self.size, ink, 0.85 * self.size, 1.0)
                limit -= 2.5 * self.size
            self._label(self._phrase(3), x, middle, limit, ink)
            y += self.row
            number += 1

    def table(self, box: tuple[float, float, float, float]) -> None:
        """Rows of numbers, words and single letters under a head."""
        left, top, right, bottom = box
        rng, page, writer = self.rng, self.page, self.writer
        count = int(np.clip((right - left) / (self.size * rng.uniform(3, 7)), 1, 9))
        edges = np.linspace(left, right, count + 1)
        kinds = rng.choice(4, size=count, p=[0.4, 0.25, 0.25, 0.1])
        sheet = rng.random() < 0.4
        y, number = top, 0
        while y + self.row <= bottom:
            middle = y + self.row / 2
            if number == 0:
                page.box(left, y, right, y + self.row, self.panel)
            page.rule(left, y + self.row, right, y + self.row, self.line)
            for column in range(count):
                x0, x1 = edges[column] + 0.4 * self.size, edges[column + 1] - 0.4 * self.size
                if rng.random() < 0.12:
                    continue
                if number == 0 and sheet:
                    self._label(["ABCDEFGHI"[column]], (x0 + x1) / 2, middle, x1 - x0, self.faint, anchor=0.5)
                elif number == 0 or kinds[column] == 0:
                    self._label(self._phrase(2), x0, middle, x1 - x0, self.faint if number == 0 else None)
                elif kinds[column] == 3:
                    page.icon((x0 + x1) / 2, middle, 0.45 * self.size, self.accent, self.ground, rng)
                elif kinds[column] == 1:
                    self._label([writer.number(self.font, rng)], x1, middle, x1 - x0, anchor=1.0)
                else:
                    self._label([writer.single(self.font, rng)], (x0 + x1) / 2, middle, x1 - x0, anchor=0.5)
            y += self.row
            number += 1
        if sheet:
            for edge in edges:
                page.rule(edge, top, edge, y, self.line)

    def cards(self, box: tuple[float, float, float, float]) -> None:
        """Tiles with an image or a large figure, and a few words."""
        left, top, right, bottom = box
        rng, page = self.rng, self.page
        across = int(np.clip((right - left) / (self.size * rng.uniform(7, 14)), 1, 5))
        gap = rng.uniform(0.5, 1.2) * self.size
        wide = (right - left - gap * (across - 1)) / across
        tall = max(wide * rng.uniform(0.6, 1.1), 5 * self.size)
        y = top
        while y + tall <= bottom:
            for column in range(across):
                x = left + column * (wide + gap)
                page.box(x, y, x + wide, y + tall, self.panel, self.radius)
                kind, low = rng.random(), y + 0.5 * self.size
                if kind < 0.5:
                    deep = int(0.5 * tall)
                    colour, _ = random_patch(deep, int(wide), rng)
                    view = page.image[int(y) : int(y) + deep, int(x) : int(x) + int(wide)]
                    view[:] = colour[: view.shape[0], : view.shape[1]]
                    low = y + deep + 0.3 * self.size
                elif kind < 0.8:
                    size = min(0.3 * tall, 0.25 * wide)
                    figure = (
                        self.writer.price(self.font, rng) if rng.random() < 0.3 else self.writer.number(self.font, rng)
                    )
                    self._label([figure], x + 0.5 * self.size, low + 0.6 * size, wide - self.size, self.accent
                                if not self.dark else self.ink, size)  # fmt: skip
                    low += 1.4 * size
                inside = (x + 0.5 * self.size, low, x + wide - 0.5 * self.size, y + tall - 0.2 * self.size)
                page.paragraph(
                    inside, self.font, self.size, self.ink, self._step(), rng, lines=int(rng.integers(1, 5))
                )
            y += tall + gap

    def _step(self) -> float:
        return self.size * leading(self.font, self.writer.shaping) * 1.1

    def form(self, box: tuple[float, float, float, float]) -> None:
        """Labels with fields, switches and buttons."""
        left, top, right, bottom = box
        rng, page = self.rng, self.page
        y, tall = top, max(1.9 * self.size, self.row)
        right = min(right, left + 30 * self.size)
        while y + 2 * tall < bottom:
            kind = rng.random()
            if kind < 0.55:
                self._label(self._phrase(3), left, y + 0.5 * self.size, right - left, self.faint)
                y += 1.3 * self.size
                self.field(left, y, right - left, tall)
            elif kind < 0.8:
                if rng.random() < 0.5:
                    page.box(left, y + 0.2 * tall, left + 0.6 * tall, y + 0.8 * tall, self.line, 0.1 * tall, 2)
                    if rng.random() < 0.5:
                        page.rule(
                            left + 0.1 * tall, y + 0.5 * tall, left + 0.25 * tall, y + 0.7 * tall, self.accent, 2
                        )
                        page.rule(
                            left + 0.25 * tall, y + 0.7 * tall, left + 0.55 * tall, y + 0.3 * tall, self.accent, 2
                        )
                else:
                    page.box(left, y + 0.2 * tall, left + tall, y + 0.8 * tall, self.accent, 0.3 * tall)
                    page.box(
                        left + 0.5 * tall,
                        y + 0.25 * tall,
                        left + tall,
                        y + 0.75 * tall,
                        self._on(self.accent),
                        0.3 * tall,
                    )
                self._label(self._phrase(4), left + 1.4 * tall, y + tall / 2, right - left - 1.4 * tall)
            else:
                wide = rng.uniform(4, 8) * self.size
                for number in range(int(rng.integers(1, 4))):
                    x = left + number * (wide + 0.6 * self.size)
                    if x + wide < right:
                        self.button(x, y, wide, tall)
            y += tall + rng.uniform(0.4, 1.2) * self.size

    # ------------------------------------------------------------------------------------------------ whole screens

    def window(self) -> None:
        """A program: title, menus, tools, a side bar, contents, a status line."""
        page, rng = self.page, self.rng
        y, width, height = 0.0, page.width, page.height
        bar = 1.9 * self.size
        if rng.random() < 0.7:
            shade = self.accent if rng.random() < 0.35 else self.panel
            page.box(0, 0, width, bar, shade)
            right = rng.random() < 0.5
            for number in range(3):
                x = width - (number + 0.8) * 1.4 * self.size if right else (number + 0.8) * 1.4 * self.size
                if right:
                    page.rule(x - 0.3 * self.size, bar / 2, x + 0.3 * self.size, bar / 2, self._on(shade))
                else:
                    page.box(x - 0.4 * self.size, bar / 2 - 0.4 * self.size, x + 0.4 * self.size, bar / 2 + 0.4 * self.size,
                             _HUES[(3, 4, 2)[number]], 0.4 * self.size)  # fmt: skip
            self._label(self._phrase(4), width / 2, bar / 2, width - 14 * self.size, self._on(shade), anchor=0.5)
            y = bar
        if rng.random() < 0.7:
            x = 0.7 * self.size
            for _ in range(int(rng.integers(3, 9))):
                word = self._phrase(1)[0]
                used = self._label([word], x, y + bar / 2, 12 * self.size)
                x += max(used, self.size) + 1.3 * self.size
                if x > width - 4 * self.size:
                    break
            y += bar
            page.rule(0, y, width, y, self.line)
        if rng.random() < 0.6:
            tall = 2.4 * self.size
            x = 0.6 * self.size
            while x + tall < width:
                kind = rng.random()
                if kind < 0.55:
                    page.icon(x + tall / 2, y + tall / 2, 0.38 * tall, self.ink, self.ground, rng)
                elif kind < 0.75:
                    self._label([self.writer.single(self.font, rng)], x + tall / 2, y + tall / 2, tall, anchor=0.5,
                                size=1.15 * self.size)  # fmt: skip
                elif kind < 0.85:
                    self.field(x, y + 0.25 * self.size, 5 * self.size, 1.9 * self.size)
                    x += 5.5 * self.size - tall
                x += tall
            y += tall
            page.rule(0, y, width, y, self.line)
        left, bottom = 0.0, float(height)
        if rng.random() < 0.5:
            bottom -= bar
            page.box(0, bottom, width, height, self.panel)
            self._label(self._phrase(4), 0.7 * self.size, bottom + bar / 2, 0.5 * width, self.faint)
            self._label([self.writer.number(self.font, rng)], width - self.size, bottom + bar / 2, 0.3 * width, self.faint,
                        anchor=1.0)  # fmt: skip
        if rng.random() < 0.5:
            left = min(rng.uniform(8, 14) * self.size, 0.4 * width)
            page.box(0, y, left, bottom, self.panel)
            self.entries((0.2 * self.size, y + 0.4 * self.size, left - 0.2 * self.size, bottom), rng.random() < 0.6)
        self._contents((left + self.size, y + self.size, width - self.size, bottom - 0.5 * self.size))

    def _contents(self, box: tuple[float, float, float, float]) -> None:
        left, top, right, bottom = box
        rng = self.rng
        if right - left < 6 * self.size:
            return
        if rng.random() < 0.5:
            size = self.size * rng.uniform(1.3, 3.0)
            self._label(self._phrase(4), left, top + 0.6 * size, right - left, size=size)
            top += size * leading(self.font, self.writer.shaping) + 0.4 * self.size
        kind = int(rng.integers(6))
        box = (left, top, right, bottom)
        if kind == 0:
            self.table(box)
        elif kind == 1:
            self.cards(box)
        elif kind == 2:
            self.form(box)
        elif kind == 3:
            self.entries(box, rng.random() < 0.5)
        elif kind == 4:
            y = top
            while y + 3 * self.size < bottom:
                lines = int(rng.integers(1, 9))
                y = self.page.paragraph(
                    (left, y, right, bottom), self.font, self.size, self.ink, self._step(), rng, lines=lines
                )
                y += rng.uniform(0.4, 1.2) * self.size
        else:
            self.code(box, self.writer.font(rng, "mono"))

    def code(self, box: tuple[float, float, float, float], font: str | None) -> None:
        """Numbered lines of a program in several colors."""
        left, top, right, bottom = box
        rng = self.rng
        step = self.size * leading(font, self.writer.shaping) * rng.uniform(1.0, 1.2)
        number = int(rng.integers(1, 400))
        numbered = rng.random() < 0.7
        tones = [self.ink, self.faint, *(0.5 * self.ink + 0.5 * hue for hue in _HUES[:4])]
        y, depth = top, 0
        gap = 0.6 * self.size
        while y + step <= bottom:
            x = left
            if numbered:
                x += 3 * self.size
                self.page.put(str(number), x - self.size, y + 0.8 * self.size, font, self.size, self.faint, 1.0)
            depth = int(np.clip(depth + rng.integers(-1, 2), 0, 4))
            x += 1.6 * depth * self.size
            for _ in range(int(rng.integers(0, 8))):
                if x > right:
                    break
                kind = rng.random()
                text = self.writer.word(font, rng, running=True).strip(",.;:()") or "a"
                if kind < 0.15:
                    text = str(rng.integers(0, 100))
                elif kind < 0.25:
                    text = self.writer.single(font, rng).lower()
                elif kind < 0.45 and self.writer.script == "latin":
                    text += ("()", "(", ");", ",", ":", "[0]")[int(rng.integers(6))]
                loaded = self.writer.load(font, self.size)
                if x + loaded.getlength(text) > right:
                    break
                tone = tones[int(rng.integers(len(tones)))]
                x += self.page.put(text, x, y + 0.8 * self.size, font, self.size, tone) + gap
            y += step
            number += 1

    def terminal(self) -> None:
        """Lines of a command line, most of them on black."""
        rng, page = self.rng, self.page
        if rng.random() < 0.8:
            self.dark = True
            self.ground = np.clip(rng.uniform(0, 35) + rng.normal(0, 5, size=3), 0, 255)
            self.ink = np.array(
                [[220.0, 220, 220], [90, 230, 90], [255, 190, 70]][int(rng.choice(3, p=[0.7, 0.2, 0.1]))]
            )
            self.faint = 0.6 * self.ink
            page.image[:] = self.ground
        font = self.writer.font(rng, "mono")
        margin = 0.5 * self.size
        if rng.random() < 0.3:
            self.code((margin, margin, page.width - margin, page.height), font)
            return
        step = self.size * leading(font, self.writer.shaping) * rng.uniform(0.98, 1.1)
        loaded = self.writer.load(font, self.size)
        cell = loaded.getlength("0")
        y = margin
        while y + step < page.height:
            kind = rng.random()
            baseline = y + 0.8 * self.size
            if kind < 0.2:
                # A prompt and a command.
                user = "$" if rng.random() < 0.4 else f"{self.writer.word(font, rng, True).lower()}$"
                user = self.writer.layouter.fitting(user, font) or "#"
                tone = 0.4 * self.ink + 0.6 * _HUES[2]
                x = margin + page.put(user, margin, baseline, font, self.size, tone) + cell
                page.row(
                    self.writer.phrase(font, rng, 5),
                    x,
                    baseline,
                    font,
                    self.size,
                    self.ink,
                    page.width - x,
                )
            elif kind < 0.55:
                # Columns, as of a list of files or processes.
                starts = np.cumsum(rng.integers(4, 16, size=7)) * cell
                for _ in range(int(rng.integers(2, 8))):
                    baseline = y + 0.8 * self.size
                    if baseline > page.height:
                        break
                    x = margin
                    for column, start in enumerate(starts):
                        text = self.writer.number(font, rng) if column % 2 else self.writer.word(font, rng, True)
                        if (
                            x + loaded.getlength(text) < page.width
                            and loaded.getlength(text) + cell < start - x + margin
                        ):
                            page.put(text, x, baseline, font, self.size, self.ink if column < 5 else self.faint)
                        x = margin + start
                    y += step
                continue
            elif kind < 0.62:
                y += step
                continue
            else:
                words = [
                    text
                    for text, _ in self.writer.line(font, self.size, rng.uniform(0.2, 1.0) * page.width - margin, rng)
                ]
                tone = self.ink if rng.random() < 0.75 else 0.4 * self.ink + 0.6 * _HUES[int(rng.integers(len(_HUES)))]
                page.row(words, margin, baseline, font, self.size, tone, page.width - 2 * margin)
            y += step

    def keypad(self, box: tuple[float, float, float, float]) -> None:
        """Keys with one character each: a calculator, a telephone, a keyboard."""
        left, top, right, bottom = box
        rng, page = self.rng, self.page
        kind = int(rng.integers(3))
        rows = ["789/", "456x", "123-", "0.=+"] if kind == 0 else ["123", "456", "789", "*0#"]
        if kind == 2:
            rows = ["QWERTYUIOP", "ASDFGHJKL", "ZXCVBNM"] if self.writer.script == "latin" else [
                "".join(self.writer.single(self.font, rng) for _ in range(count)) for count in (9, 8, 7)
            ]  # fmt: skip
            if rng.random() < 0.6:
                rows.insert(0, "1234567890")
            if self.writer.script == "latin" and rng.random() < 0.3:
                rows = [row.lower() for row in rows]
        share = rng.uniform(0.2, 0.4)
        shown = top + share * (bottom - top)
        size = min(0.5 * (shown - top), 0.12 * (right - left))
        if kind < 2:
            self._label([self.writer.number(self.font, rng)], right - 0.4 * size, (top + shown) / 2, 0.9 * (right - left),
                        size=size, anchor=1.0)  # fmt: skip
        else:
            self._contents((left + self.size, top + 0.5 * self.size, right - self.size, shown))
        tall = (bottom - shown) / len(rows)
        gap = rng.uniform(0.03, 0.14) * tall
        across = max(map(len, rows))
        wide = (right - left) / across
        size = min(0.5 * tall, 0.6 * wide) * rng.uniform(0.6, 1.0)
        for number, row in enumerate(rows):
            shift = 0.5 * (right - left - wide * len(row))
            for column, character in enumerate(row):
                x, y = left + shift + column * wide, shown + number * tall
                color = self.accent if rng.random() < 0.05 else self.panel
                page.box(x + gap, y + gap, x + wide - gap, y + tall - gap, color, self.radius * size / self.size)
                ink = self._on(color) if color is self.accent else self.ink
                text = self.writer.layouter.fitting(character, self.font)
                if text:
                    self._label([text], x + wide / 2, y + tall / 2, wide, ink, size, 0.5)

    def telephone(self) -> None:
        """One column with a head, rows or cards, and tabs at the bottom."""
        page, rng = self.page, self.rng
        width, height = page.width, page.height
        self.size *= 1.25
        self.row *= 1.25
        wide = min(width, rng.uniform(18, 30) * self.size)
        left = (width - wide) / 2
        if left > 0:
            page.image[:] = self.ground * 0.55 if self.dark else self.ground * 0.8
            page.box(left, 0, left + wide, height, self.ground)
        right = left + wide
        y = 0.3 * self.size
        self._label([f"{rng.integers(0, 24)}:{rng.integers(0, 60):02d}"], left + self.size, y + 0.5 * self.size, 5 * self.size,
                    size=0.8 * self.size)  # fmt: skip
        page.icon(right - self.size, y + 0.5 * self.size, 0.4 * self.size, self.ink, self.ground, rng)
        y += 1.5 * self.size
        size = self.size * rng.uniform(1.0, 2.0)
        page.icon(left + 1.2 * self.size, y + 0.7 * size, 0.5 * self.size, self.ink, self.ground, rng)
        self._label(self._phrase(3), left + 2.6 * self.size, y + 0.7 * size, wide - 4 * self.size, size=size)
        y += 1.9 * size
        bottom = height - 3.4 * self.size
        kind = rng.random()
        if kind < 0.25:
            self.keypad((left, y, right, bottom))
        elif kind < 0.5:
            self.cards((left + 0.6 * self.size, y, right - 0.6 * self.size, bottom))
        elif kind < 0.65:
            self.form((left + self.size, y, right - self.size, bottom))
        elif kind < 0.8:
            self._chat(left, y, right, bottom)
        else:
            self._rows(left, y, right, bottom)
        count = int(rng.integers(3, 6))
        page.rule(left, bottom + 0.3 * self.size, right, bottom + 0.3 * self.size, self.line)
        for number in range(count):
            x = left + (number + 0.5) * wide / count
            color = self.accent if number == 0 else self.faint
            page.icon(x, bottom + 1.3 * self.size, 0.6 * self.size, color, self.ground, rng)
            self._label(self._phrase(1), x, bottom + 2.6 * self.size, wide / count - 4, color, 0.75 * self.size, 0.5)

    def _rows(self, left: float, y: float, right: float, bottom: float) -> None:
        """Entries of two lines with an image of their own: a round one with a letter, or an icon."""
        page, rng = self.page, self.rng
        tall = 3.2 * self.size * leading(self.font, self.writer.shaping) / 1.2
        while y + tall < bottom:
            x, middle = left + 1.8 * self.size, y + tall / 2
            hue = _HUES[int(rng.integers(len(_HUES)))]
            page.box(x - self.size, middle - self.size, x + self.size, middle + self.size, hue, self.size)
            if rng.random() < 0.6:
                self._label(
                    [self.writer.single(self.font, rng)], x, middle, 2 * self.size, self._on(hue), 1.1 * self.size, 0.5
                )
            else:
                page.icon(x, middle, 0.6 * self.size, self._on(hue), hue, rng)
            start, limit = left + 3.6 * self.size, right - left - 7 * self.size
            self._label(self._phrase(3), start, middle - 0.65 * self.size, limit)
            self._label(self._phrase(5), start, middle + 0.7 * self.size, limit, self.faint, 0.85 * self.size)
            if rng.random() < 0.6:
                text = f"{rng.integers(0, 24)}:{rng.integers(0, 60):02d}"
                self._label([text], right - 0.6 * self.size, middle, 3 * self.size, self.faint, 0.8 * self.size, 1.0)
            y += tall
            page.rule(start, y, right, y, self.line)

    def _chat(self, left: float, y: float, right: float, bottom: float) -> None:
        """Bubbles of talk, from the left and from the right."""
        page, rng = self.page, self.rng
        while y + 3 * self.size < bottom:
            lines = int(rng.integers(1, 4))
            wide = rng.uniform(0.35, 0.75) * (right - left)
            tall = lines * self._step() + 0.9 * self.size
            if y + tall > bottom:
                break
            own = rng.random() < 0.5
            x = right - wide - 0.5 * self.size if own else left + 0.5 * self.size
            color = self.accent if own else self.panel
            page.box(x, y, x + wide, y + tall, color, 0.8 * self.size)
            ink = self._on(color) if own else self.ink
            inside = (x + 0.6 * self.size, y + 0.4 * self.size, x + wide - 0.6 * self.size, y + tall)
            page.paragraph(inside, self.font, self.size, ink, self._step(), rng, lines=lines)
            y += tall + rng.uniform(0.4, 1.2) * self.size

    def desktop(self) -> None:
        """Icons with labels on an image or a plain ground, and a bar."""
        page, rng = self.page, self.rng
        width, height = page.width, page.height
        if rng.random() < 0.4:
            colour, _ = random_patch(height, width, rng)
            page.image[:] = 0.3 * colour + 0.7 * self.ground
        elif rng.random() < 0.5:
            page.image[:] = self.accent * np.linspace(0.4, 0.8, height)[:, None, None]
            self.ground, self.ink = self.accent * 0.6, np.full(3, 250.0)
        across = 7 * self.size * rng.uniform(0.9, 1.3)
        down = 6.2 * self.size * rng.uniform(0.9, 1.3)
        chance = rng.uniform(0.3, 1.0)
        for y in np.arange(0, height - down - 3 * self.size, down):
            for x in np.arange(0, width - across, across):
                if rng.random() > chance:
                    continue
                hue = _HUES[int(rng.integers(len(_HUES)))]
                centre, r = (x + across / 2, y + 0.42 * down), 1.5 * self.size
                if rng.random() < 0.6:
                    page.box(centre[0] - r, centre[1] - r, centre[0] + r, centre[1] + r, hue, 0.4 * r)
                    if rng.random() < 0.3:
                        self._label(
                            [self.writer.single(self.font, rng)], *centre, 2 * r, self._on(hue), 2 * self.size, 0.5
                        )
                    else:
                        page.icon(*centre, 0.7 * r, self._on(hue), hue, rng)
                else:
                    page.icon(*centre, r, self.ink, self.ground, rng)
                self._label(self._phrase(2), centre[0], y + 0.86 * down, across - 0.5 * self.size, anchor=0.5)
        bar = 2.4 * self.size
        page.box(0, height - bar, width, height, self.panel)
        ink = np.full(3, 250.0) if self.panel @ LUMA < 128 else np.full(3, 15.0)
        for number in range(int(rng.integers(2, 8))):
            page.icon((number + 0.8) * bar, height - bar / 2, 0.35 * bar, ink, self.panel, rng)
        clock = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
        self._label([clock], width - 0.8 * self.size, height - bar / 2, 5 * self.size, ink, anchor=1.0)
