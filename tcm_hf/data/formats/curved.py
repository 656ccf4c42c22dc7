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
"""Formats of curved text: Total-Text (both text forms and .mat) and CTW1500 (training XML, test text)."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np

from .files import INTEGER, NUMBER, PathLike, outline, parse_numbers, read_lines
from .matlab import MatCells, read_mat
from .paired import Instances, file_reader
from .records import AnnotationError


# Total-Text ---------------------------------------------------------------------------------------------------------

_TOTALTEXT_RECORD = re.compile(
    r"x:\s*\[\[(?P<x>[^\]]*)\]\]\s*,\s*y:\s*\[\[(?P<y>[^\]]*)\]\]\s*,\s*ornt:\s*\[(?P<ornt>[^\]]*)\]\s*,\s*"
    r"transcriptions:\s*\[(?P<text>.*)\]\s*",
    re.DOTALL,
)
_TOTALTEXT_IGNORED = ("#", "###")


def totaltext_key(stem: str) -> str | None:
    """`poly_gt_img11` and `gt_img11` -> `img11`; the boxes of `rect_gt_img11` are not read."""
    if stem.lower().startswith("rect_gt_"):
        return None
    return re.sub(r"^(?:poly_)?gt_", "", stem, flags=re.IGNORECASE)


def parse_totaltext(path: PathLike, encoding: str | None = None) -> Instances:
    """
    Parses one Total-Text file, in any of its three forms.

    - `x: [[115 503 494 115]], y: [[322 346 426 404]], ornt: [u'm'], transcriptions: [u'nauGHTY']`, where long lists go
      on in the next lines;
    - `x1,y1,x2,y2,...,transcription` a line. The longest even number of leading integers that leaves something for the
      transcription is the outline, so that a transcription may itself be a number or contain commas;
    - a MATLAB file with the cells `polygt` of the columns `x:`, x, `y:`, y, transcription, orientation.

    The transcriptions `#` and `###` mark unreadable text.

    Args:
        path (`str` or `Path`): The annotation file; `.mat` or text.
        encoding (`str`, *optional*): Encoding of text that is neither UTF-8 nor UTF-16 with a byte order mark.

    Returns:
        `Instances`: outlines and transcriptions.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if an instance cannot be meant; the message names file and line, or file and cell.
    """
    if Path(path).suffix.lower() == ".mat":
        return _parse_totaltext_mat(path)
    lines = read_lines(path, encoding)
    if lines and lines[0][1].lstrip().startswith("x:"):
        return _parse_totaltext_lists(path, lines)
    instances = Instances()
    for number, line in lines:
        where = f"{path}, line {number}"
        fields = line.split(",")
        leading = 0
        while leading < len(fields) - 1 and INTEGER.fullmatch(fields[leading].strip()):
            leading += 1
        count = leading - leading % 2
        if count < 6:
            raise AnnotationError(
                f"{where}: expected `x1,y1,x2,y2,x3,y3,...,transcription` (integers for at least 3 points, and a text), found "
                f"{count // 2} points: {line!r}; correct it"
            )
        text = ",".join(fields[count:])
        instances.add(outline(parse_numbers(fields[:count], where, line)), text, text.strip() in _TOTALTEXT_IGNORED)
    return instances


def _parse_totaltext_lists(path: PathLike, lines: list[tuple[int, str]]) -> Instances:
    instances = Instances()
    starts = [index for index, (_, line) in enumerate(lines) if line.lstrip().startswith("x:")]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        where = f"{path}, line {lines[start][0]}"
        record = " ".join(line.strip() for _, line in lines[start:end])
        match = _TOTALTEXT_RECORD.fullmatch(record)
        if match is None:
            raise AnnotationError(
                f"{where}: expected `x: [[...]], y: [[...]], ornt: [...], transcriptions: [...]`: {record!r}; correct it"
            )
        x, y = (parse_numbers(match[axis].replace(",", " ").split(), where, record) for axis in "xy")
        text = _python_text(match["text"], where)
        polygon = _from_columns(x, y, where)
        instances.add(polygon, text, text in _TOTALTEXT_IGNORED or _python_text(match["ornt"], where) == "#")
    return instances


def _python_text(literal: str, where: str) -> str | None:
    """The text of `u'...'`; an empty list is none."""
    literal = literal.strip()
    if not literal:
        return None
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise AnnotationError(f"{where}: {literal[:80]!r} is no quoted text; write it as u'...'") from error
    if not isinstance(value, str):
        raise AnnotationError(f"{where}: {literal[:80]!r} is not one quoted text; write it as u'...'")
    return value


def _from_columns(x: list[float], y: list[float], where: str) -> np.ndarray:
    if len(x) != len(y) or len(x) < 3:
        raise AnnotationError(
            f"{where}: {len(x)} x and {len(y)} y are no outline of at least 3 points; correct or remove it"
        )
    return np.stack([np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32)], axis=1)


def _parse_totaltext_mat(path: PathLike) -> Instances:
    cells = read_mat(path, "polygt")
    if not isinstance(cells, MatCells) or (cells.items and (len(cells.shape) != 2 or cells.shape[1] < 5)):
        raise AnnotationError(
            f"{path}, polygt: expected cells with the columns `x:`, x, `y:`, y, transcription, orientation"
        )
    instances = Instances()
    rows = cells.shape[0] if cells.items else 0
    for row in range(rows):
        where = f"{path}, polygt row {row + 1}"
        fields = [cells.items[row + column * rows] for column in range(cells.shape[1])]
        columns = []
        for value in (fields[1], fields[3]):
            if not isinstance(value, np.ndarray):
                raise AnnotationError(f"{where}: the coordinates are not numbers; correct or remove the row")
            columns.append(parse_numbers(map(repr, value.ravel().tolist()), where))
        text = _mat_text(fields[4], where)
        orientation = _mat_text(fields[5], where) if len(fields) > 5 else None
        instances.add(_from_columns(*columns, where), text, text in _TOTALTEXT_IGNORED or orientation == "#")
    return instances


def _mat_text(value, where: str) -> str | None:
    """Text of a character cell; an empty cell is none."""
    if isinstance(value, list) and len(value) <= 1:
        return value[0] if value and value[0] else None
    if isinstance(value, np.ndarray) and value.size == 0:
        return None
    raise AnnotationError(f"{where}: the transcription is not one text; correct or remove the row")


read_totaltext = file_reader(
    "read_totaltext",
    "Total-Text (https://github.com/cs-chan/Total-Text-Dataset)",
    parse_totaltext,
    suffixes=(".txt", ".mat"),
    key=totaltext_key,
)


# CTW1500 ------------------------------------------------------------------------------------------------------------

CTW1500_NUMBERS = 28
_CTW1500_OFFSETS = 32


def ctw1500_key(stem: str) -> str:
    """Numbers without leading zeros: the annotation `0001001` belongs to the picture `1001`."""
    return re.sub(r"^gt_", "", stem, flags=re.IGNORECASE).lstrip("0") or "0"


def parse_ctw1500(path: PathLike, encoding: str | None = None) -> Instances:
    """
    Parses one CTW1500 (SCUT-CTW1500) file.

    - `.xml` (training): `<box>` elements with `<label>`, the transcription, and `<segs>`, 14 points;
    - `.txt` (test): `x1,y1,...,x14,y14,####transcription` a line;
    - `.txt` (first release): `xmin,ymin,xmax,ymax,dx1,dy1,...,dx14,dy14` a line, points relative to (xmin, ymin).

    The transcription `###` marks unreadable text.

    Args:
        path (`str` or `Path`): The annotation file.
        encoding (`str`, *optional*): Encoding of text that is neither UTF-8 nor UTF-16 with a byte order mark.

    Returns:
        `Instances`: outlines of 14 points and transcriptions.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if an instance cannot be meant; the message names file and line, or file and element.
    """
    if Path(path).suffix.lower() == ".xml":
        return _parse_ctw1500_xml(path)
    instances = Instances()
    for number, line in read_lines(path, encoding):
        where = f"{path}, line {number}"
        fields = line.split(",")
        if len(fields) == _CTW1500_OFFSETS and all(NUMBER.fullmatch(field.strip()) for field in fields):
            numbers = parse_numbers(fields, where, line)
            instances.add(outline(numbers[4:]) + np.float32(numbers[:2]), None)
            continue
        numbers, text = fields[:CTW1500_NUMBERS], ",".join(fields[CTW1500_NUMBERS:])
        if len(numbers) < CTW1500_NUMBERS:
            raise AnnotationError(
                f"{where}: expected `x1,y1,...,x14,y14,####transcription` (28 numbers and a text), found {len(fields)} "
                f"fields: {line!r}; correct it"
            )
        text = text[4:] if text.startswith("####") else text
        instances.add(outline(parse_numbers(numbers, where, line)), text or None)
    return instances


def _parse_ctw1500_xml(path: PathLike) -> Instances:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"Annotation file not found: {path}")
    data = path.read_bytes()
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise AnnotationError(f"{path}: a document type has no place in an annotation; remove it")
    # Some published labels hold a bare ampersand.
    data = re.sub(rb"&(?!#?\w+;)", b"&amp;", data)
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        line = error.position[0]
        raise AnnotationError(
            f"{path}, line {line}: no valid XML ({error}); get a complete copy of the file"
        ) from error
    except (ValueError, LookupError) as error:
        raise AnnotationError(f"{path}: XML in an encoding that is not read ({error}); convert it to UTF-8") from error
    instances = Instances()
    for number, box in enumerate(root.iter("box"), start=1):
        where = f"{path}, box {number}"
        fields = (box.findtext("segs") or "").split(",")
        if len(fields) != CTW1500_NUMBERS:
            raise AnnotationError(
                f"{where}: <segs> needs the 28 numbers of 14 points, found {len(fields)}; correct it"
            )
        instances.add(outline(parse_numbers(fields, where)), box.findtext("label") or None)
    if root.find(".//image") is None and not instances.polygons:
        raise AnnotationError(
            f"{path}: neither an <image> nor a <box> element; check that this is a CTW1500 annotation"
        )
    return instances


read_ctw1500 = file_reader(
    "read_ctw1500",
    "CTW1500 (https://github.com/Yuliang-Liu/Curve-Text-Detector)",
    parse_ctw1500,
    suffixes=(".xml", ".txt"),
    key=ctw1500_key,
)
