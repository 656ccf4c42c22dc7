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
import warnings
from pathlib import Path

import numpy as np

from .access import MEMORY_LIMIT, PathLike, short_text
from .files import INTEGER, NUMBER, outline, parse_numbers, read_lines
from .lines import check_points
from .matlab import MatCells, read_mat
from .paired import Instances, file_reader
from .records import AnnotationError
from .xml_files import parse_xml


# Total-Text ---------------------------------------------------------------------------------------------------------

_TOTALTEXT_RECORD = re.compile(
    r"x:\s*\[\[(?P<x>[^\]]*)\]\]\s*,\s*y:\s*\[\[(?P<y>[^\]]*)\]\]\s*,\s*ornt:\s*\[(?P<ornt>[^\]]*)\]\s*,\s*"
    r"transcriptions:\s*\[(?P<text>.*)\]\s*",
    re.DOTALL,
)
_TOTALTEXT_IGNORED = ("#", "###")
_PYTHON_TEXT = re.compile(r"""[uU]?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")""")


def totaltext_key(stem: str) -> str | None:
    """`poly_gt_img11` and `gt_img11` -> `img11`; the boxes of `rect_gt_img11` are not read."""
    if stem.lower().startswith("rect_gt_"):
        return None
    return re.sub(r"^(?:poly_)?gt_", "", stem, flags=re.IGNORECASE)


def parse_totaltext(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Instances:
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
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `Instances`: outlines and transcriptions.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if an instance cannot be meant; the message names file and line, or file and cell.
    """
    if Path(path).suffix.lower() == ".mat":
        return _parse_totaltext_mat(path, memory_limit)
    lines = read_lines(path, encoding, memory_limit)
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
                f"{count // 2} points: {short_text(line)}; correct it"
            )
        polygon, text = outline(parse_numbers(fields[:count], where, line)), ",".join(fields[count:])
        last = _last_point(fields[count:], polygon)
        if last is not None:
            instances.add(np.concatenate([polygon, last[None]]), None)
            continue
        instances.add(polygon, text, text.strip() in _TOTALTEXT_IGNORED)
    return instances


def _last_point(fields: list[str], polygon: np.ndarray) -> np.ndarray | None:
    """Two integers that end a line without transcription: a point, if they lie beside the others, and not text."""
    if len(fields) != 2 or not all(INTEGER.fullmatch(field.strip()) for field in fields):
        return None
    point = np.array([float(field) for field in fields], dtype=np.float32)
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    reach = (high - low).max()
    return point if np.all(point >= low - reach) and np.all(point <= high + reach) else None


def _parse_totaltext_lists(path: PathLike, lines: list[tuple[int, str]]) -> Instances:
    instances = Instances()
    starts = [index for index, (_, line) in enumerate(lines) if line.lstrip().startswith("x:")]
    for start, end in zip(starts, [*starts[1:], len(lines)]):
        where = f"{path}, line {lines[start][0]}"
        record = " ".join(line.strip() for _, line in lines[start:end])
        match = _TOTALTEXT_RECORD.fullmatch(record)
        if match is None:
            raise AnnotationError(
                f"{where}: expected `x: [[...]], y: [[...]], ornt: [...], transcriptions: [...]`: {short_text(record)}; correct it"
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
    # Python's parser sees one text and nothing else: brackets or signs by the thousand could bring it down.
    if not _PYTHON_TEXT.fullmatch(literal):
        raise AnnotationError(f"{where}: {literal[:80]!r} is no quoted text, or more than one; write it as u'...'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes that escape nothing
            return ast.literal_eval(literal)
    except (ValueError, SyntaxError, MemoryError) as error:
        raise AnnotationError(f"{where}: {literal[:80]!r} is no quoted text; write it as u'...'") from error


def _from_columns(x: list[float], y: list[float], where: str) -> np.ndarray:
    if len(x) != len(y) or len(x) < 3:
        raise AnnotationError(
            f"{where}: {len(x)} x and {len(y)} y are no outline of at least 3 points; correct or remove it"
        )
    return np.stack([np.asarray(x, dtype=np.float32), np.asarray(y, dtype=np.float32)], axis=1)


def _parse_totaltext_mat(path: PathLike, memory_limit: int) -> Instances:
    cells = read_mat(path, "polygt", memory_limit)
    if not isinstance(cells, MatCells) or (cells.items and (len(cells.shape) != 2 or cells.shape[1] < 5)):
        raise AnnotationError(
            f"{path}, polygt: expected cells with the columns `x:`, x, `y:`, y, transcription, orientation"
        )
    instances = Instances()
    rows = cells.shape[0] if cells.items else 0
    for row in range(rows):
        where = f"{path}, polygt row {row + 1}"
        fields = [cells.items[row + column * rows] for column in range(cells.shape[1])]
        x, y = (_mat_numbers(value, where) for value in (fields[1], fields[3]))
        text = _mat_text(fields[4], where)
        orientation = _mat_text(fields[5], where) if len(fields) > 5 else None
        instances.add(_from_columns(x, y, where), text, text in _TOTALTEXT_IGNORED or orientation == "#")
    return instances


def _mat_numbers(value, where: str) -> list[float]:
    if not isinstance(value, np.ndarray):
        raise AnnotationError(f"{where}: the coordinates are not numbers; correct or remove the row")
    return parse_numbers(map(repr, value.ravel().tolist()), where)


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
    """Numbers without leading zeros: the annotation `0001001` belongs to the image `1001`."""
    return re.sub(r"^gt_", "", stem, flags=re.IGNORECASE).lstrip("0") or "0"


def parse_ctw1500(path: PathLike, encoding: str | None = None, memory_limit: int = MEMORY_LIMIT) -> Instances:
    """
    Parses one CTW1500 (SCUT-CTW1500) file.

    - `.xml` (training): `<box>` elements with `<label>`, the transcription, and `<segs>`, 14 points;
    - `.txt` (test): `x1,y1,...,x14,y14,####transcription` a line;
    - `.txt` (first release): `xmin,ymin,xmax,ymax,dx1,dy1,...,dx14,dy14` a line, points relative to (xmin, ymin).

    The transcription `###` marks unreadable text.

    Args:
        path (`str` or `Path`): The annotation file.
        encoding (`str`, *optional*): Encoding of text that is neither UTF-8 nor UTF-16 with a byte order mark.
        memory_limit (`int`, *optional*, defaults to 2 GiB): Bytes that its content may take in memory.

    Returns:
        `Instances`: outlines of 14 points and transcriptions.

    Raises:
        FileNotFoundError: if the file does not exist.
        AnnotationError: if an instance cannot be meant; the message names file and line, or file and element.
    """
    if Path(path).suffix.lower() == ".xml":
        return _parse_ctw1500_xml(path, encoding, memory_limit)
    instances = Instances()
    for number, line in read_lines(path, encoding, memory_limit):
        where = f"{path}, line {number}"
        fields = line.split(",")
        if len(fields) == _CTW1500_OFFSETS and all(NUMBER.fullmatch(field.strip()) for field in fields):
            offsets = parse_numbers(fields, where, line)
            instances.add(outline(offsets[4:]) + np.array(offsets[:2], dtype=np.float32), None)
            continue
        numbers, text = fields[:CTW1500_NUMBERS], ",".join(fields[CTW1500_NUMBERS:])
        if len(numbers) < CTW1500_NUMBERS:
            raise AnnotationError(
                f"{where}: expected `x1,y1,...,x14,y14,####transcription` (28 numbers and a text), found {len(fields)} "
                f"fields: {short_text(line)}; correct it"
            )
        polygon = outline(parse_numbers(numbers, where, line))
        if text.startswith("####"):
            text = text[4:]
        else:
            check_points(polygon, text, where, line, expected=CTW1500_NUMBERS)
        instances.add(polygon, text or None)
    return instances


def _parse_ctw1500_xml(path: PathLike, encoding: str | None, memory_limit: int) -> Instances:
    root = parse_xml(path, encoding, memory_limit)
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
