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
"""Targets of the PAN detector: text regions and their kernels, every pixel with the number of its instance."""

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
from .views import numbered_view


def _visible_area(polygon: np.ndarray, height: int, width: int) -> float:
    return sum(polygon_area(part) for part in clip_polygon(polygon, width, height))


def build_pan_targets(
    polygons,
    ignore,
    height: int,
    width: int,
    *,
    shrink_ratio: tuple[float, float] = (1.0, 0.5),
    max_shrink: int = 20,
) -> dict[str, np.ndarray]:
    """
    Builds the training maps of the PAN detector for one image.

    A polygon of area A and perimeter P is shrunk by `A * (1 - r**2) / P` pixels, rounded and at most `max_shrink`,
    once to its text region and once to its kernel. Later polygons cover earlier ones. A kernel that falls apart keeps
    its largest part in the image, since every kernel becomes a text when maps are decoded. Text whose kernel vanishes
    stays in the text map.

    Args:
        polygons (list of array-like of shape `(n, 2)`): Text regions in pixels of the (augmented) image; they may
            reach over its border.
        ignore (list of `bool`): One flag per polygon, true for text whose detection is neither wanted nor punished.
        height (`int`): Height of the maps in pixels.
        width (`int`): Width of the maps in pixels.
        shrink_ratio (`tuple[float, float]`, *optional*, defaults to `(1.0, 0.5)`): r of the formula above for the text
            region and for the kernel, in (0, 1]. Published: 0.5 for ICDAR 2015 and 0.7 for CTW1500.
        max_shrink (`int`, *optional*, defaults to 20): Pixels.

    Returns:
        `dict[str, np.ndarray]`: maps of shape `(height, width)`: `text_map` and `kernel_map` int16 (0 = background,
        i = the i-th polygon that is not ignored, counted from 1) and `text_mask` uint8 (0 = ignored).

    Raises:
        ValueError: if the lists differ in length, a polygon is malformed or a setting is out of range.
    """
    if len(polygons) != len(ignore):
        raise ValueError(f"`ignore` needs one flag per polygon: got {len(ignore)} flags for {len(polygons)} polygons")
    if height < 1 or width < 1:
        raise ValueError(f"`height` and `width` must be at least 1, got {height} and {width}")
    if len(shrink_ratio) != 2 or not all(0.0 < ratio <= 1.0 for ratio in shrink_ratio):
        raise ValueError(f"`shrink_ratio` must be two numbers in (0, 1], got {shrink_ratio}")
    if max_shrink < 0:
        raise ValueError(f"`max_shrink` must not be negative, got {max_shrink}")

    maps = [np.zeros((height, width), dtype=np.int16) for _ in shrink_ratio]
    text_mask = np.ones((height, width), dtype=np.uint8)
    instance = 0
    for index, (points, ignored) in enumerate(zip(polygons, ignore)):
        try:
            polygon = as_polygon(points, MAX_COORDINATE)
        except ValueError as error:
            raise ValueError(f"polygons[{index}]: {error}") from None
        # The maps are drawn from whole pixels, as in the published targets.
        polygon = np.trunc(polygon)
        if ignored:
            cv2.fillPoly(text_mask, [polygon.astype(np.int32)], 0)
            continue
        instance += 1
        (xmin, ymin), (xmax, ymax) = polygon.min(axis=0), polygon.max(axis=0)
        if xmax < 0 or ymax < 0 or xmin >= width or ymin >= height:
            continue
        # Area and contour of what is filled: of the parts, when an annotation crosses itself.
        parts = repair_polygon(polygon)
        area, perimeter = sum(map(polygon_area, parts)), sum(map(polygon_perimeter, parts))
        for canvas, ratio, is_kernel in zip(maps, shrink_ratio, (False, True)):
            distance = min(int(area * (1.0 - ratio**2) / (perimeter + 1e-3) + 0.5), max_shrink)
            shrunk = offset_polygon(polygon, -distance, whole_pixels=True)
            if is_kernel and len(shrunk) > 1:
                shrunk = [max(shrunk, key=lambda piece: _visible_area(piece, height, width))]
            for piece in shrunk:
                cv2.fillPoly(canvas, [np.rint(piece).astype(np.int32)], instance)
    text_map, kernel_map = maps
    # Rounded corners of a contour that crosses itself can put a kernel's pixel beside its text.
    kernel_map[text_map == 0] = 0
    return {"text_map": text_map, "kernel_map": kernel_map, "text_mask": text_mask}


def draw_pan_targets(maps: dict[str, np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """
    Images of the targets: text, and kernels, a color for each text. Pixels that the loss skips are reddish.

    Args:
        maps (`dict[str, np.ndarray]`): of [`build_pan_targets`].
        height, width (`int`): size of the image.

    Returns:
        `list[np.ndarray]`: RGB uint8 of shape (height, width, 3).
    """
    return [numbered_view(maps[name], maps["text_mask"]) for name in ("text_map", "kernel_map")]
