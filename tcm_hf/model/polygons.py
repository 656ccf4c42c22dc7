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
"""Geometry of text polygons: numpy arrays of shape `(n, 2)`, x to the right, y downwards, in pixels."""

import math
import warnings
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np


try:
    import shapely
except ImportError as error:  # pragma: no cover
    raise ImportError("tcm_hf needs shapely for polygons; install it with `pip install shapely`") from error


# Segments per quarter circle of a round join: the chord stays within 0.5 % of the offset distance.
ROUND_JOIN_SEGMENTS = 8

# Of annotations, in pixels: no image is that large, and lines that are sampled over more would take all memory.
MAX_COORDINATE = 10_000_000


def as_polygon(points, max_coordinate: float | None = None) -> np.ndarray:
    """
    Checks and converts the points of one polygon.

    Args:
        points (array-like of shape `(n, 2)` or flat `(2 * n,)`): Points in pixels, n >= 3.
        max_coordinate (`float`, *optional*): Largest value of a coordinate, whatever its sign; no limit by default.

    Returns:
        `np.ndarray`: float64 array of shape `(n, 2)`.

    Raises:
        ValueError: if there are fewer than three points, the shape is another one, or a coordinate is not finite or
            beyond `max_coordinate`.
    """
    polygon = np.asarray(points, dtype=np.float64)
    if polygon.ndim == 1 and polygon.size % 2 == 0:
        polygon = polygon.reshape(-1, 2)
    if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3:
        raise ValueError(f"a polygon needs at least 3 points as an (n, 2) array, got shape {np.shape(points)}")
    if not np.isfinite(polygon).all():
        raise ValueError("a polygon has a coordinate that is not finite (NaN or infinity); remove or repair it")
    if max_coordinate is not None and np.abs(polygon).max() > max_coordinate:
        raise ValueError(f"a polygon has a coordinate beyond {max_coordinate:,} pixels; remove or repair it")
    return polygon


def signed_area(polygon) -> float:
    """
    Area by the shoelace formula, with the sign of the orientation.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels.

    Returns:
        `float`: square pixels, positive when the points run clockwise as seen on screen (y down).
    """
    x, y = as_polygon(polygon).T
    # Differences to the first point: large offsets would otherwise cost digits. Its own two terms are 0 then.
    x, y = x - x[0], y - y[0]
    return float(0.5 * (x[:-1] * y[1:] - x[1:] * y[:-1]).sum())


def polygon_area(polygon) -> float:
    """Unsigned area in square pixels of a polygon of shape `(n, 2)`, by the shoelace formula."""
    return abs(signed_area(polygon))


def polygon_perimeter(polygon) -> float:
    """Length in pixels of the closed contour of a polygon of shape `(n, 2)`."""
    polygon = as_polygon(polygon)
    return float(np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1).sum())


def bounding_box(polygon) -> tuple[float, float, float, float]:
    """Upright bounding box `(xmin, ymin, xmax, ymax)` in pixels of a polygon of shape `(n, 2)`."""
    polygon = as_polygon(polygon)
    (xmin, ymin), (xmax, ymax) = polygon.min(axis=0), polygon.max(axis=0)
    return float(xmin), float(ymin), float(xmax), float(ymax)


def measure_polygons(polygons: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    Areas, perimeters and bounding boxes of many polygons at once.

    Args:
        polygons (`Sequence[np.ndarray]`): At least one array of shape `(n, 2)`, points in pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray, np.ndarray]`: float64 arrays of shape `(N,)`, `(N,)` and `(N, 4)`, with the values of
        [`polygon_area`], [`polygon_perimeter`] and [`bounding_box`].
    """
    counts = np.array([len(polygon) for polygon in polygons])
    starts = counts.cumsum() - counts
    points = np.concatenate(polygons).astype(np.float64)
    boxes = np.concatenate([np.minimum.reduceat(points, starts), np.maximum.reduceat(points, starts)], axis=1)
    following = np.arange(1, len(points) + 1)
    following[starts + counts - 1] = starts
    (x, y), (next_x, next_y) = points.T, points[following].T
    perimeters = np.add.reduceat(np.sqrt((next_x - x) ** 2 + (next_y - y) ** 2), starts)
    # Differences to the first point: large offsets would otherwise cost digits.
    first_x, first_y = np.repeat(points[starts], counts, axis=0).T
    areas = np.add.reduceat((x - first_x) * (next_y - first_y) - (next_x - first_x) * (y - first_y), starts)
    return np.abs(areas) / 2, perimeters, boxes


def _exteriors(geometry) -> list[np.ndarray]:
    """Outer rings, without the closing point, of every polygon inside a shapely geometry."""
    # A geometry collection may nest multipolygons, hence twice.
    parts = shapely.get_parts(shapely.get_parts(geometry))
    rings = [shapely.get_coordinates(part.exterior)[:-1] for part in parts if part.geom_type == "Polygon"]
    return [ring for ring in rings if len(ring) >= 3 and polygon_area(ring) > 0]


def valid_geometry(polygon):
    """
    Converts a polygon to a valid shapely geometry.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels.

    Returns:
        `shapely.Geometry`: the polygon itself when it is valid; otherwise everything that its contour encloses, as a
        polygon, a multipolygon or an empty geometry.
    """
    geometry = shapely.Polygon(as_polygon(polygon))
    if geometry.is_valid:
        return geometry
    parts = _exteriors(shapely.make_valid(geometry))
    # Filling the holes can make parts overlap: only their union is valid again.
    return shapely.union_all([shapely.make_valid(shapely.Polygon(part)) for part in parts])


def repair_polygon(polygon) -> list[np.ndarray]:
    """
    Splits a polygon that crosses or touches itself into valid ones.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels.

    Returns:
        `list[np.ndarray]`: float64 arrays of shape `(m, 2)`, without holes: the polygon itself when it is valid, one
        entry per areal part otherwise, an empty list when it encloses no area.
    """
    return _exteriors(valid_geometry(polygon))


def offset_in_whole_pixels(polygon, distance: float) -> list[np.ndarray]:
    """
    Moves the contour of a polygon with an integer clipper, with round joins: the rule of the published targets and of
    the post-processing of the released models.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels; the clipper cuts their decimals off.
        distance (`float`): Pixels; positive expands, negative shrinks.

    Returns:
        `list[np.ndarray]`: float64 arrays of shape `(m, 2)`, whole numbers: outer contours and, with the other sign of
        their [`signed_area`], those of holes.
    """
    try:
        import pyclipper  # here, so that detection with other settings works where it is missing
    except ImportError as error:
        raise ImportError(
            "tcm_hf needs pyclipper to offset polygons in whole pixels; install it with `pip install pyclipper`"
        ) from error
    clipper = pyclipper.PyclipperOffset()
    points = np.trunc(as_polygon(polygon)).astype(np.int64).tolist()
    clipper.AddPath(points, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    return [np.array(path, dtype=np.float64) for path in clipper.Execute(float(distance))]


def offset_polygon(polygon, distance: float, whole_pixels: bool = False) -> list[np.ndarray]:
    """
    Moves the contour of a polygon outwards or inwards, with round joins.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels. It is repaired first when it crosses itself.
        distance (`float`): Pixels; positive expands, negative shrinks.
        whole_pixels (`bool`, *optional*, defaults to `False`): Whether vertices are whole pixels, before and after, see
            [`offset_in_whole_pixels`].

    Returns:
        `list[np.ndarray]`: float64 arrays of shape `(m, 2)`, holes filled. Shrinking can give several parts, or none.
    """
    geometry = valid_geometry(polygon)
    if not whole_pixels:
        return _exteriors(shapely.buffer(geometry, float(distance), quad_segs=ROUND_JOIN_SEGMENTS))
    rings = [ring for part in _exteriors(geometry) for ring in offset_in_whole_pixels(part, distance)]
    return [ring for ring in rings if signed_area(ring) > 0]


def clip_polygon(polygon, width: float, height: float) -> list[np.ndarray]:
    """
    Cuts a polygon at the border of an image.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels.
        width (`float`): Width of the image; x is kept in `[0, width]`.
        height (`float`): Height of the image; y is kept in `[0, height]`.

    Returns:
        `list[np.ndarray]`: float64 arrays of shape `(m, 2)`: none when nothing lies inside, several when the border
        cuts the polygon into pieces.
    """
    xmin, ymin, xmax, ymax = bounding_box(polygon)
    if xmin >= 0 and ymin >= 0 and xmax <= width and ymax <= height:
        return repair_polygon(polygon)
    if xmax <= 0 or ymax <= 0 or xmin >= width or ymin >= height:
        return []
    parts = _exteriors(shapely.intersection(valid_geometry(polygon), shapely.box(0, 0, width, height)))
    # Intersection points carry rounding noise, and callers rely on the bounds.
    return [np.clip(part, 0, (width, height)) for part in parts]


def polygon_iou(a, b) -> float:
    """
    Intersection over union of two polygons.

    Args:
        a (`np.ndarray` of shape `(n, 2)`): Points in pixels; repaired first when the polygon crosses itself.
        b (`np.ndarray` of shape `(m, 2)`): As `a`.

    Returns:
        `float`: in [0, 1]; 0 when neither encloses an area.
    """
    a, b = valid_geometry(a), valid_geometry(b)
    intersection = shapely.intersection(a, b).area
    union = a.area + b.area - intersection
    return min(float(intersection / union), 1.0) if union > 0 else 0.0


def start_at_top_left(quad: np.ndarray) -> np.ndarray:
    """
    Rotates the order of a clockwise quad so that its points lie closest to those of its bounding box.

    Args:
        quad (`np.ndarray` of shape `(4, 2)`): Corners in pixels.

    Returns:
        `np.ndarray`: float64 array of shape `(4, 2)`.
    """
    points = quad.tolist()  # four points are quicker as plain numbers
    x, y = zip(*points)
    xmin, ymin, xmax, ymax = min(x), min(y), max(x), max(y)
    corners = ((xmin, ymin), (xmax, ymin), (xmax, ymax), (xmin, ymax))

    def cost(shift: int) -> tuple[float, float, float]:
        moved = points[shift:] + points[:shift]
        distance = sum((x - u) ** 2 + (y - v) ** 2 for (x, y), (u, v) in zip(moved, corners))
        # A square turned by 45 degrees has ties, resolved for the highest start rather than by rounding noise.
        return round(distance, 6), moved[0][1], moved[0][0]

    shift = min(range(4), key=cost)
    return np.array(points[shift:] + points[:shift])


def quads_at_top_left(quads: np.ndarray) -> np.ndarray:
    """
    [`start_at_top_left`] of many quads at once.

    Args:
        quads (`np.ndarray` of shape `(n, 4, 2)`): Corners in pixels, clockwise.

    Returns:
        `np.ndarray`: float64 array of shape `(n, 4, 2)`.
    """
    low, high = quads.min(axis=1), quads.max(axis=1)
    corners = np.stack([low, np.stack([high[:, 0], low[:, 1]], 1), high, np.stack([low[:, 0], high[:, 1]], 1)], axis=1)
    cost = np.stack(
        [((np.roll(quads, -shift, axis=1) - corners) ** 2).sum(axis=(1, 2)) for shift in range(4)], axis=1
    ).round(6)
    # Of equal ones the highest start, and then the one most to the left.
    best = np.ones(cost.shape, dtype=bool)
    for values in (cost, quads[:, :, 1], quads[:, :, 0]):
        values = np.where(best, values, np.inf)
        best = values == values.min(axis=1, keepdims=True)
    order = (best.argmax(axis=1)[:, None] + np.arange(4)) % 4
    return np.take_along_axis(quads, order[:, :, None], axis=1)


def minimum_area_quad(polygon) -> np.ndarray:
    """
    Rectangle of minimum area, at any angle, around a polygon.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels.

    Returns:
        `np.ndarray`: float64 array of shape `(4, 2)`, clockwise on screen from the top-left corner. Points on one line
        give a rectangle without width.
    """
    return minimum_area_quads([polygon])[0]


def minimum_area_quads(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """
    [`minimum_area_quad`] of many polygons at once.

    Args:
        polygons (`Sequence[np.ndarray]`): At least one array of shape `(n, 2)`, points in pixels.

    Returns:
        `np.ndarray`: float64 array of shape `(N, 4, 2)`.
    """
    polygons = [as_polygon(polygon) for polygon in polygons]
    owners = np.repeat(np.arange(len(polygons)), [len(polygon) for polygon in polygons])
    hulls = shapely.convex_hull(shapely.linestrings(np.concatenate(polygons), indices=owners))
    points, owners = shapely.get_coordinates(hulls, return_index=True)
    counts = np.bincount(owners, minlength=len(polygons))
    starts = counts.cumsum() - counts
    quads = np.empty((len(polygons), 4, 2))
    # Those of as many points at once: the calls would cost more than the work.
    for count in np.unique(counts):
        several = np.flatnonzero(counts == count)
        quads[several] = _quads_around_hulls(points[starts[several][:, None] + np.arange(count)])
    return quads_at_top_left(quads)


def _quads_around_hulls(hulls: np.ndarray) -> np.ndarray:
    """Rectangles of minimum area, clockwise, around closed convex hulls of shape `(N, n, 2)`."""
    origins = hulls[:, :1]
    if hulls.shape[1] == 1:
        return np.repeat(origins, 4, axis=1)
    edges = hulls[:, 1:] - hulls[:, :-1]
    lengths = np.hypot(edges[..., :1], edges[..., 1:])
    # A rectangle of minimum area has a side on an edge of the hull, so trying every edge is exact. shapely's
    # `minimum_rotated_rectangle` is three times as fast for one, but where two are as small it takes another one than the
    # published figures were made with: 3 of 1500 regions, with corners up to 11 pixels away.
    along = np.divide(edges, lengths, out=np.zeros_like(edges), where=lengths > 0)
    across = np.stack([-along[..., 1], along[..., 0]], axis=-1)
    centered = hulls - origins
    u, v = (centered @ axis.transpose(0, 2, 1) for axis in (along, across))
    u0, u1, v0, v1 = u.min(axis=1), u.max(axis=1), v.min(axis=1), v.max(axis=1)
    best = np.where(lengths[..., 0] > 0, (u1 - u0) * (v1 - v0), np.inf).argmin(axis=1)
    rows = np.arange(len(hulls))
    u0, u1, v0, v1 = (values[rows, best] for values in (u0, u1, v0, v1))
    sides = np.stack([u0, v0, u1, v0, u1, v1, u0, v1], axis=1).reshape(-1, 4, 2)
    return origins + sides @ np.stack([along[rows, best], across[rows, best]], axis=1)


def warn_of_limit(max_candidates: int) -> None:
    """Warns that decoding leaves out regions of an image."""
    # Without the number that is left out, so that it is said once and not for every image.
    warnings.warn(
        f"an image has more text than `max_candidates` ({max_candidates}) lets through and the rest is left out; raise "
        "it for dense pages",
        stacklevel=3,
    )


def check_settings(max_candidates: int, **numbers: float) -> None:
    """Raises a `ValueError` if `max_candidates` is no count, or one of the other settings of a decoder no finite number."""
    if not isinstance(max_candidates, Integral) or max_candidates < 1:
        raise ValueError(f"`max_candidates` must be at least 1 and whole, got {max_candidates!r}")
    for name, value in numbers.items():
        if not isinstance(value, Real) or not math.isfinite(value):
            raise ValueError(f"`{name}` must be a finite number, got {value!r}")


def order_clockwise(polygon) -> np.ndarray:
    """
    Orders the points clockwise as seen on screen, from the top-left or reading start.

    A quad starts at the corner that plays the top-left part of its bounding box. Any other polygon starts at the
    vertex closest to the top-left corner of its minimum-area rectangle. The points themselves stay as they are.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in pixels, in either direction from any start.

    Returns:
        `np.ndarray`: float64 array of shape `(n, 2)`.
    """
    return order_all_clockwise([polygon])[0]


def order_all_clockwise(polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
    """
    [`order_clockwise`] of many polygons at once.

    Args:
        polygons (`Sequence[np.ndarray]`): Arrays of shape `(n, 2)`, points in pixels.

    Returns:
        `list[np.ndarray]`: float64 arrays of shape `(n, 2)`.
    """
    ordered = [as_polygon(polygon) for polygon in polygons]
    ordered = [polygon[::-1] if signed_area(polygon) < 0 else polygon for polygon in ordered]
    quads = [index for index, polygon in enumerate(ordered) if len(polygon) == 4]
    others = [index for index, polygon in enumerate(ordered) if len(polygon) != 4]
    if quads:
        for index, quad in zip(quads, quads_at_top_left(np.stack([ordered[index] for index in quads]))):
            ordered[index] = quad
    if others:
        for index, quad in zip(others, minimum_area_quads([ordered[index] for index in others])):
            polygon = ordered[index]
            start = int(np.argmin(((polygon - quad[0]) ** 2).sum(axis=1)))
            ordered[index] = np.concatenate([polygon[start:], polygon[:start]])
    return ordered


def resample_polygon(polygon, n: int) -> np.ndarray:
    """
    Places points at equal distances along the closed contour of a polygon.

    Args:
        polygon (`np.ndarray` of shape `(m, 2)`): Points in pixels.
        n (`int`): Number of points wanted, at least 3.

    Returns:
        `np.ndarray`: float64 array of shape `(n, 2)`; its first point is that of `polygon`, the direction is kept.

    Raises:
        ValueError: if `n` is below 3.
    """
    if n < 3:
        raise ValueError(f"a polygon needs at least 3 points, got n={n}")
    closed = as_polygon(polygon)
    closed = np.concatenate([closed, closed[:1]])
    travelled = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    wanted = np.arange(n) * (travelled[-1] / n)
    return np.stack([np.interp(wanted, travelled, closed[:, axis]) for axis in range(2)], axis=1)


def reading_order(polygons) -> list[int]:
    """
    Sorts regions line by line from top to bottom, left to right inside a line.

    A region continues a line when its vertical extent and that of the line's right-most region share more than half
    of the smaller one; comparing neighbors only lets a line slope. Columns are not told apart.

    Args:
        polygons (list of `np.ndarray` of shape `(n, 2)`): Regions in pixels.

    Returns:
        `list[int]`: indices into `polygons`, in reading order.
    """
    boxes = [bounding_box(polygon) for polygon in polygons]
    lines: list[list[int]] = []
    for index in sorted(range(len(boxes)), key=lambda i: (boxes[i][0], boxes[i][1])):
        _, top, _, bottom = boxes[index]
        best, best_share = None, 0.5
        for line in lines:
            _, line_top, _, line_bottom = boxes[line[-1]]
            smaller = min(bottom - top, line_bottom - line_top)
            share = (min(bottom, line_bottom) - max(top, line_top)) / smaller if smaller > 0 else 0.0
            if share > best_share:
                best, best_share = line, share
        if best is None:
            lines.append([index])
        else:
            best.append(index)
    lines.sort(key=lambda line: sum(boxes[i][1] + boxes[i][3] for i in line) / len(line))
    return [index for line in lines for index in line]
