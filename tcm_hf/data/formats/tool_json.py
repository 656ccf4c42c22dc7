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
"""JSON of labeling tools and trainers: Supervisely, docTR."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, SourceFolders
from .files import (
    ORIENTATION_CHOICES,
    ImageIndex,
    as_folders,
    check_choice,
    checked,
    checked_size,
    find_files,
    folder,
    json_number,
    json_outline,
    json_size,
    member,
    shortened,
)
from .json_sets import NUMBERS, box_outline, find_source, load_json
from .lines import rotated_rectangle
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, then
from .tool_labels import IGNORE_LABELS, ToolLabels, text_of


# Supervisely --------------------------------------------------------------------------------------------------------

_SUPERVISELY_OTHER = ("meta.json", "key_id_map.json", "obj_class_to_machine_color.json")


def read_supervisely(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads a project of Supervisely (https://developer.supervisely.com): `ann/1.jpg.json` with `img/1.jpg`.

    Objects are polygons (their holes are left out), rectangles and oriented boxes, whose angle is in radians, clockwise.
    The transcription is the value of an object's tag `text` or `transcription`, or else its description; tags such as
    `ignore`, `difficult` or `illegible` mark text to be ignored.

    Args:
        source (`str` or `Path`): Folder of a project or of a data set in it, or one JSON file.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not below `source`.
        categories (`Sequence[str]`, *optional*): Classes that are text; objects of others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Classes, and names of tags, of text to be ignored.
        split (`str`, *optional*): See [`read_dataset`], as for the following.
        missing (`str`, *optional*, defaults to `"error"`): What becomes of a file whose image is not there.
        orientation (`str`, *optional*, defaults to `"auto"`): The `size` decides.
        encoding (`str`, *optional*): Encoding of the files.
        on_error (`Callable`, *optional*): Called with the error of a file, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: lazily.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    path = Path(source)
    # A file in `ann` has its image in `img` beside that folder.
    root = (
        (path.parent.parent if path.parent.name == "ann" else path.parent)
        if path.is_file()
        else folder(path, "Source")
    )
    image_roots = as_folders(images, root)
    folders = SourceFolders(root, *image_roots, allow_outside=options.allow_outside)
    found = [path] if path.is_file() else find_files([root], (".json",), split, folders)
    files = [file for file in found if file.parent.name == "ann"] or found
    files = [file for file in files if file.name not in _SUPERVISELY_OTHER]
    if not files:
        raise AnnotationError(f"{root}: no annotation of Supervisely's (ann/*.json) in this folder; check the path")
    pictures = ImageIndex(image_roots, missing, split, folders, encoding)
    labels = ToolLabels(categories, ignore_labels)

    def build(file: Path) -> TextRecord | None:
        content = load_json(file, encoding, options.memory_limit)
        instances = Instances()
        for index, entry in enumerate(member(content, "objects", list, str(file))):
            where = f"{file}: objects[{index}]"
            label = member(entry, "classTitle", str, where, None)
            if not labels.keeps(label):
                continue
            tags = _supervisely_tags(entry, where)
            text = text_of(tags) or member(entry, "description", str, where, None) or None
            instances.add(_supervisely_outline(entry, where), text, labels.ignores(label, attributes=tags))
        size = json_size(member(content, "size", dict, str(file), {}), f"{file}: size")
        image = pictures.find_any([file.stem], str(file), [file.parent.parent / "img", file.parent])
        if image is None:
            return None
        return instances.record(image, orientation, None, size, str(file), normalized=options.normalized)

    return then(build_records(files, build, on_error, options), lambda: labels.warn(root))


def _supervisely_tags(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    tags: dict[str, Any] = {}
    for index, tag in enumerate(member(entry, "tags", list, where, [])):
        if isinstance(tag, str):  # older projects have names only
            tags[tag] = None
        else:
            place = f"{where}.tags[{index}]"
            tags[member(tag, "name", str, place)] = member(tag, "value", (str, int, float), place, None)
    return tags


def _supervisely_outline(entry: Mapping[str, Any], where: str) -> np.ndarray:
    kind = member(entry, "geometryType", str, where, "polygon")
    if kind not in ("polygon", "rectangle", "oriented_bbox"):
        raise AnnotationError(
            f"{where}: a {kind[:40]} is no text region; draw a polygon or a rectangle, remove it, or name the classes that are "
            "text (`categories=`, --categories)"
        )
    points = member(entry, "points", (dict, list), where)
    place = f"{where}.points"
    if isinstance(points, dict):
        points, place = member(points, "exterior", list, place), f"{place}.exterior"
    if kind == "polygon":
        return json_outline(points, place)
    if len(points) != 2 or not all(isinstance(point, list) and len(point) == 2 for point in points):
        raise AnnotationError(f"{place}: expected two corners [[x, y], [x, y]], got {shortened(points)}; correct it")
    (x0, y0), (x1, y1) = ([json_number(value, place) for value in point] for point in points)
    left, top, right, bottom = min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
    if kind == "rectangle":
        return box_outline([left, top, right, bottom], place, corners=True)
    angle = json_number(member(entry, "angle", NUMBERS, where, 0), f"{where}.angle")
    return rotated_rectangle(left, top, right - left, bottom - top, angle)


# docTR --------------------------------------------------------------------------------------------------------------


def read_doctr(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads the detection labels of docTR (https://mindee.github.io/doctr): `labels.json` with the folder `images`.

    `{"1.jpg": {"img_dimensions": [900, 600], "img_hash": "...", "polygons": [[[x, y], ...], ...]}, ...}`, where `polygons`
    may also be lists by classes. Transcriptions are none. `img_dimensions` is read as (height, width) or (width, height),
    whichever fits the image.

    Args:
        source (`str` or `Path`): The file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        categories (`Sequence[str]`, *optional*): Classes that are text; polygons of others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Classes of text to be ignored.
        split (`str`, *optional*): Chooses among several files in a folder.
        missing (`str`, *optional*, defaults to `"error"`): See [`read_dataset`], as for the following.
        orientation (`str`, *optional*, defaults to `"auto"`): `img_dimensions` decides.
        encoding (`str`, *optional*): Encoding of the file.
        on_error (`Callable`, *optional*): Called with the error of an image's annotation, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: in the file's order.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    path, pictures = find_source(
        source, images, ("labels*.json", "*.json"), "docTR file", split, missing, encoding, options
    )
    content = checked(load_json(path, encoding, options.memory_limit), dict, str(path))
    labels = ToolLabels(categories, ignore_labels)

    def build(item: tuple[str, Any]) -> TextRecord | None:
        name, entry = item
        where = f"{path}: {shortened(name)}"
        polygons = member(entry, "polygons", (list, dict), where)
        instances = Instances()
        for label, group in polygons.items() if isinstance(polygons, dict) else ((None, polygons),):
            place = f"{where}.polygons" if label is None else f"{where}.polygons[{shortened(label)}]"
            for index, points in enumerate(checked(group, list, place)):
                if labels.keeps(label):
                    instances.add(json_outline(points, f"{place}[{index}]"), None, labels.ignores(label))
        sizes = _doctr_sizes(entry, where)
        image = pictures.find(name, where)
        if image is None:
            return None
        try:
            return instances.record(image, orientation, None, sizes[0], where, normalized=options.normalized)
        except AnnotationError as error:
            if sizes[0] == sizes[-1]:
                raise
            try:
                return instances.record(image, orientation, None, sizes[-1], where, normalized=options.normalized)
            except AnnotationError:
                raise error from None  # of the order in which sizes are usually given

    return then(build_records(content.items(), build, on_error, options), lambda: labels.warn(path))


def _doctr_sizes(entry: Mapping[str, Any], where: str) -> list[tuple[int, int] | None]:
    """(height, width), in the orders that `img_dimensions` may mean."""
    dimensions = member(entry, "img_dimensions", list, where, None)
    if dimensions is None:
        return [None]
    where = f"{where}.img_dimensions"
    if len(dimensions) < 2:
        raise AnnotationError(f"{where}: expected [height, width], got {shortened(dimensions)}; correct it")
    height, width = checked_size(json_number(dimensions[0], where), json_number(dimensions[1], where), where)
    return [(height, width), (width, height)]
