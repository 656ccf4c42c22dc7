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
"""The frame of the upright image: EXIF orientation, resized copies, coordinates in fractions of the size."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...model.image_loading import ORIENTATION_TAG, open_image
from .access import PathLike
from .files import ORIENTATION_CHOICES, check_choice
from .records import AnnotationError


# Outlines in fractions of the image's size may reach a little over its border.
MAX_FRACTION = 2


def picture_header(path: PathLike | BinaryIO) -> tuple[int, int, int]:
    """
    (height, width) of a file's stored image and its EXIF orientation (1 = upright), without decoding it.

    Raises:
        OSError: if it is no image that can be read.
    """
    with open_image(path) as image:
        try:
            tag = image.getexif().get(ORIENTATION_TAG, 1)
        except Exception:  # broken metadata: the image is shown as it is stored
            tag = 1
        return image.height, image.width, tag if tag in range(1, 9) else 1


def turn_upright(polygons: list[np.ndarray], height: int, width: int, tag: int) -> list[np.ndarray]:
    """
    Takes outlines from the stored image to the upright one.

    Args:
        polygons (`list[np.ndarray]`): Outlines of shape (n, 2) in pixels of the stored image.
        height (`int`): Height of the stored image.
        width (`int`): Width of the stored image.
        tag (`int`): EXIF orientation, 1 to 8.

    Returns:
        `list[np.ndarray]`: outlines in pixels of the upright image, whose sides are swapped for tags 5 to 8.
    """
    turned = []
    for polygon in polygons:
        x, y = polygon[:, 0], polygon[:, 1]
        x, y = {
            1: (x, y),
            2: (width - x, y),
            3: (width - x, height - y),
            4: (x, height - y),
            5: (y, x),
            6: (height - y, x),
            7: (height - y, width - x),
            8: (y, width - x),
        }[tag]
        turned.append(np.stack([x, y], axis=1))
    return turned


def upright_frame(
    image: Any,
    polygons: list[np.ndarray],
    orientation: str,
    size: tuple[int, int] | None = None,
    annotated_size: tuple[int, int] | None = None,
    where: str = "",
    normalized: bool = False,
) -> tuple[list[np.ndarray], tuple[int, int] | None]:
    """
    Takes outlines to the frame of the upright image.

    Args:
        image: The image; only a path of an existing file can have another orientation.
        polygons (`list[np.ndarray]`): Outlines as annotated.
        orientation (`str`):
            `"stored"`: they refer to the image as stored, `"upright"`: to the image as shown, `"auto"`:
            `annotated_size` tells which (as shown, when it cannot), and whether the image is a resized copy.
        size (`tuple[int, int]`, *optional*): (height, width) of the annotated frame of a resized copy.
        annotated_size (`tuple[int, int]`, *optional*): (height, width) that the annotation gives for its image.
        where (`str`, *optional*): Place of the annotation, for the message.
        normalized (`bool`, *optional*, defaults to `False`): Whether the outlines are in fractions of width and height.

    Returns:
        `tuple[list[np.ndarray], tuple[int, int] | None]`: outlines, and `size` of the upright image.

    Raises:
        AnnotationError: if `annotated_size` is not that of this image in either orientation, nor of a resized copy.
    """
    check_choice("orientation", orientation, ORIENTATION_CHOICES)
    header = None
    if isinstance(image, (str, Path)) and Path(image).is_file():
        if orientation != "upright" or normalized:
            header = _header_or_none(image)
    elif isinstance(image, bytes) and normalized:
        header = _header_or_none(io.BytesIO(image))
    if header is None or orientation == "upright":
        if normalized:
            height, width, tag = header or (0, 0, 1)
            known = size or annotated_size or ((width, height) if tag >= 5 else (height, width))
            polygons = scale_fractions(polygons, known, where or str(image))
        return polygons, size
    height, width, tag = header
    stored, upright = (height, width), (width, height) if tag >= 5 else (height, width)
    if orientation == "auto":
        orientation = "upright"
        if size is None and annotated_size is not None and annotated_size != upright:
            if tag >= 5 and _same_shape(annotated_size, stored):
                orientation = "stored"
            elif not _same_shape(annotated_size, upright):
                raise AnnotationError(
                    f"{where}: annotated for an image of {annotated_size[1]} x {annotated_size[0]} pixels, but {image} has "
                    f"{upright[1]} x {upright[0]}; check that it is the right image, or pass orientation='upright' "
                    "(--orientation upright)"
                )
            size = annotated_size if annotated_size not in (stored, upright) else None
    if normalized:
        known = size or (upright if orientation == "upright" else stored)
        polygons = scale_fractions(polygons, known, where or str(image))
    if tag == 1 or orientation == "upright":
        return polygons, size
    polygons = turn_upright(polygons, *(size or (height, width)), tag)
    return polygons, size[::-1] if size is not None and tag >= 5 else size


def _header_or_none(image: Any) -> tuple[int, int, int] | None:
    try:
        return picture_header(image)
    except OSError:  # whoever decodes the image says so
        return None


def scale_fractions(polygons: list[np.ndarray], size: tuple[int, int], where: str) -> list[np.ndarray]:
    """
    Takes outlines in fractions of the image's width and height to pixels.

    Raises:
        AnnotationError: if the size is not known, or coordinates are pixels already.
    """
    height, width = size
    if not height or not width:
        raise AnnotationError(
            f"{where}: fractions of an image's size cannot be read without the image; add it, or leave out `normalized` "
            "(--normalized)"
        )
    largest = max((float(np.abs(polygon).max()) for polygon in polygons), default=0)
    if largest > MAX_FRACTION:
        raise AnnotationError(
            f"{where}: {largest:g} is no fraction of the image's width or height; correct it, or leave out `normalized` "
            "(--normalized)"
        )
    return [polygon * np.array([width, height], dtype=np.float32) for polygon in polygons]


def _same_shape(a: tuple[int, int], b: tuple[int, int]) -> bool:
    """Whether one image can be a resized copy of the other; sides are rounded, small ones coarsely."""
    return abs(a[0] * b[1] - a[1] * b[0]) <= max(0.01 * a[0] * b[1], a[0], a[1], b[0], b[1])
