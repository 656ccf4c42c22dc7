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
The shapes in which decoders describe a text: its raw contour, a neat outline, a rotated or an upright rectangle.

A neat outline is what people draw: a straight word has four corners, a bent one its upper edge and then its lower one.
"""

from collections.abc import Sequence

import numpy as np

from .polygons import (
    as_polygon,
    bounding_box,
    minimum_area_quad,
    minimum_area_quads,
    order_all_clockwise,
    order_clockwise,
    polygon_area,
    polygon_iou,
    quads_at_top_left,
    start_at_top_left,
)


try:
    import cv2
    import shapely
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "tcm_hf needs OpenCV and shapely for outlines; `pip install opencv-python-headless shapely`"
    ) from error


# Shapes in which decoders describe a text.
SHAPES = ("auto", "polygon", "quad", "box")

# Most points of a neat outline.
MAX_POINTS = 16
# Contours that fill less of their convex hull may be bent; a round blob fills 0.98, a word bent by a tenth of its
# height 0.95.
STRAIGHT_CONVEXITY = 0.96
# Share of the smallest rectangle around a word that a straight one fills; its corners may be round.
STRAIGHT_SHARE = 0.8
# How far the middle line of a bent word leaves a straight one, in thicknesses, and how many thicknesses it is long.
# Both were chosen on validation photos and rendered bent words; letters that stick out move the middle line by less.
LEAST_BEND = 0.1
LEAST_LENGTH = 2.0
# How far the edges of an outline may be from those of the contour, in thicknesses, before they get another point.
EDGE_TOLERANCE = 0.05
# A quadrilateral takes the place of a rectangle around a contour where it is smaller by this share.
PERSPECTIVE_GAIN = 0.03
# Contours that share less with a rectangle or a ribbon are neither: they keep their own form, in few points.
LEAST_OVERLAP = 0.6

# Points of a contour among which the ends of a bent word are looked for, and points of each of its edges.
RING_POINTS = 64
EDGE_POINTS = 24


def _opposite_points() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    For every pair of points of a ring that may be the two ends of a word, eight points on one side between them and those
    opposite on the other side, as positions; and the pairs, each as the first end and the steps to the second one.
    """
    first, steps = (
        grid.reshape(-1, 1) for grid in np.mgrid[0:RING_POINTS, RING_POINTS * 3 // 8 : RING_POINTS // 2 + 1]
    )
    share = np.arange(1, 9) / 9
    one = (first + np.rint(steps * share).astype(int)) % RING_POINTS
    other = (first - np.rint((RING_POINTS - steps) * share).astype(int)) % RING_POINTS
    return one, other, np.concatenate([first, steps], axis=1)


def _hat_functions(count: int) -> np.ndarray:
    """Weights of `count` vertices at equal distances in each of `EDGE_POINTS` points of the line through them."""
    place = np.linspace(0, count - 1, EDGE_POINTS)[:, None]
    return np.maximum(0, 1 - np.abs(place - np.arange(count)))


ONE_SIDE, OTHER_SIDE, END_PAIRS = _opposite_points()
# By the number of vertices: the line through them, and those whose line fits best to points.
LINES = {count: _hat_functions(count) for count in range(2, MAX_POINTS // 2 + 1)}
FITS = {count: np.linalg.pinv(line) for count, line in LINES.items()}
# Where the sides of a quadrilateral are fitted: away from the corners, which are round, as a share of the side's length.
MIDDLE_OF_SIDE = np.linspace(-0.3, 0.3, 7)


def check_shape(shape: str) -> None:
    """Raises a `ValueError` if `shape` is none of `SHAPES`."""
    if shape not in SHAPES:
        raise ValueError(f"`shape` must be one of {SHAPES}, got {shape!r}")


def outline_in_shape(polygon, shape: str) -> np.ndarray:
    """
    A region's outline in the shape that is asked for.

    Args:
        polygon (array-like of shape `(n, 2)`): Outline in pixels.
        shape (`str`): `"auto"` (see [`neat_outline`]), `"polygon"` (as it is), `"quad"` (minimum-area rectangle at any
            angle) or `"box"` (upright rectangle).

    Returns:
        `np.ndarray`: outline of shape `(n, 2)` or `(4, 2)`, clockwise from the top-left.
    """
    if shape == "auto":
        return neat_outline(polygon)
    if shape == "quad":
        return minimum_area_quad(polygon)
    if shape == "box":
        xmin, ymin, xmax, ymax = bounding_box(polygon)
        return np.array([[xmin, ymin], [xmax, ymin], [xmax, ymax], [xmin, ymax]])
    return order_clockwise(polygon)


def outlines_in_shape(polygons: Sequence[np.ndarray], shape: str) -> list[np.ndarray]:
    """[`outline_in_shape`] of many regions, which is several times as fast as one by one."""
    if shape == "auto":
        return neat_outlines(polygons)
    if shape == "polygon":
        return order_all_clockwise(polygons)
    if shape == "quad" and len(polygons):
        return list(minimum_area_quads(polygons))
    return [outline_in_shape(polygon, shape) for polygon in polygons]


def outline_in_image(polygon, shape: str, width: float, height: float) -> np.ndarray:
    """
    The outline of a region that lies in an image, moved onto the image's border where it reaches beyond.

    Args:
        polygon (array-like of shape `(n, 2)`): Outline in pixels, inside of the image.
        shape (`str`): See [`outline_in_shape`].
        width (`float`): Width of the image in pixels.
        height (`float`): Height of the image in pixels.

    Returns:
        `np.ndarray`: float64 array of shape `(m, 2)`, with as many points as the shape promises.
    """
    outline = np.clip(outline_in_shape(polygon, shape), 0, (width, height))
    if shape == "auto" and len(outline) > 4 and not shapely.is_valid(shapely.Polygon(outline)):
        # Bent edges can fold up on the border; the corners of a rectangle do not.
        outline = np.clip(minimum_area_quad(polygon), 0, (width, height))
    return outline


def neat_outline(polygon) -> np.ndarray:
    """
    The outline of a text in few points.

    A straight text is a quadrilateral of the same area: a rectangle at any angle, or, where the contour is narrower at
    one end or slanted, one that follows it. A bent text is its upper edge and then its lower one, with as many points
    each as its bend needs. A region that is neither, such as several words that grew together, keeps its contour,
    simplified.

    Args:
        polygon (array-like of shape `(n, 2)`): Contour in pixels that does not cross itself.

    Returns:
        `np.ndarray`: float64 array of shape `(m, 2)`, clockwise on screen, m even and from 4 to 16. Four corners start at
        the top-left one. The edges of a bent text start at its left end where it is wider than high, and otherwise at its
        upper end: first the edge that is the upper one in this direction, to the other end, then the lower one back.
    """
    return neat_outlines([polygon])[0]


def neat_outlines(polygons: Sequence[np.ndarray]) -> list[np.ndarray]:
    """
    [`neat_outline`] of many contours: one by one only what is bent, and all straight ones at once.

    Args:
        polygons (`Sequence` of array-likes of shape `(n, 2)`): Contours in pixels.

    Returns:
        `list[np.ndarray]`: float64 arrays of shape `(m, 2)`.
    """
    outlines: list[np.ndarray] = []
    straight: list[tuple] = []
    for index, polygon in enumerate(polygons):
        polygon = as_polygon(polygon)
        origin = polygon[0]
        # Small numbers, since OpenCV calculates in single precision.
        polygon = polygon - origin
        contour = polygon.astype(np.float32)
        area = cv2.contourArea(contour, oriented=True)
        if area < 0:
            area, polygon, contour = -area, polygon[::-1], contour[::-1].copy()
        hull = cv2.convexHull(contour)
        rectangle = cv2.minAreaRect(hull)
        outline = None
        if not area > 1e-6 * rectangle[1][0] * rectangle[1][1]:
            outline = minimum_area_quad(polygon)
        elif area < STRAIGHT_CONVEXITY * cv2.contourArea(hull):
            outline = _bent_outline(polygon, area / (rectangle[1][0] * rectangle[1][1]))
            outline = None if outline is None else order_outline(outline)
        if outline is None:
            straight.append((index, origin, contour, area, hull[:, 0], rectangle))
        outlines.append(polygon if outline is None else outline + origin)
    if straight:
        indices, origins, contours, areas, hulls, rectangles = zip(*straight)
        quads, wholes = _straight_outlines(np.array(areas), hulls, rectangles)
        quads = quads_at_top_left(quads + np.array(origins)[:, None])
        for index, origin, contour, area, whole, quad in zip(indices, origins, contours, areas, wholes, quads):
            simplified = _simplified(contour) if area < LEAST_OVERLAP * whole else None
            outlines[index] = quad if simplified is None else order_outline(simplified) + origin
    return outlines


def order_outline(outline: np.ndarray) -> np.ndarray:
    """
    Lets a neat outline start where reading does, see [`neat_outline`]: needed after it was scaled unevenly.

    Args:
        outline (`np.ndarray` of shape `(n, 2)`): Clockwise; four corners, or the edges of a bent text from one of its ends.

    Returns:
        `np.ndarray`: float64 array of shape `(n, 2)`, the same points.
    """
    outline = np.asarray(outline, dtype=np.float64)
    count = len(outline)
    if count == 4:
        return start_at_top_left(outline)
    across, down = outline[count // 2 - 1] + outline[count // 2] - outline[0] - outline[-1]
    backwards = across < 0 if abs(across) >= abs(down) else down < 0
    return np.roll(outline, -(count // 2), axis=0) if backwards else outline


def _straight_outlines(areas: np.ndarray, hulls: Sequence[np.ndarray], rectangles) -> tuple[np.ndarray, np.ndarray]:
    """
    Quadrilaterals of the given areas for convex hulls (of shape `(n, 2)`) with their rectangles (of `cv2.minAreaRect`):
    clockwise corners of shape `(hulls, 4, 2)`, and the areas of what is around the hulls.
    """
    centers, sizes, angles = (np.array(values, dtype=np.float64) for values in zip(*rectangles))
    axes = np.exp(1j * np.radians(angles))  # of the rectangle's first side; a quarter turn further is the other
    centers = centers[:, 0] + 1j * centers[:, 1]
    counts = np.array([len(hull) for hull in hulls])
    starts = counts.cumsum() - counts
    owner = np.repeat(np.arange(len(hulls)), counts)
    points = np.concatenate(hulls).astype(np.float64)
    points = (points[:, 0] + 1j * points[:, 1] - centers[owner]) * axes[owner].conjugate()
    half = sizes / 2
    quads = np.stack([-half[:, 0] - 1j * half[:, 1], half[:, 0] - 1j * half[:, 1]], axis=1)
    quads = np.concatenate([quads, -quads], axis=1)
    wholes = sizes.prod(axis=1)
    fitted, fitted_wholes = _fitted_quads(points, starts, owner, sizes)
    perspective = fitted_wholes < (1 - PERSPECTIVE_GAIN) * wholes
    quads[perspective], wholes[perspective] = fitted[perspective], fitted_wholes[perspective]
    # Of what fills little of it, an equal area in the middle would tell even less.
    quads = (
        _shrunk_to(quads, np.where(areas < LEAST_OVERLAP * wholes, wholes, areas)) * axes[:, None] + centers[:, None]
    )
    return np.stack([quads.real, quads.imag], axis=-1), wholes


def _fitted_quads(
    points: np.ndarray, starts: np.ndarray, owner: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """
    Quadrilaterals around convex hulls whose sides have the directions of the middles of the hulls' sides.

    Args:
        points (complex `np.ndarray`): The points of all hulls, each in the axes of its rectangle.
        starts (`np.ndarray`): The place of each hull's first point.
        owner (`np.ndarray`): The hull of each point.
        sizes (`np.ndarray` of shape `(hulls, 2)`): Sides of the rectangles.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: complex array of shape `(hulls, 4)`, clockwise, and areas; infinite where a
        quadrilateral is not convex.
    """
    following = np.arange(1, len(points) + 1)
    following[np.append(starts[1:], len(points)) - 1] = starts
    steps = points[following] - points
    turn = np.sign(np.add.reduceat((points.conjugate() * points[following]).imag, starts))[owner]
    steps = np.stack([steps.real, steps.imag]) * turn  # clockwise
    places = np.stack([points.real, points.imag])
    sides = []
    # By axis: along 0, the upper and the lower side are where a clockwise contour goes on and back; along 1, left and right.
    for axis, sign, outermost in ((0, 1, np.maximum), (0, -1, np.minimum), (1, -1, np.maximum), (1, 1, np.minimum)):
        u, v, du, dv = places[axis], places[1 - axis], steps[axis], steps[1 - axis]
        at = MIDDLE_OF_SIDE * sizes[:, axis, None]
        belongs = sign * du > 1e-4 * sizes[owner, axis]
        tangent = np.divide(dv, du, out=np.zeros_like(du), where=belongs)
        # A convex contour is the outermost of the lines through its edges.
        heights = v[:, None] + tangent[:, None] * (at[owner] - u[:, None])
        heights = np.where(belongs[:, None], heights, -np.inf if outermost is np.maximum else np.inf)
        heights = outermost.reduceat(heights, starts, axis=0)
        with np.errstate(invalid="ignore"):
            slope = (at * heights).sum(axis=1) / (at * at).sum(axis=1)
        slope = np.where(np.isfinite(slope), slope, 0.0)
        # As far out as the contour reaches in this direction.
        reach = np.minimum if outermost is np.maximum else np.maximum
        sides.append((reach.reduceat(v - slope[owner] * u, starts), slope))
    corners = []
    # The first two sides are v = offset + slope * u, the others u = offset + slope * v.
    for (offset, slope), (other_offset, other_slope) in (
        (sides[i], sides[j]) for i, j in ((0, 2), (0, 3), (1, 3), (1, 2))
    ):
        v = (offset + slope * other_offset) / np.maximum(1 - slope * other_slope, 0.1)
        corners.append(other_offset + other_slope * v + 1j * v)
    quads = np.stack(corners, axis=1)
    edges = np.roll(quads, -1, axis=1) - quads
    convex = ((np.roll(edges, 1, axis=1).conjugate() * edges).imag > 0).all(axis=1)
    areas = 0.5 * (quads.conjugate() * np.roll(quads, -1, axis=1)).imag.sum(axis=1)
    return quads, np.where(convex, areas, np.inf)


def _shrunk_to(quads: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Moves the sides of convex, clockwise quadrilaterals (complex) inwards, by one distance each, to have the areas."""
    edges = np.roll(quads, -1, axis=1) - quads
    perimeters = np.abs(edges).sum(axis=1)
    directions = edges / np.abs(edges)
    # Turns at the corners, from the side before to the side after; of each, the tangent of the half.
    turns = directions * np.roll(directions, 1, axis=1).conjugate()
    tangents = turns.imag / (1 + turns.real)
    wholes = 0.5 * (quads.conjugate() * np.roll(quads, -1, axis=1)).imag.sum(axis=1)
    # With its sides moved by x, an area is whole - perimeter * x + x * x * sum(tangents).
    factors = tangents.sum(axis=1)
    roots = np.maximum(perimeters**2 - 4 * factors * np.maximum(wholes - areas, 0), 0)
    distances = (perimeters - np.sqrt(roots)) / (2 * factors)
    return quads + distances[:, None] * directions * (tangents + 1j)


def _bent_outline(polygon: np.ndarray, least_overlap: float) -> np.ndarray | None:
    """
    Upper and lower edge of a bent text of even thickness; `None` where a clockwise contour is none, or where the outline
    shares no more than `least_overlap` with it.
    """
    contour = polygon[:, 0] + 1j * polygon[:, 1]
    edges = _bent_edges(contour)
    if edges is None:
        return None
    one, other, thickness = edges
    for count in range(3, MAX_POINTS // 2 + 1):
        fits = [FITS[count] @ edge for edge in (one, other)]
        errors = [np.abs(LINES[count] @ fit - edge).max() for fit, edge in zip(fits, (one, other))]
        if max(errors) <= EDGE_TOLERANCE * thickness:
            break
    outline = _as_points(np.concatenate([fits[0], fits[1][::-1]]))
    if not shapely.is_valid(shapely.Polygon(outline)):
        return None
    return outline if polygon_iou(outline, polygon) > max(least_overlap, LEAST_OVERLAP) else None


def text_edges(polygon) -> tuple[np.ndarray, np.ndarray]:
    """
    The upper and the lower edge of a text, from its outline alone.

    A straight word has the edges of its four corners, or of the smallest rectangle around it; a bent one those between its
    ends, which are where its contour turns around.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): the outline in pixels.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: two lines of shape `(m, 2)`, both from where reading begins: from left to right, or
        downwards where the text is higher than wide and bent.

    Example:

    >>> from tcm_hf.model.outlines import text_edges

    >>> upper, lower = text_edges([[80, 30], [78, 42], [18, 32], [20, 20]])
    >>> upper.tolist(), lower.tolist()
    ([[20.0, 20.0], [80.0, 30.0]], [[18.0, 32.0], [78.0, 42.0]])
    """
    polygon = order_clockwise(polygon)
    quad = polygon if len(polygon) == 4 else minimum_area_quad(polygon)
    edges = None
    if len(polygon) != 4 and polygon_area(polygon) < STRAIGHT_SHARE * polygon_area(quad):
        edges = _bent_edges(polygon[:, 0] + 1j * polygon[:, 1])
    if edges is None:
        return quad[[0, 1]], quad[[3, 2]]
    upper, lower, _ = edges
    # Reading goes on to the right, or down.
    reach = upper[-1] - upper[0]
    if (reach.real < 0) if abs(reach.real) >= abs(reach.imag) else (reach.imag < 0):
        upper, lower = lower[::-1], upper[::-1]
    return _as_points(upper), _as_points(lower)


def _as_points(line: np.ndarray) -> np.ndarray:
    return np.stack([line.real, line.imag], axis=1)


def _bent_edges(contour: np.ndarray) -> tuple[np.ndarray, np.ndarray, float] | None:
    """
    The two long edges of a bent contour from end to end, the first one clockwise, in `EDGE_POINTS` complex numbers each,
    and the thickness between them; `None` where it is not bent.
    """
    sides = _sides(contour)
    if sides is None:
        return None
    one, other, thickness, caps = sides
    starts = _corners(one, other, caps[0])
    stops = _corners(one[::-1], other[::-1], caps[1])
    one, other = (np.concatenate([[starts[i]], edge, [stops[i]]]) for i, edge in ((0, one), (1, other)))
    # Corners reach as far as the contour, which is round there: the ends move inwards until the areas are the same.
    excess = _area(np.concatenate([one, other[::-1]])) - _area(contour)
    for end, next_to_it in ((0, 1), (-1, -2)):
        inwards = (one[next_to_it] + other[next_to_it] - one[end] - other[end]) / 2
        if excess > 0 and abs(inwards) > 0:
            inwards *= min(excess / (2 * thickness) / abs(inwards), 0.8)
            one[end] += inwards
            other[end] += inwards
    return _at_equal_distances(one), _at_equal_distances(other), thickness


def _sides(contour: np.ndarray):
    """
    The two long sides of a bent contour without its round ends, from one end to the other (`EDGE_POINTS` complex numbers
    each, the first side clockwise), the thickness between them, and points around each end; `None` where it is not bent.
    """
    closed = np.append(contour, contour[0])
    travelled = np.append(0.0, np.abs(np.diff(closed)).cumsum())
    length = travelled[-1]

    def at(distances: np.ndarray) -> np.ndarray:
        return np.interp(distances % length, travelled, closed)

    # The ends are where the sides between them are closest to each other.
    ring = at(np.arange(RING_POINTS) * (length / RING_POINTS))
    distances = np.abs(ring[ONE_SIDE] - ring[OTHER_SIDE])
    best = int(np.square(distances).sum(axis=1).argmin())
    thickness = float(np.median(distances[best]))
    start, one = END_PAIRS[best] * (length / RING_POINTS)
    other = length - one
    if length < 2 * LEAST_LENGTH * thickness:
        return None
    # A round end of half the thickness as its radius begins 0.79 thicknesses beside its tip.
    trim = min(0.75 * thickness, 0.3 * one)
    sides = (
        at(start + np.linspace(trim, one - trim, EDGE_POINTS)),
        at(start - np.linspace(trim, other - trim, EDGE_POINTS)),
    )
    middle = (sides[0] + sides[1]) / 2
    if np.abs(LINES[2] @ (FITS[2] @ middle) - middle).max() < LEAST_BEND * thickness:
        return None
    around = np.linspace(-trim, trim, 9)
    return *sides, thickness, (at(start + around), at(start + one + around))


def _corners(one: np.ndarray, other: np.ndarray, cap: np.ndarray) -> tuple[complex, complex]:
    """The corners before the first points of two edges: these go on as they are bent, as far as the end reaches."""
    one, other = FITS[5] @ one, FITS[5] @ other
    middle = (one + other) / 2
    step, before = middle[0] - middle[1], middle[1] - middle[2]
    length = max(abs(step), 1e-9)
    ahead = step / length
    turn = float(np.angle(step * before.conjugate())) / length
    reach = 0.0
    for _ in range(2):
        # From the middle of one chord of an arc to the middle of the next.
        way = ahead * np.exp(1j * min(max(turn * (length + reach) / 2, -0.6), 0.6))
        reach = max(float(((cap - middle[0]) * way.conjugate()).real.max()), 0.0)
    direction = ahead * np.exp(1j * min(max(turn * (length / 2 + reach), -0.8), 0.8))
    across = one[0] - other[0]
    growth = (abs(across) - abs(one[1] - other[1])) / length * reach
    width = abs(across) + min(max(growth, -0.3 * abs(across)), 0.3 * abs(across))
    half = 0.5j * direction * width
    if (half * across.conjugate()).real < 0:
        half = -half
    center = middle[0] + way * reach
    return center + half, center - half


def _at_equal_distances(edge: np.ndarray) -> np.ndarray:
    travelled = np.append(0.0, np.abs(np.diff(edge)).cumsum())
    return np.interp(np.linspace(0, travelled[-1], EDGE_POINTS), travelled, edge)


def _area(points: np.ndarray) -> float:
    return 0.5 * float((np.roll(points, 1).conjugate() * points).imag.sum())


def _simplified(contour: np.ndarray) -> np.ndarray | None:
    """A contour with an even number of its points, at most `MAX_POINTS`; `None` where these cross themselves."""
    points, tolerance = contour[:, None], 0.002 * cv2.arcLength(contour, True)
    while len(points) > MAX_POINTS:
        points = cv2.approxPolyDP(contour[:, None], tolerance, True)
        tolerance *= 1.25
    points = points[:, 0].astype(np.float64)
    if len(points) < 3:
        return None
    if len(points) % 2:
        # One more in the middle of the longest side.
        following = np.roll(points, -1, axis=0)
        longest = int(np.hypot(*(following - points).T).argmax())
        points = np.insert(points, longest + 1, (points[longest] + following[longest]) / 2, axis=0)
    return order_clockwise(points) if shapely.is_valid(shapely.Polygon(points)) else None
