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
"""What labelling tools write: PaddleOCR label files (PPOCRLabel) and LabelMe."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .files import (
    ORIENTATION_CHOICES,
    ImageIndex,
    PathLike,
    as_folders,
    check_choice,
    checked,
    find_files,
    find_one,
    folder,
    json_number,
    json_outline,
    json_size,
    member,
    parse_json,
    read_lines,
    read_text,
    rectangle,
)
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records


# PaddleOCR ----------------------------------------------------------------------------------------------------------


def read_paddleocr(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    split: str | None = None,
    missing: str = "error",
    record_size: tuple[int, int] | None = None,
    orientation: str = "upright",
    encoding: str | None = None,
    on_error: OnError | None = None,
) -> Iterator[TextRecord]:
    """
    Reads PaddleOCR label files, as PPOCRLabel writes them.

    A line is the picture's path, a tab, and `[{"transcription": "...", "points": [[x, y], ...], "difficult": false}, ...]`
    as JSON. Text of the transcription `###` or `*`, and difficult text, is ignored. `source` is the file or its folder;
    see [`read_dataset`] for the other arguments and the errors.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    path = find_one(source, ("Label.txt", "*[Ll]abel*.txt", "*.txt"), "label file", split)
    pictures = ImageIndex(as_folders(images, path.parent), missing)

    def build(item: tuple[int, str]) -> TextRecord | None:
        where = f"{path}, line {item[0]}"
        name, tab, content = item[1].partition("\t")
        if not tab:
            raise AnnotationError(f"{where}: expected a picture's path, a tab and a JSON list; correct the line")
        instances = Instances()
        for index, entry in enumerate(checked(parse_json(content, where), list, where)):
            place = f"{where}[{index}]"
            text = member(entry, "transcription", str, place, None)
            ignore = text == "*" or member(entry, "difficult", (bool, int), place, False)
            instances.add(json_outline(member(entry, "points", list, place), f"{place}.points"), text, ignore)
        image = pictures.find(name.strip(), where)
        return None if image is None else instances.record(image, orientation, record_size)

    return build_records(read_lines(path, encoding), build, on_error)


# LabelMe ------------------------------------------------------------------------------------------------------------

LABELME_IGNORED = ("###", "ignore", "ignored", "difficult", "illegible", "unreadable")
LABELME_CLASSES = ("text", "word", "line")


def read_labelme(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    ignore_labels: Sequence[str] = LABELME_IGNORED,
    class_labels: Sequence[str] = LABELME_CLASSES,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
) -> Iterator[TextRecord]:
    """
    Reads LabelMe (https://github.com/wkentaro/labelme): one JSON file a picture.

    Shapes are polygons, rectangles and rotated rectangles. The transcription is the shape's description, or else its
    label; a label that only names the class is none.

    Args:
        source (`str` or `Path`): Folder of JSON files, or one of them.
        images (`str`, `Path` or list of them, *optional*):
            Folders of pictures, when they are not where `imagePath` says. A picture that is not found is taken from
            `imageData`, where the file holds it.
        ignore_labels (`Sequence[str]`, *optional*, defaults to `("###", "ignore", "ignored", "difficult", "illegible", "unreadable")`):
            Labels, and names of ticked flags, of text to be ignored; case does not matter.
        class_labels (`Sequence[str]`, *optional*, defaults to `("text", "word", "line")`):
            Labels that are no transcription; case does not matter.
        split (`str`, *optional*): See [`read_dataset`], as for the following.
        missing (`str`, *optional*, defaults to `"error"`): What becomes of a file whose picture is not there.
        orientation (`str`, *optional*, defaults to `"auto"`): `imageWidth` and `imageHeight` decide.
        encoding (`str`, *optional*): Encoding of the files.
        on_error (`Callable`, *optional*): Called with the error of a file, which is left out.

    Returns:
        `Iterator[TextRecord]`: lazily.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    path = Path(source)
    files = [path] if path.is_file() else find_files([folder(path, "Source")], (".json",), split)
    if not files:
        raise AnnotationError(f"{path}: no LabelMe file (*.json) in this folder; check the path")
    ignored = {label.casefold() for label in ignore_labels}
    classes = {label.casefold() for label in class_labels}
    shared = None if images is None else ImageIndex(as_folders(images, path), missing)

    def build(file: Path) -> TextRecord | None:
        content = parse_json(read_text(file, encoding), str(file))
        instances = Instances()
        for index, shape in enumerate(member(content, "shapes", list, str(file))):
            where = f"{file}: shapes[{index}]"
            label = member(shape, "label", str, where, "")
            flags = member(shape, "flags", dict, where, {})
            words = {label.casefold()} | {flag.casefold() for flag, value in flags.items() if value is True}
            text = member(shape, "description", str, where, None) or (None if label.casefold() in classes else label)
            instances.add(_labelme_outline(shape, where), text or None, bool(words & ignored))
        name = member(content, "imagePath", str, str(file))
        data = member(content, "imageData", str, str(file), None)
        index = shared or ImageIndex([file.parent], missing)
        image = _labelme_picture(index, name, data, str(file))
        size = json_size(content, str(file), "imageHeight", "imageWidth")
        if isinstance(image, bytes):  # such a picture was turned upright before it was stored
            return instances.record(image, image_name=name)
        return None if image is None else instances.record(image, orientation, None, size, str(file))

    return build_records(files, build, on_error)


def _labelme_outline(shape: Any, where: str) -> np.ndarray:
    kind = member(shape, "shape_type", str, where, "polygon")
    points = member(shape, "points", list, where)
    if kind == "rectangle" and len(points) == 2:
        corners = []
        for index, point in enumerate(points):
            place = f"{where}.points[{index}]"
            if len(checked(point, list, place)) != 2:
                raise AnnotationError(f"{place}: a point has {len(point)} numbers; expected [x, y]")
            corners.append([json_number(number, place) for number in point])
        # The user may have drawn it from any corner to the opposite one.
        (x0, y0), (x1, y1) = corners
        return rectangle(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
    if kind not in ("polygon", "rectangle", "rotation", "oriented_rectangle", "quadrilateral"):
        raise AnnotationError(f"{where}: a {kind[:40]} is no text region; draw a polygon or a rectangle, or remove it")
    return json_outline(points, f"{where}.points")


def _labelme_picture(index: ImageIndex, name: str, data: str | None, where: str) -> Path | bytes | None:
    """The picture's file, or its content from the annotation when there is no file."""
    if data is None:
        return index.find(name, where)
    missing = index.missing
    index.missing = "skip"
    try:
        image = index.find(name, where)
    finally:
        index.missing = missing
    if image is not None:
        return image
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise AnnotationError(
            f"{where}.imageData: no base64 text ({error}); put the picture beside the file"
        ) from error
