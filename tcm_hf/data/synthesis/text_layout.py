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
"""Flat layouts of rendered words: single words, lines, signs, running text, price lists, stacked letters; and the bends
that turn a flat layout into an arc or a wave."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from .fonts import FontLibrary, has_glyph, load_font
from .words import random_price, random_word, running_word, script_of


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


# Capitals are about 0.7 em high.
CAPITAL = 0.7
# Points of one long side of a bent word's outline.
CURVE_POINTS = 7
# Coverage, of 255, below which a word counts as not drawn, and the size in pixels from which a font is expected to draw
# whatever it has.
_FAINTEST = 8
_SURE_SIZE = 256
_SEPARATORS = ("&", "-", "•", "|", "/", "+")


@dataclass
class Bend:
    """
    A map of the plane that bends straight lines of text; it is applied before the perspective.

    Args:
        kind (`str`): `"arc"` or `"wave"`.
        center (`tuple[float, float]`): the point of the flat layout that stays where it is.
        radius (`float`, *optional*, defaults to 0.0):
            Of the arc's baseline in pixels; above 0 the middle of the line is its highest point, below 0 its lowest.
        amplitude (`float`, *optional*, defaults to 0.0): of the wave, in pixels.
        length (`float`, *optional*, defaults to 1.0): of the wave, in pixels.
        phase (`float`, *optional*, defaults to 0.0): of the wave at the center, in radians.
    """

    kind: str
    center: tuple[float, float]
    radius: float = 0.0
    amplitude: float = 0.0
    length: float = 1.0
    phase: float = 0.0

    def forward(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where points of the flat layout come to lie."""
        u, v = x - self.center[0], y - self.center[1]
        if self.kind == "arc":
            angle, reach = u / self.radius, self.radius - v
            return reach * np.sin(angle) + self.center[0], self.radius - reach * np.cos(angle) + self.center[1]
        return x, y + self._lift(u)

    def inverse(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which points of the flat layout come to lie at the given ones."""
        u, v = x - self.center[0], y - self.center[1]
        if self.kind == "arc":
            sign = math.copysign(1.0, self.radius)
            reach = sign * np.hypot(u, self.radius - v)
            angle = np.arctan2(sign * u, sign * (self.radius - v))
            return self.radius * angle + self.center[0], self.radius - reach + self.center[1]
        return x, y - self._lift(u)

    def _lift(self, u: np.ndarray) -> np.ndarray:
        return self.amplitude * (np.sin(2 * math.pi * u / self.length + self.phase) - math.sin(self.phase))


@dataclass
class TextBlock:
    """
    Words drawn flat, at about the size they will be shown.

    Args:
        masks (`list[np.ndarray]`): coverage by ink, uint8 of shape (height, width), for each of one or two inks.
        boxes (`np.ndarray` of shape (k, 4, 2)): outlines of the words with their margin, in pixels of the masks.
        texts (`list[str]`): the words.
        inks (`list[int]`): which mask each word is in.
        ignore (`list[bool]`): words that are no words, such as "&".
        heights (`list[float]`): of the capitals of each word's line in pixels.
        text_height (`float`): of the capitals of the largest line in pixels.
        bend (`Bend`, *optional*): how to bend the layout.
        rules (`list[tuple[int, int, int, int]]`): rectangles (left, top, right, bottom) of underlines and leaders.
    """

    masks: list[np.ndarray]
    boxes: np.ndarray
    texts: list[str]
    inks: list[int]
    ignore: list[bool]
    heights: list[float]
    text_height: float
    bend: Bend | None = None
    rules: list[tuple[int, int, int, int]] = field(default_factory=list)

    @property
    def ink_box(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners (low, high) of the rectangle around all outlines."""
        points = self.boxes.reshape(-1, 2)
        return points.min(axis=0), points.max(axis=0)

    def shrink(self, factor: float) -> TextBlock:
        """The same block drawn smaller (`factor` below 1), averaged so that no stroke breaks up."""
        rows, columns = self.masks[0].shape
        small = (max(1, round(columns * factor)), max(1, round(rows * factor)))
        ratio = np.array([small[0] / columns, small[1] / rows])
        bend = self.bend
        if bend is not None:
            center = (bend.center[0] * ratio[0], bend.center[1] * ratio[1])
            bend = Bend(
                bend.kind, center, bend.radius * factor, bend.amplitude * factor, bend.length * factor, bend.phase
            )
        return TextBlock(
            [cv2.resize(mask, small, interpolation=cv2.INTER_AREA) for mask in self.masks],
            (self.boxes * ratio).astype(np.float32),
            self.texts,
            self.inks,
            self.ignore,
            [height * factor for height in self.heights],
            self.text_height * factor,
            bend,
            [
                (round(left * factor), round(top * factor), round(right * factor), round(bottom * factor))
                for left, top, right, bottom in self.rules
            ],
        )


@dataclass
class _Line:
    """One line to draw: `height` of its capitals in pixels shown; `columns` stretches the last gap to the full width."""

    words: list[str]
    font: str | None
    height: float
    ink: int = 0
    columns: bool = False


class TextLayouter:
    """
    Draws random blocks of words.

    Args:
        library (`FontLibrary`): where fonts come from.
        words (`Sequence[str]`, *optional*): see [`~tcm_hf.data.synthesis.words.random_word`].
        script (`str`, *optional*, defaults to `"latin"`): a name of [`~tcm_hf.data.synthesis.words.SCRIPTS`].
        text_height (`tuple[float, float]`, *optional*, defaults to `(8.0, 100.0)`): range of the capitals' height.
        margin (`float`, *optional*, defaults to 0.09): distance of an outline from the ink, as a share of its height.
        curved (`float`, *optional*, defaults to 0.1): chance that a block is a bent word or line.
        bend (`tuple[float, float]`, *optional*, defaults to `(20.0, 200.0)`):
            Range of the angle, in degrees, through which an arc bends a word; log-uniform. A line may go further.
        tiny (`float`, *optional*, defaults to 0.06): chance of a block below the range, down to half its low end.
    """

    def __init__(
        self,
        library: FontLibrary,
        words: Sequence[str] | None = None,
        script: str = "latin",
        text_height: tuple[float, float] = (8.0, 100.0),
        margin: float = 0.09,
        curved: float = 0.1,
        bend: tuple[float, float] = (20.0, 200.0),
        tiny: float = 0.06,
    ):
        self.library = library
        self.words = words
        self.script = script
        script_of(script)
        self.text_height = text_height
        self.margin = margin
        self.curved = curved
        self.bend = bend
        self.tiny = tiny

    def draw(self, most: int, width: int, rng: np.random.Generator) -> TextBlock:
        """
        Draws one block.

        Args:
            most (`int`): most words it may have.
            width (`int`): of the image in pixels; long lines are planned to fit.
            rng (`np.random.Generator`): the source of randomness.

        Returns:
            `TextBlock`: words, flat.
        """
        low, high = (math.log(v) for v in self.text_height)
        height = math.exp(rng.uniform(low, high))
        if rng.random() < self.tiny:
            height = self.text_height[0] * rng.uniform(0.5, 1.0)
        font = self.library.draw(rng)
        bend = rng.random() < self.curved
        # What is bent is a word or a line.
        kind = rng.random() * (0.5 if bend else 1.0)
        stacked = justified = False
        if kind < 0.27 or most == 1:
            lines = [_Line([self.word(font, rng)], font, height)]
        elif kind < 0.50:
            count = min(most, 2 + int(4 * rng.random() ** 1.5))
            lines = [_Line([self.word(font, rng) for _ in range(count)], font, height)]
        elif kind < 0.78:
            lines = self._sign(most, font, height, rng)
        elif kind < 0.90:
            lines = self._paragraph(most, font, height, width, rng)
            justified = rng.random() < 0.2
        elif kind < 0.97 or script_of(self.script).shaping:
            lines = self._menu(most, font, height, rng)
        else:
            lines = [_Line([self.word(font, rng)[:9]], font, height)]
            stacked = True
        self._set_case(lines, rng)
        block = self._render(lines, stacked, justified, rng)
        if bend:
            block.bend = _random_bend(block, self.bend, rng)
        return block

    def _sign(self, most: int, font: str | None, height: float, rng: np.random.Generator) -> list[_Line]:
        """Two to four lines of which one may be larger, in another font or another ink."""
        lines, left = [], most
        other = self.library.draw(rng) if rng.random() < 0.35 else font
        varied, two_inks = rng.random() < 0.55, rng.random() < 0.3
        for row in range(int(rng.integers(2, 5))):
            if left <= 0:
                break
            count = min(left, 1 + int(3 * rng.random() ** 1.3))
            left -= count
            factor = math.exp(rng.uniform(-1.0, 0.0)) if varied and row else 1.0
            used = other if row else font
            words = [self.word(used, rng) for _ in range(count)]
            lines.append(
                _Line(words, used, max(factor * height, min(height, self.text_height[0])), int(two_inks and row > 0))
            )
        if rng.random() < 0.4:
            # The large line may as well be the last one.
            lines.reverse()
        return lines

    def _paragraph(
        self, most: int, font: str | None, height: float, width: int, rng: np.random.Generator
    ) -> list[_Line]:
        """Small print, set to a measure."""
        low = self.text_height[0]
        height = min(height, math.exp(rng.uniform(math.log(low), math.log(max(low, min(self.text_height[1], 24.0))))))
        measure = min(rng.uniform(8, 30), 0.85 * width / height)
        lines: list[_Line] = []
        line: list[str] = []
        used = 0.0
        for _ in range(min(most, int(rng.integers(6, 41)))):
            word = self.word(font, rng, running=True)
            length = (0.8 if not script_of(self.script).ideographic else 1.4) * len(word) + 0.4
            if line and used + length > measure:
                lines.append(_Line(line, font, height))
                line, used = [], 0.0
            line.append(word)
            used += length
        lines.append(_Line(line, font, height))
        if rng.random() < 0.35:
            lines[0].ink, lines[0].font = 1, self.library.draw(rng)
            lines[0].words = [self.fitting(word, lines[0].font) or word for word in lines[0].words]
            lines[0].height *= rng.uniform(1.0, 1.8)
        return lines

    def _menu(self, most: int, font: str | None, height: float, rng: np.random.Generator) -> list[_Line]:
        """Names on the left, prices or times in a column on the right."""
        height = min(height, max(self.text_height[0], rng.uniform(0.08, 0.3) * self.text_height[1]))
        lines, left = [], most
        for _ in range(int(rng.integers(3, 9))):
            count = min(left - 1, int(rng.integers(1, 4)))
            if count < 1:
                break
            left -= count + 1
            words = [self.word(font, rng, running=True).strip(",.;:") or "a" for _ in range(count)]
            lines.append(_Line([*words, self.fitting(random_price(rng), font) or "9.50"], font, height, columns=True))
        return lines or [_Line([self.word(font, rng)], font, height)]

    def word(self, font: str | None, rng: np.random.Generator, running: bool = False) -> str:
        """A word that the font can draw; `running`: one of running text."""
        for _ in range(4):
            word = (running_word if running else random_word)(rng, self.words, self.script)
            fitting = self.fitting(word, font)
            if fitting == word:
                return word
        # A font that lacks some of a word's characters draws the others, or a number.
        return fitting if fitting and any(map(str.isalnum, fitting)) else str(rng.integers(10, 1000))

    def fitting(self, word: str, font: str | None) -> str:
        """What of a word the font can draw."""
        return "".join(c for c in word if has_glyph(font, c))

    def _set_case(self, lines: list[_Line], rng: np.random.Generator) -> None:
        """Signs are set in capitals as a whole more often than not; so are their lines."""
        case = rng.random()
        if self.words is None and len(lines) > 4:
            case += 0.25
        change: Callable[[str], str] | None = str.upper if case < 0.52 else str.lower if case > 0.97 else None
        for line in lines:
            if change is not None:
                changed = [change(word) for word in line.words]
                line.words = [c if len(c) == len(w) and self.fitting(c, line.font) == c else w
                              for c, w in zip(changed, line.words)]  # fmt: skip
            if len(line.words) > 1 and not line.columns and rng.random() < 0.06:
                mark = _SEPARATORS[int(rng.integers(len(_SEPARATORS)))]
                if self.fitting(mark, line.font):
                    line.words.insert(int(rng.integers(1, len(line.words))), mark)

    def _render(self, lines: list[_Line], stacked: bool, justified: bool, rng: np.random.Generator) -> TextBlock:
        """Sets the lines and draws them."""
        tallest = max(line.height for line in lines)
        least = min(line.height for line in lines)
        # Small text is drawn larger and averaged down, since hinted pixel-exact glyphs exist on screens but not in photos.
        over = 1 if least > 40 else 2 if least > 14 else 3
        gap_share = 0.16 + 0.28 * rng.random() ** 2
        tracking_share = rng.uniform(0.03, 0.3) if rng.random() < 0.12 else -0.02 if rng.random() < 0.06 else 0.0
        leading = rng.uniform(1.05, 1.5) if rng.random() < 0.8 else rng.uniform(0.9, 2.2)
        align = float(rng.choice([0.0, 0.5, 1.0], p=[0.45, 0.45, 0.1]))
        shaping = script_of(self.script).shaping
        rows: list[tuple[_Line, list, list[float], float, float]] = []
        baseline = 0.0
        for line in lines:
            font = load_font(line.font, max(6, round(over * line.height / CAPITAL)), shaping)
            em = font.size
            if rows:
                baseline += leading * max(em, 0.6 * rows[-1][3])
            tracking = 0.0 if shaping else tracking_share * em
            gap = max(gap_share * em, 1.7 * over) + max(0.0, 1.5 * tracking)
            drawn = [
                (stacked_word(word, font, line.font), 0, 0) if stacked else draw_word(as_drawn(word), font, tracking)
                for word in line.words
            ]
            starts, x = [], 0.0
            for mask, left, _ in drawn:
                starts.append(x + left)
                x += left + mask.shape[1] + gap
            rows.append((line, drawn, starts, em, baseline))
        widths = [starts[-1] + drawn[-1][0].shape[1] for _, drawn, starts, _, _ in rows]
        full = max(widths)
        if any(line.columns for line in lines):
            full *= rng.uniform(1.05, 1.6)
        items = []
        for (line, drawn, starts, em, base), width in zip(rows, widths):
            shift = align * (full - width)
            spread = 0.0
            if line.columns:
                shift = 0.0
            elif justified and len(starts) > 1 and width > 0.75 * full:
                shift, spread = 0.0, (full - width) / (len(starts) - 1)
            for number, ((mask, _, top), start, word) in enumerate(zip(drawn, starts, line.words)):
                x = start + shift + number * spread
                if line.columns and number == len(starts) - 1:
                    x = full - mask.shape[1]
                items.append((word, mask, round(x), round(base + top), line.ink, em))
        return self._assemble(items, over, tallest, len(lines), rng)

    def _assemble(self, items: list, over: int, tallest: float, lines: int, rng: np.random.Generator) -> TextBlock:
        low_x, low_y = min(item[2] for item in items), min(item[3] for item in items)
        # Room around the ink for outlines, shadows and plates.
        pad = over * (5 + int(0.5 * tallest))
        width = max(x + mask.shape[1] for _, mask, x, _, _, _ in items) - low_x + 2 * pad
        height = max(y + mask.shape[0] for _, mask, _, y, _, _ in items) - low_y + 2 * pad
        # A multiple of the factor, so that averaging down keeps the corners where they are.
        shape = [-(-side // over) * over for side in (height, width)]
        masks: list[np.ndarray] = [np.zeros(shape, np.uint8) for _ in range(1 + max(item[4] for item in items))]
        rects, ems = [], []
        for _, mask, x, y, ink, em in items:
            x, y = x - low_x + pad, y - low_y + pad
            view = masks[ink][y : y + mask.shape[0], x : x + mask.shape[1]]
            np.maximum(view, mask, out=view)
            rects.append((x, y, x + mask.shape[1], y + mask.shape[0]))
            ems.append(em)
        boxes = word_outlines(np.array(rects, dtype=np.float64), np.array(ems), self.margin) / over
        if over > 1:
            small = (shape[1] // over, shape[0] // over)
            masks = [cv2.resize(mask, small, interpolation=cv2.INTER_AREA) for mask in masks]
        texts = [item[0] for item in items]
        block = TextBlock(
            masks,
            boxes.astype(np.float32),
            texts,
            [item[4] for item in items],
            [not any(map(str.isalnum, word)) for word in texts],
            [CAPITAL * em / over for em in ems],
            tallest,
        )
        if lines <= 3 and rng.random() < 0.05:
            # A rule under the text, as on title blocks; it is no part of a word.
            left, bottom = boxes[:, 0, 0].min(), boxes[:, 2, 1].max() + 0.12 * tallest
            right, thickness = boxes[:, 1, 0].max(), max(1, 0.08 * tallest)
            block.rules.append((int(left), int(bottom), int(right), int(bottom + thickness)))
        return block


def word_outlines(rects: np.ndarray, ems: np.ndarray, margin: float, heights: np.ndarray | None = None) -> np.ndarray:
    """
    Rectangles of ink, grown by the margin, but never to more than touch a neighbor.

    Args:
        rects (`np.ndarray` of shape (k, 4)): left, top, right and bottom of the ink in pixels.
        ems (`np.ndarray` of shape (k,)): sizes of the fonts in pixels.
        margin (`float`): as a share of `heights`.
        heights (`np.ndarray` of shape (k,), *optional*, defaults to the rectangles'): of the lines in pixels.

    Returns:
        `np.ndarray`: float64 of shape (k, 4, 2), the corners, clockwise from the top left.
    """
    if heights is None:
        heights = rects[:, 3] - rects[:, 1]
    # Thin ink such as a dash gets the margin that letters of its font have.
    edge = margin * np.maximum(heights, 0.4 * ems)
    grown = rects.copy()
    left, top, right, bottom = (rects[:, i] for i in range(4))
    rows_meet = (top[:, None] < bottom[None, :]) & (top[None, :] < bottom[:, None])
    columns_meet = (left[:, None] < right[None, :]) & (left[None, :] < right[:, None])
    far = np.inf
    after = np.where(rows_meet & (left[None, :] >= right[:, None]), left[None, :] - right[:, None], far).min(axis=1)
    before = np.where(rows_meet & (right[None, :] <= left[:, None]), left[:, None] - right[None, :], far).min(axis=1)
    below = np.where(columns_meet & (top[None, :] >= bottom[:, None]), top[None, :] - bottom[:, None], far).min(axis=1)
    above = np.where(columns_meet & (bottom[None, :] <= top[:, None]), top[:, None] - bottom[None, :], far).min(axis=1)
    grown[:, 0] -= np.minimum(edge, 0.45 * before)
    grown[:, 1] -= np.minimum(edge, 0.45 * above)
    grown[:, 2] += np.minimum(edge, 0.45 * after)
    grown[:, 3] += np.minimum(edge, 0.45 * below)
    return grown[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]


# Inside of Hebrew, numbers (with the signs in and at them) and words of other scripts still run from the left.
_FROM_LEFT = r"[^\W_\u0590-\u05ff\ufb1d-\ufb4f]"
_UNITS = re.compile(rf"[#$£€₪]?{_FROM_LEFT}+(?:[.,:/+-]{_FROM_LEFT}+)*%?|.", re.DOTALL)
_MIRRORED = dict(zip("()[]{}<>", ")(][}{><"))


def as_drawn(word: str) -> str:
    """Basic layout draws from the left: the letters of Hebrew, each with its points behind it, come in reverse."""
    if not any("\u0590" <= character <= "\u05ff" for character in word):
        return word
    units: list[str] = []
    for unit in _UNITS.findall(word):
        if units and unicodedata.combining(unit[0]):
            units[-1] += unit
        else:
            units.append(_MIRRORED.get(unit, unit))
    return "".join(reversed(units))


def draw_word(text: str, font, tracking: float = 0.0) -> tuple[np.ndarray, int, int]:
    """
    Draws one word.

    Args:
        text (`str`): the word.
        font: of Pillow.
        tracking (`float`, *optional*, defaults to 0.0): extra distance between letters in pixels.

    Returns:
        `tuple[np.ndarray, int, int]`: coverage, uint8, cut to its ink; the ink's left and top relative to the start of
        the baseline.

    Raises:
        ValueError: if the font draws nothing for the word.
    """
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    extra = math.ceil(max(0.0, tracking) * (len(text) - 1))
    # Fonts with overhanging glyphs draw outside of the box they report.
    room = 4 + font.size // 4
    canvas = Image.new("L", (int(right - left) + extra + 2 * room, int(bottom - top) + 2 * room), 0)
    draw = ImageDraw.Draw(canvas)
    origin = (int(room - left), int(room - top))
    if tracking:
        x = float(origin[0])
        for character in text:
            draw.text((round(x), origin[1]), character, fill=255, font=font, anchor="ls")
            x += font.getlength(character) + tracking
    else:
        draw.text(origin, text, fill=255, font=font, anchor="ls")
    mask = np.asarray(canvas)
    strongest = cv2.minMaxLoc(mask)[1]
    if strongest < _FAINTEST:
        if font.size >= _SURE_SIZE:
            raise ValueError(f"the font {font.getname()} draws no ink for the word {text!r}")
        # Hinting has rounded thin strokes away: twice the size, averaged down, gives them the coverage they have.
        large, left, top = draw_word(text, font.font_variant(size=2 * font.size), 2 * tracking)
        # Pairs of rows and of columns counted from the baseline's start, so that nothing moves.
        before, after = (top % 2, left % 2), ((top + large.shape[0]) % 2, (left + large.shape[1]) % 2)
        large = np.pad(large, tuple(zip(before, after)))
        half = cv2.resize(large, (large.shape[1] // 2, large.shape[0] // 2), interpolation=cv2.INTER_AREA)
        return half, left // 2, top // 2
    ink_left, ink_top, ink_right, ink_bottom = _ink_box(mask, strongest)
    return mask[ink_top:ink_bottom, ink_left:ink_right], ink_left - origin[0], ink_top - origin[1]


def stacked_word(text: str, font, path: str | None) -> np.ndarray:
    """Coverage, uint8, of a word whose letters, those that the font has, stand one above the other, centerd."""
    glyphs = [draw_word(character, font)[0] for character in text if has_glyph(path, character)]
    gap = max(1, font.size // 8)
    mask = np.zeros((sum(g.shape[0] + gap for g in glyphs) - gap, max(g.shape[1] for g in glyphs)), np.uint8)
    y = 0
    for glyph in glyphs:
        x = (mask.shape[1] - glyph.shape[1]) // 2
        mask[y : y + glyph.shape[0], x : x + glyph.shape[1]] = glyph
        y += glyph.shape[0] + gap
    return mask


def _ink_box(mask: np.ndarray, strongest: float) -> tuple[int, int, int, int]:
    # Hair-thin strokes cover no pixel by half.
    inked = cv2.threshold(mask, min(100, strongest // 2), 255, cv2.THRESH_BINARY)[1]
    left, top, width, height = cv2.boundingRect(inked)
    return left, top, left + width, top + height


def _random_bend(block: TextBlock, degrees: tuple[float, float], rng: np.random.Generator) -> Bend:
    low, high = block.ink_box
    width, height = high - low
    center = ((low[0] + high[0]) / 2, (low[1] + high[1]) / 2)
    if rng.random() < 0.7:
        angle = math.exp(rng.uniform(math.log(degrees[0]), math.log(degrees[1])))
        # A line goes round for longer than a word, though not so far that its ends meet.
        angle = math.radians(min(angle * math.sqrt(len(block.texts)), 300))
        # Letters on the inner side are squeezed: not to a point.
        radius = max(width / angle, 1.3 * height)
        return Bend("arc", center, radius=radius if rng.random() < 0.65 else -radius)
    length = width * rng.uniform(0.7, 2.0)
    # The steepest slope of the wave is 2 pi a / l.
    amplitude = length / (2 * math.pi) * rng.uniform(0.15, 0.6)
    return Bend("wave", center, amplitude=amplitude, length=length, phase=rng.uniform(0, 2 * math.pi))


def block_outlines(block: TextBlock, matrix: np.ndarray) -> list[np.ndarray]:
    """
    The words' outlines in the image.

    Args:
        block (`TextBlock`): words.
        matrix (`np.ndarray` of shape (3, 3)): perspective map from the (bent) layout to the image.

    Returns:
        `list[np.ndarray]`: float32 polygons, clockwise from the top left of the word as drawn, also in scripts that are
        read from the right, of 4 points, or, bent, of 14 and more: as many along the top as along the bottom.
    """
    if block.bend is None:
        return list(cv2.perspectiveTransform(block.boxes.reshape(-1, 1, 2), matrix).reshape(-1, 4, 2))
    polygons = []
    for box in block.boxes.astype(np.float64):
        points = map_points(bent_side(box, block.bend), block.bend, matrix)
        polygons.append(points.astype(np.float32))
    return polygons


def bent_side(box: np.ndarray, bend: Bend) -> np.ndarray:
    """Points along the top of a flat box and back along its bottom, dense enough for the bend."""
    count = CURVE_POINTS
    turn = abs((box[1, 0] - box[0, 0]) / bend.radius) if bend.kind == "arc" else 0.0
    if turn > 1.2 or (bend.kind == "wave" and box[1, 0] - box[0, 0] > 0.8 * bend.length):
        count = CURVE_POINTS + 4
    share = np.linspace(0, 1, count)[:, None]
    return np.concatenate([box[0] + share * (box[1] - box[0]), box[2] + share * (box[3] - box[2])])


def map_points(points: np.ndarray, bend: Bend | None, matrix: np.ndarray) -> np.ndarray:
    """Flat points, bent and then put into perspective."""
    if bend is not None:
        points = np.column_stack(bend.forward(points[:, 0], points[:, 1]))
    return cv2.perspectiveTransform(points.reshape(-1, 1, 2).astype(np.float64), matrix).reshape(-1, 2)
