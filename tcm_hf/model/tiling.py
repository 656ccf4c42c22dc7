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
"""Overlapping tiles of an image, and the text regions of the tiles as those of the whole."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from .polygons import clip_polygon, order_clockwise, valid_geometry


try:
    import shapely
except ImportError as error:  # pragma: no cover
    raise ImportError("tcm_hf needs shapely for polygons; install it with `pip install shapely`") from error


# Share of a tile that it has in common with the next one, at least.
OVERLAP = 0.25
# Share of what two tiles have in common that each leaves to the other at its border, where the network sees half a word.
MARGIN = 0.25
# Pixels; on smaller tiles a detector sees too little of a word.
MIN_TILE = 128
# Regions of two tiles are the same text from this intersection over union on, within what both tiles see.
SAME_TEXT = 0.5
# Or when one lies there as a whole, and this share of it in the other: one tile joins what the other keeps apart.
INSIDE = 0.7
# Share of a region that counts as all of it.
WHOLE = 0.99
# Pixels by which the outline of a merged region may miss the exact union, which has a tiny step at each seam.
SEAM_TOLERANCE = 0.5
# Square pixels; what clipping leaves of a region that only touches the clip.
MIN_AREA = 1.0

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Tile:
    """
    A part of an image.

    Args:
        box (`tuple[int, int, int, int]`): left, top, right, bottom in pixels of the image.
        trusted (`tuple[float, float, float, float]`): the part of `box` whose regions count: without a margin where another
            tile goes on, and without any limit where the image ends.
    """

    box: tuple[int, int, int, int]
    trusted: Box


def check_tile(tile) -> tuple[int, int] | bool:
    """
    Checks the `tile` argument of the pipeline.

    Args:
        tile (`bool`, `int` or `tuple[int, int]`): whether to cut into tiles, or their height and width in pixels.

    Returns:
        `bool` or `tuple[int, int]`

    Raises:
        ValueError: if it is neither.
    """
    if isinstance(tile, bool | np.bool_) or tile is None:
        return bool(tile)
    sides = (tile, tile) if isinstance(tile, Integral) else tuple(tile) if isinstance(tile, list | tuple) else ()
    if len(sides) != 2 or not all(isinstance(side, Integral) and not isinstance(side, bool) for side in sides):
        raise ValueError(f"tile must be True, False or (height, width) in pixels, got {tile!r}")
    if min(sides) < MIN_TILE:
        raise ValueError(f"tile must be at least {MIN_TILE} pixels high and wide, got {tile!r}")
    return int(sides[0]), int(sides[1])


def tile_grid(height: int, width: int, tile: tuple[int, int]) -> list[Tile]:
    """
    Cuts an image into overlapping tiles of one size.

    Args:
        height (`int`): height of the image in pixels.
        width (`int`): its width in pixels.
        tile (`tuple[int, int]`): largest height and width of a tile. Neighbors have at least a quarter of it in common.

    Returns:
        `list[Tile]`: row by row; a single one where the image is not larger.

    Example:

    >>> from tcm_hf.model.tiling import tile_grid

    >>> [tile.box for tile in tile_grid(500, 1800, (1024, 1024))]
    [(0, 0, 1024, 500), (388, 0, 1412, 500), (776, 0, 1800, 500)]
    """
    rows, columns = _spans(height, tile[0]), _spans(width, tile[1])
    return [
        Tile((left, top, right, bottom), (trusted_left, trusted_top, trusted_right, trusted_bottom))
        for top, bottom, trusted_top, trusted_bottom in rows
        for left, right, trusted_left, trusted_right in columns
    ]


def _spans(length: int, side: int) -> list[tuple[int, int, float, float]]:
    """Start and end of each tile along one axis, and of what counts of it."""
    if length <= side:
        return [(0, length, -math.inf, math.inf)]
    overlap = max(1, int(side * OVERLAP))
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(index * (length - side) / (count - 1)) for index in range(count)]
    # Half of the margin's share on either side of a seam would leave nothing in common: it is a quarter at most.
    margins = [MARGIN * (start + side - following) for start, following in zip(starts, starts[1:])]
    begins = [-math.inf, *(start + margin for start, margin in zip(starts[1:], margins))]
    ends = [*(start + side - margin for start, margin in zip(starts, margins)), math.inf]
    return [(start, start + side, begin, end) for start, begin, end in zip(starts, begins, ends)]


@dataclass
class _Piece:
    """A region of a tile, or what counts of it, in pixels of the image."""

    polygon: np.ndarray
    geometry: Any  # of shapely
    score: float
    tile: int
    cut: bool  # whether it goes on beyond what counts of its tile
    depth: float  # pixels from there to the border of what counts


def merge_tiles(
    tiles: Sequence[Tile],
    regions: Sequence[tuple[Sequence[np.ndarray], Sequence[float]]],
    height: int,
    width: int,
) -> tuple[list[np.ndarray], np.ndarray]:
    """
    The text regions of an image from those of its tiles.

    Of two regions that two tiles see alike in what they have in common, the one farther from the border of its tile
    stays, where it is whole. Pieces that a seam has cut are joined by their union. The score of joined pieces is their
    mean, weighted by area, as the score of a region is the mean over its pixels. Regions that cover different places of
    the common part (intersection over union below 0.5) stay apart, however close they are.

    Args:
        tiles (`Sequence[Tile]`): of [`tile_grid`].
        regions (`Sequence[tuple]`): for each tile the polygons of shape `(n, 2)` in pixels of the tile, and their scores.
        height (`int`): height of the image in pixels.
        width (`int`): its width in pixels.

    Returns:
        `tuple[list[np.ndarray], np.ndarray]`: float32 polygons of shape `(n, 2)` in pixels of the image, clockwise from the
        top left, and their scores as a float32 array, highest first.
    """
    pieces = [
        piece
        for index, (tile, (polygons, scores)) in enumerate(zip(tiles, regions))
        for polygon, score in zip(polygons, scores)
        for piece in _pieces(np.asarray(polygon, dtype=np.float64), float(score), tile, index)
    ]
    neighbors = _same_texts(pieces, tiles)
    merged: list[tuple[np.ndarray, float]] = []
    for group in _components(neighbors):
        members = [pieces[index] for index in group]
        if any(piece.cut for piece in members) and len(members) > 1:
            merged += _join(members)
        else:
            kept: set[int] = set()
            for index in sorted(group, key=lambda i: (-pieces[i].depth, i)):
                if not neighbors[index] & kept:
                    kept.add(index)
                    merged.append((pieces[index].polygon, pieces[index].score))
    merged.sort(key=lambda region: -region[1])
    outlines = [
        (part, score) for polygon, score in merged for part in clip_polygon(polygon, width, height) if len(part) >= 3
    ]
    polygons = [order_clockwise(part).astype(np.float32) for part, _ in outlines]
    return polygons, np.array([score for _, score in outlines], dtype=np.float32)


def _pieces(polygon: np.ndarray, score: float, tile: Tile, index: int) -> list[_Piece]:
    """A region of a tile, or its parts where only a part counts."""
    polygon = polygon + tile.box[:2]
    left, top, right, bottom = tile.trusted
    (xmin, ymin), (xmax, ymax) = polygon.min(axis=0), polygon.max(axis=0)
    depth = min(xmin - left, ymin - top, right - xmax, bottom - ymax)
    geometry = valid_geometry(polygon)
    if depth >= 0:
        return [_Piece(polygon, geometry, score, index, False, depth)] if geometry.area > 0 else []
    clip: list[Any] = [tile.box[i] if math.isinf(limit) else limit for i, limit in enumerate(tile.trusted)]
    parts = shapely.get_parts(shapely.get_parts(shapely.intersection(geometry, shapely.box(*clip))))
    return [
        _Piece(shapely.get_coordinates(part.exterior)[:-1], part, score, index, True, depth)
        for part in parts
        if part.geom_type == "Polygon" and part.area >= MIN_AREA
    ]


def _area_within(geometry: Any, box: Box) -> float:
    left, top, right, bottom = geometry.bounds
    if left >= box[0] and top >= box[1] and right <= box[2] and bottom <= box[3]:
        return geometry.area
    clip = max(box[0], left), max(box[1], top), min(box[2], right), min(box[3], bottom)
    if clip[0] >= clip[2] or clip[1] >= clip[3]:
        return 0.0
    return shapely.intersection(geometry, shapely.box(*clip)).area


def _same_texts(pieces: list[_Piece], tiles: Sequence[Tile]) -> dict[int, set[int]]:
    """For each piece that counts, those of other tiles that are the same text, within what both tiles see."""
    neighbors: dict[int, set[int]] = {index: set() for index in range(len(pieces))}
    known: dict[int, list[int]] = {}  # cut pieces of which another tile sees all, and more of the text or its end
    geometries: Any = np.array(
        [piece.geometry for piece in pieces], dtype=object
    )  # of that type also where it is empty
    for first, second in shapely.STRtree(geometries).query(geometries, predicate="intersects").T.tolist():
        if first >= second or pieces[first].tile == pieces[second].tile:
            continue
        boxes = tiles[pieces[first].tile].trusted, tiles[pieces[second].tile].trusted
        # The first two of each are its left top, the others its right bottom.
        common = tuple((max if i < 2 else min)(limits) for i, limits in enumerate(zip(*boxes)))
        shared = shapely.intersection(geometries[first], geometries[second]).area
        within = {index: _area_within(geometries[index], common) for index in (first, second)}
        smaller, larger = sorted(within, key=lambda index: geometries[index].area)
        whole = {index: within[index] >= WHOLE * geometries[index].area for index in within}
        if shared >= SAME_TEXT * within[smaller]:
            for index, other in ((smaller, larger), (larger, smaller)):
                if pieces[index].cut and whole[index] and (index == smaller or not pieces[other].cut):
                    known.setdefault(index, []).append(other)
        if shared > 0 and (
            shared >= SAME_TEXT * (sum(within.values()) - shared)
            or (whole[smaller] and shared >= INSIDE * within[smaller])
        ):
            neighbors[first].add(second)
            neighbors[second].add(first)
    # The smallest first: what is left out stands for nothing else.
    for index in sorted(known, key=lambda i: geometries[i].area):
        if any(other in neighbors for other in known[index]):
            for other in neighbors.pop(index):
                neighbors[other].discard(index)
    return neighbors


def _components(neighbors: dict[int, set[int]]) -> list[list[int]]:
    """Groups of pieces that are connected, in the order of their first pieces."""
    groups, seen = [], set()
    for start in neighbors:
        if start in seen:
            continue
        seen.add(start)
        group, waiting = [], [start]
        while waiting:
            index = waiting.pop()
            group.append(index)
            found = neighbors[index] - seen
            seen |= found
            waiting += sorted(found)
        groups.append(group)
    return groups


def _join(members: list[_Piece]) -> list[tuple[np.ndarray, float]]:
    """The union of pieces of one text, and its score."""
    weights = [piece.geometry.area for piece in members]
    score = float(np.average([piece.score for piece in members], weights=weights))
    union = shapely.union_all([piece.geometry for piece in members])
    rings = [shapely.Polygon(part.exterior) for part in shapely.get_parts(union) if part.geom_type == "Polygon"]
    simple = [shapely.simplify(ring, SEAM_TOLERANCE) for ring in rings if ring.area >= MIN_AREA]
    return [(shapely.get_coordinates(ring.exterior)[:-1], score) for ring in simple]
