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
"""Reads detections from files: a folder or zip of one text file an image, or JSON."""

import io
import json
import math
import re
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np


# A zip that unpacks to more than this is no list of detections.
MAX_MEMBER_BYTES = 64 * 1024 * 1024
_PREFIX = re.compile(r"^(res|det|pred|gt|poly_gt|result)[_-]", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


@dataclass
class ImageDetections:
    """
    The detections of one image.

    Args:
        source (`str`): File, or entry, for messages.
        polygons (`list[np.ndarray]`): Outlines of shape `(n, 2)` in pixels.
        scores (`list[float]` or `None`): One for each outline, if the file has them.
        size (`tuple[int, int]`, *optional*): (height, width) of the image to which the outlines refer.
        rotated_boxes (`list[tuple]`, *optional*): The outlines as `(x, y, width, height, angle)`, if they came so.
    """

    source: str
    polygons: list[np.ndarray] = field(default_factory=list)
    scores: list[float] | None = None
    size: tuple[int, int] | None = None
    rotated_boxes: list[tuple] | None = None


def image_key(name: str) -> str:
    """What identifies an image in file names: `res_img_1.txt`, `gt_img_1.txt` and `photos/img_1.jpg` are all `img_1`."""
    stem = Path(name.replace("\\", "/")).name
    # Dots may be part of a name, so only a known ending is one.
    stem = re.sub(r"\.(txt|json|jpe?g|png|bmp|tiff?|webp|gif)$", "", stem, flags=re.IGNORECASE)
    stem = re.sub(r"\.(jpe?g|png|bmp|tiff?|webp|gif)$", "", stem, flags=re.IGNORECASE)
    return _PREFIX.sub("", stem)


def read_detections(source: str | Path, rotated: bool = False) -> dict[str, ImageDetections]:
    """
    Reads the detections of many images.

    Args:
        source (`str` or `Path`): One of

            - a folder, or a zip archive as it is submitted to a leaderboard, of one text file an image such as
              `res_img_1.txt`. A line is `x1,y1,...,xn,yn` or `left,top,right,bottom`; a number after the coordinates is
              the score; text after that is not used;
            - the JSON file that `tcm-hf detect --output` writes;
            - a JSON object of lists by image, as ArT has it: `{"res_1": [{"points": [[x, y], ...], "confidence": 0.9}]}`.
        rotated (`bool`, *optional*, defaults to `False`): Whether 5 numbers in a line of text are the rotated box
            `xmin,ymin,xmax,ymax,angle` of MSRA-TD500 (turned upright about its center; radians, clockwise on screen).

    Returns:
        `dict[str, ImageDetections]`: by [`image_key`].

    Raises:
        FileNotFoundError: if there is no such file or folder.
        ValueError: if something in it cannot be meant; the message names file and line.
    """
    source = Path(source)
    if not source.exists():
        raise FileNotFoundError(
            f"no detections at {str(source)!r}; give a folder of text files, a zip archive or JSON"
        )
    if source.is_dir():
        files = sorted(path for path in source.rglob("*.txt") if path.is_file())
        if not files:
            raise ValueError(f"no .txt files in {str(source)!r}; detections are one text file an image")
        entries: Iterator[tuple[ImageDetections, str]] = (
            _parse_text(str(path), _decode(path.read_bytes(), str(path)), rotated) for path in files
        )
    elif zipfile.is_zipfile(source):
        entries = _read_zip(source, rotated)
    else:
        entries = _read_json(source)
    found: dict[str, ImageDetections] = {}
    for entry, name in entries:
        key = image_key(name)
        if key in found:
            raise ValueError(f"two results for image {key!r}: {found[key].source} and {entry.source}; remove one")
        found[key] = entry
    return found


def _decode(data: bytes, where: str) -> str:
    for encoding in ("utf-8-sig", "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"):
        try:
            return data.decode(encoding)
        except UnicodeError:
            continue
    raise ValueError(f"{where}: neither UTF-8 nor UTF-16; convert it")


def _read_zip(source: Path, rotated: bool) -> Iterator[tuple[ImageDetections, str]]:
    with zipfile.ZipFile(source) as archive:
        members = [m for m in archive.infolist() if m.filename.endswith(".txt") and "__MACOSX" not in m.filename]
        if not members:
            raise ValueError(f"no .txt files in {str(source)!r}; a submission is one text file an image")
        for member in sorted(members, key=lambda m: m.filename):
            where = f"{source}:{member.filename}"
            if member.file_size > MAX_MEMBER_BYTES:
                raise ValueError(f"{where}: {member.file_size} bytes are no list of detections; remove it")
            try:
                data = archive.read(member)
            except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
                raise ValueError(f"{where}: cannot be unpacked ({error}); make the archive anew") from error
            yield _parse_text(where, _decode(data, where), rotated)


def _parse_text(where: str, text: str, rotated: bool) -> tuple[ImageDetections, str]:
    polygons, scores, boxes = [], [], []
    for number, line in enumerate(io.StringIO(text), start=1):
        line = line.strip()
        if not line:
            continue
        values = _parse_line(line, f"{where}, line {number}")
        if rotated and len(values) in (5, 6):
            xmin, ymin, xmax, ymax, angle, *score = values
            boxes.append((xmin, ymin, xmax - xmin, ymax - ymin, angle))
            polygons.append(_turned(*boxes[-1]))
            scores.append(score[0] if score else None)
            continue
        scores.append(values.pop() if len(values) % 2 else None)
        if len(values) == 4:
            left, top, right, bottom = values
            values = [left, top, right, top, right, bottom, left, bottom]
        polygons.append(np.array(values).reshape(-1, 2))
    if boxes and len(boxes) < len(polygons):
        raise ValueError(f"{where}: some lines are rotated boxes and some are polygons; use one form")
    found = ImageDetections(where, polygons, _all_or_none(scores, where), rotated_boxes=boxes or None)
    return found, where.rsplit(":", 1)[-1]


def _parse_line(line: str, where: str) -> list[float]:
    values = []
    for part in line.split(",") if "," in line else line.split():
        # What follows the first field that is no number is a transcription.
        if not _NUMBER.fullmatch(part.strip()):
            break
        values.append(float(part))
    if len(values) < 4 or not all(map(math.isfinite, values)):
        raise ValueError(
            f"{where}: expected `x1,y1,...,xn,yn` or `left,top,right,bottom`, then perhaps a score, found {line[:80]!r}"
        )
    return values


def _turned(x: float, y: float, width: float, height: float, angle: float) -> np.ndarray:
    """Corners of an upright box that is turned about its center."""
    along = np.array([math.cos(angle), math.sin(angle)]) * (width / 2)
    across = np.array([-math.sin(angle), math.cos(angle)]) * (height / 2)
    center = np.array([x + width / 2, y + height / 2])
    return np.array(
        [center - along - across, center + along - across, center + along + across, center - along + across]
    )


def _all_or_none(scores: list, where: str) -> list[float] | None:
    given = [score is not None for score in scores]
    if any(given) and not all(given):
        raise ValueError(f"{where}: some detections have a score and some have none; give one for each, or none")
    return scores if all(given) else None


def _read_json(source: Path) -> Iterator[tuple[ImageDetections, str]]:
    try:
        data = json.loads(_decode(source.read_bytes(), str(source)))
    except ValueError as error:
        raise ValueError(
            f"{str(source)!r} is neither a folder, a zip archive nor JSON ({error}); detections come as one of these"
        ) from None
    if isinstance(data, dict):
        entries: Iterable = ({"image": name, "detections": found} for name, found in data.items())
    elif isinstance(data, list):
        entries = data
    else:
        raise ValueError(f"{str(source)!r}: expected a list of images, as `tcm-hf detect --output` writes it")
    for index, entry in enumerate(entries):
        where = f"{source}, entry {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("image"), str):
            raise ValueError(f"{where}: expected an object with `image` and `detections`")
        where = f"{where} ({entry['image']})"
        if "error" in entry:
            raise ValueError(f"{where}: this image could not be read ({entry['error']}); detect it again")
        found = entry.get("detections")
        if not isinstance(found, list):
            raise ValueError(f"{where}: expected a list of `detections`")
        parsed = [_parse_object(item, f"{where}, detection {number}") for number, item in enumerate(found)]
        size = None
        if isinstance(entry.get("height"), int) and isinstance(entry.get("width"), int):
            size = entry["height"], entry["width"]
        scores = _all_or_none([score for _, score in parsed], where)
        yield ImageDetections(where, [polygon for polygon, _ in parsed], scores, size), entry["image"]


def _parse_object(item, where: str) -> tuple[np.ndarray, float | None]:
    names = ("polygon", "points")
    outline = next((item[name] for name in names if name in item), None) if isinstance(item, dict) else None
    try:
        polygon = np.asarray(outline, dtype=np.float64).reshape(-1, 2)
        score = next((item[name] for name in ("score", "confidence") if item.get(name) is not None), None)
        score = None if score is None else float(score)
        if len(polygon) < 3 or not np.isfinite(polygon).all() or not math.isfinite(score or 0.0):
            raise ValueError("a polygon needs 3 finite points, a score has to be finite")
    except (TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{where}: expected `polygon` (a list of [x, y]) and `score` ({error})") from None
    return polygon, score
