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
"""Formats of one instance a line: ICDAR 2013 and 2015, MLT 2017 and 2019, MSRA-TD500 and HUST-TR400."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np

from .access import DEFAULT_OPTIONS, MEMORY_LIMIT, PathLike, ReadOptions, SourceFolders, short_text
from .files import NUMBER, folder, list_images, outline, parse_numbers, read_lines, rectangle
from .paired import Instances, file_reader
from .records import AnnotationError, TextRecord, build_records


# No two ways to match the same spaces: a line of many would take their square in time.
_SEPARATED = r"(?:\s*,\s*|\s+)"
_RECTANGLE_LINE = re.compile(
    rf"\s*({NUMBER.pattern}){_SEPARATED}({NUMBER.pattern}){_SEPARATED}({NUMBER.pattern}){_SEPARATED}({NUMBER.pattern})"
    rf"(?:{_SEPARATED}(.*))?",
    re.DOTALL | re.ASCII,
)
# Longer than any number that is written on a sign.
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3}){1,6}", re.ASCII)


def icdar_key(stem: str) -> str:
    """`gt_img_1` -> `img_1`."""
    return re.sub(r"^gt_", "", stem, flags=re.IGNORECASE)


def check_points(polygon: np.ndarray, text: str, where: str, line: str, expected: int = 8) -> None:
    """
    Refuses a transcription that begins with further points of the outline, or with what decimal commas make of them.

    Four numbers and more are points; two or three, and groups of thousands, are when they lie beside the outline, and
    otherwise text such as `12,50` or `1,000,000,000`. Two numbers and nothing else, behind an outline that is a box by
    itself, are text wherever they lie: a fifth point makes no sense beside four corners, and decimal commas shift
    numbers so that no box is left.

    Args:
        polygon (`np.ndarray`): The outline of shape (n, 2) that the format takes from the line.
        text (`str`): The rest of the line.
        where (`str`): File and line, for the message.
        line (`str`): The line itself, for the message.
        expected (`int`, *optional*, defaults to 8): How many numbers a line of the format has.

    Raises:
        AnnotationError: if there are more points.
    """
    numbers = []
    fields = text[:1000].split("," if "," in line else None)
    for field in fields:
        if not NUMBER.fullmatch(field.strip()):
            break
        numbers.append(float(field))
    if len(numbers) < 2 or (len(numbers) == len(fields) == 2 and _is_box(polygon)):
        return
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    reach = (high - low).max()
    beside = np.all(numbers[:2] >= low - reach) and np.all(numbers[:2] <= high + reach)
    if beside or (len(numbers) >= 4 and not _THOUSANDS.fullmatch(text.strip())):
        hint = "lines of 8 numbers are the format icdar2015, of polygons" if expected < 8 else "lines of polygons are"
        raise AnnotationError(
            f"{where}: more than {expected} numbers: {short_text(line)}; {hint} the format totaltext, and decimals need a "
            "point, not a comma"
        )


def _is_box(polygon: np.ndarray) -> bool:
    """Whether an outline has four corners that are nearly those of a parallelogram: 98% of the words of ICDAR 2015."""
    if len(polygon) != 4:
        return False
    corners = polygon.astype(np.float64)
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    convex = bool(np.all(turns > 0) or np.all(turns < 0))
    return convex and bool(np.linalg.norm(edges[0] + edges[2]) <= 0.25 * np.linalg.norm(edges, axis=1).max())


# ICDAR 2013 ---------------------------------------------------------------------------------------------------------


def parse_icdar2013(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Instances:
    """
    Parses one ICDAR 2013 Focused Scene Text file: `left, top, right, bottom, "transcription"` a line.

    Commas (test set) or spaces (training set) separate the fields. Edges are kept as published: the benchmark counts
    the pixels of the right and the bottom edge as text.

    Args:
        path (`str` or `Path`): The annotation file.
        encoding (`str`, *optional*): Its encoding, when it is neither UTF-8 nor UTF-16 with a byte order mark.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `Instances`: rectangles and transcriptions, without their quotes.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if a line cannot be meant; the message names file and line.
    """
    instances = Instances()
    for number, line in read_lines(path, encoding, memory_limit):
        where = f"{path}, line {number}"
        match = _RECTANGLE_LINE.fullmatch(line)
        if match is None:
            raise AnnotationError(
                f'{where}: expected `left, top, right, bottom, "transcription"` (4 numbers and a text): {short_text(line)}; '
                "correct it"
            )
        xmin, ymin, xmax, ymax = parse_numbers(match.groups()[:4], where, line)
        text = match[5]
        if xmax < xmin or ymax < ymin:
            raise AnnotationError(
                f"{where}: the right or bottom edge comes before the left or top one: {short_text(line)}; a line is "
                "left, top, right, bottom"
            )
        polygon = rectangle(xmin, ymin, xmax, ymax)
        if text is not None:
            check_points(polygon, text, where, line, expected=4)
        instances.add(polygon, None if text is None else _unquoted(text.strip()))
    return instances


def _unquoted(text: str) -> str:
    """A transcription without its quotes and backslashes; one without quotes as it is."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r'\\([\\"])', r"\1", text[1:-1])
    return text


read_icdar2013 = file_reader(
    "read_icdar2013",
    "ICDAR 2013 Focused Scene Text (https://rrc.cvc.uab.es/?ch=2)",
    parse_icdar2013,
    suffixes=(".txt",),
    key=icdar_key,
)


# ICDAR 2015 ---------------------------------------------------------------------------------------------------------


def parse_icdar2015(
    gt_path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT
) -> tuple[list[np.ndarray], list[bool], list[str | None]]:
    """
    Parses one ICDAR 2015 file: `x1,y1,x2,y2,x3,y3,x4,y4,transcription` a line, `###` for an unreadable word.

    Args:
        gt_path (`str` or `Path`):
            The annotation file; UTF-8, with or without byte order mark, or UTF-16 with one; any line ending.
        encoding (`str`, *optional*): Another encoding.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `tuple[list[np.ndarray], list[bool], list[str | None]]`: float32 polygons of shape (4, 2), ignore flags, and
        transcriptions, `None` where a line has eight numbers only.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if a line cannot be parsed; the message names file and line.
    """
    instances = _parse_icdar2015(gt_path, encoding, memory_limit)
    return instances.polygons, instances.ignore, instances.texts


def _parse_icdar2015(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Instances:
    instances = Instances()
    for number, line in read_lines(path, encoding, memory_limit):
        where = f"{path}, line {number}"
        # The transcription is unquoted and may contain commas: only the first eight separate fields.
        fields = line.split(",", 8)
        if len(fields) < 8 or (len(fields) == 8 and fields[7].strip().isalpha()):
            raise AnnotationError(
                f"{where}: expected `x1,y1,x2,y2,x3,y3,x4,y4,transcription` (8 numbers, and a text if it is known), "
                f"found {len(fields)} fields: {short_text(line)}; correct it or check the format"
            )
        polygon = outline(parse_numbers(fields[:8], where, line))
        if len(fields) == 9:
            check_points(polygon, fields[8], where, line)
        instances.add(polygon, fields[8] if len(fields) == 9 else None)
    return instances


def read_icdar2015(
    image_dir: PathLike,
    gt_dir: PathLike,
    record_size: tuple[int, int] | None = None,
    *,
    orientation: str = "stored",
    encoding: str | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> list[TextRecord]:
    """
    Reads ICDAR 2015 Incidental Scene Text (https://rrc.cvc.uab.es/?ch=4): `img_N.jpg` with `gt_img_N.txt`.

    Args:
        image_dir (`str` or `Path`): folder of images.
        gt_dir (`str` or `Path`): folder of annotation files, `gt_<image's stem>.txt`.
        record_size (`tuple[int, int]`, *optional*):
            (height, width) of the frame the annotations were made in, when the images are resized copies:
            (720, 1280) for copies of the official images. `None`: the images have their original size.
        orientation (`str`, *optional*, defaults to `"stored"`):
            Whether the annotations refer to the `"stored"` images or to the `"upright"` ones (EXIF applied).
        encoding (`str`, *optional*):
            Encoding of the annotations, when it is neither UTF-8 nor UTF-16 with a byte order mark.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `list[TextRecord]`: one record an image, in natural order of the file names.

    Raises:
        FileNotFoundError: if a folder or the annotation file of an image is missing.
        AnnotationError: if an annotation line cannot be parsed; the message names file and line.
    """
    gt_folder = folder(gt_dir, "Annotation")
    folders = SourceFolders(image_dir, gt_folder, allow_outside=options.allow_outside)

    def build(image_path: Path) -> TextRecord:
        gt_path = gt_folder / f"gt_{image_path.stem}.txt"
        if not gt_path.is_file():
            raise FileNotFoundError(f"Annotation file not found: {gt_path} (for the image {image_path})")
        instances = _parse_icdar2015(folders.check(gt_path), encoding, options.memory_limit)
        return instances.record(
            image_path, orientation, record_size, where=str(gt_path), normalized=options.normalized
        )

    return list(build_records(list_images(image_dir, folders), build, None, options))


read_icdar2015_folder = file_reader(
    "read_icdar2015_folder",
    "ICDAR 2015 Incidental Scene Text and whatever has its lines, in any folder layout",
    _parse_icdar2015,
    suffixes=(".txt",),
    key=icdar_key,
)


# MLT ----------------------------------------------------------------------------------------------------------------


def parse_mlt(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Instances:
    """
    Parses one file of ICDAR 2017-MLT or 2019-MLT: `x1,y1,x2,y2,x3,y3,x4,y4,script,transcription` a line.

    Args:
        path (`str` or `Path`): The annotation file.
        encoding (`str`, *optional*): Its encoding, when it is neither UTF-8 nor UTF-16 with a byte order mark.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `Instances`: quadrilaterals, scripts (as `languages`) and transcriptions.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if a line cannot be meant; the message names file and line.
    """
    instances = Instances()
    for number, line in read_lines(path, encoding, memory_limit):
        where = f"{path}, line {number}"
        fields = line.split(",", 9)
        if len(fields) not in (8, 10):
            raise AnnotationError(
                f"{where}: expected `x1,y1,x2,y2,x3,y3,x4,y4,script,transcription` (8 numbers, a script and a text), found "
                f"{len(fields)} fields: {short_text(line)}; lines without a script are the format icdar2015"
            )
        polygon = outline(parse_numbers(fields[:8], where, line))
        if len(fields) == 8:
            instances.add(polygon, None)
            continue
        check_points(polygon, f"{fields[8]},{fields[9]}", where, line)
        instances.add(polygon, fields[9], language=fields[8].strip() or None)
    return instances


read_mlt = file_reader(
    "read_mlt",
    "ICDAR 2017-MLT (https://rrc.cvc.uab.es/?ch=8) and 2019-MLT (https://rrc.cvc.uab.es/?ch=15)",
    parse_mlt,
    suffixes=(".txt",),
    key=icdar_key,
)


# MSRA-TD500, HUST-TR400 ---------------------------------------------------------------------------------------------


def rotated_rectangle(x: float, y: float, width: float, height: float, angle: float) -> np.ndarray:
    """
    Corners of a rectangle that is turned about its center.

    Args:
        x (`float`): Left edge before turning, in pixels.
        y (`float`): Top edge before turning.
        width (`float`): Width before turning.
        height (`float`): Height before turning.
        angle (`float`): Radians, positive clockwise on screen.

    Returns:
        `np.ndarray`: float32 of shape (4, 2), clockwise, from the corner that is the top-left one before turning.
    """
    cos, sin = math.cos(angle), math.sin(angle)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    turned = corners @ np.array([[cos, sin], [-sin, cos]]) + (x + width / 2, y + height / 2)
    return turned.astype(np.float32)


def parse_td500(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Instances:
    """
    Parses one file of MSRA-TD500 or HUST-TR400, which hold text lines as rotated rectangles.

    A line is `index difficult x y width height angle` (as published, `.gt`) or
    `xmin,ymin,xmax,ymax,angle[,transcription]` (as evaluation programs have it, `.txt`); the angle is in radians,
    clockwise on screen, about the center. Difficult lines, and `###`, are ignored.

    Args:
        path (`str` or `Path`): The annotation file.
        encoding (`str`, *optional*): Its encoding, when it is neither UTF-8 nor UTF-16 with a byte order mark.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `Instances`: quadrilaterals that start at the corner which is the top-left one before turning.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if a line cannot be meant; the message names file and line.
    """
    instances = Instances()
    for number, line in read_lines(path, encoding, memory_limit):
        where = f"{path}, line {number}"
        if "," in line:
            fields = line.split(",", 5)
            if len(fields) < 5:
                raise AnnotationError(
                    f"{where}: expected `xmin,ymin,xmax,ymax,angle,transcription`, found {len(fields)} fields: {short_text(line)}; "
                    "correct it"
                )
            xmin, ymin, xmax, ymax, angle = parse_numbers(fields[:5], where, line)
            width, height, difficult = xmax - xmin, ymax - ymin, 0.0
            text = fields[5].strip() if len(fields) == 6 else None
            text = None if text in ("", "None") else text
            if text is not None and xmin <= xmax and ymin <= ymax:
                check_points(rectangle(xmin, ymin, xmax, ymax), text, where, line, expected=5)
        else:
            fields = line.split()
            if len(fields) != 7:
                raise AnnotationError(
                    f"{where}: expected `index difficult x y width height angle` (7 numbers), found {len(fields)} fields: "
                    f"{short_text(line)}; correct it"
                )
            _, difficult, xmin, ymin, width, height, angle = parse_numbers(fields, where, line)
            text = None
        if difficult not in (0, 1):
            raise AnnotationError(
                f"{where}: the second number, `difficult`, must be 0 or 1: {short_text(line)}; correct it"
            )
        if width < 0 or height < 0:
            raise AnnotationError(f"{where}: a negative width or height: {short_text(line)}; correct it")
        if abs(angle) > 2 * math.pi:
            raise AnnotationError(f"{where}: the angle {angle:g} is not in radians: {short_text(line)}; convert it")
        instances.add(rotated_rectangle(xmin, ymin, width, height, angle), text, difficult == 1)
    return instances


read_td500 = file_reader(
    "read_td500",
    "MSRA-TD500 and HUST-TR400",
    parse_td500,
    suffixes=(".gt", ".txt"),
    key=icdar_key,
)
