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
"""JSON of labeling tools and trainers: Label Studio, Supervisely, docTR."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, SourceFolders
from .files import (
    ORIENTATION_CHOICES,
    ImageIndex,
    as_folders,
    check_choice,
    checked,
    checked_number,
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
from .records import IMAGE_SUFFIXES, AnnotationError, TextRecord, build_records, then, warn
from .tool_labels import IGNORE_LABELS, ToolLabels, text_of


# Label Studio -------------------------------------------------------------------------------------------------------

RESULT_CHOICES = ("annotations", "predictions")
# Before the name of an uploaded image.
_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-", re.IGNORECASE)
_REGIONS = ("rectangle", "rectanglelabels", "polygon", "polygonlabels")
# Regions that are no outline; without a label or a text of their own they are still drawn.
_OTHER_REGIONS = ("brush", "ellipse", "keypoint", "video", "bitmask", "vector", "magicwand")


def read_label_studio(
    source: PathLike,
    images: PathLike | Sequence[PathLike] | None = None,
    *,
    categories: Sequence[str] | None = None,
    ignore_labels: Sequence[str] = IGNORE_LABELS,
    results: str = "annotations",
    image_key: str | None = None,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads Label Studio's JSON export (https://labelstud.io/guide/task_format), which has coordinates in percent.

    Regions are polygons, and rectangles, which are rotated about their first corner. The transcription is the text area of
    a region. Tasks without annotation are left out, with an [`AnnotationWarning`]; of several annotations the ground
    truth counts, or else the first one that was not skipped. Images are found by their names, without the address and
    the prefix that an upload gives them.

    Args:
        source (`str` or `Path`): The file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        categories (`Sequence[str]`, *optional*): Labels that are text; regions with others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Labels and choices of text to be ignored.
        results (`str`, *optional*, defaults to `"annotations"`): `"predictions"` reads those of a model instead.
        image_key (`str`, *optional*): The field of a task's `data` that names the image, when there are several.
        split (`str`, *optional*): Chooses among several files in a folder.
        missing (`str`, *optional*, defaults to `"error"`): See [`read_dataset`], as for the following.
        orientation (`str`, *optional*, defaults to `"auto"`): `original_width` and `original_height` decide.
        encoding (`str`, *optional*): Encoding of the file.
        on_error (`Callable`, *optional*): Called with the error of a task, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: in the file's order.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    check_choice("results", results, RESULT_CHOICES)
    patterns = ("project-*.json", "*label*studio*.json", "*.json")
    path, pictures = find_source(source, images, patterns, "Label Studio file", split, missing, encoding, options)
    tasks = checked(load_json(path, encoding, options.memory_limit), list, str(path))
    labels = ToolLabels(categories, ignore_labels)
    empty: list[str] = []

    def build(item: tuple[int, Any]) -> TextRecord | None:
        where = f"{path}: [{item[0]}]"
        regions = _chosen_result(item[1], results, where)
        if regions is None:
            empty.append(where)
            return None
        instances, size = _label_studio_instances(regions, labels)
        image = pictures.find_any(label_studio_names(item[1], image_key, where), where)
        if image is None:
            return None
        return instances.record(image, orientation, None, size, where)

    def finish() -> None:
        if empty:
            other = RESULT_CHOICES[results == RESULT_CHOICES[0]]
            warn(
                f"{path}: {len(empty)} of {len(tasks)} tasks have no {results} and were left out (first: {empty[0]}); "
                f"results={other!r} (--option results={other}) reads their {other}"
            )
        labels.warn(path)

    # Outlines smaller than a pixel are no fractions that were taken for pixels.
    options = replace(options, normalized=True)
    return then(build_records(enumerate(tasks), build, on_error, options), finish)


def _chosen_result(task: Any, results: str, where: str) -> list[tuple[str, Mapping[str, Any]]] | None:
    """The entries of the result that counts, with their places; `None` if the task has none."""
    if "data" not in checked(task, dict, where):
        raise AnnotationError(f"{where}: the field 'data' is missing; export the project as JSON, not as JSON-MIN")
    entries = []
    for index, entry in enumerate(member(task, results, list, where, [])):
        place = f"{where}.{results}[{index}]"
        if not member(entry, "was_cancelled", bool, place, False):
            # A stable sort: the ground truth first, then by their order.
            entries.append((not member(entry, "ground_truth", bool, place, False), index, place, entry))
    if not entries:
        return None
    _, _, place, entry = min(entries, key=lambda each: each[:2])
    result = member(entry, "result", list, place)
    return [
        (f"{place}.result[{index}]", checked(each, dict, f"{place}.result[{index}]"))
        for index, each in enumerate(result)
    ]


def _label_studio_instances(
    regions: Sequence[tuple[str, Mapping[str, Any]]], labels: ToolLabels
) -> tuple[Instances, tuple[int, int] | None]:
    """Entries of one `id` are one region: its outline, its labels, its text."""
    groups: dict[Any, list[tuple[str, Mapping[str, Any]]]] = {}
    for number, (where, entry) in enumerate(regions):
        identifier = member(entry, "id", (str, int), where, None)
        groups.setdefault(number if identifier is None else str(identifier), []).append((where, entry))
    instances = Instances()
    size: tuple[int, int] | None = None
    for group in groups.values():
        names: list[str] = []
        choices: list[str] = []
        texts: list[str] = []
        outline = None
        for where, entry in group:
            kind = member(entry, "type", str, where)
            value = member(entry, "value", dict, where, {})
            for key in value:
                if key.endswith("labels") or key == "choices":
                    said = choices if key == "choices" else names
                    said += [
                        checked(name, str, f"{where}.value.{key}") for name in member(value, key, list, where, [])
                    ]
            if kind == "textarea":
                texts += _strings(member(value, "text", (str, list), where, []), f"{where}.value.text")
            texts += _strings(
                member(member(entry, "meta", dict, where, {}), "text", (str, list), where, []), f"{where}.meta"
            )
            if kind in _REGIONS:
                own = json_size(dict(entry), where, "original_height", "original_width")
                if own is None or (size is not None and own != size):
                    raise AnnotationError(
                        f"{where}: `original_width` and `original_height` must be the image's size, and the same in all "
                        "regions; export the project anew"
                    )
                size, outline = own, _percent_outline(entry, value, own, where)
            elif kind.startswith(_OTHER_REGIONS):
                outline = kind
        if outline is None or not labels.keeps(*dict.fromkeys(names)):
            continue  # text or choices of the whole image, or no text
        if isinstance(outline, str):
            raise AnnotationError(
                f"{group[0][0]}: {outline[:40]} are no text region; draw a polygon or a rectangle, remove it, or name the labels "
                "that are text (`categories=`, --categories)"
            )
        instances.add(outline, "\n".join(texts) or None, labels.ignores(*names, *choices))
    return instances, size


def _strings(value: Any, where: str) -> list[str]:
    return [value] if isinstance(value, str) else [checked(text, str, where) for text in value]


def _percent_outline(
    entry: Mapping[str, Any], value: Mapping[str, Any], size: tuple[int, int], where: str
) -> np.ndarray:
    """An outline in pixels from percents of the image's size."""
    height, width = size
    if member(entry, "image_rotation", NUMBERS, where, 0) % 360:
        raise AnnotationError(
            f"{where}: the image was turned in the tool; turn it back there, and export the project anew"
        )
    scale = np.array([width, height], dtype=np.float64) / 100
    if "points" in value:
        return json_outline(value["points"], f"{where}.value.points").astype(np.float64) * scale
    numbers = [member(value, key, NUMBERS, f"{where}.value") for key in ("x", "y", "width", "height")]
    x, y, w, h = (json_number(number, f"{where}.value") for number in numbers)
    if w < 0 or h < 0:
        raise AnnotationError(f"{where}.value: a negative width or height; draw the rectangle anew")
    degrees = checked_number(member(value, "rotation", NUMBERS, f"{where}.value", 0), where)
    # The rectangle is turned on the screen, in pixels, about its first corner.
    along = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    across = np.array([-along[1], along[0]])
    corner, right, down = np.array([x, y]) * scale, along * w * scale[0], across * h * scale[1]
    return np.stack([corner, corner + right, corner + right + down, corner + down])


def label_studio_names(task: Mapping[str, Any], image_key: str | None, where: str) -> list[str]:
    """The names that a task's image may have, the likeliest first."""
    data = member(task, "data", dict, where)
    if image_key is not None:
        address = member(data, image_key, str, f"{where}.data")
    else:
        named = {key: value for key, value in data.items() if isinstance(value, str) and _image_name(value)}
        if len(named) > 1 and "image" in named:
            named = {"image": named["image"]}
        if len(named) != 1:
            raise AnnotationError(
                f"{where}.data: {len(named) or 'no'} fields name an image among {shortened(list(data))}; name the one that is "
                "meant (`image_key=`, --option image_key=NAME)"
            )
        address = next(iter(named.values()))
    uploaded = member(task, "file_upload", str, where, None)
    name = _image_name(address) or address
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    names = [name, base, _UPLOAD_PREFIX.sub("", base, count=1) if _UPLOAD_PREFIX.match(base) else base]
    names += [uploaded, _UPLOAD_PREFIX.sub("", uploaded, count=1)] if uploaded else []
    return [name for name in dict.fromkeys(names) if name]


def _image_name(address: str) -> str | None:
    """The name of an image in an address; `None` if it names none."""
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
