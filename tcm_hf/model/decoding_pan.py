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
"""Decoding of the PAN detector: text map, kernel map and pixel embeddings to text polygons and scores."""

import numpy as np

from .detector_registry import Decoder
from .outlines import check_shape, outlines_in_shape
from .polygons import check_settings, polygon_area, repair_polygon, warn_of_limit


try:
    import cv2
except ImportError as error:  # pragma: no cover
    raise ImportError("tcm_hf needs OpenCV to decode maps; `pip install opencv-python-headless`") from error


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    # By tanh, which cannot overflow.
    return 0.5 * np.tanh(0.5 * logits) + 0.5


def _check_maps(maps) -> np.ndarray:
    maps = np.asarray(maps)
    if maps.ndim != 3 or len(maps) < 3:
        raise ValueError(
            "`maps` must have the shape (2 + embedding channels, height, width): text logits, kernel logits and at "
            f"least one channel of embeddings; got {maps.shape}"
        )
    maps = np.ascontiguousarray(maps, dtype=np.float32)
    if not np.isfinite(maps).all():
        raise ValueError("`maps` holds NaN or infinite values: the image or the weights are corrupt")
    return maps


def group_pixels(text: np.ndarray, kernel_labels: np.ndarray, embeddings: np.ndarray, max_distance: float):
    """
    Grows kernels to full text regions: pixel aggregation (PAN, section 3.5).

    Text pixels join the kernel that reaches them first over text pixels, pixel by pixel to the four neighbors, if
    their embedding is close to the kernel's mean embedding. Where several kernels arrive at once, the one wins that a
    queue of pixels in reading order would serve first. One step moves all fronts by one pixel, so the number of steps
    is the width of the widest rim and not the number of pixels.

    Args:
        text (`np.ndarray` of shape `(height, width)`): Whether a pixel is text.
        kernel_labels (`np.ndarray` of shape `(height, width)`): Integer number of each pixel's kernel, from 1; 0 = none.
        embeddings (`np.ndarray` of shape `(channels, height, width)`): Embedding of every pixel.
        max_distance (`float`): Euclidean distance of embeddings; pixels at least this far from a kernel do not join it.

    Returns:
        `np.ndarray`: int32 of shape `(height, width)`, the number of the kernel that each pixel joined; 0 = none.
    """
    height, width = kernel_labels.shape
    # With a border around the map no neighbor is outside of it; row by row, so that one number is a position.
    padded = np.zeros((height + 2, width + 2), dtype=np.int32)
    padded[1:-1, 1:-1] = kernel_labels
    labels = padded.reshape(-1)
    free = np.zeros_like(padded, dtype=bool)
    free[1:-1, 1:-1] = (kernel_labels == 0) & text
    free = free.reshape(-1)
    vectors = np.zeros((len(labels), len(embeddings)), dtype=np.float32)
    vectors.reshape(height + 2, width + 2, -1)[1:-1, 1:-1] = np.moveaxis(embeddings, 0, -1)

    kernel_pixels = np.flatnonzero(labels)
    kernel_of_pixel = labels[kernel_pixels]
    counts = np.maximum(np.bincount(kernel_of_pixel), 1)
    sums = [np.bincount(kernel_of_pixel, weights=channel) for channel in vectors[kernel_pixels].T]
    centers = (np.stack(sums, axis=1) / counts[:, None]).astype(np.float32)

    neighbours = np.array([-(width + 2), width + 2, -1, 1])
    arrival = np.zeros(len(labels), dtype=np.int64)
    front = kernel_pixels
    while len(front):
        candidates = (front[:, None] + neighbours).reshape(-1)
        candidate_labels = np.repeat(labels[front], len(neighbours))
        is_free = free[candidates]
        candidates, candidate_labels = candidates[is_free], candidate_labels[is_free]
        difference = vectors[candidates] - centers[candidate_labels]
        close = np.einsum("ij,ij->i", difference, difference) < max_distance * max_distance
        candidates, candidate_labels = candidates[close], candidate_labels[close]
        # Written backwards, the earliest of several arrivals at a pixel stays.
        order = np.arange(len(candidates))
        arrival[candidates[::-1]] = order[::-1]
        first = arrival[candidates] == order
        front = candidates[first]
        labels[front] = candidate_labels[first]
        free[front] = False
    return padded[1:-1, 1:-1]


def _outline(rows: np.ndarray, columns: np.ndarray) -> np.ndarray | None:
    """Outer contour through the centers of the border pixels of a connected region; `None` without area."""
    top, left = rows.min(), columns.min()
    region = np.zeros((rows.max() - top + 1, columns.max() - left + 1), dtype=np.uint8)
    region[rows - top, columns - left] = 1
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    contour = contours[0][:, 0] + (left, top)
    # Parts that are one pixel wide enclose nothing, and make the contour touch itself.
    parts = repair_polygon(contour) if len(contour) >= 3 else []
    return max(parts, key=polygon_area, default=None)


def decode_pan(
    maps,
    *,
    mask_threshold: float = 0.5,
    kernel_threshold: float = 0.5,
    score_threshold: float = 0.85,
    max_distance: float = 0.85,
    min_area: int = 16,
    max_candidates: int = 10000,
    shape: str = "auto",
) -> tuple[list[np.ndarray], np.ndarray]:
    """
    Turns the maps of the PAN detector into text regions.

    Every connected region of the kernel map, inside of the text map, is one text; see [`group_pixels`] for how it
    grows. It is scored by the mean text probability of its pixels. Coordinates count from the center of the first pixel.

    Args:
        maps (array-like of shape `(2 + embedding channels, height, width)`): Logits of the text map and of the kernel
            map, and the embeddings.
        mask_threshold (`float`, *optional*, defaults to 0.5): Pixels with a higher text probability are text.
        kernel_threshold (`float`, *optional*, defaults to 0.5): Text pixels with a higher kernel probability are kernel.
        score_threshold (`float`, *optional*, defaults to 0.85): Regions with a lower mean text probability are dropped.
        max_distance (`float`, *optional*, defaults to 0.85): How far, in embedding space, a pixel may be from its kernel.
        min_area (`int`, *optional*, defaults to 16): Regions with fewer pixels of the map are dropped.
        max_candidates (`int`, *optional*, defaults to 10000): At most this many regions, the largest; a warning tells
            when there are more.
        shape (`str`, *optional*, defaults to `"auto"`): `"auto"` (four corners, or the edges of a bent text, see
            [`~outlines.neat_outline`]), `"polygon"` (the contour), `"quad"` (minimum-area rectangle at any angle) or
            `"box"` (upright rectangle).

    Returns:
        `tuple[list[np.ndarray], np.ndarray]`: float32 polygons of shape `(n, 2)` in pixels of the map, clockwise from
        the top-left, and their scores as a float32 array, highest first.

    Raises:
        ValueError: if the maps have another shape or hold NaN, or a setting is out of range.
    """
    check_shape(shape)
    check_settings(
        max_candidates,
        mask_threshold=mask_threshold,
        kernel_threshold=kernel_threshold,
        score_threshold=score_threshold,
        max_distance=max_distance,
        min_area=min_area,
    )
    if max_distance < 0:
        raise ValueError(f"`max_distance` must not be negative, got {max_distance}")
    maps = _check_maps(maps)
    polygons: list[np.ndarray] = []
    scores: list[float] = []
    probabilities = _sigmoid(maps[0])
    text = probabilities > mask_threshold
    kernels = text & (_sigmoid(maps[1]) > kernel_threshold)
    if not kernels.any():
        return [], np.zeros(0, dtype=np.float32)
    _, kernel_labels = cv2.connectedComponents(kernels.view(np.uint8), connectivity=4)
    labels = group_pixels(text, kernel_labels, maps[2:], max_distance)

    rows, columns = np.nonzero(labels)
    regions = labels[rows, columns]
    areas = np.bincount(regions)
    means = np.bincount(regions, weights=probabilities[rows, columns]) / np.maximum(areas, 1)
    areas[0] = 0  # the background
    candidates = np.flatnonzero((areas >= max(min_area, 1)) & (means >= score_threshold))
    candidates = candidates[np.argsort(-areas[candidates], kind="stable")]
    # Pixels in the order of their regions, so that each region is one slice.
    order = np.argsort(regions, kind="stable")
    rows, columns = rows[order], columns[order]
    starts = np.cumsum(areas) - areas
    for region in candidates:
        if len(polygons) == max_candidates:
            warn_of_limit(max_candidates)
            break
        pixels = slice(starts[region], starts[region] + areas[region])
        polygon = _outline(rows[pixels], columns[pixels])
        if polygon is None:
            continue
        polygons.append(polygon)
        scores.append(means[region])

    polygons = [outline.astype(np.float32) for outline in outlines_in_shape(polygons, shape)]
    best_first = np.argsort(-np.array(scores, dtype=np.float64), kind="stable")
    return [polygons[i] for i in best_first], np.array([scores[i] for i in best_first], dtype=np.float32)


def pan_text_map(maps) -> np.ndarray:
    """
    The text probability of every pixel.

    Args:
        maps (array-like of shape `(2 + embedding channels, height, width)`): As in [`decode_pan`].

    Returns:
        `np.ndarray`: of shape `(height, width)`, float32, in 0..1.
    """
    return _sigmoid(_check_maps(maps)[0])


DECODER = Decoder(
    decode_pan,
    activation="none",
    stride=4,
    least={"max_distance": 0.0, "min_area": 0.0, "max_candidates": 1},
    text_map=pan_text_map,
)
