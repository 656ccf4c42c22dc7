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
"""VGG Image Annotator: projects of version 1, 2 and 3, and annotations of the former two as JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions
from .files import ORIENTATION_CHOICES, check_choice, checked, json_number, member, outline, parse_json, shortened
from .json_sets import box_outline, find_source, load_json
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, then
from .tables import group_rows, read_table
from .tool_labels import IGNORE_LABELS, ToolLabels, text_of
from .via3 import is_via3, via3_items


# Attributes that hold a region's class; users name them as they like.
_CLASS_ATTRIBUTES = ("label", "class", "type", "category", "name")
_CSV_COLUMNS = ("filename", "region_shape_attributes", "region_attributes")

# The names that an image may have, its place, and the place, shape and attributes of every region.
_Image = tuple[list[str], str, list[tuple[str, Any, Any]]]


def read_via(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    split: str | None = None,
    missing: str = "error",
    record_size: tuple[int, int] | None = None,
    orientation: str = "upright",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads VGG Image Annotator (https://www.robots.ox.ac.uk/~vgg/software/via): projects of version 1, 2 and 3, and the JSON and
    CSV that version 1 and 2 export.

    Regions are polygons and rectangles, of version 3 those of images, not of videos. The transcription is the region's attribute `text` or `transcription`; attributes
    such as `ignore`, `difficult` or `illegible` that are set mark text to be ignored.

    Args:
        source (`str` or `Path`): The file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        categories (`Sequence[str]`, *optional*):
            Classes that are text, by the attribute `label`, `class`, `type`, `category` or `name`; others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Classes, and names of attributes, of text to be ignored.
        split (`str`, *optional*): Chooses among several files in a folder.
        missing (`str`, *optional*, defaults to `"error"`): See [`read_dataset`], as for the following.
        record_size (`tuple[int, int]`, *optional*): (height, width) of the annotated frame.
        orientation (`str`, *optional*, defaults to `"upright"`): What annotations of turned images refer to.
        encoding (`str`, *optional*): Encoding of the file.
        on_error (`Callable`, *optional*): Called with the error of an image's annotation, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: in the file's order.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("via*.json", "*via*.json", "*.json", "via*.csv", "*.csv")
    path, pictures = find_source(source, images, patterns, "VIA file", split, missing, encoding, options)
    read = _csv_images if path.suffix.lower() == ".csv" else _json_images
    labels = ToolLabels(categories, ignore_labels)

    def build(item: _Image | AnnotationError) -> TextRecord | None:
        if isinstance(item, AnnotationError):
            raise item
        names, where, regions = item
        instances = Instances()
        for place, shape, attributes in regions:
            texts = _attributes(attributes, place)
            label = next((texts[key] for key in _CLASS_ATTRIBUTES if isinstance(texts.get(key), str)), None)
            if not labels.keeps(label or None):
                continue
            ignore = labels.ignores(label or None, attributes=texts)
            instances.add(_outline(shape, place), text_of(texts), ignore)
        image = pictures.find_any(names, where)
        if image is None:
            return None
        return instances.record(image, orientation, record_size, where=where, normalized=options.normalized)

    items = read(path, encoding, options.memory_limit)
    return then(build_records(items, build, on_error, options), lambda: labels.warn(path))


def _json_images(path: Path, encoding: str | None, memory_limit: int) -> Iterator[_Image | AnnotationError]:
    content = checked(load_json(path, encoding, memory_limit), dict, str(path))
    if "_via_img_metadata" in content:
        content = member(content, "_via_img_metadata", dict, str(path))
    elif is_via3(content):
        return via3_items(path, content)
    return _json_items(path, content)


def _json_items(path: Path, content: Mapping[str, Any]) -> Iterator[_Image]:
    for key, entry in content.items():
        where = f"{path}: {shortened(key)}"
        regions = member(entry, "regions", (list, dict), where, [])
        numbered = regions.items() if isinstance(regions, dict) else enumerate(regions)
        found = []
        for number, region in numbered:
            place = f"{where}.regions[{shortened(number)}]"
            shape = member(region, "shape_attributes", dict, place)
            found.append((place, shape, member(region, "region_attributes", dict, place, {})))
        yield [member(entry, "filename", str, where)], where, found


def _csv_images(path: Path, encoding: str | None, memory_limit: int) -> Iterator[_Image]:
    rows = read_table(path, encoding, memory_limit)
    absent = [name for name in _CSV_COLUMNS if rows and name not in rows[0][1]]
    if absent:
        raise AnnotationError(
            f"{path}, line 1: there is no column {absent[0]!r}; export the annotations of VIA 1 or 2 as CSV, or save the "
            "project of VIA 3"
        )
    return _csv_items(path, rows, memory_limit)


def _csv_items(path: Path, rows: list, memory_limit: int) -> Iterator[_Image]:
    for name, lines in group_rows(rows, ("filename",), path).items():
        found = []
        for number, row in lines:
            where = f"{path}, line {number}"
            shape, attributes = (
                checked(parse_json(row[column] or "{}", f"{where}.{column}", memory_limit), dict, f"{where}.{column}")
                for column in _CSV_COLUMNS[1:]
            )
            if shape:  # an image without regions has a line, too
                found.append((where, shape, attributes))
        yield [name], f"{path}, line {lines[0][0]}", found


def _attributes(value: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Attributes by their names in lower case; the ticked boxes of a group count as attributes of their own."""
    attributes: dict[str, Any] = {}
    for key, content in checked(value, dict, where).items():
        if isinstance(content, dict):
            attributes.update({name.casefold(): checked(flag, (bool, str), where) for name, flag in content.items()})
        else:
            attributes[key.casefold()] = checked(content, (str, bool, int, float), f"{where}.{shortened(key)}")
    return attributes


def _outline(shape: Mapping[str, Any], where: str) -> np.ndarray:
    kind = member(shape, "name", str, where)
    if kind == "rect":
        return box_outline([shape.get(key) for key in ("x", "y", "width", "height")], where)
    if kind != "polygon":
        raise AnnotationError(f"{where}: a {kind[:40]} is no text region; draw a polygon or a rectangle, or remove it")
    xs, ys = (member(shape, key, list, where) for key in ("all_points_x", "all_points_y"))
    if len(xs) != len(ys) or len(xs) < 3:
        raise AnnotationError(f"{where}: {len(xs)} x and {len(ys)} y are no outline of at least 3 points; redraw it")
    return outline([json_number(value, where) for point in zip(xs, ys) for value in point])
