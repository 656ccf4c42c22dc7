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
"""Targets of the FCE detector: text regions, their center regions and the Fourier coefficients of their contours."""

import cv2
import numpy as np

from ..model.polygons import (
    MAX_COORDINATE,
    as_polygon,
    polygon_area,
    polygon_perimeter,
    repair_polygon,
    resample_polygon,
)
from .views import gray_view


# Pixels per cell of the three levels; the coarsest is also that of the matching map.
STRIDES = (8, 16, 32)

# Share of the image's height that the longer side of a text takes, for every level.
LEVEL_RANGES = ((0.0, 0.4), (0.3, 0.7), (0.6, 1.0))

# Points of a contour that its Fourier transform sees.
CONTOUR_SAMPLES = 400

# Beyond it the samples could not tell frequencies apart.
MAX_DEGREE = CONTOUR_SAMPLES // 4

# Among this many samples next to a text's vertical axis, the topmost is where its contour starts.
START_CANDIDATES = 8

# Cells between the points of the two long sides from which a center region is built.
CENTER_STEP = 4.0

# Annotators set up to about this many points; outlines with more are traced.
MAX_ANNOTATED_POINTS = 20

_EPS = 1e-8


def _cells(polygon: np.ndarray) -> np.ndarray:
    """Whole cells that hold the vertices. Rounded towards zero, as in the published targets."""
    return np.trunc(polygon).astype(np.int32)


def _window(cells: np.ndarray, height: int, width: int) -> tuple[int, int, int, int] | None:
    """The part of the map, `(left, top, right, bottom)`, that a polygon of integer vertices can touch."""
    (left, top), (right, bottom) = cells.min(axis=0), cells.max(axis=0) + 1
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    return (left, top, right, bottom) if left < right and top < bottom else None


def contour_coefficients(polygon: np.ndarray, degree: int) -> np.ndarray:
    """
    Fourier coefficients of a closed contour (FCE, eq. 2-4), made unique by starting at the point above the center and
    running clockwise on screen.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Points in any unit, in either direction.
        degree (`int`): K; the coefficients are those of the frequencies -K to K.

    Returns:
        `np.ndarray`: complex128 array of shape `(2 * degree + 1,)`, in the polygon's unit. The middle one is the
        contour's center.
    """
    if len(polygon) > CONTOUR_SAMPLES // 4:
        points = resample_polygon(polygon, CONTOUR_SAMPLES)
    else:
        # Every edge gets its share of the samples, rounded down, so that vertices are samples too. In single precision
        # and with ties going to the later sample, as in the published targets: another start by one sample turns all
        # coefficients.
        polygon = polygon.astype(np.float32)
        edges = np.roll(polygon, -1, axis=0) - polygon
        lengths = np.hypot(*edges.T.astype(np.float64))
        counts = (lengths / (lengths.sum() + _EPS) * CONTOUR_SAMPLES).astype(np.int64)
        edge = np.repeat(np.arange(len(polygon)), counts)
        step = np.arange(len(edge)) - (np.cumsum(counts) - counts)[edge]
        points = polygon[edge] + edges[edge] * (step / counts[edge]).astype(np.float32)[:, None]

    centered = points - points.mean(axis=0)
    central = len(points) - 1 - np.argsort(np.abs(centered[::-1, 0]), kind="stable")[:START_CANDIDATES]
    start = int(central[np.argmin(centered[central, 1])])
    points = np.concatenate([points[start:], points[:start]]).astype(np.float64)

    spectrum = np.fft.fft(points[:, 0] + 1j * points[:, 1]) / len(points)
    coefficients = np.concatenate([spectrum[-degree:], spectrum[: degree + 1]])
    # A contour that runs the other way has its energy in the negative frequencies.
    for k in range(1, degree + 1):
        forward, backward = abs(coefficients[degree + k]), abs(coefficients[degree - k])
        if forward != backward:
            return coefficients if forward > backward else coefficients[::-1]
    return coefficients


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles in 0..pi between the rows of two arrays of vectors."""
    norms = (np.hypot(*a.T) + _EPS) * (np.hypot(*b.T) + _EPS)
    return np.arccos(np.clip((a * b).sum(axis=1) / norms, -1.0, 1.0))


def _end_edges(polygon: np.ndarray) -> tuple[int, int]:
    """
    The two edges, given by their first vertices, at which a text begins and ends.

    A quad's ends are the more upright pair of its sides, unless these are more than twice as long as the others. Of
    any other polygon they are edges at which the contour turns back, far from the center and not next to each other;
    the weights of these signs are those of the published targets.
    """
    n = len(polygon)
    edges = np.roll(polygon, -1, axis=0) - polygon
    if n == 4:
        slopes = np.abs(edges[:, 1]) / (np.abs(edges[:, 0]) + _EPS)
        lengths = np.hypot(*edges.T)
        upright, flat = ((3, 1), (0, 2)) if slopes[[0, 2]].sum() < slopes[[1, 3]].sum() else ((0, 2), (3, 1))
        return flat if lengths[list(upright)].sum() > 2 * lengths[list(flat)].sum() else upright

    before, after = np.roll(edges, 1, axis=0), np.roll(edges, -1, axis=0)
    distances = np.hypot(*(polygon - polygon.mean(axis=0)).T)
    distances = np.maximum(distances, np.roll(distances, -1))
    scores = 0.5 * (_angles(edges, before) + _angles(edges, after)) / np.pi
    scores += 0.15 * _angles(before, after) / np.pi
    scores += 0.35 * distances / (distances.max() + _EPS)
    if n % 2 == 0:
        # Annotators go along one long side and back along the other.
        scores[[n // 2 - 1, n - 1]] += 0.1
    # The pair with the best sum, preferring ends that are opposite each other along the contour.
    gaps = np.arange(2, n - 1)
    opposite = np.exp(-0.5 * ((np.linspace(0, 1, n - 3) - 0.5) / 0.5) ** 2)
    pairs = scores[:, None] + 0.3 * opposite / opposite.max() * scores[(np.arange(n)[:, None] + gaps) % n]
    first, gap = np.unravel_index(np.argmax(pairs), pairs.shape)
    return int(first), int((first + gaps[gap]) % n)


def _resample_line(points: np.ndarray, n: int) -> np.ndarray:
    """`n` points at equal distances along an open line, its ends included."""
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0.0, travelled[-1], n)
    return np.stack([np.interp(at, travelled, points[:, 0]), np.interp(at, travelled, points[:, 1])], axis=1)


def _center_boxes(polygon: np.ndarray, shrink_ratio: float) -> np.ndarray:
    """Quads, an array of shape `(m, 4, 2)`, that tile the band around a text's center line."""
    if len(polygon) > MAX_ANNOTATED_POINTS:
        # The ends show in corners, which a traced outline has everywhere: a tenth of its thickness is smoothed away.
        tolerance = 0.2 * polygon_area(polygon) / polygon_perimeter(polygon)
        corners = cv2.approxPolyDP(polygon.astype(np.float32), tolerance, True)[:, 0].astype(np.float64)
        polygon = corners if len(corners) > 2 else polygon
    if len(polygon) == 3:
        # The tip opposite the shortest side stands for a side without length.
        edges = np.roll(polygon, -1, axis=0) - polygon
        tip = (int(np.argmin(np.hypot(*edges.T))) + 2) % 3
        polygon = np.insert(np.roll(polygon, -tip, axis=0), 0, polygon[tip], axis=0)
        head, tail = 0, 2
    else:
        head, tail = _end_edges(polygon)
    n = len(polygon)
    one_side = polygon[np.arange(head + 1, head + 2 + (tail - head - 1) % n) % n]
    other_side = polygon[np.arange(tail + 1, tail + 2 + (head - tail - 1) % n) % n]
    length = sum(np.hypot(*np.diff(side, axis=0).T).sum() for side in (one_side, other_side)) / 2
    samples = max(int(length / CENTER_STEP) + 1, 3)
    one_side, other_side = _resample_line(one_side, samples), _resample_line(other_side, samples)[::-1]
    # A quarter of the text's height is left out at either end.
    skip_head, skip_tail = (int(np.hypot(*(one_side[i] - other_side[i])) / 4 // CENTER_STEP) for i in (0, -1))
    if samples > skip_head + skip_tail + 2:
        one_side, other_side = (side[skip_head : samples - skip_tail] for side in (one_side, other_side))
    center = (one_side + other_side) / 2
    upper = center + (one_side - center) * shrink_ratio
    lower = center + (other_side - center) * shrink_ratio
    return np.stack([upper[:-1], upper[1:], lower[1:], lower[:-1]], axis=1)


def _fill(canvas: np.ndarray, cells: np.ndarray) -> None:
    """Sets the cells of one polygon to 1; `cells` are integer vertices relative to the canvas."""
    cv2.fillPoly(canvas, [np.ascontiguousarray(cells, dtype=np.int32)], 1)


def _draw_text(maps: np.ndarray, polygon: np.ndarray, degree: int, shrink_ratio: float) -> None:
    """Draws one text, in cells, into the maps of one level."""
    cells = _cells(polygon)
    window = _window(cells, *maps.shape[1:])
    if window is None:
        return
    left, top, right, bottom = window
    region = np.zeros((bottom - top, right - left), dtype=np.uint8)
    _fill(region, cells - (left, top))
    rows, columns = np.nonzero(region)
    rows, columns = rows + top, columns + left
    maps[0, rows, columns] = 1
    coefficients = contour_coefficients(polygon, degree)
    real, imaginary = 3, 3 + 2 * degree + 1
    maps[real:imaginary, rows, columns] = coefficients.real[:, None]
    maps[imaginary:, rows, columns] = coefficients.imag[:, None]
    # The center is told relative to the cell that tells it.
    maps[real + degree, rows, columns] -= columns
    maps[imaginary + degree, rows, columns] -= rows

    region[:] = 0
    for box in _center_boxes(polygon, shrink_ratio):
        _fill(region, _cells(box) - (left, top))
    rows, columns = np.nonzero(region)
    maps[1, rows + top, columns + left] = 1


def build_fce_targets(
    polygons,
    ignore,
    height: int,
    width: int,
    *,
    fourier_degree: int = 5,
    center_shrink_ratio: float = 0.3,
    level_ranges=LEVEL_RANGES,
) -> dict[str, np.ndarray]:
    """
    Builds the training maps of the FCE detector for one image: three levels with cells of 8, 16 and 32 pixels.

    A text belongs to every level whose range holds the longer side of its bounding box as a share of `height`; one that
    is larger than all ranges belongs to the coarsest. The released models' ranges are the default (ICDAR 2015) and
    `((0, 0.25), (0.2, 0.65), (0.55, 1))` (CTW1500).

    Args:
        polygons (list of array-like of shape `(n, 2)`): Text regions in pixels of the (augmented) image, with any
            number of points in either direction. They may reach over the image border.
        ignore (list of `bool`): One flag per polygon, true for text whose detection is neither wanted nor punished.
            Polygons without area are ignored, too.
        height (`int`): Height of the image in pixels.
        width (`int`): Width of the image in pixels.
        fourier_degree (`int`, *optional*, defaults to 5): K, the highest frequency of the contours.
        center_shrink_ratio (`float`, *optional*, defaults to 0.3): Width of the center region as a share of the text's,
            in (0, 1].
        level_ranges (three pairs of `float`, *optional*, defaults to `((0, 0.4), (0.3, 0.7), (0.6, 1))`):
            Sizes, exclusive, that the levels are for.

    Returns:
        `dict[str, np.ndarray]`: `level_maps_8`, `level_maps_16` and `level_maps_32`, float32 of shape
        `(3 + 2 * (2 * K + 1), ceil(height / stride), ceil(width / stride))`. Their channels are the text region, the
        center region, the cells that count (0 = ignored), and the real and then the imaginary parts of the Fourier
        coefficients in cells, from frequency -K to K. `matching_maps`, uint8 of shape `(2, ceil(height / 32),
        ceil(width / 32))`: the region of texts of all sizes, and the cells that count.

    Raises:
        ValueError: if the lists differ in length, a polygon is malformed or a setting is out of range.
    """
    if len(polygons) != len(ignore):
        raise ValueError(f"`ignore` needs one flag per polygon: got {len(ignore)} flags for {len(polygons)} polygons")
    if height < 1 or width < 1:
        raise ValueError(f"`height` and `width` must be at least 1, got {height} and {width}")
    if not 1 <= fourier_degree <= MAX_DEGREE:
        raise ValueError(f"`fourier_degree` must be in 1..{MAX_DEGREE}, got {fourier_degree}")
    if not 0 < center_shrink_ratio <= 1:
        raise ValueError(f"`center_shrink_ratio` must be in (0, 1], got {center_shrink_ratio}")
    level_ranges = np.asarray(level_ranges, dtype=np.float64)
    if level_ranges.shape != (3, 2) or not (level_ranges[:, 0] < level_ranges[:, 1]).all():
        raise ValueError(f"`level_ranges` needs three pairs (low, high), got {level_ranges.tolist()}")

    channels = 3 + 2 * (2 * fourier_degree + 1)
    levels = [np.zeros((channels, -(-height // s), -(-width // s)), dtype=np.float32) for s in STRIDES]
    for maps in levels:
        maps[2] = 1
    matching = np.zeros((2, *levels[-1].shape[1:]), dtype=np.uint8)
    ignored_matching = np.zeros_like(matching[0])

    for index, (points, ignored) in enumerate(zip(polygons, ignore)):
        try:
            polygon = as_polygon(points, MAX_COORDINATE)
        except ValueError as error:
            raise ValueError(f"polygons[{index}]: {error}") from None
        ignored = bool(ignored) or (polygon_area(polygon) == 0 and not repair_polygon(polygon))
        pixels = _cells(polygon)
        size = (pixels.max(axis=0) - pixels.min(axis=0) + 1).max() / height
        chosen = (level_ranges[:, 0] < size) & (size < level_ranges[:, 1])
        if size >= level_ranges[:, 1].max():
            chosen[-1] = True
        for level in np.flatnonzero(chosen):
            scaled = polygon / STRIDES[level]
            if ignored:
                blocked = np.zeros(levels[level].shape[1:], dtype=np.uint8)
                _fill(blocked, _cells(scaled))
                levels[level][2][blocked.view(bool)] = 0
            else:
                _draw_text(levels[level], scaled, fourier_degree, center_shrink_ratio)
        _fill(ignored_matching if ignored else matching[0], _cells(polygon / STRIDES[-1]))
    matching[1] = 1 - ignored_matching
    return {**{f"level_maps_{stride}": maps for stride, maps in zip(STRIDES, levels)}, "matching_maps": matching}


def draw_fce_targets(maps: dict[str, np.ndarray], height: int, width: int) -> list[np.ndarray]:
    """
    Images of the targets: text and, brighter, its center on the three levels. Cells that the loss skips are reddish.

    Args:
        maps (`dict[str, np.ndarray]`): of [`build_fce_targets`].
        height, width (`int`): size of the image.

    Returns:
        `list[np.ndarray]`: RGB uint8 of shape (height, width, 3).
    """
    views = []
    for stride in STRIDES:
        text, center, counts = maps[f"level_maps_{stride}"][:3]
        view = gray_view(text * 120 + (center > 0) * 135, counts)
        views.append(view.repeat(stride, axis=0).repeat(stride, axis=1)[:height, :width])
    return views
