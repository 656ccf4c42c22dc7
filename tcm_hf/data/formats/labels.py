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
"""What labeling tools write: PaddleOCR label files (PPOCRLabel) and LabelMe."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, SourceFolders
from .files import (
    ORIENTATION_CHOICES,
    ImageIndex,
    as_folders,
    as_names,
    check_choice,
    checked,
    find_files,
    folder,
    iterate_lines,
    json_number,
    json_outline,
    json_size,
    member,
    parse_json,
    read_text,
    rectangle,
)
from .json_sets import find_source
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, then, warn


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
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads PaddleOCR label files, as PPOCRLabel writes them.

    A line is the image's path, a tab, and `[{"transcription": "...", "points": [[x, y], ...], "difficult": false}, ...]`
    as JSON. Text of the transcription `###` or `*`, and difficult text, is ignored. `source` is the file or its folder;
    see [`read_dataset`] for the other arguments and the errors.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("Label.txt", "*[Ll]abel*.txt", "*.txt")
    path, pictures = find_source(source, images, patterns, "label file", split, missing, encoding, options)

    def build(item: tuple[int, str]) -> TextRecord | None:
        where = f"{path}, line {item[0]}"
        name, tab, content = item[1].partition("\t")
        if not tab:
            raise AnnotationError(f"{where}: expected an image's path, a tab and a JSON list; correct the line")
        instances = Instances()
        for index, entry in enumerate(checked(parse_json(content, where, options.memory_limit), list, where)):
            place = f"{where}[{index}]"
            text = member(entry, "transcription", str, place, None)
            ignore = text == "*" or member(entry, "difficult", (bool, int), place, False)
            instances.add(json_outline(member(entry, "points", list, place), f"{place}.points"), text, ignore)
        image = pictures.find(name.strip(), where)
        if image is None:
            return None
        return instances.record(image, orientation, record_size, where=where, normalized=options.normalized)

    return build_records(iterate_lines(path, encoding, options.memory_limit), build, on_error, options)


# LabelMe ------------------------------------------------------------------------------------------------------------

LABELME_IGNORED = ("###", "ignore", "ignored", "difficult", "illegible", "unreadable")
LABELME_CLASSES = ("text", "word", "line")
LABEL_CHOICES = ("auto", "class", "transcription")


def read_labelme(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    ignore_labels: Sequence[str] = LABELME_IGNORED,
    class_labels: Sequence[str] = LABELME_CLASSES,
    labels: str = "auto",
    categories: Sequence[str] | None = None,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads LabelMe (https://github.com/wkentaro/labelme): one JSON file an image.

    Shapes are polygons, rectangles and rotated rectangles. The transcription is the shape's description, or else its
    label, where that is one.

    Args:
        source (`str` or `Path`): Folder of JSON files, or one of them.
        images (`str`, `Path` or list of them, *optional*):
            Folders of images, when they are not where `imagePath` says. An image that is not found is taken from
            `imageData`, where the file holds it.
        ignore_labels (`Sequence[str]`, *optional*, defaults to `("###", "ignore", "ignored", "difficult", "illegible", "unreadable")`):
            Labels, and names of ticked flags, of text to be ignored; case does not matter.
        class_labels (`Sequence[str]`, *optional*, defaults to `("text", "word", "line")`):
            Labels that are no transcription; case does not matter.
        labels (`str`, *optional*, defaults to `"auto"`):
            What a shape's label is: its `"transcription"`, its `"class"`, or with `"auto"` the transcription unless it is
            one of `class_labels`, with an [`AnnotationWarning`] where that was decided.
        categories (`Sequence[str]`, *optional*):
            The labels that are text, as classes; shapes with other labels are left out. All shapes are text by default.
        split (`str`, *optional*): See [`read_dataset`], as for the following.
        missing (`str`, *optional*, defaults to `"error"`): What becomes of a file whose image is not there.
        orientation (`str`, *optional*, defaults to `"auto"`): `imageWidth` and `imageHeight` decide.
        encoding (`str`, *optional*): Encoding of the files.
        on_error (`Callable`, *optional*): Called with the error of a file, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: lazily.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    check_choice("labels", labels, LABEL_CHOICES)
    path = Path(source)
    root = path.parent if path.is_file() else folder(path, "Source")
    image_roots = None if images is None else as_folders(images, root)
    folders = SourceFolders(root, *(image_roots or ()), allow_outside=options.allow_outside)
    files = [path] if path.is_file() else find_files([root], (".json",), split, folders)
    if not files:
        raise AnnotationError(f"{path}: no LabelMe file (*.json) in this folder; check the path")
    ignored = {label.casefold() for label in ignore_labels}
    classes = {label.casefold() for label in class_labels}
    wanted = None if categories is None else {label.casefold() for label in as_names(categories, "categories")}
    shared = None if image_roots is None else ImageIndex(image_roots, missing, None, folders, encoding)
    taken: Counter[str] = Counter()

    def transcription(shape: Any, label: str, where: str) -> str | None:
        text = member(shape, "description", str, where, None)
        if text or labels == "class" or wanted is not None or not label:
            return text or None
        if labels == "auto":
            if label.casefold() in classes:
                return None
            if label.casefold() not in ignored:
                taken[label[:80]] += 1
        return label

    def build(file: Path) -> TextRecord | None:
        content = parse_json(read_text(file, encoding, options.memory_limit), str(file), options.memory_limit)
        instances = Instances()
        for index, shape in enumerate(member(content, "shapes", list, str(file))):
            where = f"{file}: shapes[{index}]"
            label = member(shape, "label", str, where, "")
            flags = member(shape, "flags", dict, where, {})
            words = {label.casefold()} | {flag.casefold() for flag, value in flags.items() if value is True}
            if wanted is not None and label.casefold() not in wanted | ignored:
                continue
            text = transcription(shape, label, where)
            instances.add(_labelme_outline(shape, where), text, bool(words & ignored))
        name = member(content, "imagePath", str, str(file))
        data = member(content, "imageData", str, str(file), None)
        pictures = shared or ImageIndex([file.parent], missing, None, folders, encoding)
        image = _labelme_picture(pictures, name, data, str(file))
        if image is None:
            return None
        size = json_size(content, str(file), "imageHeight", "imageWidth")
        # An image inside of the file was turned upright before it was stored.
        frame = ("upright", None, None) if isinstance(image, bytes) else (orientation, None, size)
        image_name = name if isinstance(image, bytes) else None
        return instances.record(image, *frame, str(file), image_name, options.normalized)

    def warn_of_labels() -> None:
        if taken:
            examples = ", ".join(map(repr, list(taken)[:5]))
            warn(
                f"{path}: labels of {taken.total()} shapes were read as transcriptions ({examples}); if they name classes, pass "
                "labels='class' (--labels class), or categories=[...] (--categories NAME,NAME) to leave out what is no text; "
                "labels='transcription' says that they are right"
            )

    return then(build_records(files, build, on_error, options), warn_of_labels)


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
    """The image's file, or its content from the annotation when there is no file."""
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
        raise AnnotationError(f"{where}.imageData: no base64 text ({error}); put the image beside the file") from error
