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
"""What readers share: text of annotation files, numbers, the pairing of pictures with annotations, EXIF frames."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...image_loading import ORIENTATION_TAG
from .records import IMAGE_SUFFIXES, AnnotationError


PathLike = str | Path

# No picture is larger, and larger values would overflow further on.
MAX_COORDINATE = 1e7
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
INTEGER = re.compile(r"[+-]?\d{1,15}", re.ASCII)

MISSING_CHOICES = ("error", "skip", "keep")
ORIENTATION_CHOICES = ("stored", "upright", "auto")
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing"),
}
SPLIT_SYNONYMS = {synonym: name for name, synonyms in SPLIT_WORDS.items() for synonym in synonyms}


def natural_key(text: str) -> list:
    """Sort key that puts `img_2` before `img_10`."""
    return [int(part) if part.isdecimal() and part.isascii() else part for part in re.split(r"([0-9]{1,15})", text)]


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises a `ValueError` if an option is none of its choices."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}, got {value!r}")


def read_text(path: PathLike, encoding: str | None = None) -> str:
    """
    Reads an annotation file: UTF-8, or UTF-16 with a byte order mark, with any line ending.

    Args:
        path (`str` or `Path`): The file.
        encoding (`str`, *optional*): Another encoding, such as `"gb18030"` or `"latin-1"`.

    Returns:
        `str`: the text without byte order mark; every line ends with `\\n`.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is not text in that encoding.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Annotation file not found: {path}")
    data = path.read_bytes()
    if encoding is None:
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        name = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16"}.get(encoding, encoding)
        raise AnnotationError(
            f"{path}: not {name} text ({error}); convert the file to UTF-8, or name its encoding (`encoding=`)"
        ) from error
    except LookupError as error:
        raise ValueError(f"`encoding`: {error}; name one that Python knows, such as 'utf-8' or 'gb18030'") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: PathLike, encoding: str | None = None) -> list[tuple[int, str]]:
    """Numbered, non-empty lines of a text file, free of byte order marks and of carriage returns."""
    # Not str.splitlines: a transcription may hold U+2028 or U+0085, which it would split.
    # Some published files repeat the mark at the start of later lines.
    lines = (line.lstrip("\ufeff") for line in read_text(path, encoding).split("\n"))
    return [(number, line) for number, line in enumerate(lines, start=1) if line.strip()]


def parse_numbers(fields: Iterable[str], where: str, line: str = "") -> list[float]:
    """
    Converts fields of a line to coordinates.

    Args:
        fields (`Iterable[str]`): The fields; spaces around a number do not matter.
        where (`str`): File and line, for the message.
        line (`str`, *optional*): The line itself, for the message.

    Raises:
        AnnotationError: if a field is no number, is not finite, or is too large for a picture.
    """
    numbers = []
    for value in fields:
        value = value.strip()
        if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise AnnotationError(f"{where}: a coordinate is not finite ({value}): {line!r}; correct or remove it")
        if not NUMBER.fullmatch(value):
            raise AnnotationError(f"{where}: a coordinate is not a number ({value!r}): {line!r}; correct the line")
        numbers.append(checked_number(float(value), where))
    return numbers


def checked_number(value: float, where: str) -> float:
    """Raises an `AnnotationError` if a number cannot be a pixel coordinate."""
    if not abs(value) <= MAX_COORDINATE:
        raise AnnotationError(f"{where}: {value:g} is no pixel coordinate (at most {MAX_COORDINATE:g}); correct it")
    return value


def outline(numbers: Sequence[float]) -> np.ndarray:
    """float32 outline of shape (n, 2) from x1, y1, x2, y2, ..."""
    return np.array(numbers, dtype=np.float32).reshape(-1, 2)


def rectangle(xmin: float, ymin: float, xmax: float, ymax: float) -> np.ndarray:
    """float32 outline of an upright rectangle, clockwise from the top-left."""
    return np.array([[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax]], dtype=np.float32)


# JSON ---------------------------------------------------------------------------------------------------------------


def parse_json(text: str, where: str) -> Any:
    """
    Parses JSON.

    Raises:
        AnnotationError: if it is no JSON; the message names the place.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 and "line" in where else f"line {error.lineno}"
        raise AnnotationError(f"{where}, {place}: no valid JSON ({error.msg}); get a complete copy of it") from error
    except RecursionError as error:
        raise AnnotationError(f"{where}: JSON is nested too deeply for an annotation; check the file") from error
    except ValueError as error:  # a number of thousands of digits
        raise AnnotationError(f"{where}: no valid JSON ({error}); check the file") from error


def member(mapping: Any, key: str, kind: type | tuple[type, ...], where: str, default: Any = ...) -> Any:
    """
    A field of a JSON object, checked.

    Args:
        mapping (`dict`): The object; anything else is an error.
        key (`str`): Name of the field.
        kind (`type`): Type or types its value may have.
        where (`str`): File and path of the object, for the message.
        default (*optional*): Value of a field that is missing or null; without it the field is required.

    Raises:
        AnnotationError: if the object is none, or the field is missing or of another type.
    """
    value = checked(mapping, dict, where).get(key)
    if value is None and default is not ...:
        return default
    if value is None:
        raise AnnotationError(f"{where}: the field {key!r} is missing; add it, or check that this is the right format")
    return checked(value, kind, f"{where}.{key}")


def checked(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    """Raises an `AnnotationError` if a JSON value is of another type."""
    # bool is an int in Python, but true is no number in an annotation.
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kinds):
        names = {
            dict: "an object",
            list: "a list",
            str: "a text",
            bool: "true or false",
            int: "an integer",
            float: "a number",
        }
        wanted = " or ".join(names[kind] for kind in kinds if kind is not float or int not in kinds)
        raise AnnotationError(f"{where}: expected {wanted}, got {shortened(value)}; correct it or check the format")
    return value


def shortened(value: Any) -> str:
    """Beginning of a value's text, for messages."""
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def json_number(value: Any, where: str) -> float:
    """A JSON number as a pixel coordinate."""
    checked(value, (int, float), where)
    try:
        return checked_number(float(value), where)
    except OverflowError as error:
        raise AnnotationError(f"{where}: {shortened(value)} is no pixel coordinate; correct it") from error


def json_size(mapping: dict, where: str, height: str = "height", width: str = "width") -> tuple[int, int] | None:
    """(height, width) of an object's fields; `None` if either is missing."""
    values = [member(mapping, key, (int, float), where, None) for key in (height, width)]
    if None in values:
        return None
    for value in values:
        if not (1 <= value <= MAX_COORDINATE and value == int(value)):
            raise AnnotationError(f"{where}: {shortened(value)} is no size of a picture in pixels; correct it")
    return int(values[0]), int(values[1])


def json_outline(value: Any, where: str) -> np.ndarray:
    """
    An outline from a JSON list, `[[x, y], ...]` or `[x1, y1, x2, y2, ...]`.

    Returns:
        `np.ndarray`: float32 of shape (n, 2), n >= 3.

    Raises:
        AnnotationError: if it is none.
    """
    checked(value, list, where)
    if value and all(isinstance(point, list) for point in value):
        for index, point in enumerate(value):
            if len(point) != 2:
                raise AnnotationError(f"{where}[{index}]: a point has {len(point)} numbers; expected [x, y]")
        value = [number for point in value for number in point]
    numbers = [json_number(number, where) for number in value]
    if len(numbers) % 2 or len(numbers) < 6:
        raise AnnotationError(
            f"{where}: {len(numbers)} numbers are no outline; expected x and y of at least 3 points; remove or redraw it"
        )
    return outline(numbers)


# Pictures -----------------------------------------------------------------------------------------------------------


def folder(path: PathLike, what: str) -> Path:
    """The path of an existing folder."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{what} folder not found: {path}")
    return path


def list_images(image_dir: PathLike) -> list[Path]:
    """Pictures of one folder in natural order (`img_2` before `img_10`)."""
    root = folder(image_dir, "Image")
    paths = [path for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise AnnotationError(f"{root}: no picture ({', '.join(IMAGE_SUFFIXES)}) in this folder; check the path")
    return sorted(paths, key=lambda path: natural_key(path.name))


def as_folders(images: PathLike | Sequence[PathLike] | None, default: Path) -> list[Path]:
    """The folders of pictures that an `images` option names."""
    if images is None:
        return [folder(default, "Image")]
    return [folder(path, "Image") for path in ([images] if isinstance(images, (str, Path)) else images)]


def in_split(path: Path, root: Path, split: str | None) -> bool:
    """
    Whether a file belongs to a split by the names of its folders below `root`.

    A folder counts when a word of its name is the split's: `ch4_training_images` is of `"train"`. A file in folders
    that name no split belongs to every one.
    """
    if split is None:
        return True
    named = named_splits(path.relative_to(root).parts[:-1])
    return not named or split_name(split) in named


def named_splits(names: Iterable[str]) -> set[str]:
    """The splits that a word of some file names says: `ch4_training_images` says `train`."""
    words = set()
    for name in names:
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
        words.update(re.split(r"[^a-z]+", spaced))
    return {SPLIT_SYNONYMS[word] for word in words if word in SPLIT_SYNONYMS}


def split_name(split: str) -> str:
    """`"val"` -> `"validation"`; unknown names as they are."""
    return SPLIT_SYNONYMS.get(split.lower(), split.lower())


def find_files(roots: Sequence[Path], suffixes: Sequence[str], split: str | None = None) -> list[Path]:
    """All files below some folders with one of the suffixes, in natural order; hidden ones are left out."""
    found = {}
    for root in roots:
        for path in root.rglob("*"):
            hidden = any(part.startswith((".", "__MACOSX")) for part in path.relative_to(root).parts)
            if path.suffix.lower() in suffixes and not hidden and path.is_file() and in_split(path, root, split):
                found[path] = natural_key(str(path))
    return sorted(found, key=found.__getitem__)


class ImageIndex:
    """
    Finds the picture that an annotation names, in some folders and below.

    Args:
        roots (`Sequence[Path]`): The folders.
        missing (`str`): `"error"`, `"skip"` (`find` returns `None`) or `"keep"` (it returns where the picture would be).
        split (`str`, *optional*): Split whose folders count.
    """

    def __init__(self, roots: Sequence[Path], missing: str = "error", split: str | None = None):
        check_choice("missing", missing, MISSING_CHOICES)
        self.roots, self.missing, self.split = list(roots), missing, split
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, where: str) -> Path | None:
        """
        The picture of a name or relative path.

        Raises:
            FileNotFoundError: if there is none and `missing` is `"error"`.
            AnnotationError: if several pictures have this name, or it is no name of a file.
        """
        relative = name.replace("\\", "/")
        base = relative.rsplit("/", 1)[-1]
        if not _is_file_name(name, base):
            raise AnnotationError(f"{where}: {shortened(name)} is no name of a picture file; correct it")
        for root in self.roots:
            if (root / relative).is_file():
                return root / relative
        if self._by_name is None:
            self._by_name = {}
            for path in find_files(self.roots, IMAGE_SUFFIXES, self.split):
                # Some annotations leave the suffix out.
                for key in (path.name.casefold(), path.stem.casefold()):
                    self._by_name.setdefault(key, []).append(path)
        found = self._by_name.get(base.casefold(), [])
        if len(found) > 1:
            raise AnnotationError(
                f"{where}: several pictures are called {base!r}: {found[0]} and {found[1]}; name the folder (`images=`)"
            )
        if found:
            return found[0]
        if self.missing == "error":
            places = ", ".join(map(str, self.roots))
            raise FileNotFoundError(
                f"Picture not found: {name!r} in {places} (named in {where}); name its folder (`images=`), or pass "
                "missing='skip' to leave out such pictures"
            )
        if self.missing == "skip":
            return None
        return self.roots[0] / (relative if Path(base).suffix.lower() in IMAGE_SUFFIXES else f"{relative}.jpg")


def _is_file_name(name: str, base: str) -> bool:
    """Whether the file system can be asked about a name at all."""
    try:
        length = len(base.encode("utf-8"))
    except UnicodeError:  # half of a surrogate pair
        return False
    return base not in ("", ".", "..") and "\0" not in name and length <= 255 and len(name) <= 1000


def strip_image_suffix(stem: str) -> str:
    """`img11.jpg` -> `img11`: some copies of benchmarks name annotations `img11.jpg.txt`."""
    base, dot, suffix = stem.rpartition(".")
    return base if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else stem


def find_one(source: PathLike, patterns: Sequence[str], what: str, split: str | None = None) -> Path:
    """
    The annotation file of a data set that has one for all pictures.

    Args:
        source (`str` or `Path`): The file itself, or its folder.
        patterns (`Sequence[str]`): Patterns of its name inside a folder, the likeliest first.
        what (`str`): What it is, for messages.
        split (`str`, *optional*): The split that its name has to contain, when there are several.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several.
    """
    path = Path(source)
    if path.is_file():
        return path
    folder(path, "Source")
    for pattern in patterns:
        found = sorted(path.glob(pattern))
        if split is not None and len(found) > 1:
            found = [file for file in found if named_splits([file.stem]) == {split_name(split)}]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{path}: several files could be {what}: {found[0].name}, {found[1].name}; pass the file itself"
            )
    raise FileNotFoundError(f"{path}: no {what} ({', '.join(patterns)}) in this folder; pass the file itself")


# Orientation --------------------------------------------------------------------------------------------------------


def picture_header(path: PathLike) -> tuple[int, int, int]:
    """(height, width) of a file's stored picture and its EXIF orientation (1 = upright), without decoding it."""
    try:
        with Image.open(path) as image:
            try:
                tag = image.getexif().get(ORIENTATION_TAG, 1)
            except Exception:  # broken metadata: the picture is shown as it is stored
                tag = 1
            return image.height, image.width, tag if tag in range(1, 9) else 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise OSError(f"{path}: not a picture that can be read ({error}); get a complete copy of it") from error


def turn_upright(polygons: list[np.ndarray], height: int, width: int, tag: int) -> list[np.ndarray]:
    """
    Takes outlines from the stored picture to the upright one.

    Args:
        polygons (`list[np.ndarray]`): Outlines of shape (n, 2) in pixels of the stored picture.
        height (`int`): Height of the stored picture.
        width (`int`): Width of the stored picture.
        tag (`int`): EXIF orientation, 1 to 8.

    Returns:
        `list[np.ndarray]`: outlines in pixels of the upright picture, whose sides are swapped for tags 5 to 8.
    """
    turned = []
    for polygon in polygons:
        x, y = polygon[:, 0], polygon[:, 1]
        x, y = {
            1: (x, y),
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }[tag]
        turned.append(np.stack([x, y], axis=1))
    return turned


def upright_frame(
    image: Any,
    polygons: list[np.ndarray],
    orientation: str,
    size: tuple[int, int] | None = None,
    annotated_size: tuple[int, int] | None = None,
    where: str = "",
) -> tuple[list[np.ndarray], tuple[int, int] | None]:
    """
    Takes outlines to the frame of the upright picture.

    Args:
        image: The picture; only a path of an existing file can have another orientation.
        polygons (`list[np.ndarray]`): Outlines as annotated.
        orientation (`str`):
            `"stored"`: they refer to the picture as stored, `"upright"`: to the picture as shown, `"auto"`:
            `annotated_size` tells which (as shown, when it cannot), and whether the picture is a resized copy.
        size (`tuple[int, int]`, *optional*): (height, width) of the annotated frame of a resized copy.
        annotated_size (`tuple[int, int]`, *optional*): (height, width) that the annotation gives for its picture.
        where (`str`, *optional*): Place of the annotation, for the message.

    Returns:
        `tuple[list[np.ndarray], tuple[int, int] | None]`: outlines, and `size` of the upright picture.

    Raises:
        AnnotationError: if `annotated_size` is not that of this picture in either orientation, nor of a resized copy.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    if orientation == "upright" or not isinstance(image, (str, Path)) or not Path(image).is_file():
        return polygons, size
    try:
        height, width, tag = picture_header(image)
    except OSError:  # whoever decodes the picture says so
        return polygons, size
    if orientation == "auto":
        stored, upright = (height, width), (width, height) if tag >= 5 else (height, width)
        orientation = "upright"
        if size is None and annotated_size is not None and annotated_size != upright:
            if tag >= 5 and _same_shape(annotated_size, stored):
                orientation = "stored"
            elif not _same_shape(annotated_size, upright):
                raise AnnotationError(
                    f"{where}: annotated for a picture of {annotated_size[1]} x {annotated_size[0]} pixels, but {image} has "
                    f"{upright[1]} x {upright[0]}; check that it is the right picture, or pass orientation='upright'"
                )
            size = annotated_size if annotated_size not in (stored, upright) else None
    if tag == 1 or orientation == "upright":
        return polygons, size
    polygons = turn_upright(polygons, *(size or (height, width)), tag)
    return polygons, size[::-1] if size is not None and tag >= 5 else size


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether one picture can be a resized copy of the other; sides are rounded, small ones coarsely."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(0.01 * a[0] * b[1], a[0], a[1], b[0], b[1])
