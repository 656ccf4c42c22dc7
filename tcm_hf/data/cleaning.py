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
"""Repairs the outlines of an image, and says which of them no detector can learn."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import shapely

from ..model.polygons import bounding_box, minimum_area_quad, polygon_area, repair_polygon


REPEATED_POINTS = "repeated points removed"
CORNERS_ORDERED = "corners of a crossing quadrilateral put in order"
LARGEST_PART = "largest part of an outline that crosses itself kept"
NO_AREA = "outline without area"
OUTSIDE = "outline outside of the image"


@dataclass
class CleanInstances:
    """
    The instances of an image that are fit for training, and what became of the others.

    Args:
        kept (`list[int]`): Places of the instances that were kept.
        polygons (`list[np.ndarray]`): Their outlines, float32 of shape (n, 2).
        repaired (`list[tuple[int, str]]`): Place and kind of every repair.
        dropped (`list[tuple[int, str]]`): Place and reason of every instance that was left out.
        partly_outside (`int`): How many outlines reach over the image's border; they stay as they are.
    """

    kept: list[int] = field(default_factory=list)
    polygons: list[np.ndarray] = field(default_factory=list)
    repaired: list[tuple[int, str]] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    partly_outside: int = 0


def clean_instances(polygons: Iterable[np.ndarray], height: int, width: int) -> CleanInstances:
    """
    Repairs the outlines of an image, and leaves out those that enclose nothing inside of it.

    Args:
        polygons (`Iterable[np.ndarray]`): Outlines of shape (n, 2) in pixels.
        height (`int`): Height of the image.
        width (`int`): Width of the image.

    Returns:
        `CleanInstances`: an outline that is valid already is kept to the last bit.
    """
    result = CleanInstances()
    for index, polygon in enumerate(polygons):
        outline, repairs = _repaired(np.asarray(polygon, dtype=np.float32))
        if outline is None:
            result.dropped.append((index, NO_AREA))
            continue
        xmin, ymin, xmax, ymax = bounding_box(outline)
        if xmax <= 0 or ymax <= 0 or xmin >= width or ymin >= height:
            result.dropped.append((index, OUTSIDE))
            continue
        # The edge pixel counts as inside: many benchmarks give the last pixel, others the border behind it.
        result.partly_outside += xmin < -1 or ymin < -1 or xmax > width + 1 or ymax > height + 1
        result.repaired += [(index, repair) for repair in repairs]
        result.kept.append(index)
        result.polygons.append(outline)
    return result


def _repaired(polygon: np.ndarray) -> tuple[np.ndarray | None, list[str]]:
    """A valid outline, `None` if there is no area, and the kinds of repair that it took."""
    repairs = []
    distinct = polygon[np.any(polygon != np.roll(polygon, 1, axis=0), axis=1)]
    if len(distinct) < 3:
        return None, []
    if len(distinct) < len(polygon):
        repairs.append(REPEATED_POINTS)
    if _is_simple(distinct):
        return (distinct if polygon_area(distinct) > 0 else None), repairs
    if len(distinct) == 4:
        center = distinct.mean(axis=0)
        angles = np.arctan2(distinct[:, 1] - center[1], distinct[:, 0] - center[0])
        ordered = distinct[np.argsort(angles)]
        if _is_simple(ordered) and polygon_area(ordered) > 0:
            start = int(np.argmin(np.abs(ordered - minimum_area_quad(ordered)[0]).sum(axis=1)))
            return np.roll(ordered, -start, axis=0), [*repairs, CORNERS_ORDERED]
    parts = repair_polygon(distinct)
    if not parts:
        return None, []
    largest = max(parts, key=polygon_area).astype(np.float32)
    return (largest, [*repairs, LARGEST_PART]) if _is_simple(largest) else (None, [])


def _is_simple(polygon: np.ndarray) -> bool:
    return bool(shapely.Polygon(polygon.astype(np.float64)).is_valid)
