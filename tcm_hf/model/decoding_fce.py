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
"""Decoding of the FCE detector: three levels of class logits and Fourier coefficients to text polygons and scores."""

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np

from .detector_registry import Decoder
from .outlines import check_shape, outlines_in_shape
from .polygons import check_settings, warn_of_limit


try:
    import cv2
    import shapely
except ImportError as error:  # pragma: no cover
    raise ImportError(
        "tcm_hf needs OpenCV and shapely to decode maps; `pip install opencv-python-headless shapely`"
    ) from error


# Pixels per cell of the three levels.
STRIDES = (8, 16, 32)

# Two logits (no, yes) for the text region, two for the center region; the Fourier coefficients follow.
CLASS_CHANNELS = 4

# More cells than these tell no more text, but cost time: a page of 3,000 words on 7 megapixels has 25,000.
MAX_CELLS = 100_000


def _check_maps(level_maps) -> list[np.ndarray]:
    if len(level_maps) != len(STRIDES):
        raise ValueError(f"`level_maps` needs one map for each of the strides {STRIDES}, got {len(level_maps)}")
    levels = []
    for stride, maps in zip(STRIDES, level_maps):
        maps = np.asarray(maps, dtype=np.float32)
        coefficients = maps.shape[0] - CLASS_CHANNELS if maps.ndim == 3 else 0
        if coefficients < 6 or coefficients % 4 != 2:
            raise ValueError(
                f"the map of stride {stride} must have the shape (4 + 2 * (2 * K + 1), height, width) for a Fourier "
                f"degree K of at least 1, got {maps.shape}"
            )
        if not np.isfinite(maps).all():
            raise ValueError(
                f"the map of stride {stride} holds NaN or infinite values: the image or the weights are corrupt"
            )
        levels.append(maps)
    if len({len(maps) for maps in levels}) > 1:
        raise ValueError(
            f"`level_maps` must have one number of channels, that of one Fourier degree, got {[len(m) for m in levels]}"
        )
    return levels


def _text_scores(maps: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """Score of every cell of one level (FCE, section 3.2): text probability and center probability, weighted."""
    # Softmax over two classes is the sigmoid of their difference, written so that no exponential overflows.
    text, center = (0.5 + 0.5 * np.tanh(0.5 * (maps[i + 1] - maps[i])) for i in (0, 2))
    return text**alpha * center**beta


def fourier_contours(coefficients: np.ndarray, num_points: int) -> np.ndarray:
    """
    Points of contours from their Fourier coefficients (FCE, eq. 1).

    Args:
        coefficients (`np.ndarray`): complex array of shape `(contours, 2 * K + 1)`, from frequency -K to K.
        num_points (`int`): Points of each contour.

    Returns:
        `np.ndarray`: float64 array of shape `(contours, num_points, 2)` in the unit of the coefficients.
    """
    degree = coefficients.shape[1] // 2
    time = np.arange(num_points) / num_points
    points = coefficients @ np.exp(2j * np.pi * np.arange(-degree, degree + 1)[:, None] * time)
    return np.stack([points.real, points.imag], axis=-1)


def _candidates(maps: np.ndarray, stride: int, score_threshold: float, alpha: float, beta: float):
    """Scores, connected regions and Fourier coefficients in pixels of the cells of one level that may be text."""
    scores = _text_scores(maps, alpha, beta)
    chosen = scores > score_threshold
    # OpenCV crashes on maps without cells.
    regions = cv2.connectedComponents(chosen.astype(np.uint8))[1] if chosen.size else np.zeros(chosen.shape, np.int32)
    rows, columns = np.nonzero(chosen)
    real, imaginary = np.split(maps[CLASS_CHANNELS:, rows, columns].T.astype(np.float64), 2, axis=1)
    coefficients = real + 1j * imaginary
    # A cell tells the center of its text relative to itself.
    coefficients[:, coefficients.shape[1] // 2] += columns + 1j * rows
    return scores[chosen], regions[chosen], coefficients * stride


def _geometries(contours: np.ndarray) -> Any:
    """Valid shapely geometries of contours, the areas of those that cross themselves included."""
    # Ten times as fast on wild contours as the other method, and all that is asked are areas.
    return shapely.make_valid(shapely.polygons(contours), method="structure", keep_collapsed=False)


def _main_part(contour: np.ndarray) -> np.ndarray | None:
    """
    The contour itself, or the outline of the largest part of one that crosses itself; `None` below one square pixel, and for
    a line, however long: what it encloses is rounding noise.
    """
    polygon = shapely.Polygon(contour)
    if not polygon.is_valid:
        polygon = max(shapely.get_parts(_geometries(contour[None])), key=shapely.area, default=shapely.Polygon())
    if polygon.area < max(1, 1e-9 * polygon.length**2):
        return None
    return shapely.get_coordinates(polygon.exterior)[:-1]


def _suppress(contours: np.ndarray, scores: np.ndarray, groups: np.ndarray, threshold: float) -> np.ndarray:
    """
    Greedy non-maximum suppression within groups.

    Args:
        contours (`np.ndarray` of shape `(n, points, 2)`): Closed contours.
        scores (`np.ndarray` of shape `(n,)`): The best come first.
        groups (`np.ndarray` of shape `(n,)`): Contours of different groups leave each other alone.
        threshold (`float`): A contour is dropped when its IoU with a better one that is kept is above.

    Returns:
        `np.ndarray`: indices of the contours that are kept, best first.
    """
    order = np.argsort(-scores, kind="stable")
    contours, groups = contours[order], groups[order]
    edges = np.roll(contours, -1, axis=1) - contours
    lengths = np.hypot(edges[..., 0], edges[..., 1])
    areas = np.abs((contours[..., 0] * edges[..., 1] - contours[..., 1] * edges[..., 0]).sum(axis=1)) / 2
    low, high = contours.min(axis=1), contours.max(axis=1)
    # Valid geometries, made when they are needed: few are.
    geometries = np.full(len(order), None, dtype=object)

    # A tree of the bounding boxes (a diagonal has the same one): with all pairs, small text costs time without end.
    diagonals: Any = shapely.linestrings(np.stack([low, high], axis=1))
    tree = shapely.STRtree(diagonals)
    alive = np.ones(len(order), dtype=bool)
    kept = []
    for best in range(len(order)):
        if not alive[best]:
            continue
        kept.append(best)
        rivals = tree.query(diagonals[best])
        rivals = np.sort(rivals[(rivals > best) & alive[rivals] & (groups[rivals] == groups[best])])
        # No more than the common part of the bounding boxes is shared.
        shared = np.minimum(high[rivals], high[best]) - np.maximum(low[rivals], low[best])
        shared = np.prod(np.maximum(shared, 0), axis=1)
        both = areas[rivals] + areas[best]
        possible = (shared > 0) & (shared > threshold * (both - shared))
        rivals, both = rivals[possible], both[possible]
        # Two contours differ by no more than what one sweeps on its way to the other, point by point. That settles
        # nearly all cases: the cells of one text tell nearly the same contour.
        moved = np.hypot(*np.moveaxis(contours[rivals] - contours[best], -1, 0))
        moved = np.maximum(moved, np.roll(moved, -1, axis=1))
        swept = (moved * (lengths[rivals] + lengths[best])).sum(axis=1) / 2
        same = both - swept > threshold * (both + swept)
        alive[rivals[same]] = False
        rivals = rivals[~same]
        if len(rivals):
            new = np.array([i for i in (best, *rivals) if geometries[i] is None], dtype=np.int64)
            geometries[new] = _geometries(contours[new])
            shared = shapely.area(shapely.intersection(geometries[rivals], geometries[best]))
            both = shapely.area(geometries[rivals]) + shapely.area(geometries[best])
            alive[rivals[shared > threshold * (both - shared)]] = False
    return order[kept]


def decode_fce(
    level_maps: Sequence[np.ndarray],
    *,
    score_threshold: float = 0.3,
    alpha: float = 1.2,
    beta: float = 1.0,
    nms_threshold: float = 0.1,
    num_points: int = 50,
    max_candidates: int = 10000,
    whole_pixels: bool = True,
    shape: str = "auto",
) -> tuple[list[np.ndarray], np.ndarray]:
    """
    Turns the maps of the FCE detector into text regions.

    Every cell of score `text**alpha * center**beta` above the threshold proposes a contour. The best ones are kept,
    first within each connected region of cells, then over all of them. Coordinates may reach over the border of the
    image. The released models have `alpha` 1.2 and `beta` 1 (ICDAR 2015) or 1 and 2 (CTW1500).

    Args:
        level_maps (three array-likes of shape `(4 + 2 * (2 * K + 1), height, width)`):
            Logits at strides 8, 16 and 32: text region (no, yes), center region (no, yes), then the real and the
            imaginary parts of the Fourier coefficients from frequency -K to K, in cells.
        score_threshold (`float`, *optional*, defaults to 0.3): Cells with a lower score are dropped.
        alpha (`float`, *optional*, defaults to 1.2): Exponent of the text region's probability.
        beta (`float`, *optional*, defaults to 1.0): Exponent of the center region's probability.
        nms_threshold (`float`, *optional*, defaults to 0.1): Of two texts with a larger IoU only the better one stays.
        num_points (`int`, *optional*, defaults to 50): Points of the contours.
        max_candidates (`int`, *optional*, defaults to 10000): At most this many texts, the best; a warning tells when
            there are more.
        whole_pixels (`bool`, *optional*, defaults to `True`): Whether to cut off the decimals of the coordinates, as the
            post-processing of the released models does. `False` is half a pixel more exact, which small text may need.
        shape (`str`, *optional*, defaults to `"auto"`): `"auto"` (four corners, or the edges of a bent text, see
            [`~outlines.neat_outline`]), `"polygon"` (the contour), `"quad"` (minimum-area rectangle at any angle) or
            `"box"` (upright rectangle).

    Returns:
        `tuple[list[np.ndarray], np.ndarray]`: float32 polygons of shape `(n, 2)` in pixels of the model's input,
        clockwise from the top-left, and their scores as a float32 array, highest first. n is `num_points` for
        contours that do not cross themselves.

    Raises:
        ValueError: if a map has another shape or holds NaN, or a setting is out of range.
    """
    check_shape(shape)
    check_settings(
        max_candidates, score_threshold=score_threshold, alpha=alpha, beta=beta, nms_threshold=nms_threshold
    )
    if not isinstance(num_points, Integral) or num_points < 3:
        raise ValueError(f"`num_points` must be at least 3 and whole, got {num_points!r}")
    if alpha < 0 or beta < 0:
        raise ValueError(f"`alpha` and `beta` must not be negative, got {alpha} and {beta}")

    scores, regions, coefficients = [], [], []
    for stride, maps in zip(STRIDES, _check_maps(level_maps)):
        level = _candidates(maps, stride, score_threshold, alpha, beta)
        scores.append(level[0])
        # Regions of different levels are different ones.
        regions.append(level[1] + sum(len(labels) for labels in regions))
        coefficients.append(level[2])
    scores, regions, coefficients = (np.concatenate(parts) for parts in (scores, regions, coefficients))
    best = np.argsort(-scores, kind="stable")
    if len(best) > MAX_CELLS:
        warnings.warn(
            f"an image has more than {MAX_CELLS} cells of text, of which only the best are looked at", stacklevel=2
        )
        best = best[:MAX_CELLS]
    scores, regions = scores[best], regions[best]
    contours = fourier_contours(coefficients[best], num_points)
    if whole_pixels:
        contours = np.trunc(contours)
    kept = _suppress(contours, scores, regions, nms_threshold)
    kept = kept[_suppress(contours[kept], scores[kept], np.zeros(len(kept)), nms_threshold)]

    polygons, kept_scores = [], []
    for index in kept:
        if len(polygons) == max_candidates:
            warn_of_limit(max_candidates)
            break
        # A contour that crosses itself is no polygon; its main part stands for the text.
        polygon = _main_part(contours[index])
        if polygon is None:
            continue
        polygons.append(polygon)
        kept_scores.append(scores[index])
    polygons = [outline.astype(np.float32) for outline in outlines_in_shape(polygons, shape)]
    return polygons, np.array(kept_scores, dtype=np.float32)


def fce_text_map(level_maps: Sequence[np.ndarray]) -> np.ndarray:
    """
    The text probability of every cell of the finest level: the highest of the three levels, each of which finds texts
    of other sizes.

    Args:
        level_maps (three array-likes): As in [`decode_fce`].

    Returns:
        `np.ndarray`: of shape `(height, width)` of the finest level, float32, in 0..1.
    """
    levels = [_text_scores(maps, alpha=1.0, beta=0.0) for maps in _check_maps(level_maps)]
    height, width = levels[0].shape
    # A cell of a coarser level lies over whole cells of the finest one.
    factors = [stride // STRIDES[0] for stride in STRIDES]
    enlarged = [level.repeat(factor, 0).repeat(factor, 1) for level, factor in zip(levels, factors)]
    return np.maximum.reduce([level[:height, :width] for level in enlarged])


DECODER = Decoder(
    decode_fce,
    activation="none",
    stride=STRIDES,
    least={"alpha": 0.0, "beta": 0.0, "num_points": 3, "max_candidates": 1},
    text_map=fce_text_map,
)
