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
"""CVAT's XML: images, and the tracks of videos."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from .access import DEFAULT_OPTIONS, PathLike, ReadOptions, short_text
from .files import (
    INTEGER,
    ORIENTATION_CHOICES,
    ImageIndex,
    check_choice,
    checked_size,
    find_files,
    parse_numbers,
    split_name,
)
from .json_sets import box_outline, find_source
from .lines import rotated_rectangle
from .paired import Instances, OnError
from .records import IMAGE_SUFFIXES, AnnotationError, TextRecord, build_records, then
from .tool_labels import IGNORE_LABELS, ToolLabels, text_of
from .xml_files import parse_xml, point_list


_CVAT_SHAPES = ("box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")
_FRAME_NAME = re.compile(r"frame_([0-9]{6,15})", re.IGNORECASE)


def read_cvat(
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
    Reads CVAT for images and for video 1.1 (https://docs.cvat.ai/docs/other/xml_format): one XML file, `annotations.xml`.

    Shapes are boxes, also rotated ones, and polygons. The transcription is the attribute `text` or `transcription`;
    attributes such as `ignore`, `difficult` or `illegible` that are set mark text to be ignored.

    Tracks of a video become one record for each frame, whose image has CVAT's name for it, such as `frame_000012.png`:
    the shapes that tracks have there, keyframes and what CVAT interpolated between them, without those outside of the
    frame. An image of a frame that no track is in has no text.

    Args:
        source (`str` or `Path`): The file, or its folder.
        images (`str`, `Path` or list of them, *optional*): Folders of images, when they are not beside the file.
        categories (`Sequence[str]`, *optional*): Labels that are text; shapes with others are left out.
        ignore_labels (`Sequence[str]`, *optional*): Labels, and names of attributes, of text to be ignored.
        split (`str`, *optional*): Compared with the images' `subset`; also chooses among several files in a folder.
        missing (`str`, *optional*, defaults to `"error"`): See [`read_dataset`], as for the following.
        orientation (`str`, *optional*, defaults to `"auto"`): The images' `width` and `height` decide.
        encoding (`str`, *optional*): Encoding of the file.
        on_error (`Callable`, *optional*): Called with the error of an image's annotation, which is left out.
        options (`ReadOptions`, *optional*): What all readers have in common.

    Returns:
        `Iterator[TextRecord]`: in the file's order.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    patterns = ("annotations*.xml", "*.xml")
    path, pictures = find_source(source, images, patterns, "CVAT file", split, missing, encoding, options)
    root = parse_xml(path, encoding, options.memory_limit)
    if root.tag != "annotations":
        raise AnnotationError(
            f"{path}: <{root.tag[:40]}> instead of <annotations>; check that this is a file of CVAT's"
        )
    labels = ToolLabels(categories, ignore_labels)

    def build(item: Element | _Frame) -> TextRecord | None:
        frame = item if isinstance(item, _Frame) else _image_frame(item, split, path)
        if frame is None:
            return None
        instances = Instances()
        for place, shape, label in frame.shapes:
            if shape.tag not in _CVAT_SHAPES or not labels.keeps(label):
                continue
            attributes = {each.get("name", ""): each.text or "" for each in shape.iter("attribute")}
            ignore = labels.ignores(label, attributes=attributes)
            instances.add(_cvat_outline(shape, place), text_of(attributes), ignore)
        image = pictures.find_any(frame.names, frame.where)
        if image is None:
            return None
        return instances.record(image, orientation, None, frame.size, frame.where, normalized=options.normalized)

    items: Sequence[Element | _Frame] = root.findall("image")
    modes = {(mode.text or "").strip() for mode in root.iterfind("meta//mode")}
    if root.find("track") is not None or (not items and "interpolation" in modes):
        items = _video_frames(root, split, path, pictures)
    return then(build_records(items, build, on_error, options), lambda: labels.warn(path))


@dataclass
class _Frame:
    """An image or a frame: the names its file may have, its place, its size, and its shapes with places and labels."""

    names: list[str]
    where: str
    size: tuple[int, int] | None
    shapes: list[tuple[str, Element, str | None]] = field(default_factory=list)


def _image_frame(element: Element, split: str | None, path: Path) -> _Frame | None:
    name = element.get("name")
    if not name:
        raise AnnotationError(f"{path}: an <image> without `name`; get a complete copy of the file")
    where = f"{path}: image {short_text(name)}"
    if not _of_split(element, split):
        return None
    sizes = [element.get(key, "") for key in ("height", "width")]
    frame = _Frame([name], where, _size(sizes, where) if all(sizes) else None)
    for number, shape in enumerate(element, start=1):
        frame.shapes.append((f"{where}, <{shape.tag[:40]}> {number}", shape, shape.get("label")))
    return frame


def _of_split(element: Element, split: str | None) -> bool:
    subset = element.get("subset")
    return split is None or not subset or split_name(subset) == split_name(split)


def _video_frames(root: Element, split: str | None, path: Path, pictures: ImageIndex) -> list[_Frame]:
    """The frames of tracks, in order: those with shapes, and those of which there is an image."""
    sizes = _video_sizes(root, path)
    tasks: dict[str, str] = {}  # by subset
    frames: dict[tuple[str, int], _Frame] = {}
    for track in root.findall("track"):
        task, subset = track.get("task_id", ""), track.get("subset", "")
        if tasks.setdefault(subset, task) != task:
            raise AnnotationError(
                f"{path}: several tasks of the subset {short_text(subset)} have frames of one number, and cannot be told "
                "apart; export each task by itself"
            )
        for number, shape in enumerate(track if _of_split(track, split) else (), start=1):
            place = f"{path}: track {short_text(track.get('id', ''))}, <{shape.tag[:40]}> {number}"
            text = (shape.get("frame") or "").strip()
            if shape.tag not in _CVAT_SHAPES or shape.get("outside") == "1":
                continue
            if not INTEGER.fullmatch(text) or int(text) < 0:
                raise AnnotationError(
                    f"{place}: {short_text(text)} is no number of a `frame`; get a complete copy of the file"
                )
            key = subset, int(text)
            frame = frames.setdefault(key, _Frame([], f"{path}: frame {int(text)}", sizes.get(task)))
            frame.shapes.append((place, shape, track.get("label")))
    images = _frame_images(pictures, tasks or {"": ""})
    for key in images:
        if split is None or not key[0] or split_name(key[0]) == split_name(split):
            frames.setdefault(key, _Frame([], f"{path}: frame {key[1]}", sizes.get(tasks.get(key[0], ""))))
    for (subset, number), frame in frames.items():
        name = f"frame_{number:06d}"
        found = images.get((subset, number), [])
        # Of several images of one name none is chosen.
        frame.names = found if len(found) == 1 else [f"{name}.png", name]
    return [frames[key] for key in sorted(frames)]


def _video_sizes(root: Element, path: Path) -> dict[str, tuple[int, int]]:
    """The sizes of the videos, by their tasks; the one of a file with one task has an empty name, too."""
    sizes = {}
    for kind in ("task", "job"):
        for element in root.iterfind(f"meta//{kind}"):
            if (element.findtext("mode") or "").strip() == "annotation":
                raise AnnotationError(
                    f"{path}: tracks of a {kind} of images, without the names of their files; export it as 'CVAT for images "
                    "1.1'"
                )
            fields = [(element.findtext(f"original_size/{side}") or "").strip() for side in ("height", "width")]
            if all(fields):
                size = _size(fields, f"{path}: original_size")
                sizes[(element.findtext("id") or "").strip()] = size
                sizes.setdefault("", size)
    return sizes


def _frame_images(pictures: ImageIndex, tasks: Mapping[str, str]) -> dict[tuple[str, int], list[str]]:
    """The images with CVAT's names of frames, by subset and number; those of a project are in a folder of each subset."""
    found: dict[tuple[str, int], list[str]] = {}
    for root in pictures.roots:
        for file in find_files([root], IMAGE_SUFFIXES, pictures.split, pictures.folders):
            match = _FRAME_NAME.fullmatch(file.stem)
            subset = "" if "" in tasks else file.parent.name
            if match and subset in tasks:
                found.setdefault((subset, int(match[1])), []).append(str(file.relative_to(root)))
    return found


def _size(fields: Sequence[str], where: str) -> tuple[int, int]:
    height, width = parse_numbers(fields, where)
    return checked_size(height, width, where)


def _cvat_outline(shape: Element, where: str) -> np.ndarray:
    if shape.tag == "polygon":
        return point_list((shape.get("points") or "").replace(";", ","), where)
    if shape.tag != "box":
        raise AnnotationError(
            f"{where}: a {shape.tag} is no text region; draw a polygon or a rectangle, remove it, or name the labels that are "
            "text (`categories=`, --categories)"
        )
    names = ("xtl", "ytl", "xbr", "ybr", "rotation")
    left, top, right, bottom, degrees = parse_numbers(
        [shape.get(name, "0" if name == "rotation" else "") for name in names], where
    )
    box = box_outline([left, top, right, bottom], where, corners=True)
    return rotated_rectangle(left, top, right - left, bottom - top, math.radians(degrees)) if degrees else box
