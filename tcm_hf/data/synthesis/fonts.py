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
"""Font files that can draw a script, and a balanced choice among them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ImageFont, features

from .words import script_of


FONT_DIRECTORIES = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
# Fonts that draw images or codes in the places of letters: no test of glyphs can tell.
_SYMBOL_FONTS = (
    *(
        "symbol",
        "dingbat",
        "emoji",
        "icon",
        "math",
        "braille",
        "barcode",
        "wingding",
        "d050000l",
        "music",
        "lastresort",
    ),
    *("blank", "awesome", "webdings", "unifont", "powerline", "dseg", "keyboard", "dings", "bats"),
)


# Debian packages with fonts that can draw a script.
FONT_PACKAGES = {
    "latin": "fonts-dejavu fonts-liberation fonts-open-sans",
    "greek": "fonts-dejavu fonts-noto-core fonts-gfs-artemisia",
    "cyrillic": "fonts-dejavu fonts-noto-core fonts-paratype",
    "chinese": "fonts-noto-cjk fonts-wqy-zenhei fonts-arphic-ukai",
    "traditional_chinese": "fonts-noto-cjk fonts-arphic-uming",
    "japanese": "fonts-noto-cjk fonts-takao",
    "korean": "fonts-noto-cjk fonts-nanum",
    "thai": "fonts-thai-tlwg fonts-noto-core",
    "hebrew": "culmus fonts-noto-core",
    "arabic": "fonts-hosny-amiri fonts-noto-core fonts-kacst-one",
    "devanagari": "fonts-noto-core fonts-lohit-deva fonts-gargi",
}


def missing_fonts(script: str, directories: Sequence[str | Path] = FONT_DIRECTORIES) -> str:
    """What to say where there is no font for a script: which packages have one."""
    return (
        f"no font for script {script!r} in {', '.join(map(str, directories))}; install some (on Debian: apt install "
        f"{FONT_PACKAGES.get(script, 'fonts-noto-core')})"
    )


def find_fonts(
    directories: Sequence[str | Path] = FONT_DIRECTORIES, limit: int | None = None, script: str = "latin"
) -> list[Path]:
    """
    Finds font files that can draw a script, one of each design.

    Args:
        directories (`Sequence[str | Path]`, *optional*, defaults to the usual places on Linux):
            Folders searched with their subfolders for `.ttf`, `.otf` and `.ttc`; absent ones are skipped.
        limit (`int`, *optional*): stop after this many fonts.
        script (`str`, *optional*, defaults to `"latin"`):
            A name of [`~tcm_hf.data.synthesis.words.SCRIPTS`]. The digits are asked for, too.

    Returns:
        `list[Path]`: sorted paths; empty if there is none.

    Raises:
        ValueError: if the script is unknown, or Pillow lacks what its letters need.
    """
    description = script_of(script)
    if description.shaping and not features.check("raqm"):
        raise ValueError(
            f"script {script!r} needs Pillow with Raqm (libraqm and libfribidi), which shapes its letters; install "
            "libfribidi0 and a Pillow wheel, or choose another script"
        )
    # Most fonts lack a script's first letter already.
    probes = description.probes + "0123456789"
    fonts, seen = [], set()
    for directory in directories:
        folder = Path(directory).expanduser()
        if not folder.is_dir():
            continue
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf", ".ttc")):
            if any(word in path.name.lower() for word in _SYMBOL_FONTS):
                continue
            fingerprint = _font_fingerprint(path, probes)
            # Families for other scripts often repeat one Latin design, which would outweigh all others.
            if fingerprint is None or fingerprint in seen:
                continue
            seen.add(fingerprint)
            fonts.append(path)
            if limit is not None and len(fonts) >= limit:
                return fonts
    return fonts


def _font_fingerprint(path: Path, probes: str) -> int | None:
    """A number that fonts with the same letters share; `None` if one of the characters is missing."""
    try:
        font = ImageFont.truetype(str(path), 24, layout_engine=ImageFont.Layout.BASIC)
        missing = bytes(font.getmask("\U0010ffff"))
        glyphs = {}
        for character in probes:
            glyph = bytes(font.getmask(character))
            if glyph == missing or not any(glyph):
                return None
            glyphs[character] = glyph
    except (OSError, ValueError):
        return None
    if len(set(glyphs.values())) < 0.4 * len(glyphs):
        return None
    return zlib.crc32(b"".join(glyphs.values()))


@lru_cache(maxsize=512)
def load_font(path: str | None, size: int, shaping: bool = False):
    """A font at a size in pixels an em; `None`: Pillow's built-in FreeType font, which keeps the generator usable."""
    if path is None:
        return ImageFont.load_default(size)
    try:
        # Basic layout is several times faster than Raqm's, and enough for letters that keep their shape.
        engine = ImageFont.Layout.RAQM if shaping else ImageFont.Layout.BASIC
        return ImageFont.truetype(path, size, layout_engine=engine)
    except OSError as error:
        raise ValueError(f"{path}: not a font that FreeType can read ({error})") from error


@lru_cache(maxsize=1 << 18)
def has_glyph(path: str | None, character: str) -> bool:
    """Whether a font has ink of its own for a character, rather than the box that stands for missing ones."""
    font = load_font(path, 24)
    glyph = bytes(font.getmask(character))
    return any(glyph) and glyph != bytes(font.getmask("\U0010ffff"))


class FontLibrary:
    """
    Draws fonts by family, so that one with thirty weights counts no more than one with a single file. Folders with many
    families (big collections of display faces) are held back, to the power of 0.4 of their number.

    Args:
        fonts (`Sequence[str | Path]`, *optional*): font files; `None` or empty: Pillow's built-in font.

    Raises:
        ValueError: if a file is no font; the message names it.
    """

    def __init__(self, fonts: Sequence[str | Path] | None = None):
        families: dict[tuple[str, str], list[str]] = {}
        for font in fonts or []:
            name = load_font(str(font), 16).getname()[0] or ""
            families.setdefault((str(Path(font).parent), name), []).append(str(font))
        folders: dict[str, int] = {}
        for folder, _ in families:
            folders[folder] = folders.get(folder, 0) + 1
        keys = sorted(families)
        self.families: list[list[str | None]] = [list[str | None](families[key]) for key in keys] or [[None]]
        weights = np.array([folders[folder] ** -0.6 for folder, _ in keys] or [1.0])
        self._cumulative = np.cumsum(weights / weights.sum())

    def draw(self, rng: np.random.Generator) -> str | None:
        """A random font's path."""
        family = self.families[min(int(np.searchsorted(self._cumulative, rng.random())), len(self.families) - 1)]
        return family[int(rng.integers(len(family)))]
