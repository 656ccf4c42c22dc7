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
import shapely

from ..polygons import as_polygon, clip_polygon, polygon_area, polygon_perimeter, repair_polygon, signed_area


# Pixels by which the chords of a round join may miss the arc.
ARC_TOLERANCE = 0.25


def _shrink_on_grid(polygon: np.ndarray, distance: int) -> list[np.ndarray]:
    """
    Moves the contour of a valid polygon inwards; the ends of every moved edge are rounded to the pixel grid.

    The published targets are made that way. It turns edges a little: up to a pixel against the exact offset.
    """
    if signed_area(polygon) < 0:
        polygon = polygon[::-1]
    edges = np.roll(polygon, -1, axis=0) - polygon
    directions = np.arctan2(edges[:, 1], edges[:, 0])
    turns = (directions - np.roll(directions, 1) + np.pi) % (2 * np.pi) - np.pi
    shift = distance * np.stack([-np.sin(directions), np.cos(directions)], axis=1)
    starts, ends = np.rint(polygon + shift), np.rint(np.roll(polygon, -1, axis=0) + shift)
    removed = list(shapely.polygons(np.stack([polygon, np.roll(polygon, -1, axis=0), ends, starts], axis=1)))
    # Corners that point inwards have a round join: without it there would be a gap between the strips of two edges.
    turn_of_chord = 2 * np.arccos(1 - ARC_TOLERANCE / distance)
    for corner in np.flatnonzero(turns < 0):
        num_chords = max(round(-turns[corner] / turn_of_chord), 1)
        angles = directions[corner] + np.pi / 2 - turns[corner] * np.linspace(1, 0, num_chords + 1)
        arc = np.rint(polygon[corner] + distance * np.stack([np.cos(angles), np.sin(angles)], axis=1))
        removed.append(shapely.Polygon([polygon[corner], *arc]))
    # Turned strips can leave slivers along the contour, hence the exact offset by one pixel less.
    kernel = shapely.buffer(shapely.Polygon(polygon), 1 - distance)
    kernel = shapely.difference(kernel, shapely.union_all(shapely.make_valid(removed)))
    parts = [part for part in shapely.get_parts(kernel) if part.geom_type == "Polygon" and part.area > 0]
    return [shapely.get_coordinates(part.exterior)[:-1] for part in parts]


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
            polygon = as_polygon(points)
        except ValueError as error:
            raise ValueError(f"polygons[{index}]: {error}") from None
        # The maps are drawn from the pixels that hold the vertices, as in the published targets.
        polygon = np.floor(polygon)
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
            shrunk = [piece for part in parts for piece in _shrink_on_grid(part, distance)] if distance else parts
            if is_kernel and len(shrunk) > 1:
                shrunk = [max(shrunk, key=lambda piece: _visible_area(piece, height, width))]
            for piece in shrunk:
                cv2.fillPoly(canvas, [np.rint(piece).astype(np.int32)], instance)
    text_map, kernel_map = maps
    # Rounded corners of a contour that crosses itself can put a kernel's pixel beside its text.
    kernel_map[text_map == 0] = 0
    return {"text_map": text_map, "kernel_map": kernel_map, "text_mask": text_mask}
