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
DetEval: matching by area recall and area precision, in which a line may be found in pieces and words may be merged.

The variants differ in small things that change the result; each is told apart where it is registered (`protocols.py`).
Sums run in the order of the regions because a total may lie exactly on its threshold.
"""

import math

import numpy as np

from .matching import MANY_TO_ONE, ONE_TO_MANY, ONE_TO_ONE, ImageScore, ImageView, one_to_one, ratio


def match_deteval(
    view: ImageView,
    *,
    recall_threshold: float = 0.8,
    precision_threshold: float = 0.4,
    ignore_threshold: float = 0.4,
    count_overlaps: bool = False,
    round_sums: bool = False,
    lenient_single: bool = False,
    strict: bool = False,
    diagonal_of_box: bool = True,
    split_penalty: float | None = 0.8,
    raw_areas: bool = False,
) -> ImageScore:
    """
    DetEval as in the Robust Reading Competitions.

    Args:
        view (`ImageView`): The image, with corners.
        recall_threshold, precision_threshold (`float`): A pair is good when both shares reach these.
        ignore_threshold (`float`): A detection with a larger share in an ignored region is left out.
        count_overlaps (`bool`): One-to-one needs that both overlap nothing else, and the other matches two overlaps.
        round_sums (`bool`): Sums of shares are rounded to 4 digits before the comparison.
        lenient_single (`bool`): A one-to-many match that consists of one detection costs nothing.
        strict (`bool`): The shares of a good pair have to exceed the thresholds.
        diagonal_of_box (`bool`): Scale the distance of the centers by the diagonals of the bounding boxes, not by the
            distance of corner 1 from corner 3.
        split_penalty (`float` or `None`): Factor of one-to-many matches. `None` scores k pieces by `k / (1 + ln k)` on
            the side of the pieces, for splits and merges alike.
        raw_areas (`bool`): The share in ignored regions is one of the unrepaired area.
    """
    recall, precision = view.area_recall(), view.area_precision()
    share = ratio(view.intersections, view.raw_found_areas) if raw_areas else precision
    ignored = view.in_ignored(share, ignore_threshold)
    truth_free, found_free = ~view.ignore, ~ignored
    care, counted = np.nonzero(truth_free)[0].tolist(), np.nonzero(found_free)[0].tolist()
    if strict:
        good = (recall > recall_threshold) & (precision > precision_threshold)
    else:
        good = (recall >= recall_threshold) & (precision >= precision_threshold)
    candidates = good & (good.sum(axis=1, keepdims=True) == 1) & (good.sum(axis=0) == 1)
    candidates &= truth_free[:, None] & found_free
    overlaps_of_truth = (recall[:, found_free] > 0).sum(axis=1)
    overlaps_of_found = (recall[truth_free] > 0).sum(axis=0)
    if count_overlaps:
        candidates &= (overlaps_of_truth == 1)[:, None] & (overlaps_of_found == 1)
    recall_sum = precision_sum = 0.0
    pairs = []
    for row, column in zip(*(index.tolist() for index in np.nonzero(candidates))):
        # Being the only good pair of its row and its column, a candidate is never taken before.
        if _center_distance(view.truth[row], view.found[column], diagonal_of_box) < 1:
            truth_free[row] = found_free[column] = False
            recall_sum += 1
            precision_sum += 1
            pairs.append(one_to_one(row, column))

    for row in care:
        if not truth_free[row] or (count_overlaps and overlaps_of_truth[row] < 2):
            continue
        parts = np.nonzero(found_free & (precision[row] >= precision_threshold))[0].tolist()
        if not parts or _sum(recall[row, parts], round_sums) < recall_threshold:
            continue
        truth_free[row] = found_free[parts] = False
        pieces = len(parts)
        factor = 1.0 if split_penalty is None or (pieces == 1 and lenient_single) else split_penalty
        recall_sum += factor
        precision_sum += _fragmentation(pieces) if split_penalty is None else factor * pieces
        pairs.append((ONE_TO_MANY if pieces > 1 or factor < 1 else ONE_TO_ONE, (row,), tuple(parts)))

    for column in counted:
        if not found_free[column] or (count_overlaps and overlaps_of_found[column] < 2):
            continue
        parts = np.nonzero(truth_free & (recall[:, column] >= recall_threshold))[0].tolist()
        if not parts or _sum(precision[parts, column], round_sums) < precision_threshold:
            continue
        found_free[column] = truth_free[parts] = False
        recall_sum += _fragmentation(len(parts)) if split_penalty is None else len(parts)
        precision_sum += 1
        pairs.append((MANY_TO_ONE if len(parts) > 1 else ONE_TO_ONE, tuple(parts), (column,)))
    return ImageScore(
        recall_sum=recall_sum,
        precision_sum=precision_sum,
        num_ground_truth=len(care),
        num_detections=len(counted),
        pairs=pairs,
        ignored=np.nonzero(ignored)[0].tolist(),
    )


def _sum(shares: np.ndarray, rounded: bool) -> float:
    total = 0.0
    for share in shares.tolist():
        total += share
    return round(total, 4) if rounded else total


def _fragmentation(pieces: int) -> float:
    return pieces / (1 + math.log(pieces))


def _center_distance(region: np.ndarray, detection: np.ndarray, diagonal_of_box: bool) -> float:
    """Distance of the centers in half of the mean diagonal."""
    distance = math.dist(region.mean(axis=0), detection.mean(axis=0))
    if diagonal_of_box:
        diagonals = [math.dist(corners.min(axis=0), corners.max(axis=0)) for corners in (region, detection)]
    else:
        diagonals = [math.dist(corners[0], corners[2]) for corners in (region, detection)]
    return 2.0 * distance / sum(diagonals) if sum(diagonals) else math.inf


def match_total_text(
    view: ImageView,
    *,
    recall_threshold: float = 0.7,
    precision_threshold: float = 0.6,
    digits: int | None = 2,
    guard: float = 1.0,
    check_columns: bool = True,
) -> ImageScore:
    """
    DetEval as in the scripts of Total-Text: shares rounded to two digits, and merged words punished as split ones are.

    Args:
        view (`ImageView`): The image.
        recall_threshold, precision_threshold (`float`): A one-to-one match needs larger shares.
        digits (`int`, *optional*, defaults to 2): Digits to which the shares are rounded; `None` keeps them.
        guard (`float`, *optional*, defaults to 1): Square pixels added to the area of a detection when its share in
            ignored regions is taken; a share above 0.5 removes it.
        check_columns (`bool`, *optional*, defaults to `True`): One-to-one also needs to be the only one for the
            detection. Otherwise one detection may be credited to several regions.
    """
    ignored = view.in_ignored(ratio(view.intersections, view.found_areas + guard), 0.5)
    care, counted = np.nonzero(~view.ignore)[0], np.nonzero(~ignored)[0]
    recall = view.area_recall()[np.ix_(care, counted)]
    precision = view.area_precision()[np.ix_(care, counted)]
    if digits is not None:
        recall, precision = np.round(recall, digits), np.round(precision, digits)
    truth_free, found_free = np.ones(len(care), dtype=bool), np.ones(len(counted), dtype=bool)
    covers, inside = recall > recall_threshold, precision > precision_threshold
    recall_sum = precision_sum = 0.0
    pairs = []

    def match(kind, rows, columns, factor):
        nonlocal recall_sum, precision_sum
        truth_free[rows] = found_free[columns] = False
        recall_sum += factor * len(rows)
        precision_sum += factor * len(columns)
        pairs.append((kind, tuple(care[rows].tolist()), tuple(counted[columns].tolist())))

    for row in range(len(care)):
        covering, containing = np.nonzero(covers[row])[0], np.nonzero(inside[row])[0]
        # That both are the same detection, or that it is still free, is not asked.
        if len(covering) != 1 or len(containing) != 1:
            continue
        if check_columns and (covers[:, covering[0]].sum() != 1 or inside[:, containing[0]].sum() != 1):
            continue
        match(ONE_TO_ONE, [row], covering.tolist(), 1)

    for row in np.nonzero(truth_free)[0].tolist():
        if np.count_nonzero(recall[row] > 0) < 2:
            continue
        parts = np.nonzero(found_free & (precision[row] >= precision_threshold))[0].tolist()
        if len(parts) == 1:
            if recall[row, parts[0]] >= recall_threshold:
                match(ONE_TO_ONE, [row], parts, 1)
        elif np.sum(recall[row, parts]) >= recall_threshold:
            match(ONE_TO_MANY, [row], parts, 0.8)

    for column in np.nonzero(found_free)[0].tolist():
        if np.count_nonzero(precision[:, column] > 0) < 2:
            continue
        # The scripts compare the recall with the threshold of the precision here.
        parts = np.nonzero(truth_free & (recall[:, column] >= precision_threshold))[0].tolist()
        if len(parts) == 1:
            if precision[parts[0], column] >= precision_threshold and recall[parts[0], column] >= recall_threshold:
                match(ONE_TO_ONE, parts, [column], 1)
        elif np.sum(precision[parts, column]) >= precision_threshold:
            match(MANY_TO_ONE, parts, [column], 0.8)
    return ImageScore(
        recall_sum=recall_sum,
        precision_sum=precision_sum,
        num_ground_truth=len(care),
        num_detections=len(counted),
        pairs=pairs,
        ignored=np.nonzero(ignored)[0].tolist(),
    )
