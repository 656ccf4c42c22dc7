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

"""One image of an input, and what all readers of inputs have in common."""

import importlib
import lzma
import math
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from PIL import Image

from ..model.image_loading import DEFAULT_MAX_PIXELS, ImageReadError, describe_source, load_rgb_image


# A file that ends in nothing but damage is given up.
MAX_FAILURES_IN_A_ROW = 20
HOLDS_NOTHING = "holds no image; check that it is the right file"
# What reading raises on files that are damaged, missing or too large. Everything else is a mistake in a program, and is not caught.
READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    OverflowError,
    NotImplementedError,  # of `zipfile`, on methods of compression that it does not know
    struct.error,
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
# What tells the images of one file apart. Others, such as the number of pages, only describe them.
PLACES = ("split", "member", "row", "page", "frame")


@dataclass(frozen=True)
class InputOptions:
    """
    How inputs are read.

    Args:
        dpi (`float`, *optional*, defaults to 200): Pixels an inch that pages of PDFs are rendered with.
        all_frames (`bool`, *optional*, defaults to `False`):
            Whether every frame of a TIFF, GIF, WebP, APNG or other image file is read, instead of the first one.
        every (`int` or `str`, *optional*, defaults to 1):
            Which frames of a video are read: every n-th one, or one every x seconds, as in `"2s"` or `"0.5s"`.
        image_column (`str`, *optional*):
            Column of images in parquet files and data sets on the Hub (by default `image`, or the only one that holds
            images), and suffix of the images in webdataset shards, such as `jpg` or `left.jpg` (by default all images).
        split (`str`, *optional*): Split of data sets on the Hub; needed when there are several.
        max_frames (`int`, *optional*, defaults to 100000):
            Most pages or frames that are taken out of one file. What comes after is one error.
        max_pixels (`int`, *optional*, defaults to 50331648):
            Largest width times height of an image, page or frame, see [`~image_loading.load_rgb_image`].
        timeout (`float`, *optional*, defaults to 60.0): Seconds that a download may take in all, `None` for no limit.

    Raises:
        ValueError: if a value cannot be meant.
    """

    dpi: float = 200.0
    all_frames: bool = False
    every: int | str = 1
    image_column: str | None = None
    split: str | None = None
    max_frames: int = 100_000
    max_pixels: int | None = DEFAULT_MAX_PIXELS
    timeout: float | None = 60.0
    # (frames, seconds) between two frames of a video; one of them is `None`.
    interval: tuple[int | None, float | None] = field(init=False, repr=False)

    def __post_init__(self):
        if not (math.isfinite(self.dpi) and self.dpi > 0):
            raise ValueError(f"dpi must be above 0, got {self.dpi!r}")
        if self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, got {self.max_frames!r}")
        object.__setattr__(self, "interval", parse_interval(self.every))


def parse_interval(every: int | str) -> tuple[int | None, float | None]:
    """
    The distance of two frames: (frames, `None`), or (`None`, seconds).

    Raises:
        ValueError: if it is neither a whole number of at least 1 nor seconds above 0 such as `"2s"`.
    """
    text = str(every).strip()
    try:
        if text.endswith("s"):
            seconds = float(text[:-1])
            if 0 < seconds < math.inf:
                return None, seconds
        elif int(text) >= 1:
            return int(text), None
    except ValueError:
        pass
    raise ValueError(f"every must be a number of frames, such as 10, or seconds, such as 2s or 0.5s; got {every!r}")


@dataclass(slots=True)
class InputImage:
    """
    One image of an input.

    Args:
        name (`str`): Path, address or other name of the file that it is in; `-` for standard input.
        source: What [`~image_loading.load_rgb_image`] reads it from, or the error that reading it has met.
        facts (`dict`, *optional*):
            Where in the file it is: `page` (counted from 1), `pages` and `dpi` of PDFs; `frame` (counted from 0) and
            `timestamp` (seconds) of videos and animations; `row` (counted from 0) and `split` of tables; `member`, the name
            in an archive or the one that a table gives.
        options ([`InputOptions`], *optional*): Its limits hold for [`~InputImage.load`].
        siblings (`int`, *optional*): About how many images the file has, where that is known; on the first one of them.
        is_done (`bool`, *optional*, defaults to `False`): Whether the caller said that it has this image; then it is not read.
    """

    name: str
    source: Any
    facts: dict[str, Any] = field(default_factory=dict)
    options: InputOptions = field(default_factory=InputOptions, repr=False)
    siblings: int | None = None
    is_done: bool = False

    @property
    def error(self) -> Exception | None:
        """Why there is no image, where that is known before it is decoded."""
        return self.source if isinstance(self.source, Exception) else None

    @property
    def where(self) -> str:
        """Its name for messages, such as `'scan.pdf', page 3`."""
        return describe_place(self.name, self.facts)

    def load(self) -> Image.Image:
        """
        Decodes the image.

        Returns:
            `PIL.Image.Image`: upright, in mode RGB.

        Raises:
            ImageReadError, FileNotFoundError: if it cannot be read; the message names it.
        """
        if isinstance(self.source, Exception):
            raise self.source
        name = None if isinstance(self.source, str) else self.where
        options = self.options
        return load_rgb_image(self.source, name=name, timeout=options.timeout, max_pixels=options.max_pixels)


def describe_place(name: str, facts: dict[str, Any]) -> str:
    """The name of a file, quoted, and the place in it."""
    places = [f"{place} {facts[place]!r}" for place in PLACES if place in facts]
    return ", ".join([describe_source(name), *places])


def place_key(name: str, facts: dict[str, Any]) -> str:
    """What tells an image from all others, as a text."""
    return "\0".join([name, *(str(facts[place]) if place in facts else "" for place in PLACES)])


@dataclass(slots=True)
class InputFile:
    """
    A file that images are read from; makes [`InputImage`]s of it.

    Args:
        name (`str`): See [`InputImage`].
        options ([`InputOptions`]): How it is read.
        has (`Callable`, *optional*): Takes a [`place_key`] and tells whether the caller has that image already.
    """

    name: str
    options: InputOptions
    has: Callable[[str], bool] | None = None

    def is_done(self, **facts: Any) -> bool:
        """Whether the caller has the image already, so that it need not be read."""
        return self.has is not None and self.has(place_key(self.name, facts))

    def image(self, source: Any, siblings: int | None = None, **facts: Any) -> InputImage:
        """An image of the file."""
        return InputImage(self.name, source, facts, self.options, siblings, self.is_done(**facts))

    def error(self, reason: Exception | str, **facts: Any) -> InputImage:
        """An image that cannot be read; the reason goes on where the image's name ends."""
        where = describe_place(self.name, facts)
        if isinstance(reason, Exception):
            # Errors of the system end in the name.
            of_system = isinstance(reason, OSError) and reason.filename == self.name
            text = " ".join(str(getattr(reason, "strerror", None) if of_system else reason).split())
            text = text or type(reason).__name__
            named = where in text or describe_source(self.name) in text or isinstance(reason, ImageReadError)
            remedy = "check its permissions" if isinstance(reason, PermissionError) else "get a complete copy of it"
            reason = text if named else f"cannot be read ({text}); {remedy}"
            where = "" if named else where
        return self.image(ImageReadError(f"{where} {reason}".strip()), **facts)

    def too_many(self, what: str) -> InputImage:
        """The error in place of what comes after the limit."""
        return self.error(f"has more than {self.options.max_frames} {what}, the rest is left out; raise max_frames")


class MissingLibraryError(ImportError):
    """A library that an input needs is not installed; the message has the command that installs it."""


def import_extra(module: str, extra: str, what: str) -> ModuleType:
    """
    Imports a library that is not always installed.

    Raises:
        MissingLibraryError: if it is not.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingLibraryError(f'needs {what}; install it by: pip install "tcm_hf[{extra}]"') from error
