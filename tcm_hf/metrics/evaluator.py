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
"""The front door of the metrics: add images one by one, ask for the figures of a protocol."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..model.polygons import minimum_area_quad
from .matching import ImageScore, ImageView
from .overlaps import EVEN_ODD, Overlaps, Regions, compute_overlaps, stack_regions
from .protocols import Protocol, get_protocol


IGNORE_TEXT = "###"
# Images wait until they hold so many regions: the geometry of many at once is far cheaper, and memory stays bounded.
BATCH_REGIONS = 8192


@dataclass
class _Image:
    """What is kept of an image."""

    overlaps: Overlaps = field(init=False)  # set when its batch is computed
    ignore: np.ndarray
    scores: np.ndarray | None
    angles: tuple[np.ndarray, np.ndarray, float | None] | None = None
    lengths: np.ndarray | None = None


class TextDetectionEvaluator:
    """
    Collects images one by one and scores them by a protocol.

    Args:
        protocol (`str`, *optional*, defaults to `"icdar2015"`): Name of a benchmark (`"icdar2015"`, `"icdar2013"`,
            `"totaltext"`, `"ctw1500"`, `"td500"`, `"mlt"`, `"art"`, `"mmocr"`) or a key of
            [`~tcm_hf.metrics.PROTOCOLS`].
        language (`str`, *optional*): Writing system to which the protocols of MLT are restricted, such as `"Latin"`:
            regions of other ones are ignored. Needs `languages` in the ground truth.

    Raises:
        ValueError: if there is no such protocol.

    Example:

    >>> from tcm_hf.metrics import TextDetectionEvaluator

    >>> word, other = [[0, 0], [40, 0], [40, 10], [0, 10]], [[60, 0], [90, 0], [90, 10], [60, 10]]
    >>> evaluator = TextDetectionEvaluator("totaltext")
    >>> evaluator.add([{"polygon": word, "score": 0.9}], {"polygons": [word, other]})  # once for each image
    >>> evaluator.compute()["recall"]
    0.5
    """

    def __init__(self, protocol: str | Protocol = "icdar2015", *, language: str | None = None):
        self.protocol = get_protocol(protocol)
        self.language = self.protocol.language if language is None else language
        self._images: dict[Hashable, _Image] = {}
        self._waiting: list[tuple[_Image, Regions, Regions]] = []
        self._waiting_regions = 0

    def __len__(self) -> int:
        return len(self._images)

    def add(self, detections, ground_truth, *, image_id: Hashable | None = None) -> None:
        """
        Adds one image. The order of both lists matters, as it does for the official scripts.

        Args:
            detections (list of `dict`, or `dict`): What the pipeline returns for an image, a list of dictionaries with
                `"polygon"` and `"score"`; or one dictionary with `"polygons"` (list of array-like of shape `(n, 2)`, in
                pixels, or flat) and optionally `"scores"`. An empty list if nothing was found.
            ground_truth (`TextRecord` or `dict`): `polygons` in the same pixels, and optionally `ignore` (list of
                `bool`: "don't care"), `texts` (list of `str`; "###" also means "don't care") and `languages` (list of
                `str`). For MSRA-TD500, both sides may hold `rotated_boxes` of the form `(x, y, width, height, angle)`:
                corner and size of the box turned upright about its center, angle in radians; otherwise they are
                found around the polygons, with the longer side as the direction of the line.
            image_id (`Hashable`, *optional*, defaults to the number of images added so far): Key of the image in the
                result.

        Raises:
            ValueError: if lists differ in length, a polygon is malformed, something that the protocol needs is
                missing, the two sides are the wrong way round (as far as their fields tell), or the image was added
                before.
        """
        image_id = len(self._images) if image_id is None else image_id
        if image_id in self._images:
            raise ValueError(f"image_id {image_id!r} was added before; every image counts once")
        where = f"image {image_id!r}"
        check_sides(detections, ground_truth, where)
        protocol = self.protocol
        found, found_scores, found_boxes = _detections(detections, where)
        truth = _ground_truth(ground_truth, where)
        truth_regions = stack_regions(truth["polygons"], f"{where}: ground_truth", protocol.dtype)
        found_regions = stack_regions(found, f"{where}: detections", protocol.dtype)
        scores = None if found_scores is None else np.asarray(found_scores, dtype=np.float64)
        if scores is not None:
            if np.isnan(scores).any():
                raise ValueError(f"{where}: `scores` holds NaN")
        elif protocol.needs_scores and not len(found):
            scores = np.empty(0)
        elif protocol.needs_scores:
            raise ValueError(f"{where}: protocol {protocol.name!r} needs `scores`, one for each detection")
        image = _Image(self._ignored(truth, where), scores)
        if protocol.needs_angles:
            truth_regions, truth_angles, truth_given = _upright(truth_regions, truth["rotated_boxes"], where)
            found_regions, found_angles, found_given = _upright(found_regions, found_boxes, where)
            # An angle that was measured on an outline is known up to half a turn; a given one is compared as it is.
            image.angles = (truth_angles, found_angles, None if truth_given and found_given else math.pi)
        elif protocol.regions == "pixel-box":
            truth_regions, found_regions = _pixel_boxes(truth_regions), _pixel_boxes(found_regions)
        if protocol.needs_texts:
            if truth["texts"] is None:
                raise ValueError(f"{where}: protocol {protocol.name!r} needs `texts`: it counts characters")
            image.lengths = np.array([len(text or "") for text in truth["texts"]], dtype=np.intp)
        self._waiting.append((image, truth_regions, found_regions))
        self._waiting_regions += len(truth_regions) + len(found_regions)
        self._images[image_id] = image
        if self._waiting_regions >= BATCH_REGIONS:
            self._compute_waiting()

    def _ignored(self, truth: dict, where: str) -> np.ndarray:
        ignore = np.zeros(len(truth["polygons"]), dtype=bool)
        if not self.protocol.uses_ignore:
            return ignore
        if truth["ignore"] is not None:
            ignore |= np.asarray(truth["ignore"], dtype=bool)
        if truth["texts"] is not None:
            ignore |= np.array([text == IGNORE_TEXT for text in truth["texts"]], dtype=bool)
        if self.language is not None:
            if truth["languages"] is None:
                raise ValueError(f"{where}: scoring {self.language!r} alone needs `languages` in the ground truth")
            ignore |= np.array([language != self.language for language in truth["languages"]], dtype=bool)
        return ignore

    def _compute_waiting(self) -> None:
        if not self._waiting:
            return
        protocol = self.protocol
        invalid = EVEN_ODD if protocol.invalid in ("drop", "refuse") else protocol.invalid
        results = compute_overlaps([(truth, found) for _, truth, found in self._waiting], invalid)
        for (image, _, _), overlaps in zip(self._waiting, results):
            image.overlaps = overlaps if protocol.needs_corners else overlaps.without_regions()
        self._waiting, self._waiting_regions = [], 0

    def compute(self, score_threshold: float | None = None) -> dict:
        """
        Scores everything added so far; may be called again, with other thresholds, at little cost.

        Args:
            score_threshold (`float`, *optional*): Detections with a lower score are dropped first. By default all
                count, whatever their score, as in the official scripts; protocols of mmocr try their thresholds and
                report the best.

        Returns:
            `dict`: `protocol`, `precision`, `recall`, `hmean` (fractions; NaN where the official script stops with a
            division by zero, then with an `error`), `num_ground_truth`, `num_detections`, `recall_sum`,
            `precision_sum` (what the two ratios are made of), `score_threshold`, `average_precision` where the
            protocol has one, and `per_image`: for every `image_id` the same ratios and sums, `pairs` (a list of
            `(kind, regions, detections)`, indices into what was added), `missed` (regions), `false_positives`,
            `ignored_detections` and `left_out` (detections and regions that do not count). A protocol of mmocr adds
            `best_threshold`, `sweep` (the figures of each threshold) and `no_score_filter` (those without any).

        Raises:
            ValueError: if a threshold is given and an image was added without scores, or the protocol refuses a
                polygon.
        """
        self._compute_waiting()
        sweep = self.protocol.sweep
        if score_threshold is not None or sweep is None:
            return self._score(score_threshold, None if score_threshold is None else _at_least)
        unfiltered = self._score(None, None)
        best: dict = {}
        table = []
        for threshold in sweep.thresholds:
            result = self._score(threshold, sweep.keep)
            table.append({key: value for key, value in result.items() if key not in ("protocol", "per_image")})
            if not best or result["hmean"] > best["hmean"]:
                best = result
        return {**best, "best_threshold": best["score_threshold"], "sweep": table, "no_score_filter": unfiltered}

    def _score(self, threshold: float | None, keep: Callable[[np.ndarray, float], np.ndarray] | None) -> dict:
        """Figures of the detections that `keep(scores, threshold)` lets through."""
        protocol = self.protocol
        per_image = {}
        scores: list[ImageScore] = []
        ranking: list[tuple[float, bool]] = []
        for image_id, image in self._images.items():
            kept = None
            if keep is not None and threshold is not None:
                if image.scores is None and len(image.overlaps.detection_areas):
                    raise ValueError(f"image {image_id!r} has no `scores`, which `score_threshold` needs")
                if image.scores is not None:
                    kept = np.nonzero(keep(image.scores, threshold))[0]
            score, report = self._score_image(image_id, image, kept)
            per_image[image_id] = report
            scores.append(score)
            ranking.extend(score.ranking)
        totals = _sums(scores)
        result = {"protocol": protocol.name, **_ratios(totals, protocol.empty_total), **totals}
        if protocol.average_precision is not None:
            result["average_precision"] = protocol.average_precision(ranking, totals["num_ground_truth"])
        return {**result, "score_threshold": threshold, "per_image": per_image}

    def _score_image(self, image_id: Hashable, image: _Image, kept: np.ndarray | None) -> tuple[ImageScore, dict]:
        protocol, overlaps = self.protocol, image.overlaps
        truth_kept: np.ndarray | None = None
        dropped_truth: list[int] = []
        dropped_found: list[int] = []
        if protocol.invalid in ("drop", "refuse"):
            invalid = [np.nonzero(~v)[0].tolist() for v in (overlaps.ground_truth_valid, overlaps.detection_valid)]
            if protocol.invalid == "refuse" and any(invalid):
                side, index = ("ground_truth", invalid[0][0]) if invalid[0] else ("detections", invalid[1][0])
                raise ValueError(
                    f"image {image_id!r}: {side}[{index}] crosses or touches itself, which protocol {protocol.name!r} "
                    "refuses; repair it, or use 'db_iou', which drops such polygons"
                )
            if any(invalid):
                dropped_truth, dropped_found = invalid
                truth_kept = np.nonzero(overlaps.ground_truth_valid)[0]
                valid = overlaps.detection_valid
                kept = np.nonzero(valid)[0] if kept is None else kept[valid[kept]]
        view = _view(image, truth_kept, kept)
        score = protocol.match(view)
        if truth_kept is not None or kept is not None:
            truth_map = list(range(len(image.ignore))) if truth_kept is None else truth_kept.tolist()
            found_map = list(range(len(overlaps.detection_areas))) if kept is None else kept.tolist()
            score = replace(
                score,
                pairs=[
                    (kind, tuple(truth_map[t] for t in ts), tuple(found_map[f] for f in fs))
                    for kind, ts, fs in score.pairs
                ],
                ignored=[found_map[f] for f in score.ignored],
                truth_left_out=[truth_map[t] for t in score.truth_left_out] + dropped_truth,
                found_left_out=[found_map[f] for f in score.found_left_out] + dropped_found,
            )
        else:
            found_map = list(range(len(overlaps.detection_areas)))
        return score, self._report(image, score, found_map)

    def _report(self, image: _Image, score: ImageScore, found: Sequence[int]) -> dict:
        totals = _sums([score])
        found_truth, used = set(score.truth_left_out), {*score.ignored, *score.found_left_out}
        for _, regions, detections in score.pairs:
            found_truth.update(regions)
            used.update(detections)
        ignore = image.ignore.tolist()
        size = len(ignore) - len(score.truth_left_out), len(found)
        return {
            **_ratios(totals, self.protocol.empty_image, size),
            **totals,
            "pairs": score.pairs,
            "missed": [i for i, ignored in enumerate(ignore) if not ignored and i not in found_truth],
            "false_positives": [i for i in found if i not in used],
            "ignored_detections": score.ignored,
            "left_out": {"ground_truth": score.truth_left_out, "detections": score.found_left_out},
        }


def paired(detections: Sequence, ground_truth: Sequence, image_ids: Sequence[Hashable] | None = None) -> Iterator:
    """`(image id, detections, ground truth)` of every image; the ids are 0, 1, ... by default."""
    if len(detections) != len(ground_truth):
        raise ValueError(
            "every image needs a list of detections, an empty one if nothing was found: "
            f"got {len(detections)} for {len(ground_truth)} images"
        )
    if image_ids is not None and len(image_ids) != len(ground_truth):
        raise ValueError(f"got {len(image_ids)} `image_ids` for {len(ground_truth)} images")
    return zip(range(len(ground_truth)) if image_ids is None else image_ids, detections, ground_truth)


def evaluate_detections(
    detections: Sequence,
    ground_truth: Sequence,
    protocol: str | Protocol = "icdar2015",
    *,
    image_ids: Sequence[Hashable] | None = None,
    score_threshold: float | None = None,
    language: str | None = None,
) -> dict:
    """
    Scores a whole data set.

    Args:
        detections (list): One entry for each image, of any form that [`TextDetectionEvaluator.add`] takes.
        ground_truth (list): One entry for each image in the same order, such as a `TextRecord`.
        protocol (`str`, *optional*, defaults to `"icdar2015"`): Name of a benchmark or a key of
            [`~tcm_hf.metrics.PROTOCOLS`].
        image_ids (list, *optional*, defaults to 0, 1, ...): Keys of the images in the report.
        score_threshold (`float`, *optional*): Detections with a lower score are dropped first.
        language (`str`, *optional*): Writing system to which the protocols of MLT are restricted.

    Returns:
        `dict`: see [`TextDetectionEvaluator.compute`].

    Raises:
        ValueError: if the lists differ in length, or for what [`TextDetectionEvaluator.add`] refuses.
    """
    evaluator = TextDetectionEvaluator(protocol, language=language)
    for image_id, found, truth in paired(detections, ground_truth, image_ids):
        evaluator.add(found, truth, image_id=image_id)
    return evaluator.compute(score_threshold)


def sweep_thresholds(
    detections: Sequence,
    ground_truth: Sequence,
    protocol: str | Protocol = "icdar2015",
    *,
    thresholds: Sequence[float] | None = None,
    language: str | None = None,
) -> dict:
    """
    Figures for each score threshold, to choose one on a validation split.

    The threshold that is best on the split that is reported makes the figures better than they are: choose it elsewhere.

    Args:
        detections (list): As for [`evaluate_detections`], with scores; found with a threshold below those tried here.
        ground_truth (list): As for [`evaluate_detections`].
        protocol (`str`, *optional*, defaults to `"icdar2015"`): As for [`evaluate_detections`].
        thresholds (list of `float`, *optional*, defaults to 0, 0.05, ... 0.95): Scores below which detections are
            dropped.
        language (`str`, *optional*): As for [`evaluate_detections`].

    Returns:
        `dict`: `best_threshold` (the lowest of those with the largest hmean), its `hmean`, `precision` and `recall`,
        and `sweep`, a list with `score_threshold`, the ratios and the counts of every threshold.
    """
    evaluator = TextDetectionEvaluator(protocol, language=language)
    for image_id, found, truth in paired(detections, ground_truth):
        evaluator.add(found, truth, image_id=image_id)
    return evaluator_sweep(evaluator, thresholds)


def evaluator_sweep(evaluator: TextDetectionEvaluator, thresholds: Sequence[float] | None = None) -> dict:
    """[`sweep_thresholds`] of what was added to an evaluator."""
    thresholds = [step / 20 for step in range(20)] if thresholds is None else sorted(thresholds)
    if not thresholds:
        raise ValueError("`thresholds` is empty; give at least one score")
    table = []
    for threshold in thresholds:
        result = evaluator.compute(threshold)
        table.append({key: value for key, value in result.items() if key not in ("protocol", "per_image")})
    # An undefined hmean is no candidate.
    best = max(table, key=lambda row: -1.0 if math.isnan(row["hmean"]) else row["hmean"])
    figures = {key: best[key] for key in ("hmean", "precision", "recall")}
    return {"protocol": evaluator.protocol.name, "best_threshold": best["score_threshold"], **figures, "sweep": table}


def _at_least(scores: np.ndarray, threshold: float) -> np.ndarray:
    return scores >= threshold


def _sums(scores: list[ImageScore]) -> dict:
    totals = {
        name: sum(getattr(score, name) for score in scores)
        for name in ("num_ground_truth", "num_detections", "recall_sum", "precision_sum")
    }
    for score in scores:
        for name, value in score.extra.items():
            totals[name] = totals.get(name, 0) + value
    return totals


def _ratios(totals: dict, empty: str, size: tuple[int, int] = (0, 0)) -> dict:
    """
    Precision, recall and hmean.

    `size` holds all regions and detections of an image, those that count or not; `"deteval"` alone asks for it.
    """
    regions, detections = totals["num_ground_truth"], totals["num_detections"]
    undefined = empty.startswith("undefined")
    if empty == "perfect" and not regions:
        recall, precision = 1.0, float(not detections)
    elif empty == "deteval" and not (regions and size[1]):
        # Regions of which all are ignored are no empty image here, and ignored detections are false alarms.
        recall = float(not size[0] or size[1] > 0)
        precision = float(not size[0] and not size[1])
    else:
        nothing = math.nan if undefined else 0.0
        # A sum of penalties may fall below zero; a ratio does not.
        recall = max(0.0, totals["recall_sum"] / regions) if regions else nothing
        precision = max(0.0, totals["precision_sum"] / detections) if detections else nothing
    if precision + recall:
        hmean = 2.0 * precision * recall / (precision + recall)
    else:
        hmean = math.nan if undefined and empty != "undefined-ratios" else 0.0
    if empty == "deteval" and not (size[0] and size[1]):
        hmean = 0.0
    if empty in ("undefined-all", "undefined-ratios") and math.isnan(hmean):
        recall = precision = math.nan
    ratios: dict[str, float | str] = {"precision": precision, "recall": recall, "hmean": hmean}
    if math.isnan(hmean):
        missing = "region to find" if not regions else "detection" if not detections else "match"
        ratios["error"] = f"without any {missing} the official script divides by zero"
    return ratios


def _view(image: _Image, truth: np.ndarray | None, found: np.ndarray | None) -> ImageView:
    """The image, restricted to some regions and detections."""
    overlaps = image.overlaps
    truth_polygons, found_polygons = overlaps.ground_truth.polygons(), overlaps.detections.polygons()
    view = ImageView(
        rows=overlaps.rows,
        columns=overlaps.columns,
        areas=overlaps.areas,
        truth_areas=overlaps.ground_truth_areas,
        found_areas=overlaps.detection_areas,
        raw_found_areas=overlaps.raw_detection_areas,
        truth_valid=overlaps.ground_truth_valid,
        found_valid=overlaps.detection_valid,
        ignore=image.ignore,
        scores=image.scores,
        truth=truth_polygons,
        found=found_polygons,
        angles=image.angles,
        lengths=image.lengths,
    )
    if truth is not None:
        _keep_pairs(view, "rows", truth, len(view.truth_areas))
        for name in ("truth_areas", "truth_valid", "ignore"):
            setattr(view, name, getattr(view, name)[truth])
        view.truth = [truth_polygons[i] for i in truth] if truth_polygons else []
        if view.lengths is not None:
            view.lengths = view.lengths[truth]
    if found is not None:
        _keep_pairs(view, "columns", found, len(view.found_areas))
        for name in ("found_areas", "raw_found_areas", "found_valid", "scores"):
            values = getattr(view, name)
            setattr(view, name, values if values is None else values[found])
        view.found = [found_polygons[i] for i in found] if found_polygons else []
    if view.angles is not None:
        truth_angles, found_angles, period = view.angles
        view.angles = (
            truth_angles if truth is None else truth_angles[truth],
            found_angles if found is None else found_angles[found],
            period,
        )
    return view


def _keep_pairs(view: ImageView, side: str, kept: np.ndarray, count: int) -> None:
    """Restricts the overlapping pairs to kept regions or detections, and numbers these anew."""
    number = np.full(count, -1)
    number[kept] = np.arange(len(kept))
    numbers = number[getattr(view, side)]
    stay = numbers >= 0
    for name in ("rows", "columns", "areas"):
        setattr(view, name, getattr(view, name)[stay])
    setattr(view, side, numbers[stay])


def check_sides(detections, ground_truth, where: str) -> None:
    """Raises a `ValueError` where the fields of both sides tell that they are the wrong way round."""

    def has(side, name: str) -> bool:
        return (side.get(name) if isinstance(side, Mapping) else getattr(side, name, None)) is not None

    truth_first = has(detections, "ignore") or has(detections, "languages")
    # A detector that also reads has texts, too.
    truth_first |= has(detections, "texts") and not (has(detections, "scores") or has(ground_truth, "texts"))
    found_second = has(ground_truth, "scores") or (
        isinstance(ground_truth, Sequence) and any(isinstance(item, Mapping) for item in ground_truth)
    )
    if truth_first or found_second:
        raise ValueError(
            f"{where}: the detections come first and the ground truth second, but "
            + ("the first looks like ground truth" if truth_first else "the second looks like detections")
        )


def _detections(detections, where: str) -> tuple[Sequence, Sequence | None, Sequence | None]:
    """Polygons, scores and rotated boxes of the two forms in which detections come."""
    if isinstance(detections, Mapping):
        if "polygons" not in detections:
            raise ValueError(f"{where}: detections have no `polygons`; they have {sorted(map(str, detections))}")
        polygons, scores = detections["polygons"], detections.get("scores")
        boxes = detections.get("rotated_boxes")
    else:
        try:
            polygons = [detection["polygon"] for detection in detections]
        except (TypeError, KeyError, IndexError):
            raise ValueError(
                f"{where}: detections have to be a list of dictionaries with `polygon` and `score`, or one dictionary "
                "with `polygons` and `scores`"
            ) from None
        scores = [detection.get("score") for detection in detections]
        boxes = None
        if any(score is None for score in scores):
            scores = None
    for name, values in (("scores", scores), ("rotated_boxes", boxes)):
        if values is not None and len(values) != len(polygons):
            raise ValueError(f"{where}: `{name}` has {len(values)} entries for {len(polygons)} detected polygons")
    return polygons, scores, boxes


def _ground_truth(truth, where: str) -> dict[str, Any]:
    names = ("polygons", "ignore", "texts", "languages", "rotated_boxes")
    if isinstance(truth, Mapping):
        fields: dict[str, Any] = {name: truth.get(name) for name in names}
    else:
        fields = {name: getattr(truth, name, None) for name in names}
    if fields["polygons"] is None:
        raise ValueError(f"{where}: the ground truth has no `polygons`; an empty list means an image without text")
    for name in names[1:]:
        if fields[name] is not None and len(fields[name]) != len(fields["polygons"]):
            raise ValueError(
                f"{where}: `{name}` has {len(fields[name])} entries for {len(fields['polygons'])} polygons"
            )
    return fields


def _pixel_boxes(regions: Regions) -> Regions:
    """Upright boxes that include their last pixel: one pixel wider and higher than their corners say."""
    return _box_regions(regions.boxes() + np.array([0.0, 0.0, 1.0, 1.0]))


def _box_regions(boxes: np.ndarray) -> Regions:
    corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
    return Regions(corners, np.full(len(boxes), 4))


def _upright(regions: Regions, boxes, where: str) -> tuple[Regions, np.ndarray, bool]:
    """Rotated boxes turned upright about their centers, their angles, and whether these were given."""
    given = boxes is not None or not len(regions)
    if not len(regions):
        boxes = np.empty((0, 5))
    elif given:
        boxes = np.asarray(boxes, dtype=np.float64)
        if boxes.shape != (len(regions), 5) or not np.isfinite(boxes).all():
            raise ValueError(
                f"{where}: `rotated_boxes` need 5 finite numbers each: x, y, width, height, angle in radians"
            )
    else:
        boxes = np.array([rotated_box(polygon) for polygon in regions.polygons()])
    upright = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:4]], axis=1)
    return _box_regions(upright), boxes[:, 4], given


def rotated_box(polygon: np.ndarray, as_listed: bool = False) -> tuple[float, float, float, float, float]:
    """
    The form in which MSRA-TD500 describes a line of text.

    Args:
        polygon (`np.ndarray` of shape `(n, 2)`): Outline in pixels.
        as_listed (`bool`, *optional*, defaults to `False`): For a rectangle: whether its first side is the width, as in
            a quadrilateral that was made of such a box. Otherwise the line runs along the longer side of the smallest
            rectangle around the outline.

    Returns:
        `tuple`: `(x, y, width, height, angle)`: corner and size of the rectangle turned upright about its center, in
        whole pixels, and its angle in radians.
    """
    quad = np.asarray(polygon, dtype=np.float64) if as_listed else minimum_area_quad(polygon)
    sides = quad[1] - quad[0], quad[2] - quad[1]
    lengths = [math.hypot(*side) for side in sides]
    along = 0 if as_listed else int(lengths[1] > lengths[0])
    width, height = lengths[along], lengths[1 - along]
    x, y = quad.mean(axis=0) - (width / 2, height / 2)
    # The files of the benchmark hold whole numbers.
    return round(x), round(y), round(width), round(height), math.atan2(sides[along][1], sides[along][0])
