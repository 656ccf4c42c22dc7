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
"""
Areas and overlaps of the text regions of many images at once: the numbers that every protocol compares with a threshold.

Pairs whose bounding boxes meet are the only ones looked at. Where one of the two is a convex quadrilateral, the other is
clipped at its sides, for all pairs of all images in the same few numpy calls; shapely intersects what is left.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import shapely

from ..model.polygons import as_polygon


# What a scorer makes of a contour that crosses or touches itself.
EVEN_ODD = "even-odd"  # overlaps by the even-odd rule, area by the shoelace formula (the Polygon library)
BUFFER = "buffer"  # repaired by a buffer of width zero
ZERO = "zero"  # overlaps nothing


@dataclass
class Regions:
    """The regions of one image, their points one after the other.

    Args:
        points (`np.ndarray` of shape `(sum(counts), 2)`): Corners in pixels.
        counts (`np.ndarray` of shape `(n,)`): Number of corners of each region.
    """

    points: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def starts(self) -> np.ndarray:
        return np.cumsum(self.counts) - self.counts

    def polygons(self) -> list[np.ndarray]:
        return np.split(self.points, np.cumsum(self.counts)[:-1]) if len(self) else []

    def boxes(self) -> np.ndarray:
        """Bounding boxes `(xmin, ymin, xmax, ymax)`, shape `(n, 4)`."""
        if not len(self):
            return np.empty((0, 4))
        starts = self.starts
        return np.concatenate(
            [np.minimum.reduceat(self.points, starts), np.maximum.reduceat(self.points, starts)], axis=1
        )

    def centers(self) -> np.ndarray:
        """Means of the corners, shape `(n, 2)`."""
        if not len(self):
            return np.empty((0, 2))
        return np.add.reduceat(self.points, self.starts) / self.counts[:, None]


def stack_regions(polygons: Sequence, name: str, dtype=np.float64) -> Regions:
    """
    Checks the polygons of one image.

    Args:
        polygons (list of array-like of shape `(n, 2)` or flat `(2 * n,)`): Corners in pixels; n >= 3 may differ.
        name (`str`): What the polygons are, for the message of an error.
        dtype (`numpy.dtype`, *optional*, defaults to `np.float64`): Precision to which coordinates are rounded; they
            are held in float64 all the same.

    Raises:
        ValueError: if a polygon has fewer than three points, another shape, or a coordinate that is not finite.
    """
    count = len(polygons)
    if count == 0:
        return Regions(np.empty((0, 2)), np.empty(0, dtype=np.intp))
    try:
        # One call for the common case that all have the same number of corners.
        stacked = _flat_lists(polygons) if isinstance(polygons[0], list) else np.array(polygons, dtype=np.float64)
        size = stacked.size // count
        if stacked.ndim not in (2, 3) or size < 6 or size % 2 or (stacked.ndim == 3 and stacked.shape[2] != 2):
            raise ValueError("not of one shape")
        points = stacked.reshape(-1, 2)
        if dtype != np.float64:
            points = points.astype(dtype).astype(np.float64)
        if not np.isfinite(points).all():
            raise ValueError("not finite")
        return Regions(points, np.full(count, size // 2))
    except (ValueError, TypeError, KeyError):
        checked = []
        for index, polygon in enumerate(polygons):
            try:
                checked.append(as_polygon(polygon).astype(dtype))
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name}[{index}]: {error}") from None
        counts = np.array([len(polygon) for polygon in checked])
        return Regions(np.concatenate(checked).astype(np.float64, copy=False), counts)


def _flat_lists(polygons: Sequence[list]) -> np.ndarray:
    """Lists of numbers, or of points, that are all of one length, as an array."""
    if isinstance(polygons[0][0], (int, float)) and len(set(map(len, polygons))) == 1:
        # Three times as fast as the array of a list of lists.
        numbers = np.fromiter(chain.from_iterable(polygons), np.float64, len(polygons) * len(polygons[0]))
        return numbers.reshape(len(polygons), -1)
    return np.array(polygons, dtype=np.float64)


@dataclass
class Overlaps:
    """Areas and overlaps of the ground truth and the detections of one image.

    Args:
        ground_truth, detections (`Regions`): The regions of which the image consists.
        ground_truth_areas, detection_areas (`np.ndarray`): Areas in square pixels.
        raw_detection_areas (`np.ndarray`): The same by the shoelace formula, before any repair.
        ground_truth_valid, detection_valid (`np.ndarray` of `bool`): Whether the contour is free of self-contact.
        rows, columns, areas (`np.ndarray`): Intersection areas of the pairs that overlap.
    """

    ground_truth: Regions
    detections: Regions
    ground_truth_areas: np.ndarray
    detection_areas: np.ndarray
    raw_detection_areas: np.ndarray
    ground_truth_valid: np.ndarray
    detection_valid: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    areas: np.ndarray

    def without_regions(self) -> "Overlaps":
        """The same without the corners, for protocols that need none."""
        empty = Regions(np.empty((0, 2)), np.empty(0, dtype=np.intp))
        return replace(self, ground_truth=empty, detections=empty)


def _concatenate(groups: list[Regions]) -> Regions:
    return Regions(np.concatenate([g.points for g in groups]), np.concatenate([g.counts for g in groups]))


class _Shapes:
    """Every region of a batch, with what decides how its overlaps are computed."""

    def __init__(self, regions: Regions, invalid: str):
        self.regions = regions
        self.starts = regions.starts
        self.signed = _signed_areas(regions)
        self.raw_areas = np.abs(self.signed)
        self.convex = self._convex_quads()
        self.valid = np.ones(len(regions), dtype=bool)
        self.areas = self.raw_areas.copy()
        self.geometries = np.empty(len(regions), dtype=object)
        others = np.nonzero(~self.convex)[0]
        self.build(others)
        self.valid[others] = shapely.is_valid(self.geometries[others])
        for index in np.nonzero(~self.valid)[0]:
            geometry = _repaired(self.geometries[index], invalid)
            self.geometries[index] = geometry
            if invalid == BUFFER:
                self.areas[index] = geometry.area

    def _convex_quads(self) -> np.ndarray:
        """Which regions are quadrilaterals with an area, and with no turn against their direction."""
        convex = np.zeros(len(self.regions), dtype=bool)
        quads = np.nonzero((self.regions.counts == 4) & (self.signed != 0))[0]
        edges = self.corners(quads)
        edges = np.roll(edges, -1, axis=1) - edges
        following = np.roll(edges, -1, axis=1)
        turns = edges[..., 0] * following[..., 1] - edges[..., 1] * following[..., 0]
        convex[quads] = (turns * np.sign(self.signed[quads])[:, None] >= 0).all(axis=1)
        return convex

    def corners(self, quads: np.ndarray) -> np.ndarray:
        return self.regions.points[self.starts[quads][:, None] + np.arange(4)]

    def build(self, indices: np.ndarray) -> None:
        """Makes the shapely geometries of these regions, where they are missing."""
        indices = indices[[self.geometries[i] is None for i in indices]]
        if len(indices):
            counts = self.regions.counts[indices]
            points = self.regions.points[_ranges(self.starts[indices], counts)]
            rings = shapely.linearrings(points, indices=np.repeat(np.arange(len(indices)), counts))
            self.geometries[indices] = shapely.polygons(rings)


def _signed_areas(regions: Regions) -> np.ndarray:
    if not len(regions):
        return np.empty(0)
    starts = regions.starts
    # Differences to the first corner: large offsets would otherwise cost digits.
    x, y = (regions.points - np.repeat(regions.points[starts], regions.counts, axis=0)).T
    following = np.arange(1, len(x) + 1)
    following[starts + regions.counts - 1] = starts
    return 0.5 * np.add.reduceat(x * y[following] - x[following] * y, starts)


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The integers `starts[i] ... starts[i] + counts[i] - 1` for every i, one after the other."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - counts), counts)


def _repaired(geometry, invalid: str):
    if invalid == BUFFER:
        return shapely.buffer(geometry, 0)
    return shapely.Polygon() if invalid == ZERO else _even_odd(geometry)


def even_odd_geometry(corners: np.ndarray):
    """The shapely geometry of a contour, which may cross itself, by the even-odd rule."""
    geometry = shapely.Polygon(corners)
    return geometry if geometry.is_valid else _even_odd(geometry)


def _even_odd(geometry):
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(geometry, method="linework")))
    return shapely.union_all([part for part in parts if part.geom_type == "Polygon"])


def compute_overlaps(pairs: Sequence[tuple[Regions, Regions]], invalid: str = EVEN_ODD) -> list[Overlaps]:
    """
    Computes what the protocols compare, for many images in one go.

    Args:
        pairs (list of `(Regions, Regions)`): Ground truth and detections of each image.
        invalid (`str`, *optional*, defaults to `"even-odd"`): What becomes of contours that cross or touch themselves:
            `"even-odd"`, `"buffer"` or `"zero"`.

    Returns:
        `list[Overlaps]`: one per image.
    """
    if not pairs:
        return []
    truth = _Shapes(_concatenate([truth for truth, _ in pairs]), invalid)
    found = _Shapes(_concatenate([found for _, found in pairs]), invalid)
    truth_ends = np.cumsum([len(truth) for truth, _ in pairs])
    found_ends = np.cumsum([len(found) for _, found in pairs])
    rows, columns, ends = _meeting_boxes(truth.regions.boxes(), found.regions.boxes(), truth_ends, found_ends)
    areas = _intersection_areas(truth, found, rows, columns)
    images, first = [], (0, 0, 0)
    for (regions, detections), last in zip(pairs, zip(truth_ends.tolist(), found_ends.tolist(), ends)):
        t, f, p = (slice(a, b) for a, b in zip(first, last))
        images.append(
            Overlaps(
                ground_truth=regions,
                detections=detections,
                ground_truth_areas=truth.areas[t],
                detection_areas=found.areas[f],
                raw_detection_areas=found.raw_areas[f],
                ground_truth_valid=truth.valid[t],
                detection_valid=found.valid[f],
                rows=rows[p] - first[0],
                columns=columns[p] - first[1],
                areas=areas[p],
            )
        )
        first = last
    return images


def _meeting_boxes(truth, found, truth_ends, found_ends) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Pairs of one image whose boxes share an area, in the order of the ground truth, and where each image ends."""
    all_rows, all_columns, ends, total = [], [], [], 0
    truth, found = np.ascontiguousarray(truth.T), np.ascontiguousarray(found.T)
    t0 = f0 = 0
    for t1, f1 in zip(truth_ends.tolist(), found_ends.tolist()):
        left, top, right, bottom = truth[:, t0:t1, None]
        other_left, other_top, other_right, other_bottom = found[:, None, f0:f1]
        meet = left < other_right
        meet &= other_left < right
        meet &= top < other_bottom
        meet &= other_top < bottom
        rows, columns = np.nonzero(meet)
        all_rows.append(rows + t0)
        all_columns.append(columns + f0)
        total += len(rows)
        ends.append(total)
        t0, f0 = t1, f1
    return np.concatenate(all_rows), np.concatenate(all_columns), ends


def _intersection_areas(truth: _Shapes, found: _Shapes, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    areas = np.empty(len(rows))
    by_truth = truth.convex[rows] & found.valid[columns]
    by_found = ~by_truth & found.convex[columns] & truth.valid[rows]
    rest = np.nonzero(~by_truth & ~by_found)[0]
    areas[by_truth] = _clipped_areas(found, columns[by_truth], truth, rows[by_truth])
    areas[by_found] = _clipped_areas(truth, rows[by_found], found, columns[by_found])
    if len(rest):
        truth.build(np.unique(rows[rest]))
        found.build(np.unique(columns[rest]))
        both = shapely.intersection(truth.geometries[rows[rest]], found.geometries[columns[rest]])
        areas[rest] = shapely.area(both)
    return areas


def _clipped_areas(subjects: _Shapes, subject: np.ndarray, clippers: _Shapes, clipper: np.ndarray) -> np.ndarray:
    """
    Areas of simple polygons inside convex quadrilaterals (Sutherland and Hodgman's clipping, all pairs side by side).

    A polygon that is not convex may keep bridges along the sides of the clipper; they enclose nothing.
    """
    pairs = len(subject)
    if not pairs:
        return np.empty(0)
    quads = clippers.corners(clipper)
    origin = quads[:, 0].copy()
    quads -= origin[:, None]
    # The inner side has to be the same for all.
    side = np.sign(clippers.signed[clipper])
    counts = subjects.regions.counts[subject]
    row = np.repeat(np.arange(pairs), counts)
    x, y = (subjects.regions.points[_ranges(subjects.starts[subject], counts)] - origin[row]).T
    for corner in range(4):
        start, edge = quads[:, corner], (quads[:, (corner + 1) % 4] - quads[:, corner]) * side[:, None]
        # Line a * x + b * y + c >= 0. Whole-number corners give exact values.
        a, b = -edge[:, 1], edge[:, 0]
        c = -(a * start[:, 0] + b * start[:, 1])
        distance = a[row] * x + b[row] * y + c[row]
        inside = distance >= 0
        following = _following(row)
        crossing = np.nonzero(inside != inside[following])[0]
        to = following[crossing]
        near, far = distance[crossing], distance[to]
        # Weighted with the whole distances, a crossing at a representable point is exact.
        cut_x = (near * x[to] - far * x[crossing]) / (near - far)
        cut_y = (near * y[to] - far * y[crossing]) / (near - far)
        inside = np.nonzero(inside)[0]
        # Every kept corner, and after the corner where a side begins to cross, the crossing.
        order = np.argsort(np.concatenate([2 * inside, 2 * crossing + 1]), kind="stable")
        x = np.concatenate([x[inside], cut_x])[order]
        y = np.concatenate([y[inside], cut_y])[order]
        row = np.concatenate([row[inside], row[crossing]])[order]
        if not len(row):
            return np.zeros(pairs)
    following = _following(row)
    return np.abs(np.bincount(row, weights=x * y[following] - x[following] * y, minlength=pairs)) * 0.5


def _following(row: np.ndarray) -> np.ndarray:
    """Index of the next corner of the same polygon, for corners sorted by polygon."""
    last = np.nonzero(np.append(row[1:] != row[:-1], True))[0]
    following = np.arange(1, len(row) + 1)
    following[last] = np.concatenate([[0], last[:-1] + 1])
    return following
