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
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..model.polygons import minimum_area_quad, order_clockwise, polygon_area, polygon_perimeter, resample_polygon
from ..output_files import make_output_folder, replacing
from .annotations import no_formula
from .geometry import number, outline_of
from .names import FileNames, image_name
from .writers import Entry, StreamForm


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("cutting texts out needs OpenCV: pip install opencv-python-headless") from error


# Share of the smallest rectangle around a word that a straight one fills; its corners are round.
STRAIGHT = 0.8
# Shorter words than this many thicknesses have no bend to speak of.
MIN_LENGTH = 2.0
# Points that a contour is measured with.
CONTOUR_POINTS = 128
TABLE_COLUMNS = ("crop", "image", "region", "polygon", "score", "text")


def text_edges(polygon) -> tuple[np.ndarray, np.ndarray]:
    """
    The upper and the lower edge of a text, from its outline alone.

    A straight word has the edges of its four corners, or of the smallest rectangle around it. The ends of a bent one are
    where its contour turns around, by half a turn within the thickness of the band.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): the outline in pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: two lines of shape `(m, 2)`, both from where reading begins: from left to right, or
        downwards where the text is higher than wide and bent.
    """
    polygon = order_clockwise(polygon)
    quad = polygon if len(polygon) == 4 else minimum_area_quad(polygon)
    perimeter, area = polygon_perimeter(polygon), polygon_area(polygon)
    # Length and thickness of the band: perimeter = 2 (length + thickness), area = length * thickness.
    thickness = (perimeter - math.sqrt(max(perimeter**2 - 16 * area, 0.0))) / 4
    length = perimeter / 2 - thickness
    if len(polygon) == 4 or area >= STRAIGHT * polygon_area(quad) or length < MIN_LENGTH * thickness:
        return quad[[0, 1]], quad[[3, 2]]
    points = resample_polygon(polygon, CONTOUR_POINTS)
    step = perimeter / CONTOUR_POINTS
    first, second = _ends(points, max(3, round(1.5 * thickness / step)))
    # Reading goes on to the right, or down.
    reach = points[second] - points[first]
    if (reach[0] < 0) if abs(reach[0]) >= abs(reach[1]) else (reach[1] < 0):
        first, second = second, first
    inset = max(1, round(thickness / 2 / step))  # from the middle of an end to its corners
    upper = _chain(points, first + inset, second - inset)
    lower = _chain(points, second + inset, first - inset)[::-1]
    return upper, lower


def _ends(points: np.ndarray, window: int) -> tuple[int, int]:
    """The two places where a closed contour turns most within so many points."""
    edges = np.roll(points, -1, axis=0) - points
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    turns = (angles - np.roll(angles, 1) + math.pi) % (2 * math.pi) - math.pi
    # A weight that falls to the sides, so that the middle of a turn wins, and not every place from which all of it is seen.
    weights = np.bartlett(window + 2)[1:-1]
    half = len(weights) // 2
    around = np.array([np.roll(turns, half - i) for i in range(len(weights))])
    turned = weights @ around
    first = int(np.argmax(turned))
    distance = np.abs((np.arange(len(points)) - first + len(points) // 2) % len(points) - len(points) // 2)
    far = np.where(distance >= len(points) // 4, turned, -np.inf)
    return first, int(np.argmax(far))


def _chain(points: np.ndarray, start: int, end: int) -> np.ndarray:
    """Points of a closed contour from one place to another, in its direction."""
    count = (end - start) % len(points)
    return points[(start + np.arange(count + 1)) % len(points)]


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
