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
TedEval and CLEval: how many characters a detection gets right, estimated from the word's outline and its length.

The characters of a word are taken to lie at equal distances on its center line, from the middle of its left side to that
of its right side ("pseudo character centers"). Both ask for corners in reading order.
"""

import math
from collections.abc import Sequence

import numpy as np
import shapely

from .matching import MANY_TO_ONE, ONE_TO_MANY, ImageScore, ImageView, Match, given, one_to_one, ratio
from .overlaps import even_odd_geometry


TEDEVAL_THRESHOLD = 0.4
# Regions of one line: the direction to the next center is within this many degrees of the reading direction.
TEDEVAL_MAX_ANGLE = 45.0
CLEVAL_THRESHOLD = 0.3
CLEVAL_MAX_LENGTH = 10


def match_tedeval(view: ImageView) -> ImageScore:
    """TedEval: the share of each word's characters inside its detections, and of each detection's in its words."""
    threshold = TEDEVAL_THRESHOLD
    care, ignore = np.nonzero(~view.ignore)[0].tolist(), np.nonzero(view.ignore)[0].tolist()
    cut = _Cut(view)
    cut.cut_truth(ignore, care)
    recall, precision = cut.shares()
    in_ignored = (precision[ignore] * (recall[ignore] > threshold)).sum(axis=0) >= threshold
    in_ignored |= (precision[ignore] > threshold).any(axis=0)
    counted = np.nonzero(~in_ignored)[0].tolist()
    cut.cut_found(counted, ignore)
    recall, precision = cut.shares()

    vertical = [_higher_than_wide(corners) for corners in view.truth]
    lines = [_center_line(corners, turned) for corners, turned in zip(view.truth, vertical)]
    lengths = given(view.lengths, "lengths").tolist()
    characters = [_characters(line, length) for line, length in zip(lines, lengths)]
    # Also of tall ones, in the official script, which only turns the regions of the ground truth.
    found_starts = [_center_line(corners, False)[0] for corners in view.found]
    centers = [_centroid(corners) for corners in view.truth]
    found_centers = [_centroid(corners) for corners in view.found]

    good = (recall >= threshold) & (precision >= threshold)
    pairs: list[Match] = []
    for column in counted:
        rows = [row for row in care if recall[row, column] >= threshold]
        if len(rows) > 1 and sum(precision[rows, column].tolist()) >= threshold:
            if _on_one_line([lines[row][0] for row in rows], [centers[row] for row in rows]):
                pairs.append((MANY_TO_ONE, tuple(rows), (column,)))
    only = good & (good.sum(axis=1, keepdims=True) == 1) & (good.sum(axis=0) == 1)
    for row in care:
        for column in counted:
            if only[row, column]:
                diagonals = _mean_diagonal(view.truth[row]) + _mean_diagonal(view.found[column])
                if 2 * math.dist(centers[row], found_centers[column]) < diagonals:
                    pairs.append(one_to_one(row, column))
    for row in care:
        columns = [column for column in counted if precision[row, column] >= threshold]
        if len(columns) > 1 and sum(recall[row, columns].tolist()) >= threshold:
            if _on_one_line([found_starts[c] for c in columns], [found_centers[c] for c in columns]):
                pairs.append((ONE_TO_MANY, (row,), tuple(columns)))

    # A pair may belong to several matches, but counts once.
    matched = sorted({(row, column) for _, rows, columns in pairs for row in rows for column in columns})
    inside = {(row, column): _inside(characters[row], view.found[column]) for row, column in matched}
    recall_sum = precision_sum = 0.0
    for row in care:
        hits = [inside[pair] for pair in matched if pair[0] == row]
        if hits and len(characters[row]):
            recall_sum += np.count_nonzero(np.sum(hits, axis=0) == 1) / len(characters[row])
    for column in counted:
        hits = [inside[pair] for pair in matched if pair[1] == column]
        total = sum(len(hit) for hit in hits)
        if total:
            precision_sum += sum(int(np.count_nonzero(hit)) for hit in hits) / total
    return ImageScore(
        recall_sum=recall_sum,
        precision_sum=precision_sum,
        num_ground_truth=len(care),
        num_detections=len(counted),
        pairs=pairs,
        ignored=np.nonzero(in_ignored)[0].tolist(),
    )


def match_cleval(view: ImageView) -> ImageScore:
    """
    CLEval, detection: characters that were found, less one for every cut through a word and every joint of words.

    Quadrilaterals follow the official script. Its mode for polygons is broken in several places; regions of other
    shapes are read here along the middle between their two long sides, and a false one costs one character.
    """
    care, ignore = np.nonzero(~view.ignore)[0].tolist(), np.nonzero(view.ignore)[0].tolist()
    aspects = [_aspect(corners, 1e-5) for corners in view.truth]
    lengths = given(view.lengths, "lengths").tolist()
    for row in ignore:
        lengths[row] = _cleval_length(max(aspects[row], 1 / (aspects[row] + 1e-5)))
    characters = [
        _characters(_center_line(corners, aspect < 0.5), length)
        for corners, aspect, length in zip(view.truth, aspects, lengths)
    ]
    cut = _Cut(view)
    cut.cut_truth(ignore, care)
    _, precision = cut.shares()
    inside = _all_inside(characters, view.found)
    counts = np.zeros(precision.shape, dtype=np.intp)
    for pair, hit in inside.items():
        counts[pair] = np.count_nonzero(hit)

    in_ignored = (precision[ignore] >= CLEVAL_THRESHOLD).any(axis=0)
    in_ignored |= (precision[ignore] * (counts[ignore] > 0)).sum(axis=0) >= CLEVAL_THRESHOLD
    counted = np.nonzero(~in_ignored)[0].tolist()
    good = (precision >= CLEVAL_THRESHOLD) & (counts > 0)
    only = good & (good.sum(axis=1, keepdims=True) == 1) & (good.sum(axis=0) == 1)
    pairs = [one_to_one(row, column) for row in care for column in counted if only[row, column]]
    for row in care:
        columns = [column for column in counted if good[row, column]]
        if len(columns) > 1:
            pairs.append((ONE_TO_MANY, (row,), tuple(columns)))
    for column in counted:
        rows = [row for row in care if counts[row, column] > 0]
        if len(rows) > 1 and sum(precision[rows, column].tolist()) >= CLEVAL_THRESHOLD:
            pairs.append((MANY_TO_ONE, tuple(rows), (column,)))

    matched = {(row, column) for _, rows, columns in pairs for row in rows for column in columns}
    correct = splits = merges = inclusions = wrong = 0
    for row in care:
        columns = [column for column in counted if (row, column) in matched]
        splits += max(len(columns) - 1, 0)
        if columns:
            correct += int(np.count_nonzero(np.any([inside[row, column] for column in columns], axis=0)))
    for column in counted:
        rows = [row for row in care if (row, column) in matched]
        merges += max(len(rows) - 1, 0)
        if rows:
            inclusions += int(counts[rows, column].sum())
        else:
            wrong += _cleval_length(1 / (1e-5 + _aspect(view.found[column], 0.0)))
    return ImageScore(
        recall_sum=correct - splits,
        precision_sum=correct - merges,
        num_ground_truth=sum(lengths[row] for row in care),
        num_detections=inclusions + wrong,
        pairs=pairs,
        ignored=np.nonzero(in_ignored)[0].tolist(),
        extra={
            "correct_characters": correct,
            "false_characters": wrong,
            "split_penalty": splits,
            "merge_penalty": merges,
        },
    )


class _Cut:
    """The overlaps of an image while parts are cut off its regions and detections."""

    def __init__(self, view: ImageView):
        self.view = view
        self.intersections = view.intersections.copy()
        self.truth_areas, self.found_areas = view.truth_areas.copy(), view.found_areas.copy()
        self._truth = [None] * len(view.truth)
        self._found = [None] * len(view.found)

    def truth(self, row: int):
        if self._truth[row] is None:
            self._truth[row] = even_odd_geometry(self.view.truth[row])
        return self._truth[row]

    def found(self, column: int):
        if self._found[column] is None:
            self._found[column] = even_odd_geometry(self.view.found[column])
        return self._found[column]

    def cut_truth(self, rows: list[int], care: list[int]) -> None:
        """Takes the regions that are asked for off the ignored ones."""
        for row in rows:
            whole = self.truth(row)
            others = [self.truth(other) for other in care if shapely.intersects(whole, self.truth(other))]
            rest = shapely.difference(whole, shapely.union_all(others)) if others else whole
            if others and rest.area != whole.area:
                self._truth[row], self.truth_areas[row] = rest, rest.area
                for column in np.nonzero(self.intersections[row])[0].tolist():
                    self.intersections[row, column] = shapely.intersection(rest, self.found(column)).area

    def cut_found(self, columns: list[int], ignore: list[int]) -> None:
        """Takes what lies in ignored regions off the detections."""
        for column in columns:
            others = [self.truth(row) for row in ignore if self.intersections[row, column] > 0]
            if others:
                rest = shapely.difference(self.found(column), shapely.union_all(others))
                self._found[column], self.found_areas[column] = rest, rest.area
                for row in np.nonzero(self.intersections[:, column])[0].tolist():
                    self.intersections[row, column] = shapely.intersection(self.truth(row), rest).area

    def shares(self) -> tuple[np.ndarray, np.ndarray]:
        """Area recall and area precision."""
        return (
            ratio(self.intersections, self.truth_areas[:, None]),
            ratio(self.intersections, self.found_areas),
        )


def _higher_than_wide(corners: np.ndarray) -> bool:
    width, height = corners.max(axis=0) - corners.min(axis=0)
    return bool(height > 1.5 * width)


def _aspect(corners: np.ndarray, guard: float) -> float:
    """Mean width by mean height of a quadrilateral; other regions count as very wide, as those without height."""
    if len(corners) != 4:
        return 1e5
    top, right, bottom, left = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T).tolist()
    height = (left + right) / 2 + guard
    return (top + bottom) / 2 / height if height else 1e5


def _cleval_length(aspect: float) -> int:
    return min(round(0.5 + aspect), CLEVAL_MAX_LENGTH)


def _center_line(corners: np.ndarray, vertical: bool) -> np.ndarray:
    """The line on which the characters lie, from the start of the reading to its end."""
    if len(corners) != 4:
        half = len(corners) // 2
        return (corners[:half] + corners[::-1][:half]) / 2
    first, second, third, fourth = corners
    if vertical:
        return np.stack([first + second, fourth + third]) / 2
    return np.stack([first + fourth, second + third]) / 2


def _characters(line: np.ndarray, count: int) -> np.ndarray:
    """Centers of `count` equal pieces of a line, shape `(count, 2)`."""
    places = (np.arange(count) + 0.5) / max(count, 1)
    if len(line) == 2:
        return line[0] + places[:, None] * (line[1] - line[0])
    travelled = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    return np.stack([np.interp(places * travelled[-1], travelled, line[:, axis]) for axis in (0, 1)], axis=1)


def _inside(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Which points lie inside a contour; of its border, the left and the upper side belong to it."""
    x, y = points[:, 0, None], points[:, 1, None]
    ends = np.roll(corners, 1, axis=0)
    low, high = corners[:, 1] > y, ends[:, 1] > y
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = (ends[:, 0] - corners[:, 0]) * (y - corners[:, 1]) / (ends[:, 1] - corners[:, 1])
    crossings = (low != high) & (x < slope + corners[:, 0])
    return np.count_nonzero(crossings, axis=1) % 2 == 1


def _all_inside(characters: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> dict[tuple[int, int], np.ndarray]:
    """[`_inside`] of the characters of every word and every detection, for pairs that can have a hit."""
    if not len(found):
        return {}
    low, high = np.array([c.min(axis=0) for c in found]), np.array([c.max(axis=0) for c in found])
    inside = {}
    for row, points in enumerate(characters):
        if len(points):
            near = ((low <= points.max(axis=0)) & (points.min(axis=0) <= high)).all(axis=1)
            inside.update({(row, column): _inside(points, found[column]) for column in np.nonzero(near)[0].tolist()})
    return inside


def _centroid(corners: np.ndarray) -> tuple[float, float]:
    center = shapely.centroid(shapely.Polygon(corners))
    return center.x, center.y


def _mean_diagonal(corners: np.ndarray) -> float:
    """Mean of the two diagonals of a quadrilateral; for other regions, the diagonal of the bounding box."""
    if len(corners) != 4:
        return math.dist(corners.min(axis=0), corners.max(axis=0))
    return (math.dist(corners[0], corners[2]) + math.dist(corners[1], corners[3])) / 2


def _on_one_line(starts: list, centers: list) -> bool:
    """Whether every region is seen from every other one's center in the direction in which it is read."""
    for i, (start, center) in enumerate(zip(starts, centers)):
        for k, apex in enumerate(centers):
            if i == k:
                continue
            turn = math.atan2(center[1] - apex[1], center[0] - apex[0])
            turn -= math.atan2(start[1] - apex[1], start[0] - apex[0])
            angle = abs(math.degrees(turn)) % 360
            angle = min(angle, 360 - angle)
            if min(angle, 180 - angle) >= TEDEVAL_MAX_ANGLE:
                return False
    return True
