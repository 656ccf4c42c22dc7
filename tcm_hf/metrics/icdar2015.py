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
The ICDAR-2015 detection protocol (Robust Reading Competition, incidental scene text, task 4.1).

A detection is right when its intersection over union with a still unmatched ground-truth region exceeds 0.5. Pairs are
formed greedily in the order of the ground truth, then of the detections: first hit, not best hit. Regions marked "###"
are "don't care": they are not asked for, and a detection with more than half of its area inside one is left out of the
count, before any matching. Precision and recall of a data set are ratios of sums over its images.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import shapely

from ..polygons import as_polygon, valid_geometry


IGNORE_TEXT = "###"


@dataclass
class _Image:
    """What one image contributes; every geometric question is answered when the image is added."""

    num_care: int
    overlaps: list[tuple[int, int]]  # (ground truth, detection) above the IoU threshold, in matching order
    in_ignored: np.ndarray  # per detection: lies in a don't-care region
    scores: np.ndarray | None


def _geometries(polygons, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Valid shapely geometries of a list of polygons, and their bounding boxes of shape `(n, 4)`."""
    if len(polygons) == 0:
        return np.empty(0, dtype=object), np.empty((0, 4))
    checked = []
    for index, points in enumerate(polygons):
        try:
            checked.append(as_polygon(points))
        except ValueError as error:
            raise ValueError(f"{name}[{index}]: {error}") from None
    counts = np.array([len(polygon) for polygon in checked])
    rings = shapely.linearrings(np.concatenate(checked), indices=np.repeat(np.arange(len(checked)), counts))
    geometries = shapely.polygons(rings)
    for index in np.nonzero(~shapely.is_valid(geometries))[0]:
        geometries[index] = valid_geometry(checked[index])
    return geometries, shapely.bounds(rings)


def _box_intersections(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection areas `(len(a), len(b))` of upright boxes: upper bounds of those of the regions inside them."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)


def _ratio(numerator: float, denominator: float, otherwise: float) -> float:
    return numerator / denominator if denominator else otherwise


def _hmean(precision: float, recall: float) -> float:
    return _ratio(2.0 * precision * recall, precision + recall, 0.0)


class Icdar2015Evaluator:
    """
    Collects images one by one and scores them with the ICDAR-2015 IoU protocol.

    Args:
        iou_threshold (`float`, *optional*, defaults to 0.5): A match needs a larger intersection over union.
        ignore_threshold (`float`, *optional*, defaults to 0.5): A detection is left out when a larger share of its
            area lies in one don't-care region.

    Example:

    ```python
    evaluator = Icdar2015Evaluator()
    for record, result in zip(records, results):
        evaluator.add(record.polygons, result["polygons"], ignore=record.ignore, scores=result["scores"])
    print(evaluator.compute(score_threshold=0.6)["hmean"])
    ```
    """

    def __init__(self, iou_threshold: float = 0.5, ignore_threshold: float = 0.5):
        for name, value in (("iou_threshold", iou_threshold), ("ignore_threshold", ignore_threshold)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"`{name}` must be in [0, 1), got {value}")
        self.iou_threshold = iou_threshold
        self.ignore_threshold = ignore_threshold
        self._images: dict[Hashable, _Image] = {}

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        ground_truth: Sequence,
        detections: Sequence,
        *,
        ignore: Sequence[bool] | None = None,
        texts: Sequence[str] | None = None,
        scores: Sequence[float] | None = None,
        image_id: Hashable | None = None,
    ) -> None:
        """
        Adds one image. The order of both lists matters, as it does for the official script.

        Args:
            ground_truth (list of array-like of shape `(n, 2)`): Regions in pixels; any number of points.
            detections (list of array-like of shape `(n, 2)`): Detected regions in the same pixels.
            ignore (list of `bool`, *optional*): One flag per ground-truth region: true for "don't care".
            texts (list of `str`, *optional*): Transcriptions; "###" also marks a region as "don't care".
            scores (list of `float`, *optional*): One confidence per detection, needed for a score threshold.
            image_id (`Hashable`, *optional*, defaults to the number of images added so far): Key of the image in
                the result.

        Raises:
            ValueError: if lists differ in length, a polygon is malformed, a score is NaN or the image was added
                before.
        """
        image_id = len(self._images) if image_id is None else image_id
        if image_id in self._images:
            raise ValueError(f"image_id {image_id!r} was added before; every image counts once")
        for name, values, expected in (
            ("ignore", ignore, len(ground_truth)),
            ("texts", texts, len(ground_truth)),
            ("scores", scores, len(detections)),
        ):
            if values is not None and len(values) != expected:
                raise ValueError(f"image {image_id!r}: `{name}` has {len(values)} entries for {expected} polygons")
        dont_care = np.zeros(len(ground_truth), dtype=bool)
        if ignore is not None:
            dont_care |= np.asarray(ignore, dtype=bool)
        if texts is not None:
            dont_care |= np.array([text == IGNORE_TEXT for text in texts], dtype=bool)
        if scores is not None:
            scores = np.asarray(scores, dtype=np.float64)
            if np.isnan(scores).any():
                raise ValueError(f"image {image_id!r}: `scores` holds NaN")

        regions, region_boxes = _geometries(ground_truth, f"image {image_id!r}: ground_truth")
        found, found_boxes = _geometries(detections, f"image {image_id!r}: detections")
        region_areas, found_areas = shapely.area(regions), shapely.area(found)

        # Boxes tell which pairs can reach a threshold at all (with a margin for rounding); only those are intersected.
        bound = _box_intersections(region_boxes, found_boxes)
        sums = region_areas[:, None] + found_areas[None, :]
        needed = sums * (self.iou_threshold / (1.0 + self.iou_threshold))
        needed[dont_care] = self.ignore_threshold * found_areas
        rows, columns = np.nonzero((bound > 0) & (bound >= needed * (1.0 - 1e-9)))
        intersections = shapely.area(shapely.intersection(regions[rows], found[columns]))

        to_ignored = dont_care[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            # An empty denominator gives NaN or infinity times zero: no match, as in the official script.
            iou = intersections / (sums[rows, columns] - intersections)
            inside = intersections / found_areas[columns]
        in_ignored = np.zeros(len(found), dtype=bool)
        in_ignored[columns[to_ignored & (inside > self.ignore_threshold)]] = True
        hits = ~to_ignored & (iou > self.iou_threshold) & ~in_ignored[columns]
        self._images[image_id] = _Image(
            num_care=int(len(regions) - dont_care.sum()),
            overlaps=list(zip(rows[hits].tolist(), columns[hits].tolist())),
            in_ignored=in_ignored,
            scores=scores,
        )

    def compute(self, score_threshold: float | None = None) -> dict:
        """
        Scores everything added so far; may be called again with other thresholds at little cost.

        Args:
            score_threshold (`float`, *optional*): Detections with a lower score are dropped first. By default all
                count, whatever their score, as in the official script.

        Returns:
            `dict`: `precision`, `recall`, `hmean` (fractions), `num_ground_truth`, `num_detections`, `num_matches`
            (counts without the don't-cares), `score_threshold`, and `per_image`: for every `image_id` the same three
            ratios and three counts, `pairs` (matched `(ground truth, detection)` indices) and `ignored_detections`
            (indices of detections in don't-care regions). Without any region to find, recall is 0 for the data set
            but 1 for the single image, as in the official script.

        Raises:
            ValueError: if a threshold is given and an image was added without scores.
        """
        per_image = {}
        for image_id, image in self._images.items():
            kept = np.ones(len(image.in_ignored), dtype=bool)
            if score_threshold is not None:
                if image.scores is None and len(kept):
                    raise ValueError(f"image {image_id!r} has no `scores`, which `score_threshold` needs")
                if image.scores is not None:
                    kept = image.scores >= score_threshold
            pairs, used = [], set()
            matched = set()
            for region, detection in image.overlaps:
                if kept[detection] and region not in matched and detection not in used:
                    matched.add(region)
                    used.add(detection)
                    pairs.append((region, detection))
            num_detections = int((kept & ~image.in_ignored).sum())
            if image.num_care:
                precision, recall = _ratio(len(pairs), num_detections, 0.0), len(pairs) / image.num_care
            else:
                precision, recall = float(num_detections == 0), 1.0
            per_image[image_id] = {
                "precision": precision,
                "recall": recall,
                "hmean": _hmean(precision, recall),
                "num_ground_truth": image.num_care,
                "num_detections": num_detections,
                "num_matches": len(pairs),
                "pairs": pairs,
                "ignored_detections": np.nonzero(kept & image.in_ignored)[0].tolist(),
            }
        counts = ("num_ground_truth", "num_detections", "num_matches")
        totals = {name: sum(image[name] for image in per_image.values()) for name in counts}
        precision = _ratio(totals["num_matches"], totals["num_detections"], 0.0)
        recall = _ratio(totals["num_matches"], totals["num_ground_truth"], 0.0)
        return {
            "precision": precision,
            "recall": recall,
            "hmean": _hmean(precision, recall),
            **totals,
            "score_threshold": score_threshold,
            "per_image": per_image,
        }


def evaluate_icdar2015(
    ground_truths: Sequence[dict],
    predictions: Sequence[dict],
    *,
    score_threshold: float | None = None,
    iou_threshold: float = 0.5,
) -> dict:
    """
    Scores a whole data set with the ICDAR-2015 IoU protocol.

    Args:
        ground_truths (list of `dict`): One per image: `"polygons"` (list of array-like of shape `(n, 2)`, pixels) and
            optionally `"ignore"` (list of `bool`), `"texts"` (list of `str`, "###" = don't care) and `"image_id"`.
        predictions (list of `dict`): One per image in the same order: `"polygons"` and optionally `"scores"`.
        score_threshold (`float`, *optional*): Detections with a lower score are dropped first; `None` keeps all.
        iou_threshold (`float`, *optional*, defaults to 0.5): A match needs a larger intersection over union.

    Returns:
        `dict`: see [`Icdar2015Evaluator.compute`].

    Raises:
        ValueError: if the lists differ in length, or for what [`Icdar2015Evaluator.add`] refuses.
    """
    if len(ground_truths) != len(predictions):
        raise ValueError(
            "every image needs a prediction, an empty one if nothing was found: "
            f"got {len(ground_truths)} ground truths and {len(predictions)} predictions"
        )
    evaluator = Icdar2015Evaluator(iou_threshold=iou_threshold)
    for truth, prediction in zip(ground_truths, predictions):
        evaluator.add(
            truth["polygons"],
            prediction["polygons"],
            ignore=truth.get("ignore"),
            texts=truth.get("texts"),
            scores=prediction.get("scores"),
            image_id=truth.get("image_id"),
        )
    return evaluator.compute(score_threshold)
