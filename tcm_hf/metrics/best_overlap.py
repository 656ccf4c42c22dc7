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
"""Protocols that look for the best overlap of a detection or a region: Pascal VOC's way, with the scripts' own turns."""

import numpy as np

from .matching import MANY_TO_ONE, ONE_TO_MANY, ONE_TO_ONE, ImageScore, ImageView, Match, one_to_one, ratio


def match_pascal(view: ImageView) -> ImageScore:
    """
    Total-Text's Pascal protocol: each detection is given to the region it overlaps most, which counts if that is free.

    One square pixel is added to the union, and to the area of a detection when its share in ignored regions is taken.
    """
    iou, care, counted, ignored = _total_text_iou(view)
    pairs, used = [], set()
    for column in range(len(counted)):
        row = int(iou[:, column].argmax()) if len(care) else -1
        if row >= 0 and iou[row, column] >= 0.5 and row not in used:
            used.add(row)
            pairs.append(one_to_one(int(care[row]), int(counted[column])))
    return ImageScore(len(pairs), len(pairs), len(care), len(counted), pairs, ignored)


def match_old_pascal(view: ImageView) -> ImageScore:
    """
    Total-Text's earlier Pascal script, close to the one of ArT: each region takes the detection it overlaps most.

    A detection may serve several regions, and a duplicate counts twice as a false positive.
    """
    iou, care, counted, ignored = _total_text_iou(view)
    pairs, flagged, false_positives = [], set(), 0
    for row in range(len(care)):
        column = int(iou[row].argmax()) if len(counted) else -1
        if column >= 0 and iou[row, column] >= 0.5:
            flagged.add(column)
            false_positives += int(np.count_nonzero(iou[row] >= 0.5)) - 1
            pairs.append(one_to_one(int(care[row]), int(counted[column])))
    false_positives += len(counted) - len(flagged)
    hits = len(pairs)
    return ImageScore(hits, hits, len(care), hits + false_positives, pairs, ignored)


def _total_text_iou(view: ImageView):
    ignored = view.in_ignored(ratio(view.intersections, view.found_areas + 1.0), 0.5)
    care, counted = np.nonzero(~view.ignore)[0], np.nonzero(~ignored)[0]
    union = view.truth_areas[:, None] + view.found_areas - view.intersections
    iou = ratio(view.intersections, union + 1.0)[np.ix_(care, counted)]
    return iou, care, counted, np.nonzero(ignored)[0].tolist()


def match_ctw1500(view: ImageView) -> ImageScore:
    """
    CTW1500's own script: each detection is given to the region it overlaps most. No region is ignored.

    A detection with an invalid contour is skipped, an invalid region cannot be found but counts.
    """
    iou = view.iou()
    iou[~view.truth_valid] = 0.0
    columns = np.nonzero(view.found_valid)[0].tolist()
    pairs, used, ranking = [], set(), []
    for column in columns:
        row = int(iou[:, column].argmax()) if len(iou) else -1
        matched = row >= 0 and iou[row, column] > 0.5 and row not in used
        # All detections have the same confidence, so they are ranked in their order.
        ranking.append((0.0, matched))
        if matched:
            used.add(row)
            pairs.append(one_to_one(row, column))
    left_out = np.nonzero(~view.found_valid)[0].tolist()
    return ImageScore(len(pairs), len(pairs), len(iou), len(columns), pairs, found_left_out=left_out, ranking=ranking)


def match_psenet_ctw(view: ImageView) -> ImageScore:
    """PSENet's script for CTW1500: a detection uses up every free region with an overlap of at least 0.5."""
    hits = view.iou() >= 0.5
    free = np.ones(len(hits), dtype=bool)
    pairs: list[Match] = []
    for column in range(hits.shape[1]):
        covered = np.nonzero(hits[:, column] & free)[0].tolist()
        if covered:
            free[covered] = False
            pairs.append((ONE_TO_ONE if len(covered) == 1 else MANY_TO_ONE, tuple(covered), (column,)))
    # One detection is one true positive, whatever it covers.
    return ImageScore(len(pairs), len(pairs), len(hits), hits.shape[1], pairs)


def match_psenet_msra(view: ImageView) -> ImageScore:
    """PSENet's script for MSRA-TD500: a difficult region counts when it is found, and is free when it is missed."""
    hits = view.iou() >= 0.5
    found = hits.any(axis=1)
    pairs: list[Match] = []
    for row in np.nonzero(found)[0].tolist():
        columns = np.nonzero(hits[row])[0].tolist()
        pairs.append((ONE_TO_ONE if len(columns) == 1 else ONE_TO_MANY, (row,), tuple(columns)))
    missed = int(np.count_nonzero(~found & ~view.ignore))
    return ImageScore(
        len(pairs),
        len(pairs),
        len(pairs) + missed,
        hits.shape[1],
        pairs,
        truth_left_out=np.nonzero(~found & view.ignore)[0].tolist(),
    )


def voc_average_precision(ranking: list[tuple[float, bool]], num_ground_truth: int) -> float:
    """Area under the precision-recall curve after Pascal VOC 2010: precision made monotonous from the right."""
    if not ranking or not num_ground_truth:
        return 0.0
    hits = np.array([matched for _, matched in ranking])
    matches = np.cumsum(hits)
    precision = np.maximum.accumulate((matches / np.arange(1, len(hits) + 1))[::-1])[::-1]
    return float(precision[hits].sum() / num_ground_truth)
