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
"""Rendered words on generated or photographic backgrounds, with an outline per word tight to its ink.

A block is one to four lines of words that share font and colours. It is drawn flat into masks, moved into the picture by one
perspective map, and blended: plate, shadow, outline, fill. The words' boxes go through the same map.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .augment import add_noise, jpeg_artifacts
from .backgrounds import photo_background, random_background
from .formats import TextRecord, load_image
from .words import random_word


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


FONT_DIRECTORIES = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# Fonts that draw pictures or codes in the places of letters: no test of glyphs can tell.
_SYMBOL_FONTS = ("symbol", "dingbat", "emoji", "icon", "math", "braille", "barcode", "wingding", "d050000l", "music")
# How far a plate may reach beyond the ink, as a share of the text's height; new blocks keep this distance from text.
_PLATE_REACH = 0.45
_LUMA = np.array([0.299, 0.587, 0.114])


def find_fonts(directories: Sequence[str | Path] = FONT_DIRECTORIES, limit: int | None = None) -> list[Path]:
    """
    Finds font files that can draw A-Z, a-z and 0-9, one of each design.

    Args:
        directories (`Sequence[str | Path]`, *optional*, defaults to the usual places on Linux):
            Folders searched with their subfolders for `.ttf`, `.otf` and `.ttc`; absent ones are skipped.
        limit (`int`, *optional*): stop after this many fonts.

    Returns:
        `list[Path]`: sorted paths; empty if there is none.
    """
    fonts, seen = [], set()
    for directory in directories:
        folder = Path(directory).expanduser()
        if not folder.is_dir():
            continue
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc")):
            if any(word in path.name.lower() for word in _SYMBOL_FONTS):
                continue
            fingerprint = _font_fingerprint(path)
            # Families for other scripts often repeat one Latin design, which would outweigh all others.
            if fingerprint is None or fingerprint in seen:
                continue
            seen.add(fingerprint)
            fonts.append(path)
            if limit is not None and len(fonts) >= limit:
                return fonts
    return fonts


def _font_fingerprint(path: Path) -> int | None:
    """A number that fonts with the same Latin letters share; `None` if a letter or digit is missing."""
    try:
        font = ImageFont.truetype(str(path), 24)
        missing = bytes(font.getmask("\U0010ffff"))
        glyphs = {character: bytes(font.getmask(character)) for character in _ALPHABET}
    except (OSError, ValueError):
        return None
    if any(not any(glyph) or glyph == missing for glyph in glyphs.values()) or len(set(glyphs.values())) < 20:
        return None
    return zlib.crc32(b"".join(glyphs.values()))


@lru_cache(maxsize=512)
def _load_font(path: str | None, size: int):
    # Without any font file, Pillow's built-in FreeType font keeps the generator usable.
    if path is None:
        return ImageFont.load_default(size)
    try:
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise ValueError(f"{path}: not a font that FreeType can read ({error})") from error


@dataclass
class _Block:
    """Words drawn flat: `mask` is uint8 coverage, `boxes` (k, 4, 2) the tight corners in its pixels."""

    mask: np.ndarray
    boxes: np.ndarray
    texts: list[str]
    text_height: float


class SyntheticTextGenerator:
    """
    Draws pictures of words, or words onto pictures; every choice comes from the generator passed to the call.

    Args:
        fonts (`Sequence[str | Path]`, *optional*):
            Font files, see [`find_fonts`]; `None` or empty: Pillow's built-in font.
        words (`Sequence[str]`, *optional*):
            Words to draw, mixed with numbers, prices and the like; `None`: a short built-in list and invented words.
        backgrounds (`Sequence[str | Path | np.ndarray | TextRecord]`, *optional*):
            Pictures to cut backgrounds from. They must show no text, except for a `TextRecord`, from which only areas
            without any annotated instance (ignored ones included) are cut.
        size (`int`, *optional*, defaults to 384): side of the generated pictures in pixels.
        text_height (`tuple[float, float]`, *optional*, defaults to `(8.0, 100.0)`):
            Range of the height of capitals in pixels; drawn log-uniformly.
        max_words (`int`, *optional*, defaults to 12): most words on one picture.
        margin (`float`, *optional*, defaults to 0.06):
            Distance of the outline from the ink, as a share of the word's height.
        photo_probability (`float`, *optional*, defaults to 0.7):
            Chance of a background from `backgrounds`, when there are any.
        plate (`float`, *optional*, defaults to 0.25):
            Chance of a plain plate behind a block. Words that no single colour would make legible get one anyway.
        shadow (`float`, *optional*, defaults to 0.15): chance of a shadow.
        outline (`float`, *optional*, defaults to 0.12): chance of outlined letters.

    Raises:
        ValueError: if a range or a probability makes no sense.
    """

    def __init__(
        self,
        fonts: Sequence[str | Path] | None = None,
        words: Sequence[str] | None = None,
        backgrounds: Sequence[str | Path | np.ndarray | TextRecord] | None = None,
        size: int = 384,
        text_height: tuple[float, float] = (8.0, 100.0),
        max_words: int = 12,
        margin: float = 0.06,
        photo_probability: float = 0.7,
        plate: float = 0.25,
        shadow: float = 0.15,
        outline: float = 0.12,
    ):
        if size < 32:
            raise ValueError(f"`size` must be at least 32 pixels, got {size}")
        if not 4 <= text_height[0] <= text_height[1]:
            raise ValueError(f"`text_height` must be (low, high) with 4 <= low <= high, got {text_height}")
        if max_words < 1:
            raise ValueError(f"`max_words` must be at least 1, got {max_words}")
        chances = {"photo_probability": photo_probability, "plate": plate, "shadow": shadow, "outline": outline}
        for name, value in chances.items():
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1, got {value}")
        self.size = int(size)
        self.words = [word for word in words if word.strip()] if words else None
        self.backgrounds = list(backgrounds) if backgrounds else []
        self.text_height = (float(text_height[0]), float(text_height[1]))
        self.max_words = int(max_words)
        self.margin = float(margin)
        self.photo_probability = float(photo_probability)
        self.plate = float(plate)
        self.shadow = float(shadow)
        self.outline = float(outline)
        # Families are drawn first, so that one with thirty weights counts no more than one with a single file.
        families: dict[str, list[str]] = {}
        for font in fonts or []:
            families.setdefault(_load_font(str(font), 16).getname()[0], []).append(str(font))
        self._families = [families[name] for name in sorted(families)] or [[None]]
        self._photos: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_photos": {}}

    def generate(self, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray], list[bool], list[str]]:
        """
        Draws one picture.

        Args:
            rng (`np.random.Generator`): the source of randomness.

        Returns:
            `tuple[np.ndarray, list[np.ndarray], list[bool], list[str]]`: RGB uint8 (size, size, 3), one float32 polygon
            (4, 2) a word (clockwise from the reading start), ignore flags (all `False`), and the words.
        """
        image = self._background(rng)
        image, polygons, ignore, texts = self.paste_words(image, [], rng)
        if rng.random() < 0.25:
            image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.1))
        if rng.random() < 0.6:
            image = add_noise(image, rng.uniform(1, 9), rng)
        if rng.random() < 0.4:
            image = jpeg_artifacts(image, int(rng.integers(35, 96)))
        return image, polygons, ignore, texts

    def paste_words(
        self,
        image: np.ndarray,
        polygons: Sequence[np.ndarray],
        rng: np.random.Generator,
        ignore: Sequence[bool] | None = None,
        texts: Sequence[str | None] | None = None,
        max_words: int | None = None,
    ) -> tuple[np.ndarray, list[np.ndarray], list[bool], list[str | None]]:
        """
        Draws words onto a picture, away from the instances it already has.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
            polygons (`Sequence[np.ndarray]`): outlines to keep clear of, of shape (n, 2) in pixels of the picture.
            rng (`np.random.Generator`): the source of randomness.
            ignore (`Sequence[bool]`, *optional*, defaults to `False` for all): flags of `polygons`.
            texts (`Sequence[str | None]`, *optional*, defaults to `None` for all): transcriptions of `polygons`.
            max_words (`int`, *optional*, defaults to the generator's): most words to add.

        Returns:
            `tuple[np.ndarray, list[np.ndarray], list[bool], list[str | None]]`: the new picture, and the given instances
            followed by the drawn words.
        """
        image = np.ascontiguousarray(image).copy()
        polygons = [np.asarray(polygon, dtype=np.float32) for polygon in polygons]
        ignore = [False] * len(polygons) if ignore is None else [bool(flag) for flag in ignore]
        texts = [None] * len(polygons) if texts is None else list(texts)
        height, width = image.shape[:2]
        occupied = np.zeros((height // 4 + 1, width // 4 + 1), dtype=np.uint8)
        for polygon in polygons:
            cv2.fillPoly(occupied, [np.rint(polygon / 4).astype(np.int32)], 1)
        roughness = _roughness(image, occupied.shape)
        budget = int(rng.integers(1, (max_words or self.max_words) + 1))
        for _ in range(2 * budget):
            if budget <= 0:
                break
            block = self._draw_block(min(budget, 8), rng)
            placed = self._place_block(block, occupied, roughness, (height, width), rng)
            if placed is None:
                continue
            matrix, outline = placed
            self._blend(image, block, matrix, outline, rng)
            cv2.fillPoly(occupied, [np.rint(outline / 4).astype(np.int32)], 1)
            corners = cv2.perspectiveTransform(block.boxes.reshape(-1, 1, 2), matrix).reshape(-1, 4, 2)
            limit = np.array([width, height], dtype=np.float32)
            polygons += [np.clip(quad, 0, limit).astype(np.float32) for quad in corners]
            texts += block.texts
            ignore += [False] * len(block.texts)
            budget -= len(block.texts)
        return image, polygons, ignore, texts

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        if self.backgrounds and rng.random() < self.photo_probability:
            number = int(rng.integers(len(self.backgrounds)))
            source = self.backgrounds[number]
            record = source if isinstance(source, TextRecord) else TextRecord(source)
            if number not in self._photos:
                self._photos[number] = load_image(record.image)
            background = photo_background(self._photos[number], record, self.size, rng)
            if background is not None:
                return background
        return random_background(self.size, rng)

    def _word(self, rng: np.random.Generator) -> str:
        return random_word(rng, self.words)

    def _draw_block(self, most: int, rng: np.random.Generator) -> _Block:
        """One to four lines of words in one font, as coverage in 0..255 at (about) the size they will be shown."""
        text_height = math.exp(rng.uniform(*np.log(self.text_height)))
        family = self._families[rng.integers(len(self._families))]
        path = family[rng.integers(len(family))]
        # Capitals are about 0.7 em. Small text is drawn larger and averaged down, since hinted pixel-exact
        # glyphs exist on screens but not in photos.
        oversample = 1 if text_height > 48 else 2 if text_height > 16 else 3
        font = _load_font(path, max(6, round(oversample * text_height / 0.7)))
        count = min(most, int(rng.choice([1, 2, 3, 4, 5, 6, 8], p=[0.42, 0.2, 0.12, 0.1, 0.06, 0.05, 0.05])))
        lines = 1 if count == 1 else int(rng.integers(1, min(4, count) + 1))
        em = font.size
        gap = em * rng.uniform(0.22, 0.5)
        leading = em * rng.uniform(1.05, 1.6)
        tracking = em * rng.uniform(0.03, 0.25) if rng.random() < 0.12 else 0.0
        per_line = np.array_split(np.arange(count), lines)
        case = rng.random()
        pieces, widths = [], []
        for row, members in enumerate(per_line):
            x = 0.0
            line = []
            for _ in members:
                text = self._word(rng)
                text = text.upper() if case < 0.4 else text.lower() if case < 0.5 else text
                mask, left, top = _draw_word(text, font, tracking)
                line.append([text, mask, x, row * leading + top])
                x += mask.shape[1] + gap
            widths.append(x - gap)
            pieces.append(line)
        align = rng.choice([0.0, 0.5, 1.0], p=[0.5, 0.4, 0.1])
        words = []
        for line, width in zip(pieces, widths):
            shift = align * (max(widths) - width)
            words += [(text, mask, round(x + shift), round(y)) for text, mask, x, y in line]
        top = min(y for _, _, _, y in words)
        # Room around the ink for outlines, shadows and plates.
        pad = oversample * (4 + int(0.35 * text_height))
        canvas_width = max(x + mask.shape[1] for _, mask, x, _ in words) + 2 * pad
        canvas_height = max(y - top + mask.shape[0] for _, mask, _, y in words) + 2 * pad
        # A multiple of the factor, so that averaging down keeps the corners where they are.
        canvas = np.zeros([-(-side // oversample) * oversample for side in (canvas_height, canvas_width)], np.uint8)
        boxes = []
        for _, mask, x, y in words:
            x, y = x + pad, y - top + pad
            view = canvas[y : y + mask.shape[0], x : x + mask.shape[1]]
            np.maximum(view, mask, out=view)
            # A mask ends at its ink on all sides: see _draw_word.
            edge = self.margin * mask.shape[0]
            left, upper, right, lower = x - edge, y - edge, x + mask.shape[1] + edge, y + mask.shape[0] + edge
            boxes.append([[left, upper], [right, upper], [right, lower], [left, lower]])
        boxes = np.array(boxes, dtype=np.float32) / oversample
        if oversample > 1:
            small = (canvas.shape[1] // oversample, canvas.shape[0] // oversample)
            canvas = cv2.resize(canvas, small, interpolation=cv2.INTER_AREA)
        return _Block(canvas, boxes, [text for text, _, _, _ in words], text_height)

    def _place_block(
        self,
        block: _Block,
        occupied: np.ndarray,
        roughness: np.ndarray,
        size: tuple[int, int],
        rng: np.random.Generator,
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """A perspective map into a free, preferably smooth place, and the block's outline there; `None` if all is taken."""
        height, width = size
        rows, columns = block.mask.shape
        kind = rng.random()
        if kind < 0.78:
            angle = rng.normal(0, 4)
        elif kind < 0.96:
            angle = rng.uniform(-30, 30)
        else:
            angle = rng.choice([-90.0, 90.0]) + rng.normal(0, 3)
        shear = rng.normal(0, 0.1)
        stretch = math.exp(rng.normal(0, 0.12))
        tilt = rng.normal(0, 0.12, size=2) / (columns, max(rows, columns / 3))
        radians = math.radians(angle)
        rotate = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
        matrix = np.eye(3)
        matrix[:2, :2] = rotate @ np.array([[stretch, shear], [0, 1]])
        matrix[2, :2] = np.clip(tilt, -0.35 / columns, 0.35 / columns)
        matrix = matrix @ np.array([[1, 0, -columns / 2], [0, 1, -rows / 2], [0, 0, 1.0]])
        ink_low, ink_high = block.boxes.reshape(-1, 2).min(axis=0), block.boxes.reshape(-1, 2).max(axis=0)
        corners = np.array(
            [[ink_low, (ink_high[0], ink_low[1]), ink_high, (ink_low[0], ink_high[1])]], dtype=np.float64
        )
        outline = cv2.perspectiveTransform(corners, matrix)[0]
        low, high = outline.min(axis=0), outline.max(axis=0)
        room = np.array([width, height]) - (high - low) - 4
        if (room <= 0).any():
            shrink = 0.95 * float(((np.array([width, height]) - 8) / (high - low)).min())
            if shrink * block.text_height < self.text_height[0]:
                return None
            # Drawn larger than shown: averaged down once, so that the warp need not skip pixels.
            factor = max(1, round(1 / shrink))
            if factor > 1:
                small = (max(1, round(columns / factor)), max(1, round(rows / factor)))
                ratio = np.array([small[0] / columns, small[1] / rows])
                block.mask = cv2.resize(block.mask, small, interpolation=cv2.INTER_AREA)
                block.boxes = (block.boxes * ratio).astype(np.float32)
                matrix = matrix @ np.diag([1 / ratio[0], 1 / ratio[1], 1])
            block.text_height *= shrink
            matrix = np.diag([shrink, shrink, 1.0]) @ matrix
            outline = outline * shrink
            low, high = outline.min(axis=0), outline.max(axis=0)
            room = np.array([width, height]) - (high - low) - 4
        # Signs hang on walls rather than in foliage: the smoothest of a few free places, most of the time.
        wanted = 3 if rng.random() < 0.75 else 1
        best, best_roughness = None, math.inf
        for _ in range(10):
            offset = 2 + rng.random(2) * np.maximum(room, 0) - low
            reach = _PLATE_REACH * block.text_height + 2
            left, top = np.maximum(((low + offset - reach) / 4).astype(int), 0)
            right, bottom = np.minimum(((high + offset + reach) / 4).astype(int) + 1, occupied.shape[::-1])
            if occupied[top:bottom, left:right].any():
                continue
            total = roughness[bottom, right] - roughness[top, right] - roughness[bottom, left] + roughness[top, left]
            if total < best_roughness:
                best, best_roughness = offset, total
            wanted -= 1
            if wanted == 0:
                break
        if best is None:
            return None
        shift = np.eye(3)
        shift[:2, 2] = best
        return shift @ matrix, outline + best

    def _blend(
        self, image: np.ndarray, block: _Block, matrix: np.ndarray, outline: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Draws a block into the picture, in place."""
        height, width = image.shape[:2]
        reach = 6 + 0.5 * block.text_height
        left, top = np.maximum((outline.min(axis=0) - reach).astype(int), 0)
        right, bottom = np.minimum((outline.max(axis=0) + reach).astype(int) + 1, (width, height))
        region = image[top:bottom, left:right].astype(np.float32)
        size = (int(right - left), int(bottom - top))
        shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
        # Continuous coordinates -> OpenCV's, whose integer points are pixel centres.
        warp = np.linalg.inv(half) @ shift @ matrix @ half
        fill = cv2.warpPerspective(block.mask, warp, size, flags=cv2.INTER_LINEAR)
        local = outline - (left, top)
        blur = rng.uniform(0.3, 0.9) if rng.random() < 0.5 else 0.0
        if block.text_height > 20 and rng.random() < 0.2:
            blur = rng.uniform(0.5, 0.05 * block.text_height)
        opacity = rng.uniform(0.65, 1.0) if rng.random() < 0.3 else 1.0
        # Thin strokes of small letters cover their pixels only in part, which costs contrast as opacity does.
        # The faintest fonts have no pixel above the floor at small sizes; they get the strongest contrast.
        inked = block.mask[block.mask > 32]
        coverage = np.percentile(inked, 80) / 255 if inked.size else 0.1
        least = min(36 / (opacity * coverage), 100)

        layers: list[tuple[np.ndarray, np.ndarray]] = []
        color = None
        if rng.random() >= self.plate:
            levels, spreads = _word_levels(region, block, shift @ matrix)
            color = _contrasting_color(levels, least + 0.5 * spreads, region.mean(axis=(0, 1)), rng)
        if color is None:
            # By choice, or because no single colour would be legible on all that lies behind these words.
            plate_color = _random_color(rng)
            grow = rng.uniform(0.1, _PLATE_REACH) * block.text_height
            offsets = local - local.mean(axis=0)
            corners = local + grow * np.sign(offsets)
            plate = np.zeros(size[::-1], dtype=np.uint8)
            cv2.fillPoly(plate, [np.rint((corners - 0.5) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
            layers.append((plate, plate_color))
            least = np.array([min(1.3 * least, 100.0)])
            color = _contrasting_color(np.array([plate_color @ _LUMA]), least, plate_color, rng)
        thickness = max(1, round(rng.uniform(0.03, 0.09) * block.text_height))
        if rng.random() < self.shadow:
            distance = max(1.0, rng.uniform(0.03, 0.1) * block.text_height)
            direction = rng.uniform(0, 2 * math.pi)
            move = np.array([[1, 0, distance * math.cos(direction)], [0, 1, distance * math.sin(direction)]])
            shadow = cv2.warpAffine(fill, move, size)
            if rng.random() < 0.6:
                shadow = cv2.GaussianBlur(shadow, (0, 0), max(0.5, 0.5 * distance))
            shade = rng.uniform(0.4, 1.0)
            layers.append((cv2.convertScaleAbs(shadow, alpha=shade), rng.uniform(0, 60, size=3)))
        if rng.random() < self.outline and block.text_height > 14:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * thickness + 1, 2 * thickness + 1))
            edge_color = _contrasting_color(np.array([color @ _LUMA]), np.array([60.0]), color, rng)
            layers.append((cv2.dilate(fill, kernel), edge_color))
        layers.append((cv2.convertScaleAbs(fill, alpha=opacity) if opacity < 1 else fill, color))
        # Uneven light and wear: paint is never of one level over its whole area.
        grain = rng.normal(0, rng.uniform(2, 14), size=(4, 6)).astype(np.float32)
        grain = cv2.resize(grain, size, interpolation=cv2.INTER_LINEAR)[:, :, None]
        for mask, tone in layers:
            if blur > 0:
                mask = cv2.GaussianBlur(mask, (0, 0), blur)
            alpha = (mask.astype(np.float32) * (1 / 255))[:, :, None]
            region += alpha * (np.asarray(tone, dtype=np.float32) + grain - region)
        image[top:bottom, left:right] = np.clip(np.rint(region), 0, 255).astype(np.uint8)


def _draw_word(text: str, font, tracking: float) -> tuple[np.ndarray, int, int]:
    """Coverage of a word cut to its ink, and the ink's left and top relative to the baseline's start."""
    left, top, right, bottom = font.getbbox(text, anchor="ls")
    extra = math.ceil(tracking * (len(text) - 1))
    # Fonts with overhanging glyphs draw outside of the box they report.
    room = 4 + font.size // 4
    canvas = Image.new("L", (int(right - left) + extra + 2 * room, int(bottom - top) + 2 * room), 0)
    draw = ImageDraw.Draw(canvas)
    origin = np.array([room - left, room - top])
    if tracking:
        x = float(origin[0])
        for character in text:
            draw.text((round(x), origin[1]), character, fill=255, font=font, anchor="ls")
            x += font.getlength(character) + tracking
    else:
        draw.text(tuple(origin), text, fill=255, font=font, anchor="ls")
    mask = np.asarray(canvas)
    ink = mask > 100
    columns, rows = np.flatnonzero(ink.any(axis=0)), np.flatnonzero(ink.any(axis=1))
    if not len(rows):
        raise ValueError(f"the font {font.getname()} draws no ink for the word {text!r}")
    mask = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return mask, int(columns[0] - origin[0]), int(rows[0] - origin[1])


def _roughness(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Integral image, at a quarter of the resolution, of the strength of edges."""
    grey = cv2.cvtColor(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return cv2.integral(cv2.absdiff(cv2.dilate(grey, None), cv2.erode(grey, None)))


def _word_levels(region: np.ndarray, block: _Block, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the luminance behind each word of a block."""
    corners = cv2.perspectiveTransform(block.boxes.reshape(-1, 1, 2), matrix).reshape(-1, 4, 2)
    levels, spreads = [], []
    for quad in corners:
        (left, top), (right, bottom) = np.maximum(quad.min(axis=0), 0).astype(int), quad.max(axis=0).astype(int) + 1
        luminance = region[top:bottom, left:right] @ _LUMA.astype(np.float32)
        levels.append(luminance.mean())
        spreads.append(luminance.std())
    return np.array(levels), np.array(spreads)


def _random_color(rng: np.random.Generator) -> np.ndarray:
    """Sign and print colours: near white, near black, or saturated."""
    kind = rng.random()
    if kind < 0.32:
        return np.clip(rng.uniform(200, 255) + rng.normal(0, 8, size=3), 0, 255)
    if kind < 0.58:
        return np.clip(rng.uniform(0, 60) + rng.normal(0, 8, size=3), 0, 255)
    hue, saturation, value = rng.uniform(0, 180), rng.uniform(90, 255), rng.uniform(70, 255)
    pixel = np.array([[[hue, saturation, value]]]).astype(np.uint8)
    return cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float64)


def _contrasting_color(
    levels: np.ndarray, least: np.ndarray, background: np.ndarray, rng: np.random.Generator
) -> np.ndarray | None:
    """A colour whose luminance differs from every one of `levels` by its `least`, now and then only just; or `None`."""

    def fits(color: np.ndarray) -> bool:
        return bool((np.abs(color @ _LUMA - levels) >= least).all())

    if rng.random() < 0.2:
        difference = rng.uniform(1.0, 2.0) * least.max()
        for sign in rng.permutation([-1.0, 1.0]):
            color = np.clip(np.asarray(background) + sign * difference, 0, 255)
            if fits(color):
                return color
    for _ in range(8):
        color = _random_color(rng)
        if fits(color):
            return color
    for color in (np.full(3, 245.0), np.full(3, 12.0)):
        if fits(color):
            return color
    return None
