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
"""Decoding of the DB detector: a probability map to text polygons and scores."""

from typing import Any

import numpy as np

from .detector_registry import Decoder
from .outlines import check_shape, outlines_in_shape
from .polygons import (
    ROUND_JOIN_SEGMENTS,
    check_settings,
    measure_polygons,
    offset_in_whole_pixels,
    valid_geometry,
    warn_of_limit,
)


try:
    import cv2
    import shapely
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "tcm_hf needs OpenCV and shapely to decode maps; `pip install opencv-python-headless shapely`"
    ) from error


# Share of a region's area that holes may take before the region counts as a ring.
MAX_HOLE_SHARE = 0.01
# Pixels of the map by which a simplified round corner may miss the exact one.
ROUND_CORNER_TOLERANCE = 0.25


def _check_map(probability_map) -> np.ndarray:
    probabilities = np.asarray(probability_map)
    if probabilities.ndim != 2:
        raise ValueError(f"`probability_map` must have the shape (height, width), got {probabilities.shape}")
    probabilities = np.ascontiguousarray(probabilities, dtype=np.float32)
    if probabilities.size:
        low, high = float(probabilities.min()), float(probabilities.max())
        # min and max propagate NaN, so they see every value that is not finite.
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("`probability_map` holds NaN or infinite values: the image or the weights are corrupt")
        if low < -1e-3 or high > 1 + 1e-3:
            raise ValueError(
                f"`probability_map` must lie in [0, 1], got [{low:.3g}, {high:.3g}]; apply a sigmoid to logits first"
            )
    return probabilities


def _window(probabilities: np.ndarray, contour: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """The map around an integer contour, 1 for its pixels (its border included) and 0 elsewhere, and the left top."""
    left, top, width, height = cv2.boundingRect(contour)
    inside = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(inside, [contour - (left, top)], 1)
    return probabilities[top : top + height, left : left + width], inside, (left, top)


def _mean_inside(probabilities: np.ndarray, contour: np.ndarray) -> float:
    """Mean probability over the pixels of an integer contour."""
    window, inside, _ = _window(probabilities, contour)
    values = window[inside.view(bool)]
    # In double precision: a region of constant probability must score exactly that, also at the threshold.
    return float(np.add.reduce(values, dtype=np.float64)) / len(values)


def _split(
    probabilities: np.ndarray,
    contour: np.ndarray,
    mask_threshold: float,
    seed_threshold: float,
    seed_share: float,
    seed_gap: float,
) -> list[np.ndarray]:
    """The contours of the parts of a region, see `seed_threshold` of `decode_db`; its own where there is one part."""
    window, inside, corner = _window(probabilities, contour)
    core = inside & (window > seed_threshold)
    if cv2.connectedComponents(core.view(np.uint8))[0] < 3:  # the background is one
        return [contour]
    _, regions = cv2.connectedComponents((inside & (window > mask_threshold)).view(np.uint8))
    column, row = contour[0, 0] - corner
    region = (regions == regions[row, column]).view(np.uint8)  # without what lies in its holes
    core = (core & region).view(bool)
    # The distance transform takes the image's border for text.
    depth = cv2.distanceTransform(cv2.copyMakeBorder(region, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5).max()
    reach = cv2.distanceTransform((~core).view(np.uint8), cv2.DIST_L2, 5)
    # Parts of the core whose gap is at most that many depths (half thicknesses) from both sides are one seed.
    count, labels = cv2.connectedComponents(region & (reach <= seed_gap * depth))
    areas = np.bincount(labels[core], minlength=count)  # 0 for what is near a core beyond a gap of the region
    kept = areas >= max(seed_share * areas.sum(), 1)
    if kept.sum() < 2:
        return [contour]
    core &= kept[labels]
    # Nearest seed pixel of every pixel, by its number; whose seed that is, by the numbers of the seed pixels.
    _, nearest = cv2.distanceTransformWithLabels(
        (~core).view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    seed_of = np.zeros(nearest.max() + 1, dtype=labels.dtype)
    seed_of[nearest[core]] = labels[core]
    owner = seed_of[nearest] * region
    parts = []
    for seed in np.flatnonzero(kept):
        mask = (owner == seed).view(np.uint8)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=corner)
        # Pixels of a bent region may be cut off from the seed that is nearest to them.
        parts.append(max(contours, key=cv2.contourArea))
    return parts


def _expand(contours: list[np.ndarray], distances: np.ndarray, whole_pixels: bool) -> list[np.ndarray | None]:
    """
    Moves contours outwards, each by its distance in pixels; `None` for one that closes into a ring.

    A single contour cannot describe a ring: it would claim the whole disc. Specks inside are filled.
    """
    if whole_pixels:
        several = [offset_in_whole_pixels(contour, distance) for contour, distance in zip(contours, distances)]
        return [rings[0] if len(rings) == 1 else None for rings in several]
    # All at once: the calls would cost as much as the work.
    owners = np.repeat(np.arange(len(contours)), [len(contour) for contour in contours])
    rings = shapely.linearrings(np.concatenate(contours).astype(np.float64), indices=owners)
    geometries: Any = shapely.polygons(rings)
    for index in np.flatnonzero(~shapely.is_valid(geometries)):
        geometries[index] = valid_geometry(contours[index])
    geometries = shapely.buffer(geometries, distances, quad_segs=ROUND_JOIN_SEGMENTS)
    plain = (shapely.get_type_id(geometries) == 3) & (shapely.get_num_interior_rings(geometries) == 0)
    rings = shapely.get_exterior_ring(geometries)
    points, owners = shapely.get_coordinates(rings, return_index=True)
    parts = np.split(points, np.searchsorted(owners, np.arange(1, len(rings))))
    return [part[:-1] if simple else _main_ring(each) for part, simple, each in zip(parts, plain, geometries)]


def _main_ring(geometry) -> np.ndarray | None:
    """The contour of an expanded geometry that has holes or several parts; `None` for a ring."""
    # A simplified contour can cross itself and fall apart; its main part stands for the region.
    region = max(shapely.get_parts(geometry), key=lambda part: part.area, default=None)
    if region is None or region.geom_type != "Polygon":
        return None
    filled = shapely.Polygon(region.exterior)
    if filled.area - region.area > MAX_HOLE_SHARE * filled.area:
        return None
    return shapely.get_coordinates(region.exterior)[:-1]


def _contours(probabilities: np.ndarray, mask_threshold: float, limit: int | None) -> list[np.ndarray]:
    """The outer contours of the binarized map, at most the first `limit` that OpenCV finds, holes included in the count."""
    if not probabilities.size:
        return []
    binary = (probabilities > mask_threshold).view(np.uint8)
    # Two levels: outer contours, also of text inside a ring, and holes, which are no text.
    contours, hierarchy = cv2.findContours(binary, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = [contour for i, contour in enumerate(contours) if hierarchy[0][i][3] < 0 and len(contour) >= 3]
    if limit is not None and len(contours) > limit:
        # The order is another one with levels than without, and it is the latter that the released models count in.
        in_order, _ = cv2.findContours(binary, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
        first = {contour.tobytes() for contour in in_order[:limit]}
        outer = [contour for contour in outer if contour.tobytes() in first]
        warn_of_limit(limit - 1)
    return outer


def decode_db(
    probability_map,
    *,
    mask_threshold: float = 0.3,
    score_threshold: float = 0.5,
    unclip_ratio: float = 1.5,
    min_size: float = 3.0,
    max_candidates: int = 10000,
    epsilon_ratio: float | None = 0.002,
    whole_pixels: bool = False,
    seed_threshold: float | None = None,
    seed_share: float = 0.15,
    seed_gap: float = 0.6,
    shape: str = "auto",
) -> tuple[list[np.ndarray], np.ndarray]:
    """
    Turns the probability map of the DB detector into text regions.

    Every outer contour of the binarized map is a shrunk text region. It is scored by the mean probability inside it,
    and expanded by `area * unclip_ratio / perimeter` pixels; one that closes into a ring on the way is dropped.
    Coordinates count from the center of the first pixel and may reach over the border of the map.

    Args:
        probability_map (array-like of shape `(height, width)`): Text probability of every pixel, in [0, 1].
        mask_threshold (`float`, *optional*, defaults to 0.3): Pixels above it belong to text.
        score_threshold (`float`, *optional*, defaults to 0.5): Regions with a lower mean probability are dropped.
        unclip_ratio (`float`, *optional*, defaults to 1.5): Strength of the expansion that undoes the shrinking of the
            training targets; no unit.
        min_size (`float`, *optional*, defaults to 3.0): Pixels; regions are dropped when the shorter side of their
            minimum-area rectangle is below it, after the expansion.
        max_candidates (`int`, *optional*, defaults to 10000): At most this many regions, those of the largest contours;
            a warning tells when there are more. With `whole_pixels`, it is instead counted as the released models do:
            the first `max_candidates + 1` contours that OpenCV finds, from the bottom of the image.
        epsilon_ratio (`float`, *optional*, defaults to 0.002): Tolerance of the contour's simplification
            (Douglas-Peucker) as a share of its length; 0 or `None` keeps the raw contour.
        whole_pixels (`bool`, *optional*, defaults to `False`): Whether contours are expanded with an integer clipper
            (`pip install pyclipper`), as the post-processing of the released models does. That moves an edge by up to
            half a pixel, which small text feels. Contours of three points and those that do not stay one are dropped.
        seed_threshold (`float`, *optional*): Splits regions that a low `mask_threshold` lets grow together: where the
            pixels of one that are above this second threshold form several parts, each part is the seed of a region
            of its own, to which the pixels go that it is nearest to. It has no effect by default, nor where it is
            not above `mask_threshold`; 1 turns off what a checkpoint sets. (The idea of growing from smaller kernels
            is PSENet's, Wang et al., CVPR 2019.)
        seed_share (`float`, *optional*, defaults to 0.15): A part with a smaller share of its region's pixels above
            `seed_threshold` is no seed.
        seed_gap (`float`, *optional*, defaults to 0.6): Parts that are not farther from each other than this many
            thicknesses of the region, at its thickest, are one seed: letters of a word are closer than words.
        shape (`str`, *optional*, defaults to `"auto"`): `"auto"` (four corners, or the edges of a bent text, see
            [`~outlines.neat_outline`]), `"polygon"` (the contour), `"quad"` (minimum-area rectangle at any angle) or
            `"box"` (upright rectangle).

    Returns:
        `tuple[list[np.ndarray], np.ndarray]`: float32 polygons of shape `(n, 2)` in pixels of the map, clockwise from
        the top-left, and their scores as a float32 array, highest first.

    Raises:
        ValueError: if the map has another shape, holds NaN or values outside [0, 1], or a setting is out of range.
    """
    check_shape(shape)
    check_settings(
        max_candidates,
        mask_threshold=mask_threshold,
        score_threshold=score_threshold,
        unclip_ratio=unclip_ratio,
        min_size=min_size,
        epsilon_ratio=epsilon_ratio or 0.0,
        seed_share=seed_share,
        seed_gap=seed_gap,
    )
    if unclip_ratio < 0:
        raise ValueError(f"`unclip_ratio` must not be negative, got {unclip_ratio}")
    if epsilon_ratio and epsilon_ratio < 0:
        raise ValueError(f"`epsilon_ratio` must not be negative, got {epsilon_ratio}")
    if seed_threshold is not None and not 0 <= seed_threshold <= 1:
        raise ValueError(f"`seed_threshold` must be in [0, 1], got {seed_threshold}")
    if not 0 <= seed_share <= 1:
        raise ValueError(f"`seed_share` must be in [0, 1], got {seed_share}")
    if not seed_gap >= 0:
        raise ValueError(f"`seed_gap` must not be negative, got {seed_gap}")
    probabilities = _check_map(probability_map)
    candidates = _contours(probabilities, mask_threshold, max_candidates + 1 if whole_pixels else None)
    if seed_threshold is not None and seed_threshold > mask_threshold:
        settings = (mask_threshold, seed_threshold, seed_share, seed_gap)
        candidates = [part for contour in candidates for part in _split(probabilities, contour, *settings)]
    limit = max_candidates + 1 if whole_pixels else max_candidates
    if len(candidates) > limit:
        candidates.sort(key=cv2.contourArea, reverse=True)

    regions = _regions(probabilities, candidates, score_threshold, unclip_ratio, epsilon_ratio, whole_pixels)
    found: list[tuple[np.ndarray, float]] = []
    for region in regions:
        if len(found) == limit:
            warn_of_limit(max_candidates)
            break
        if region is not None and (region[2] >= min_size or _thickness(region[0]) >= min_size):
            found.append(region[:2])
    outlines = [region for region, _ in found]
    if shape == "polygon" and epsilon_ratio and not whole_pixels:
        # The expansion's round corners add dozens of points that a fraction of a pixel does not need.
        outlines = [
            cv2.approxPolyDP(region.astype(np.float32)[:, None], ROUND_CORNER_TOLERANCE, True)[:, 0]
            for region in outlines
        ]
    outlines = outlines_in_shape(outlines, shape)
    scores = np.array([score for _, score in found], dtype=np.float64)
    order = np.argsort(-scores, kind="stable")
    return [outlines[i].astype(np.float32) for i in order], scores[order].astype(np.float32)


def _regions(
    probabilities: np.ndarray,
    candidates: list[np.ndarray],
    score_threshold: float,
    unclip_ratio: float,
    epsilon_ratio: float | None,
    whole_pixels: bool,
) -> list[tuple[np.ndarray, float, float] | None]:
    """For every candidate the expanded contour, its score and what it is at least thick; `None` for those to be dropped."""
    regions: list[tuple[np.ndarray, float, float] | None] = [None] * len(candidates)
    kept, scores, contours = [], [], []
    for index, contour in enumerate(candidates):
        if epsilon_ratio:
            contour = cv2.approxPolyDP(contour, epsilon_ratio * cv2.arcLength(contour, True), True)
        contour = contour[:, 0]
        if len(contour) >= (4 if whole_pixels else 3):
            score = _mean_inside(probabilities, contour)
            if score >= score_threshold:
                kept.append(index)
                scores.append(score)
                contours.append(contour)
    if not kept:
        return regions
    areas, perimeters, _ = measure_polygons(contours)
    solid = np.flatnonzero(areas > 0)
    if not len(solid):
        return regions
    distances = areas[solid] * unclip_ratio / perimeters[solid]
    expanded = _expand([contours[i] for i in solid], distances, whole_pixels)
    for i, region, distance in zip(solid, expanded, distances):
        if region is not None:
            # The chords of round corners stay within 0.5 % of the distance, and whole pixels within one.
            regions[kept[i]] = (region, scores[i], 0.0 if whole_pixels else 1.99 * distance)
    return regions


def _thickness(region: np.ndarray) -> float:
    """The shorter side of the minimum-area rectangle."""
    return min(cv2.minAreaRect(region.astype(np.float32))[1])


DECODER = Decoder(
    decode_db,
    least={
        "unclip_ratio": 0.0,
        "min_size": 0.0,
        "max_candidates": 1,
        "epsilon_ratio": 0.0,
        "seed_threshold": 0.0,
        "seed_share": 0.0,
        "seed_gap": 0.0,
    },
)
