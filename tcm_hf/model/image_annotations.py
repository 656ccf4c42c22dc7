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
"""Annotations of images to the labels that a detector is trained on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


Annotation = tuple[list[np.ndarray], list[bool], tuple[int, int] | None]


def read_annotation(annotation: Any, where: str) -> Annotation:
    """
    One image's annotation, in one of the forms of [`TCMImageProcessor.preprocess`].

    Args:
        annotation (`dict`, `TextRecord` or `None`): the annotation; `None` is an image without text.
        where (`str`): its place, for messages.

    Returns:
        `tuple`: outlines, float64 of shape (n, 2) each; a flag for each whether it is ignored; and the height and width of
        the image that they refer to, `None` for its own.

    Raises:
        ValueError: if it is none of these forms, or a polygon, a box or a number is wrong.
    """
    if annotation is None:
        return [], [], None
    fields = (
        annotation if isinstance(annotation, Mapping) else vars(annotation) if hasattr(annotation, "polygons") else {}
    )
    if "annotations" in fields:
        return _read_coco(fields["annotations"], where)
    if "polygons" not in fields:
        raise ValueError(
            f"{where}: an annotation has to be {{'polygons': [...], 'ignore': [...]}} or COCO's {{'image_id': ..., "
            f"'annotations': [...]}}, got {_shortened(annotation)}"
        )
    polygons = _entries(fields["polygons"], f"{where}.polygons")
    outlines = [_outline(polygon, f"{where}.polygons[{index}]") for index, polygon in enumerate(polygons)]
    ignore = fields.get("ignore")
    flags = [False] * len(outlines) if ignore is None else [bool(flag) for flag in _entries(ignore, f"{where}.ignore")]
    if len(flags) != len(outlines):
        raise ValueError(f"{where}: `ignore` has {len(flags)} flags for {len(outlines)} polygons; give one for each")
    size = fields.get("size")
    if size is None:
        return outlines, flags, None
    height, width = _numbers(size, f"{where}.size", 2)
    if min(height, width) < 1:
        raise ValueError(f"{where}.size has to be at least 1 pixel high and wide, got {_shortened(size)}")
    return outlines, flags, (int(height), int(width))


def _read_coco(entries: Any, where: str) -> Annotation:
    outlines: list[np.ndarray] = []
    flags: list[bool] = []
    for index, entry in enumerate(_entries(entries, f"{where}.annotations")):
        place = f"{where}.annotations[{index}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{place} has to be an object, got {_shortened(entry)}")
        ignored = bool(entry.get("iscrowd")) or bool(entry.get("ignore"))
        for outline in _coco_outlines(entry, place, ignored):
            outlines.append(outline)
            flags.append(ignored)
    return outlines, flags, None


def _coco_outlines(entry: Mapping, where: str, ignored: bool) -> list[np.ndarray]:
    """The polygons of the `segmentation`, every part one text, or else the `bbox`."""
    segmentation = entry.get("segmentation")
    if isinstance(segmentation, Mapping) and not ignored:
        raise ValueError(
            f"{where}.segmentation: run-length masks are not read; convert it to polygons, or leave it out"
        )
    if not isinstance(segmentation, Mapping) and segmentation is not None and len(segmentation):
        if np.ndim(segmentation[0]) == 0:  # a single flat polygon, without the outer list
            return [_outline(segmentation, f"{where}.segmentation")]
        return [_outline(part, f"{where}.segmentation[{index}]") for index, part in enumerate(segmentation)]
    if entry.get("bbox") is None:
        raise ValueError(f"{where}: neither a `segmentation` nor a `bbox`; add one or remove the annotation")
    x, y, width, height = _numbers(entry["bbox"], f"{where}.bbox", 4)
    if width < 0 or height < 0:
        raise ValueError(f"{where}.bbox: {_shortened(entry['bbox'])} is no box [x, y, width, height]; correct it")
    return [np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height]])]


def _entries(value: Any, where: str) -> Sequence:
    if isinstance(value, str | bytes | Mapping) or not hasattr(value, "__len__"):
        raise ValueError(f"{where} has to be a list, got {_shortened(value)}")
    return value


def _numbers(value: Any, where: str, count: int | None = None) -> np.ndarray:
    try:
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{where} has to be numbers, got {_shortened(value)}") from None
    if not np.isfinite(numbers).all() or (count is not None and numbers.shape != (count,)):
        raise ValueError(f"{where} has to be {count or 'finite'} numbers, got {_shortened(value)}")
    return numbers


def _outline(value: Any, where: str) -> np.ndarray:
    """A polygon of shape (n, 2), also from a flat list x, y, x, y, ..."""
    points = _numbers(value, where)
    if points.ndim == 1 and points.size % 2 == 0:
        points = points.reshape(-1, 2)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3:
        raise ValueError(f"{where} has to be at least 3 points [x, y], got {_shortened(value)}")
    return points


def _shortened(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_annotations(annotations: Any, number: int) -> list[Annotation]:
    """
    The annotations of a batch.

    Args:
        annotations (`list`, or a single annotation): see [`read_annotation`].
        number (`int`): of images.

    Raises:
        ValueError: if there is not one annotation for each image, or one of them is wrong.
    """
    if isinstance(annotations, Mapping) or hasattr(annotations, "polygons"):
        annotations = [annotations]
    annotations = _entries(annotations, "annotations")
    if len(annotations) != number:
        raise ValueError(f"there are {len(annotations)} annotations for {number} images; give one for each")
    return [read_annotation(each, f"annotations[{index}]") for index, each in enumerate(annotations)]


def build_labels(
    annotations: Sequence[Annotation],
    original_sizes: Sequence[tuple[int, int]],
    sizes: Sequence[tuple[int, int]],
    padded_size: tuple[int, int],
    builder: Callable[..., Mapping[str, np.ndarray]],
) -> dict[str, np.ndarray]:
    """
    The labels of a batch, of the size of its padded images.

    Args:
        annotations (`list`): of [`read_annotations`].
        original_sizes (`list[tuple[int, int]]`): height and width of each upright image.
        sizes (`list[tuple[int, int]]`): height and width of each resized image.
        padded_size (`tuple[int, int]`): height and width of `pixel_values`.
        builder (`Callable`): the detector's, `builder(polygons, ignore, height, width) -> dict`.

    Returns:
        `dict[str, np.ndarray]`: with a batch dimension in front.
    """
    labels = []
    for (polygons, ignore, frame), original, size in zip(annotations, original_sizes, sizes):
        height, width = original if frame is None else frame
        scale = np.array([size[1] / width, size[0] / height])
        labels.append(builder([polygon * scale for polygon in polygons], ignore, *padded_size))
    return {name: np.stack([maps[name] for maps in labels]) for name in labels[0]}
