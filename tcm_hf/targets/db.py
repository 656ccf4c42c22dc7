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
"""Targets of the DB detector: the shrunk-kernel map and the threshold band around every contour."""

import math

import cv2
import numpy as np

from ..model.polygons import (
    MAX_COORDINATE,
    as_polygon,
    clip_polygon,
    offset_polygon,
    polygon_area,
    polygon_perimeter,
    repair_polygon,
)
from .views import gray_view


def _fill(canvas: np.ndarray, polygons: list[np.ndarray], value: int) -> None:
    """Rasterizes polygons one by one (in a single call, overlapping ones would cancel each other)."""
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], value)


def _visible_area(polygon: np.ndarray, height: int, width: int) -> float:
    return sum(polygon_area(part) for part in clip_polygon(polygon, width, height))


def _band_distance(polygon: np.ndarray, reach: float, left: int, top: int, right: int, bottom: int) -> np.ndarray:
    """
    Distance to the contour, in pixels and capped at `reach`, of the pixels `[top:bottom, left:right]`.

    An edge only matters inside its bounding box padded by `reach`, so each edge is evaluated there and nowhere else.
    Outside the circle that has the edge as its diameter the distance to the nearer end point stands in for the
    perpendicular one: the rule of the published DB targets.
    """
    squared = np.full((bottom - top, right - left), reach * reach, dtype=np.float32)
    x = np.arange(right - left, dtype=np.float32)
    y = np.arange(bottom - top, dtype=np.float32)[:, None]
    # Coordinates of the window, as Python floats: they keep the arrays in float32 and are faster than numpy scalars.
    points = (polygon - (left, top)).tolist()
    for (start_x, start_y), (end_x, end_y) in zip(points, points[1:] + points[:1]):
        length = math.hypot(end_x - start_x, end_y - start_y)
        x0 = max(math.floor(min(start_x, end_x) - reach), 0)
        x1 = min(math.ceil(max(start_x, end_x) + reach) + 1, right - left)
        y0 = max(math.floor(min(start_y, end_y) - reach), 0)
        y1 = min(math.ceil(max(start_y, end_y) + reach) + 1, bottom - top)
        if length == 0.0 or x0 >= x1 or y0 >= y1:
            continue
        dx, dy = x[x0:x1] - start_x, y[y0:y1] - start_y
        nearer_end = dx * dx + dy * dy
        perpendicular = dy * ((end_x - start_x) / length) - dx * ((end_y - start_y) / length)
        perpendicular *= perpendicular
        dx, dy = x[x0:x1] - end_x, y[y0:y1] - end_y
        other_end = dx * dx + dy * dy
        in_circle = nearer_end + other_end <= length * length
        np.minimum(nearer_end, other_end, out=nearer_end)
        np.copyto(nearer_end, perpendicular, where=in_circle)
        window = squared[y0:y1, x0:x1]
        np.minimum(window, nearer_end, out=window)
    return np.sqrt(squared, out=squared)


def _height(area: float, perimeter: float) -> float:
    """Shorter side of the rectangle with this area and perimeter; what is rounder than a square counts as a square."""
    return (perimeter - math.sqrt(max(perimeter * perimeter - 16.0 * area, 0.0))) / 4.0


def _measures(polygon: np.ndarray) -> tuple[float, float, int]:
    """Area and perimeter of what is filled, and its number of parts: several when an annotation crosses itself."""
    parts = repair_polygon(polygon)
    return sum(map(polygon_area, parts)), sum(map(polygon_perimeter, parts)), len(parts)


def build_db_targets(
    polygons,
    ignore,
    height: int,
    width: int,
    *,
    shrink_ratio: float = 0.4,
    max_shrink: float | None = None,
    threshold_min: float = 0.3,
    threshold_max: float = 0.7,
    min_text_size: float = 8.0,
    gap_weight: float = 0.0,
) -> dict[str, np.ndarray]:
    """
    Builds the training maps of the DB detector for one image.

    A polygon of area A and perimeter P is expanded by `A * (1 - shrink_ratio**2) / P` pixels to its band and shrunk by
    the same distance to its kernel (DB, section 3.4), or by `max_shrink` times its height if that is less. As in the
    published targets, vertices of kernels and bands are whole pixels, and kernels take the distance of the polygon
    with its decimals cut off, rounded: `int(A * (1 - shrink_ratio**2) / (P + 0.001) + 0.5)`. A kernel that falls apart
    keeps its largest part in the image, since every kernel becomes a text when maps are decoded. Polygons
    marked in `ignore`, those thinner than `min_text_size`, those below one square pixel and those whose kernel vanishes
    have neither kernel nor band, and the loss skips their pixels (`shrink_mask` 0). Polygons may reach over the image
    border.

    Args:
        polygons (list of array-like of shape `(n, 2)`): Text regions in pixels of the (augmented) image.
        ignore (list of `bool`): One flag per polygon, true for text whose detection is neither wanted nor punished.
        height (`int`): Height of the maps in pixels.
        width (`int`): Width of the maps in pixels.
        shrink_ratio (`float`, *optional*, defaults to 0.4): r of the formula above, in [0, 1).
        max_shrink (`float`, *optional*): Upper limit of the distance, in heights of the text, in (0, 0.5); the height
            is that of the rectangle with the same area and perimeter, straight text or bent. The formula leaves a word
            of aspect 10 a kernel of 0.24 of its height and one of aspect 2 one of 0.44, so that no single
            `unclip_ratio` restores both; with 0.3, words above aspect 2.5 keep 0.4 of their height. By default there
            is no limit, as in DB.
        threshold_min (`float`, *optional*, defaults to 0.3): Threshold at the rim of the band and away from text.
        threshold_max (`float`, *optional*, defaults to 0.7): Threshold on the contour.
        min_text_size (`float`, *optional*, defaults to 8.0): Pixels; a polygon is ignored when the shorter side of its
            minimum-area rectangle is below it.
        gap_weight (`float`, *optional*, defaults to 0.0): How much more than other background the pixels between two
            texts weigh in the loss of the probability map, where a detector has to keep neighbors apart: by
            `gap_weight * exp(-(d1 + d2)**2 / (2 * (0.4 * h)**2))`, with the distances d1 and d2 to the nearest two
            texts and the height h of the nearest, the rule of U-Net (Ronneberger et al., MICCAI 2015, eq. 2) on the
            scale of the text. 0 is DB's loss.

    Returns:
        `dict[str, np.ndarray]`: maps of shape `(height, width)`: `shrink_map` uint8 (1 = kernel), `shrink_mask` uint8
        (0 = ignored), `threshold_map` float32, `threshold_mask` uint8 (1 = inside a band or a text), and with a
        `gap_weight` also `shrink_weight` float32 (1 = usual weight).

    Raises:
        ValueError: if the lists differ in length, a polygon is malformed or a setting is out of range.
    """
    if len(polygons) != len(ignore):
        raise ValueError(f"`ignore` needs one flag per polygon: got {len(ignore)} flags for {len(polygons)} polygons")
    if height < 1 or width < 1:
        raise ValueError(f"`height` and `width` must be at least 1, got {height} and {width}")
    if not 0.0 <= shrink_ratio < 1.0:
        raise ValueError(f"`shrink_ratio` must be in [0, 1), got {shrink_ratio}")
    if max_shrink is not None and not 0.0 < max_shrink < 0.5:
        raise ValueError(f"`max_shrink` must be in (0, 0.5), got {max_shrink}")
    if not 0.0 <= gap_weight < math.inf:
        raise ValueError(f"`gap_weight` must not be negative, got {gap_weight}")
    if not threshold_min <= threshold_max:
        raise ValueError(f"`threshold_min` ({threshold_min}) must not exceed `threshold_max` ({threshold_max})")

    shrink_map = np.zeros((height, width), dtype=np.uint8)
    shrink_mask = np.ones((height, width), dtype=np.uint8)
    closeness = np.zeros((height, width), dtype=np.float32)
    threshold_mask = np.zeros((height, width), dtype=np.uint8)
    texts: list[np.ndarray] = []

    for index, (points, ignored) in enumerate(zip(polygons, ignore)):
        try:
            polygon = as_polygon(points, MAX_COORDINATE)
        except ValueError as error:
            raise ValueError(f"polygons[{index}]: {error}") from None
        (xmin, ymin), (xmax, ymax) = polygon.min(axis=0), polygon.max(axis=0)
        # Kernel and band are drawn from whole pixels, as in the published targets.
        pixels = np.trunc(polygon)
        kernels: list[np.ndarray] = []
        distance = 0.0
        if not ignored and min(cv2.minAreaRect(polygon.astype(np.float32))[1]) >= min_text_size:
            area, perimeter, _ = _measures(polygon)
            if area >= 1.0:
                distance = area * (1.0 - shrink_ratio**2) / perimeter
                area_in_pixels, perimeter_in_pixels, num_parts = _measures(pixels)
                shrink: float = int(area_in_pixels * (1.0 - shrink_ratio**2) / (perimeter_in_pixels + 1e-3) + 0.5)
                if max_shrink is not None:
                    limit = max_shrink * _height(area, perimeter)
                    distance, shrink = min(distance, limit), min(shrink, limit)
                kernels = offset_polygon(pixels, -shrink, whole_pixels=True)
                # Of a contour that crosses itself all parts are text.
                if len(kernels) > 1 and num_parts == 1:
                    kernels = [max(kernels, key=lambda kernel: _visible_area(kernel, height, width))]
        if xmax + distance < 0 or ymax + distance < 0 or xmin - distance > width or ymin - distance > height:
            continue
        if not kernels:
            _fill(shrink_mask, [pixels], 0)
            continue
        _fill(shrink_map, kernels, 1)
        texts.append(polygon)
        # The outline of a kernel can hold a pixel that the band lacks where a contour crosses itself at a sharp angle.
        _fill(threshold_mask, [*offset_polygon(pixels, distance, whole_pixels=True), *kernels], 1)
        left, top = max(int(np.floor(xmin - distance)), 0), max(int(np.floor(ymin - distance)), 0)
        right = min(int(np.ceil(xmax + distance)) + 1, width)
        bottom = min(int(np.ceil(ymax + distance)) + 1, height)
        if left >= right or top >= bottom:
            continue
        band = _band_distance(polygon, distance, left, top, right, bottom)
        band *= -1.0 / distance
        band += 1.0
        window = closeness[top:bottom, left:right]
        np.maximum(window, band, out=window)

    closeness *= threshold_max - threshold_min
    closeness += threshold_min
    targets: dict[str, np.ndarray] = {
        "shrink_map": shrink_map,
        "shrink_mask": shrink_mask,
        "threshold_map": closeness,
        "threshold_mask": threshold_mask,
    }
    if gap_weight > 0:
        targets["shrink_weight"] = _gap_weights(texts, shrink_map, gap_weight)
    return targets


def _gap_weights(polygons: list[np.ndarray], shrink_map: np.ndarray, gap_weight: float) -> np.ndarray:
    """The weights between neighboring texts, see `gap_weight` of [`build_db_targets`]; 1 in kernels and elsewhere."""
    height, width = shrink_map.shape
    nearest = np.full((height, width), np.inf, dtype=np.float32)
    second, scale = nearest.copy(), np.ones((height, width), dtype=np.float32)
    heights = [_height(polygon_area(polygon), polygon_perimeter(polygon)) for polygon in polygons]
    # Farther than this from a text the extra weight is below 1 % of its peak, whichever text is the nearest.
    reach = 1.3 * max(heights, default=0.0)
    for polygon, text_height in zip(polygons, heights):
        left, top = np.maximum(np.floor(polygon.min(axis=0) - reach), 0).astype(int)
        right, bottom = np.minimum(np.ceil(polygon.max(axis=0) + reach) + 1, (width, height)).astype(int)
        if left >= right or top >= bottom:
            continue
        outside = np.ones((bottom - top, right - left), dtype=np.uint8)
        cv2.fillPoly(outside, [np.rint(polygon - (left, top)).astype(np.int32)], 0)
        distance = cv2.distanceTransform(outside, cv2.DIST_L2, 3)
        window = (slice(top, bottom), slice(left, right))
        nearer = distance < nearest[window]
        second[window] = np.where(nearer, nearest[window], np.minimum(second[window], distance))
        scale[window] = np.where(nearer, text_height, scale[window])
        nearest[window] = np.minimum(nearest[window], distance)
    weights = np.ones((height, width), dtype=np.float32)
    near = np.isfinite(second) & (shrink_map == 0)
    weights[near] += gap_weight * np.exp(-0.5 * ((nearest[near] + second[near]) / (0.4 * scale[near])) ** 2)
    return weights


def draw_db_targets(maps: dict[str, np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """
    Images of the targets: kernels, and the threshold band. Pixels that the loss skips are reddish.

    Args:
        maps (`dict[str, np.ndarray]`): of [`build_db_targets`].
        height, width (`int`): size of the image.

    Returns:
        `list[np.ndarray]`: RGB uint8 of shape (height, width, 3).
    """
    return [
        gray_view(maps["shrink_map"] * 255, maps["shrink_mask"]),
        gray_view(maps["threshold_map"] * 255, maps["threshold_mask"] | (maps["threshold_map"] > 0)),
    ]
