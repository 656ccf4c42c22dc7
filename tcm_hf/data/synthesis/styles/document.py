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
"""Pages of documents: columns, headings, lists, tables, forms, figures, page numbers."""

from __future__ import annotations

import math

import numpy as np

from ..clutter import apply_texture, random_patch
from ..page import Page
from ..writer import Writer, leading


def draw_document(shape: tuple[int, int], writer: Writer, rng: np.random.Generator, least: float, **settings) -> Page:
    """
    Draws a page.

    Args:
        shape (`tuple[int, int]`): height and width of the image in pixels; the page can be larger or smaller.
        writer (`Writer`): words and fonts.
        rng (`np.random.Generator`): the source of randomness.
        least (`float`): least height of capitals in pixels.
        settings: further arguments of `Page`.

    Returns:
        `Page`: the page.
    """
    height, width = (int(side * rng.uniform(0.85, 1.25)) for side in shape)
    dark = rng.random() < 0.06
    paper = np.clip(rng.uniform(225, 255) + rng.normal(0, 4, size=3), 0, 255)
    if rng.random() < 0.15:
        paper = np.clip(np.array([rng.uniform(215, 250), rng.uniform(205, 240), rng.uniform(160, 225)]), 0, 255)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = 255 - 0.9 * paper if dark else paper
    if rng.random() < 0.6:
        image = apply_texture(image, rng.uniform(0.01, 0.08), rng)
    page = Page(image, writer, **settings)
    ink = np.clip(rng.uniform(0, 70) + rng.normal(0, 6, size=3), 0, 255)
    ink = 255 - ink if dark else ink
    sheet = _Sheet(page, writer, rng, ink, least)
    sheet.fill()
    return page


class _Sheet:
    """What stays the same over a page: fonts, sizes, colors, columns."""

    def __init__(self, page: Page, writer: Writer, rng: np.random.Generator, ink: np.ndarray, least: float):
        self.page, self.writer, self.rng, self.ink = page, writer, rng, ink
        smallest = max(9.0, least / 0.7)
        side = min(page.height, page.width)
        self.size = math.exp(rng.uniform(math.log(smallest), math.log(max(1.3 * smallest, 0.055 * side))))
        self.font = writer.font(rng, "text" if rng.random() < 0.9 else "any")
        self.heading_font = (
            self.font if rng.random() < 0.4 else writer.font(rng, "text" if rng.random() < 0.7 else "any")
        )
        self.accent = (
            ink if rng.random() < 0.6 else np.array([rng.uniform(0, 170), rng.uniform(0, 90), rng.uniform(0, 170)])
        )
        if ink.mean() > 128:
            self.accent = 255 - 0.6 * self.accent
        self.step = (
            self.size
            * leading(self.font, writer.shaping)
            * (rng.uniform(1.0, 1.25) if rng.random() < 0.8 else rng.uniform(1.25, 1.8))
        )
        self.justified = rng.random() < 0.5
        self.indent = rng.choice([0.0, 1.5]) * self.size

    def fill(self) -> None:
        page, rng, size = self.page, self.rng, self.size
        margin = min(rng.uniform(1.0, 4.0) * size, 0.14 * page.width)
        top, bottom = rng.uniform(0.8, 3.0) * size, page.height - rng.uniform(0.8, 2.5) * size
        if rng.random() < 0.4:
            top = self._header(margin, top)
        if rng.random() < 0.5:
            bottom = self._footer(margin, bottom)
        letters = (page.width - 2 * margin) / (0.5 * size)
        most = 1 if letters < 50 else 2 if letters < 90 else 3
        count = int(rng.integers(1, most + 1))
        gutter = rng.uniform(1.2, 2.5) * size
        column = (page.width - 2 * margin - (count - 1) * gutter) / count
        if rng.random() < 0.35:
            top = self._title(margin, top, page.width - margin)
        ruled = count > 1 and rng.random() < 0.25
        for number in range(count):
            left = margin + number * (column + gutter)
            if ruled and number:
                page.rule(left - gutter / 2, top, left - gutter / 2, bottom, self.ink)
            self._column(left, top, left + column, bottom)

    def _header(self, margin: float, top: float) -> float:
        page, rng = self.page, self.rng
        size = 0.9 * self.size
        words = self.writer.phrase(self.font, rng, 4)
        page.row(words, margin, top + size, self.font, size, self.ink, 0.5 * page.width)
        if rng.random() < 0.6:
            page.put(str(rng.integers(1, 400)), page.width - margin, top + size, self.font, size, self.ink, 1.0)
        if rng.random() < 0.5:
            page.rule(margin, top + 1.5 * size, page.width - margin, top + 1.5 * size, self.ink)
        return top + 2.6 * size

    def _footer(self, margin: float, bottom: float) -> float:
        page, rng = self.page, self.rng
        text = str(rng.integers(1, 400))
        kind = rng.random()
        if kind < 0.2:
            text = f"-{text}-"
        x, anchor = (
            (page.width / 2, 0.5) if kind < 0.6 else (page.width - margin, 1.0) if kind < 0.8 else (margin, 0.0)
        )
        page.put(text, x, bottom - 0.2 * self.size, self.font, 0.95 * self.size, self.ink, anchor)
        return bottom - 2.0 * self.size

    def _title(self, left: float, top: float, right: float) -> float:
        rng = self.rng
        size = self.size * rng.uniform(1.6, 3.5)
        anchor = float(rng.choice([0.0, 0.5]))
        x = left + anchor * (right - left)
        upper = rng.random() < 0.3
        step = size * leading(self.heading_font, self.writer.shaping)
        for _ in range(int(rng.integers(1, 3))):
            words = self.writer.phrase(self.heading_font, rng, 5)
            words = [w.upper() for w in words] if upper else words
            self.page.row(words, x, top + 0.9 * size, self.heading_font, size, self.accent, right - left, anchor)
            top += step
        return top + rng.uniform(0.3, 1.5) * self.size

    def _column(self, left: float, top: float, right: float, bottom: float) -> None:
        rng, size = self.rng, self.size
        y = top
        while y + 1.5 * size < bottom:
            kind = rng.random()
            if kind < 0.46:
                lines = int(rng.integers(2, 13))
                y = self.page.paragraph(
                    (left, y, right, bottom),
                    self.font,
                    size,
                    self.ink,
                    self.step,
                    rng,
                    self.justified,
                    lines,
                    self.indent,
                )
                y += rng.uniform(0.2, 1.2) * size
            elif kind < 0.62:
                y = self._heading(left, y, right)
            elif kind < 0.74:
                y = self._list(left, y, right, bottom)
            elif kind < 0.86:
                y = self._table(left, y, right, bottom)
            elif kind < 0.93:
                y = self._form(left, y, right, bottom)
            else:
                y = self._figure(left, y, right, bottom)

    def _heading(self, left: float, y: float, right: float) -> float:
        rng = self.rng
        size = self.size * rng.uniform(1.0, 1.7)
        words = self.writer.phrase(self.heading_font, rng, 6)
        if rng.random() < 0.35:
            words = (
                [f"{rng.integers(1, 12)}.", *words]
                if rng.random() < 0.6
                else [self.writer.single(self.heading_font, rng), *words]
            )
        anchor = 0.0 if rng.random() < 0.8 else 0.5
        if self.writer.description.leftward and not anchor:
            anchor = 1.0
        y += 0.5 * self.size
        x = left + anchor * (right - left)
        width = self.page.row(words, x, y + 0.85 * size, self.heading_font, size, self.accent, right - left, anchor)
        if rng.random() < 0.15:
            x -= anchor * width
            self.page.rule(x, y + 1.2 * size, x + width, y + 1.2 * size, self.accent, max(1, round(0.07 * size)))
        return y + size * leading(self.heading_font, self.writer.shaping) + 0.2 * self.size

    def _list(self, left: float, y: float, right: float, bottom: float) -> float:
        page, rng, size = self.page, self.rng, self.size
        kind = int(rng.integers(4))
        indent = rng.uniform(1.4, 2.4) * size
        leftward = self.writer.description.leftward
        for number in range(int(rng.integers(2, 7))):
            if y + 1.3 * size > bottom:
                break
            x = right if leftward else left
            if kind == 0:
                r = 0.16 * size
                centre = x + (-1 if leftward else 1) * 0.5 * size
                page.box(centre - r, y + 0.55 * size - r, centre + r, y + 0.55 * size + r, self.ink, r)
            else:
                label = f"{number + 1}." if kind == 1 else f"{'abcdefg'[number]})" if kind == 2 else "ABCDEFG"[number]
                page.put(label, x, y + 0.8 * size, self.font, size, self.ink, float(leftward))
            box = (left, y, right - indent, bottom) if leftward else (left + indent, y, right, bottom)
            lines = 1 + int(rng.random() < 0.3)
            y = page.paragraph(box, self.font, size, self.ink, self.step, rng, lines=lines)
            y += self.step - self.size
        return y + 0.3 * size

    def _table(self, left: float, y: float, right: float, bottom: float) -> float:
        page, rng, writer = self.page, self.rng, self.writer
        size = self.size * rng.uniform(0.85, 1.0)
        step = size * leading(self.font, writer.shaping) * rng.uniform(1.05, 1.9)
        columns = int(np.clip((right - left) / (size * rng.uniform(3, 7)), 2, 8))
        rows = min(int(rng.integers(2, 11)), int((bottom - y) / step))
        if rows < 2:
            return bottom
        shares = np.concatenate([[0.0], np.cumsum(rng.uniform(0.6, 1.6, size=columns))])
        edges = left + shares / shares[-1] * (right - left)
        lines, head = rng.random(), rng.random()
        if head < 0.4:
            tone = self.accent * 0.35 + 165 if self.ink.mean() < 128 else self.accent * 0.4
            page.box(left, y, right, y + step, tone)
        if 0.7 < lines < 0.85:
            for row in range(1, rows, 2):
                shade = self.page.image[min(page.height - 1, int(y)), int(left)].astype(float)
                page.box(left, y + row * step, right, y + (row + 1) * step, shade * 0.92 + 4)
        kinds = rng.choice(4, size=columns, p=[0.35, 0.3, 0.2, 0.15])
        if lines < 0.7:
            for row in range(rows + 1):
                page.rule(left, y + row * step, right, y + row * step, self.ink)
        if lines < 0.45:
            for edge in edges:
                page.rule(edge, y, edge, y + rows * step, self.ink)
        for row in range(rows):
            baseline = y + (row + 0.5) * step + 0.33 * size
            for column in range(columns):
                x0, x1 = edges[column] + 0.35 * size, edges[column + 1] - 0.35 * size
                if x1 - x0 < 0.5 * size or rng.random() < 0.05:
                    continue
                kind = kinds[column]
                if row == 0 or kind == 0:
                    page.row(writer.phrase(self.font, rng, 3), x0, baseline, self.font, size, self.ink, x1 - x0)
                    continue
                text = writer.single(self.font, rng) if kind == 2 else writer.number(self.font, rng)
                if kind == 3:
                    text = writer.price(self.font, rng)
                anchor = 1.0 if kind in (1, 3) else 0.5
                page.row([text], x0 + anchor * (x1 - x0), baseline, self.font, size, self.ink, x1 - x0, anchor)
        return y + rows * step + 0.8 * self.size

    def _form(self, left: float, y: float, right: float, bottom: float) -> float:
        """Labels with lines, boxes and check boxes to fill in."""
        page, rng, size = self.page, self.rng, self.size
        step = max(self.step * rng.uniform(1.1, 1.7), 1.5 * size)
        for _ in range(int(rng.integers(2, 6))):
            if y + step > bottom:
                break
            baseline = y + 0.6 * step + 0.25 * size
            x = left
            if rng.random() < 0.3:
                side = 0.75 * size
                page.box(x, baseline - side, x + side, baseline, self.ink, 0, max(1, round(0.06 * size)))
                if rng.random() < 0.4:
                    page.rule(x + 2, baseline - 0.5 * side, x + 0.4 * side, baseline - 3, self.ink, 2)
                    page.rule(x + 0.4 * side, baseline - 3, x + side, baseline - side, self.ink, 2)
                x += 1.4 * size
                page.row(self.writer.phrase(self.font, rng, 5), x, baseline, self.font, size, self.ink, right - x)
            else:
                words = self.writer.phrase(self.font, rng, 3)
                if self.writer.description.spaced:
                    words[-1] += ":"
                x += page.row(words, x, baseline, self.font, size, self.ink, 0.6 * (right - left)) + 0.6 * size
                if rng.random() < 0.5:
                    page.rule(x, baseline + 0.2 * size, right, baseline + 0.2 * size, self.ink)
                else:
                    page.box(x, baseline - 0.95 * size, right, baseline + 0.35 * size, self.ink, 0, 1)
                if rng.random() < 0.5:
                    words = self.writer.phrase(self.font, rng, 3)
                    page.row(words, x + 0.4 * size, baseline, self.font, size, self.ink, right - x - 0.8 * size)
            y += step
        return y + 0.4 * size

    def _figure(self, left: float, y: float, right: float, bottom: float) -> float:
        """An image or a chart, with a caption."""
        page, rng, size = self.page, self.rng, self.size
        height = min((right - left) * rng.uniform(0.25, 0.7), bottom - y - 2.5 * size)
        if height < 3 * size:
            return bottom
        box = tuple(int(v) for v in (left, y, right, y + height))
        if rng.random() < 0.5:
            colour, _ = random_patch(box[3] - box[1], box[2] - box[0], rng)
            view = page.image[box[1] : box[3], box[0] : box[2]]
            view[:] = colour[: view.shape[0], : view.shape[1]]
        else:
            self._chart(*box)
        words = self.writer.phrase(self.font, rng, 6)
        words = [f"{rng.integers(1, 10)}.", *words] if rng.random() < 0.5 else words
        caption = y + height + 1.1 * size
        page.row(words, (left + right) / 2, caption, self.font, 0.9 * size, self.ink, right - left, 0.5)
        return y + height + 2.4 * size

    def _chart(self, left: int, top: int, right: int, bottom: int) -> None:
        page, rng = self.page, self.rng
        size = 0.85 * self.size
        x0, y1 = left + 2.5 * size, bottom - 1.5 * size
        page.rule(x0, top, x0, y1, self.ink)
        page.rule(x0, y1, right, y1, self.ink)
        count = int(rng.integers(3, 9))
        values = rng.uniform(0.1, 0.95, size=count)
        step = (right - x0) / count
        for number, value in enumerate(values):
            x, y = x0 + (number + 0.5) * step, y1 - value * (y1 - top)
            if number and count > 5:
                page.rule(x - step, y1 - values[number - 1] * (y1 - top), x, y, self.accent, 2)
            elif count <= 5:
                page.box(x - 0.3 * step, y, x + 0.3 * step, y1, self.accent)
            label = str(number + 1) if rng.random() < 0.6 else self.writer.single(self.font, rng)
            page.put(label, x, bottom - 0.3 * size, self.font, size, self.ink, 0.5)
        for share in (0.25, 0.5, 0.75, 1.0):
            y = y1 - share * (y1 - top) * 0.95
            page.put(str(round(40 * share)), x0 - 0.4 * size, y + 0.35 * size, self.font, size, self.ink, 1.0)
