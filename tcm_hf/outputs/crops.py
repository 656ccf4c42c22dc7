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
"""Upright, straightened crops of texts, for recognizers and for eyes."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..model.outlines import text_edges
from ..output_files import make_output_folder, replacing
from .annotations import no_formula
from .geometry import number, outline_of
from .names import FileNames, image_name
from .writers import Entry, StreamForm


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("cutting texts out needs OpenCV: pip install opencv-python-headless") from error


TABLE_COLUMNS = ("crop", "image", "region", "polygon", "score", "text")


def rectify(image, polygon) -> np.ndarray:
    """
    Cuts a text out of an image, upright and straight.

    Four corners are warped in perspective; a bent word is straightened along its edges.

    Args:
        image (`PIL.Image.Image` or `np.ndarray`): upright, of shape `(height, width, channels)`.
        polygon (`np.ndarray` of shape `(n, 2)`): the outline in pixels of the image.

    Returns:
        `np.ndarray`: uint8 of shape `(height, width, channels)`, at the resolution of the image.

    Example:

    >>> import numpy as np
    >>> from tcm_hf.outputs.crops import rectify

    >>> image = np.zeros((100, 200, 3), dtype=np.uint8)
    >>> rectify(image, [[20, 20], [80, 30], [78, 42], [18, 32]]).shape
    (12, 61, 3)
    """
    pixels = np.asarray(image)
    upper, lower = text_edges(np.asarray(polygon, dtype=np.float64))
    width = max(1, round((_length(upper) + _length(lower)) / 2))
    if len(upper) == 2:
        height = max(1, round(float(np.linalg.norm(lower - upper, axis=1).mean())))
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
        quad = np.array([*upper, *lower[::-1]], dtype=np.float32)
        matrix = cv2.getPerspectiveTransform(quad, corners)
        return cv2.warpPerspective(
            pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    # Pixel by pixel along both edges, in the middle of each.
    along = (np.arange(width) + 0.5) / width
    top, bottom = _at(upper, along), _at(lower, along)
    height = max(1, round(float(np.linalg.norm(bottom - top, axis=1).mean())))
    across = ((np.arange(height) + 0.5) / height)[:, None, None]
    places = (top * (1 - across) + bottom * across - 0.5).astype(np.float32)
    # OpenCV's maps hold at most 32767 columns or rows.
    return cv2.remap(pixels, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _length(line: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(line, axis=0), axis=1).sum())


def _at(line: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Points of a line at shares of its length."""
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    return np.stack([np.interp(shares * travelled[-1], travelled, line[:, axis]) for axis in range(2)], axis=1)


def crops_form(folder: Path, inputs: Iterable[str] = ()) -> StreamForm:
    """
    Crops as PNG files in a folder, and the table of their regions.

    Args:
        folder (`Path`): the folder; it is made when it does not exist.
        inputs (`Iterable[str]`, *optional*): the input files, none of which is overwritten.

    Returns:
        [`StreamForm`]: of the table `crops.csv`: name of the crop, image, place among its regions, polygon, score, text.
    """
    make_output_folder(folder)
    names = FileNames(folder, "", inputs=[str(Path(path).with_suffix("")) for path in inputs])

    def render(entry: Entry, image: Any) -> str:
        if "detections" not in entry:
            return ""
        content, stem = io.StringIO(), names.next(entry).name
        writer = csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        for index, detection in enumerate(entry["detections"]):
            crop, polygon = f"{stem}_{index:04d}.png", outline_of(detection)
            if image is not None:  # of an earlier run, the crops are there
                _save(rectify(image, polygon), folder / crop)
            points = " ".join(number(value) for value in polygon.ravel().tolist())
            texts = [no_formula(str(detection.get("text") or ""))]
            place = [no_formula(image_name(entry, folder)), index, points, detection.get("score", "")]
            writer.writerow([no_formula(crop), *place, *texts])
        return content.getvalue()

    return StreamForm(",".join(TABLE_COLUMNS) + "\n", "", render, needs_image=True)


def _save(pixels: np.ndarray, path: Path) -> None:
    from PIL import Image

    with replacing(path) as temporary:
        Image.fromarray(pixels).save(temporary, "PNG")
