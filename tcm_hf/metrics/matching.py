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
"""What a protocol sees of an image, what it says about it, and the matching by intersection over union."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np


T = TypeVar("T")

# Kinds of matches: how many regions and how many detections belong together.
ONE_TO_ONE, ONE_TO_MANY, MANY_TO_ONE = "one-to-one", "one-to-many", "many-to-one"
# A kind, and the indices of the regions and of the detections.
Match = tuple[str, tuple[int, ...], tuple[int, ...]]


@dataclass
class ImageView:
    """One image as a protocol sees it: G regions of the ground truth, D detections.

    Args:
        rows, columns, areas (`np.ndarray`): Intersection areas in square pixels of the pairs that overlap, in the order
            of the regions, then of the detections. `intersections` has them as an array of shape `(G, D)`.
        truth_areas, found_areas (`np.ndarray` of shape `(G,)`, `(D,)`): Areas.
        raw_found_areas (`np.ndarray` of shape `(D,)`): Areas of the detections before any repair of their contours.
        truth_valid, found_valid (`np.ndarray` of `bool`): Whether a contour is free of self-contact.
        ignore (`np.ndarray` of `bool`, shape `(G,)`): Regions that are not asked for ("don't care").
        scores (`np.ndarray` of shape `(D,)` or `None`): Confidences.
        truth, found (`list[np.ndarray]`): Corners; empty for a protocol that needs only areas.
        angles (`tuple` or `None`): Angles in radians of G regions and D detections, and the period in which to compare
            them, or `None`.
        lengths (`np.ndarray` of shape `(G,)` or `None`): Number of characters of each region.
    """

    rows: np.ndarray
    columns: np.ndarray
    areas: np.ndarray
    truth_areas: np.ndarray
    found_areas: np.ndarray
    raw_found_areas: np.ndarray
    truth_valid: np.ndarray
    found_valid: np.ndarray
    ignore: np.ndarray
    scores: np.ndarray | None = None
    truth: Sequence[np.ndarray] = ()
    found: Sequence[np.ndarray] = ()
    angles: tuple[np.ndarray, np.ndarray, float | None] | None = None
    lengths: np.ndarray | None = None

    @cached_property
    def intersections(self) -> np.ndarray:
        matrix = np.zeros((len(self.truth_areas), len(self.found_areas)))
        matrix[self.rows, self.columns] = self.areas
        return matrix

    def area_recall(self) -> np.ndarray:
        """Share of each region that each detection covers, shape `(G, D)`."""
        return ratio(self.intersections, self.truth_areas[:, None])

    def area_precision(self) -> np.ndarray:
        """Share of each detection that lies in each region, shape `(G, D)`."""
        return ratio(self.intersections, self.found_areas)

    def iou(self) -> np.ndarray:
        """Intersection over union, shape `(G, D)`."""
        return ratio(self.intersections, self.truth_areas[:, None] + self.found_areas - self.intersections)

    def in_ignored(self, share: np.ndarray, threshold: float) -> np.ndarray:
        """Detections of which a larger share than the threshold lies in one ignored region, shape `(D,)`."""
        return (share[self.ignore] > threshold).any(axis=0)


@dataclass
class ImageScore:
    """What an image adds to the sums of the data set.

    Args:
        recall_sum, precision_sum (`float`): Numerators of recall and precision.
        num_ground_truth, num_detections (`int`): Their denominators.
        pairs (`list`): Matches `(kind, regions, detections)`, both tuples of indices.
        ignored (`list[int]`): Detections left out because they lie in ignored regions.
        truth_left_out, found_left_out (`list[int]`): Regions and detections that do not count for other reasons.
        ranking (`list[tuple[float, bool]]`): Score and success of each detection, for the average precision.
        extra (`dict`): Further sums that the protocol reports.
    """

    recall_sum: float
    precision_sum: float
    num_ground_truth: int
    num_detections: int
    pairs: list[Match] = field(default_factory=list)
    ignored: list[int] = field(default_factory=list)
    truth_left_out: list[int] = field(default_factory=list)
    found_left_out: list[int] = field(default_factory=list)
    ranking: list[tuple[float, bool]] = field(default_factory=list)
    extra: dict = field(default_factory=dict)


def given(values: T | None, name: str) -> T:
    """Values of an [`ImageView`] that not every protocol needs; an error where a rule that does lacks them."""
    if values is None:
        raise ValueError(f"this rule needs `{name}` of every image")
    return values


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient; 0 where the denominator is not positive."""
    if not denominator.size or denominator.min() > 0:
        return numerator / denominator
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, 0.0)


# One tuple for each index: a data set has tens of thousands of matches, and Python's garbage collector counts them.
_single = lru_cache(maxsize=4096)(lambda index: (index,))


def one_to_one(row: int, column: int) -> Match:
    """The match of one region and one detection."""
    return ONE_TO_ONE, _single(row), _single(column)


def greedy_pairs(rows: np.ndarray, columns: np.ndarray) -> list[tuple[int, int]]:
    """One-to-one pairs out of candidates, in their order: the first hit is taken, not the best."""
    pairs, used_rows, used_columns = [], set(), set()
    for row, column in zip(rows.tolist(), columns.tolist()):
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            pairs.append((row, column))
    return pairs


def maximum_pairs(rows: np.ndarray, columns: np.ndarray) -> list[tuple[int, int]]:
    """A largest possible set of one-to-one pairs out of candidates, by augmenting paths."""
    choices: dict[int, list[int]] = {}
    for row, column in zip(rows.tolist(), columns.tolist()):
        choices.setdefault(row, []).append(column)
    owner: dict[int, int] = {}
    for start in choices:
        # Depth first from a free row: each column is tried once; `path` holds the columns taken on the way.
        seen: set[int] = set()
        path: list[int] = []
        stack = [(start, iter(choices[start]))]
        while stack:
            row, rest = stack[-1]
            column = next((c for c in rest if c not in seen), None)
            if column is None:
                stack.pop()
                if path:
                    path.pop()
                continue
            seen.add(column)
            path.append(column)
            if column in owner:
                stack.append((owner[column], iter(choices[owner[column]])))
                continue
            for (taker, _), taken in zip(stack, path):
                owner[taken] = taker
            break
    return sorted((row, column) for column, row in owner.items())


def match_iou(
    view: ImageView,
    *,
    threshold: float = 0.5,
    ignore_threshold: float = 0.5,
    by_score: bool = False,
    maximum: bool = False,
    raw_areas: bool = False,
    guard: float = 0.0,
    max_angle: float | None = None,
    ranked: bool = False,
) -> ImageScore:
    """
    One-to-one matching of pairs with an intersection over union above a threshold.

    A detection with more than a share of its area in one ignored region is set aside before the matching, even if it
    also matches a region that is asked for.

    Args:
        view (`ImageView`): The image.
        threshold, ignore_threshold (`float`, *optional*, default to 0.5): Have to be exceeded.
        by_score (`bool`, *optional*, defaults to `False`): Take the detections by falling score, not in their order.
        maximum (`bool`, *optional*, defaults to `False`): As many pairs as possible instead of first come first served.
        raw_areas (`bool`, *optional*, defaults to `False`): Take the share in ignored regions of the unrepaired area.
        guard (`float`, *optional*, defaults to 0): Added to the area of which that share is taken.
        max_angle (`float`, *optional*): Radians; the angles of a pair have to differ by less.
        ranked (`bool`, *optional*, defaults to `False`): Note score and success of every detection.
    """
    rows, columns, shared = view.rows, view.columns, view.areas
    hits = ratio(shared, view.truth_areas[rows] + view.found_areas[columns] - shared) > threshold
    if max_angle is not None:
        truth_angles, found_angles, period = given(view.angles, "angles")
        difference = np.abs(truth_angles[rows] - found_angles[columns])
        if period is not None:
            difference = np.minimum(difference % period, -difference % period)
        hits &= difference < max_angle
    areas = view.raw_found_areas if raw_areas else view.found_areas
    to_ignored = view.ignore[rows]
    inside = ratio(shared, areas[columns] + guard) > ignore_threshold
    ignored = np.zeros(len(view.found_areas), dtype=bool)
    ignored[columns[to_ignored & inside]] = True
    hits &= ~to_ignored & ~ignored[columns]
    rows, columns = rows[hits], columns[hits]
    if by_score:
        rank = np.empty(len(ignored), dtype=np.intp)
        rank[np.argsort(-given(view.scores, "scores"), kind="stable")] = np.arange(len(ignored))
        order = np.lexsort((rank[columns], rows))
        rows, columns = rows[order], columns[order]
    pairs = maximum_pairs(rows, columns) if maximum else greedy_pairs(rows, columns)
    score = ImageScore(
        recall_sum=len(pairs),
        precision_sum=len(pairs),
        num_ground_truth=len(view.ignore) - int(np.count_nonzero(view.ignore)),
        num_detections=len(ignored) - int(np.count_nonzero(ignored)),
        pairs=[one_to_one(row, column) for row, column in pairs],
        ignored=np.nonzero(ignored)[0].tolist(),
    )
    if ranked:
        matched = {column for _, column in pairs}
        indices = np.nonzero(~ignored)[0].tolist()
        confidences = given(view.scores, "scores")[indices].tolist()
        score.ranking = [(confidence, index in matched) for confidence, index in zip(confidences, indices)]
    return score


def average_precision(ranking: list[tuple[float, bool]], num_ground_truth: int) -> float:
    """Mean over the regions of the precision at the rank of their match; 0 for a region that has none."""
    matches, total = 0, 0.0
    for rank, (_, matched) in enumerate(sorted(ranking, key=lambda entry: -entry[0]), start=1):
        if matched:
            matches += 1
            total += matches / rank
    return total / num_ground_truth if num_ground_truth else 0.0
