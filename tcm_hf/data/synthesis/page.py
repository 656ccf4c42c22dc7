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
"""A flat page that words are written on one by one, each with its outline; what scanned, photographed and screen pages
share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from .clutter import draw_mark, int_tone
from .text_layout import as_drawn, draw_word, word_outlines
from .text_paint import LUMA
from .writer import Writer, is_readable, space


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


Color: TypeAlias = "tuple[float, float, float] | np.ndarray"


@dataclass
class Page:
    """
    An image with words.

    Args:
        image (`np.ndarray`): RGB uint8 of shape (height, width, 3); drawn to in place.
        writer (`Writer`): words and fonts.
        margin (`float`, *optional*, defaults to 0.09): distance of an outline from the ink, as a share of its height.
        most (`int`, *optional*, defaults to 400): words that it takes; later ones are left out.
        silent (`bool`, *optional*, defaults to `False`): leave all words out, and keep what is drawn besides them.
    """

    image: np.ndarray
    writer: Writer
    margin: float = 0.09
    most: int = 400
    silent: bool = False
    texts: list[str] = field(default_factory=list)
    ems: list[float] = field(default_factory=list)
    contrasts: list[float] = field(default_factory=list)
    rects: list[tuple[int, int, int, int]] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def __post_init__(self):
        self.height, self.width = self.image.shape[:2]
        self._taken = np.zeros(self.image.shape[:2], np.uint8)

    # ------------------------------------------------------------------------------------------------ words

    def stamp(
        self, mask: np.ndarray, left: int, top: int, text: str, color: Color, em: float, turn: int = 0, effect=None
    ) -> bool:
        """
        Puts ink on the page, unless it would touch another word's.

        Args:
            mask (`np.ndarray`): its coverage, uint8, cut to the ink.
            left (`int`): where its left edge comes to lie.
            top (`int`): where its upper edge comes to lie.
            text (`str`): what it says.
            color (`tuple[float, float, float]`): RGB.
            em (`float`): the size of its font in pixels.
            turn (`int`, *optional*, defaults to 0): by how many quarters, counterclockwise, the mask has been turned.
            effect (*optional*): a function (page, mask, left, top) that paints below the ink, such as a shadow.

        Returns:
            `bool`: whether it has been drawn.
        """
        rows, columns = mask.shape
        right, bottom = left + columns, top + rows
        if self.silent or len(self.texts) >= self.most or not self._on_page(left, top, right, bottom):
            return False
        if self._taken[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1].any():
            return False
        inside = (max(0, left), max(0, top), min(self.width, right), min(self.height, bottom))
        mask = mask[inside[1] - top : inside[3] - top, inside[0] - left : inside[2] - left]
        if effect is not None:
            effect(self, mask, inside[0], inside[1])
        region = self.image[inside[1] : inside[3], inside[0] : inside[2]]
        tone = np.asarray(color, dtype=np.float32)
        # Thin strokes cover their pixels only in part, which costs contrast: what four fifths of them cover at most counts.
        strokes = mask[mask > 32]
        strokes = strokes[:: max(1, strokes.size // 512)]
        coverage = (
            float(np.partition(strokes, int(0.8 * (strokes.size - 1)))[int(0.8 * (strokes.size - 1))])
            if strokes.size
            else 25.0
        )
        self.contrasts.append(abs(float(tone @ LUMA) - float(cv2.mean(region)[:3] @ LUMA)) * coverage / 255)
        blend(region, mask, tone)
        self._taken[inside[1] : inside[3], inside[0] : inside[2]] = 1
        self.rects.append((left, top, right, bottom))
        self.texts.append(text)
        self.ems.append(em)
        self.turns.append(turn)
        return True

    def put(
        self, text: str, x: float, baseline: float, font: str | None, size: float, color: Color, anchor: float = 0.0,
        tracking: float = 0.0, effect=None,
    ) -> float:  # fmt: skip
        """
        Writes one word.

        Args:
            text (`str`): the word.
            x (`float`): where it starts.
            baseline (`float`): its baseline.
            font (`str` or `None`): a font file.
            size (`float`): in pixels an em.
            color (`tuple[float, float, float]`): RGB.
            anchor (`float`, *optional*, defaults to 0.0): the share of the word that lies left of `x`.
            tracking (`float`, *optional*, defaults to 0.0): extra distance of letters in pixels.
            effect (*optional*): as for [`stamp`].

        Returns:
            `float`: the word's width, drawn or not. Of a word, what the font lacks is left out.
        """
        text = self.writer.layouter.fitting(text, font)
        if not text:
            return 0.0
        loaded = self.writer.load(font, size)
        shaped = as_drawn(text) if not self.writer.shaping else text
        if self.writer.shaping:
            tracking = 0.0
        width = loaded.getlength(shaped) + tracking * (len(text) - 1)
        left = x - anchor * width
        if not self.silent and left < self.width and left + width > 0:
            mask, ink_left, ink_top = draw_word(shaped, loaded, tracking)
            self.stamp(mask, round(left) + ink_left, round(baseline) + ink_top, text, color, loaded.size, 0, effect)
        return width

    def row(
        self, words: list[str], x: float, baseline: float, font: str | None, size: float, color: Color,
        limit: float = math.inf, anchor: float = 0.0, tracking: float = 0.0, effect=None,
    ) -> float:  # fmt: skip
        """
        Writes words side by side, in the script's direction, as many as fit.

        Args:
            words (`list[str]`): in the order in which they are read.
            x (`float`): where they start, for `anchor` 0.
            limit (`float`, *optional*): their width at most.
            anchor (`float`, *optional*, defaults to 0.0): the share of the row that lies left of `x`.

        The other arguments are those of [`put`].

        Returns:
            `float`: the width of what fits.
        """
        loaded = self.writer.load(font, size)
        words = [fitting for word in words if (fitting := self.writer.layouter.fitting(word, font))]
        gap = space(loaded) + 1.5 * max(0.0, tracking)
        lengths, total = [], 0.0
        for word in words:
            length = loaded.getlength(word) + tracking * (len(word) - 1)
            if total + length > limit:
                break
            lengths.append(length)
            total += length + gap
        total = max(0.0, total - gap)
        at = x - anchor * total
        order = list(zip(words, lengths))
        for word, length in reversed(order) if self.writer.description.leftward else order:
            self.put(word, at, baseline, font, size, color, 0.0, tracking, effect)
            at += length + gap
        return total

    def paragraph(
        self, box: tuple[float, float, float, float], font: str | None, size: float, color: Color, step: float,
        rng: np.random.Generator, justified: bool = False, lines: int = 1000, indent: float = 0.0,
    ) -> float:  # fmt: skip
        """
        Fills a box with running text.

        Args:
            box (`tuple[float, float, float, float]`): left, top, right and bottom.
            font (`str` or `None`): a font file.
            size (`float`): in pixels an em.
            color (`tuple[float, float, float]`): RGB.
            step (`float`): from baseline to baseline.
            rng (`np.random.Generator`): the source of randomness.
            justified (`bool`, *optional*, defaults to `False`): lines fill the width.
            lines (`int`, *optional*, defaults to 1000): how many at most.
            indent (`float`, *optional*, defaults to 0.0): of the first line.

        Returns:
            `float`: the lower end of the last line.
        """
        left, top, right, bottom = box
        leftward = self.writer.description.leftward
        gap = space(self.writer.load(font, size))
        baseline = top + 0.8 * size
        for number in range(lines):
            if baseline + 0.25 * size > bottom or baseline - size > self.height:
                break
            start = left + (indent if number == 0 and not leftward else 0.0)
            last = number == lines - 1 or baseline + step + 0.25 * size > bottom
            width = (right - start) * (rng.uniform(0.3, 1.0) if last else 1.0)
            if len(self.texts) < self.most and not self.silent:
                found = self.writer.line(font, size, width, rng)
                extra = right - start - sum(length for _, length in found) - gap * (len(found) - 1)
                spread = extra / (len(found) - 1) if justified and not last and len(found) > 2 else 0.0
                x = right if leftward else start
                for text, length in found:
                    self.put(text, x, baseline, font, size, color, 1.0 if leftward else 0.0)
                    x += (-1 if leftward else 1) * (length + gap + spread)
            baseline += step
        return baseline - step + 0.25 * size

    def turned(self, text: str, x: float, y: float, font: str | None, size: float, color: Color, turn: int) -> int:
        """Writes a text turned by quarters counterclockwise, its ink centerd on a point; returns its length in pixels."""
        text = self.writer.layouter.fitting(text, font)
        if not text:
            return 0
        loaded = self.writer.load(font, size)
        mask, _, _ = draw_word(text if self.writer.shaping else as_drawn(text), loaded)
        mask = np.ascontiguousarray(np.rot90(mask, turn))
        self.stamp(mask, round(x - mask.shape[1] / 2), round(y - mask.shape[0] / 2), text, color, loaded.size, turn)
        return max(mask.shape)

    def column(
        self, text: str, x: float, top: float, font: str | None, size: float, color: Color, pitch: float
    ) -> float:
        """
        Writes a text from the top, its letters upright and centerd on x, `pitch` pixels from one to the next.

        Returns:
            `float`: its lower end.
        """
        text = self.writer.layouter.fitting(text, font)
        if not text:
            return top
        loaded = self.writer.load(font, size)
        em = loaded.size
        rows = round(pitch * (len(text) - 1) + 1.5 * em)
        canvas = np.zeros((rows, 2 * em), np.uint8)
        for number, character in enumerate(text):
            mask, ink_left, ink_top = draw_word(character, loaded)
            across = round(em - loaded.getlength(character) / 2) + ink_left
            down = round(pitch * number + 0.95 * em) + ink_top
            down, across = max(0, down), max(0, across)
            view = canvas[down : down + mask.shape[0], across : across + mask.shape[1]]
            np.maximum(view, mask[: view.shape[0], : view.shape[1]], out=view)
        left, above, width, height = cv2.boundingRect((canvas > 100).astype(np.uint8))
        if width and height:
            cut = canvas[above : above + height, left : left + width]
            self.stamp(cut, round(x - em) + left, round(top) + above, text, color, em)
        return top + pitch * len(text)

    def outlines(self) -> np.ndarray:
        """The words' outlines with their margin: float32 of shape (k, 4, 2), from the top left of each word as it reads."""
        if not self.rects:
            return np.zeros((0, 4, 2), np.float32)
        rects, ems = np.array(self.rects, dtype=np.float64), np.array(self.ems)
        # Columns and turned words are higher than their lines.
        quads = word_outlines(rects, ems, self.margin, np.minimum(rects[:, 3] - rects[:, 1], ems))
        # Turned counterclockwise, a word begins at what is the lower left of its rectangle.
        return np.array([np.roll(quad, turn, axis=0) for quad, turn in zip(quads, self.turns)], dtype=np.float32)

    @property
    def ignore(self) -> list[bool]:
        """Texts that are no words, such as a dash."""
        return [not is_readable(text) for text in self.texts]

    def free(self, left: float, top: float, right: float, bottom: float) -> bool:
        """Whether no word has been written in a rectangle."""
        return not self._taken[max(0, int(top)) : max(0, int(bottom)), max(0, int(left)) : max(0, int(right))].any()

    def _on_page(self, left: int, top: int, right: int, bottom: int) -> bool:
        # An image may show a part of a page and cut its words; the page itself has none over its edge.
        return (
            left >= 0 and top >= 0 and right <= self.width and bottom <= self.height and right > left and bottom > top
        )

    # ------------------------------------------------------------------------------------------------ the rest

    def box(
        self, left: float, top: float, right: float, bottom: float, color: Color, radius: float = 0, line: int = 0
    ):
        """A filled (`line` 0) or outlined rectangle with corners of a radius."""
        left, top, right, bottom = (int(v) for v in (left, top, right, bottom))
        if right - left < 2 or bottom - top < 2:
            return
        tone = _tone(color)
        radius = int(min(radius, (right - left) / 2, (bottom - top) / 2))
        if radius < 2:
            cv2.rectangle(self.image, (left, top), (right - 1, bottom - 1), tone, line or -1)
            return
        angles = np.linspace(0, math.pi / 2, 6)
        arc = radius * (1 - np.column_stack([np.cos(angles), np.sin(angles)]))
        x, y = arc[:, 0], arc[:, 1]
        points = np.concatenate([
            np.column_stack([left + x, top + y]), np.column_stack([right - 1 - x, top + y])[::-1],
            np.column_stack([right - 1 - x, bottom - 1 - y]), np.column_stack([left + x, bottom - 1 - y])[::-1],
        ])  # fmt: skip
        outline = [np.rint(points).astype(np.int32)]
        if line:
            cv2.polylines(self.image, outline, True, tone, line, cv2.LINE_AA)
        else:
            cv2.fillPoly(self.image, outline, tone, cv2.LINE_AA)

    def rule(self, x0: float, y0: float, x1: float, y1: float, color: Color, line: int = 1):
        """A straight line."""
        cv2.line(self.image, (int(x0), int(y0)), (int(x1), int(y1)), _tone(color), line, cv2.LINE_AA)

    def icon(self, x: float, y: float, radius: float, color: Color, ground: Color, rng: np.random.Generator):
        """A pictogram that is no letter."""
        if rng.random() < 0.5:
            draw_mark(self.image, (x, y), radius, _tone(color), _tone(ground), rng)
            return
        tone, r, line = _tone(color), radius * 0.8, max(1, round(radius * 0.16))
        kind = int(rng.integers(5))
        if kind == 0:  # three bars: a menu
            for shift in (-0.6, 0, 0.6):
                self.rule(x - r, y + shift * r, x + r, y + shift * r, color, line)
        elif kind == 1:  # a magnifying glass
            cv2.circle(self.image, (int(x - 0.2 * r), int(y - 0.2 * r)), max(1, int(0.6 * r)), tone, line, cv2.LINE_AA)
            self.rule(x + 0.25 * r, y + 0.25 * r, x + r, y + r, color, line)
        elif kind == 2:  # a gear
            for angle in np.arange(8) * math.pi / 4:
                c, s = math.cos(angle), math.sin(angle)
                self.rule(x + 0.6 * r * c, y + 0.6 * r * s, x + r * c, y + r * s, color, 2 * line)
            cv2.circle(self.image, (int(x), int(y)), max(1, int(0.6 * r)), tone, 2 * line, cv2.LINE_AA)
        elif kind == 3:  # a house
            points = np.array([[-1, 0], [0, -1], [1, 0], [0.7, 0], [0.7, 0.9], [-0.7, 0.9], [-0.7, 0]]) * r + (x, y)
            cv2.polylines(self.image, [points.astype(np.int32)], True, tone, line, cv2.LINE_AA)
        else:  # an image, or a folder
            self.box(x - r, y - 0.75 * r, x + r, y + 0.75 * r, color, 0.2 * r, line)
            points = np.array([[-0.8, 0.6], [-0.2, -0.2], [0.2, 0.3], [0.5, 0], [0.85, 0.6]]) * r + (x, y)
            cv2.fillPoly(self.image, [points.astype(np.int32)], tone, cv2.LINE_AA)


def blend(region: np.ndarray, mask: np.ndarray, color: np.ndarray) -> None:
    """Paints a color where a mask, uint8, says, in place."""
    part = mask.astype(np.float32)[:, :, None] * (1 / 255)
    region[:] = region + part * (color - region) + 0.5


def _tone(color: Color) -> tuple[int, int, int]:
    return int_tone(np.clip(color, 0, 255))
