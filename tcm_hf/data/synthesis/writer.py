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
"""What is written on pages, screens and signs in one script, and in which fonts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from .fonts import FontLibrary, load_font
from .text_layout import TextLayouter
from .words import Script, random_price, script_of


# Families that print and screens use, by parts of their files' names; the others are for display.
_TEXT_FONTS = re.compile(
    r"dejavu|liberation|noto|lato|roboto|open-?sans|free(sans|serif)|carlito|caladea|tex-?gyre|urw|nimbus|linux-?libertine|"
    r"linlibertine|gentium|charis|inter|cantarell|garamond|junicode|paratype|/pt|fonts-go|vollkorn|clear-?sans|karla|cabin|"
    r"manrope|b612|andika|adf|arkpandora|droid|wqy|takao|nanum|arphic|ipa|tlwg|amiri|culmus|lohit|gargi|gfs|kacst|dosis|sora",
    re.IGNORECASE,
)
_MONO_FONTS = re.compile(r"mono|courier|typewriter|ocr-?[ab]|inconsolata|firacode|typist|code|fixed", re.IGNORECASE)
_SINGLE_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SINGLE_SIGNS = "$€£%#@&?"
# Signs that count as words when they stand alone, as a key or a label does.
_READABLE_SIGNS = frozenset("$€£¥₩₪₹฿%#@&?")
_FULL_STOPS = {"chinese": "，，。、！", "traditional_chinese": "，，。、！", "japanese": "、、。"}


def is_readable(text: str) -> bool:
    """Whether a text counts as a word: it has a letter, a digit, or is a sign that is read aloud."""
    return any(character.isalnum() or character in _READABLE_SIGNS for character in text)


class Writer:
    """
    Words and fonts of one script.

    Args:
        layouter (`TextLayouter`): of the script; it knows its fonts and its words.
    """

    def __init__(self, layouter: TextLayouter):
        self.layouter = layouter
        self.script = layouter.script
        self.shaping = self.description.shaping or (self.description.marks and layouter.words is not None)
        files = [str(file) for family in layouter.library.families for file in family if file is not None]
        self._text_fonts = _library(files, _TEXT_FONTS)
        self._mono_fonts = _library(files, _MONO_FONTS) or self._text_fonts

    @property
    def description(self) -> Script:
        """What is known of the script; looked up, since it does not travel to another process."""
        return script_of(self.script)

    @property
    def vertical(self) -> bool:
        """Whether the script is also written in columns."""
        return self.description.ideographic

    def font(self, rng: np.random.Generator, kind: str = "any") -> str | None:
        """
        Draws a font.

        Args:
            rng (`np.random.Generator`): the source of randomness.
            kind (`str`, *optional*, defaults to `"any"`): `"any"`, `"text"` (of print and screens) or `"mono"`.

        Returns:
            `str` or `None`: a font file; `None`: Pillow's built-in font.
        """
        library = {"text": self._text_fonts, "mono": self._mono_fonts}.get(kind) or self.layouter.library
        return library.draw(rng)

    def load(self, font: str | None, size: float):
        """A font of Pillow at a size in pixels an em, with the layout that the script needs."""
        return load_font(font, max(6, round(size)), self.shaping)

    def word(self, font: str | None, rng: np.random.Generator, running: bool = False) -> str:
        """A word, a number or the like; `running`: as in running text. Of scripts without gaps, a word of a few letters."""
        return self.layouter.word(font, rng, running)

    def number(self, font: str | None, rng: np.random.Generator) -> str:
        """A number as in a table."""
        kind = rng.random()
        if kind < 0.3:
            text = str(rng.integers(0, 10))
        elif kind < 0.6:
            text = str(rng.integers(10, 3000))
        elif kind < 0.8:
            text = f"{rng.random() * 10 ** rng.integers(0, 4):.{rng.integers(1, 3)}f}"
        elif kind < 0.9:
            text = f"{rng.integers(1, 100)}%"
        else:
            text = f"{rng.integers(1, 999)},{rng.integers(0, 1000):03d}"
        return self.layouter.fitting(text, font) or "1"

    def price(self, font: str | None, rng: np.random.Generator) -> str:
        """A price, such as "$4.50"."""
        return self.layouter.fitting(random_price(rng), font) or "9.50"

    def single(self, font: str | None, rng: np.random.Generator) -> str:
        """One character that stands alone: a letter, a digit or a sign such as "$"."""
        kind = rng.random()
        if kind < 0.45:
            text = str(rng.integers(10))
        elif kind < 0.9 or self.script != "latin":
            letters = _SINGLE_LETTERS if self.script == "latin" else self.description.probes
            text = letters[int(rng.integers(len(letters)))]
        else:
            text = _SINGLE_SIGNS[int(rng.integers(len(_SINGLE_SIGNS)))]
        return self.layouter.fitting(text, font) or str(rng.integers(10))

    def phrase(self, font: str | None, rng: np.random.Generator, most: int = 4) -> list[str]:
        """One to `most` words of a label or a title: one run where the script has no gaps."""
        count = 1 + int(most * rng.random() ** 1.5)
        if not self.description.spaced:
            return [self.run(font, rng, int(rng.integers(2, 3 + 2 * count)))]
        return [self.word(font, rng) for _ in range(min(count, most))]

    def run(self, font: str | None, rng: np.random.Generator, length: int, stops: bool = False) -> str:
        """About `length` letters without a gap, from several words; `stops`: with full stops and commas between them."""
        text = ""
        marks = self.layouter.fitting(_FULL_STOPS.get(self.script, ""), font) if stops else ""
        while len(text) < length:
            word = self.word(font, rng, running=True)
            text += word
            if marks and rng.random() < 0.25:
                text += marks[int(rng.integers(len(marks)))]
        if self.description.ideographic:
            return text[: max(1, length)]
        return text

    def line(self, font: str | None, size: float, width: float, rng: np.random.Generator) -> list[tuple[str, float]]:
        """
        Running text for one line.

        Args:
            font (`str` or `None`): a font file.
            size (`float`): in pixels an em.
            width (`float`): of the line in pixels.
            rng (`np.random.Generator`): the source of randomness.

        Returns:
            `list[tuple[str, float]]`: texts that fit, each with its width in pixels; empty if none does. One, or a few,
            where the script has no gaps between words.
        """
        loaded = self.load(font, size)
        gap = space(loaded)
        if not self.description.spaced:
            # A line has now and then a gap, after which another run begins.
            share = rng.uniform(0.3, 0.7) if rng.random() < 0.15 else 1.0
            found = []
            for part in (share, 1 - share):
                length = int(part * width / loaded.size) - 1
                if length >= 1:
                    text = self.run(font, rng, length, stops=True)
                    while len(text) > 1 and loaded.getlength(text) > part * width:
                        text = text[:-1] if self.description.ideographic else text[: len(text) // 2]
                    found.append((text, loaded.getlength(text)))
            return found
        found, left = [], width
        for _ in range(60):
            word = self.word(font, rng, running=True)
            length = loaded.getlength(word)
            if length > left:
                break
            found.append((word, length))
            left -= length + gap
        return found


def space(font) -> float:
    """The gap between words in pixels: what the font says, within what can be seen as one."""
    return max(0.22 * font.size, min(0.4 * font.size, font.getlength(" ")))


def _library(files: Sequence[str], pattern: re.Pattern) -> FontLibrary | None:
    chosen = [file for file in files if pattern.search(f"{Path(file).parent.name}/{Path(file).name}")]
    return FontLibrary(chosen) if chosen else None


@lru_cache(maxsize=4096)
def leading(font: str | None, shaping: bool) -> float:
    """The least distance of lines, in em, at which a font's letters of one line keep clear of the next line's."""
    loaded = load_font(font, 64, shaping)
    return float(np.clip(1.05 * sum(loaded.getmetrics()) / 64, 1.15, 1.9))
