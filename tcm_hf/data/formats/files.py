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
"""What readers share: text of annotation files, numbers, JSON, and finding images."""

from __future__ import annotations

import json
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from .access import (
    BYTES_PER_TEXT_BYTE,
    MEMORY_LIMIT,
    PathLike,
    SourceFolders,
    check_memory,
    json_memory,
    short_text,
    walk,
)
from .records import IMAGE_SUFFIXES, MAX_FRAME_PIXELS, AnnotationError


# No image is larger, and larger values would overflow further on.
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


def text_encoding(path: Path, encoding: str | None) -> str:
    """The encoding of a text file: the given one, or UTF-16 with a byte order mark, or UTF-8."""
    if not path.is_file():
        raise FileNotFoundError(f"Annotation file not found: {path}")
    if encoding is not None:
        return encoding
    with open(path, "rb") as file:
        return "utf-16" if file.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _not_text(path: Path, encoding: str, error: Exception) -> Exception:
    if isinstance(error, LookupError):
        return ValueError(f"`encoding`: {error}; name one that Python knows, such as 'utf-8' or 'gb18030'")
    name = {"utf-8-sig": "UTF-8", "utf-16": "UTF-16"}.get(encoding, encoding)
    return AnnotationError(
        f"{path}: not {name} text ({error}); convert the file to UTF-8, or name its encoding (`encoding=`, --encoding)"
    )


def as_names(value: str | Sequence[str], what: str) -> list[str]:
    """A list of names that an option gives; a single one may stand without a list."""
    names = [value] if isinstance(value, str) else list(value)
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"`{what}` must be a list of names, got {value!r}")
    return names


def read_text(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> str:
    """
    Reads an annotation file: UTF-8, or UTF-16 with a byte order mark, with any line ending.

    Args:
        path (`str` or `Path`): The file.
        encoding (`str`, *optional*): Another encoding, such as `"gb18030"` or `"latin-1"`.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that the text may take.

    Returns:
        `str`: the text without byte order mark; every line ends with `\\n`.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is not text in that encoding, or too large.
    """
    path = Path(path)
    encoding = text_encoding(path, encoding)
    # The bytes, the text of as many characters, and its copy while it is decoded.
    check_memory(4 * path.stat().st_size, memory_limit, str(path))
    try:
        text = path.read_bytes().decode(encoding)
    except (UnicodeError, LookupError) as error:
        raise _not_text(path, encoding, error) from error
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def iterate_lines(
    path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT
) -> Iterator[tuple[int, str]]:
    """
    Numbered, non-empty lines of a text file of any length, without byte order marks and carriage returns.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is not text in that encoding, or a line is too long for `memory_limit`.
    """
    path = Path(path)
    encoding = text_encoding(path, encoding)
    longest = memory_limit // BYTES_PER_TEXT_BYTE
    # Not str.splitlines: a transcription may hold U+2028 or U+0085, which it would split.
    try:
        with open(path, encoding=encoding, newline=None) as file:
            number = 0
            while line := file.readline(longest + 1):
                number += 1
                if len(line) > longest:
                    check_memory(len(line) * BYTES_PER_TEXT_BYTE, memory_limit, f"{path}, line {number}")
                # Some published files repeat the mark at the start of later lines.
                line = line.lstrip("\ufeff").removesuffix("\n")
                if line.strip():
                    yield number, line
    except (UnicodeError, LookupError) as error:
        raise _not_text(path, encoding, error) from error


def read_lines(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> list[tuple[int, str]]:
    """The lines of [`iterate_lines`] of a file that is small enough to be read whole."""
    text_encoding(Path(path), encoding)
    check_memory(Path(path).stat().st_size * BYTES_PER_TEXT_BYTE, memory_limit, str(path))
    return list(iterate_lines(path, encoding, memory_limit))


def parse_numbers(fields: Iterable[str], where: str, line: str = "") -> list[float]:
    """
    Converts fields of a line to coordinates.

    Args:
        fields (`Iterable[str]`): The fields; spaces around a number do not matter.
        where (`str`): File and line, for the message.
        line (`str`, *optional*): The line itself, for the message.

    Raises:
        AnnotationError: if a field is no number, is not finite, or is too large for an image.
    """
    numbers = []
    for value in fields:
        value = value.strip()
        if value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
            raise AnnotationError(
                f"{where}: a coordinate is not finite ({value}): {short_text(line)}; correct or remove it"
            )
        if not NUMBER.fullmatch(value):
            raise AnnotationError(
                f"{where}: a coordinate is not a number ({short_text(value)}): {short_text(line)}; correct the line"
            )
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


def parse_json(text: str, where: str, memory_limit: int = MEMORY_LIMIT) -> Any:
    """
    Parses JSON.

    Raises:
        AnnotationError: if it is no JSON, gives a field of an object twice, or would take more memory than is allowed; the
            message names the place.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise AnnotationError(f"{where}: the field {short_text(twice)} is given twice in one object; remove one")
        return content

    check_memory(json_memory(text), memory_limit, where)
    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if error.lineno == 1 and "line" in where else f"line {error.lineno}"
        raise AnnotationError(f"{where}, {place}: no valid JSON ({error.msg}); get a complete copy of it") from error
    except RecursionError as error:
        raise AnnotationError(f"{where}: JSON is nested too deeply for an annotation; check the file") from error
    except AnnotationError:
        raise
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
            Mapping: "an object",
        }
        # Any number is meant where both kinds are allowed; 0 and 1 stand for false and true.
        left_out = int if float in kinds or bool in kinds else None
        wanted = " or ".join(names[kind] for kind in kinds if kind in names and kind is not left_out)
        raise AnnotationError(f"{where}: expected {wanted}, got {shortened(value)}; correct it or check the format")
    return value


def shortened(value: Any) -> str:
    """Beginning of a value's text, for messages."""
    text = _REPR.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# The text of a whole list of lists could be as large as the file, and deeper than Python can go.
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxlong, _REPR.maxother = 3, 80, 80, 80


def json_number(value: Any, where: str) -> float:
    """A JSON number as a pixel coordinate."""
    checked(value, (int, float), where)
    try:
        return checked_number(float(value), where)
    except OverflowError as error:
        raise AnnotationError(f"{where}: {shortened(value)} is no pixel coordinate; correct it") from error


def json_size(mapping: dict, where: str, height: str = "height", width: str = "width") -> tuple[int, int] | None:
    """(height, width) of an object's fields; `None` if either is missing."""
    sides = [member(mapping, key, (int, float), where, None) for key in (height, width)]
    return None if None in sides else checked_size(sides[0], sides[1], where)


def checked_size(height: float, width: float, where: str) -> tuple[int, int]:
    """(height, width) as whole numbers; an `AnnotationError` if they are no size of an image."""
    for value in (height, width):
        if not (1 <= value <= MAX_COORDINATE and value == int(value)):
            raise AnnotationError(f"{where}: {shortened(value)} is no size of an image in pixels; correct it")
    if height * width > MAX_FRAME_PIXELS:
        raise AnnotationError(
            f"{where}: {width} x {height} are more than {MAX_FRAME_PIXELS} pixels, too many for an image; correct it"
        )
    return int(height), int(width)


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


# Images -----------------------------------------------------------------------------------------------------------


def folder(path: PathLike, what: str) -> Path:
    """The path of an existing folder."""
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{what} folder not found: {path}")
    return path


def list_images(image_dir: PathLike, folders: SourceFolders | None = None) -> list[Path]:
    """Images of one folder in natural order (`img_2` before `img_10`)."""
    root = folder(image_dir, "Image")
    folders = folders or SourceFolders(root)
    paths = [folders.check(path, str(root)) for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    if not paths:
        raise AnnotationError(f"{root}: no image ({', '.join(IMAGE_SUFFIXES)}) in this folder; check the path")
    return sorted(paths, key=lambda path: natural_key(path.name))


def as_folders(images: PathLike | Sequence[PathLike] | None, default: Path) -> list[Path]:
    """The folders of images that an `images` option names."""
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


def find_files(
    roots: Sequence[Path], suffixes: Sequence[str], split: str | None = None, folders: SourceFolders | None = None
) -> list[Path]:
    """
    All files below some folders with one of the suffixes, in natural order; hidden ones are left out.

    Args:
        roots (`Sequence[Path]`): The folders.
        suffixes (`Sequence[str]`): The suffixes, in lower case.
        split (`str`, *optional*): The split whose folders count; see [`in_split`].
        folders (`SourceFolders`, *optional*): Where links may lead; `roots` by default.

    Raises:
        AnnotationError: if a link leads outside.
        OSError: if a folder cannot be listed.
    """
    folders = folders or SourceFolders(*roots)
    found = {}
    for root in roots:
        for entry in walk(root, folders):
            path = Path(entry.path)
            if path.suffix.lower() not in suffixes or not in_split(path, root, split):
                continue
            if entry.is_symlink():
                folders.check(path, str(root))
            if path.is_file():
                found[path] = natural_key(str(path))
    return sorted(found, key=found.__getitem__)


class ImageIndex:
    """
    Finds the image that an annotation names, in some folders and below.

    Args:
        roots (`Sequence[Path]`): The folders.
        missing (`str`): `"error"`, `"skip"` (`find` returns `None`) or `"keep"` (it returns where the image would be).
        split (`str`, *optional*): Split whose folders count.
        folders (`SourceFolders`, *optional*): What may be opened; what is in `roots` by default.
        encoding (`str`, *optional*): Encoding of the annotations, in which names of files may be stored, too.
    """

    def __init__(
        self,
        roots: Sequence[Path],
        missing: str = "error",
        split: str | None = None,
        folders: SourceFolders | None = None,
        encoding: str | None = None,
    ):
        check_choice("missing", missing, MISSING_CHOICES)
        self.roots, self.missing, self.split = list(roots), missing, split
        self.folders, self.encoding = folders or SourceFolders(*roots), encoding
        self._by_name: dict[str, list[Path]] | None = None

    def find(self, name: str, where: str) -> Path | None:
        """
        The image of a name or relative path.

        A name that leads outside of the folders, such as an absolute one of another computer, stands for the image of
        that name inside of them, if there is one.

        Raises:
            FileNotFoundError: if there is none and `missing` is `"error"`.
            AnnotationError: if several images have this name, it is no name of a file, or it leads outside.
        """
        return self.find_any([name], where)

    def find_any(self, names: Sequence[str], where: str, beside: Sequence[Path] = ()) -> Path | None:
        """The image of the first of some names that there is, where the folders `beside` come first; see [`find`]."""
        outside = False
        for name in names:
            path, leads_outside = self._search(name, where, beside)
            if path is not None:
                return path
            outside |= leads_outside
        if self.missing == "skip":
            return None
        name = names[0]
        relative = name.replace("\\", "/")
        if outside:
            relative = relative.rsplit("/", 1)[-1]
        if self.missing == "keep":
            return self.roots[0] / (relative if Path(relative).suffix.lower() in IMAGE_SUFFIXES else f"{relative}.jpg")
        if outside:
            raise self.folders.outside(name, where)
        places = ", ".join(map(str, self.roots))
        raise FileNotFoundError(
            f"Image not found: {shortened(name)} in {places} (named in {where}); name its folder (`images=`, --images), or "
            "pass missing='skip' (--missing skip) to leave out such images"
        )

    def _search(self, name: str, where: str, beside: Sequence[Path] = ()) -> tuple[Path | None, bool]:
        """The image of a name, and whether the name leads outside."""
        names = [name.replace("\\", "/")]
        if self.encoding is not None and not name.isascii():
            # A file system without encoding has the bytes of the annotation.
            names.append(_stored_name(names[0], self.encoding))
        outside = False
        for relative in names:
            base = relative.rsplit("/", 1)[-1]
            if not _is_file_name(relative, base):
                raise AnnotationError(f"{where}: {shortened(name)} is no name of an image file; correct it")
            for root in (*beside, *self.roots):
                path = self.folders.join(root, relative)
                if path is None:
                    outside = True
                elif path.is_file():
                    return self.folders.check(path, where), outside
            found = self._named(base)
            if len(found) > 1:
                raise AnnotationError(
                    f"{where}: several images are called {base!r}: {found[0]} and {found[1]}; name the folder "
                    "(`images=`, --images)"
                )
            if found:
                return found[0], outside
        return None, outside

    def _named(self, base: str) -> list[Path]:
        """The images of a name, with or without suffix."""
        if self._by_name is None:
            self._by_name = {}
            for path in find_files(self.roots, IMAGE_SUFFIXES, self.split, self.folders):
                # Some annotations leave the suffix out.
                for key in (path.name.casefold(), path.stem.casefold()):
                    self._by_name.setdefault(key, []).append(path)
        return self._by_name.get(base.casefold(), [])


def _stored_name(name: str, encoding: str) -> str:
    """The name of a file whose bytes are not those of UTF-8, as Python gives it."""
    try:
        return os.fsdecode(name.encode(encoding))
    except (UnicodeError, LookupError):
        return name


def _is_file_name(name: str, base: str) -> bool:
    """Whether the file system can be asked about a name at all."""
    try:
        length = len(os.fsencode(base))
        os.fsencode(name)
    except UnicodeError:  # half of a surrogate pair
        return False
    return base not in ("", ".", "..") and "\0" not in name and length <= 255 and len(name) <= 1000


def strip_image_suffix(stem: str) -> str:
    """`img11.jpg` -> `img11`: some copies of benchmarks name annotations `img11.jpg.txt`."""
    base, dot, suffix = stem.rpartition(".")
    return base if dot and f".{suffix.lower()}" in IMAGE_SUFFIXES else stem


def image_in_address(address: str) -> str | None:
    """The name of an image in an address, as labeling tools keep it; `None` if it names none."""
    if len(address) > 2000:  # an image inside of the task
        return None
    try:
        parts = urlsplit(address)
        query = parse_qs(parts.query, max_num_fields=20)
    except ValueError:
        return None
    # Storage on the server's own disk: /data/local-files/?d=folder/1.jpg
    candidates = [*query.get("d", ()), unquote(parts.path) if parts.scheme else unquote(address.partition("?")[0])]
    return next((name for name in candidates if Path(name).suffix.lower() in IMAGE_SUFFIXES), None)


def find_one(
    source: PathLike,
    patterns: Sequence[str],
    what: str,
    split: str | None = None,
    folders: SourceFolders | None = None,
) -> Path:
    """
    The annotation file of a data set that has one for all images.

    Args:
        source (`str` or `Path`): The file itself, or its folder.
        patterns (`Sequence[str]`): Patterns of its name inside a folder, the likeliest first.
        what (`str`): What it is, for messages.
        split (`str`, *optional*): The split that its name has to contain, when there are several.
        folders (`SourceFolders`, *optional*): Where a link may lead; the folder by default.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several, or it is a link that leads outside.
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
            return (folders or SourceFolders(path)).check(found[0])
        if found:
            raise ValueError(
                f"{path}: several files could be {what}: {found[0].name}, {found[1].name}; pass the file itself"
            )
    raise FileNotFoundError(f"{path}: no {what} ({', '.join(patterns)}) in this folder; pass the file itself")
