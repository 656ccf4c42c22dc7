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

import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from .evaluator import TextDetectionEvaluator, paired
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

    >>> from tcm_hf.metrics import Icdar2015Evaluator

    >>> word = [[0, 0], [40, 0], [40, 10], [0, 10]]
    >>> evaluator = Icdar2015Evaluator()
    >>> evaluator.add([{"polygon": word, "score": 0.5}], {"polygons": [word]})  # once for each image
    >>> evaluator.compute()["hmean"]
    1.0
    >>> evaluator.compute(score_threshold=0.6)["hmean"]
    0.0
    """

    def __init__(self, iou_threshold: float = 0.5, ignore_threshold: float = 0.5):
        for name, value in (("iou_threshold", iou_threshold), ("ignore_threshold", ignore_threshold)):
            if not 0.0 <= value < 1.0:
                raise ValueError(f"`{name}` must be in [0, 1), got {value}")
        rule = partial(match_iou, threshold=iou_threshold, ignore_threshold=ignore_threshold)
        self._evaluator = TextDetectionEvaluator(replace(PROTOCOLS["rrc_iou"], match=rule))

    def __len__(self) -> int:
        return len(self._evaluator)

    def add(self, detections, ground_truth, *, image_id: Hashable | None = None) -> None:
        """Adds one image; see [`TextDetectionEvaluator.add`] for the forms of both sides and for errors."""
        self._evaluator.add(detections, ground_truth, image_id=image_id)

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
    detections: Sequence | None = None,
    ground_truth: Sequence | None = None,
    *,
    image_ids: Sequence[Hashable] | None = None,
    score_threshold: float | None = None,
    iou_threshold: float = 0.5,
    **former,
) -> dict:
    """
    Scores a whole data set with the ICDAR-2015 IoU protocol: [`evaluate_detections`] with a threshold to choose.

    Args:
        detections (list): One entry for each image, of any form that [`TextDetectionEvaluator.add`] takes.
        ground_truth (list): One entry for each image in the same order, such as a `TextRecord`. Dictionaries may hold an
            `"image_id"`.
        image_ids (list, *optional*, defaults to the `"image_id"` of each image, or 0, 1, ...): Keys of the images in the
            report.
        score_threshold (`float`, *optional*): Detections with a lower score are dropped first; `None` keeps all.
        iou_threshold (`float`, *optional*, defaults to 0.5): A match needs a larger intersection over union.
        former: `predictions` and `ground_truths`, the names that the two lists had, in the other order.

    Returns:
        `dict`: see [`Icdar2015Evaluator.compute`].

    Raises:
        ValueError: if the lists differ in length or are in the wrong order, or for what [`TextDetectionEvaluator.add`]
            refuses.
    """
    if former:
        detections = _renamed("predictions", "detections", former, detections)
        ground_truth = _renamed("ground_truths", "ground_truth", former, ground_truth)
    if former or detections is None or ground_truth is None:
        unknown = f"; unknown: {', '.join(former)}" if former else ""
        raise TypeError(f"evaluate_icdar2015 needs `detections` and `ground_truth`{unknown}")
    evaluator = Icdar2015Evaluator(iou_threshold=iou_threshold)
    for image_id, found, truth in paired(detections, ground_truth, image_ids):
        if image_ids is None and isinstance(truth, Mapping) and truth.get("image_id") is not None:
            image_id = truth["image_id"]
        evaluator.add(found, truth, image_id=image_id)
    return evaluator.compute(score_threshold)


def _renamed(old: str, new: str, given: dict, value):
    if old not in given:
        return value
    if value is not None:
        raise TypeError(f"evaluate_icdar2015 got both `{new}` and its former name `{old}`")
    warnings.warn(f"`{old}` of evaluate_icdar2015 is called `{new}` now", FutureWarning, stacklevel=3)
    return given.pop(old)
