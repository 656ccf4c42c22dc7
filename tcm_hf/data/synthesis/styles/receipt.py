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
"""Receipts: a narrow strip of thermal paper with names on the left and prices on the right."""

from __future__ import annotations

import math

import numpy as np

from ..clutter import barcode, mosaic
from ..page import Page
from ..writer import Writer, leading


def draw_receipt(shape: tuple[int, int], writer: Writer, rng: np.random.Generator, least: float, **settings) -> Page:
    """
    Draws a receipt; the arguments are those of [`~tcm_hf.data.synthesis.styles.document.draw_document`].

    Returns:
        `Page`: the strip of paper.
    """
    smallest = max(10.0, least / 0.7)
    size = math.exp(rng.uniform(math.log(smallest), math.log(max(1.2 * smallest, 0.055 * min(shape)))))
    width = int(min(size * rng.uniform(13, 24), 1.05 * shape[1]))
    height = int(shape[0] * rng.uniform(0.75, 1.4))
    paper = np.clip(rng.uniform(215, 252) + rng.normal(0, 3, size=3), 0, 255)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = paper
    page = Page(image, writer, **settings)
    font = writer.font(rng, "mono" if rng.random() < 0.7 else "text")
    faded = rng.uniform(0, 60) if rng.random() < 0.7 else rng.uniform(60, 125)
    ink = np.clip(faded + np.array([0, 0, rng.uniform(0, 35)]), 0, 255)
    _Strip(page, writer, rng, font, size, ink).fill()
    return page


class _Strip:
    def __init__(self, page: Page, writer: Writer, rng: np.random.Generator, font: str | None, size: float, ink):
        self.page, self.writer, self.rng, self.font, self.size, self.ink = page, writer, rng, font, size, ink
        self.left = rng.uniform(0.5, 1.4) * size
        self.right = page.width - self.left
        self.step = size * leading(font, writer.shaping) * rng.uniform(0.97, 1.25)
        self.upper = rng.random() < 0.45
        # The amounts of one shop look alike: with its currency sign, or without.
        self.sign = "$€£"[int(rng.integers(3))] if rng.random() < 0.4 else ""
        self.sign = writer.layouter.fitting(self.sign, font)
        self.y = rng.uniform(0.6, 3) * size

    def fill(self) -> None:
        rng = self.rng
        self._head()
        blocks = (self._items, self._facts, self._totals)
        end = self.page.height - 1.2 * self.size
        part = 0
        while self.y + 2 * self.step < end:
            blocks[part if part < 3 else int(rng.integers(3))]()
            part += 1
            if rng.random() < 0.6:
                self._separator()
            if part >= 3 and rng.random() < 0.4:
                self._foot()
                if rng.random() < 0.7:
                    break

    def _words(self, most: int) -> list[str]:
        words = self.writer.phrase(self.font, self.rng, most)
        return [word.upper() for word in words] if self.upper else words

    def _amount(self) -> str:
        rng = self.rng
        value = math.exp(rng.uniform(0, 5.5))
        comma = "," if self.sign == "€" and rng.random() < 0.7 else "."
        return f"{self.sign}{value:.2f}".replace(".", comma)

    def _line(self, words: list[str], anchor: float = 0.0, size: float | None = None) -> None:
        size = size or self.size
        x = self.left + anchor * (self.right - self.left)
        self.page.row(words, x, self.y + 0.8 * size, self.font, size, self.ink, self.right - self.left, anchor)
        self.y += self.step * size / self.size

    def _head(self) -> None:
        rng, page = self.rng, self.page
        if rng.random() < 0.25:
            radius = rng.uniform(1, 2) * self.size
            page.icon(page.width / 2, self.y + radius, radius, self.ink, page.image[0, 0], rng)
            self.y += 2.6 * radius
        self._line(self._words(3), 0.5, self.size * rng.uniform(1.2, 2.4))
        for _ in range(int(rng.integers(1, 4))):
            words = self._words(3)
            if rng.random() < 0.5:
                words.append(str(rng.integers(1, 9999)))
            self._line(words, 0.5)
        self.y += 0.4 * self.size
        date = f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(2000, 2030)}"
        clock = f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}"
        self._pair([date], clock)
        if rng.random() < 0.6:
            self._separator()

    def _pair(self, words: list[str], amount: str, size: float | None = None) -> None:
        """Words on the left, one on the right."""
        size = size or self.size
        baseline = self.y + 0.8 * size
        width = self.writer.load(self.font, size).getlength(amount)
        page, leftward = self.page, self.writer.description.leftward
        near, far = (self.right, self.left) if leftward else (self.left, self.right)
        page.put(amount, far, baseline, self.font, size, self.ink, 0.0 if leftward else 1.0)
        limit = self.right - self.left - width - size
        page.row(words, near, baseline, self.font, size, self.ink, limit, 1.0 if leftward else 0.0)
        self.y += self.step * size / self.size

    def _items(self) -> None:
        rng = self.rng
        counted, coded = rng.random() < 0.5, rng.random() < 0.3
        for _ in range(int(rng.integers(2, 11))):
            if self.y + self.step > self.page.height - self.size:
                return
            words = self._words(3)
            if counted:
                words.insert(0, str(rng.integers(1, 10)) + ("x" if rng.random() < 0.3 else ""))
            if coded and rng.random() < 0.8:
                # The class of tax stands alone at the edge.
                code = "ABT*"[int(rng.integers(4))]
                right, baseline = self.right, self.y + 0.8 * self.size
                self.page.put(code, right, baseline, self.font, self.size, self.ink, 1.0)
                self.right -= 1.5 * self.size
                self._pair(words, self._amount())
                self.right = right
            else:
                self._pair(words, self._amount())
            if rng.random() < 0.15:
                self._line([str(rng.integers(1, 9)), "x", self._amount()])

    def _facts(self) -> None:
        """Names and numbers: till, operator, table."""
        for _ in range(int(self.rng.integers(1, 4))):
            words = self._words(2)
            number = str(self.rng.integers(1, 10 ** int(self.rng.integers(1, 7))))
            if self.rng.random() < 0.5:
                self._pair(words, number)
            else:
                self._line([*words, number])

    def _totals(self) -> None:
        rng = self.rng
        for _ in range(int(rng.integers(1, 4))):
            self._pair(self._words(2), self._amount())
        self._pair(self._words(1), self._amount(), self.size * rng.uniform(1.0, 1.7))

    def _separator(self) -> None:
        """Dashes, stars or a line, which are no words."""
        rng, page = self.rng, self.page
        y, size = self.y + 0.4 * self.size, self.size
        kind = int(rng.integers(3))
        if kind == 0:
            page.rule(self.left, y, self.right, y, self.ink)
        else:
            x = self.left
            while x + 0.4 * size < self.right:
                page.rule(x, y, x + 0.38 * size, y, self.ink, max(1, round(0.08 * size)))
                if kind == 2:
                    page.rule(
                        x, y + 0.25 * size, x + 0.38 * size, y + 0.25 * size, self.ink, max(1, round(0.08 * size))
                    )
                x += 0.6 * size
        self.y += 0.9 * size

    def _foot(self) -> None:
        """Thanks, and a printed code."""
        rng, page = self.rng, self.page
        for _ in range(int(rng.integers(1, 3))):
            self._line(self._words(4), 0.5)
        kind = rng.random()
        if kind < 0.6 and self.y + 4 * self.size < page.height:
            tall, wide = int(rng.uniform(2, 3.2) * self.size), int(0.75 * page.width)
            if kind < 0.2:
                tall = wide = min(int(0.4 * page.width), int(page.height - self.y - self.size))
                colour, _ = mosaic(tall, wide, rng)
            else:
                colour, _ = barcode(tall, wide, rng)
            if tall < 8:
                return
            grey = (colour.mean(axis=2) > colour.mean())[:, :, None]
            left, top = (page.width - wide) // 2, int(self.y)
            page.image[top : top + tall, left : left + wide] = np.where(grey, page.image[0, 0], self.ink).astype(
                np.uint8
            )
            self.y += tall + 0.4 * self.size
            if kind >= 0.2 and rng.random() < 0.6:
                self._line(["".join(str(d) for d in rng.integers(0, 10, size=12))], 0.5)
