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

In a scene, a block of words that share a style is laid out flat (`text_layout`), painted (`text_paint`), moved into the image
by one bend and one perspective map, and blended. The words' outlines go through the same maps. The other styles (`styles`)
write words on a flat page, which is then shown as it is, scanned or photographed (`view`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..augment import crop_polygons
from ..formats import TextRecord, load_image
from .backgrounds import paste_negative, photo_background, random_background
from .clutter import random_patch, random_tone
from .degradations import Degradation, degrade
from .fonts import FONT_DIRECTORIES, FontLibrary, find_fonts, missing_fonts
from .negatives import ALL_PATTERNS, HARD_PATTERNS
from .page import Page
from .styles import PAGES, STYLES
from .text_layout import CAPITAL, TextBlock, TextLayouter, bent_side, block_outlines, map_points
from .text_paint import Style, extent, paint, random_style, with_room_for_mark
from .view import show
from .weights import Weights
from .word_lists import listed_words
from .words import SCRIPTS
from .writer import Writer


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("Rendering words needs OpenCV: pip install opencv-python-headless") from error


__all__ = ["FONT_DIRECTORIES", "SyntheticTextGenerator", "find_fonts"]

# Words with lower capitals, or thinner than this, in pixels, cannot be read.
_LEAST_HEIGHT = 5.5
_LEAST_SIDE = 6.0
# The eight pixels around one, and itself.
_NEIGHBORS = np.ones((3, 3), np.uint8)
# Photos kept decoded in memory, in bytes.
_PHOTO_BYTES = 1 << 30


class SyntheticTextGenerator:
    """
    Draws images of words, or words onto images; every choice comes from the generator passed to the call.

    Args:
        fonts (`Sequence[str | Path]` or `Mapping[str, Sequence[str | Path]]`, *optional*):
            Font files, see [`find_fonts`]; `None` or empty: Pillow's built-in font. Or such lists by script.
        words (`Sequence[str]`, *optional*):
            Words to draw, mixed with numbers, prices and the like; `None`: a built-in list and invented words.
        backgrounds (`Sequence[str | Path | np.ndarray | TextRecord]`, *optional*):
            Images to cut backgrounds from. They must show no text, except for a `TextRecord`, from which only areas
            without any annotated instance (ignored ones included) are cut.
        size (`int` or `tuple[int, int]`, *optional*, defaults to 384):
            Side, or (height, width), of the generated images in pixels.
        text_height (`tuple[float, float]`, *optional*, defaults to `(8.0, 100.0)`):
            Range of the height of capitals in pixels; drawn log-uniformly.
        max_words (`int`, *optional*):
            Most words on one image. Defaults to one for every 8000 square pixels of `size`, and at least 12.
        margin (`float`, *optional*, defaults to 0.09):
            Distance of the outline from the ink, as a share of the word's height.
        photo_probability (`float`, *optional*, defaults to 0.7):
            Chance of a background from `backgrounds`, when there are any.
        plate (`float`, *optional*, defaults to 0.3):
            Chance of a plate behind a block. Words that no single color would make legible get one anyway.
        shadow (`float`, *optional*, defaults to 0.15): chance of a shadow.
        outline (`float`, *optional*, defaults to 0.12): chance of outlined letters.
        curved (`float`, *optional*, defaults to 0.1): chance that a block is a word or line on an arc or a wave.
        bend (`tuple[float, float]`, *optional*, defaults to `(20.0, 200.0)`):
            Range of the angle, in degrees, through which an arc bends a word; drawn log-uniformly.
        any_angle (`float`, *optional*, defaults to 0.06): chance that a block is turned by any angle; else it is upright.
        tiny (`float`, *optional*, defaults to 0.06): chance of a block below `text_height`, down to half its low end.
        negatives (`float`, *optional*, defaults to 0.7):
            Chance of patterns that are no text, such as gratings and windows, on generated images.
        degradation (`float`, *optional*, defaults to 1.0):
            Factor on the chances of blur, noise, bad light, JPEG artifacts and occlusion of generated images.
        script (`str`, *optional*, defaults to `"latin"`):
            A name of [`~tcm_hf.data.synthesis.words.SCRIPTS`]; the fonts must have its letters.
        styles (`Mapping[str, float]`, *optional*, defaults to `{"scene": 1.0}`):
            What images show, by weight: `"scene"`, `"document"`, `"receipt"`, `"screen"`, `"sign"`, `"vertical"`. In all
            but scenes, a whole line of a script without gaps, or a column of it, has one outline; sizes follow the image's,
            from the low end of `text_height` to half of the image.
        scripts (`Mapping[str, float]`, *optional*, defaults to `script` alone):
            Scripts by weight, one an image. Those besides `script` are written in the system's fonts, or those that `fonts`
            names for them, with the words of [`~tcm_hf.data.synthesis.word_lists.listed_words`].
        text_free (`float`, *optional*, defaults to 0.0):
            Share of images without any word, full of patterns that are taken for text.
        hard_negatives (`float`, *optional*, defaults to 0.0):
            Chance of hatching, blinds, fences, icons and the like, see [`~tcm_hf.data.synthesis.negatives`], on scenes.
        quarter_turns (`float`, *optional*, defaults to 0.0):
            Share of images turned by 90, 180 or 270 degrees.

    Raises:
        ValueError: if a range or a probability makes no sense, a font lacks the script, or there is no font for one of
            `scripts`.
    """

    def __init__(
        self,
        fonts: Sequence[str | Path] | Mapping[str, Sequence[str | Path]] | None = None,
        words: Sequence[str] | None = None,
        backgrounds: Sequence[str | Path | np.ndarray | TextRecord] | None = None,
        size: int | tuple[int, int] = 384,
        text_height: tuple[float, float] = (8.0, 100.0),
        max_words: int | None = None,
        margin: float = 0.09,
        photo_probability: float = 0.7,
        plate: float = 0.3,
        shadow: float = 0.15,
        outline: float = 0.12,
        curved: float = 0.1,
        bend: tuple[float, float] = (20.0, 200.0),
        any_angle: float = 0.06,
        tiny: float = 0.06,
        negatives: float = 0.7,
        degradation: float = 1.0,
        script: str = "latin",
        styles: Mapping[str, float] | None = None,
        scripts: Mapping[str, float] | None = None,
        text_free: float = 0.0,
        hard_negatives: float = 0.0,
        quarter_turns: float = 0.0,
    ):
        sides = [int(side) for side in (size if isinstance(size, Iterable) else (size, size))]
        if len(sides) != 2 or min(sides) < 32:
            raise ValueError(f"`size` must be one or two numbers of at least 32 pixels, got {size}")
        self.shape = (sides[0], sides[1])
        self.size = self.shape if isinstance(size, Iterable) else sides[0]
        if not 4 <= text_height[0] <= text_height[1] < math.inf:
            raise ValueError(f"`text_height` must be (low, high), finite, with 4 <= low <= high, got {text_height}")
        if not 0 < bend[0] <= bend[1] <= 300:
            raise ValueError(f"`bend` must be (low, high) in degrees with 0 < low <= high <= 300, got {bend}")
        if max_words is not None and max_words < 1:
            raise ValueError(f"`max_words` must be at least 1, got {max_words}")
        chances = {"photo_probability": photo_probability, "plate": plate, "shadow": shadow, "outline": outline}
        chances |= {"curved": curved, "any_angle": any_angle, "tiny": tiny, "negatives": negatives}
        chances |= {"text_free": text_free, "hard_negatives": hard_negatives, "quarter_turns": quarter_turns}
        for name, value in (chances | {"degradation": degradation}).items():
            if not 0 <= value <= 1:
                raise ValueError(f"`{name}` must lie between 0 and 1, got {value}")
        self.backgrounds = list(backgrounds) if backgrounds else []
        self.max_words = int(max_words) if max_words is not None else max(12, self.shape[0] * self.shape[1] // 8000)
        self.text_height = (float(text_height[0]), float(text_height[1]))
        self.photo_probability = float(photo_probability)
        self.plate = float(plate)
        self.shadow = float(shadow)
        self.outline = float(outline)
        self.any_angle = float(any_angle)
        self.negatives = float(negatives)
        self.degradation = float(degradation)
        self.words = [word for word in words if word.strip()] if words else None
        self.text_free = float(text_free)
        self.hard_negatives = float(hard_negatives)
        self.quarter_turns = float(quarter_turns)
        self.margin = float(margin)
        self.styles = Weights("`styles`", {"scene": 1.0} if styles is None else styles, STYLES)
        self.scripts = Weights("`scripts`", {script: 1.0} if scripts is None else scripts, tuple(SCRIPTS))
        settings = self.text_height, self.margin, float(curved), (float(bend[0]), float(bend[1])), float(tiny)
        self.layouters: dict[str, TextLayouter] = {}
        for name in self.scripts.names:
            library = FontLibrary(_script_fonts(fonts, name, name == script))
            listed = self.words if name == script else listed_words(name)
            self.layouters[name] = TextLayouter(library, listed, name, *settings)
        self.layouter = self.layouters.get(script) or next(iter(self.layouters.values()))
        self.writers: dict[str, Writer] = {}
        if self.styles.names != ["scene"] or self.text_free:
            self.writers = {name: Writer(layouter) for name, layouter in self.layouters.items()}
        self._photos: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_photos": {}}

    def generate(self, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray], list[bool], list[str]]:
        """
        Draws one image.

        Args:
            rng (`np.random.Generator`): the source of randomness.

        Returns:
            `tuple[np.ndarray, list[np.ndarray], list[bool], list[str]]`: RGB uint8 (height, width, 3), one float32 polygon
            a word, clockwise from the top left of the word as drawn, in every script: (4, 2), or for a bent word (n, 2) with
            n >= 14 and as many points along the top as along the bottom (words cut by the border may have any number);
            ignore flags of words that cannot be read (too small, dim, blurred, hidden or cut); the words.
        """
        turns = int(rng.integers(1, 4)) if self.quarter_turns and rng.random() < self.quarter_turns else 0
        shape = (self.shape[1], self.shape[0]) if turns % 2 else self.shape
        if self.text_free and rng.random() < self.text_free:
            image, _ = degrade(self._text_free(shape, rng), rng, self.degradation)
            return np.ascontiguousarray(np.rot90(image, turns)), [], [], []
        style = self.styles.draw(rng)
        faults = 1.0
        if style == "scene":
            image = self._background(rng, shape)
            if self.hard_negatives and rng.random() < self.hard_negatives:
                for _ in range(int(rng.integers(1, 5))):
                    paste_negative(image, rng, HARD_PATTERNS)
            image, polygons, contrasts, texts, ignore = self._add_words(image, [], self.max_words, rng, cut=0.12)
        else:
            image, polygons, contrasts, texts, ignore, faults = self._page(style, shape, rng)
        faults *= self.degradation
        if rng.random() < 0.15 * faults:
            hidden = _occlude(image, polygons, rng)
            ignore = [a or b for a, b in zip(ignore, hidden, strict=True)]
        before = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        image, done = degrade(image, rng, faults)
        after = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        result: tuple[list[np.ndarray], list[bool], list[str]] = [], [], []
        for polygon, contrast, text, flag in zip(polygons, contrasts, texts, ignore, strict=True):
            # Exposure at either end of the range takes words away that its average gain would leave.
            flag = flag or not _legible(polygon, contrast, done) or _washed_out(polygon, before, after, done.noise)
            pieces, flags = crop_polygons([polygon], [flag], *shape[::-1], min_side=_LEAST_SIDE)
            for piece, piece_flag in zip(pieces, flags, strict=True):
                result[0].append(piece.astype(np.float32))
                result[1].append(piece_flag)
                result[2].append(text)
        if turns:
            image, polygons = _turned(image, result[0], turns)
            return image, polygons, result[1], result[2]
        return image, result[0], result[1], result[2]

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
        Draws words onto an image, away from the instances it already has.

        Args:
            image (`np.ndarray`): RGB uint8 of shape (height, width, 3); left unchanged.
            polygons (`Sequence[np.ndarray]`): outlines to keep clear of, of shape (n, 2) in pixels of the image.
            rng (`np.random.Generator`): the source of randomness.
            ignore (`Sequence[bool]`, *optional*, defaults to `False` for all): flags of `polygons`.
            texts (`Sequence[str | None]`, *optional*, defaults to `None` for all): transcriptions of `polygons`.
            max_words (`int`, *optional*, defaults to the generator's): most words to add.

        Returns:
            `tuple[np.ndarray, list[np.ndarray], list[bool], list[str | None]]`: the new image, and the given instances
            followed by the drawn words.
        """
        image = np.ascontiguousarray(image).copy()
        polygons = [np.asarray(polygon, dtype=np.float32) for polygon in polygons]
        ignore = [False] * len(polygons) if ignore is None else [bool(flag) for flag in ignore]
        texts = [None] * len(polygons) if texts is None else list(texts)
        image, added, contrasts, words, flags = self._add_words(image, polygons, max_words or self.max_words, rng)
        limit = np.array(image.shape[1::-1], dtype=np.float32)
        polygons += [np.clip(polygon, 0, limit) for polygon in added]
        ignore += [
            flag or not _legible(polygon, contrast, Degradation())
            for flag, polygon, contrast in zip(flags, added, contrasts, strict=True)
        ]
        return image, polygons, ignore, texts + words

    def _add_words(
        self, image: np.ndarray, taken: list[np.ndarray], most: int, rng: np.random.Generator, cut: float = 0.0
    ) -> tuple[np.ndarray, list[np.ndarray], list[float], list[str], list[bool]]:
        """Draws blocks, in place, until a random number of words is reached; `cut`: chance to stick out of the image."""
        layouter = self.layouters[self.scripts.draw(rng)]
        height, width = image.shape[:2]
        occupied = np.zeros((height // 4 + 2, width // 4 + 2), dtype=np.uint8)
        for polygon in taken:
            cv2.fillPoly(occupied, [np.rint(polygon / 4).astype(np.int32)], 1)
        if len(taken):
            occupied = cv2.dilate(occupied, np.ones((3, 3), np.uint8))
        roughness = _roughness(image, (height // 4 + 1, width // 4 + 1))
        polygons, contrasts, texts, ignore = [], [], [], []
        budget = math.ceil(math.exp(rng.uniform(0, math.log(most))))
        # Most signs of a photo are seen from the same side.
        slope, view = math.radians(rng.normal(0, 4)), rng.normal(0, 0.12)
        misses = 0
        while budget > 0 and misses < 6:
            block = layouter.draw(budget, width, rng)
            style = random_style(block, self.plate, self.shadow, self.outline, rng)
            block = with_room_for_mark(block, style)
            sticks_out = rng.random() < cut
            placed = self._place(block, style, occupied, roughness, (height, width), slope, view, sticks_out, rng)
            if placed is None:
                misses += 1
                continue
            block, matrix, outline = placed
            contrasts += list(_draw_block(image, block, style, matrix, outline, rng))
            cv2.fillPoly(occupied, [np.rint(outline / 4).astype(np.int32)], 1)
            outlines = block_outlines(block, matrix)
            polygons += outlines
            ignore += [
                flag or height * _side(outline) < _LEAST_HEIGHT * _side(box)
                for flag, height, outline, box in zip(block.ignore, block.heights, outlines, block.boxes)
            ]
            texts += block.texts
            budget -= len(block.texts)
        return image, polygons, contrasts, texts, ignore

    def _page(
        self, style: str, shape: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, list[np.ndarray], list[float], list[str], list[bool], float]:
        """An image of a page; its words' outlines, contrasts, texts and flags; the factor on a camera's faults."""
        page = self._draw_page(style, shape, rng)
        flat = page.outlines()
        image, matrix, faults = show(page, style, shape, rng)
        outlines = cv2.perspectiveTransform(flat.reshape(-1, 1, 2), matrix).reshape(-1, 4, 2) if len(flat) else flat
        ignore = [
            flag or CAPITAL * em * _side(outline) < _LEAST_HEIGHT * _side(box)
            for flag, em, outline, box in zip(page.ignore, page.ems, outlines, flat, strict=True)
        ]
        return image, list(outlines), page.contrasts, page.texts, ignore, faults

    def _draw_page(self, style: str, shape: tuple[int, int], rng: np.random.Generator, silent: bool = False) -> Page:
        writer = self.writers[self.scripts.draw(rng)]
        # A page of small print has several times the words of a scene.
        settings = {"margin": self.margin, "most": 6 * self.max_words, "silent": silent}
        return PAGES[style](shape, writer, rng, self.text_height[0], **settings)

    def _text_free(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        """An image without words: of patterns that are taken for them, of a photo, or of a page left blank."""
        kind = rng.random()
        if kind < 0.25:
            image, _ = random_patch(*shape, rng, ALL_PATTERNS)
        elif kind < 0.4:
            style = ("screen", "screen", "document", "sign")[int(rng.integers(4))]
            image, _, _ = show(self._draw_page(style, shape, rng, silent=True), style, shape, rng)
            return image
        else:
            image = self._background(rng, shape)
        for _ in range(int(rng.integers(0, 9))):
            paste_negative(image, rng, ALL_PATTERNS if rng.random() < 0.3 else HARD_PATTERNS)
        return image

    def _background(self, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        if self.backgrounds and rng.random() < self.photo_probability:
            number = int(rng.integers(len(self.backgrounds)))
            source = self.backgrounds[number]
            record = source if isinstance(source, TextRecord) else TextRecord(source)
            photo = self._photos.get(number)
            if photo is None:
                photo = load_image(record.image)
                if sum(kept.nbytes for kept in self._photos.values()) + photo.nbytes <= _PHOTO_BYTES:
                    self._photos[number] = photo
            background = photo_background(photo, record, shape, rng)
            if background is not None:
                if rng.random() < 0.3 * self.negatives:
                    for _ in range(int(rng.integers(1, 4))):
                        paste_negative(background, rng)
                return background
        return random_background(shape, rng, self.negatives)

    def _place(
        self,
        block: TextBlock,
        style: Style,
        occupied: np.ndarray,
        roughness: np.ndarray,
        size: tuple[int, int],
        slope: float,
        view: float,
        sticks_out: bool,
        rng: np.random.Generator,
    ) -> tuple[TextBlock, np.ndarray, np.ndarray] | None:
        """
        A perspective map into a free, preferably smooth place; with the block, which may have been drawn smaller, and the
        outline of its paint in the image. `None` if all is taken.
        """
        height, width = size
        limits = np.array([width, height])
        matrix, outline = self._perspective(block, style, slope, view, rng)
        low, high = outline.min(axis=0), outline.max(axis=0)
        if (high - low > limits - 4).any():
            shrink = 0.95 * float(((limits - 8) / (high - low)).min())
            if shrink * block.text_height < 0.6 * self.text_height[0]:
                return None
            before = np.array(block.masks[0].shape[::-1])
            block = block.shrink(shrink)
            style.reach *= shrink
            ratio = np.array(block.masks[0].shape[::-1]) / before
            # The same view of the smaller layout.
            matrix = np.diag([shrink, shrink, 1.0]) @ matrix @ np.diag([*(1 / ratio), 1.0])
            outline = _outline(block, style, matrix)
            low, high = outline.min(axis=0), outline.max(axis=0)
        room = np.maximum(limits - (high - low) - 4, 0)
        slack = 0.35 * (high - low) if sticks_out else 0.0
        # Signs hang on walls rather than in foliage: the smoothest of a few free places, most of the time.
        wanted = 3 if rng.random() < 0.7 else 1
        best, best_roughness = None, math.inf
        for _ in range(10):
            offset = 2 + rng.random(2) * (room + 2 * slack) - slack - low
            left, top = np.clip(np.floor((low + offset) / 4).astype(int) - 1, 0, None)
            right, bottom = np.minimum(np.ceil((high + offset) / 4).astype(int) + 2, occupied.shape[::-1])
            if right <= left or bottom <= top:
                continue
            taken = occupied[top:bottom, left:right]
            if taken.any():
                shape = np.zeros(taken.shape, np.uint8)
                cv2.fillPoly(shape, [np.rint((outline + offset) / 4 - (left, top)).astype(np.int32)], 1)
                if (cv2.dilate(shape, np.ones((3, 3), np.uint8)) & taken).any():
                    continue
            right, bottom = min(right, roughness.shape[1] - 1), min(bottom, roughness.shape[0] - 1)
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
        return block, shift @ matrix, outline + best

    def _perspective(
        self, block: TextBlock, style: Style, slope: float, view: float, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random view of a block around the origin, and the outline of its paint in it."""
        rows, columns = block.masks[0].shape
        kind = rng.random()
        if kind < self.any_angle:
            angle = rng.uniform(-math.pi, math.pi)
        elif kind < self.any_angle + 0.02:
            angle = rng.choice((-1.0, 1.0)) * math.pi / 2 + math.radians(rng.normal(0, 3))
        elif kind < self.any_angle + 0.17:
            angle = math.radians(rng.uniform(-30, 30))
        else:
            angle = slope + math.radians(rng.normal(0, 3))
        shear = view + rng.normal(0, 0.06)
        # Signs along a wall are seen foreshortened.
        stretch = math.exp(rng.normal(-0.15, 0.2))
        tilt = rng.normal(0, 0.15, size=2) / (columns, max(rows, columns / 3))
        matrix = np.eye(3)
        rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        # Across a wall, verticals stay upright and lines slope; a shear is what remains of it.
        matrix[:2, :2] = rotate @ np.array([[stretch, 0.5 * shear], [shear * stretch, 1]])
        matrix[2, :2] = np.clip(tilt, -0.4 / columns, 0.4 / columns)
        matrix = matrix @ np.array([[1, 0, -columns / 2], [0, 1, -rows / 2], [0, 0, 1.0]])
        return matrix, _outline(block, style, matrix)


def _script_fonts(fonts, script: str, main: bool) -> Sequence[str | Path] | None:
    """The font files for a script, from those given or, unless it is the main one, from the system's."""
    if isinstance(fonts, Mapping):
        if main or fonts.get(script):
            return fonts.get(script)
    elif main:
        return fonts
    found = find_fonts(script=script)
    if not found:
        raise ValueError(missing_fonts(script))
    return found


def _turned(image: np.ndarray, polygons: list[np.ndarray], turns: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """An image and outlines turned counterclockwise by quarters."""
    height, width = image.shape[:2]
    for _ in range(turns):
        polygons = [np.column_stack([p[:, 1], width - p[:, 0]]).astype(np.float32) for p in polygons]
        height, width = width, height
    return np.ascontiguousarray(np.rot90(image, turns)), polygons


def _outline(block: TextBlock, style: Style, matrix: np.ndarray) -> np.ndarray:
    """The outline of a block's paint in the image."""
    corners = extent(block, style)
    if block.bend is not None:
        corners = bent_side(corners, block.bend)
    return map_points(corners, block.bend, matrix)


def _draw_block(
    image: np.ndarray,
    block: TextBlock,
    style: Style,
    matrix: np.ndarray,
    outline: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Paints a block into the image, in place; returns the contrast of each word in levels."""
    height, width = image.shape[:2]
    left, top = np.clip(np.floor(outline.min(axis=0)).astype(int) - 2, 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(outline.max(axis=0)).astype(int) + 2, (left + 1, top + 1), (width, height))
    region = image[top:bottom, left:right]
    size = (int(right - left), int(bottom - top))
    levels, spreads = _word_levels(region, block, matrix, (left, top))
    flat, contrasts = paint(block, style, levels, spreads, region.mean(axis=(0, 1)), rng)
    shift = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])
    # Continuous coordinates -> OpenCV's, whose integer points are pixel centers.
    warp = np.linalg.inv(half) @ shift @ matrix @ half
    if block.bend is None:
        layer = cv2.warpPerspective(flat, warp, size, flags=cv2.INTER_LINEAR)
    else:
        grid = np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32))
        back = np.linalg.inv(shift @ matrix).astype(np.float32)
        x, y = grid[0] + 0.5, grid[1] + 0.5
        depth = back[2, 0] * x + back[2, 1] * y + back[2, 2]
        x, y = (
            (back[0, 0] * x + back[0, 1] * y + back[0, 2]) / depth,
            (back[1, 0] * x + back[1, 1] * y + back[1, 2]) / depth,
        )
        x, y = block.bend.inverse(x, y)
        layer = cv2.remap(flat, (x - 0.5).astype(np.float32), (y - 0.5).astype(np.float32), cv2.INTER_LINEAR)
    if rng.random() < 0.4:
        layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.3, 0.9))
    elif block.text_height > 20 and rng.random() < 0.1:
        layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.5, 0.05 * block.text_height))
    rest = cv2.bitwise_not(layer[:, :, 3])
    rest = cv2.merge([rest, rest, rest])
    region[:] = cv2.add(cv2.multiply(region, rest, scale=1 / 255), cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB))
    return contrasts


def _word_levels(
    region: np.ndarray, block: TextBlock, matrix: np.ndarray, origin: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the luminance behind each word of a block."""
    grey = cv2.cvtColor(region, cv2.COLOR_RGB2GRAY)
    levels, spreads = [], []
    for quad in block_outlines(block, matrix):
        quad = quad - origin
        left, top = (int(v) for v in np.clip(quad.min(axis=0), 0, (grey.shape[1] - 1, grey.shape[0] - 1)))
        right, bottom = (int(v) + 1 for v in quad.max(axis=0))
        mean, deviation = cv2.meanStdDev(grey[top : max(bottom, top + 1), left : max(right, left + 1)])
        levels.append(mean[0, 0])
        spreads.append(deviation[0, 0])
    return np.array(levels), np.array(spreads)


def _side(polygon: np.ndarray) -> float:
    """Thickness of a word's outline: the shorter side of the rectangle with its area and perimeter, also when it is bent."""
    half, area = cv2.arcLength(polygon, True) / 2, cv2.contourArea(polygon)
    return (half - math.sqrt(max(half * half - 4 * area, 0.0))) / 2


def _legible(polygon: np.ndarray, contrast: float, done: Degradation) -> bool:
    """Whether a word can be told from its ground by eye: large, strong and sharp enough."""
    side = _side(polygon)
    if side < _LEAST_SIDE or contrast * done.gain < 6 + 0.7 * done.noise * min(1.0, 12 / side):
        return False
    return done.blur < 0.28 * side


def _washed_out(polygon: np.ndarray, before: np.ndarray, after: np.ndarray, noise: float) -> bool:
    """Whether next to nothing is left of a word's variation of brightness."""
    height, width = before.shape
    left, top = (int(v) for v in np.clip(polygon.min(axis=0), 0, (width - 1, height - 1)))
    right, bottom = (int(v) + 1 for v in np.clip(polygon.max(axis=0), (left, top), (width - 1, height - 1)))
    inside = np.zeros((bottom - top, right - left), np.uint8)
    cv2.fillPoly(inside, [np.rint(polygon - (left, top)).astype(np.int32)], 1)
    variances = [cv2.meanStdDev(grey[top:bottom, left:right], mask=inside)[1][0, 0] ** 2 for grey in (before, after)]
    left_over = math.sqrt(max(variances[1] - noise**2, 0.0))
    return left_over < max(2.5, min(0.15 * math.sqrt(variances[0]), 6.0))


def _occlude(image: np.ndarray, polygons: list[np.ndarray], rng: np.random.Generator) -> list[bool]:
    """Draws poles, branches, heads and the like over the image, in place; says which words are mostly hidden."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.5:
            start = rng.random(2) * (width, height)
            angle = rng.normal(math.pi / 2, 0.25) if rng.random() < 0.6 else rng.uniform(0, math.pi)
            reach = np.array([math.cos(angle), math.sin(angle)]) * max(width, height)
            one_end, other_end = ((start + sign * reach).astype(int).tolist() for sign in (-1, 1))
            cv2.line(mask, one_end, other_end, 255, int(rng.integers(1, max(3, width // 40))), cv2.LINE_AA)
        elif kind < 0.75:
            center = tuple(int(v) for v in rng.random(2) * (width, height))
            axes = tuple(int(v) for v in rng.uniform(0.02, 0.13, size=2) * width + 1)
            cv2.ellipse(mask, center, axes, rng.uniform(0, 180), 0, 360, 255, -1, cv2.LINE_AA)
        else:
            heading = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.25, size=25))
            path = rng.random(2) * (width, height) + np.cumsum(
                width / 25 * np.column_stack([np.cos(heading), np.sin(heading)]), axis=0
            )
            cv2.polylines(mask, [path.astype(np.int32)], False, 255, int(rng.integers(1, 7)), cv2.LINE_AA)
    tone = np.empty_like(image)
    tone[:] = random_tone(rng)
    alpha = cv2.merge([mask, mask, mask])
    image[:] = cv2.add(
        cv2.multiply(image, cv2.bitwise_not(alpha), scale=1 / 255), cv2.multiply(tone, alpha, scale=1 / 255)
    )
    hidden = []
    for polygon in polygons:
        left, top = np.clip(polygon.min(axis=0).astype(int), 0, (width - 1, height - 1))
        right, bottom = np.clip(polygon.max(axis=0).astype(int) + 1, (left + 1, top + 1), (width, height))
        inside = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(inside, [np.rint(polygon - (left, top)).astype(np.int32)], 1)
        covered = cv2.mean(mask[top:bottom, left:right], inside)[0] / 255
        hidden.append(bool(covered > 0.5))
    return hidden


def _roughness(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Integral image, at a quarter of the resolution, of the strength of edges."""
    grey = cv2.cvtColor(cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return cv2.integral(cv2.absdiff(cv2.dilate(grey, _NEIGHBORS), cv2.erode(grey, _NEIGHBORS)))
