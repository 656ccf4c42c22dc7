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
"""Tables as text: CSV with documented columns, and what readers of CSV share."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from .access import DEFAULT_OPTIONS, MEMORY_LIMIT, PathLike, ReadOptions, check_memory, short_text
from .files import (
    ORIENTATION_CHOICES,
    check_choice,
    checked_size,
    json_outline,
    outline,
    parse_json,
    parse_numbers,
    read_text,
    split_name,
)
from .json_sets import box_outline, find_source
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, then
from .tool_labels import IGNORE_LABELS, ToolLabels


Row = dict[str, str]
NumberedRow = tuple[int, Row]

# How VIA 3 names the columns of its CSV export, in a comment.
VIA3_HEADER = "# CSV_HEADER = metadata_id,"
# Names of the columns; the first one that a table has counts.
IMAGE_COLUMNS = ("image", "file_name", "filename", "image_path", "image_name", "path", "file")
POLYGON_COLUMNS = ("polygon", "points", "segmentation", "outline")
CORNER_COLUMNS = (("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"), ("x1", "y1", "x2", "y2"))
BOX_COLUMNS = ("x", "y", "width", "height")
TEXT_COLUMNS = ("text", "transcription", "utf8_string", "word")
IGNORE_COLUMNS = ("ignore", "difficult", "iscrowd")
LABEL_COLUMNS = ("label", "class", "category")
SPLIT_COLUMNS = ("split", "subset", "set")
LANGUAGE_COLUMNS = ("language", "script")
_FLAGS = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}


def read_table(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> list[NumberedRow]:
    """
    The rows of a CSV file whose first line names its columns, in lower case, with the numbers of their lines.

    Commas, semicolons or tabs separate the fields, by the first line.

    Raises:
        FileNotFoundError: if there is no such file.
        AnnotationError: if it is no such table, or too large; the message names the line.
    """
    text = read_text(path, encoding, memory_limit)
    head = text[:100_000].partition("\n")[0]
    if head.startswith("# ") and VIA3_HEADER in text[:100_000]:
        raise AnnotationError(
            f"{path}: the CSV of VIA 3 has numbers in the place of its attributes' names; save the project (.json), and read that as "
            "via"
        )
    delimiter = max(",;\t", key=head.count)
    check_memory(5 * len(text) + 60 * text.count(delimiter) + 400 * text.count("\n"), memory_limit, str(path))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[NumberedRow] = []
    columns: list[str] | None = None
    start = 0
    try:
        for fields in reader:
            start, line = reader.line_num, start + 1
            if not any(field.strip() for field in fields):
                continue
            if columns is None:
                columns = [name.strip().lstrip("#").casefold() for name in fields]
                if len(set(columns)) < len(columns):
                    raise AnnotationError(
                        f"{path}, line {line}: two columns have one name: {short_text(head)}; rename one"
                    )
                continue
            if len(fields) != len(columns):
                raise AnnotationError(
                    f"{path}, line {line}: {len(fields)} fields for {len(columns)} columns; correct the line, and put fields "
                    f"that contain {delimiter!r} in quotes"
                )
            rows.append((line, dict(zip(columns, fields))))
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {start + 1}: no valid CSV ({error}); correct it") from error
    if columns is None:
        raise AnnotationError(f"{path}: an empty file; the first line of a table names its columns")
    return rows


def read_csv(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    split: str | None = None,
    missing: str = "error",
    record_size: tuple[int, int] | None = None,
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads a table with one text instance a line, below a line that names the columns.

    Commas, semicolons or tabs separate the fields; case of the names does not matter, and other columns are left out:

    - `image` (or `file_name`, `filename`, `image_path`, `image_name`, `path`, `file`): the image;
    - `polygon` (or `points`, `segmentation`, `outline`): x and y of all points, separated by spaces, commas or
      semicolons, or as a JSON list; or else `x1`, `y1`, `x2`, `y2`, `x3`, `y3` and so on, of at least three points; or
      else `xmin`, `ymin`, `xmax`, `ymax` (`left`, `top`, `right`, `bottom`, or `x1`, `y1`, `x2`, `y2`); or else `x`, `y`,
      `width`, `height`. A line where all of them are empty stands for an image without text;
    - `text` (or `transcription`, `utf8_string`, `word`), *optional*: the transcription, `###` for unreadable text;
    - `ignore` (or `difficult`, `iscrowd`), *optional*: 1 or 0, true or false;
    - `label` (or `class`, `category`), *optional*: the class, for `categories` and `ignore_labels`;
    - `language` (or `script`), *optional*;
    - `image_width` and `image_height`, *optional*: the size of the annotated image (also `width` and `height`, where they
      are not those of a box);
    - `split` (or `subset`, `set`), *optional*: compared with the option `split`.

    Args:
        source (`str` or `Path`): The file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        categories (`Sequence[str]`, *optional*): Classes that are text; others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Classes of text to be ignored.
        split (`str`, *optional*): See [`read_dataset`], as for the following.
        missing (`str`, *optional*, defaults to `"error"`): What becomes of an image that is not there.
        record_size (`tuple[int, int]`, *optional*): (height, width) of the annotated frame.
        orientation (`str`, *optional*, defaults to `"auto"`): The size in the table decides, where there is one.
        encoding (`str`, *optional*): Encoding of the file.
        on_error (`Callable`, *optional*): Called with the error of an image's lines, which are left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: in the order of the images' first lines.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("annotations.csv", "labels.csv", "*.csv", "*.tsv")
    path, pictures = find_source(source, images, patterns, "table", None, missing, encoding, options)
    rows = read_table(path, encoding, options.memory_limit)
    geometry = _Geometry(set(rows[0][1]) if rows else set(), path, options.memory_limit)
    labels = ToolLabels(categories, ignore_labels)

    def build(item: tuple[str, list[NumberedRow]]) -> TextRecord | None:
        name, lines = item
        where = f"{path}, line {lines[0][0]}"
        instances = Instances()
        for number, row in lines:
            place = f"{path}, line {number}"
            polygon = geometry.outline(row, place)
            if polygon is None:
                continue
            label = _first(row, LABEL_COLUMNS)
            if labels.keeps(label):
                ignore = _flag(row, place) or labels.ignores(label)
                instances.add(polygon, _first(row, TEXT_COLUMNS), ignore, _first(row, LANGUAGE_COLUMNS))
        size = geometry.size(lines[0][1], where)
        image = pictures.find(name, where)
        if image is None:
            return None
        return instances.record(image, orientation, record_size, size, where, normalized=options.normalized)

    of_split = [row for row in rows if split is None or _split_of(row[1]) in (None, split_name(split))]
    return then(
        build_records(group_rows(of_split, IMAGE_COLUMNS, path).items(), build, on_error, options),
        lambda: labels.warn(path),
    )


def group_rows(rows: Sequence[NumberedRow], columns: Sequence[str], path: Path) -> dict[str, list[NumberedRow]]:
    """Rows by the image that they name in the first of some columns that there is, in their order."""
    groups: dict[str, list[NumberedRow]] = {}
    for number, row in rows:
        name = _first(row, columns)
        if name is None:
            raise AnnotationError(
                f"{path}, line {number}: no image is named; give one in the column {columns[0]!r} (or {', '.join(columns[1:])})"
            )
        groups.setdefault(name, []).append((number, row))
    return groups


class _Geometry:
    """How the columns of a table give an outline."""

    def __init__(self, columns: set[str], path: Path, memory_limit: int):
        self.memory_limit = memory_limit
        self.polygon = next((name for name in POLYGON_COLUMNS if name in columns), None)
        self.points: list[str] = []
        while {f"x{len(self.points) // 2 + 1}", f"y{len(self.points) // 2 + 1}"} <= columns:
            number = len(self.points) // 2 + 1
            self.points += [f"x{number}", f"y{number}"]
        self.corners = next((names for names in CORNER_COLUMNS if columns.issuperset(names)), None)
        self.box = BOX_COLUMNS if columns.issuperset(BOX_COLUMNS) else None
        self.columns = (
            [self.polygon]
            if self.polygon
            else self.points
            if len(self.points) >= 6
            else list(self.corners or self.box or ())
        )
        if columns and not self.columns:
            raise AnnotationError(
                f"{path}, line 1: no columns of an outline: polygon, or x1, y1, ..., or xmin, ymin, xmax, ymax, or x, y, width, "
                f"height; there are {short_text(', '.join(sorted(columns)))}"
            )

    def outline(self, row: Row, where: str) -> np.ndarray | None:
        """The outline of a row; `None` where its fields are empty."""
        fields = [row[name].strip() for name in self.columns]
        if not any(fields):
            return None
        if self.polygon:
            return self._polygon(fields[0], where)
        if self.columns is self.points:
            # Outlines of fewer points than the longest one leave the last fields empty.
            while fields and not fields[-1]:
                fields.pop()
        numbers = parse_numbers(fields, where, ",".join(fields))
        if self.columns is self.points:
            return self._checked(numbers, where)
        return box_outline(numbers, where, corners=self.corners is not None)

    def _polygon(self, text: str, where: str) -> np.ndarray:
        if text.startswith("["):
            return json_outline(parse_json(text, where, self.memory_limit), f"{where}.{self.polygon}")
        return self._checked(parse_numbers(text.replace(",", " ").replace(";", " ").split(), where, text), where)

    def _checked(self, numbers: Sequence[float], where: str) -> np.ndarray:
        if len(numbers) % 2 or len(numbers) < 6:
            raise AnnotationError(
                f"{where}: {len(numbers)} numbers are no outline; expected x and y of at least 3 points; correct the line"
            )
        return outline(numbers)

    def size(self, row: Row, where: str) -> tuple[int, int] | None:
        """(height, width) of the annotated image, where the table has it."""
        pairs = [("image_height", "image_width")]
        if self.columns != list(BOX_COLUMNS):
            pairs.append(("height", "width"))
        for height, width in pairs:
            fields = [row.get(name, "").strip() for name in (height, width)]
            if all(fields):
                sides = parse_numbers(fields, where, ",".join(fields))
                return checked_size(sides[0], sides[1], where)
        return None


def _first(row: Row, columns: Sequence[str]) -> str | None:
    """The value of the first of some columns that a row has; an empty one is none."""
    name = next((name for name in columns if name in row), None)
    return (row[name] or None) if name else None


def _split_of(row: Row) -> str | None:
    value = _first(row, SPLIT_COLUMNS)
    return split_name(value.strip()) if value else None


def _flag(row: Row, where: str) -> bool:
    value = (_first(row, IGNORE_COLUMNS) or "").strip().casefold()
    if value not in _FLAGS:
        raise AnnotationError(f"{where}: {short_text(value)} is neither true nor false (1 or 0); correct it")
    return _FLAGS[value]
