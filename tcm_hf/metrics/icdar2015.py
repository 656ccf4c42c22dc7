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

[`TextDetectionEvaluator`] has this and the other protocols; the names here have thresholds to choose.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import partial

from .evaluator import TextDetectionEvaluator
from .matching import match_iou
from .protocols import PROTOCOLS


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
        rule = partial(match_iou, threshold=iou_threshold, ignore_threshold=ignore_threshold)
        self._evaluator = TextDetectionEvaluator(replace(PROTOCOLS["rrc_iou"], match=rule))

    def __len__(self) -> int:
        return len(self._evaluator)

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
        truth = {"polygons": ground_truth, "ignore": ignore, "texts": texts}
        self._evaluator.add({"polygons": detections, "scores": scores}, truth, image_id=image_id)

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
        result = self._evaluator.compute(score_threshold)
        per_image = {
            image_id: {
                **_figures(image),
                "pairs": [(regions[0], detections[0]) for _, regions, detections in image["pairs"]],
                "ignored_detections": image["ignored_detections"],
            }
            for image_id, image in result["per_image"].items()
        }
        return {**_figures(result), "score_threshold": score_threshold, "per_image": per_image}


def _figures(result: dict) -> dict:
    names = ("precision", "recall", "hmean", "num_ground_truth", "num_detections")
    return {**{name: result[name] for name in names}, "num_matches": result["recall_sum"]}


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
