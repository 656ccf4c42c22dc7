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
"""Label Studio's exports: JSON, and JSON-MIN, which leaves out what belongs to which region."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions
from .files import (
    ORIENTATION_CHOICES,
    check_choice,
    checked,
    checked_number,
    image_in_address,
    json_number,
    json_outline,
    json_size,
    member,
    shortened,
)
from .json_sets import NUMBERS, find_source, load_json
from .paired import Instances, OnError
from .records import AnnotationError, TextRecord, build_records, then, warn
from .tool_labels import IGNORE_LABELS, TEXT_ATTRIBUTES, ToolLabels


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
    text_key: str | None = None,
    split: str | None = None,
    missing: str = "error",
    orientation: str = "auto",
    encoding: str | None = None,
    on_error: OnError | None = None,
    options: ReadOptions = DEFAULT_OPTIONS,
) -> Iterator[TextRecord]:
    """
    Reads Label Studio's exports JSON and JSON-MIN (https://labelstud.io/guide/export), which have coordinates in percent.

    Regions are polygons, and rectangles, which are rotated about their first corner. The transcription is the text area of
    a region. Tasks without annotation are left out, with an [`AnnotationWarning`]; of several annotations the ground
    truth counts, or else the first one that was not skipped. Images are found by their names, without the address and
    the prefix that an upload gives them.

    JSON-MIN leaves out which text belongs to which region. Lists of as many entries as there are regions are taken in the
    regions' order; of others the texts are lost, with a warning. It has one entry for each annotation, of which the first
    one of a task, the latest, counts.

    Args:
        source (`str` or `Path`): The file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        categories (`Sequence[str]`, *optional*): Labels that are text; regions with others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Labels and choices of text to be ignored.
        results (`str`, *optional*, defaults to `"annotations"`): `"predictions"` reads those of a model instead.
        image_key (`str`, *optional*): The field of a task's `data` that names the image, when there are several.
        text_key (`str`, *optional*):
            The field of JSON-MIN that has the transcriptions: the name of the text area. By default `text`,
            `transcription` and the like.
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
    flat = _FlatTasks(image_key, text_key)

    def build(item: tuple[int, Any]) -> TextRecord | None:
        where = f"{path}: [{item[0]}]"
        if not _is_flat(item[1]):
            regions = _chosen_result(item[1], results, where)
        elif flat.is_older(item[1], where):
            return None
        else:
            regions = flat.result(item[1], results, where)
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
        flat.warn(path)
        labels.warn(path)

    # Outlines smaller than a pixel are no fractions that were taken for pixels.
    options = replace(options, normalized=True)
    return then(build_records(enumerate(tasks), build, on_error, options), finish)


def _chosen_result(task: Any, results: str, where: str) -> list[tuple[str, Mapping[str, Any]]] | None:
    """The entries of the result that counts, with their places; `None` if the task has none."""
    if "data" not in checked(task, dict, where):
        raise AnnotationError(
            f"{where}: neither `data`, as in the export JSON, nor `annotation_id`, as in JSON-MIN; export the project as one "
            "of them"
        )
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
    data, place = (task, where) if _is_flat(task) else (member(task, "data", dict, where), f"{where}.data")
    address = member(data, _image_field(data, image_key, place), str, place)
    uploaded = member(task, "file_upload", str, where, None)
    name = image_in_address(address) or address
    base = name.replace("\\", "/").rsplit("/", 1)[-1]
    names = [name, base, _UPLOAD_PREFIX.sub("", base, count=1) if _UPLOAD_PREFIX.match(base) else base]
    names += [uploaded, _UPLOAD_PREFIX.sub("", uploaded, count=1)] if uploaded else []
    return [name for name in dict.fromkeys(names) if name]


def _image_field(data: Mapping[str, Any], image_key: str | None, where: str) -> str:
    """The field that names the image."""
    if image_key is not None:
        return image_key
    named = [key for key, value in data.items() if isinstance(value, str) and image_in_address(value)]
    if len(named) > 1 and "image" in named:
        return "image"
    if len(named) != 1:
        raise AnnotationError(
            f"{where}: {len(named) or 'no'} fields name an image among {shortened(list(data))}; name the one that is "
            "meant (`image_key=`, --option image_key=NAME)"
        )
    return named[0]


# JSON-MIN -----------------------------------------------------------------------------------------------------------

# What stands beside the fields of a task's data and those of its annotation.
_FLAT_FIELDS = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
_FLAT_GEOMETRY = ("x", "y", "width", "height", "rotation", "radiusX", "radiusY", "points", "vertices")
# The kinds of regions by a field that no other one has.
_FLAT_KINDS = {"points": "polygon", "radiusX": "ellipse", "rle": "brush", "vertices": "vector", "sequence": "video"}


def _is_flat(task: Any) -> bool:
    """Whether a task is one of JSON-MIN: the fields of its data and those of one annotation in one object."""
    return isinstance(task, dict) and "annotation_id" in task and not isinstance(task.get("data"), dict)


@dataclass
class _FlatTasks:
    """Finds out what belongs to which region of JSON-MIN, and remembers where it could not be found out."""

    image_key: str | None
    text_key: str | None
    seen: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)

    def is_older(self, task: Mapping[str, Any], where: str) -> bool:
        """Whether there was an annotation of the same task already; the latest comes first."""
        identifier = member(task, "id", (str, int), where, None)
        known = identifier is not None and str(identifier) in self.seen
        self.seen.add(str(identifier))
        return known

    def result(self, task: Mapping[str, Any], results: str, where: str) -> list[tuple[str, Mapping[str, Any]]] | None:
        """The entries that the annotation has in the export JSON; `None` if there is no annotation."""
        if results != RESULT_CHOICES[0]:
            raise AnnotationError(f"{where}: JSON-MIN has no {results}; export the project as JSON")
        entries: list[tuple[str, Mapping[str, Any]]] = []
        numbers: dict[Any, int] = {}
        orders: list[list[int]] = []
        plain: list[tuple[str, list[Any]]] = []
        image = _image_field(task, self.image_key, where)
        for name, content in task.items():
            if name in (*_FLAT_FIELDS, image):
                continue
            values = content if isinstance(content, list) else [content]
            order = _flat_regions(values, f"{where}.{shortened(name)}", numbers, entries)
            orders.append(order)
            if any(isinstance(value, str) for value in values):
                plain.append((name, values))
        if not numbers and task["annotation_id"] is None:
            return None
        # A control that has all regions has them in the order in which those of the others come.
        complete = next((order for order in orders if len(order) == len(numbers)), [])
        for name, values in plain:
            is_text = name == self.text_key if self.text_key else name.casefold() in TEXT_ATTRIBUTES
            if numbers and len(values) == len(complete):
                kind, key = ("textarea", "text") if is_text else ("choices", "choices")
                entries += [
                    (f"{where}.{shortened(name)}[{index}]", {"id": number, "type": kind, "value": {key: [value]}})
                    for index, (number, value) in enumerate(zip(complete, values))
                    if isinstance(value, str)
                ]
            elif numbers and is_text:
                self.lost.append(where)
        return entries

    def warn(self, path: Any) -> None:
        """Warns at the end of the annotations whose texts could not be told apart."""
        if self.lost:
            warn(
                f"{path}: in {len(self.lost)} annotations there are not as many texts as regions, so that JSON-MIN does not "
                f"tell which text belongs where (first: {self.lost[0]}); export the project as JSON"
            )


def _flat_regions(
    values: Sequence[Any], where: str, numbers: dict[Any, int], entries: list[tuple[str, Mapping[str, Any]]]
) -> list[int]:
    """
    Adds the regions of one control to the entries.

    What the controls say of one region repeats its coordinates, which are its name here; of two regions at one place the
    first comes first in every control.

    Returns:
        `list[int]`: the numbers of the regions, in their order.
    """
    times: Counter[Any] = Counter()
    order = []
    for index, value in enumerate(values):
        kind = _flat_kind(value)
        if kind is None:
            continue
        outline = tuple(_flat_numbers(value.get(name)) for name in _FLAT_GEOMETRY)
        times[outline] += 1
        number = numbers.setdefault((outline, times[outline]), len(numbers))
        order.append(number)
        size = {name: value.get(name) for name in ("original_width", "original_height")}
        kind = "textarea" if "text" in value else kind
        entries.append((f"{where}[{index}]", {"id": number, "type": kind, "value": value, **size}))
    return order


def _flat_kind(value: Any) -> str | None:
    """The kind of a region by its fields; `None` if it is none."""
    if not isinstance(value, dict):
        return None
    kind = next((kind for name, kind in _FLAT_KINDS.items() if name in value), None)
    if kind is None and "x" in value:
        return "rectangle" if "height" in value else "keypoint"
    return kind


def _flat_numbers(value: Any) -> tuple[float, ...]:
    """The numbers of a coordinate, or of a list of points."""
    points = value if isinstance(value, list) else [value]
    flat = [number for point in points for number in (point if isinstance(point, list) else [point])]
    return tuple(number for number in flat if isinstance(number, NUMBERS))
